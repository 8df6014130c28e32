/**
 * Exact fractions over BigInt, in lowest terms, and the roots of whole numbers that they need.
 *
 * Sizes are limited: what would take more than MAX_BITS bits throws `TooLarge`, which the comparison of answers
 * catches. Nothing else throws.
 */
import type { Rational } from '../arithmetic.ts';

export type { Rational };

/** Of a numerator or denominator; no answer of a person needs a hundredth of it. */
const MAX_BITS = 8192;

/** A number or an expression has grown past what is worked out exactly. */
export class TooLarge extends Error {}

export const ZERO: Rational = { num: 0n, den: 1n };
export const ONE: Rational = { num: 1n, den: 1n };
export const MINUS_ONE: Rational = { num: -1n, den: 1n };

/** In lowest terms. `den` must not be 0. */
export function rational(num: bigint | number, den: bigint | number = 1n): Rational {
  return reduce(BigInt(num), BigInt(den));
}

export const add = (a: Rational, b: Rational): Rational =>
  reduce(a.num * b.den + b.num * a.den, a.den * b.den);
export const multiply = (a: Rational, b: Rational): Rational => reduce(a.num * b.num, a.den * b.den);
export const divide = (a: Rational, b: Rational): Rational => reduce(a.num * b.den, a.den * b.num);
export const negate = (a: Rational): Rational => ({ num: -a.num, den: a.den });
export const equal = (a: Rational, b: Rational): boolean => a.num === b.num && a.den === b.den;
export const isZero = (a: Rational): boolean => a.num === 0n;
export const isWhole = (a: Rational): boolean => a.den === 1n;

/** `7`, or `7/2` where it is not whole. */
export const show = (a: Rational): string => (a.den === 1n ? String(a.num) : `${a.num}/${a.den}`);

/** `base` to a whole power; `base` must not be 0 where the power is negative. */
export function power(base: Rational, exponent: bigint): Rational {
  const size = exponent < 0n ? -exponent : exponent;
  if (BigInt(bitLength(base.num) + bitLength(base.den)) * size > BigInt(2 * MAX_BITS)) {
    throw new TooLarge();
  }
  const raised = { num: base.num ** size, den: base.den ** size };
  return exponent < 0n ? reduce(raised.den, raised.num) : raised;
}

/** The greatest whole number that is not above. */
export function floor(a: Rational): bigint {
  const quotient = a.num / a.den;
  return a.num < 0n && quotient * a.den !== a.num ? quotient - 1n : quotient;
}

/** As a double; of a ratio of two that are too large for one, by their leading digits. */
export function toNumber(a: Rational): number {
  const shift = BigInt(Math.max(0, Math.max(bitLength(a.num), bitLength(a.den)) - 1000));
  return Number(a.num >> shift) / Number(a.den >> shift);
}

/** `12`, `0.5`, `.5`, `5.`: digits with at most one point. */
export function ofDecimal(text: string): Rational {
  const [whole = '', digits = ''] = text.split('.');
  return rational(BigInt(`0${whole}${digits}`), 10n ** BigInt(digits.length));
}

function reduce(num: bigint, den: bigint): Rational {
  let a = num < 0n ? -num : num;
  let b = den < 0n ? -den : den;
  if (bitLength(a) > MAX_BITS || bitLength(b) > MAX_BITS) throw new TooLarge();
  if (b !== 1n) {
    let divisor = b;
    for (let rest = a; rest !== 0n;) [divisor, rest] = [rest, divisor % rest];
    a /= divisor;
    b /= divisor;
  }
  return { num: num < 0n === den < 0n ? a : -a, den: b };
}

function bitLength(value: bigint): number {
  return value.toString(16).length * 4;
}
