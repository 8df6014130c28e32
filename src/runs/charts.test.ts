import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  coloursByName,
  escapeText,
  histogram,
  lineChart,
  niceTicks,
  smooth,
  spread,
  stackedChart,
} from './charts.ts';

test('escaping keeps the text: unescaped, it is what it was, control characters aside', () => {
  fc.assert(
    fc.property(fc.string(), (text) => {
      const back = escapeText(text)
        .replaceAll('&lt;', '<')
        .replaceAll('&gt;', '>')
        .replaceAll('&quot;', '"')
        .replaceAll('&#39;', "'")
        .replaceAll('&amp;', '&');
      expect(back).toBe(text);
    }),
  );
  expect(escapeText('a\u0000\u001b\n\t\u007f\ud800b')).toBe('a\u2400\u241b\n\t\ufffd\ufffdb');
});

test('a kind has the same colour in every run, and no two in one run share theirs', () => {
  const kinds = ['vague', 'diagnosis', 'step', 'short search', 'long search', 'other'];
  const all = coloursByName(kinds);
  for (const kind of kinds) expect(coloursByName([kind]).get(kind)).toBe(all.get(kind));
  fc.assert(
    fc.property(fc.uniqueArray(fc.string(), { maxLength: 6 }), (names) => {
      const colours = coloursByName(names);
      expect(new Set(colours.values()).size).toBe(names.length);
      expect(coloursByName(names.toReversed())).toEqual(colours);
    }),
  );
});

test('a kinds chart without rows is a picture without layers', () => {
  expect(stackedChart([], { title: 'x', description: 'y' })).not.toMatch(/<path|NaN/);
});

test('labels are moved apart by the gap, stay in order, and stay in range when they fit', () => {
  fc.assert(
    fc.property(fc.array(fc.float({ min: 0, max: 200, noNaN: true }), { maxLength: 10 }), (positions) => {
      const placed = spread(positions, 20, 0, 200);
      const order = positions.map((_, i) => i).toSorted((a, b) => positions[a]! - positions[b]!);
      const inOrder = order.map((i) => placed[i]!);
      for (let i = 0; i < inOrder.length; i++) {
        expect(inOrder[i]).toBeGreaterThanOrEqual(-1e-9);
        expect(inOrder[i]).toBeLessThanOrEqual(200);
        if (i > 0) expect(inOrder[i]! - inOrder[i - 1]!).toBeGreaterThanOrEqual(20 - 1e-9);
      }
    }),
  );
});

test('smoothing keeps a straight line as it is', () => {
  const line = Array.from({ length: 30 }, (_, step) => ({ step, value: 3 * step + 1 }));
  for (const width of [1, 3, 7]) {
    for (const [i, { value }] of smooth(line, width).entries()) expect(value).toBeCloseTo(line[i]!.value, 9);
  }
});

test('ticks are round and within their range', () => {
  expect(niceTicks(0, 1, 4)).toEqual([0, 0.5, 1]);
  expect(niceTicks(1, 100, 8)).toEqual([20, 40, 60, 80, 100]);
  expect(niceTicks(0, 0.23, 4)).toEqual([0, 0.1, 0.2]);
  expect(niceTicks(5, 5, 4)).toEqual([5]);
});
