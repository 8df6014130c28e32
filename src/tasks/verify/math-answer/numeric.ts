/**
 * Values of expressions as complex doubles, for what has no exact form: sin(pi/6), log_2 8, sqrt(3 + 2 sqrt 2).
 *
 * Principal values, but a root of odd degree of a negative number is the real one. A value that does not exist or
 * overflows is NaN. Never throws.
 */
import type { Expression } from './expression.ts';
import { toNumber } from './rational.ts';

export interface Complex {
  re: number;
  im: number;
}

const real = (re: number): Complex => ({ re, im: 0 });
const NONE: Complex = { re: Number.NaN, im: Number.NaN };

/** `at`: the values of the variables. */
export function valueOf(expression: Expression, at: ReadonlyMap<string, number>): Complex {
  switch (expression.kind) {
    case 'number':
      return real(toNumber(expression.value));
    case 'symbol':
      return constantOf(expression.name) ?? real(at.get(expression.name) ?? Number.NaN);
    case 'sum':
      return expression.terms.map((term) => valueOf(term, at)).reduce(plus);
    case 'product':
      return expression.factors.map((factor) => valueOf(factor, at)).reduce(times);
    case 'power':
      return power(expression, at);
    case 'root':
      return root(valueOf(expression.of, at), expression.degree);
    case 'call':
      return call(
        expression.name,
        expression.of.map((argument) => valueOf(argument, at)),
      );
    default:
      return expression satisfies never;
  }
}

/** To `digits` significant digits. */
export function agree(a: Complex, b: Complex, digits: number): boolean {
  const size = Math.max(Math.hypot(a.re, a.im), Math.hypot(b.re, b.im));
  return Math.hypot(a.re - b.re, a.im - b.im) <= size * 10 ** -digits + 1e-13;
}

export const isFinite = ({ re, im }: Complex): boolean => Number.isFinite(re) && Number.isFinite(im);

function constantOf(name: string): Complex | undefined {
  if (name === 'pi') return real(Math.PI);
  if (name === 'e') return real(Math.E);
  if (name === 'i') return { re: 0, im: 1 };
  return name === 'infinity' ? NONE : undefined;
}

const plus = (a: Complex, b: Complex): Complex => ({ re: a.re + b.re, im: a.im + b.im });
const minus = (a: Complex, b: Complex): Complex => ({ re: a.re - b.re, im: a.im - b.im });
const times = (a: Complex, b: Complex): Complex => ({
  re: a.re * b.re - a.im * b.im,
  im: a.re * b.im + a.im * b.re,
});
function over(a: Complex, b: Complex): Complex {
  const size = b.re * b.re + b.im * b.im;
  // A divisor that only rounding keeps from being zero.
  if (size < 1e-24) return NONE;
  return { re: (a.re * b.re + a.im * b.im) / size, im: (a.im * b.re - a.re * b.im) / size };
}

const exp = ({ re, im }: Complex): Complex => ({
  re: Math.exp(re) * Math.cos(im),
  im: im === 0 ? 0 : Math.exp(re) * Math.sin(im),
});
function ln(a: Complex): Complex {
  const size = Math.hypot(a.re, a.im);
  return size === 0 ? NONE : { re: Math.log(size), im: Math.atan2(a.im, a.re) };
}

function power(
  { base, exponent }: Extract<Expression, { kind: 'power' }>,
  at: ReadonlyMap<string, number>,
): Complex {
  const below = valueOf(base, at);
  const above = valueOf(exponent, at);
  if (above.im === 0 && Number.isInteger(above.re) && Math.abs(above.re) <= 1024) {
    return wholePower(below, above.re);
  }
  if (below.im === 0 && above.im === 0 && below.re > 0) return real(below.re ** above.re);
  const asRoot = oddRoot(exponent);
  if (below.im === 0 && below.re < 0 && asRoot !== undefined) {
    return wholePower(root(below, asRoot.degree), asRoot.times);
  }
  if (below.re === 0 && below.im === 0) return above.re > 0 ? real(0) : NONE;
  return exp(times(above, ln(below)));
}

function oddRoot(exponent: Expression): { degree: number; times: number } | undefined {
  if (exponent.kind !== 'product' && exponent.kind !== 'number') return undefined;
  const value = valueOf(exponent, new Map());
  for (let degree = 3; degree <= 9; degree += 2) {
    const whole = value.re * degree;
    if (Math.abs(whole - Math.round(whole)) < 1e-12) return { degree, times: Math.round(whole) };
  }
  return undefined;
}

function wholePower(base: Complex, exponent: number): Complex {
  let product = real(1);
  let square = base;
  for (let left = Math.abs(exponent); left > 0; left = Math.floor(left / 2)) {
    if (left % 2 === 1) product = times(product, square);
    square = times(square, square);
  }
  return exponent < 0 ? over(real(1), product) : product;
}

function root(of: Complex, degree: number): Complex {
  if (degree < 1) return NONE;
  if (of.im === 0 && of.re >= 0) return real(of.re ** (1 / degree));
  if (of.im === 0 && degree % 2 === 1) return real(-((-of.re) ** (1 / degree)));
  if (of.im === 0 && degree === 2) return { re: 0, im: Math.sqrt(-of.re) };
  return exp(times(real(1 / degree), ln(of)));
}

function call(name: string, [a = NONE, b = NONE]: Complex[]): Complex {
  const turn: Complex = { re: -a.im, im: a.re };
  const [up, down] = [exp(turn), exp({ re: -turn.re, im: -turn.im })];
  const sin = (): Complex => over(minus(up, down), { re: 0, im: 2 });
  const cos = (): Complex => over(plus(up, down), real(2));
  const ofReal = (f: (x: number) => number): Complex => (a.im === 0 ? real(f(a.re)) : NONE);
  switch (name) {
    case 'sin':
      return a.im === 0 ? real(Math.sin(a.re)) : sin();
    case 'cos':
      return a.im === 0 ? real(Math.cos(a.re)) : cos();
    case 'tan':
      return over(sin(), cos());
    case 'cot':
      return over(cos(), sin());
    case 'sec':
      return over(real(1), cos());
    case 'csc':
      return over(real(1), sin());
    case 'arcsin':
      return ofReal(Math.asin);
    case 'arccos':
      return ofReal(Math.acos);
    case 'arctan':
      return ofReal(Math.atan);
    case 'arccot':
      return ofReal((x) => Math.PI / 2 - Math.atan(x));
    case 'sinh':
      return ofReal(Math.sinh);
    case 'cosh':
      return ofReal(Math.cosh);
    case 'tanh':
      return ofReal(Math.tanh);
    case 'exp':
      return exp(a);
    case 'ln':
      return ln(a);
    case 'log':
      return over(ln(a), ln(b));
    case 'abs':
      return real(Math.hypot(a.re, a.im));
    case 'floor':
      return ofReal(Math.floor);
    case 'ceil':
      return ofReal(Math.ceil);
    default:
      return NONE;
  }
}
