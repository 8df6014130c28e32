import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { attemptsAtEqualTokens, beforeAfter, compare, summarise, writtenByTrained } from './controls.ts';
import type { EvaluationRow, Trial } from './controls.ts';

const options = { draws: 200, seed: 1 };
const trial = (passed: boolean | null, tokens = 8): Trial => ({ passed, tokens });
const passed = (problem: string, fresh: (boolean | null)[] = []): EvaluationRow => ({
  problem,
  firstTry: trial(true),
  secondTry: null,
  secondTryWithoutReflection: null,
  afterFixedText: null,
  afterForeignReflection: null,
  freshAttempts: fresh.map((pass) => trial(pass)),
});
const failed = (
  problem: string,
  second: boolean | null,
  control: boolean,
  fresh: (boolean | null)[] = [],
): EvaluationRow => ({
  problem,
  firstTry: trial(false),
  secondTry: trial(second, 40),
  secondTryWithoutReflection: trial(control),
  afterFixedText: trial(control),
  afterForeignReflection: trial(control),
  freshAttempts: fresh.map((pass) => trial(pass)),
});

const rows = [
  passed('a', [true, false, false]),
  passed('b', [false, false, false]),
  failed('c', true, false, [true, false, false]),
  failed('d', false, true, [false, false, true]),
];

test('four problems, worked by hand', () => {
  const summary = summarise(rows);
  expect(summary.firstTry).toMatchObject({ rate: 0.5, n: 4 });
  expect(summary.secondTry).toMatchObject({ rate: 0.75, n: 4 });
  expect(summary.secondTryWithoutReflection.rate).toBe(0.75);
  expect(summary.twoIndependent).toMatchObject({ rate: 0.75, n: 4 });
  // Two tries cost (4 * 8 + 2 * 40) / 4 = 28 tokens, an attempt 8: ceil(3.5) attempts.
  expect(summary.meanTokens).toEqual({ attempt: 8, twoTries: 28 });
  expect(summary.attemptsAtEqualTokens).toBe(4);
  expect(summary.independentAtEqualTokens.rate).toBe(1);
  expect(summary.passAtK).toEqual([
    { k: 1, rate: 5 / 16, n: 4 },
    { k: 2, rate: expect.closeTo((5 / 6 + 3 / 6 + 3 / 6 + 3 / 6) / 4, 12), n: 4 },
    { k: 4, rate: 1, n: 4 },
  ]);
});

test('a control that was not run has no rate, not the passes of the first try', () => {
  const { afterForcedBeginning } = summarise(rows);
  expect(afterForcedBeginning).toEqual({ rate: Number.NaN, low: 0, high: 1, n: 0 });
  const greedy = summarise([passed('a'), failed('b', true, false)]);
  expect(greedy.twoIndependent.n).toBe(0);
  expect(JSON.parse(JSON.stringify(greedy)).twoIndependent.rate).toBeNull();
  expect(
    summarise(
      rows.map((row) => ({ ...row, afterForcedBeginning: row.firstTry.passed ? null : trial(true) })),
    ),
  ).toMatchObject({ afterForcedBeginning: { rate: 1, n: 4 } });
});

test('an unscored problem is left out of the rates it would enter', () => {
  const summary = summarise([
    ...rows,
    failed('e', null, true, [null]),
    { problem: 'f', firstTry: trial(null), secondTry: null, freshAttempts: [] },
  ]);
  expect(summary.firstTry).toMatchObject({ rate: 2 / 5, n: 5 });
  expect(summary.secondTry).toMatchObject({ rate: 3 / 4, n: 4 });
  expect(summary.afterFixedText).toMatchObject({ rate: 4 / 5, n: 5 });
  expect(summary.twoIndependent.n).toBe(4);
});

test('a second try that is due and missing is refused by name', () => {
  expect(() => summarise([{ ...failed('c', true, true), afterFixedText: null }])).toThrow(
    'afterFixedText of problem c: expected a trial, because the first try failed, got null',
  );
});

test('attempts at equal tokens are at least 2 and grow with the cost of reflecting', () => {
  expect(attemptsAtEqualTokens([])).toBe(2);
  expect(attemptsAtEqualTokens([passed('a'), passed('b')])).toBe(2);
  expect(attemptsAtEqualTokens([failed('a', true, true)])).toBe(6);
  // Two tries of 18 tokens where an attempt has 8: two attempts would have fewer.
  const row = { firstTry: { passed: false, tokens: 8 }, secondTry: { passed: true, tokens: 10 } };
  expect(attemptsAtEqualTokens([row])).toBe(3);
  expect(attemptsAtEqualTokens([{ ...row, secondTry: { passed: true, tokens: 8 } }])).toBe(2);
  // Too few attempts were sampled: not measured, rather than measured with fewer.
  expect(summarise([failed('a', true, true, [false, true])]).independentAtEqualTokens.n).toBe(0);
});

