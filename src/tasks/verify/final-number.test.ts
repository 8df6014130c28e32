import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { bareNumber, finalNumber, numbersOf } from './final-number.ts';
import { show } from './math-answer/rational.ts';

describe('finalNumber', () => {
  test.each([
    ['16 - 3 = 13\n#### 13', '13'],
    ['#### 5\n#### 18', '18'],
    ['#### $1,800.00', '1800'],
    ['#### -5', '-5'],
    ['#### −5', '-5'],
    ['#### 18 eggs a day', '18'],
    ['#### 9 * 2 = 18', '18'],
    ['#### 18 dollars 50 cents', '18'],
    ['#### 42 per 7 days', '42'],
    ['#### 3 hours 20 minutes', '3'],
    ['#### 5 feet 6 inches', '5'],
    ['#### 24 - 3 left', '24'],
    ['#### 18!', '18'],
    ['#### 2:30', '2'],
    ['#### 10-15', '10'],
    ['#### 1 800', '1800'],
    ['#### 18 m^2', '18'],
    ['#### 3 million', '3000000'],
    ['#### 1.5e3', '1500'],
    ['The answer is 8 pounds (4 each).', '8'],
    ['The answer is 8 (4+4).', '8'],
    ['The answer is 18, which is 3 * 6.', '18'],
    ['The answer is the sum of both, which is 18.', '18'],
    ['\\boxed{5\\text{ feet }6\\text{ inches}}', '5'],
    ['\\boxed{\\frac{1}{2} \\text{ of } 30}', '1/2'],
    ['#### Step 3: add\n7 and 8 make 15. The answer is 15.', '15'],
    ['#### 18\nWait, \\boxed{20}', '18'],
    ['so \\boxed{\\$1{,}800}', '1800'],
    ['\\boxed{\\frac{36}{2}}', '18'],
    ['\\boxed{18\\text{ eggs}}', '18'],
    ['The answer is 18%.', '18'],
    ['The answer is $2 \\frac{1}{2}$', '5/2'],
    ['The answer is x = 18, because 9 * 2 = 18 and not 20', '18'],
    ['He has 5 - 3 = 2 left', '2'],
    ['That is 1,000,000 dollars', '1000000'],
    ['From 10-15 of them', '15'],
    ['It costs .50', '1/2'],
    ['Half of it: 2 1/2', '5/2'],
    ['That leaves -4', '-4'],
  ])('%j ends in %s', (text, number) => {
    expect(show(finalNumber(text) ?? { num: 0n, den: 0n })).toBe(number);
  });

  test.each(['', '####', 'no number', 'CO2x', '#### none', '1/0'])('%j has none', (text) => {
    expect(finalNumber(text)).toBeUndefined();
  });

  test('every whole number is read back, with and without commas', () => {
    fc.assert(
      fc.property(fc.integer(), (value) => {
        for (const written of [String(value), value.toLocaleString('en-US'), `${value}.00`]) {
          expect(show(finalNumber(`#### ${written}`)!)).toBe(String(value));
          expect(show(finalNumber(`It is ${written}`)!)).toBe(String(value));
          expect(show(bareNumber(written)!)).toBe(String(value));
        }
      }),
    );
  });

  test('any text is searched without an error', () => {
    const text = fc.array(
      fc.constantFrom(
        '1',
        '2',
        ',',
        '.',
        '/',
        ' ',
        '-',
        '$',
        '####',
        '\\boxed{',
        '}',
        'answer is',
        '\n',
        'x',
      ),
    );
    fc.assert(
      fc.property(text, (pieces) => {
        const found = finalNumber(pieces.join(''));
        return found === undefined || found.den > 0n;
      }),
      { numRuns: 3000 },
    );
  });
});

test('numbersOf lists numbers from left to right', () => {
  expect(numbersOf('2 and 3.5, then 1/4 of 1,200 and x7').map(show)).toEqual(['2', '7/2', '1/4', '1200']);
});
