/**
 * Conformance of the kernels: one suite over every build that loads.
 *
 * Each op is compared with the reference within a stated tolerance, over random shapes with odd sizes, tails
 * and single rows; then the properties that the engine stands on are checked to the bit: rows do not depend
 * on the rows beside them, on the cut into runs, on page layout or on the thread count.
 *
 * That the reference itself is right is reference.test.ts; argument checks are checked.test.ts.
 */
import * as fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { checkedOps } from './checked.ts';
import { explainKernels, loadKernels } from './load.ts';
import { ADDON_PATH, listNativeVariants, makeNativeOps } from './native.ts';
import type { Ops, PackedType, SampleRows } from './ops.ts';
import {
  expectBits,
  expectClose,
  layOut,
  makeNodes,
  makeRopeTable,
  randomFloats,
  randomInts,
  randomTokenRows,
  runAttention,
  runAttentionBackward,
  shifted,
  withBuffers,
} from './ops-testing.ts';
import type { AttentionCase, Tolerance, TreeNode } from './ops-testing.ts';
import { makeReferenceOps } from './reference.ts';

interface Build {
  name: string;
  open: (threads: number) => Promise<Ops>;
}

const reference = checkedOps(makeReferenceOps());

/** The reference and wasm always; native, in each variant that this CPU runs, where the addon is built. */
function listBuilds(): Build[] {
  const builds: Build[] = [
    { name: 'reference', open: (threads) => loadKernels({ build: 'reference', threads }) },
    { name: 'wasm', open: (threads) => loadKernels({ build: 'wasm', threads }) },
  ];
  const native = explainKernels().find(({ build }) => build === 'native');
  // Another build of the same addon: scripts/sanitize.mjs.
  const addon = process.env['R3_TEST_ADDON'] ?? ADDON_PATH;
  for (const variant of native?.available === true ? listNativeVariants(addon) : []) {
    builds.push({
      name: `native ${variant}`,
      open: async (threads) => checkedOps(makeNativeOps(threads, variant, addon)),
    });
  }
  return builds;
}

/** Fixed seed: a failure is found again. */
const RUNS = { numRuns: 30, seed: 1 };
const size = (most: number): fc.Arbitrary<number> => fc.integer({ min: 1, max: most });
const seed = fc.integer({ min: 1, max: 1e6 });
const packedType = fc.constantFrom<PackedType>('f32', 'bf16');
const headSize = fc.constantFrom(16, 32, 48, 64, 128);
/** Query heads and key/value heads. */
const heads = fc.constantFrom<[number, number]>([1, 1], [2, 1], [4, 2], [3, 3], [6, 2], [9, 3]);

/** One rounding: the same formula, perhaps with a fused multiply-add or another order of two products. */
const ROUNDING: Tolerance = { absolute: 1e-7, relative: 1e-6 };
/** An exponential by polynomial, or a sum of up to some hundred terms of size 1. */
const SUMS: Tolerance = { absolute: 1e-5, relative: 1e-5 };

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

function runRmsNorm(ops: Ops, R: number, C: number, x: Float32Array, weight: Float32Array): Float32Array[] {
  return withBuffers(ops, ({ floats }) => {
    const out = floats(R * C);
    const inverse = floats(R);
    ops.rmsNorm(R, C, floats(x), floats(weight), 1e-5, out, inverse);
    return [out.slice(), inverse.slice()];
  });
}

function runRmsNormBackward(ops: Ops, R: number, C: number, start: number): Float32Array[] {
  const x = randomFloats(R * C, start, 2);
  const weight = randomFloats(C, start + 1);
  const [, inverse] = runRmsNorm(reference, R, C, x, weight);
  return withBuffers(ops, ({ floats }) => {
    const dx = floats(randomFloats(R * C, start + 2));
    const dWeight = floats(randomFloats(C, start + 3));
    ops.rmsNormBackward(
      R,
      C,
      floats(x),
      floats(weight),
      floats(inverse!),
      floats(randomFloats(R * C, start + 4)),
      dx,
      dWeight,
    );
    return [dx.slice(), dWeight.slice()];
  });
}

/** Positions of R rows and a slot for each in its own page. */
function ropePlaces(R: number, start: number): { positions: Int32Array; slots: Int32Array } {
  const positions = randomInts(R, start, 64);
  return { positions, slots: positions.map((position, r) => (R - 1 - r) * 16 + (position % 16)) };
}

function runRopeStore(ops: Ops, R: number, H: number, J: number, D: number, start: number): Float32Array[] {
  const { positions, slots } = ropePlaces(R, start);
  return withBuffers(ops, ({ floats, ints }) => {
    const q = floats(R * H * D);
    const keyPages = floats(R * J * D * 16);
    const valuePages = floats(R * J * D * 16);
    const qkv = floats(randomFloats(R * (H + 2 * J) * D, start + 1));
    ops.ropeStore(
      R,
      H,
      J,
      D,
      qkv,
      ints(positions),
      ints(slots),
      floats(makeRopeTable(64, D)),
      q,
      keyPages,
      valuePages,
    );
    return [q.slice(), keyPages.slice(), valuePages.slice()];
  });
}

function runRopeStoreBackward(
  ops: Ops,
  R: number,
  H: number,
  J: number,
  D: number,
  start: number,
): Float32Array {
  const { positions, slots } = ropePlaces(R, start);
  return withBuffers(ops, ({ floats, ints }) => {
    const dqkv = floats(R * (H + 2 * J) * D);
    dqkv.fill(7); // It is overwritten.
    ops.ropeStoreBackward(
      R,
      H,
      J,
      D,
      floats(randomFloats(R * H * D, start + 2)),
      floats(randomFloats(R * J * D * 16, start + 3)),
      floats(randomFloats(R * J * D * 16, start + 4)),
      ints(positions),
      ints(slots),
      floats(makeRopeTable(64, D)),
      dqkv,
    );
    return dqkv.slice();
  });
}

