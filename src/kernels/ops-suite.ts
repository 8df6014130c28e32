/**
 * The conformance suite of the kernels: how its tests run over every build that loads, and what they compare with.
 *
 * Each op is compared with the reference within a stated tolerance, over random shapes with odd sizes, tails
 * and single rows; then the properties that the engine stands on are checked to the bit: rows do not depend
 * on the rows beside them, on the cut into runs, on page layout, on where a view begins or on the thread count.
 *
 * The tests are in memory, gemm, rows, attention, logits and optimizer.test.ts. That the reference itself is right
 * is reference.test.ts; argument checks are checked.test.ts.
 */
import * as fc from 'fast-check';
import { afterAll, beforeAll, describe, it } from 'vitest';
import { checkedOps } from './checked.ts';
import { explainKernels, loadKernels } from './load.ts';
import { ADDON_PATH, listNativeVariants, makeNativeOps } from './native.ts';
import type { Ops, PackedType } from './ops.ts';
import { expectBits, shifted } from './ops-testing.ts';
import type { Tolerance } from './ops-testing.ts';
import { makeReferenceOps } from './reference.ts';

export const reference = checkedOps(makeReferenceOps());

/** Fixed seed: a failure is found again. */
export const RUNS = { numRuns: 30, seed: 1 };
export const size = (most: number): fc.Arbitrary<number> => fc.integer({ min: 1, max: most });
export const seed = fc.integer({ min: 1, max: 1e6 });
export const packedType = fc.constantFrom<PackedType>('f32', 'bf16', 'int8');
export const headSize = fc.constantFrom(16, 32, 48, 64, 128);
/** Query heads and key/value heads. */
export const heads = fc.constantFrom<[number, number]>([1, 1], [2, 1], [4, 2], [3, 3], [6, 2], [9, 3]);

/** One rounding: the same formula, perhaps with a fused multiply-add or another order of two products. */
export const ROUNDING: Tolerance = { absolute: 1e-7, relative: 1e-6 };
/** An exponential by polynomial, or a sum of up to some hundred terms of size 1. */
export const SUMS: Tolerance = { absolute: 1e-5, relative: 1e-5 };

/** A build under test. */
export interface Build {
  /** With one thread. Open while tests run, not while they are collected. */
  readonly ops: Ops;
  /** A test that says nothing of the reference itself: it compares with it, or varies threads. */
  itCompiled(name: string, body: () => void): void;
  /** The op gives the same bits with 1, 2 and 3 threads. */
  expectSameForThreads(label: string, run: (ops: Ops) => ArrayLike<number>[]): void;
  /** The op gives the same bits in memory that begins one float after an allocation. */
  expectSameForViews(label: string, run: (ops: Ops) => ArrayLike<number>[]): void;
}

/** Declares the tests of an op for every build. */
export function describeBuilds(op: string, body: (build: Build) => void): void {
  for (const source of listSources()) describeBuild(op, source, body);
}

/** Declares the tests of an op whose every test compares with the reference: for every build but that. */
export function describeCompiled(op: string, body: (build: Build) => void): void {
  for (const source of listSources()) if (source.name !== 'reference') describeBuild(op, source, body);
}

interface Source {
  name: string;
  open: (threads: number) => Promise<Ops>;
}

/** The reference and wasm always; native, in each variant that this CPU runs, where the addon is built. */
function listSources(): Source[] {
  const sources: Source[] = [
    { name: 'reference', open: (threads) => loadKernels({ build: 'reference', threads }) },
    { name: 'wasm', open: (threads) => loadKernels({ build: 'wasm', threads }) },
  ];
  const native = explainKernels().find(({ build }) => build === 'native');
  // Another build of the same addon: scripts/sanitize.mjs.
  const addon = process.env['R3_TEST_ADDON'] ?? ADDON_PATH;
  for (const variant of native?.available === true ? listNativeVariants(addon) : []) {
    sources.push({
      name: `native ${variant}`,
      open: async (threads) => checkedOps(makeNativeOps(threads, variant, addon)),
    });
  }
  return sources;
}

function describeBuild(op: string, { name, open }: Source, body: (build: Build) => void): void {
  describe(`kernels, ${name} build, ${op}`, () => {
    let oneThread: Ops;
    let moreThreads: Ops[] = [];
    beforeAll(async () => {
      oneThread = await open(1);
      moreThreads = [await open(2), await open(3)];
    });
    afterAll(() => {
      for (const ops of [oneThread, ...moreThreads]) ops?.close();
    });

    body({
      get ops() {
        return oneThread;
      },
      itCompiled: (test, run) => {
        if (name !== 'reference') it(test, run);
      },
      expectSameForThreads: (label, run) => {
        const expected = run(oneThread);
        for (const other of moreThreads) {
          run(other).forEach((values, i) =>
            expectBits(`${label} output ${i}, ${other.threads} threads`, values, expected[i]!),
          );
        }
      },
      expectSameForViews: (label, run) => {
        const expected = run(oneThread);
        run(shifted(oneThread)).forEach((values, i) =>
          expectBits(`${label} output ${i}, shifted`, values, expected[i]!),
        );
      },
    });
  });
}
