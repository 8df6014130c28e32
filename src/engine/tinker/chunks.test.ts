import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { chunksOf, joinOutputs, type WireDatum } from './chunks.ts';

const datum = (length: number): WireDatum => ({
  tokens: new Array<number>(length).fill(1),
  inputs: { weights: { dtype: 'float32', data: new Float32Array(length) } },
});

describe('chunksOf', () => {
  it('keeps every datum once and in order, within both limits, except for one that is too large alone', () => {
    const lengths = fc.array(fc.integer({ min: 1, max: 50 }));
    fc.assert(
      fc.property(
        lengths,
        fc.integer({ min: 1, max: 8 }),
        fc.integer({ min: 1, max: 2000 }),
        (sizes, most, bytes) => {
          const data = sizes.map(datum);
          const chunks = chunksOf(data, most, bytes);
          expect(chunks.flat()).toEqual(data);
          for (const chunk of chunks) {
            expect(chunk.length).toBeLessThanOrEqual(most);
            const size = chunk.reduce((sum, each) => sum + 20 * each.tokens.length, 0);
            if (chunk.length > 1) expect(size).toBeLessThanOrEqual(bytes);
          }
        },
      ),
    );
  });
});

describe('joinOutputs', () => {
  const part = (count: number, metrics: Record<string, number>) => ({
    outputType: 'x',
    outputs: Array.from({ length: count }, (_, i) => ({
      logprobs: { dtype: 'float32' as const, data: Float32Array.of(i), shape: [1] },
    })),
    metrics,
  });

  it('joins metrics by their reduction, means weighted by datums, and drops what it cannot join', () => {
    const first = part(1, {
      'loss:sum': 1,
      'x:mean': 1,
      'x:min': 1,
      'x:max': 1,
      'x:slack': 1,
      'x:odd': 1,
      'only:sum': 1,
    });
    const second = part(3, { 'loss:sum': 2, 'x:mean': 5, 'x:min': 5, 'x:max': 5, 'x:slack': 5, 'x:odd': 5 });
    const joined = joinOutputs([first, second]);
    expect(joined.metrics).toEqual({ 'loss:sum': 3, 'x:mean': 4, 'x:min': 1, 'x:max': 5, 'x:slack': 1 });
    expect(joined.outputs.map((each) => each.logprobs?.data[0])).toEqual([0, 0, 1, 2]);
  });

  it('leaves the metrics of a single request as they are', () => {
    expect(joinOutputs([part(1, { plain: 3 })]).metrics).toEqual({ plain: 3 });
    expect(joinOutputs([])).toEqual({ outputType: '', outputs: [], metrics: {} });
  });
});
