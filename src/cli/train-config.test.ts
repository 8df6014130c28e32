import { expect, test } from 'vitest';
import { defaultTrainOptions } from '../train.ts';
import {
  failureSourceOf,
  parseTrainConfig,
  trainOptionsOf,
  type TrainConfig,
  type TrainFlags,
} from './train-config.ts';

const flags: TrainFlags = {
  dtype: 'f32',
  temperature: 1,
  samples: 2,
  maxPerProblem: 1,
  steps: 10,
  failuresPerStep: 4,
  reflections: 16,
  learningRate: 1e-5,
  schedule: 'linear',
  warmupSteps: 2,
  beta: 0,
  lossType: 'dapo',
  epsilon: 0.2,
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
  kernels: 'native',
  dtype: 'f32',
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
    'run: expected a run that r3 train can resume, got a run of r3 quickstart',
  );
  expect(() => parseTrainConfig({ ...config, train: { ...config.train, steps: 'many' } }, 'run')).toThrow(
    /got train\.steps: /,
  );
  expect(() => parseTrainConfig({ ...config, extra: 1 }, 'run')).toThrow(/can resume, got .*extra/);
});

test('each flag of the loop has its place in the options', () => {
  expect(trainOptionsOf(flags)).toEqual({
    ...defaultTrainOptions(),
    seed: 9,
    steps: 10,
    failuresPerStep: 4,
    reflectionsPerFailure: 16,
    learningRate: 1e-5,
    schedule: { kind: 'linear', warmupSteps: 2, flatSteps: 0, floor: 0 },
    beta: 0,
    lossType: 'dapo',
    epsilon: 0.2,
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
