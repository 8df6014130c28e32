import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { oneLine, printable } from './printable.ts';
import { anyText } from './text-testing.ts';

test('no text steers the terminal', () => {
  fc.assert(
    fc.property(anyText(), (text) => {
      expect(printable(text)).not.toMatch(/[^\P{Cc}\n\t]/u);
      expect(oneLine(text)).not.toMatch(/\p{Cc}|\p{Zl}|\p{Zp}/u);
    }),
  );
  expect(printable('a\x1b[2Jb\r\n\tc\x9b\ud800')).toBe('a\u241b[2Jb\u240d\n\tc\ufffd\ufffd');
  expect(oneLine('a\r\nb\tc')).toBe('a b c');
});

test('text without control characters stays as it is', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'grapheme' }), (text) => {
      expect(printable(text)).toBe(text);
    }),
  );
});
