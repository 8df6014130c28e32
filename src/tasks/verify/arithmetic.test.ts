import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { MAX_DEPTH, MAX_LENGTH, equalsWhole, parseExpression, renderRational } from './arithmetic.ts';

type Tree = number | { left: Tree; sign: '+' | '-' | '*' | '/'; right: Tree };

const trees = fc.letrec<{ tree: Tree }>((tie) => ({
  tree: fc.oneof(
    { maxDepth: 5 },
    fc.nat(999),
    fc.record({ left: tie('tree'), sign: fc.constantFrom('+', '-', '*', '/'), right: tie('tree') }),
  ),
})).tree;

/** Only the parentheses that the tree needs. */
function render(tree: Tree): string {
  if (typeof tree === 'number') return String(tree);
  const { left, sign, right } = tree;
  const loose = (side: Tree): boolean => typeof side !== 'number' && (side.sign === '+' || side.sign === '-');
  const product = sign === '*' || sign === '/';
  const bracket = (side: Tree, needed: boolean): string => (needed ? `(${render(side)})` : render(side));
  const rightNeeds = typeof right !== 'number' && (product || sign === '-' ? loose(right) || product : false);
  return `${bracket(left, product && loose(left))}${sign}${bracket(right, rightNeeds)}`;
}

/** Independent of the parser: walks the tree and reduces at every step. undefined: division by zero. */
function evaluate(tree: Tree): [bigint, bigint] | undefined {
  if (typeof tree === 'number') return [BigInt(tree), 1n];
  const left = evaluate(tree.left);
  const right = evaluate(tree.right);
  if (left === undefined || right === undefined) return undefined;
  const [a, b] = left;
  const [c, d] = right;
  switch (tree.sign) {
    case '+':
      return lowest(a * d + c * b, b * d);
    case '-':
      return lowest(a * d - c * b, b * d);
    case '*':
      return lowest(a * c, b * d);
    case '/':
      return c === 0n ? undefined : lowest(a * d, b * c);
    default:
      return tree.sign satisfies never;
  }
}

function lowest(num: bigint, den: bigint): [bigint, bigint] {
  const gcd = (a: bigint, b: bigint): bigint => (b === 0n ? a : gcd(b, a % b));
  const size = gcd(num, den);
  const [n, d] = [num / size, den / size];
  return d < 0n ? [-n, -d] : [n, d];
}

function leaves(tree: Tree): bigint[] {
  return typeof tree === 'number' ? [BigInt(tree)] : [...leaves(tree.left), ...leaves(tree.right)];
}

function whyNot(text: string): string {
  const parsed = parseExpression(text);
  return parsed.ok ? `accepted as ${renderRational(parsed.value)}` : `${parsed.at}: ${parsed.why}`;
}

function valueOf(text: string): string {
  const parsed = parseExpression(text);
  return parsed.ok ? renderRational(parsed.value) : parsed.why;
}

describe('parse inverts render', () => {
  test('value and numbers of a random tree are those of an independent evaluation', () => {
    fc.assert(
      fc.property(trees, (tree) => {
        const text = render(tree);
        fc.pre(text.length <= MAX_LENGTH);
        const parsed = parseExpression(text);
        const value = evaluate(tree);
        if (value === undefined) {
          expect(parsed).toMatchObject({ ok: false, why: 'expected a divisor that is not zero, got zero' });
          return;
        }
        expect(parsed).toEqual({ ok: true, value: { num: value[0], den: value[1] }, numbers: leaves(tree) });
      }),
      { numRuns: 500 },
    );
  });

  test('white space between tokens and the unicode signs change nothing', () => {
    fc.assert(
      fc.property(trees, fc.constantFrom(' ', '\n', '\t ', '\u00a0'), (tree, space) => {
        const text = render(tree);
        const spaced = (text.match(/[0-9]+|[^0-9]/g) ?? []).join(space);
        const unicode = text.replaceAll('*', '×').replaceAll('/', '÷').replaceAll('-', '−');
        fc.pre(spaced.length <= MAX_LENGTH);
        const strip = (parsed: ReturnType<typeof parseExpression>): unknown =>
          parsed.ok ? parsed : parsed.why;
        expect(strip(parseExpression(spaced))).toEqual(strip(parseExpression(text)));
        expect(strip(parseExpression(unicode))).toEqual(strip(parseExpression(text)));
      }),
    );
  });
});

test('no text throws, and an error position lies in the text', () => {
  const soup = fc.array(fc.constantFrom(...'0123456789+-*/()= .×÷−x'.split('')), { maxLength: 60 });
  const units = fc.array(
    fc.nat(0xffff).map((code) => String.fromCharCode(code)),
    { maxLength: 60 },
  );
  fc.assert(
    fc.property(fc.oneof(soup, units), (characters) => {
      const text = characters.join('');
      const parsed = parseExpression(text);
      if (!parsed.ok) expect(parsed.at).toBeGreaterThanOrEqual(0);
      if (!parsed.ok) expect(parsed.at).toBeLessThanOrEqual(text.length);
    }),
    { numRuns: 500 },
  );
});

