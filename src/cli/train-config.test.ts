import { readFileSync } from 'node:fs';
import { Command } from 'commander';
import { expect, test } from 'vitest';
import { START_MODEL, quickstartTrainOptions } from '../quickstart.ts';
import { defaultTrainOptions } from '../train.ts';
import type { Io } from './io.ts';
import { playerOptions } from './session.ts';
import {
  failureSourceOf,
  kernelsOf,
  parseTrainConfig,
  sameKernels,
  trainOptionsOf,
  withKernels,
  type TrainConfig,
  type TrainFlags,
} from './train-config.ts';
import { define } from './train.ts';

const flags: TrainFlags = {
  dtype: 'f32',
  temperature: 1,
  samples: 2,
  maxPerProblem: 1,
  steps: 10,
  failuresPerStep: 4,
  numGenerations: 16,
  learningRate: 1e-5,
  schedule: 'linear',
  warmupSteps: 2,
  flatSteps: 3,
  floor: 0.2,
  adamBeta1: 0.8,
  adamBeta2: 0.98,
  adamEpsilon: 1e-7,
  weightDecay: 0.01,
  maxGradNorm: 2,
  beta: 0,
  lossType: 'dapo',
  epsilon: 0.2,
  scaleRewards: 'none',
  checkpointEvery: 5,
  seed: 9,
  shuffleRewards: true,
};

const config: TrainConfig = {
  version: 1,
  command: 'train',
  task: 'countdown',
  prompts: { name: 'short', reflect: 'why' },
  model: { directory: '/models/m', hash: 'ab' },
  kernels: 'native kernels (avx2), 2 threads, f32',
  kernelChanges: [],
  dtype: 'f32',
  lora: null,
  passTokens: null,
  context: null,
  sampling: { temperature: 1, topK: undefined, maxAttemptTokens: 8, maxReflectionTokens: 8 },
  failures: { problems: '/data/p.jsonl', limit: null, samples: 1, maxPerProblem: 1 },
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
    failuresPerStep: 4,
    reflectionsPerFailure: 16,
    learningRate: 1e-5,
    schedule: { kind: 'linear', warmupSteps: 2, flatSteps: 3, floor: 0.2 },
    adam: { beta1: 0.8, beta2: 0.98, epsilon: 1e-7, weightDecay: 0.01, maxGradNorm: 2 },
    beta: 0,
    lossType: 'dapo',
    epsilon: 0.2,
    scaleRewards: 'none',
    shuffleRewards: true,
    checkpointEvery: 5,
  });
});

test('failures come from one source, with absolute paths', () => {
  expect(failureSourceOf({ ...flags, failures: '/f.jsonl' })).toEqual({ file: '/f.jsonl' });
  expect(failureSourceOf({ ...flags, problems: '/p.jsonl', limit: 5 })).toEqual({
    problems: '/p.jsonl',
    limit: 5,
    samples: 2,
    maxPerProblem: 1,
  });
  expect(() => failureSourceOf({ ...flags, failures: 'f', problems: 'p' })).toThrow(/got both or neither/);
});

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

test('the command in the documents that repeats the quick start has the options of the quick start', async () => {
  const document = readFileSync(new URL('../../docs/training.md', import.meta.url), 'utf8');
  const text = /r3 train (--task countdown (?:.|\\\n)*?)\n\n/.exec(document)?.[1] ?? '';
  let given: TrainFlags | undefined;
  const command = new Command().exitOverride();
  define(command, unusedIo);
  command.action((parsed: TrainFlags) => {
    given = parsed;
  });
  await command.parseAsync(text.replaceAll('\\', ' ').trim().split(/\s+/), { from: 'user' });
  if (given === undefined) throw new Error('the command did not run');
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
