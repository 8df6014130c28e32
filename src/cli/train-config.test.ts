import { readFileSync } from 'node:fs';
import { Command } from 'commander';
import { expect, test } from 'vitest';
import { START_MODEL, quickstartTrainOptions } from '../quickstart.ts';
import { defaultTrainOptions, STALE_CORRECTION } from '../train-options.ts';
import type { Io } from './io.ts';
import { applyPreset, applyStaleness, findPreset, sourcesOf } from './preset-options.ts';
import { playerOptions } from './session.ts';
import {
  dataOf,
  kernelsOf,
  parseTrainConfig,
  sameKernels,
  trainOptionsOf,
  withKernels,
  type TrainConfig,
  type TrainFlags,
} from './train-config.ts';
import { define } from './train.ts';

const unusedIo: Io = {
  write: () => undefined,
  note: () => undefined,
  status: { write: () => undefined },
  env: {},
  stopSignal: () => new AbortController().signal,
  openInput: () => {
    throw new Error('no input here');
  },
  exitCode: 0,
};

/** The command as it was given, and its flags. */
function parsed(text: string): { command: Command; flags: TrainFlags } {
  const command = new Command().exitOverride();
  define(command, unusedIo);
  command.action(() => undefined);
  command.parse(text.trim().split(/\s+/), { from: 'user' });
  return { command, flags: command.opts<TrainFlags>() };
}

const { flags } = parsed(`
  --samples 2 --keep-failures majority --train-tokens both --refresh-every 20 --rounds 2
  --zero-variance refill --steps 10 --num-iterations 2 --failures-per-step 4
  --num-generations 16 --learning-rate 1e-5 --schedule linear --warmup-steps 2 --flat-steps 3 --floor 0.2
  --adam-beta1 0.8 --adam-beta2 0.98 --adam-epsilon 1e-7 --weight-decay 0.01 --max-grad-norm 2
  --beta 0 --loss-type dapo --epsilon 0.2 --scale-rewards none --checkpoint-every 5 --seed 9 --shuffle-rewards`);

const config: TrainConfig = {
  version: 1,
  command: 'train',
  task: 'countdown',
  taskFile: null,
  prompts: { name: 'short', reflect: 'why' },
  model: { directory: '/models/m', hash: 'ab' },
  engine: 'local',
  service: null,
  kernels: 'native kernels (avx2), 2 threads, f32',
  kernelChanges: [],
  dtype: 'f32',
  lora: null,
  passTokens: null,
  context: null,
  sampling: { temperature: 1, topK: undefined, maxAttemptTokens: 8, maxReflectionTokens: 8 },
  failures: null,
  problems: { file: '/data/p.jsonl', limit: null },
  audited: true,
  sources: { steps: 'default' },
  train: defaultTrainOptions(),
};

test('a configuration reads back as it was written, defaults of the loop included', () => {
  const stored: unknown = JSON.parse(JSON.stringify(config));
  expect(parseTrainConfig({ version: 1, ...Object(stored) }, 'run')).toEqual(stored);
});

test('a run of another command, an unknown field and a damaged one cannot be resumed', () => {
  expect(() => parseTrainConfig({ ...config, command: 'quickstart' }, 'run')).toThrow(
    'run: expected a run that r3 train can resume, got one of r3 "quickstart"',
  );
  expect(() => parseTrainConfig({ ...config, train: { ...config.train, steps: 'many' } }, 'run')).toThrow(
    /run: config.json: train\.steps: expected a number, got "many"/,
  );
  expect(() => parseTrainConfig({ ...config, extra: 1 }, 'run')).toThrow(
    /run: config.json: expected .*got extra/,
  );
});

