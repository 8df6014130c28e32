/** A run from start to end, stopped, killed and resumed, on a small model that is made here. */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { makeRng } from '../../src/lib/rng.ts';
import { findMetricName } from '../../src/runs/metric-names.ts';
import { hasStepped, interruptWhen, makeModel, makeWorkplace } from './r3.ts';

const ATTEMPTS = ['--task', 'countdown', '--prompts', 'short', '--max-attempt-tokens', '8'];
const TASK = [...ATTEMPTS, '--max-reflection-tokens', '12'];
const PROBLEMS = ['--problems', 'problems.jsonl'];
const MINING = ['--model', 'model', ...PROBLEMS, '--samples', '4', '--max-per-problem', '2'];
const GROUPS = ['--failures-per-step', '4', '--num-generations', '4', '--learning-rate', '1e-3'];
const TRAIN = ['train', ...TASK, ...MINING, ...GROUPS];
const trainFrom = (failures: string): string[] => [
  'train',
  ...TASK,
  '--model',
  'model',
  ...GROUPS,
  '--failures',
  failures,
];
const STEPS = ['--steps', '40', '--checkpoint-every', '8'];
/** What the same seed and configuration determine to the byte. */
const OUTPUTS = ['metrics.jsonl', 'episodes.jsonl', 'failures.jsonl', 'model/model.safetensors'];

const workplace = makeWorkplace();
const { r3, folder } = workplace;
const outputs = (run: string): Buffer[] => OUTPUTS.map((name) => readFileSync(join(folder, run, name)));

/** How long the undisturbed run takes: kills fall into that time. */
let wholeMs: number;
const began = (): boolean => existsSync(join(folder, 'killed/config.json'));
beforeAll(async () => {
  await makeModel(workplace);
  const started = performance.now();
  const whole = await r3([...TRAIN, ...STEPS, '--run', 'whole']);
  if (whole.code !== 0) throw new Error(whole.stderr);
  wholeMs = performance.now() - started;
});
afterAll(() => workplace.remove());

test('a run leaves a model, a report and a line for each step', () => {
  const [metrics] = outputs('whole');
  expect(metrics?.toString().trimEnd().split('\n')).toHaveLength(40);
  expect(readFileSync(join(folder, 'whole/report.html'), 'utf8')).toContain('Reflect, Retry, Reward');
  expect(existsSync(join(folder, 'whole/model/tokenizer.json'))).toBe(true);
});

test('every number that a run writes is in the document of the run folder', () => {
  const [metrics] = outputs('whole');
  const lines = metrics?.toString().trimEnd().split('\n') ?? [];
  const names = new Set(lines.flatMap((line) => Object.keys(JSON.parse(line) as object)));
  expect(names.size).toBeGreaterThan(15);
  expect([...names].filter((name) => findMetricName(name) === undefined)).toEqual([]);
});

test('failures that were mined before make the same run', async () => {
  const mined = await r3(['mine', ...ATTEMPTS, ...MINING, '--out', 'f.jsonl']);
  expect(mined.code, mined.stderr).toBe(0);
  const run = await r3([...trainFrom('f.jsonl'), ...STEPS, '--tensorboard', '--run', 'from-file']);
  expect(run.code, run.stderr).toBe(0);
  expect(readdirSync(join(folder, 'from-file/tensorboard'))).toEqual([expect.stringMatching(/tfevents/)]);
  expect(outputs('from-file')).toEqual(outputs('whole'));
});

describe('resumed to its end, a run has the same bytes as one that was never stopped:', () => {
  test('after Ctrl-C, which says how to go on', async () => {
    const stopped = await r3([...TRAIN, ...STEPS, '--run', 'stopped'], {
      env: { CI: '1' },
      during: (child) => interruptWhen(child, () => hasStepped(join(folder, 'stopped'))),
    });
    expect(stopped.code, stopped.stderr).toBe(130);
    expect(stopped.stderr).toMatch(/stopped after step \d+ of 40, .*r3 train --resume stopped\n/);
    const resumed = await r3(['train', '--resume', 'stopped']);
    expect(resumed.code, resumed.stderr).toBe(0);
    expect(outputs('stopped')).toEqual(outputs('whole'));
  });

  test('after kills at random moments', async () => {
    const rng = makeRng(4);
    for (let kill = 0; kill < 6; kill++) {
      // The first kill waits for the run folder: before it there is nothing to resume.
      const waits = !began();
      // Later in a run there is more to lose than at its start.
      const afterMs = wholeMs * (0.3 + 0.7 * rng.next());
      await r3(waits ? [...TRAIN, ...STEPS, '--run', 'killed'] : ['train', '--resume', 'killed'], {
        during: (child) => {
          const started = performance.now();
          const timer = setInterval(() => {
            if (waits ? began() : performance.now() - started >= afterMs) child.kill('SIGKILL');
          }, 1);
          child.on('exit', () => clearInterval(timer));
        },
      });
    }
    const resumed = await r3(['train', '--resume', 'killed']);
    expect(resumed.code, resumed.stderr).toBe(0);
    expect(outputs('killed')).toEqual(outputs('whole'));
  });
});

