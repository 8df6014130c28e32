import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  measureReflections,
  repetition,
  scriptCounts,
  type MeasuredReflection,
} from './reflection-measures.ts';

const reflection = (text: string, more: Partial<MeasuredReflection> = {}): MeasuredReflection => ({
  text,
  tokens: Array.from(text, (_, i) => i),
  ended: true,
  leaked: false,
  ...more,
});

test.each([
  ['be careful', { Latin: 9 }],
  ['注意 ここ 주의', { CJK: 6 }],
  ['осторожно', { Cyrillic: 9 }],
  ['use 5 × 3 = 15!', { Latin: 3 }],
  ['π ≈ 3', { Greek: 1 }],
  ['ok 好 да', { Latin: 2, CJK: 1, Cyrillic: 2 }],
  ['ასო', { other: 3 }],
  ['', {}],
])('the letters of %j by script', (text, counts) => {
  expect(Object.fromEntries(scriptCounts(text))).toEqual(counts);
});

test.each([
  [[1, 2, 3], 0],
  [[1, 2, 3, 4, 5], 0],
  // Five 4-grams, of which 1234 stands twice.
  [[1, 2, 3, 4, 1, 2, 3, 4], 1 / 5],
  // All nine are alike.
  [Array.from({ length: 12 }, () => 7), 8 / 9],
])('repeated 4-grams of %j: %d', (tokens, share) => {
  expect(repetition(tokens)).toBeCloseTo(share, 12);
});

test('repetition is between 0 and 1, and a text after itself repeats', () => {
  fc.assert(
    fc.property(fc.array(fc.nat(5), { minLength: 4, maxLength: 40 }), (tokens) => {
      expect(repetition(tokens)).toBeGreaterThanOrEqual(0);
      expect(repetition(tokens)).toBeLessThan(1);
      expect(repetition([...tokens, ...tokens])).toBeGreaterThan(0);
    }),
  );
});

test('four reflections, worked by hand', () => {
  const measures = measureReflections([
    reflection('abcd', { leaked: true, kind: 'step', hint: 'true' }),
    reflection('ab好d', { kind: 'step', hint: 'false' }),
    reflection('abcdeπ', { leaked: null, kind: 'vague', hint: 'none' }),
    reflection('abcdefghij', { ended: false, kind: 'vague', hint: 'none' }),
  ]);
  expect(measures).toMatchObject({
    count: 4,
    tokens: { mean: 6, median: 5, max: 10 },
    cutOff: 0.25,
    mixedScripts: 0.25,
    repetition: 0,
    // One of the three that were judged.
    leaked: { rate: 1 / 3, n: 3 },
    kinds: { step: 0.5, vague: 0.5 },
    trueHints: 0.25,
    trueOfHints: 0.5,
  });
  expect(Object.entries(measures.scripts)).toEqual([
    ['Latin', 22 / 24],
    ['CJK', 1 / 24],
    ['Greek', 1 / 24],
  ]);
});

test('without reflections, or without a task that tells, nothing is claimed', () => {
  const none = measureReflections([]);
  expect(none).toMatchObject({ count: 0, tokens: { mean: Number.NaN }, leaked: { n: 0 }, kinds: {} });
  expect(none.mixedScripts).toBeNaN();
  const untold = measureReflections([reflection('a', { leaked: null })]);
  expect(untold).toMatchObject({ leaked: { n: 0 }, kinds: {}, trueHints: Number.NaN });
});
