/** The scripted engine keeps the promises of the interface that the loops rely on. */
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

test('sampler and trainer agree on log-probabilities to the bit, after steps too', async () => {
  const engine = makeFakeEngine(() => [5, 6, 9]);
  await engine.step(adam);
  const [completion] = await engine.sample({ ...request, count: 1 });
  const tokens = [...request.prompt, ...(completion?.tokens ?? [])];
  const [scored] = await engine.logprobs([{ tokens, positions: [3, 4, 5] }], { temperature: 0.7 });
  expect([...(scored ?? [])]).toEqual(completion?.logprobs);
  expect(completion?.logprobs.every((value) => value < 0)).toBe(true);
  const { logprobs } = await engine.forwardBackward([{ tokens, positions: [3, 4, 5] }], sumLoss, {
    temperature: 0.7,
  });
  expect(logprobs[0]).toEqual(scored);
});

test('a step changes the current weights and not the reference', async () => {
  const engine = makeFakeEngine(() => []);
  const before = await engine.logprobs([datum]);
  expect(await engine.logprobs([datum], { weights: 'reference' })).toEqual(before);
  await engine.step(adam);
  expect(await engine.logprobs([datum])).not.toEqual(before);
  expect(await engine.logprobs([datum], { weights: 'reference' })).toEqual(before);
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

test('forgotten gradients do not reach the step', async () => {
  const engine = makeFakeEngine(() => []);
  await engine.forwardBackward([datum], sumLoss);
  await engine.zeroGradients();
  expect(await engine.step(adam)).toMatchObject({ gradientNorm: 0 });
});

test('a cancellation leaves what was sampled until then', async () => {
  const controller = new AbortController();
  const engine = makeFakeEngine(() => [4, 5, 6]);
  const completions = await engine.sample({
    ...request,
    signal: controller.signal,
    onToken: () => controller.abort(),
  });
  expect(completions.map(({ tokens, stopReason }) => [tokens, stopReason])).toEqual([
    [[4], 'cancelled'],
    [[4], 'cancelled'],
  ]);
});

test('a saved state goes on as the engine it came from', async () => {
  const engine = makeFakeEngine(() => []);
  await engine.step(adam);
  await engine.forwardBackward([datum], sumLoss);
  const directory = join(scratch, 'state');
  await engine.saveState(directory);
  const other = makeFakeEngine(() => []);
  await other.loadState(directory);
  expect(await other.logprobs([datum])).toEqual(await engine.logprobs([datum]));
  expect(await other.step(adam)).toEqual(await engine.step(adam));
  await expect(engine.save(directory)).rejects.toThrow(/expected a directory that does not exist/);
});

test('what the interface refuses is refused', async () => {
  const engine = makeFakeEngine(() => [], { vocabularySize: 10, contextLength: 8, trainable: false });
  await expect(engine.sample({ ...request, prompt: [10] })).rejects.toMatchObject({ code: 'bad-option' });
  await expect(engine.sample({ ...request, prompt: [1, 2, 3, 4, 5] })).rejects.toMatchObject({
    code: 'too-long',
  });
  await expect(engine.logprobs([{ tokens: [1, 2], positions: [0] }])).rejects.toMatchObject({
    code: 'bad-shape',
  });
  await expect(engine.step(adam)).rejects.toMatchObject({ code: 'not-available' });
});
