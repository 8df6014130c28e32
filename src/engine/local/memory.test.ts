import { expect, test } from 'vitest';
import { loadKernels } from '../../kernels/load.ts';
import { makeCore, type LocalEngineOptions } from './core.ts';
import { planMemory } from './memory.ts';
import { randomTokens, sampleAll, tinyConfig, tinyModel } from './testing.ts';

/** Widths that packing does not pad, and large enough that small buffers do not count. */
const sizes = { vocabularySize: 960, hiddenSize: 192, intermediateSize: 384, contextLength: 64 };
const lora = { rank: 16, alpha: 16, dropout: 0, rsLora: false, targets: 'all-linear' as const, layers: null };
const CACHE_BYTES = 1 << 20;

test.each<[string, Partial<LocalEngineOptions>]>([
  ['sampling in f32', { trainable: false }],
  ['sampling in bf16', { trainable: false, dtype: 'bf16' }],
  ['sampling in int8', { trainable: false, dtype: 'int8' }],
  ['training in f32', {}],
  ['training in bf16', { dtype: 'bf16' }],
  ['an adapter in bf16', { dtype: 'bf16', lora }],
  ['an adapter in int8', { dtype: 'int8', lora }],
])('%s takes the bytes of the plan, within a fiftieth', async (_, options) => {
  for (const tiedHead of [false, true]) {
    const ops = await loadKernels({ build: 'wasm', threads: 1 });
    const model = tinyModel({ ...sizes, tiedHead });
    const before = ops.memory().bytes;
    makeCore(ops, model, { cacheBytes: CACHE_BYTES, ...options });
    const plan = planMemory(model.config, {
      dtype: options.dtype ?? 'f32',
      training: options.trainable === false ? 'none' : (options.lora ?? 'full'),
      reference: false,
      cacheBytes: CACHE_BYTES,
    });
    // What is allocated before anything is computed.
    const ropes = 4 * sizes.contextLength * model.config.headSize;
    const planned = plan.weightBytes + plan.adapterBytes + plan.cacheBytes + ropes;
    expect((ops.memory().bytes - before) / planned).toBeCloseTo(1, 1.7);
    ops.close();
  }
});

test('the total is the sum of its parts; an adapter needs neither a second model nor much of an optimizer', () => {
  const full = planMemory(tinyConfig, { dtype: 'f32', training: 'full', reference: true });
  const adapter = planMemory(tinyConfig, { dtype: 'f32', training: { ...lora, rank: 2 }, reference: true });
  for (const plan of [full, adapter]) {
    const { weightBytes, adapterBytes, optimizerBytes, referenceBytes, cacheBytes, activationBytes } = plan;
    const parts = [weightBytes, adapterBytes, optimizerBytes, referenceBytes, cacheBytes, activationBytes];
    expect(plan.totalBytes).toBe(parts.reduce((sum, bytes) => sum + bytes, 0));
    expect(plan.optimizerBytes).toBe(12 * plan.trainedParameters);
  }
  expect(full.referenceBytes).toBeGreaterThan(0);
  expect(adapter.referenceBytes).toBe(0);
  expect(adapter.trainedParameters).toBeLessThan(full.trainedParameters);
});

test.each<[string, Partial<LocalEngineOptions>]>([
  ['full training', {}],
  ['an adapter in bf16', { dtype: 'bf16', lora }],
])('%s of a stated step takes the bytes of the plan, within 15%%', async (_, options) => {
  const ops = await loadKernels({ build: 'wasm', threads: 1 });
  const layers = 6;
  const model = tinyModel({
    vocabularySize: 3000,
    hiddenSize: 192,
    intermediateSize: 768,
    contextLength: 1024,
    layers,
    layerKinds: Array.from({ length: layers }, () => tinyConfig.layerKinds[0]!),
  });
  const core = makeCore(ops, model, { cacheBytes: CACHE_BYTES, ...options });
  const [count, length] = [4, 500];
  const datums = Array.from({ length: count }, (__, n) => ({
    tokens: randomTokens(length + 1, n, 3000),
    positions: Array.from({ length: length / 2 }, (___, i) => length / 2 + i + 1),
  }));
  sampleAll(core, [
    {
      prompt: randomTokens(900, 9, 3000),
      count: 1,
      params: { temperature: 1, maxTokens: 2, stopIds: [] },
      seed: 1,
    },
  ]);
  core.backward(core.forward(datums, 1, 'current', true));
  core.step({ learningRate: 1e-3, beta1: 0.9, beta2: 0.99, epsilon: 1e-8, weightDecay: 0 });
  const plan = planMemory(model.config, {
    dtype: options.dtype ?? 'f32',
    training: options.lora ?? 'full',
    reference: false,
    cacheBytes: CACHE_BYTES,
    workload: { sampledTokens: 1 << 30, trainedTokens: count * length, scoredTokens: (count * length) / 2 },
  });
  const ratio = ops.memory().peakBytes / plan.totalBytes;
  expect(ratio).toBeGreaterThan(0.85);
  expect(ratio).toBeLessThan(1.15);
  ops.close();
});
