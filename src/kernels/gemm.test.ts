/**
 * Packed matrix products: equal to the reference in every layout and type, and the same bits for a row whatever
 * the batch, the layout, the view or the thread count. Packing in strips, and what is read back from packed matrices:
 * columns, and the transpose. Over every build (ops-suite.ts).
 */
import * as fc from 'fast-check';
import { expect, it } from 'vitest';
import { PACK_COLUMNS } from './ops.ts';
import type { Ops, PackedType } from './ops.ts';
import { describeBuilds, packedType, reference, RUNS, seed, size } from './ops-suite.ts';
import { dot, expectBits, expectClose, randomFloats, randomInts, withBuffers } from './ops-testing.ts';

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
      0,
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
      build.ops.pack(packed, floats([5, 6, 7, 8]), 2, 2, 0, 2, 2, 1, 'f32');
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
          [{ ...LARGE_GEMM, transposeA: true, type: 'int8', accumulate: true }],
          [{ ...LARGE_GEMM, M: 1, N: 205, K: 601, type: 'int8', accumulate: true }],
          [{ ...LARGE_GEMM, M: 2, N: 205, K: 601, type: 'int8' }],
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
            build.ops.pack(packed, source, K, N, 0, N, transposed ? 1 : N, transposed ? K : 1, type);
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
    for (const type of ['f32', 'bf16', 'int8'] as const) {
      for (const M of [1, 150]) {
        const g = { ...LARGE_GEMM, M, N: 301, K: 260, accumulate: true, type };
        build.expectSameForThreads(`gemm ${JSON.stringify(g)}`, (each) => [runGemm(each, g)]);
      }
    }
  });

  it('takes views that begin anywhere', () => {
    for (const type of ['f32', 'bf16', 'int8'] as const) {
      const g = { ...LARGE_GEMM, M: 5, N: 37, K: 18, type };
      build.expectSameForViews(`gemm ${type}`, (each) => [runGemm(each, g)]);
    }
  });

  it('packed strip by strip is packed as a whole, to the bit', () => {
    for (const type of ['f32', 'bf16', 'int8'] as const) {
      for (const N of [96, 250, 288]) {
        const K = 300;
        const b = randomFloats(K * N, 1);
        const packed = (stripColumns: number): Float32Array =>
          withBuffers(build.ops, ({ floats }) => {
            const to = floats(build.ops.packedLength(K, N, type));
            for (let first = 0; first < N; first += stripColumns) {
              const count = Math.min(stripColumns, N - first);
              // Columns are contiguous, as the rows of a [out, in] matrix are.
              const strip = transpose(b, K, N).subarray(first * K, (first + count) * K);
              build.ops.pack(to, floats(strip), K, N, first, count, 1, K, type);
            }
            return to.slice();
          });
        expectBits(`pack ${type} N=${N}`, asInts(packed(PACK_COLUMNS)), asInts(packed(N)));
        expectBits(`pack ${type} N=${N}`, asInts(packed(2 * PACK_COLUMNS)), asInts(packed(N)));
      }
    }
  });

  it('in int8 is near the product of f32 for weights that are normal', () => {
    const [M, N, K] = [4, 64, 512];
    const [a, b] = [normalFloats(M * K, 1), normalFloats(K * N, 2)];
    const product = (type: PackedType): Float32Array =>
      withBuffers(build.ops, ({ floats }) => {
        const packed = floats(build.ops.packedLength(K, N, type));
        build.ops.pack(packed, floats(b), K, N, 0, N, N, 1, type);
        const c = floats(M * N);
        build.ops.gemm(M, N, K, floats(a), K, 1, packed, c, false, type);
        return c.slice();
      });
    const exact = product('f32');
    const error = product('int8').map((value, i) => value - exact[i]!);
    // A step is about 2.8 / 127 of the standard deviation, and errors are uniform within it: 2.8 / 127 / sqrt(12).
    const relative = Math.sqrt(dot(error, error) / dot(exact, exact));
    expect(relative).toBeGreaterThan(0.004);
    expect(relative).toBeLessThan(0.008);
  });

  it('in int8 of a column of zeros is zero', () => {
    const [N, K] = [20, 270];
    const b = randomFloats(K * N, 1).map((value, i) => (i % N === 3 ? 0 : value));
    const c = withBuffers(build.ops, ({ floats }) => {
      const packed = floats(build.ops.packedLength(K, N, 'int8'));
      build.ops.pack(packed, floats(b), K, N, 0, N, N, 1, 'int8');
      const out = floats(N);
      build.ops.gemm(1, N, K, floats(randomFloats(K, 2)), K, 1, packed, out, false, 'int8');
      return out.slice();
    });
    expect(c[3]).toBe(0);
    expect(c.every(Number.isFinite)).toBe(true);
  });

  it('has a measured peak: a positive number of GFLOP/s', () => {
    expect(build.ops.measurePeak('f32', 0.01)).toBeGreaterThan(0);
  });

  it('has a measured bandwidth: a positive number of GB/s', () => {
    const x = build.ops.f32(100_000);
    expect(build.ops.measureBandwidth(x, 0.01)).toBeGreaterThan(0);
    build.ops.free(x);
  });
});

const packedCase = fc.record({ K: size(300), N: size(200), type: packedType, start: seed });

/** B as products see it: the product of the identity and what is packed. */
function unpacked(ops: Ops, K: number, N: number, packed: Float32Array, type: PackedType): Float32Array {
  return withBuffers(ops, ({ floats }) => {
    const identity = floats(Float32Array.from({ length: K * K }, (_, i) => (i % (K + 1) === 0 ? 1 : 0)));
    const c = floats(K * N);
    ops.gemm(K, N, K, identity, K, 1, packed, c, false, type);
    return c.slice();
  });
}