function runSwiglu(ops: Ops, R: number, F: number, gateUp: Float32Array): Float32Array {
  return withBuffers(ops, ({ floats }) => {
    const out = floats(R * F);
    ops.swiglu(R, F, floats(gateUp), out);
    return out.slice();
  });
}

function runSwigluBackward(ops: Ops, R: number, F: number, start: number): Float32Array[] {
  return withBuffers(ops, ({ floats }) => {
    const dGateUp = floats(R * 2 * F);
    const out = floats(R * F);
    ops.swigluBackward(
      R,
      F,
      floats(randomFloats(R * 2 * F, start, 6)),
      floats(randomFloats(R * F, start + 1)),
      dGateUp,
      out,
    );
    return [dGateUp.slice(), out.slice()];
  });
}

function runLogprobs(
  ops: Ops,
  V: number,
  logits: Float32Array,
  targets: Int32Array,
  temperature: number,
): Float32Array[] {
  const R = targets.length;
  return withBuffers(ops, ({ floats, ints }) => {
    const logsumexp = floats(R);
    const logprob = floats(R);
    ops.logprobs(R, V, floats(logits), ints(targets), temperature, logsumexp, logprob);
    return [logsumexp.slice(), logprob.slice()];
  });
}

interface Filters {
  temperature: number;
  topK: number;
  topP: number;
  minP: number;
}

const NO_FILTER: Filters = { temperature: 1, topK: 0, topP: 1, minP: 0 };

/** Draws one token per uniform, each from the same V logits (or from a row of its own where there are more). */
function runSample(
  ops: Ops,
  V: number,
  logits: Float32Array,
  uniforms: readonly number[],
  filters: Filters,
): { tokens: Int32Array; logprob: Float32Array } {
  const R = uniforms.length;
  return withBuffers(ops, ({ floats, ints }) => {
    const all = floats(R * V);
    for (let r = 0; r < R; r++)
      all.set(logits.length === V ? logits : logits.subarray(r * V, (r + 1) * V), r * V);
    const rows: SampleRows = {
      temperature: floats(R).fill(filters.temperature),
      topK: ints(R).fill(filters.topK),
      topP: floats(R).fill(filters.topP),
      minP: floats(R).fill(filters.minP),
      uniform: floats(uniforms),
    };
    const tokens = ints(R);
    const logprob = floats(R);
    ops.sample(R, V, all, rows, tokens, logprob);
    return { tokens: tokens.slice(), logprob: logprob.slice() };
  });
}

/** n uniforms in the middle of n equal parts of [0, 1). */
const grid = (n: number): number[] => Array.from({ length: n }, (_, i) => (i + 0.5) / n);

function softmax(logits: Float32Array, temperature: number): number[] {
  const largest = Math.max(...logits);
  const weights = Array.from(logits, (l) => Math.exp((l - largest) / temperature));
  const total = weights.reduce((sum, w) => sum + w, 0);
  return weights.map((w) => w / total);
}

/** The tokens that the filters keep, by falling probability, with their probabilities made to sum to 1. */
function keptTokens(logits: Float32Array, filters: Filters): { token: number; p: number }[] {
  const sorted = softmax(logits, filters.temperature)
    .map((p, token) => ({ token, p }))
    .toSorted((a, b) => b.p - a.p || a.token - b.token);
  let before = 0;
  const kept = sorted.filter(({ p }, rank) => {
    const inTopK = filters.topK === 0 || rank < filters.topK;
    const inTopP = filters.topP === 1 || rank === 0 || before < filters.topP;
    const inMinP = p >= filters.minP * sorted[0]!.p;
    before += p;
    return inTopK && inTopP && inMinP;
  });
  const total = kept.reduce((sum, { p }) => sum + p, 0);
  return kept.map(({ token, p }) => ({ token, p: p / total }));
}

/** Random token trees: [length, parent] per node, in the order that layOut wants. */
const forest: fc.Arbitrary<TreeNode[]> = fc
  .array(fc.record({ length: size(23), up: fc.integer({ min: 0, max: 3 }), root: fc.boolean() }), {
    minLength: 1,
    maxLength: 5,
  })
  .map((nodes) => {
    let root = 0;
    return makeNodes(
      nodes.map(({ length, up, root: fresh }, i) => {
        if (i > 0 && !fresh) return [length, Math.max(root, i - 1 - up)] as const;
        root = i;
        return [length, -1] as const;
      }),
    );
  });

const attentionCase: fc.Arbitrary<AttentionCase> = fc
  .record({ nodes: forest, heads, headSize, rowsPerRun: fc.constantFrom(1, 5, 16, Infinity), seed })
  .map((c) => {
    const tokens = c.nodes.reduce((sum, node) => sum + node.tokens.length, 0);
    return layOut(c.nodes, randomTokenRows(tokens, c.heads[0], c.heads[1], c.headSize, c.seed), c.rowsPerRun);
  });

