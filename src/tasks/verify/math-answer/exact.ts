/**
 * Exact forms of expressions: a quotient of two sums of monomials, with rational coefficients and rational exponents.
 *
 * A monomial is a product of powers of generators: variables, the constants pi, e and i, primes under a root (sqrt 12
 * is 2 * 3^(1/2)), and whatever is not taken apart (sin x, sqrt(x + 1), 2^x), which is a generator as it stands.
 * Different products of roots of primes are linearly independent over the rationals (Besicovitch 1940), so without
 * generators of the last kind two forms are equal exactly when their difference has no terms; pi and e are taken to
 * be independent. With them, a difference that has terms proves nothing: `certain` says which.
 * Variables under a root are taken to be positive: sqrt(x^3) is x sqrt x; only sqrt(x^2) is |x|.
 * Throws `TooLarge` past MAX_TERMS terms or the limits of `rational.ts`.
 */
import { CONSTANTS, type Expression } from './expression.ts';
import {
  add,
  divide,
  equal,
  floor,
  isWhole,
  isZero,
  MINUS_ONE,
  multiply,
  negate,
  ONE,
  power,
  rational,
  show,
  TooLarge,
  ZERO,
  type Rational,
} from './rational.ts';

interface Term {
  coefficient: Rational;
  /** Exponents by generator, without zeros. */
  powers: ReadonlyMap<string, Rational>;
}

/** Terms by the key of their powers, none with coefficient 0. */
export type Sum = ReadonlyMap<string, Term>;

export interface ExactForm {
  top: Sum;
  /** Never without terms. */
  bottom: Sum;
  /** Nothing in it was left as it stands. */
  certain: boolean;
}

const MAX_TERMS = 300;
const MAX_POWER_OF_SUM = 40n;
/** Divisors that are tried when a number under a root is taken apart. */
const MAX_PRIME = 10_000n;

/** Throws `TooLarge`, and `DivisionByZero` where a divisor is zero. */
export function exactForm(expression: Expression): ExactForm {
  switch (expression.kind) {
    case 'number':
      return ofSum(constant(expression.value));
    case 'symbol':
      return ofSum(single(ONE, new Map([[expression.name, ONE]])));
    case 'sum':
      return expression.terms.map(exactForm).reduce(plus);
    case 'product':
      return expression.factors.map(exactForm).reduce(times);
    case 'power':
      return raise(exactForm(expression.base), exactForm(expression.exponent));
    case 'root':
      return root(exactForm(expression.of), expression.degree);
    case 'call':
      return call(expression.name, expression.of.map(exactForm));
    default:
      return expression satisfies never;
  }
}

/** An expression that has no value. */
export class DivisionByZero extends Error {}

/** Whether the difference of two forms has no terms. */
export function sameForm(a: ExactForm, b: ExactForm): boolean {
  return differenceOf(a, b).size === 0;
}

/** The numerator of a - b, brought to one denominator. */
export function differenceOf(a: ExactForm, b: ExactForm): Sum {
  return addSums(multiplySums(a.top, b.bottom), scale(multiplySums(b.top, a.bottom), MINUS_ONE));
}

/** The number c for which a = c b, where there is one and it is not 0. */
export function ratioOf(a: Sum, b: Sum): Rational | undefined {
  if (a.size !== b.size) return undefined;
  let ratio: Rational | undefined;
  for (const [key, { coefficient }] of a) {
    const other = b.get(key);
    if (other === undefined) return undefined;
    const here = divide(coefficient, other.coefficient);
    if (ratio !== undefined && !equal(here, ratio)) return undefined;
    ratio = here;
  }
  return ratio;
}

/** The value of a form that is a rational number. */
export function rationalOf({ top, bottom }: ExactForm): Rational | undefined {
  const above = constantOf(top);
  const below = constantOf(bottom);
  return above === undefined || below === undefined ? undefined : divide(above, below);
}

function constantOf(sum: Sum): Rational | undefined {
  if (sum.size === 0) return ZERO;
  return sum.size === 1 ? sum.get('')?.coefficient : undefined;
}

const constant = (value: Rational): Sum => single(value, new Map());
const UNIT: Sum = constant(ONE);

function ofSum(top: Sum, certain = true): ExactForm {
  return { top, bottom: UNIT, certain };
}

function single(coefficient: Rational, powers: ReadonlyMap<string, Rational>): Sum {
  return new Map(isZero(coefficient) ? [] : [[keyOf(powers), { coefficient, powers }]]);
}

function keyOf(powers: ReadonlyMap<string, Rational>): string {
  return [...powers]
    .map(([name, exponent]) => `${name}^${show(exponent)}`)
    .toSorted()
    .join(' ');
}

function addSums(a: Sum, b: Sum): Sum {
  const sum = new Map(a);
  for (const [key, term] of b) {
    const coefficient = add(sum.get(key)?.coefficient ?? ZERO, term.coefficient);
    if (isZero(coefficient)) sum.delete(key);
    else sum.set(key, { ...term, coefficient });
  }
  if (sum.size > MAX_TERMS) throw new TooLarge();
  return sum;
}

