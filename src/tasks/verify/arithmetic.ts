/**
 * Exact evaluation of an arithmetic expression: recursive descent over BigInt fractions, never `eval`.
 *
 *   equation   = expression [ "=" whole ]
 *   expression = term { ("+" | "-") term }
 *   term       = factor { ("*" | "/") factor }
 *   factor     = whole | "(" expression ")"
 *
 * | written                                       | verdict                                                      |
 * | --------------------------------------------- | ------------------------------------------------------------ |
 * | `+ - * / ( )`, white space between tokens     | accepted                                                     |
 * | `×` `÷` `−` (U+00D7, U+00F7, U+2212)          | accepted, as `* / -`                                         |
 * | `... = 24` at the end, once                   | accepted; 24 is returned as `stated`, for the caller to check |
 * | `-5 + 9`, `+5`, `3 * -2`                      | rejected: each number is used as given, a sign changes it    |
 * | `2 ** 3`, `7 // 2`, `2 ^ 3`, `7 % 2`          | rejected                                                     |
 * | `1.5`, `1e3`, `1,000`                         | rejected: operands are whole numbers                         |
 * | `007`, `00`                                   | rejected: leading zeros                                      |
 * | `2(3)`, `(2)(3)`, `2 3`                       | rejected: multiplication is never implied                    |
 * | letters, other signs, an empty text, `1 = 2 = 3`, `24 = 1 + 2` | rejected                                     |
 * | division by zero, also by `(3 - 3)`           | rejected                                                     |
 * | more than MAX_LENGTH characters, more than MAX_DEPTH open parentheses | rejected                             |
 */

/** Longer than any honest answer; bounds the time and the size of the fractions. */
export const MAX_LENGTH = 1000;
/** Open parentheses at one place; bounds the stack. */
export const MAX_DEPTH = 100;

/** In lowest terms, den > 0. */
export interface Rational {
  num: bigint;
  den: bigint;
}

/** `numbers`: the operands from left to right. `at`: the index of the first character that does not fit. */
export type Parsed =
  | { ok: true; value: Rational; numbers: bigint[]; stated?: bigint }
  | { ok: false; why: string; at: number };

const SIGNS: Record<string, string> = { '×': '*', '÷': '/', '−': '-' };

class Fault extends Error {
  readonly at: number;

  constructor(why: string, at: number) {
    super(why);
    this.at = at;
  }
}

/** The exact value of an expression and the numbers that it uses. Never throws. */
export function parseExpression(text: string): Parsed {
  if (text.length > MAX_LENGTH) {
    return {
      ok: false,
      why: `expected at most ${MAX_LENGTH} characters, got ${text.length}`,
      at: MAX_LENGTH,
    };
  }
  try {
    return parseEquation(text);
  } catch (error) {
    if (error instanceof Fault) return { ok: false, why: error.message, at: error.at };
    throw error;
  }
}

/** Whether a fraction is this whole number. */
export function equalsWhole(value: Rational, whole: bigint): boolean {
  return value.den === 1n && value.num === whole;
}

/** `7`, or `7/2` where it is not whole. */
export function renderRational(value: Rational): string {
  return value.den === 1n ? String(value.num) : `${value.num}/${value.den}`;
}

function parseEquation(text: string): Parsed {
  const numbers: bigint[] = [];
  let at = 0;
  let depth = 0;

  /** The next character that is not white space, in ASCII where it is a known sign; '' at the end. */
  const peek = (): string => {
    while (/\s/.test(text.charAt(at))) at += 1;
    const char = text.charAt(at);
    return SIGNS[char] ?? char;
  };
  const fail = (expected: string): never => {
    const code = text.codePointAt(at);
    const got = code === undefined ? 'the end' : JSON.stringify(String.fromCodePoint(code));
    throw new Fault(`expected ${expected}, got ${got}`, at);
  };
  const whole = (): bigint => {
    const start = at;
    while (/[0-9]/.test(text.charAt(at))) at += 1;
    const digits = text.slice(start, at);
    if (digits.length > 1 && digits.startsWith('0')) {
      throw new Fault(`expected a number without leading zeros, got ${digits}`, start);
    }
    return BigInt(digits);
  };

  const factor = (): Rational => {
    const next = peek();
    if (/^[0-9]$/.test(next)) {
      const num = whole();
      numbers.push(num);
      return { num, den: 1n };
    }
    if (next !== '(') fail('a whole number or "("');
    if (depth === MAX_DEPTH) throw new Fault(`expected at most ${MAX_DEPTH} open parentheses, got more`, at);
    depth += 1;
    at += 1;
    const inside = expression();
    if (peek() !== ')') fail('an operator or ")"');
    depth -= 1;
    at += 1;
    return inside;
  };
  const term = (): Rational => {
    let left = factor();
    for (let sign = peek(); sign === '*' || sign === '/'; sign = peek()) {
      const signAt = at;
      at += 1;
      const right = factor();
      if (sign === '*') left = { num: left.num * right.num, den: left.den * right.den };
      else if (right.num !== 0n) left = { num: left.num * right.den, den: left.den * right.num };
      else throw new Fault('expected a divisor that is not zero, got zero', signAt);
    }
    return left;
  };
  // Fractions are not reduced on the way: their digits never outnumber the text's by more than a few.
  const expression = (): Rational => {
    let left = term();
    for (let sign = peek(); sign === '+' || sign === '-'; sign = peek()) {
      at += 1;
      const right = term();
      const scaled = right.num * left.den;
      left = { num: left.num * right.den + (sign === '+' ? scaled : -scaled), den: left.den * right.den };
    }
    return left;
  };

  const value = reduce(expression());
  if (peek() === '') return { ok: true, value, numbers };
  if (peek() !== '=') fail('an operator or the end');
  at += 1;
  if (!/^[0-9]$/.test(peek())) fail('one whole number after "="');
  const stated = whole();
  if (peek() !== '') fail('the end after "= number"');
  return { ok: true, value, numbers, stated };
}

function reduce({ num, den }: Rational): Rational {
  let a = num < 0n ? -num : num;
  let b = den < 0n ? -den : den;
  while (b !== 0n) [a, b] = [b, a % b];
  const divisor = den < 0n ? -a : a;
  return { num: num / divisor, den: den / divisor };
}