test('each flag of the loop has its place in the options', () => {
  expect(trainOptionsOf(flags)).toEqual({
    ...defaultTrainOptions(),
    seed: 9,
    steps: 10,
    numIterations: 2,
    maxStaleness: 0,
    method: 'reflect',
    trainTokens: 'both',
    firstAttempts: 'refreshed',
    refreshEvery: 20,
    mining: { samples: 2, maxPerProblem: 1, keepFailures: 'majority' },
    failuresPerStep: 4,
    reflectionsPerFailure: 16,
    retriesPerReflection: 1,
    retryReward: 'mean',
    rounds: 2,
    zeroVariance: 'refill',
    learningRate: 1e-5,
    schedule: { kind: 'linear', warmupSteps: 2, flatSteps: 3, floor: 0.2 },
    adam: { beta1: 0.8, beta2: 0.98, epsilon: 1e-7, weightDecay: 0.01, maxGradNorm: 2 },
    loss: { ...defaultTrainOptions().loss, beta: 0, lossType: 'dapo', epsilon: 0.2 },
    advantages: { ...defaultTrainOptions().advantages, scaleRewards: 'none' },
    shuffleRewards: true,
    checkpointEvery: 5,
  });
});

test('an option that another makes void is refused, by its flag', () => {
  const refusal = (text: string): string => {
    try {
      trainOptionsOf(parsed(text).flags);
    } catch (error) {
      return error instanceof Error ? error.message : '';
    }
    return 'accepted';
  };
  expect(refusal('--method attempts --zero-variance refill')).toBe(
    '--zero-variance: expected keep or drop with the method attempts, got refill',
  );
  expect(refusal('--method retries --drop-attempt')).toBe(
    '--drop-attempt: expected none with the method retries, got it',
  );
  expect(refusal('--method attempts --told reason')).toMatch(
    /^--told: expected failed with the method attempts/,
  );
  expect(refusal('--method rejection-sampling --beta 0.1')).toMatch(
    /^--beta: expected its default with the method/,
  );
  expect(refusal('--method rejection-sampling --shuffle-rewards')).toMatch(
    /^--shuffle-rewards: expected none/,
  );
  expect(refusal('--shuffle-rewards --distillation-rate 1e-5')).toMatch(/^--shuffle-rewards: expected none/);
  expect(refusal('--vespo-k-pos 1')).toMatch(/^--vespo-k-pos: expected its default with --loss-type 'grpo'/);
  expect(refusal('--max-completion-length 9')).toMatch(/^--max-completion-length: expected its default/);
  expect(refusal('--beta 0 --kl-estimator k2')).toMatch(/^--kl-estimator: expected its default with beta 0/);
  expect(refusal('--loss-type cispo')).toMatch(
    /^--epsilon-high: expected an explicit cap .* --loss-type 'cispo'/,
  );
  expect(refusal('--loss-type dr_grpo --max-completion-length 9')).toBe('accepted');
});

test('episodes that are sampled ahead are corrected for, or refused', () => {
  const ahead = (more: string): { loss: object; sources: Record<string, string> } => {
    const { command } = parsed(`--max-staleness 2 ${more}`);
    applyStaleness(command);
    const { loss } = trainOptionsOf(command.opts<TrainFlags>());
    return { loss, sources: sourcesOf(command, undefined) };
  };
  const { loss, sources } = ahead('');
  expect(loss).toMatchObject({ importanceSamplingCorrection: STALE_CORRECTION });
  expect(sources).toMatchObject({
    'max-staleness': 'given',
    'importance-sampling-mode': 'with --max-staleness',
  });
  expect(
    ahead('--importance-sampling-mode sequence_mask --importance-sampling-clip-max 3').loss,
  ).toMatchObject({
    importanceSamplingCorrection: { mode: 'sequence_mask', clipMin: null, clipMax: 3 },
  });
  expect(() => ahead('--importance-sampling-mode none')).toThrow(
    /^--max-staleness: expected 0 without an --importance-sampling-mode, .* got 2$/,
  );
  expect(() => ahead('--distillation-rate 1e-5')).toThrow(
    /^--max-staleness: expected 0 with a --distillation-rate/,
  );
  expect(() => ahead('--method rejection-sampling')).toThrow(/^--max-staleness: expected 0 with the method/);
});