function scale(sum: Sum, by: Rational): Sum {
  const scaled = new Map<string, Term>();
  for (const [key, term] of sum) scaled.set(key, { ...term, coefficient: multiply(term.coefficient, by) });
  return scaled;
}

function multiplySums(a: Sum, b: Sum): Sum {
  if (a.size * b.size > MAX_TERMS * 10) throw new TooLarge();
  let product: Sum = new Map();
  for (const left of a.values()) {
    const terms: Sum[] = [...b.values()].map((right) => multiplyTerms(left, right));
    for (const term of terms) product = addSums(product, term);
  }
  return product;
}

/** Exponents add up; of a prime the whole part of its exponent becomes part of the coefficient, and i^2 is -1. */
function multiplyTerms(a: Term, b: Term): Sum {
  const sum = new Map(a.powers);
  for (const [name, exponent] of b.powers) sum.set(name, add(sum.get(name) ?? ZERO, exponent));
  const powers = new Map(sum);
  let coefficient = multiply(a.coefficient, b.coefficient);
  for (const [name, exponent] of sum) {
    const prime = primeOf(name);
    if (prime !== undefined) {
      const whole = floor(exponent);
      coefficient = multiply(coefficient, power(rational(prime), whole));
      setPower(powers, name, add(exponent, rational(-whole)));
    } else if (name === 'i' && isWhole(exponent)) {
      const turns = ((exponent.num % 4n) + 4n) % 4n;
      if (turns >= 2n) coefficient = negate(coefficient);
      setPower(powers, name, rational(turns % 2n));
    } else setPower(powers, name, exponent);
  }
  // |x|^2 is x^2.
  for (const [name, exponent] of sum) {
    if (!name.startsWith(ABSOLUTE) || !isWhole(exponent) || exponent.num % 2n !== 0n) continue;
    const inside = name.slice(ABSOLUTE.length);
    powers.delete(name);
    setPower(powers, inside, add(powers.get(inside) ?? ZERO, exponent));
  }
  return single(coefficient, powers);
}

function setPower(powers: Map<string, Rational>, name: string, exponent: Rational): void {
  if (isZero(exponent)) powers.delete(name);
  else powers.set(name, exponent);
}

/** |x| for a variable x. */
const ABSOLUTE = 'absolute ';
const PRIME = 'prime ';

function primeOf(name: string): bigint | undefined {
  return name.startsWith(PRIME) ? BigInt(name.slice(PRIME.length)) : undefined;
}

function plus(a: ExactForm, b: ExactForm): ExactForm {
  const certain = a.certain && b.certain;
  if (keyOfSum(a.bottom) === keyOfSum(b.bottom)) {
    return { top: addSums(a.top, b.top), bottom: a.bottom, certain };
  }
  const top = addSums(multiplySums(a.top, b.bottom), multiplySums(b.top, a.bottom));
  return { top, bottom: multiplySums(a.bottom, b.bottom), certain };
}

function times(a: ExactForm, b: ExactForm): ExactForm {
  return quotient(multiplySums(a.top, b.top), multiplySums(a.bottom, b.bottom), a.certain && b.certain);
}

/** A denominator of one term goes into the numerator, with its exponents turned. */
function quotient(top: Sum, bottom: Sum, certain: boolean): ExactForm {
  const [only, second] = bottom.values();
  if (only === undefined) throw new DivisionByZero();
  if (second !== undefined) return { top, bottom, certain };
  return ofSum(multiplySums(top, inverse(only)), certain);
}

function inverse({ coefficient, powers }: Term): Sum {
  const turned = new Map([...powers].map(([name, exponent]) => [name, negate(exponent)]));
  const unit: Term = { coefficient: ONE, powers: new Map() };
  return multiplyTerms({ coefficient: divide(ONE, coefficient), powers: turned }, unit);
}

function raise(base: ExactForm, exponent: ExactForm): ExactForm {
  const value = rationalOf(exponent);
  if (value === undefined) return opaque('power', [base, exponent]);
  if (isWhole(value)) return wholePower(base, value.num);
  if (value.den > 64n) return opaque('power', [base, exponent]);
  return wholePower(root(base, Number(value.den)), value.num);
}

function wholePower(base: ExactForm, exponent: bigint): ExactForm {
  if (exponent < 0n) {
    return wholePower(quotient(base.bottom, base.top, base.certain), -exponent);
  }
  const [only, second] = base.top.values();
  if (only !== undefined && second === undefined && base.bottom === UNIT) {
    const powers = new Map(
      [...only.powers].map(([name, each]) => [name, multiply(each, rational(exponent))] as const),
    );
    const raised: Term = { coefficient: power(only.coefficient, exponent), powers: nonZero(powers) };
    return ofSum(multiplyTerms(raised, { coefficient: ONE, powers: new Map() }), base.certain);
  }
  if (exponent > MAX_POWER_OF_SUM) throw new TooLarge();
  let product = ofSum(UNIT);
  for (let i = 0n; i < exponent; i++) product = times(product, base);
  return { ...product, certain: base.certain };
}

