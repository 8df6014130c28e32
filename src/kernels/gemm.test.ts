/**
 * Packed matrix products: equal to the reference in every layout and type, and the same bits for a row whatever
 * the batch, the layout, the view or the thread count. Over every build (ops-suite.ts).
 */
import * as fc from 'fast-check';
import { expect, it } from 'vitest';
import type { Ops, PackedType } from './ops.ts';
import { describeBuilds, packedType, reference, RUNS, seed, size } from './ops-suite.ts';
import { expectBits, expectClose, randomFloats, withBuffers } from './ops-testing.ts';

interface GemmCase {
  M: number;
  N: number;
  K: number;
  /** Whether a is stored as [K, M]; whether b is stored as [N, K]. */
  transposeA: boolean;
  transposeB: boolean;
  accumulate: boolean;
  type: PackedType;
  seed: number;
}

const gemmCase: fc.Arbitrary<GemmCase> = fc
  .record({
    M: size(40),
    N: size(100),
    K: size(150),
    layout: fc.constantFrom('NN', 'NT', 'TN'),
    accumulate: fc.boolean(),
    type: packedType,
    seed,
  })
  .map(({ layout, ...rest }) => ({ ...rest, transposeA: layout === 'TN', transposeB: layout === 'NT' }));

const LARGE_GEMM: GemmCase = {
  M: 70,
  N: 130,
  K: 600,
  transposeA: false,
  transposeB: false,
  accumulate: false,
  type: 'f32',
  seed: 1,
};

/** Rows [from, to) of the product of a case. */
function runGemm(ops: Ops, g: GemmCase, from = 0, to = g.M): Float32Array {
  const { M, N, K, type } = g;
  return withBuffers(ops, ({ floats }) => {
    const packed = floats(ops.packedLength(K, N, type));
    ops.pack(
      packed,
      floats(randomFloats(K * N, g.seed)),
      K,
      N,
      g.transposeB ? 1 : N,
      g.transposeB ? K : 1,
      type,
    );
    const strideM = g.transposeA ? 1 : K;
    const a = floats(randomFloats(M * K, g.seed + 1)).subarray(from * strideM);
    const c = floats(randomFloats(M * N, g.seed + 2).subarray(from * N, to * N));
    ops.gemm(to - from, N, K, a, strideM, g.transposeA ? M : 1, packed, c, g.accumulate, type);
    return c.slice();
  });
}

describeBuilds('gemm', (build) => {
  it('multiplies a small matrix as by hand', () => {
    const c = withBuffers(build.ops, ({ floats }) => {
      const packed = floats(build.ops.packedLength(2, 2, 'f32'));
      build.ops.pack(packed, floats([5, 6, 7, 8]), 2, 2, 2, 1, 'f32');
      const out = floats(4);
      build.ops.gemm(2, 2, 2, floats([1, 2, 3, 4]), 2, 1, packed, out, false, 'f32');
      return Array.from(out);
    });
    expect(c).toEqual([19, 22, 43, 50]);
  });

  build.itCompiled('equals the reference for every layout and type, with and without accumulation', () => {
    fc.assert(
      fc.property(gemmCase, (g) => {
        // Rounding of a sum of K products of size 1 in f32.
        const tolerance = { absolute: g.K * 2 ** -22, relative: 1e-6 };
        expectClose(`gemm ${JSON.stringify(g)}`, runGemm(build.ops, g), runGemm(reference, g), tolerance);
      }),
      {
        ...RUNS,
        numRuns: 60,
        examples: [
          [{ ...LARGE_GEMM, M: 1, N: 1, K: 1, type: 'bf16' }],
          [{ ...LARGE_GEMM, transposeB: true, accumulate: true }],
          [{ ...LARGE_GEMM, transposeA: true, type: 'bf16' }],
        ],
      },
    );
  });

  it('gives a row the same bits alone, in part of the batch and in the batch', () => {
    fc.assert(
      fc.property(gemmCase, fc.nat(), fc.nat(), (g, x, y) => {
        const label = `gemm ${JSON.stringify(g)}`;
        const whole = runGemm(build.ops, g);
        const from = x % g.M;
        const to = from + 1 + (y % (g.M - from));
        expectBits(
          `${label} rows ${from}..${to}`,
          runGemm(build.ops, g, from, to),
          whole.slice(from * g.N, to * g.N),
        );
        expectBits(
          `${label} row ${from}`,
          runGemm(build.ops, g, from, from + 1),
          whole.slice(from * g.N, (from + 1) * g.N),
        );
      }),
      RUNS,
    );
  });

  it('gives the same bits for a transposed layout', () => {
    fc.assert(
      fc.property(size(20), size(60), size(60), packedType, seed, (M, N, K, type, start) => {
        const a = randomFloats(M * K, start);
        const b = randomFloats(K * N, start + 1);
        const product = (transposed: boolean): Float32Array =>
          withBuffers(build.ops, ({ floats }) => {
            const packed = floats(build.ops.packedLength(K, N, type));
            const source = floats(transposed ? transpose(b, K, N) : b);
            build.ops.pack(packed, source, K, N, transposed ? 1 : N, transposed ? K : 1, type);
            const c = floats(M * N);
            const left = floats(transposed ? transpose(a, M, K) : a);
            build.ops.gemm(M, N, K, left, transposed ? 1 : K, transposed ? M : 1, packed, c, false, type);
            return c.slice();
          });
        expectBits(`gemm M=${M} N=${N} K=${K} ${type}`, product(true), product(false));
      }),
      RUNS,
    );
  });

  it('of no columns to sum over is zero, or adds nothing', () => {
    for (const accumulate of [false, true]) {
      const c = withBuffers(build.ops, ({ floats }) => {
        const out = floats([1, 2, 3]);
        build.ops.gemm(
          1,
          3,
          0,
          floats(0),
          0,
          1,
          floats(build.ops.packedLength(0, 3, 'f32')),
          out,
          accumulate,
          'f32',
        );
        return Array.from(out);
      });
      expect(c).toEqual(accumulate ? [1, 2, 3] : [0, 0, 0]);
    }
  });

  build.itCompiled('gives the same bits for every thread count', () => {
    for (const type of ['f32', 'bf16'] as const) {
      for (const M of [1, 150]) {
        const g = { ...LARGE_GEMM, M, N: 301, K: 260, accumulate: true, type };
        build.expectSameForThreads(`gemm ${JSON.stringify(g)}`, (each) => [runGemm(each, g)]);
      }
    }
  });

  it('takes views that begin anywhere', () => {
    for (const type of ['f32', 'bf16'] as const) {
      const g = { ...LARGE_GEMM, M: 5, N: 37, K: 18, type };
      build.expectSameForViews(`gemm ${type}`, (each) => [runGemm(each, g)]);
    }
  });

  it('has a measured peak: a positive number of GFLOP/s', () => {
    expect(build.ops.measurePeak('f32', 0.01)).toBeGreaterThan(0);
  });
});

/** [rows, columns] to [columns, rows]. */
function transpose(matrix: Float32Array, rows: number, columns: number): Float32Array {
  return matrix.map((_, i) => matrix[(i % rows) * columns + Math.floor(i / rows)]!);
}
