import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { makeRng } from '../lib/rng.ts';
import { mcnemar, pairedBootstrap, pairedDifference, passAtK, spreadOf, wilson } from './statistics.ts';

const options = { draws: 500, seed: 7 };
const vector = fc.array(fc.boolean(), { minLength: 1, maxLength: 60 });

test('the Wilson interval of 1 in 10 is that of statsmodels, of 1444 in 2000 that of the published form', () => {
  const small = wilson(1, 10);
  expect(small.low).toBeCloseTo(0.01787621, 8);
  expect(small.high).toBeCloseTo(0.40415003, 8);
  expect(wilson(1444, 2000)).toMatchObject({ rate: 0.722, n: 2000 });
  expect(wilson(1444, 2000).low).toBeCloseTo(0.702, 3);
  expect(wilson(1444, 2000).high).toBeCloseTo(0.7412, 3);
});

test('the Wilson interval contains the rate, lies in [0, 1] and mirrors when passes and failures change places', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 5000 }), fc.double({ min: 0, max: 1, noNaN: true }), (n, share) => {
      const passes = Math.round(share * n);
      const { rate, low, high } = wilson(passes, n);
      expect(low).toBeLessThanOrEqual(rate);
      expect(high).toBeGreaterThanOrEqual(rate);
      expect(low).toBeGreaterThanOrEqual(0);
      expect(high).toBeLessThanOrEqual(1);
      expect(wilson(n - passes, n).low).toBeCloseTo(1 - high, 12);
    }),
  );
});

test('without data the intervals are as wide as can be', () => {
  expect(wilson(0, 0)).toEqual({ rate: Number.NaN, low: 0, high: 1, n: 0 });
  expect(pairedBootstrap([], [], options)).toEqual({ diff: Number.NaN, low: -1, high: 1, n: 0 });
});

test('the difference of a vector with itself is exactly 0', () => {
  fc.assert(
    fc.property(vector, (a) => {
      expect(pairedBootstrap(a, [...a], options)).toEqual({ diff: 0, low: 0, high: 0, n: a.length });
    }),
  );
});

test('changing sides changes the sign, and the same seed gives the same interval', () => {
  fc.assert(
    fc.property(vector, fc.nat(), (a, seed) => {
      const rng = makeRng(seed);
      const b = a.map(() => rng.next() < 0.5);
      const forth = pairedBootstrap(a, b, options);
      const back = pairedBootstrap(b, a, options);
      expect(back.diff).toBeCloseTo(-forth.diff, 12);
      expect(back.low).toBeCloseTo(-forth.high, 12);
      expect(back.high).toBeCloseTo(-forth.low, 12);
      expect(pairedBootstrap(a, b, options)).toEqual(forth);
    }),
  );
});

test('the bootstrap interval of 2000 pairs is near the normal one', () => {
  const rng = makeRng(11);
  const a = Array.from({ length: 2000 }, () => rng.next() < 0.7);
  const b = a.map((pass) => (rng.next() < 0.6 ? pass : rng.next() < 0.5));
  const { diff, low, high } = pairedBootstrap(a, b, { draws: 2000, seed: 1 });
  const differences = a.map((value, i) => Number(value) - Number(b[i]));
  const variance = differences.reduce((sum, value) => sum + (value - diff) ** 2, 0) / 2000;
  const half = 1.96 * Math.sqrt(variance / 2000);
  expect(Math.abs(low - (diff - half))).toBeLessThan(0.1 * half);
  expect(Math.abs(high - (diff + half))).toBeLessThan(0.1 * half);
});

test('numbers and booleans mean the same', () => {
  expect(pairedBootstrap([1, 0, 1], [0, 0, 1], options)).toEqual(
    pairedBootstrap([true, false, true], [false, false, true], options),
  );
});

test('pass@k equals the share of k-subsets that hold a pass', () => {
  const choose = (n: number, k: number): number => (k === 0 ? 1 : k > n ? 0 : (choose(n - 1, k - 1) * n) / k);
  for (let n = 1; n <= 12; n++) {
    for (let c = 0; c <= n; c++) {
      for (let k = 1; k <= n; k++)
        expect(passAtK(n, c, k)).toBeCloseTo(1 - choose(n - c, k) / choose(n, k), 12);
    }
  }
  expect(passAtK(10, 3, 1)).toBeCloseTo(0.3, 12);
  expect(passAtK(5, 0, 3)).toBe(0);
  expect(passAtK(2000, 1, 1000)).toBeCloseTo(0.5, 12);
});

/** Outcomes of which b are passed by the first alone, c by the second alone, and some by both or none. */
function discordant(b: number, c: number): [boolean[], boolean[]] {
  const repeat = (count: number, value: boolean): boolean[] => Array.from({ length: count }, () => value);
  return [
    [...repeat(b, true), ...repeat(c, false), true, false],
    [...repeat(b, false), ...repeat(c, true), true, false],
  ];
}

// Exact binomial tail, computed with whole fractions.
test.each([
  [10, 2, 0.03857421875],
  [0, 5, 0.0625],
  [25, 9, 0.00904118549078703],
  [700, 600, 0.0060157938610449525],
  [1500, 1100, 4.495802559500827e-15],
  [3, 3, 1],
  [1, 0, 1],
  [0, 0, 1],
])('McNemar: %d against %d gives p = %d', (b, c, p) => {
  const tested = mcnemar(...discordant(b, c));
  expect(tested).toMatchObject({ b, c });
  expect(tested.p / p).toBeCloseTo(1, 9);
  expect(mcnemar(...(discordant(b, c).toReversed() as [boolean[], boolean[]])).p).toBeCloseTo(tested.p, 12);
});

test('a paired difference is the bootstrap with the test beside it', () => {
  const [a, b] = discordant(10, 2);
  expect(pairedDifference(a, b, options)).toEqual({
    ...pairedBootstrap(a, b, options),
    mcnemar: mcnemar(a, b),
  });
});

test('a spread has mean, range and standard error over the seeds, and an interval that holds the mean', () => {
  const spread = spreadOf(
    [
      [1, 0, 1, 0],
      [1, 1, 1, 0],
      [1, 1, 1, 1],
    ],
    options,
  );
  expect(spread).toMatchObject({ mean: 0.75, min: 0.5, max: 1, seeds: 3 });
  // The standard deviation of 0.5, 0.75 and 1 is 0.25.
  expect(spread.standardError).toBeCloseTo(0.25 / Math.sqrt(3), 12);
  expect(spread.low).toBeLessThan(0.75);
  expect(spread.high).toBeGreaterThan(0.75);
});

test('of one seed the interval is that of its problems, and an unknown value counts nowhere', () => {
  const rng = makeRng(5);
  const passes = Array.from({ length: 400 }, () => Number(rng.next() < 0.3));
  const { rate, low, high } = wilson(
    passes.reduce((sum, pass) => sum + pass, 0),
    400,
  );
  const spread = spreadOf([[...passes, Number.NaN]], options);
  expect(spread).toMatchObject({ mean: rate, min: rate, max: rate, standardError: Number.NaN });
  expect(Math.abs(spread.low - low)).toBeLessThan(0.01);
  expect(Math.abs(spread.high - high)).toBeLessThan(0.01);
  expect(spreadOf([[Number.NaN]], options)).toMatchObject({ mean: Number.NaN, seeds: 0 });
});

test('seeds that disagree widen the interval of their mean', () => {
  const always = [Array.from({ length: 100 }, () => 1), Array.from({ length: 100 }, () => 0)];
  expect(spreadOf(always, options)).toMatchObject({ mean: 0.5, low: 0, high: 1 });
});
