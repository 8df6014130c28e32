/** `r3 eval --engine openai` on `r3 serve`: what a server gives is what the embedded engine gives on the same weights. */
import type { ChildProcess } from 'node:child_process';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { lengthOf } from '../../src/text/message.ts';
import { interruptWhen, makeWorkplace } from './r3.ts';

const workplace = makeWorkplace();
const { folder, r3, write } = workplace;
const KEY = 'sk-local-1';
const START = fileURLToPath(new URL('../../models/start', import.meta.url));
const PROBLEMS = write(
  'problems.jsonl',
  Array.from({ length: 20 }, (_, i) => ({ nums: [3 + i, 7, 1 + i], target: 11 + 2 * i })),
);
const LENGTHS = ['--max-attempt-tokens', '20', '--max-reflection-tokens', '40'];
const EVAL = ['eval', '--task', 'countdown', '--prompts', 'short', '--problems', PROBLEMS, ...LENGTHS];

let server: ChildProcess;
let url = '';
beforeAll(async () => {
  url = await new Promise<string>((resolve, reject) => {
    const ended = r3(['serve', START, '--port', '0', '--threads', '1'], {
      env: { R3_API_KEY: KEY },
      during: (child) => {
        server = child;
        child.stdout?.once('data', (data: Buffer) => resolve(data.toString().trim()));
      },
    });
    ended.then(({ stderr }) => reject(new Error(stderr)), reject);
  });
}, 120_000);
afterAll(() => {
  server.kill('SIGINT');
  workplace.remove();
});

/** Rows at temperature 0, with counts in place of ids. */
function greedyRows(directory: string): unknown[] {
  const lines = readFileSync(join(folder, directory, 'rows.jsonl'), 'utf8')
    .trim()
    .split('\n');
  const rows = lines.map((line): { temperature: number } =>
    JSON.parse(line, (_, value) => {
      if (value === null || typeof value !== 'object' || !('stopReason' in value)) return value;
      const { tokens: _ids, tokenCount: _count, ...text } = value;
      return { ...text, length: lengthOf(value) };
    }),
  );
  return rows.filter(({ temperature }) => temperature === 0);
}

test('greedy answers over HTTP are the answers of the engine, with the same counts of tokens', async () => {
  const local = await r3([...EVAL, '--model', START, '--threads', '1', '--out', 'local']);
  expect(local.code, local.stderr).toBe(0);
  const args = [...EVAL, '--engine', 'openai', '--url', url, '--model', 'start', '--seeds', '1,2'];
  const served = await r3([...args, '--out', 'served'], { env: { OPENAI_API_KEY: KEY } });
  expect(served.code, served.stderr).toBe(0);
  expect(greedyRows('served')).toHaveLength(40);
  expect(greedyRows('served')).toEqual(greedyRows('local'));
});

test('an evaluation over HTTP that is stopped goes on to the same bytes', async () => {
  const args = [...EVAL, '--engine', 'openai', '--url', url, '--model', 'start', '--seeds', '1,2'];
  const rows = join(folder, 'cut/rows.jsonl');
  const stopped = await r3([...args, '--concurrency', '1', '--out', 'cut'], {
    env: { CI: '1', OPENAI_API_KEY: KEY },
    during: (child) => interruptWhen(child, () => existsSync(rows) && statSync(rows).size > 0),
  });
  expect(stopped.code, stopped.stderr).toBe(130);
  expect(stopped.stderr).toContain('go on with: r3 eval --resume cut');
  const resumed = await r3(['eval', '--resume', 'cut'], { env: { OPENAI_API_KEY: KEY } });
  expect(resumed.code, resumed.stderr).toBe(0);
  const bytes = (name: string): string => readFileSync(join(folder, name, 'rows.jsonl'), 'utf8');
  expect(bytes('cut')).toBe(bytes('served'));
});

test('a wrong key is refused before anything is made', async () => {
  const args = [...EVAL, '--engine', 'openai', '--url', url, '--model', 'start', '--out', 'none'];
  const { code, stderr } = await r3(args, { env: { OPENAI_API_KEY: 'sk-wrong' } });
  expect({ code, made: existsSync(join(folder, 'none')) }).toEqual({ code: 1, made: false });
  expect(stderr).toContain('the key that was sent is refused');
  expect(stderr).not.toContain('sk-wrong');
});
