/** `r3 chat` as a process whose stdin is no terminal: each line is a user's turn. */
import { cpSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, expect, test } from 'vitest';
import { makeWorkplace, type Outcome } from './r3.ts';

const workplace = makeWorkplace();
afterAll(() => workplace.remove());
const START = fileURLToPath(new URL('../../models/start', import.meta.url));

function say(lines: readonly string[], args: readonly string[] = [], model = START): Promise<Outcome> {
  return workplace.r3(['chat', model, '--temperature', '0', ...args], {
    during: (child) => child.stdin?.end(lines.map((line) => `${line}\n`).join('')),
  });
}

const FIRST = '92 57 64 to 29';

test('each line is answered with the turns before it in mind, until /reset', async () => {
  const { code, stdout, stderr } = await say([FIRST, '', 'again', '/reset', 'again', '/exit', 'never']);
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  const [first, second, anew, ...rest] = stdout.split('\n');
  expect(first).toBe('92 - ( 64 - 57 )');
  expect(rest).toEqual(['']);
  expect((await say(['again'])).stdout).toBe(`${anew}\n`);
  expect(second).not.toBe(anew);
});

test('a system message begins the conversation, and again after /reset', async () => {
  const { stdout } = await say([FIRST, '/reset', FIRST], ['--system', '1 2 3']);
  const [first, second] = stdout.split('\n');
  expect(second).toBe(first);
});

test('an answer that is cut says why, and a full context ends with what to do', async () => {
  const cut = await say([FIRST], ['--max-tokens', '3']);
  expect(cut).toEqual({
    code: 0,
    stdout: '92 - (\n',
    stderr: 'r3: the answer was cut at 3 tokens; --max-tokens allows more\n',
  });
  const { code, stderr } = await say(Array(60).fill(FIRST));
  expect(code).toBe(1);
  expect(stderr).toMatch(
    /expected fewer than 256 tokens \(the model's context\), got \d+; a line \/reset begins anew\n$/,
  );
});

test('a template that rewrites earlier turns has the conversation encoded anew, and says so', async () => {
  const model = join(workplace.folder, 'forgetful');
  cpSync(START, model, { recursive: true });
  const shown = `{% if message.role == 'user' %}<user> {{ message.content }} {% endif %}`;
  const template = `<bos> {% for message in messages %}${shown}{% endfor %}<assistant> `;
  writeFileSync(join(model, 'chat_template.jinja'), template);
  const { code, stdout, stderr } = await say([FIRST, FIRST], [], model);
  expect(code, stderr).toBe(0);
  expect(stdout.split('\n')).toHaveLength(3);
  expect(stderr).toMatch(/^r3: the conversation is encoded anew: chat template: expected .*\n$/);
});

test('Ctrl-C ends it', async () => {
  const { code } = await workplace.r3(['chat', START, '--temperature', '0'], {
    during: (child) => {
      child.stdout?.once('data', () => child.kill('SIGINT'));
      child.stdin?.write(`${FIRST}\n`);
    },
  });
  expect(code).toBe(130);
});