test('a report that cannot be written leaves the trained model', async () => {
  const model = join(folder, 'from-file/model');
  const report = join(folder, 'from-file/report.html');
  for (const path of [model, report]) rmSync(path, { recursive: true });
  mkdirSync(report);
  const { code, stderr } = await r3(['train', '--resume', 'from-file']);
  expect(code).toBe(1);
  expect(stderr).toContain('report.html');
  expect(outputs('from-file')).toEqual(outputs('whole'));
});

test('failures of another model are refused', async () => {
  const sft = ['sft', '--model', 'model', '--data', 'conversations.jsonl', '--steps', '1', '--out', 'next'];
  expect((await r3([...sft, '--schedule', 'constant'])).code).toBe(0);
  const { code, stderr } = await r3([...trainFrom('whole/failures.jsonl'), '--model', 'next']);
  expect(code).toBe(1);
  expect(stderr).toContain('expected failures of the start model');
});

test('failures that were sampled in another way are refused', async () => {
  const warm = await r3([...trainFrom('whole/failures.jsonl'), '--temperature', '0.5']);
  expect(warm.code).toBe(1);
  expect(warm.stderr).toContain('expected a failure mined with the temperature 0.5, got one mined with 1;');
});

test('a run, its numbers and its episodes can be read', async () => {
  const shown = await r3(['show', 'whole', '--json']);
  expect(JSON.parse(shown.stdout)).toMatchObject({ directory: 'whole', steps: 40, metrics: { step: 39 } });
  const text = await r3(['show', 'whole', '--step', '3', '--count', '1']);
  expect(text.stdout).toMatch(/step 3, .*\n {2}problem\n {4}\d+ \d+ to \d+\n {2}attempt\n/);
  expect(await r3(['report', 'whole'])).toEqual({ code: 0, stdout: 'whole/report.html\n', stderr: '' });
});

test('before and after are measured on the same problems', async () => {
  const models = ['--run', 'whole', '--against', 'model'];
  const { code, stdout, stderr } = await r3(['eval', '--json', ...TASK, ...models, ...PROBLEMS]);
  expect(code, stderr).toBe(0);
  expect(JSON.parse(stdout)).toMatchObject({
    directory: 'whole/evaluations/001',
    n: 15,
    trained: expect.any(Number),
    warnings: [
      expect.stringMatching(
        /^The run was trained on [1-9]\d* of these 15 problems: they are not held out\.$/,
      ),
    ],
    model: { sampled: [{ firstTry: { n: 15 } }] },
    start: { greedy: { firstTry: { n: 15 } } },
    change: { sampled: [{ secondTry: { diff: expect.any(Number) } }], kl: [expect.any(Number)] },
  });
});

test("another model that is measured as the run's was leaves nothing in the run", async () => {
  const other = ['--run', 'whole', '--model', 'model', '--limit', '2', '--controls', 'none'];
  const { code, stdout, stderr } = await r3(['eval', '--json', ...TASK, ...other, ...PROBLEMS]);
  expect(code, stderr).toBe(0);
  expect(JSON.parse(stdout)).toMatchObject({ directory: 'evaluations/countdown-001', n: 2 });
  expect(stderr).toContain('model is not the model of whole, so its evaluation is kept outside the run');
});

test('a dry run says what is needed and makes nothing', async () => {
  const { code, stdout } = await r3([...TRAIN, '--run', 'dry', '--dry-run']);
  expect(code).toBe(0);
  expect(stdout).toMatch(/episodes per step +16 /);
  expect(existsSync(join(folder, 'dry'))).toBe(false);
});