test('a second try is never below the first, nor two attempts below one', () => {
  const row = fc
    .tuple(fc.boolean(), fc.boolean(), fc.boolean(), fc.boolean())
    .map(([first, second, control, fresh]) =>
      first ? passed('p', [fresh]) : failed('p', second, control, [fresh]),
    );
  fc.assert(
    fc.property(fc.array(row, { minLength: 1, maxLength: 20 }), (some) => {
      const summary = summarise(some);
      for (const name of ['secondTry', 'secondTryWithoutReflection', 'twoIndependent'] as const) {
        expect(summary[name].rate).toBeGreaterThanOrEqual(summary.firstTry.rate);
        expect(summary[name].n).toBe(some.length);
      }
      const same = compare(some, some, options);
      expect(same.secondTry).toEqual({ diff: 0, low: 0, high: 0, n: some.length });
      expect(same.overTwoIndependent.diff).toBeCloseTo(
        summary.secondTry.rate - summary.twoIndependent.rate,
        12,
      );
      expect(same.overFixedText.diff).toBeCloseTo(summary.secondTry.rate - summary.afterFixedText.rate, 12);
    }),
  );
});

test('a comparison is after minus before, and its controls are those after training', () => {
  const before = [failed('a', false, true, [true]), failed('b', false, true, [true])];
  const after = [failed('a', true, false, [true]), passed('b', [false])];
  expect(compare(before, after, options)).toMatchObject({
    firstTry: { diff: 0.5, n: 2 },
    secondTry: { diff: 1, low: 1, high: 1 },
    overTwoIndependent: { diff: 0 },
    overFixedText: { diff: 0.5 },
    overForeignReflection: { diff: 0.5 },
  });
});

test('evaluations of different problems, or in another order, are not compared', () => {
  expect(() => compare(rows, rows.slice(1), options)).toThrow(/expected the same problems in the same order/);
  expect(() => compare(rows, rows.toReversed(), options)).toThrow(/expected the same problems/);
});

test('the writer effect is reflections by the trained model minus those by the start model, read by the start model', () => {
  const outcomes = {
    startStart: [false, false, true, null],
    startTrained: [true, true, true, true],
    trainedStart: [true, true, true, true],
    trainedTrained: [false, false, false, false],
  };
  expect(writtenByTrained(outcomes, options)).toMatchObject({ diff: expect.closeTo(2 / 3, 12), n: 3 });
  const greedy = { before: [failed('g', false, false)], after: [failed('g', true, false)] };
  const given = {
    seed: 5,
    wallSeconds: 61,
    kernels: 'native',
    temperature: 0.9,
    before: rows,
    after: rows,
    greedy,
  };
  const summary = beforeAfter({ ...given, writerByReader: outcomes }, options);
  expect(summary).toMatchObject({
    n: 4,
    writerByReader: {
      startStart: { rate: 1 / 3, n: 3 },
      startTrained: { rate: 1 },
      trainedTrained: { rate: 0 },
    },
    change: {
      secondTry: { diff: 0 },
      greedySecondTry: { diff: 1 },
      writtenByTrained: { diff: expect.closeTo(2 / 3, 12) },
    },
    details: { before: { attemptsAtEqualTokens: 4 }, greedyFirstTry: { diff: 0 } },
  });
});

test('the object of a model before and after training has exactly these keys, and no rate without data', () => {
  const both = { before: rows, after: rows };
  const outcomes = {
    startStart: [true],
    startTrained: [true],
    trainedStart: [true],
    trainedTrained: [false],
  };
  const run = { seed: 1, wallSeconds: 1, kernels: 'native', temperature: 0.9 };
  const summary = beforeAfter({ ...run, ...both, greedy: both, writerByReader: outcomes }, options);
  const { before, after, greedy, writerByReader, change, details } = JSON.parse(JSON.stringify(summary));
  expect(Object.keys(summary)).toEqual(
    'seed wallSeconds kernels n temperature before after greedy writerByReader change details'.split(' '),
  );
  expect(Object.keys(greedy)).toEqual(['before', 'after']);
  for (const rates of [before, after, greedy.before, greedy.after]) {
    expect(Object.keys(rates)).toEqual(
      `firstTry secondTry secondTryWithoutReflection twoIndependent independentAtEqualTokens
      afterFixedText afterForeignReflection`.split(/\s+/),
    );
  }
  expect(Object.keys(writerByReader)).toEqual(
    'startStart startTrained trainedStart trainedTrained'.split(' '),
  );
  expect(Object.keys(change)).toEqual(
    'secondTry greedySecondTry firstTry writtenByTrained overTwoIndependent overFixedText'.split(' '),
  );
  for (const rate of [before, after, greedy.before, greedy.after, writerByReader].flatMap(Object.values)) {
    expect(rate).toEqual({
      rate: expect.any(Number),
      low: expect.any(Number),
      high: expect.any(Number),
      n: expect.any(Number),
    });
  }
  for (const difference of [...Object.values(change), details.greedyFirstTry]) {
    expect(difference).toEqual({
      diff: expect.any(Number),
      low: expect.any(Number),
      high: expect.any(Number),
    });
  }
  expect(Object.keys(details)).toEqual(['before', 'after', 'greedy', 'greedyFirstTry']);
});