describe.each(listBuilds())('kernels, $name build', ({ name: buildName, open }) => {
  /** What compares with the reference, or varies threads, says nothing of the reference itself. */
  const itCompiled = (name: string, body: () => void | Promise<void>): void => {
    if (buildName !== 'reference') it(name, body);
  };
  const describeCompiled = (name: string, body: () => void): void => {
    if (buildName !== 'reference') describe(name, body);
  };
  let ops: Ops;
  let twoThreads: Ops;
  let threeThreads: Ops;
  beforeAll(async () => {
    [ops, twoThreads, threeThreads] = [await open(1), await open(2), await open(3)];
  });
  afterAll(() => {
    for (const each of [ops, twoThreads, threeThreads]) each?.close();
  });

  /** The op gives the same bits with 1, 2 and 3 threads. */
  function expectSameForThreads(label: string, run: (ops: Ops) => ArrayLike<number>[]): void {
    const expected = run(ops);
    for (const other of [twoThreads, threeThreads]) {
      run(other).forEach((values, i) =>
        expectBits(`${label} output ${i}, ${other.threads} threads`, values, expected[i]!),
      );
    }
  }

  describe('memory', () => {
    it('is zeroed, also where it was used before', () => {
      for (let round = 0; round < 3; round++) {
        const floats = ops.f32(1000);
        const ints = ops.i32(77);
        expect(floats.length).toBe(1000);
        expect(ints.length).toBe(77);
        expect(floats.every((value) => value === 0)).toBe(true);
        expect(ints.every((value) => value === 0)).toBe(true);
        floats.fill(1);
        ints.fill(1);
        ops.free(floats);
        ops.free(ints);
      }
    });

    it('is counted', () => {
      const before = ops.memory();
      const view = ops.f32(5000);
      const during = ops.memory();
      ops.free(view);
      const after = ops.memory();
      expect(during.bytes - before.bytes).toBeGreaterThanOrEqual(20000);
      expect(during.peakBytes).toBeGreaterThanOrEqual(during.bytes);
      expect(after.bytes).toBe(before.bytes);
      expect(after.peakBytes).toBe(during.peakBytes);
    });

    it('keeps its values while other memory comes and goes', () => {
      const kept = Array.from({ length: 20 }, (_, i) => ops.f32(100 + i).fill(i));
      const large = ops.f32(3_000_000).fill(-1);
      for (let i = 0; i < 20; i += 2) ops.free(kept[i]!);
      const more = Array.from({ length: 20 }, (_, i) => ops.f32(90 + i).fill(-2));
      for (let i = 1; i < 20; i += 2) expect(kept[i]!.every((value) => value === i)).toBe(true);
      expect(large.every((value) => value === -1)).toBe(true);
      for (let i = 1; i < 20; i += 2) ops.free(kept[i]!);
      for (const view of [large, ...more]) ops.free(view);
    });

    it('that cannot be had is an error no-memory', () => {
      expect(() => ops.f32(2 ** 50)).toThrow(expect.objectContaining({ code: 'no-memory' }));
    });
  });

  describe('gemm', () => {
    it('multiplies a small matrix as by hand', () => {
      const c = withBuffers(ops, ({ floats }) => {
        const packed = floats(ops.packedLength(2, 2, 'f32'));
        ops.pack(packed, floats([5, 6, 7, 8]), 2, 2, 2, 1, 'f32');
        const out = floats(4);
        ops.gemm(2, 2, 2, floats([1, 2, 3, 4]), 2, 1, packed, out, false, 'f32');
        return Array.from(out);
      });
      expect(c).toEqual([19, 22, 43, 50]);
    });

    itCompiled('equals the reference for every layout and type, with and without accumulation', () => {
      fc.assert(
        fc.property(gemmCase, (g) => {
          // Rounding of a sum of K products of size 1 in f32.
          const tolerance = { absolute: g.K * 2 ** -22, relative: 1e-6 };
          expectClose(`gemm ${JSON.stringify(g)}`, runGemm(ops, g), runGemm(reference, g), tolerance);
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
          const whole = runGemm(ops, g);
          const from = x % g.M;
          const to = from + 1 + (y % (g.M - from));
          expectBits(
            `${label} rows ${from}..${to}`,
            runGemm(ops, g, from, to),
            whole.slice(from * g.N, to * g.N),
          );
          expectBits(
            `${label} row ${from}`,
            runGemm(ops, g, from, from + 1),
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
            withBuffers(ops, ({ floats }) => {
              const packed = floats(ops.packedLength(K, N, type));
              const source = floats(transposed ? transpose(b, K, N) : b);
              ops.pack(packed, source, K, N, transposed ? 1 : N, transposed ? K : 1, type);
              const c = floats(M * N);
              const left = floats(transposed ? transpose(a, M, K) : a);
              ops.gemm(M, N, K, left, transposed ? 1 : K, transposed ? M : 1, packed, c, false, type);
              return c.slice();
            });
          expectBits(`gemm M=${M} N=${N} K=${K} ${type}`, product(true), product(false));
        }),
        RUNS,
      );
    });

    it('of no columns to sum over is zero, or adds nothing', () => {
      for (const accumulate of [false, true]) {
        const c = withBuffers(ops, ({ floats }) => {
          const out = floats([1, 2, 3]);
          ops.gemm(1, 3, 0, floats(0), 0, 1, floats(ops.packedLength(0, 3, 'f32')), out, accumulate, 'f32');
          return Array.from(out);
        });
        expect(c).toEqual(accumulate ? [1, 2, 3] : [0, 0, 0]);
      }
    });

    itCompiled('gives the same bits for every thread count', () => {
      for (const type of ['f32', 'bf16'] as const) {
        for (const M of [1, 150]) {
          const g = { ...LARGE_GEMM, M, N: 301, K: 260, accumulate: true, type };
          expectSameForThreads(`gemm ${JSON.stringify(g)}`, (each) => [runGemm(each, g)]);
        }
      }
    });
  });

  describeCompiled('gather and scatterAdd', () => {
    itCompiled('equal the reference to the bit', () => {
      fc.assert(
        fc.property(size(40), size(70), size(12), seed, (R, C, tableRows, start) => {
          const run = (each: Ops): Float32Array[] =>
            withBuffers(each, ({ floats, ints }) => {
              const table = floats(randomFloats(tableRows * C, start));
              const ids = ints(randomInts(R, start + 1, tableRows));
              const out = floats(R * C);
              each.gather(R, C, table, ids, out);
              each.scatterAdd(R, C, floats(randomFloats(R * C, start + 2)), ids, table);
              return [out.slice(), table.slice()];
            });
          const [out, table] = run(ops);
          const [expectedOut, expectedTable] = run(reference);
          expectBits(`gather R=${R} C=${C}`, out!, expectedOut!);
          expectBits(`scatterAdd R=${R} C=${C}`, table!, expectedTable!);
          expectSameForThreads(`gather, scatterAdd R=${R} C=${C}`, run);
        }),
        RUNS,
      );
    });
  });

  describe('rmsNorm', () => {
    itCompiled('equals the reference', () => {
      fc.assert(
        fc.property(size(20), size(200), seed, (R, C, start) => {
          const x = randomFloats(R * C, start, 3);
          const weight = randomFloats(C, start + 1);
          const [out, inverse] = runRmsNorm(ops, R, C, x, weight);
          const [expectedOut, expectedInverse] = runRmsNorm(reference, R, C, x, weight);
          expectClose(`rmsNorm inverse R=${R} C=${C}`, inverse!, expectedInverse!, SUMS);
          expectClose(`rmsNorm out R=${R} C=${C}`, out!, expectedOut!, SUMS);
        }),
        RUNS,
      );
    });

    it('gives a row the same bits alone and in the batch', () => {
      const [R, C] = [9, 77];
      const x = randomFloats(R * C, 1);
      const weight = randomFloats(C, 2);
      const [out] = runRmsNorm(ops, R, C, x, weight);
      for (let r = 0; r < R; r++) {
        const [alone] = runRmsNorm(ops, 1, C, x.slice(r * C, (r + 1) * C), weight);
        expectBits(`rmsNorm row ${r}`, alone!, out!.slice(r * C, (r + 1) * C));
      }
    });

    itCompiled('has the gradient of the reference', () => {
      fc.assert(
        fc.property(size(20), size(200), seed, (R, C, start) => {
          const [dx, dWeight] = runRmsNormBackward(ops, R, C, start);
          const [expectedDx, expectedDWeight] = runRmsNormBackward(reference, R, C, start);
          expectClose(`rmsNormBackward dx R=${R} C=${C}`, dx!, expectedDx!, SUMS);
          expectClose(`rmsNormBackward dWeight R=${R} C=${C}`, dWeight!, expectedDWeight!, SUMS);
        }),
        RUNS,
      );
    });

    itCompiled('gives the same bits for every thread count', () => {
      const x = randomFloats(150 * 129, 1);
      const weight = randomFloats(129, 2);
      expectSameForThreads('rmsNorm', (each) => runRmsNorm(each, 150, 129, x, weight));
      expectSameForThreads('rmsNormBackward', (each) => runRmsNormBackward(each, 150, 129, 3));
    });
  });

  describeCompiled('ropeStore', () => {
    itCompiled('equals the reference and leaves other slots alone', () => {
      fc.assert(
        fc.property(size(12), heads, headSize, seed, (R, [H, J], D, start) => {
          const label = `ropeStore R=${R} H=${H} J=${J} D=${D}`;
          const expected = runRopeStore(reference, R, H, J, D, start);
          runRopeStore(ops, R, H, J, D, start).forEach((values, i) => {
            expectClose(`${label} ${['q', 'keyPages', 'valuePages'][i]}`, values, expected[i]!, ROUNDING);
          });
        }),
        RUNS,
      );
    });

    itCompiled('has the gradient of the reference', () => {
      fc.assert(
        fc.property(size(12), heads, headSize, seed, (R, [H, J], D, start) => {
          expectClose(
            `ropeStoreBackward R=${R} H=${H} J=${J} D=${D}`,
            runRopeStoreBackward(ops, R, H, J, D, start),
            runRopeStoreBackward(reference, R, H, J, D, start),
            ROUNDING,
          );
        }),
        RUNS,
      );
    });

    itCompiled('gives the same bits for every thread count', () => {
      expectSameForThreads('ropeStore', (each) => runRopeStore(each, 60, 4, 2, 32, 1));
      expectSameForThreads('ropeStoreBackward', (each) => [runRopeStoreBackward(each, 60, 4, 2, 32, 1)]);
    });
  });

  describe('attention', () => {
    itCompiled('equals the reference over token trees, forward and backward', () => {
      fc.assert(
        fc.property(attentionCase, seed, (c, start) => {
          const { heads: H, kvHeads: J, headSize: D, runCount } = c.shape;
          const label = `R=${c.R} H=${H} J=${J} D=${D} runs=${runCount} trees=${c.treeCount}`;
          const expected = runAttention(reference, c);
          const got = runAttention(ops, c);
          expectClose(`attention out ${label}`, got.out, expected.out, SUMS);
          expectClose(`attention stats ${label}`, got.stats, expected.stats, SUMS);

          const dOut = randomFloats(c.q.length, start);
          const expectedGradients = runAttentionBackward(reference, c, expected, dOut);
          const gradients = runAttentionBackward(ops, c, expected, dOut);
          // Sums over up to a hundred rows and the heads of a group.
          const tolerance = { absolute: 5e-5, relative: 1e-5 };
          for (const name of ['dq', 'dKeyPages', 'dValuePages'] as const) {
            expectClose(
              `attentionBackward ${name} ${label}`,
              gradients[name],
              expectedGradients[name],
              tolerance,
            );
          }
        }),
        RUNS,
      );
    });

    it('leaves rows that no run covers as they are', () => {
      const rows = randomTokenRows(6, 2, 1, 16, 1);
      const c = layOut(makeNodes([[6, -1]]), rows);
      c.shape.runs.set([2, 3, 2, 0, 1]); // Rows 2, 3 and 4, at positions 2 to 4.
      const forward = withBuffers(ops, ({ floats, ints }) => {
        const out = floats(c.q.length).fill(5);
        const stats = floats(c.R * 4).fill(5);
        const shape = { ...c.shape, runs: ints(c.shape.runs), spans: ints(c.shape.spans) };
        ops.attention(c.R, shape, floats(c.q), floats(c.keyPages), floats(c.valuePages), out, stats);
        return { out: out.slice(), stats: stats.slice() };
      });
      const { dq } = runAttentionBackward(ops, c, forward, randomFloats(c.q.length, 1));
      expect(new Set(outsideRows2To4(forward.out, 32))).toEqual(new Set([5]));
      expect(new Set(outsideRows2To4(forward.stats, 4))).toEqual(new Set([5]));
      expect(new Set(outsideRows2To4(dq, 32))).toEqual(new Set([7]));
      expect(forward.out.slice(64, 160)).not.toContain(5);
      expect(dq.slice(64, 160)).not.toContain(7);
    });

    it('over a shared prefix equals attention over the flat sequence, to the bit', () => {
      fc.assert(
        fc.property(forest, heads, headSize, seed, (nodes, [H, J], D, start) => {
          const tokens = nodes.reduce((sum, node) => sum + node.tokens.length, 0);
          const rows = randomTokenRows(tokens, H, J, D, start);
          const tree = layOut(nodes, rows);
          const shared = runAttention(ops, tree);
          const width = H * D;
          nodes.forEach((leaf, index) => {
            const path = [...leaf.tokens];
            for (let at = leaf.parent; at !== -1; at = nodes[at]!.parent) path.unshift(...nodes[at]!.tokens);
            const flat = runAttention(ops, layOut([{ tokens: path, parent: -1 }], rows));
            path.forEach((token, row) => {
              const treeRow = tree.tokenOfRow.indexOf(token);
              const label = `attention node ${index} of ${JSON.stringify(nodes.map((n) => [n.tokens.length, n.parent]))} token ${token}`;
              expectBits(
                `${label} out`,
                shared.out.slice(treeRow * width, (treeRow + 1) * width),
                flat.out.slice(row * width, (row + 1) * width),
              );
              expectBits(
                `${label} stats`,
                shared.stats.slice(treeRow * H * 2, (treeRow + 1) * H * 2),
                flat.stats.slice(row * H * 2, (row + 1) * H * 2),
              );
            });
          });
        }),
        { ...RUNS, numRuns: 20 },
      );
    });

    it('gives the same bits for every cut into runs, forward and backward', () => {
      const nodes = makeNodes([
        [37, -1],
        [5, 0],
        [20, 0],
        [11, 2],
        [40, -1],
      ]);
      const rows = randomTokenRows(113, 6, 2, 32, 3);
      const whole = layOut(nodes, rows);
      const expected = runAttention(ops, whole);
      const dOut = randomFloats(whole.q.length, 4);
      const expectedGradients = runAttentionBackward(ops, whole, expected, dOut);
      for (const rowsPerRun of [1, 2, 3, 7, 16, 17]) {
        const cut = layOut(nodes, rows, rowsPerRun);
        const got = runAttention(ops, cut);
        expectBits(`attention out, ${rowsPerRun} rows per run`, got.out, expected.out);
        expectBits(`attention stats, ${rowsPerRun} rows per run`, got.stats, expected.stats);
        const gradients = runAttentionBackward(ops, cut, got, dOut);
        for (const name of ['dq', 'dKeyPages', 'dValuePages'] as const) {
          expectBits(
            `attentionBackward ${name}, ${rowsPerRun} rows per run`,
            gradients[name],
            expectedGradients[name],
          );
        }
      }
    });

    it('does not depend on what slots that a row does not see hold', () => {
      const nodes = makeNodes([
        [19, -1],
        [6, 0],
        [9, 0],
      ]);
      const c = layOut(nodes, randomTokenRows(34, 4, 2, 32, 1));
      const dirty = {
        ...c,
        keyPages: randomFloats(c.keyPages.length, 2, 50),
        valuePages: c.valuePages.slice(),
      };
      dirty.valuePages.set(randomFloats(c.valuePages.length, 3, 50));
      const used = new Set(c.slotOfToken);
      for (let i = 0; i < c.keyPages.length; i++) {
        const [page, key, value] = [Math.floor(i / 1024), i % 16, Math.floor(i / 32) % 16];
        if (used.has(page * 16 + key)) dirty.keyPages[i] = c.keyPages[i]!;
        if (used.has(page * 16 + value)) dirty.valuePages[i] = c.valuePages[i]!;
      }
      const dOut = randomFloats(c.q.length, 4);
      const [expected, got] = [runAttention(ops, c), runAttention(ops, dirty)];
      expectBits('attention out', got.out, expected.out);
      expectBits('attention stats', got.stats, expected.stats);
      const expectedGradients = runAttentionBackward(ops, c, expected, dOut);
      const gradients = runAttentionBackward(ops, dirty, expected, dOut);
      for (const name of ['dq', 'dKeyPages', 'dValuePages'] as const) {
        expectBits(`attentionBackward ${name}`, gradients[name], expectedGradients[name]);
      }
    });

    it('gives a tree the same gradients alone and beside another', () => {
      const first = makeNodes([
        [20, -1],
        [7, 0],
      ]);
      const both = makeNodes([
        [20, -1],
        [7, 0],
        [33, -1],
      ]);
      const rows = randomTokenRows(60, 4, 2, 32, 1);
      const [alone, beside] = [layOut(first, rows), layOut(both, rows)];
      const dOut = randomFloats(beside.q.length, 4);
      const run = (c: AttentionCase) =>
        runAttentionBackward(ops, c, runAttention(ops, c), dOut.slice(0, c.q.length));
      const [expected, got] = [run(alone), run(beside)];
      for (const name of ['dq', 'dKeyPages', 'dValuePages'] as const) {
        expectBits(`attentionBackward ${name}`, got[name].slice(0, expected[name].length), expected[name]);
      }
    });

    it('adds to the gradient pages', () => {
      const c = layOut(makeNodes([[20, -1]]), randomTokenRows(20, 2, 2, 16, 3));
      const forward = runAttention(reference, c);
      const dOut = randomFloats(c.q.length, 4);
      const once = runAttentionBackward(reference, c, forward, dOut);
      const twice = withBuffers(ops, ({ floats, ints }) => {
        const shape = { ...c.shape, runs: ints(c.shape.runs), spans: ints(c.shape.spans) };
        const dKeyPages = floats(c.keyPages.length);
        const dValuePages = floats(c.valuePages.length);
        const buffers = [c.q, c.keyPages, c.valuePages, forward.out, forward.stats, dOut, c.q].map(floats);
        const [q, keys, values, out, stats, g, dq] = buffers;
        const trees = ints(c.trees);
        for (let i = 0; i < 2; i++) {
          ops.attentionBackward(
            c.R,
            shape,
            trees,
            1,
            q!,
            keys!,
            values!,
            out!,
            stats!,
            g!,
            dq!,
            dKeyPages,
            dValuePages,
          );
        }
        return { dKeyPages: dKeyPages.slice(), dValuePages: dValuePages.slice() };
      });
      expectClose('attentionBackward dKeyPages, twice', twice.dKeyPages, double(once.dKeyPages), SUMS);
      expectClose('attentionBackward dValuePages, twice', twice.dValuePages, double(once.dValuePages), SUMS);
    });

    itCompiled('gives the same bits for every thread count', () => {
      const nodes = makeNodes([
        [50, -1],
        [30, 0],
        [21, 0],
        [70, -1],
        [33, -1],
      ]);
      const c = layOut(nodes, randomTokenRows(204, 6, 2, 32, 3));
      expectSameForThreads('attention', (each) => {
        const forward = runAttention(each, c);
        const gradients = runAttentionBackward(each, c, forward, randomFloats(c.q.length, 4));
        return [forward.out, forward.stats, gradients.dq, gradients.dKeyPages, gradients.dValuePages];
      });
    });
  });

  describe('swiglu', () => {
    itCompiled('equals the reference, forward and backward', () => {
      fc.assert(
        fc.property(size(10), size(150), seed, (R, F, start) => {
          const gateUp = randomFloats(R * 2 * F, start, 6);
          const expected = runSwiglu(reference, R, F, gateUp);
          expectClose(`swiglu R=${R} F=${F}`, runSwiglu(ops, R, F, gateUp), expected, SUMS);
          const [dGateUp, out] = runSwigluBackward(ops, R, F, start);
          const [expectedDGateUp] = runSwigluBackward(reference, R, F, start);
          expectClose(`swigluBackward dGateUp R=${R} F=${F}`, dGateUp!, expectedDGateUp!, SUMS);
          expectBits(`swigluBackward out R=${R} F=${F} (as swiglu)`, out!, runSwiglu(ops, R, F, gateUp));
        }),
        RUNS,
      );
    });

    it('holds for large gates', () => {
      const gateUp = Float32Array.from([100, -100, 1000, -1000, 0, 1, 1, 1, 1, 1]);
      expectClose('swiglu', runSwiglu(ops, 1, 5, gateUp), [100, 0, 1000, 0, 0], SUMS);
    });

    it('gives a row the same bits alone and in the batch', () => {
      const [R, F] = [7, 45];
      const gateUp = randomFloats(R * 2 * F, 1, 4);
      const out = runSwiglu(ops, R, F, gateUp);
      for (let r = 0; r < R; r++) {
        const alone = runSwiglu(ops, 1, F, gateUp.slice(r * 2 * F, (r + 1) * 2 * F));
        expectBits(`swiglu row ${r}`, alone, out.slice(r * F, (r + 1) * F));
      }
    });

    itCompiled('gives the same bits for every thread count', () => {
      const gateUp = randomFloats(100 * 2 * 111, 1, 4);
      expectSameForThreads('swiglu', (each) => [runSwiglu(each, 100, 111, gateUp)]);
      expectSameForThreads('swigluBackward', (each) => runSwigluBackward(each, 100, 111, 2));
    });
  });

  describe('logprobs', () => {
    const temperatures = fc.constantFrom(0.5, 0.7, 1, 1.3);

    itCompiled('equal the reference, forward and backward', () => {
      fc.assert(
        fc.property(size(10), size(300), temperatures, seed, (R, V, temperature, start) => {
          const label = `R=${R} V=${V} temperature=${temperature}`;
          const logits = randomFloats(R * V, start, 8);
          const targets = randomInts(R, start + 1, V);
          const [logsumexp, logprob] = runLogprobs(ops, V, logits, targets, temperature);
          const [expectedLogsumexp, expectedLogprob] = runLogprobs(
            reference,
            V,
            logits,
            targets,
            temperature,
          );
          expectClose(`logprobs logsumexp ${label}`, logsumexp!, expectedLogsumexp!, SUMS);
          expectClose(`logprobs logprob ${label}`, logprob!, expectedLogprob!, SUMS);

          const backward = (each: Ops): Float32Array =>
            withBuffers(each, ({ floats, ints }) => {
              const inPlace = floats(logits);
              const coefficient = floats(randomFloats(R, start + 2));
              each.logprobsBackward(
                R,
                V,
                inPlace,
                ints(targets),
                temperature,
                floats(expectedLogsumexp!),
                coefficient,
              );
              return inPlace.slice();
            });
          expectClose(`logprobsBackward ${label}`, backward(ops), backward(reference), SUMS);
        }),
        RUNS,
      );
    });

    it('hold for logits far from zero', () => {
      const logits = Float32Array.from([1000, 999, -1000, -Infinity]);
      const [, logprob] = runLogprobs(
        ops,
        4,
        Float32Array.from([...logits, ...logits]),
        Int32Array.from([0, 1]),
        1,
      );
      expectClose('logprobs', logprob!, [-0.313262, -1.313262], { absolute: 2e-4, relative: 0 });
    });

    it('give a row the same bits alone and in the batch', () => {
      const [R, V] = [9, 333];
      const logits = randomFloats(R * V, 1, 8);
      const targets = randomInts(R, 2, V);
      const [, logprob] = runLogprobs(ops, V, logits, targets, 0.7);
      for (let r = 0; r < R; r++) {
        const [, alone] = runLogprobs(ops, V, logits.slice(r * V, (r + 1) * V), targets.slice(r, r + 1), 0.7);
        expectBits(`logprobs row ${r}`, alone!, logprob!.slice(r, r + 1));
      }
    });

    it('are the log-probabilities that sampling reports, to the bit', () => {
      fc.assert(
        fc.property(
          size(300),
          // In hundredths: most are not f32 values, which is what SampleRows stores.
          fc.integer({ min: 0, max: 150 }),
          size(3),
          seed,
          (V, percent, topK, start) => {
            const temperature = percent / 100;
            const R = 8;
            const logits = randomFloats(R * V, start, 4);
            for (const filters of [
              { ...NO_FILTER, temperature },
              { ...NO_FILTER, temperature, topK, topP: 0.9, minP: 0.01 },
            ]) {
              const { tokens, logprob } = runSample(ops, V, logits, grid(R), filters);
              const [, scored] = runLogprobs(ops, V, logits, tokens, temperature || 1);
              expectBits(`sample logprob V=${V} ${JSON.stringify(filters)}`, logprob, scored!);
            }
          },
        ),
        { ...RUNS, examples: [[300, 85, 1, 1]] },
      );
    });

    itCompiled('give the same bits for every thread count', () => {
      const logits = randomFloats(60 * 501, 1, 8);
      const targets = randomInts(60, 2, 501);
      expectSameForThreads('logprobs', (each) => runLogprobs(each, 501, logits, targets, 0.9));
      expectSameForThreads('sample', (each) => {
        const { tokens, logprob } = runSample(each, 501, logits, grid(60), {
          ...NO_FILTER,
          topK: 20,
          topP: 0.9,
        });
        return [tokens, logprob];
      });
      expectSameForThreads('logprobsBackward', (each) =>
        withBuffers(each, ({ floats, ints }) => {
          const inPlace = floats(logits);
          const logsumexp = floats(runLogprobs(reference, 501, logits, targets, 0.9)[0]!);
          each.logprobsBackward(60, 501, inPlace, ints(targets), 0.9, logsumexp, floats(randomFloats(60, 3)));
          return [inPlace.slice()];
        }),
      );
    });
  });

  describe('sample', () => {
    it('draws each token as often as its probability says', () => {
      for (const [V, temperature] of [
        [13, 1],
        [13, 0.6],
        [50, 1.4],
      ] as const) {
        const logits = randomFloats(V, V, 3);
        const draws = 2000;
        const { tokens } = runSample(ops, V, logits, grid(draws), { ...NO_FILTER, temperature });
        softmax(logits, temperature).forEach((p, token) => {
          const count = tokens.filter((drawn) => drawn === token).length;
          // A token's part of [0, 1) holds its share of the grid, but for one point at each end.
          expect(
            Math.abs(count - p * draws),
            `token ${token}: expected ${p * draws}, got ${count}`,
          ).toBeLessThan(1.1);
        });
      }
    });

    it('goes through the tokens in ascending id where no filter is on, or top-k is the whole vocabulary', () => {
      for (const topK of [0, 40, 100]) {
        const { tokens } = runSample(ops, 40, randomFloats(40, 3, 2), grid(500), { ...NO_FILTER, topK });
        expect(tokens).toEqual(tokens.toSorted());
        expect(new Set(tokens).size).toBeGreaterThan(20);
      }
    });

    it('keeps the tokens that top-k, top-p and min-p keep, and draws them by falling probability', () => {
      fc.assert(
        fc.property(
          size(60),
          fc.constantFrom(0.6, 1, 1.5),
          fc.constantFrom(0, 1, 3, 10, 100),
          fc.constantFrom(0.3, 0.75, 0.95, 1),
          fc.constantFrom(0, 0.02, 0.2, 0.9),
          seed,
          (V, temperature, topK, topP, minP, start) => {
            const filters = { temperature, topK, topP, minP };
            fc.pre((topK > 0 && topK < V) || topP < 1 || minP > 0);
            const logits = randomFloats(V, start, 2);
            const kept = keptTokens(logits, filters);
            // The middle of each kept token's part of [0, 1).
            let sum = 0;
            const middles = kept.map(({ p }) => (sum += p) - p / 2);
            const { tokens } = runSample(ops, V, logits, middles, filters);
            const label = `sample tokens V=${V} ${JSON.stringify(filters)}`;
            expectBits(
              label,
              tokens,
              kept.map(({ token }) => token),
            );
          },
        ),
        { ...RUNS, numRuns: 80 },
      );
    });

    it('gives equal logits to the lower id first where a filter is on', () => {
      const logits = Float32Array.from([1, 2, 2, 1, 2, 0]);
      const { tokens } = runSample(ops, 6, logits, [0.1, 0.5, 0.9], { ...NO_FILTER, topK: 2 });
      expect([...tokens]).toEqual([1, 2, 2]);
    });

    it('keeps every token as likely as the likeliest at min-p 1', () => {
      const logits = Float32Array.from([1, 3, 2, 3, 0, 3]);
      const { tokens } = runSample(ops, 6, logits, [0.1, 0.5, 0.9], { ...NO_FILTER, minP: 1 });
      expect([...tokens]).toEqual([1, 3, 5]);
    });

    it('is greedy at temperature 0, with ties to the lowest id', () => {
      fc.assert(
        fc.property(size(200), size(6), seed, (V, levels, start) => {
          const logits = Float32Array.from(randomInts(V, start, levels), (level) => level - 3);
          const { tokens } = runSample(ops, V, logits, [0.99], { ...NO_FILTER, temperature: 0, topK: 5 });
          expect(tokens[0]).toBe(logits.indexOf(Math.max(...logits)));
        }),
        RUNS,
      );
    });

    it('never draws a token of probability 0', () => {
      const logits = Float32Array.from([-Infinity, 0, -Infinity, 0, -Infinity]);
      const { tokens } = runSample(ops, 5, logits, [0, 0.49, 0.51, 1 - 2 ** -24], NO_FILTER);
      expect([...tokens]).toEqual([1, 1, 3, 3]);
    });

    it('gives each row its own parameters', () => {
      const logits = Float32Array.from([0, 1, 2, 3]);
      const tokens = withBuffers(ops, ({ floats, ints }) => {
        const drawn = ints(3);
        const rows: SampleRows = {
          temperature: floats([0, 1, 1]),
          topK: ints([0, 0, 2]),
          topP: floats([1, 1, 1]),
          minP: floats([0, 0, 0]),
          uniform: floats([0, 0, 0.999]),
        };
        ops.sample(3, 4, floats([...logits, ...logits, ...logits]), rows, drawn, floats(3));
        return [...drawn];
      });
      expect(tokens).toEqual([3, 0, 2]);
    });
  });

  describeCompiled('adamW', () => {
    const scalars = {
      learningRate: 0.01,
      beta1: 0.9,
      beta2: 0.999,
      epsilon: 1e-8,
      weightDecay: 0.1,
      correction1: 1 - 0.9 ** 3,
      correction2: 1 - 0.999 ** 3,
      gradientScale: 0.5,
    };
    const run = (each: Ops, n: number, start: number): Float32Array[] =>
      withBuffers(each, ({ floats }) => {
        const [w, g, m] = [1, 2, 3].map((i) => floats(randomFloats(n, start + i)));
        const v = floats(randomFloats(n, start + 4).map(Math.abs));
        each.adamW(n, w!, g!, m!, v, scalars);
        return [w!.slice(), m!.slice(), v.slice()];
      });

    itCompiled('equals the reference', () => {
      fc.assert(
        fc.property(size(200), seed, (n, start) => {
          const expected = run(reference, n, start);
          run(ops, n, start).forEach((values, i) => {
            expectClose(`adamW ${['w', 'm', 'v'][i]} n=${n}`, values, expected[i]!, ROUNDING);
          });
        }),
        RUNS,
      );
    });

    itCompiled('gives the same bits for every thread count', () => {
      expectSameForThreads('adamW', (each) => run(each, 70_001, 1));
    });
  });

  describeCompiled('sumSquares', () => {
    itCompiled('equals the reference, over several blocks too', () => {
      for (const n of [0, 1, 7, 16, 1000, 65536, 65537, 200_003]) {
        const x = randomFloats(n, n + 1);
        const run = (each: Ops): number => withBuffers(each, ({ floats }) => each.sumSquares(n, floats(x)));
        expectClose(`sumSquares n=${n}`, [run(ops)], [run(reference)], { absolute: 0, relative: 1e-12 });
        expectSameForThreads(`sumSquares n=${n}`, (each) => [[run(each)]]);
      }
    });
  });

  it('ops take views that begin anywhere', () => {
    const moved = shifted(ops);
    const weight = randomFloats(37, 2);
    const logits = randomFloats(5 * 37, 3, 4);
    const targets = randomInts(5, 4, 37);
    const scalars = {
      learningRate: 0.01,
      beta1: 0.9,
      beta2: 0.99,
      epsilon: 1e-8,
      weightDecay: 0,
      correction1: 1,
      correction2: 1,
      gradientScale: 1,
    };
    const run: Record<string, (each: Ops) => Float32Array[]> = {
      rmsNorm: (each) => runRmsNorm(each, 5, 37, logits, weight),
      rmsNormBackward: (each) => runRmsNormBackward(each, 5, 37, 1),
      swiglu: (each) => [runSwiglu(each, 5, 18, logits)],
      swigluBackward: (each) => runSwigluBackward(each, 5, 18, 1),
      logprobs: (each) => runLogprobs(each, 37, logits, targets, 1),
      sample: (each) => [runSample(each, 37, logits, grid(5), NO_FILTER).logprob],
      adamW: (each) =>
        withBuffers(each, ({ floats }) => {
          const [w, g, m, v] = [1, 2, 3, 4].map((i) => floats(randomFloats(50, i).map(Math.abs)));
          each.adamW(50, w!, g!, m!, v!, scalars);
          return [w!.slice(), m!.slice(), v!.slice()];
        }),
      sumSquares: (each) =>
        withBuffers(each, ({ floats }) => [Float32Array.of(each.sumSquares(185, floats(logits)))]),
    };
    for (const [op, runOn] of Object.entries(run)) {
      const expected = runOn(ops);
      runOn(moved).forEach((values, i) => expectBits(`${op} output ${i}`, values, expected[i]!));
    }
  });

  it('measurePeak is a positive number of GFLOP/s', () => {
    expect(ops.measurePeak('f32', 0.01)).toBeGreaterThan(0);
  });
});

/** [rows, columns] to [columns, rows]. */
function transpose(matrix: Float32Array, rows: number, columns: number): Float32Array {
  return matrix.map((_, i) => matrix[(i % rows) * columns + Math.floor(i / rows)]!);
}

function double(values: Float32Array): Float32Array {
  return values.map((value) => 2 * value);
}

/** The values of a matrix outside rows 2, 3 and 4. */
function outsideRows2To4(matrix: Float32Array, columns: number): number[] {
  return [...matrix.slice(0, 2 * columns), ...matrix.slice(5 * columns)];
}
