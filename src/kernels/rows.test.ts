/**
 * The ops that go row by row: gather and scatterAdd, rmsNorm, qkNorm, ropeStore, gatedUnit, dropout, scale, forward and
 * backward. Equal to the reference; a row has the same bits alone and in the batch. Over every build (ops-suite.ts).
 */
import * as fc from 'fast-check';
import { expect, it } from 'vitest';
import { hash32 } from '../lib/rng.ts';
import type { Activation, Ops } from './ops.ts';
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

interface QkNormCase {
  R: number;
  H: number;
  J: number;
  D: number;
  whole: boolean;
  start: number;
}

/** out, inverse; then dqkv, dWeightQ and dWeightK for the inverse of the reference. */
function runQkNorm(ops: Ops, { R, H, J, D, whole, start }: QkNormCase, from = 0, to = R): Float32Array[] {
  const width = (H + 2 * J) * D;
  const [rows, parts] = [to - from, whole ? 2 : H + J];
  const rowsOf = (seeds: number, scale: number): Float32Array =>
    randomFloats(R * width, seeds, scale).subarray(from * width, to * width);
  const [lengthQ, lengthK] = whole ? [H * D, J * D] : [D, D];
  const forward = (each: Ops): Float32Array[] =>
    withBuffers(each, ({ floats }) => {
      const [out, inverse] = [floats(rows * width), floats(rows * parts)];
      const weightQ = floats(randomFloats(lengthQ, start + 1));
      const weightK = floats(randomFloats(lengthK, start + 2));
      each.qkNorm(rows, H, J, D, whole, floats(rowsOf(start, 3)), weightQ, weightK, 1e-6, out, inverse);
      return [out.slice(), inverse.slice()];
    });
  const [, inverse] = forward(reference);
  const backward = withBuffers(ops, ({ floats }) => {
    const dOut = floats(rowsOf(start + 3, 1));
    const dWeightQ = floats(randomFloats(lengthQ, start + 4));
    const dWeightK = floats(randomFloats(lengthK, start + 5));
    ops.qkNormBackward(
      rows,
      H,
      J,
      D,
      whole,
      floats(rowsOf(start, 3)),
      floats(randomFloats(lengthQ, start + 1)),
      floats(randomFloats(lengthK, start + 2)),
      floats(inverse!),
      dOut,
      dWeightQ,
      dWeightK,
    );
    return [dOut.slice(), dWeightQ.slice(), dWeightK.slice()];
  });
  return [...forward(ops), ...backward];
}

function runGatedUnit(ops: Ops, F: number, activation: Activation, gateUp: Float32Array): Float32Array {
  const R = gateUp.length / (2 * F);
  return withBuffers(ops, ({ floats }) => {
    const out = floats(R * F);
    ops.gatedUnit(R, F, activation, floats(gateUp), out);
    return out.slice();
  });
}