function nonZero(powers: ReadonlyMap<string, Rational>): ReadonlyMap<string, Rational> {
  return new Map([...powers].filter(([, exponent]) => !isZero(exponent)));
}

function root(of: ExactForm, degree: number): ExactForm {
  const [only, second] = of.top.values();
  if (degree < 1) throw new DivisionByZero();
  if (only === undefined) return of;
  const rest = of.bottom === UNIT && second === undefined ? rootOfTerm(only, degree) : undefined;
  return rest === undefined
    ? opaque(`root ${degree}`, [of])
    : { ...rest, certain: rest.certain && of.certain };
}

/** undefined where it cannot be taken apart. */
function rootOfTerm({ coefficient, powers }: Term, degree: number): ExactForm | undefined {
  const share = rational(1, degree);
  const found = new Map<string, Rational>();
  let sign = ONE;
  if (coefficient.num < 0n) {
    if (degree % 2 === 1) sign = MINUS_ONE;
    else if (degree === 2) found.set('i', ONE);
    else return undefined;
  }
  for (const [name, exponent] of powers) {
    if (name === 'i') return undefined;
    const even = isWhole(exponent) && exponent.num % 2n === 0n && degree % 2 === 0;
    const isVariable = primeOf(name) === undefined && !CONSTANTS.has(name) && !name.startsWith(ABSOLUTE);
    found.set(even && isVariable ? ABSOLUTE + name : name, multiply(exponent, share));
  }
  const size = coefficient.num < 0n ? -coefficient.num : coefficient.num;
  let certain = true;
  for (const [number, direction] of [
    [size, ONE],
    [coefficient.den, MINUS_ONE],
  ] as const) {
    const { primes, isWholeFactorization } = factorize(number);
    certain &&= isWholeFactorization;
    for (const [prime, count] of primes) {
      const name = `${PRIME}${prime}`;
      const exponent = multiply(multiply(rational(count), share), direction);
      found.set(name, add(found.get(name) ?? ZERO, exponent));
    }
  }
  const term: Term = { coefficient: sign, powers: nonZero(found) };
  return ofSum(multiplyTerms(term, { coefficient: ONE, powers: new Map() }), certain);
}

/** What is left after the primes up to MAX_PRIME stands as if it were one. */
function factorize(number: bigint): { primes: Map<bigint, number>; isWholeFactorization: boolean } {
  const primes = new Map<bigint, number>();
  let rest = number;
  for (let prime = 2n; prime <= MAX_PRIME && prime * prime <= rest; prime += prime === 2n ? 1n : 2n) {
    while (rest % prime === 0n) {
      primes.set(prime, (primes.get(prime) ?? 0) + 1);
      rest /= prime;
    }
  }
  if (rest > 1n) primes.set(rest, (primes.get(rest) ?? 0) + 1);
  return { primes, isWholeFactorization: rest <= MAX_PRIME * MAX_PRIME };
}

function call(name: string, of: ExactForm[]): ExactForm {
  const values = of.map(rationalOf);
  const [first, second] = values;
  if (first !== undefined && of.length === 1) {
    if (name === 'abs') return ofSum(constant(first.num < 0n ? negate(first) : first));
    if (name === 'floor') return ofSum(constant(rational(floor(first))));
    if (name === 'ceil') return ofSum(constant(rational(-floor(negate(first)))));
    if (name === 'factorial' && isWhole(first) && first.num >= 0n)
      return ofSum(constant(factorial(first.num)));
  }
  if (name === 'binomial' && first !== undefined && second !== undefined) {
    const chosen = binomial(first, second);
    if (chosen !== undefined) return ofSum(constant(chosen));
  }
  const [inside] = of;
  if (name === 'abs' && inside !== undefined) {
    // |x| = sqrt(x^2), which is taken apart where x is one term.
    const squared = wholePower(inside, 2n);
    const taken = root(squared, 2);
    if (taken.certain || squared.top.size === 1) return taken;
  }
  return opaque(name, of);
}

const MAX_FACTORIAL = 400n;

function factorial(of: bigint): Rational {
  if (of > MAX_FACTORIAL) throw new TooLarge();
  let product = ONE;
  for (let i = 2n; i <= of; i++) product = multiply(product, rational(i));
  return product;
}

function binomial(n: Rational, k: Rational): Rational | undefined {
  if (!isWhole(n) || !isWhole(k) || n.num < 0n || k.num < 0n || n.num > MAX_FACTORIAL) return undefined;
  if (k.num > n.num) return ZERO;
  return divide(factorial(n.num), multiply(factorial(k.num), factorial(n.num - k.num)));
}

function opaque(name: string, of: readonly ExactForm[]): ExactForm {
  const inside = of.map(({ top, bottom }) => `${keyOfSum(top)}/${keyOfSum(bottom)}`).join('; ');
  const generator = `${name}(${inside})`;
  if (generator.length > MAX_TERMS * 10) throw new TooLarge();
  return ofSum(single(ONE, new Map([[generator, ONE]])), false);
}

function keyOfSum(sum: Sum): string {
  return [...sum]
    .map(([key, { coefficient }]) => `${show(coefficient)} ${key}`)
    .toSorted()
    .join(' + ');
}
