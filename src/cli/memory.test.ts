import { expect, test } from 'vitest';
import { tinyConfig } from '../engine/local/testing.ts';
import { makeLayout, makeWeights } from '../engine/local/weights.ts';
import { loadKernels } from '../kernels/load.ts';
import { bytesText, planMemory } from './memory.ts';

/** Widths that packing does not pad. */
const config = { ...tinyConfig, vocabularySize: 128, hiddenSize: 64, intermediateSize: 128 };

test.each(['f32', 'bf16'] as const)(
  'weights in %s take the bytes that the engine allocates',
  async (dtype) => {
    for (const trainable of [false, true]) {
      const ops = await loadKernels({ build: 'wasm', threads: 1 });
      const layout = makeLayout(config);
      makeWeights(ops, layout, ops.f32(layout.length), dtype, trainable);
      const plan = planMemory(config, { dtype, trainable, reference: false });
      expect(plan.parameters).toBe(layout.length);
      // The allocator keeps blocks aligned.
      expect(ops.memory().bytes / plan.weightBytes).toBeCloseTo(1, 1);
      ops.close();
    }
  },
);

test('the total is the sum of its parts, and sampling needs neither gradient nor activations', () => {
  const train = planMemory(config, { dtype: 'f32', trainable: true, reference: true });
  const parts = [
    train.weightBytes,
    train.optimizerBytes,
    train.referenceBytes,
    train.cacheBytes,
    train.activationBytes,
  ];
  expect(train.totalBytes).toBe(parts.reduce((sum, bytes) => sum + bytes, 0));
  expect(train.optimizerBytes).toBe(12 * train.parameters);
  const sample = planMemory(config, { dtype: 'f32', trainable: false, reference: false });
  expect(sample.totalBytes).toBe(sample.weightBytes + sample.cacheBytes);
});

test('bytes are shown in binary units with three digits', () => {
  expect([0, 999, 1024, 1536, 2 ** 31, 1000 * 2 ** 20].map(bytesText)).toEqual([
    '0 B',
    '999 B',
    '1.00 KiB',
    '1.50 KiB',
    '2.00 GiB',
    '0.977 GiB',
  ]);
});