function runGatedUnitBackward(
  ops: Ops,
  R: number,
  F: number,
  activation: Activation,
  start: number,
): Float32Array[] {
  return withBuffers(ops, ({ floats }) => {
    const dGateUp = floats(R * 2 * F);
    const out = floats(R * F);
    ops.gatedUnitBackward(
      R,
      F,
      activation,
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

describeBuilds('qkNorm', (build) => {
  const qkNormCase: fc.Arbitrary<QkNormCase> = fc
    .record({ R: size(12), heads, D: headSize, whole: fc.boolean(), start: seed })
    .map(({ heads: [H, J], ...rest }) => ({ ...rest, H, J }));

  build.itCompiled('equals the reference, forward and backward', () => {
    fc.assert(
      fc.property(qkNormCase, (c) => {
        const expected = runQkNorm(reference, c);
        runQkNorm(build.ops, c).forEach((values, i) => {
          const output = ['out', 'inverse', 'dqkv', 'dWeightQ', 'dWeightK'][i];
          // A weight of a head sums over up to twelve rows and nine heads.
          expectClose(`qkNorm ${output} ${JSON.stringify(c)}`, values, expected[i]!, SUMS);
        });
      }),
      RUNS,
    );
  });

  it('is rmsNorm of each head, or of all heads of a kind, to the bit', () => {
    for (const whole of [false, true]) {
      const c = { R: 3, H: 4, J: 2, D: 48, whole, start: 1 };
      const width = 8 * 48;
      const [out, inverse] = runQkNorm(build.ops, c);
      const qkv = randomFloats(3 * width, 1, 3);
      const parts = whole ? [0, 192, 288] : [0, 48, 96, 144, 192, 240, 288];
      for (let r = 0; r < 3; r++) {
        parts.slice(0, -1).forEach((column, part) => {
          const [from, to] = [r * width + column, r * width + parts[part + 1]!];
          const weight = randomFloats(to - from, column < 192 ? 2 : 3);
          const [normed, scale] = withBuffers(build.ops, ({ floats }) => {
            const [y, s] = [floats(to - from), floats(1)];
            build.ops.rmsNorm(1, to - from, floats(qkv.slice(from, to)), floats(weight), 1e-6, y, s);
            return [y.slice(), s.slice()];
          });
          expectBits(`row ${r} part ${part}`, out!.slice(from, to), normed);
          expectBits(`row ${r} part ${part} inverse`, [inverse![r * (parts.length - 1) + part]!], scale);
        });
        const [from, to] = [r * width + 288, (r + 1) * width];
        expectBits(`row ${r} values`, out!.slice(from, to), qkv.slice(from, to));
      }
    }
  });

  it('gives a row the same bits alone and in the batch', () => {
    for (const whole of [false, true]) {
      const c = { R: 5, H: 4, J: 2, D: 32, whole, start: 1 };
      const width = 8 * 32;
      const [out, , dqkv] = runQkNorm(build.ops, c);
      for (let r = 0; r < c.R; r++) {
        const [alone, , dAlone] = runQkNorm(build.ops, c, r, r + 1);
        expectBits(`qkNorm row ${r}`, alone!, out!.slice(r * width, (r + 1) * width));
        expectBits(`qkNormBackward row ${r}`, dAlone!, dqkv!.slice(r * width, (r + 1) * width));
      }
    }
  });

  build.itCompiled('gives the same bits for every thread count', () => {
    for (const whole of [false, true]) {
      const c = { R: 100, H: 4, J: 2, D: 64, whole, start: 1 };
      build.expectSameForThreads(`qkNorm ${JSON.stringify(c)}`, (each) => runQkNorm(each, c));
    }
  });

  it('takes views that begin anywhere', () => {
    const c = { R: 3, H: 2, J: 1, D: 16, whole: false, start: 1 };
    build.expectSameForViews('qkNorm', (each) => runQkNorm(each, c));
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

describeBuilds('gatedUnit', (build) => {
  const activations = ['silu', 'gelu'] as const;

  build.itCompiled('equals the reference, forward and backward', () => {
    fc.assert(
      fc.property(size(10), size(150), fc.constantFrom(...activations), seed, (R, F, activation, start) => {
        const label = `${activation} R=${R} F=${F}`;
        const gateUp = randomFloats(R * 2 * F, start, 6);
        const got = runGatedUnit(build.ops, F, activation, gateUp);
        expectClose(`gatedUnit ${label}`, got, runGatedUnit(reference, F, activation, gateUp), SUMS);
        const [dGateUp, out] = runGatedUnitBackward(build.ops, R, F, activation, start);
        const [expectedDGateUp] = runGatedUnitBackward(reference, R, F, activation, start);
        expectClose(`gatedUnitBackward dGateUp ${label}`, dGateUp!, expectedDGateUp!, SUMS);
        expectBits(`gatedUnitBackward out ${label} (as gatedUnit)`, out!, got);
      }),
      RUNS,
    );
  });

  it('holds for large gates', () => {
    const gateUp = Float32Array.from([100, -100, 1000, -1000, 0, 1, 1, 1, 1, 1]);
    for (const activation of activations) {
      const out = runGatedUnit(build.ops, 5, activation, gateUp);
      expectClose(activation, out, [100, 0, 1000, 0, 0], SUMS);
    }
  });

  it('gives a row the same bits alone and in the batch', () => {
    const [R, F] = [7, 45];
    const gateUp = randomFloats(R * 2 * F, 1, 4);
    for (const activation of activations) {
      const out = runGatedUnit(build.ops, F, activation, gateUp);
      for (let r = 0; r < R; r++) {
        const alone = runGatedUnit(build.ops, F, activation, gateUp.slice(r * 2 * F, (r + 1) * 2 * F));
        expectBits(`${activation} row ${r}`, alone, out.slice(r * F, (r + 1) * F));
      }
    }
  });

  build.itCompiled('gives the same bits for every thread count', () => {
    const gateUp = randomFloats(100 * 2 * 111, 1, 4);
    for (const activation of activations) {
      build.expectSameForThreads(activation, (each) => [runGatedUnit(each, 111, activation, gateUp)]);
      build.expectSameForThreads(`${activation}, backward`, (each) =>
        runGatedUnitBackward(each, 100, 111, activation, 2),
      );
    }
  });

  it('takes views that begin anywhere', () => {
    const gateUp = randomFloats(5 * 36, 3, 4);
    build.expectSameForViews('gatedUnit', (each) => [runGatedUnit(each, 18, 'gelu', gateUp)]);
    build.expectSameForViews('gatedUnitBackward', (each) => runGatedUnitBackward(each, 5, 18, 'gelu', 1));
  });
});

describeBuilds('dropout', (build) => {
  const run = (
    each: Ops,
    R: number,
    C: number,
    rate: number,
    rngSeed: number,
    firstRow: number,
  ): Float32Array =>
    withBuffers(each, ({ floats }) => {
      const inPlace = floats(randomFloats((firstRow + R) * C, 1).subarray(firstRow * C));
      each.dropout(R, C, inPlace, rate, rngSeed, firstRow, inPlace);
      return inPlace.slice();
    });

  it('drops where the hash of seed, row and column says, and divides the rest by what is kept', () => {
    for (const [R, C, rate, rngSeed] of [
      [3, 37, 0.25, 7],
      [1, 100, 0.1, 0xfedcba98],
      [20, 16, 0, 1],
    ] as const) {
      const x = randomFloats(R * C, 1);
      const expected = x.map((value, i) => {
        const dropped = hash32(rngSeed, Math.floor(i / C), i % C) < rate * 2 ** 32;
        return dropped ? 0 : value * Math.fround(1 / (1 - rate));
      });
      expectBits(`dropout ${R}x${C} ${rate}`, run(build.ops, R, C, rate, rngSeed, 0), expected);
    }
  });

  it('drops as many as the rate says', () => {
    const out = run(build.ops, 100, 100, 0.3, 5, 0);
    const dropped = out.filter((value) => value === 0).length;
    expect(Math.abs(dropped - 3000)).toBeLessThan(4 * Math.sqrt(10_000 * 0.3 * 0.7));
  });

  it('gives a row the same bits alone and in the batch', () => {
    const whole = run(build.ops, 6, 45, 0.5, 3, 0);
    for (let r = 0; r < 6; r++) {
      expectBits(`dropout row ${r}`, run(build.ops, 1, 45, 0.5, 3, r), whole.slice(r * 45, (r + 1) * 45));
    }
  });

  build.itCompiled('gives the same bits for every thread count', () => {
    build.expectSameForThreads('dropout', (each) => [run(each, 150, 301, 0.1, 3, 0)]);
  });

  it('takes views that begin anywhere', () => {
    build.expectSameForViews('dropout', (each) => [run(each, 5, 37, 0.1, 3, 0)]);
  });
});

describeBuilds('scale', (build) => {
  const run = (each: Ops, factor: number, x: ArrayLike<number>): Float32Array =>
    withBuffers(each, ({ floats }) => {
      const inPlace = floats(x);
      each.scale(x.length, factor, inPlace);
      return inPlace.slice();
    });

  it('multiplies by the factor rounded to f32, to the bit', () => {
    for (const n of [1, 37, 70_001]) {
      const x = randomFloats(n, n);
      const expected = x.map((value) => value * Math.fround(Math.sqrt(896)));
      expectBits(`scale n=${n}`, run(build.ops, Math.sqrt(896), x), expected);
      build.expectSameForThreads(`scale n=${n}`, (each) => [run(each, Math.sqrt(896), x)]);
    }
  });

  it('takes views that begin anywhere', () => {
    build.expectSameForViews('scale', (each) => [run(each, 0.3, randomFloats(37, 1))]);
  });
});
