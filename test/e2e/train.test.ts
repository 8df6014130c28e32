/** A run from start to end, stopped, killed and resumed, on a small model that is made here. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { makeRng } from '../../src/lib/rng.ts';
import { makeModel, makeWorkplace, TRAIN } from './r3.ts';

const STEPS = ['--steps', '24', '--checkpoint-every', '3'];
/** What the same seed and configuration determine to the byte. */
const OUTPUTS = ['metrics.jsonl', 'episodes.jsonl', 'failures.jsonl', 'model/model.safetensors'];

const workplace = makeWorkplace();
const { r3, folder } = workplace;
const outputs = (run: string): Buffer[] => OUTPUTS.map((name) => readFileSync(join(folder, run, name)));

beforeAll(async () => {
  await makeModel(workplace);
  const whole = await r3([...TRAIN, ...STEPS, '--run', 'whole']);
  if (whole.code !== 0) throw new Error(whole.stderr);
});
afterAll(() => workplace.remove());

test('a run leaves a model, a report and a line for each step', () => {
  const [metrics] = outputs('whole');
  expect(metrics?.toString().trimEnd().split('\n')).toHaveLength(24);
  expect(readFileSync(join(folder, 'whole/report.html'), 'utf8')).toContain('Reflect, Retry, Reward');
  expect(existsSync(join(folder, 'whole/model/tokenizer.json'))).toBe(true);
});

test('failures that were mined before make the same run', async () => {
  const mining = ['--samples', '4', '--max-per-problem', '2', '--prompts', 'short'];
  const limits = ['--max-attempt-tokens', '8', '--max-reflection-tokens', '12'];
  const mined = await r3([
    ...[
      'mine',
      '--task',
      'countdown',
      '--model',
      'model',
      '--problems',
      'problems.jsonl',
      '--out',
      'f.jsonl',
    ],
    ...mining,
    ...limits,
  ]);
  expect(mined.code, mined.stderr).toBe(0);
  const args = TRAIN.filter((_, i) => !['--problems', 'problems.jsonl'].includes(TRAIN[i] ?? ''));
  const run = await r3([...args, ...STEPS, '--failures', 'f.jsonl', '--run', 'from-file']);
  expect(run.code, run.stderr).toBe(0);
  expect(outputs('from-file')).toEqual(outputs('whole'));
});

describe('resumed to its end, a run has the same bytes as one that was never stopped:', () => {
  test('after Ctrl-C, which says how to go on', async () => {
    const stopped = await r3([...TRAIN, ...STEPS, '--run', 'stopped'], {
      env: { CI: '1' },
      during: (child) => {
        const metrics = join(folder, 'stopped/metrics.jsonl');
        const timer = setInterval(() => {
          if (!existsSync(metrics) || readFileSync(metrics).length === 0) return;
          clearInterval(timer);
          child.kill('SIGINT');
        }, 5);
        child.on('exit', () => clearInterval(timer));
      },
    });
    expect(stopped.code, stopped.stderr).toBe(130);
    expect(stopped.stderr).toMatch(/stopped after step \d+ of 24, .*r3 train --resume stopped\n/);
    const resumed = await r3(['train', '--resume', 'stopped']);
    expect(resumed.code, resumed.stderr).toBe(0);
    expect(outputs('stopped')).toEqual(outputs('whole'));
  });

  test('after kills at random moments', async () => {
    const rng = makeRng(4);
    let begun = false;
    for (let kill = 0; kill < 6; kill++) {
      const afterMs = 300 + rng.below(900);
      await r3(begun ? ['train', '--resume', 'killed'] : [...TRAIN, ...STEPS, '--run', 'killed'], {
        during: (child) => {
          const timer = setTimeout(() => child.kill('SIGKILL'), afterMs);
          child.on('exit', () => clearTimeout(timer));
        },
      });
      begun = existsSync(join(folder, 'killed/config.json'));
    }
    expect(begun).toBe(true);
    const resumed = await r3(['train', '--resume', 'killed']);
    expect(resumed.code, resumed.stderr).toBe(0);
    expect(outputs('killed')).toEqual(outputs('whole'));
  });
});

test('a model that is not the one the run began with cannot resume it', async () => {
  const other = await r3([
    'sft',
    '--model',
    'model',
    '--data',
    'conversations.jsonl',
    '--steps',
    '1',
    '--out',
    'next',
  ]);
  expect(other.code, other.stderr).toBe(0);
  const run = await r3(
    [...TRAIN, '--failures', 'whole/failures.jsonl']
      .filter((a) => a !== '--problems' && a !== 'problems.jsonl')
      .map((a) => (a === 'model' ? 'next' : a)),
  );
  expect(run.code).toBe(1);
  expect(run.stderr).toContain('expected failures of the start model');
});

test('a run, its numbers and its episodes can be read', async () => {
  const shown = await r3(['show', 'whole', '--json']);
  expect(JSON.parse(shown.stdout)).toMatchObject({ directory: 'whole', steps: 24, metrics: { step: 23 } });
  const text = await r3(['show', 'whole', '--step', '3', '--count', '1']);
  expect(text.stdout).toMatch(/step 3, .*\n {2}problem\n {4}\d+ \d+ to \d+\n {2}attempt\n/);
  expect(await r3(['report', 'whole'])).toEqual({ code: 0, stdout: 'whole/report.html\n', stderr: '' });
});

test('before and after are measured on the same problems', async () => {
  const { code, stdout, stderr } = await r3([
    ...['eval', '--task', 'countdown', '--model', 'whole/model', '--against', 'model', '--json'],
    ...['--problems', 'problems.jsonl', '--prompts', 'short', '--max-attempt-tokens', '8'],
    ...['--max-reflection-tokens', '12'],
  ]);
  expect(code, stderr).toBe(0);
  expect(JSON.parse(stdout)).toMatchObject({
    n: 15,
    before: { firstTry: { n: 15 } },
    change: { secondTry: { n: 15 } },
  });
});

test('a dry run says what is needed and makes nothing', async () => {
  const { code, stdout } = await r3([...TRAIN, '--run', 'dry', '--dry-run']);
  expect(code).toBe(0);
  expect(stdout).toMatch(/episodes per step +16 /);
  expect(existsSync(join(folder, 'dry'))).toBe(false);
});
