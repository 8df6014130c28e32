import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { parseExpression } from './arithmetic.ts';
import { expressionsIn } from './expressions.ts';

test.each([
  ['I should have written 64 - (92 - 57), which is 29.', ['64 - (92 - 57)']],
  ['64 - (92 - 57) = 29', ['64 - (92 - 57)']],
  ['keep 64 need 35 93 92 + 57 = 149 92 - 57 = 35 yes 64 - 35 = 29', ['92 + 57', '92 - 57', '64 - 35']],
  ['**64 − (92 − 57)**', ['64 − (92 − 57)']],
  ['(for example 64 - (92 - 57))', ['64 - (92 - 57)']],
  ['- 3 + 4\n- 5 * 6', ['3 + 4', '5 * 6']],
  ['<answer>(1 + 2) * 3</answer>', ['(1 + 2) * 3']],
  ['1 + 2 and again 1 + 2', ['1 + 2']],
  ['use 64 once, on 2024-06', []],
  ['be careful with 57', []],
  ['1.5 + 2', ['5 + 2']],
  ['', []],
])('%j holds %j', (text, expressions) => {
  expect(expressionsIn(text)).toEqual(expressions);
});

test('an expression between words is found as it stands', () => {
  const expression = fc
    .array(fc.tuple(fc.constantFrom('+', '-', '*'), fc.integer({ min: 1, max: 99 })), {
      minLength: 1,
      maxLength: 4,
    })
    .map((terms) => terms.reduce((text, [sign, number]) => `(${text} ${sign} ${number})`, '7'));
  fc.assert(
    fc.property(expression, (text) => {
      expect(expressionsIn(`so ${text} it is`)).toEqual([text]);
    }),
  );
});

test('no text throws, and whatever is found parses', () => {
  const soup = fc.array(fc.constantFrom(...'0123456789+-*/()= ×÷−x\n'.split('')), { maxLength: 200 });
  fc.assert(
    fc.property(soup, (characters) => {
      for (const found of expressionsIn(characters.join(''))) expect(parseExpression(found).ok).toBe(true);
    }),
    { numRuns: 500 },
  );
});

test('a huge text is read in a moment', () => {
  expect(expressionsIn('('.repeat(100_000))).toEqual([]);
  expect(expressionsIn(`${'('.repeat(100_000)}5 + 3`)).toEqual(['5 + 3']);
  expect(expressionsIn('1 + '.repeat(50_000))).toEqual([]);
});