test('data has absolute paths, and problems wherever the method attempts them', () => {
  const frozen = defaultTrainOptions();
  expect(dataOf({ ...flags, failures: '/f.jsonl' }, frozen)).toEqual({
    failures: '/f.jsonl',
    problems: null,
  });
  expect(dataOf({ ...flags, problems: '/p.jsonl', limit: 5 }, frozen)).toEqual({
    failures: null,
    problems: { file: '/p.jsonl', limit: 5 },
  });
  expect(() => dataOf({ ...flags, failures: 'f', problems: 'p' }, frozen)).toThrow(/got both or neither/);
  expect(() => dataOf(flags, frozen)).toThrow(/got both or neither/);
  const onPolicy = { ...frozen, firstAttempts: 'on-policy' } as const;
  expect(() => dataOf({ ...flags, failures: 'f' }, onPolicy)).toThrow(
    /--problems: expected a file, because first attempts are on-policy/,
  );
  expect(dataOf({ ...flags, failures: '/f', problems: '/p' }, onPolicy).failures).toBe('/f');
  expect(() => dataOf(flags, { ...frozen, method: 'attempts' })).toThrow(
    /the method attempts samples problems/,
  );
});

test('a warm-up below one is a share of all steps, as in TRL; a broken number of steps is refused', () => {
  const warmup = (warmupSteps: number): number =>
    trainOptionsOf({ ...flags, warmupSteps }).schedule.warmupSteps;
  expect(warmup(0.03)).toBe(1);
  expect(trainOptionsOf({ ...flags, warmupSteps: 0.03, steps: 1000 }).schedule.warmupSteps).toBe(30);
  expect(warmup(3)).toBe(3);
  expect(() => warmup(2.5)).toThrow(/--warmup-steps: expected a whole number, or a share below 1, got 2\.5/);
});

test('a preset sets what the command line does not, and the source of each value is known', () => {
  const { command } = parsed('--model m --preset paper --beta 0.1');
  const preset = findPreset('paper');
  applyPreset(command, preset);
  const set = command.opts<TrainFlags>();
  expect(set).toMatchObject({
    beta: 0.1,
    learningRate: 5e-7,
    samples: 64,
    told: 'failed',
    numGenerations: 8,
  });
  expect(trainOptionsOf(set).schedule).toMatchObject({ kind: 'cosine', warmupSteps: 30 });
  expect(sourcesOf(command, preset)).toMatchObject({
    beta: 'given',
    'learning-rate': 'paper, stated',
    'num-generations': 'paper, inferred',
    'flat-steps': 'default',
  });
});

test('the command in the documents that repeats the quick start has the options of the quick start', () => {
  const document = readFileSync(new URL('../../docs/training.md', import.meta.url), 'utf8');
  const text = /r3 train (--task countdown (?:.|\\\n)*?)\n\n/.exec(document)?.[1] ?? '';
  const given = parsed(text.replaceAll('\\', ' ')).flags;
  expect(trainOptionsOf(given)).toEqual(quickstartTrainOptions(1, false));
  expect(playerOptions(given, 1)).toMatchObject({
    temperature: 1,
    maxAttemptTokens: 20,
    maxReflectionTokens: 96,
  });
  expect(given).toMatchObject({ prompts: 'short', dtype: 'f32', model: 'models/start' });
  expect(START_MODEL).toContain('models/start');
});

test('threads make no difference to kernels, everything else does', () => {
  const native = 'native kernels (avx2), 2 threads, f32';
  expect(sameKernels(native, 'native kernels (avx2), 1 thread, f32')).toBe(true);
  expect(sameKernels(native, 'native kernels (avx512), 2 threads, f32')).toBe(false);
  expect(sameKernels(native, 'wasm kernels (simd128), 2 threads, f32')).toBe(false);
});

test('a change of kernels is noted from its step on, and replaces what was noted for steps that are done again', () => {
  const wasm = 'wasm kernels (simd128), 1 thread, f32';
  const changed = withKernels(config, 40, wasm);
  expect(changed.kernelChanges).toEqual([{ step: 40, kernels: wasm }]);
  expect(kernelsOf(changed)).toBe(wasm);
  expect(withKernels(changed, 60, config.kernels).kernelChanges).toEqual([
    { step: 40, kernels: wasm },
    { step: 60, kernels: config.kernels },
  ]);
  expect(withKernels(changed, 40, config.kernels).kernelChanges).toEqual([]);
});