/** Packs random values and calls `use` with them. */
function withPacked<T>(
  ops: Ops,
  K: number,
  N: number,
  type: PackedType,
  start: number,
  use: (packed: Float32Array) => T,
): T {
  return withBuffers(ops, ({ floats }) => {
    const packed = floats(ops.packedLength(K, N, type));
    ops.pack(packed, floats(randomFloats(K * N, start)), K, N, 0, N, N, 1, type);
    return use(packed);
  });
}

describeBuilds('gatherPacked', (build) => {
  const run = (ops: Ops, K: number, N: number, type: PackedType, ids: Int32Array, start: number) =>
    withPacked(ops, K, N, type, start, (packed) =>
      withBuffers(ops, ({ floats, ints }) => {
        const out = floats(ids.length * K);
        ops.gatherPacked(ids.length, K, N, packed, ints(ids), out, type);
        return out.slice();
      }),
    );

  it('gives the columns that products see, to the bit', () => {
    fc.assert(
      fc.property(packedCase, ({ K, N, type, start }) => {
        const ids = randomInts(9, start, N);
        const seen = withPacked(build.ops, K, N, type, start, (packed) =>
          unpacked(build.ops, K, N, packed, type),
        );
        const expected = Float32Array.from({ length: 9 * K }, (_, i) => {
          return seen[(i % K) * N + ids[Math.floor(i / K)]!]!;
        });
        // As numbers: a product adds to +0, so that it has no -0.
        const got = run(build.ops, K, N, type, ids, start);
        expectClose(`gatherPacked K=${K} N=${N} ${type}`, got, expected, { absolute: 0, relative: 0 });
      }),
      RUNS,
    );
  });

  build.itCompiled('equals the reference to the bit', () => {
    fc.assert(
      fc.property(packedCase, ({ K, N, type, start }) => {
        const ids = randomInts(9, start, N);
        const label = `gatherPacked K=${K} N=${N} ${type}`;
        const expected = run(reference, K, N, type, ids, start);
        expectBits(label, run(build.ops, K, N, type, ids, start), expected);
      }),
      RUNS,
    );
  });

  build.itCompiled('gives the same bits for every thread count', () => {
    const ids = randomInts(200, 1, 150);
    build.expectSameForThreads('gatherPacked', (each) => [run(each, 270, 150, 'int8', ids, 1)]);
  });

  it('takes views that begin anywhere', () => {
    const ids = randomInts(5, 1, 50);
    build.expectSameForViews('gatherPacked', (each) => [run(each, 27, 50, 'bf16', ids, 1)]);
  });
});

describeBuilds('transposePacked', (build) => {
  const run = (ops: Ops, K: number, N: number, type: PackedType, toType: 'f32' | 'bf16', start: number) =>
    withPacked(ops, K, N, type, start, (packed) =>
      withBuffers(ops, ({ floats }) => {
        const to = floats(Float32Array.from({ length: ops.packedLength(N, K, toType) }, () => 7));
        ops.transposePacked(to, packed, K, N, type, toType);
        return to.slice();
      }),
    );

  it('packs the transpose of what products see, padding as well, to the bit', () => {
    fc.assert(
      fc.property(packedCase, fc.constantFrom<'f32' | 'bf16'>('f32', 'bf16'), (c, toType) => {
        const { K, N, type, start } = c;
        const expected = withPacked(build.ops, K, N, type, start, (packed) =>
          withBuffers(build.ops, ({ floats, ints }) => {
            const ids = Int32Array.from({ length: N }, (_, n) => n);
            const rows = floats(N * K);
            build.ops.gatherPacked(N, K, N, packed, ints(ids), rows, type);
            const to = floats(build.ops.packedLength(N, K, toType));
            build.ops.pack(to, rows, N, K, 0, K, K, 1, toType);
            return to.slice();
          }),
        );
        const got = run(build.ops, K, N, type, toType, start);
        expectBits(`transposePacked K=${K} N=${N} ${type} to ${toType}`, asInts(got), asInts(expected));
      }),
      { ...RUNS, examples: [[{ K: 600, N: 530, type: 'int8', start: 1 }, 'bf16']] },
    );
  });

  build.itCompiled('gives the same bits for every thread count', () => {
    for (const toType of ['f32', 'bf16'] as const) {
      build.expectSameForThreads(`transposePacked to ${toType}`, (each) => [
        asInts(run(each, 270, 333, 'bf16', toType, 1)),
      ]);
    }
  });

  it('takes views that begin anywhere', () => {
    build.expectSameForViews('transposePacked', (each) => [asInts(run(each, 27, 50, 'int8', 'bf16', 1))]);
  });
});

/** The bits of floats: a pair of bf16 may be a NaN, whose bits a comparison of numbers does not see. */
function asInts(floats: Float32Array): Int32Array {
  return new Int32Array(floats.buffer, floats.byteOffset, floats.length);
}

/** Normally distributed values: sums of twelve uniform ones (variance 1/3 each). */
function normalFloats(n: number, start: number): Float32Array {
  const uniform = randomFloats(12 * n, start);
  return Float32Array.from({ length: n }, (_, i) => {
    return uniform.subarray(12 * i, 12 * i + 12).reduce((sum, value) => sum + value, 0) / 2;
  });
}

/** [rows, columns] to [columns, rows]. */
function transpose(matrix: Float32Array, rows: number, columns: number): Float32Array {
  return matrix.map((_, i) => matrix[(i % rows) * columns + Math.floor(i / rows)]!);
}
