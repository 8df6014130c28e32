/**
 * The ops that go row by row: gather and scatterAdd, rmsNorm, ropeStore, swiglu, forward and backward. Equal to
 * the reference; a row has the same bits alone and in the batch. Over every build (ops-suite.ts).
 */
import * as fc from 'fast-check';
import { it } from 'vitest';
import type { Ops } from './ops.ts';
import {
  describeBuilds,
  describeCompiled,
  heads,
  headSize,
  reference,
  ROUNDING,
  RUNS,
  seed,
  size,
  SUMS,
} from './ops-suite.ts';
import {
  expectBits,
  expectClose,
  makeRopeTable,
  randomFloats,
  randomInts,
  withBuffers,
} from './ops-testing.ts';

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

describeCompiled('gather and scatterAdd', (build) => {
  it('equal the reference to the bit', () => {
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
        const [out, table] = run(build.ops);
        const [expectedOut, expectedTable] = run(reference);
        expectBits(`gather R=${R} C=${C}`, out!, expectedOut!);
        expectBits(`scatterAdd R=${R} C=${C}`, table!, expectedTable!);
        build.expectSameForThreads(`gather, scatterAdd R=${R} C=${C}`, run);
      }),
      RUNS,
    );
  });
});

describeBuilds('rmsNorm', (build) => {
  build.itCompiled('equals the reference', () => {
    fc.assert(
      fc.property(size(20), size(200), seed, (R, C, start) => {
        const x = randomFloats(R * C, start, 3);
        const weight = randomFloats(C, start + 1);
        const [out, inverse] = runRmsNorm(build.ops, R, C, x, weight);
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
    const [out] = runRmsNorm(build.ops, R, C, x, weight);
    for (let r = 0; r < R; r++) {
      const [alone] = runRmsNorm(build.ops, 1, C, x.slice(r * C, (r + 1) * C), weight);
      expectBits(`rmsNorm row ${r}`, alone!, out!.slice(r * C, (r + 1) * C));
    }
  });

  build.itCompiled('has the gradient of the reference', () => {
    fc.assert(
      fc.property(size(20), size(200), seed, (R, C, start) => {
        const [dx, dWeight] = runRmsNormBackward(build.ops, R, C, start);
        const [expectedDx, expectedDWeight] = runRmsNormBackward(reference, R, C, start);
        expectClose(`rmsNormBackward dx R=${R} C=${C}`, dx!, expectedDx!, SUMS);
        expectClose(`rmsNormBackward dWeight R=${R} C=${C}`, dWeight!, expectedDWeight!, SUMS);
      }),
      RUNS,
    );
  });

  build.itCompiled('gives the same bits for every thread count', () => {
    const x = randomFloats(150 * 129, 1);
    const weight = randomFloats(129, 2);
    build.expectSameForThreads('rmsNorm', (each) => runRmsNorm(each, 150, 129, x, weight));
    build.expectSameForThreads('rmsNormBackward', (each) => runRmsNormBackward(each, 150, 129, 3));
  });

  it('takes views that begin anywhere', () => {
    const x = randomFloats(5 * 37, 3, 4);
    const weight = randomFloats(37, 2);
    build.expectSameForViews('rmsNorm', (each) => runRmsNorm(each, 5, 37, x, weight));
    build.expectSameForViews('rmsNormBackward', (each) => runRmsNormBackward(each, 5, 37, 1));
  });
});

describeCompiled('ropeStore', (build) => {
  it('equals the reference and leaves other slots alone', () => {
    fc.assert(
      fc.property(size(12), heads, headSize, seed, (R, [H, J], D, start) => {
        const label = `ropeStore R=${R} H=${H} J=${J} D=${D}`;
        const expected = runRopeStore(reference, R, H, J, D, start);
        runRopeStore(build.ops, R, H, J, D, start).forEach((values, i) => {
          expectClose(`${label} ${['q', 'keyPages', 'valuePages'][i]}`, values, expected[i]!, ROUNDING);
        });
      }),
      RUNS,
    );
  });

  it('has the gradient of the reference', () => {
    fc.assert(
      fc.property(size(12), heads, headSize, seed, (R, [H, J], D, start) => {
        expectClose(
          `ropeStoreBackward R=${R} H=${H} J=${J} D=${D}`,
          runRopeStoreBackward(build.ops, R, H, J, D, start),
          runRopeStoreBackward(reference, R, H, J, D, start),
          ROUNDING,
        );
      }),
      RUNS,
    );
  });

  it('gives the same bits for every thread count', () => {
    build.expectSameForThreads('ropeStore', (each) => runRopeStore(each, 60, 4, 2, 32, 1));
    build.expectSameForThreads('ropeStoreBackward', (each) => [runRopeStoreBackward(each, 60, 4, 2, 32, 1)]);
  });

  it('takes views that begin anywhere', () => {
    build.expectSameForViews('ropeStore', (each) => runRopeStore(each, 5, 2, 1, 16, 1));
    build.expectSameForViews('ropeStoreBackward', (each) => [runRopeStoreBackward(each, 5, 2, 1, 16, 1)]);
  });
});

describeBuilds('swiglu', (build) => {
  build.itCompiled('equals the reference, forward and backward', () => {
    fc.assert(
      fc.property(size(10), size(150), seed, (R, F, start) => {
        const gateUp = randomFloats(R * 2 * F, start, 6);
        const expected = runSwiglu(reference, R, F, gateUp);
        expectClose(`swiglu R=${R} F=${F}`, runSwiglu(build.ops, R, F, gateUp), expected, SUMS);
        const [dGateUp, out] = runSwigluBackward(build.ops, R, F, start);
        const [expectedDGateUp] = runSwigluBackward(reference, R, F, start);
        expectClose(`swigluBackward dGateUp R=${R} F=${F}`, dGateUp!, expectedDGateUp!, SUMS);
        expectBits(`swigluBackward out R=${R} F=${F} (as swiglu)`, out!, runSwiglu(build.ops, R, F, gateUp));
      }),
      RUNS,
    );
  });

  it('holds for large gates', () => {
    const gateUp = Float32Array.from([100, -100, 1000, -1000, 0, 1, 1, 1, 1, 1]);
    expectClose('swiglu', runSwiglu(build.ops, 1, 5, gateUp), [100, 0, 1000, 0, 0], SUMS);
  });

  it('gives a row the same bits alone and in the batch', () => {
    const [R, F] = [7, 45];
    const gateUp = randomFloats(R * 2 * F, 1, 4);
    const out = runSwiglu(build.ops, R, F, gateUp);
    for (let r = 0; r < R; r++) {
      const alone = runSwiglu(build.ops, 1, F, gateUp.slice(r * 2 * F, (r + 1) * 2 * F));
      expectBits(`swiglu row ${r}`, alone, out.slice(r * F, (r + 1) * F));
    }
  });

  build.itCompiled('gives the same bits for every thread count', () => {
    const gateUp = randomFloats(100 * 2 * 111, 1, 4);
    build.expectSameForThreads('swiglu', (each) => [runSwiglu(each, 100, 111, gateUp)]);
    build.expectSameForThreads('swigluBackward', (each) => runSwigluBackward(each, 100, 111, 2));
  });

  it('takes views that begin anywhere', () => {
    const gateUp = randomFloats(5 * 37, 3, 4);
    build.expectSameForViews('swiglu', (each) => [runSwiglu(each, 5, 18, gateUp)]);
    build.expectSameForViews('swigluBackward', (each) => runSwigluBackward(each, 5, 18, 1));
  });
});
