/** Command verifiers on real processes: node with a line of code. */
import { mkdtempSync, readFileSync, rmSync, existsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { checkCommandRow, makeCommandVerifier, type CommandOptions } from './command.ts';
import { isAlive } from '../../../test/processes.ts';

const directory = mkdtempSync(join(tmpdir(), 'r3-command-'));
afterAll(() => rmSync(directory, { recursive: true }));

const node = (code: string, options: Partial<CommandOptions> = {}): ReturnType<typeof makeCommandVerifier> =>
  makeCommandVerifier({
    command: [process.execPath, '-e', code],
    timeoutMs: 30_000,
    maxOutputBytes: 10_000,
    concurrency: 2,
    cwd: directory,
    env: process.env,
    ...options,
  });

const READ = "const answer = require('node:fs').readFileSync(0, 'utf8');";

test('the answer is on standard input, the row in R3_PROBLEM, the verdict is the exit code', async () => {
  const verify = node(
    `${READ} if (answer === JSON.parse(process.env.R3_PROBLEM).gold) process.exit(0); console.log('wrong number\\n' + answer); process.exit(1)`,
  );
  expect(await verify({ gold: '4 "ä"\n' }, '4 "ä"\n')).toEqual({ ok: true });
  expect(await verify({ gold: '4' }, '5\nor 6')).toEqual({
    ok: false,
    class: 'wrong number',
    why: '5\nor 6',
  });
});

test('a failing command that says nothing has a class and a reason', async () => {
  expect(await node('process.exit(1)')({}, 'a')).toEqual({
    ok: false,
    class: 'wrong answer',
    why: 'the command gives no reason',
  });
});

test('a failing command that says its verdict may warn on standard error', async () => {
  const code = "console.error('a warning'); console.log('wrong number'); process.exit(1)";
  expect(await node(code)({}, 'a')).toEqual({
    ok: false,
    class: 'wrong number',
    why: 'the command gives no reason',
  });
});

test('a command need not read its input, whatever its size', async () => {
  expect(await node('process.exit(0)')({}, 'x'.repeat(1 << 20))).toEqual({ ok: true });
});

test('an answer is never part of a command line', async () => {
  const file = join(directory, 'made');
  await node(READ)({}, `; touch ${file} $(touch ${file}) \`touch ${file}\``);
  expect(existsSync(file)).toBe(false);
});

describe('not judged, with the reason:', () => {
  test('another exit code, with the last line of standard error', async () => {
    await expect(node("console.error('first\\nno module'); process.exit(2)")({}, 'a')).rejects.toThrow(
      /expected exit code 0 \(passes\) or 1 \(fails\), got exit code 2: no module$/,
    );
  });

  test.each([
    ['an uncaught exception', "throw new Error('no gold in the row')", /Error: no gold in the row$/],
    [
      'standard error alone',
      "console.error('Traceback\\nKeyError: \u001b[31mgold\\n'); process.exit(1)",
      /: KeyError: ␛\[31mgold$/,
    ],
  ])('exit code 1 with nothing but standard error: %s', async (_, code, message) => {
    const verdict = node(code)({}, 'a');
    await expect(verdict).rejects.toThrow(
      'expected exit code 0 (passes) or 1 (fails), got exit code 1 with an error and no verdict: ',
    );
    await expect(verdict).rejects.toThrow(message);
  });

  test('a signal', async () => {
    await expect(node("process.kill(process.pid, 'SIGTERM')")({}, 'a')).rejects.toThrow(
      'got the signal SIGTERM',
    );
  });

  test('a program that does not exist', async () => {
    await expect(node('', { command: ['no-such-program-r3'] })({}, 'a')).rejects.toThrow(
      /no-such-program-r3: expected to be started, got .*ENOENT/,
    );
    await expect(node('', { command: ['\0'] })({}, 'a')).rejects.toThrow('expected to be started');
  });

  test('a flood of output', async () => {
    await expect(node("for (;;) require('node:fs').writeSync(1, 'x'.repeat(1000))")({}, 'a')).rejects.toThrow(
      'expected at most 10000 bytes of output, got more',
    );
  });
});

test('a command that hangs is killed with everything that it started', async () => {
  const file = join(directory, 'child.pid');
  // The child is started, its id is written, then both hang.
  const code = `const child = require('node:child_process').spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)']);
    require('node:fs').writeFileSync(${JSON.stringify(file)}, String(child.pid)); setInterval(() => {}, 1000)`;
  await expect(node(code, { timeoutMs: 3000 })({}, 'a')).rejects.toThrow(
    'expected an end within 3000 ms, got none',
  );
  const pid = Number(readFileSync(file, 'utf8'));
  await expect.poll(() => isAlive(pid), { timeout: 10_000 }).toBe(false);
});

test('a process that a command leaves behind does not hold up its verdict', async () => {
  const file = join(directory, 'left.pid');
  const code = `const child = require('node:child_process').spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)'], { stdio: 'inherit' });
    require('node:fs').writeFileSync(${JSON.stringify(file)}, String(child.pid)); process.exit(0)`;
  expect(await node(code)({}, 'a')).toEqual({ ok: true });
  const pid = Number(readFileSync(file, 'utf8'));
  await expect.poll(() => isAlive(pid), { timeout: 10_000 }).toBe(false);
});

test('a row that does not fit into an environment variable is refused', () => {
  expect(() => checkCommandRow({ text: 'x'.repeat(100_000) })).not.toThrow();
  expect(() => checkCommandRow({ text: 'x'.repeat(130_000) })).toThrow('row: expected at most 120000 bytes');
});
