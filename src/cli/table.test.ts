import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { oneLine } from '../lib/printable.ts';
import { anyText } from '../lib/text-testing.ts';
import { renderTable, widthOf } from './table.ts';

test('numbers are set to the right, text to the left, without trailing space', () => {
  const table = renderTable(
    ['', 'before', 'after'],
    [
      ['first try', '54.2', 56.1],
      ['second try, greedy', '–', '+9.0 (1 to 2)'],
      ['tokens', 8],
    ],
  );
  expect(table).toBe(
    [
      '                    before          after',
      'first try             54.2           56.1',
      'second try, greedy       –  +9.0 (1 to 2)',
      'tokens                   8',
    ].join('\n'),
  );
});

test('every column starts or ends at one place, whatever the cells hold', () => {
  const cell = fc.oneof(anyText(), fc.integer());
  fc.assert(
    fc.property(fc.array(fc.tuple(cell, cell), { minLength: 1, maxLength: 5 }), (rows) => {
      const lines = renderTable(['a', 'b'], rows).split('\n');
      expect(lines).toHaveLength(rows.length + 1);
      const width = Math.max(1, ...rows.map(([first]) => widthOf(oneLine(String(first)))));
      for (const line of lines) {
        const between = Array.from(line)
          .slice(width, width + 2)
          .join('');
        expect('  '.startsWith(between)).toBe(true);
      }
    }),
  );
});
