/** The script decides what is sampled, and calls are kept. What every engine promises is engine.test.ts. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import type { AdamParams, Loss, SampleRequest } from './engine.ts';
import { makeFakeEngine } from './fake.ts';

const scratch = mkdtempSync(join(tmpdir(), 'fake-engine-'));
afterAll(() => rmSync(scratch, { recursive: true }));

const request: SampleRequest = {
  prompt: [1, 2, 3],
  count: 2,
  params: { temperature: 0.7, maxTokens: 4, stopIds: [9] },
  seed: 5,
};
const adam: AdamParams = { learningRate: 0.1, beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: 0 };
const sumLoss: Loss = (logprobs) => ({
  loss: 0,
  gradients: logprobs.map((row) => new Float32Array(row.length).fill(1)),
  metrics: {},
});
const datum = { tokens: [1, 2, 3, 4], positions: [1, 2, 3] };

test('completions follow the script, up to the stop id or the length limit', async () => {
  const engine = makeFakeEngine((prompt, index, seed) =>
    index === 0 ? [prompt.length, seed, 9, 8] : [4, 4, 4, 4, 4],
  );
  const [first, second] = await engine.sample(request);
  expect(first).toMatchObject({ tokens: [3, 5, 9], stopReason: 'stop' });
  expect(second).toMatchObject({ tokens: [4, 4, 4, 4], stopReason: 'length' });
  expect(engine.calls.samples).toEqual([request]);
});

test('gradients accumulate until the step', async () => {
  const engine = makeFakeEngine(() => []);
  await engine.forwardBackward([datum], sumLoss);
  await engine.forwardBackward([datum, datum], sumLoss);
  expect(await engine.gradientNorms()).toEqual({ 'fake.weight': 3 });
  expect(await engine.step(adam)).toEqual({ gradientNorm: 3, learningRate: 0.1 });
  expect(await engine.gradientNorms()).toEqual({ 'fake.weight': 0 });
  expect(engine.calls.trained.map(({ datums }) => datums.length)).toEqual([1, 2]);
});
