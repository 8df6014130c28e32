/** What a run owes to whoever goes on with it: the audit, the same kernels, room on the disk, and a word for scripts. */
import { cpSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { generateProblems } from '../../src/tasks/countdown-generator.ts';
import { makeWorkplace, type Outcome } from './r3.ts';

const MODEL = fileURLToPath(new URL('../../models/start', import.meta.url));
const { r3, folder, write, remove } = makeWorkplace();
const TASK = ['--task', 'countdown', '--prompts', 'short', '--model', MODEL, '--problems', 'problems.jsonl'];
const LIMITS = ['--max-attempt-tokens', '20', '--max-reflection-tokens', '48'];
const STEPS = ['--steps', '2', '--failures-per-step', '2', '--num-generations', '4'];
const ONE = ['--threads', '1'];
const WASM = { R3_KERNELS: 'wasm' };
const train = (run: string, env: Record<string, string> = {}, ...more: string[]): Promise<Outcome> =>
  r3(['train', ...TASK, ...LIMITS, ...STEPS, ...ONE, '--run', run, ...more], { env: { ...WASM, ...env } });
const resume = (run: string, env: Record<string, string> = {}, ...more: string[]): Promise<Outcome> =>
  r3(['train', '--resume', run, ...ONE, ...more], { env: { ...WASM, ...env } });
const path = (...names: string[]): string => join(folder, ...names);
const copyOfWhole = (run: string): void => cpSync(path('whole'), path(run), { recursive: true });
const weights = (run: string): Buffer => readFileSync(path(run, 'model', 'model.safetensors'));

interface Config {
  kernels: string;
  kernelChanges: unknown[];
  sampling: { maxReflectionTokens: number };
}
const configOf = (run: string): Config =>
  JSON.parse(readFileSync(path(run, 'config.json'), 'utf8')) as Config;

let whole: Outcome;
beforeAll(async () => {
  write('problems.jsonl', generateProblems({ count: 24, split: 'rl', numbers: 3, seed: 5 }));
  whole = await train('whole', {}, '--json');
  if (whole.code !== 0) throw new Error(whole.stderr);
});
afterAll(() => remove());

test('--json ends in one line for scripts, and progress stays on stderr', () => {
  expect(whole.stdout.split('\n')).toHaveLength(2);
  const last = readFileSync(path('whole', 'metrics.jsonl'), 'utf8').trimEnd().split('\n').at(-1) ?? '';
  expect(JSON.parse(whole.stdout)).toEqual({
    run: 'whole',
    stopped: false,
    steps: 2,
    of: 2,
    metrics: JSON.parse(last) as unknown,
    model: join('whole', 'model'),
    report: join('whole', 'report.html'),
  });
  expect(whole.stderr).toMatch(/train {2}2\/2/);
});

test('a run without a checkpoint is audited when it is resumed, and no weight moves where the audit fails', async () => {
  copyOfWhole('unaudited');
  rmSync(path('unaudited', 'checkpoints'), { recursive: true });
  rmSync(path('unaudited', 'model'), { recursive: true });
  const config = configOf('unaudited');
  // No reflection of one token ever ends.
  const broken = { ...config, sampling: { ...config.sampling, maxReflectionTokens: 1 } };
  writeFileSync(path('unaudited', 'config.json'), JSON.stringify(broken));
  const refused = await resume('unaudited');
  expect(refused.code).toBe(1);
  expect(refused.stderr).toContain('the audit before training failed, no weight was changed');
  expect(readdirSync(path('unaudited', 'checkpoints'))).toEqual([]);

  writeFileSync(path('unaudited', 'config.json'), JSON.stringify(config));
  const resumed = await resume('unaudited');
  expect(resumed.code, resumed.stderr).toBe(0);
  expect(readFileSync(path('unaudited', 'log.txt'), 'utf8').match(/audit: ok +verifier/g)).toHaveLength(2);
  expect(weights('unaudited').equals(weights('whole'))).toBe(true);
});

test.each([
  ['failures mined anew', ['--refresh-every', '1']],
  [
    'on-policy failures, everything trained',
    ['--first-attempts', 'on-policy', '--samples', '3', '--train-tokens', 'all'],
  ],
  ['GRPO on attempts', ['--method', 'attempts']],
  [
    'failures of a run that mined anew',
    ['--problems', '', '--failures', 'failures-mined-anew/failures.jsonl'],
  ],
])('%s: a run that lost its last checkpoint ends with the same weights and logs', async (name, choices) => {
  const run = name.replaceAll(/[ ,]+/g, '-');
  const given = choices.includes('--failures')
    ? choices.slice(2)
    : ['--problems', 'problems.jsonl', ...choices];
  const task = TASK.slice(0, TASK.indexOf('--problems'));
  const limits = choices.includes('attempts') ? LIMITS.slice(0, 2) : LIMITS;
  const options = [...task, ...limits, ...STEPS, ...ONE, ...given, '--checkpoint-every', '1'];
  const first = await r3(['train', ...options, '--run', run], { env: WASM });
  expect(first.code, first.stderr).toBe(0);
  const logs = (): string[] =>
    ['metrics', 'episodes', 'failures'].map((log) => readFileSync(path(run, `${log}.jsonl`), 'utf8'));
  const before = { logs: logs(), weights: weights(run) };
  rmSync(path(run, 'checkpoints', '000002'), { recursive: true });
  rmSync(path(run, 'model'), { recursive: true });
  const resumed = await resume(run);
  expect(resumed.code, resumed.stderr).toBe(0);
  expect(logs().join('') === before.logs.join('')).toBe(true);
  expect(weights(run).equals(before.weights)).toBe(true);
});

test('other kernels are refused by name, or accepted and noted in the run', async () => {
  copyOfWhole('moved');
  const config = configOf('moved');
  expect(config).toMatchObject({ kernelChanges: [] });
  const native = 'native kernels (some-cpu), 3 threads, f32';
  writeFileSync(path('moved', 'config.json'), JSON.stringify({ ...config, kernels: native }));
  const refused = await resume('moved');
  expect(refused.code).toBe(1);
  expect(refused.stderr).toBe(
    `r3: moved: expected the kernels that the run was trained with (${native}), got ${config.kernels}, whose results are not the same bytes. Set R3_KERNELS=native, or go on with these and --accept-kernels, which config.json will say.\n`,
  );
  const accepted = await resume('moved', {}, '--accept-kernels');
  expect(accepted.code, accepted.stderr).toBe(0);
  expect(configOf('moved').kernelChanges).toEqual([{ step: 2, kernels: config.kernels }]);
  expect((await resume('moved')).code).toBe(0);
});

test('a disk that fills up is named, with the file and the way on, and the run can be resumed', async () => {
  // Weights do not fit on this disk: every larger write fails, in all threads.
  write('full-disk.cjs', [
    `const fs = require('node:fs');
     const { writeSync } = fs;
     fs.writeSync = (file, bytes, ...rest) => {
       if (bytes.length > 100000) throw Object.assign(new Error('full'), { code: 'ENOSPC' });
       return writeSync(file, bytes, ...rest);
     };
     require('node:module').syncBuiltinESMExports();`,
  ]);
  const filled = await train('full', { NODE_OPTIONS: '--require ./full-disk.cjs' });
  expect(filled.code).toBe(1);
  const message = filled.stderr.trimEnd().split('\n').at(-1);
  expect(message).toMatch(
    /^r3: .*full.checkpoints.000000.\S+: expected room to write, got ENOSPC; free space .* r3 train --resume full$/,
  );
  expect(message).not.toContain('partial');
  expect(readdirSync(path('full', 'checkpoints'))).toEqual([]);
  const resumed = await resume('full');
  expect(resumed.code, resumed.stderr).toBe(0);
  expect(weights('full').equals(weights('whole'))).toBe(true);
});
