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

test('a line below 0 stays within its axis', () => {
  const points = [-0.5, 0.25, -2].map((value, step) => ({ step, value }));
  const chart = lineChart([{ name: 'loss', points }], { title: 'x', description: 'y' }, { format: String });
  const [, path = ''] = /<path d="M([^"]*)"/.exec(chart) ?? [];
  const heights = path.split('L').map((corner) => Number(corner.split(' ')[1]));
  expect(heights).toHaveLength(3);
  for (const height of heights) expect(height).toBeLessThanOrEqual(186);
  for (const height of heights) expect(height).toBeGreaterThanOrEqual(14);
});

test('the bars of a histogram are the shares of its values, both sides over the same bars', () => {
  fc.assert(
    fc.property(
      fc.array(fc.nat(5000), { minLength: 1, maxLength: 50 }),
      fc.array(fc.nat(5000), { minLength: 1, maxLength: 50 }),
      (before, after) => {
        const sides = [
          { name: 'before', values: before },
          { name: 'after', values: after },
        ] as const;
        const chart = histogram(sides, { title: 'x', description: 'y' });
        expect(chart).not.toMatch(/NaN|Infinity|undefined/);
        const paths = [...chart.matchAll(/<path d="([^"]*)"/g)].map(([, path = '']) => path);
        expect(paths).toHaveLength(2);
        const [filled = '', outline = ''] = paths;
        expect(filled.match(/H/g)?.length).toBe(outline.match(/H/g)?.length);
      },
    ),
  );
  const text = { title: 'x', description: 'y' };
  const one = histogram(
    [
      { name: 'a', values: [0] },
      { name: 'b', values: [0, 0] },
    ],
    text,
  );
  // All of it in one bar: the highest that the axis has.
  expect(one.match(/V(\d+\.\d)H/g)?.slice(0, 1)).toEqual(one.match(/V(\d+\.\d)H/g)?.slice(-1));
});