describe('values are exact', () => {
  test.each([
    ['8 / (3 - 8 / 3)', '24'],
    ['1 / 3 * 3', '1'],
    ['7 - 2 - 1', '4'],
    ['8 / 4 / 2', '1'],
    ['2 + 3 * 4', '14'],
    ['1 - 2', '-1'],
    ['7 / (1 - 3)', '-7/2'],
    ['((((5))))', '5'],
    ['0 * 5', '0'],
    ['9007199254740993 - 9007199254740992', '1'],
    ['3 × 4 ÷ 6 − 1', '1'],
  ])('%s is %s', (text, value) => {
    expect(valueOf(text)).toBe(value);
  });
});

describe('an equation', () => {
  test('returns the number after "=" as stated, whether or not it is the value', () => {
    expect(parseExpression('4 * 6 = 24')).toMatchObject({ ok: true, stated: 24n });
    expect(parseExpression('4 * 6 = 25')).toMatchObject({
      ok: true,
      stated: 25n,
      value: { num: 24n, den: 1n },
    });
    expect(parseExpression('4 * 6')).not.toHaveProperty('stated');
  });

  test.each([
    ['4 * 6 = 4 * 6', '10: expected the end after "= number", got "*"'],
    ['4 * 6 = (24)', '8: expected one whole number after "=", got "("'],
    ['4 - 6 = -2', '8: expected one whole number after "=", got "-"'],
    ['4 * 6 =', '7: expected one whole number after "=", got the end'],
    ['4 * 6 = 24 = 24', '11: expected the end after "= number", got "="'],
    ['4 * 6 = 24.0', '10: expected the end after "= number", got "."'],
    ['24 = 4 * 6', '7: expected the end after "= number", got "*"'],
    ['= 24', '0: expected a whole number or "(", got "="'],
  ])('%s is rejected', (text, why) => {
    expect(whyNot(text)).toBe(why);
  });
});

describe('rejected', () => {
  test.each([
    ['-5 + 9', '0: expected a whole number or "(", got "-"'],
    ['+5', '0: expected a whole number or "(", got "+"'],
    ['3 * -2', '4: expected a whole number or "(", got "-"'],
    ['3 * (-2)', '5: expected a whole number or "(", got "-"'],
    ['2 ** 3', '3: expected a whole number or "(", got "*"'],
    ['7 // 2', '3: expected a whole number or "(", got "/"'],
    ['2 ^ 3', '2: expected an operator or the end, got "^"'],
    ['7 % 2', '2: expected an operator or the end, got "%"'],
    ['1.5 + 2', '1: expected an operator or the end, got "."'],
    ['.5 + 2', '0: expected a whole number or "(", got "."'],
    ['1e3', '1: expected an operator or the end, got "e"'],
    ['1,000', '1: expected an operator or the end, got ","'],
    ['007 + 1', '0: expected a number without leading zeros, got 007'],
    ['4 + 00', '4: expected a number without leading zeros, got 00'],
    ['2(3)', '1: expected an operator or the end, got "("'],
    ['(2)(3)', '3: expected an operator or the end, got "("'],
    ['2 3', '2: expected an operator or the end, got "3"'],
    ['(2 3)', '3: expected an operator or ")", got "3"'],
    ['2 x 3', '2: expected an operator or the end, got "x"'],
    ['2 + three', '4: expected a whole number or "(", got "t"'],
    ['٣ + ٤', '0: expected a whole number or "(", got "٣"'],
    ['🦀', '0: expected a whole number or "(", got "🦀"'],
    ['', '0: expected a whole number or "(", got the end'],
    ['()', '1: expected a whole number or "(", got ")"'],
    ['(1 + 2', '6: expected an operator or ")", got the end'],
    ['1 + 2)', '5: expected an operator or the end, got ")"'],
    ['1 +', '3: expected a whole number or "(", got the end'],
    ['4 / 0', '2: expected a divisor that is not zero, got zero'],
    ['4 / (3 - 3)', '2: expected a divisor that is not zero, got zero'],
  ])('%s', (text, why) => {
    expect(whyNot(text)).toBe(why);
  });

  test(`more than ${MAX_DEPTH} open parentheses`, () => {
    const nested = (depth: number): string => '('.repeat(depth) + '1' + ')'.repeat(depth);
    expect(parseExpression(nested(MAX_DEPTH)).ok).toBe(true);
    expect(whyNot(nested(MAX_DEPTH + 1))).toBe(
      `${MAX_DEPTH}: expected at most ${MAX_DEPTH} open parentheses, got more`,
    );
  });

  test(`more than ${MAX_LENGTH} characters`, () => {
    expect(parseExpression('1'.repeat(MAX_LENGTH)).ok).toBe(true);
    expect(whyNot('1'.repeat(MAX_LENGTH + 1))).toContain(`expected at most ${MAX_LENGTH} characters`);
  });
});

test('a fraction equals a whole number only when its denominator is 1', () => {
  expect(equalsWhole({ num: 24n, den: 1n }, 24n)).toBe(true);
  expect(equalsWhole({ num: 24n, den: 5n }, 24n)).toBe(false);
  expect(equalsWhole({ num: 23n, den: 1n }, 24n)).toBe(false);
});
