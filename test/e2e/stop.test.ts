/** Commands that are stopped, and commands whose result nobody takes: exit codes, messages, and what is left. */
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, expect, onTestFinished, test } from 'vitest';
import { interruptWhen, makeWorkplace, type Outcome } from './r3.ts';
import { isAlive } from '../processes.ts';

const workplace = makeWorkplace();
const { r3, folder, write } = workplace;
afterAll(() => workplace.remove());

const START = fileURLToPath(new URL('../../models/start', import.meta.url));
const MAIN = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));

/** Runs r3, and presses Ctrl-C as soon as `when` is so; gets what stderr holds. */
function stopped(args: readonly string[], when: (stderr: string) => boolean): Promise<Outcome> {
  return r3(args, {
    env: { CI: '1' },
    during: (child) => {
      let stderr = '';
      child.stderr?.on('data', (data: Buffer) => (stderr += data.toString()));
      interruptWhen(child, () => when(stderr));
    },
  });
}

test('quickstart stops within a phase, says where the run is, and leaves it unlocked', async () => {
  const config = join(folder, 'run/config.json');
  const { code, stdout, stderr } = await stopped(['quickstart', '--run', 'run'], () => existsSync(config));
  expect({ code, stdout }, stderr).toEqual({ code: 130, stdout: '' });
  expect(stderr).toMatch(/r3: stopped; what was done is in run\n$/);
  expect(readdirSync(join(folder, 'run'))).not.toContain('lock');
  expect(stderr).not.toContain('MaxListeners');
});

test.each(['SIGINT', 'SIGTERM'] as const)('%s ends a check whose verifier never returns', async (signal) => {
  const task = write('loops.mjs', [
    `import { defineTask } from 'reflect-retry-reward';
    export default defineTask({
      name: 'loops',
      load: (row) => row,
      prompt: () => 'Add 1 and 2.',
      verify: () => { process.stderr.write('judging'); for (;;); },
      known: () => [],
    });`,
  ]);
  const answers = write('looped.jsonl', [{ completion: '3' }]);
  const { code, stderr } = await r3(['check', task, '--answers', answers], {
    during: (child) => {
      onTestFinished(() => void child.kill('SIGKILL'));
      child.stderr?.once('data', () => child.kill(signal));
    },
  });
  expect({ code, stderr }).toEqual({ code: null, stderr: 'judging' });
});

test('an interrupted check leaves no command of its verifier behind', async () => {
  const pidFile = join(folder, 'command.pid');
  const hangs = `require('node:fs').writeFileSync('command.pid', String(process.pid)); setInterval(() => {}, 1000)`;
  const task = write('hangs.json', [
    { name: 'hangs', verifier: { command: [process.execPath, '-e', hangs] }, good: ['3'], bad: [''] },
  ]);
  const answers = write('hung.jsonl', [{ prompt: 'Add 1 and 2.', completion: '3' }]);
  const isWritten = (): boolean => existsSync(pidFile) && readFileSync(pidFile, 'utf8') !== '';
  const { code } = await r3(['check', task, '--answers', answers], {
    during: (child) => interruptWhen(child, isWritten),
  });
  expect(code).toBe(null);
  const pid = Number(readFileSync(pidFile, 'utf8'));
  await expect.poll(() => isAlive(pid), { timeout: 10_000 }).toBe(false);
});

test('sft stops after a step and saves the model so far', async () => {
  const messages = [
    { role: 'user', content: '1 2 to 3' },
    { role: 'assistant', content: '1 + 2' },
  ];
  const data = write('rows.jsonl', [{ messages }]);
  const args = ['sft', '--model', START, '--data', data, '--steps', '1000000', '--out', 'tuned'];
  const { code, stderr } = await stopped(args, (text) => text.includes('nll'));
  expect(code, stderr).toBe(130);
  expect(stderr).toMatch(/stopped at step [1-9]\d* of 1000000; the model so far is in tuned\n$/);
  expect(existsSync(join(folder, 'tuned/model.safetensors'))).toBe(true);
});

test.runIf(existsSync('/dev/full'))('a full standard output is one line on stderr, and exit code 1', () => {
  const answers = write(
    'answers.jsonl',
    Array.from({ length: 50 }, () => ({ nums: [1, 2], target: 3, completion: '' })),
  );
  for (const args of [['--help'], ['check', 'countdown', '--answers', answers, '--json']]) {
    const command = `"$0" "$@" > /dev/full`;
    const { status, stderr } = spawnSync('sh', ['-c', command, process.execPath, MAIN, ...args], {
      cwd: folder,
      encoding: 'utf8',
    });
    expect(status).toBe(1);
    expect(stderr).toMatch(/^r3: standard output: expected room to write, got ENOSPC; .*\n/);
    expect(stderr.match(/ENOSPC| at /g)).toHaveLength(1);
  }
});

test('a reader of standard output that goes away ends the command quietly', async () => {
  const answers = write(
    'many.jsonl',
    Array.from({ length: 5000 }, () => ({ nums: [1, 2], target: 3, completion: '' })),
  );
  const { code, stderr } = await r3(['check', 'countdown', '--answers', answers, '--json'], {
    during: (child) => child.stdout?.destroy(),
  });
  expect({ code, stderr }).toEqual({ code: 1, stderr: '' });
});

test('a reader of progress that goes away ends nothing', async () => {
  const messages = [
    { role: 'user', content: '1 2 to 3' },
    { role: 'assistant', content: '1 + 2' },
  ];
  const data = write('row.jsonl', [{ messages }]);
  const args = ['sft', '--model', START, '--data', data, '--steps', '3', '--out', 'unwatched', '--json'];
  const { code, stdout } = await r3(args, { during: (child) => child.stderr?.destroy() });
  expect(code).toBe(0);
  expect(stdout).toContain('"steps":3');
  expect(readFileSync(join(folder, 'unwatched/config.json'), 'utf8')).toContain('llama');
});
