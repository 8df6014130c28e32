/**
 * What an answer is, once it is read: expressions, and the structures that answers put them in.
 * Plain data; `parse.ts` makes it, `exact.ts` and `numeric.ts` compute with it, `compare.ts` compares it.
 */
import { MINUS_ONE, rational, type Rational } from './rational.ts';

export type Expression =
  | { kind: 'number'; value: Rational }
  /** A variable, a constant (`pi`, `e`, `i`, `infinity`), a number in a base (`base 8: 52`), or a text (`text: east`). */
  | { kind: 'symbol'; name: string }
  | { kind: 'sum'; terms: Expression[] }
  | { kind: 'product'; factors: Expression[] }
  | { kind: 'power'; base: Expression; exponent: Expression }
  /** The real root where `degree` is odd. */
  | { kind: 'root'; degree: number; of: Expression }
  | { kind: 'call'; name: string; of: Expression[] };

export type RelationSign = '=' | '!=' | '<' | '<=' | 'in';

export type Answer =
  /** `percent`: a percent sign follows; `value` is what stands before it. */
  | { kind: 'value'; value: Expression; percent: boolean }
  /** Values with commas, `and` or `or` between them; their order does not matter. */
  | { kind: 'list'; items: Answer[] }
  | { kind: 'set'; items: Answer[] }
  /** A tuple, a point or an interval: the brackets tell, where there are two items, and else nothing does. */
  | { kind: 'group'; open: '(' | '['; close: ')' | ']'; items: Answer[] }
  | { kind: 'union'; parts: Answer[] }
  | { kind: 'matrix'; rows: Expression[][] }
  /** `a:b:c`; a ratio of two is a fraction. */
  | { kind: 'ratio'; parts: Expression[] }
  /** `sides` is one longer than `signs`. Signs point to the right: `a > b` is `b < a`. */
  | { kind: 'relation'; sides: Answer[]; signs: RelationSign[] };

export const number = (value: Rational): Expression => ({ kind: 'number', value });
export const symbol = (name: string): Expression => ({ kind: 'symbol', name });
export const INFINITY = symbol('infinity');

export function negative(of: Expression): Expression {
  if (of.kind === 'number') return number({ num: -of.value.num, den: of.value.den });
  return { kind: 'product', factors: [number(MINUS_ONE), of] };
}

export function product(factors: Expression[]): Expression {
  const [only] = factors;
  return factors.length === 1 && only !== undefined ? only : { kind: 'product', factors };
}

export function reciprocal(of: Expression): Expression {
  return { kind: 'power', base: of, exponent: number(MINUS_ONE) };
}

export function over(above: Expression, below: Expression): Expression {
  return { kind: 'product', factors: [above, reciprocal(below)] };
}

/** \log without a base is the decimal one, as at school. */
export function logarithm(of: Expression, base: Expression | undefined): Expression {
  const isNatural = base?.kind === 'symbol' && base.name === 'e';
  return isNatural
    ? { kind: 'call', name: 'ln', of: [of] }
    : { kind: 'call', name: 'log', of: [of, base ?? number(rational(10))] };
}

/** The names of variables; constants, texts and numbers in a base are none. */
export function variablesOf(expression: Expression, found = new Set<string>()): Set<string> {
  switch (expression.kind) {
    case 'number':
      break;
    case 'symbol':
      if (!CONSTANTS.has(expression.name)) found.add(expression.name);
      break;
    case 'sum':
      for (const term of expression.terms) variablesOf(term, found);
      break;
    case 'product':
      for (const factor of expression.factors) variablesOf(factor, found);
      break;
    case 'power':
      variablesOf(expression.base, found);
      variablesOf(expression.exponent, found);
      break;
    case 'root':
      variablesOf(expression.of, found);
      break;
    case 'call':
      for (const argument of expression.of) variablesOf(argument, found);
      break;
    default:
      expression satisfies never;
  }
  return found;
}

export const CONSTANTS: ReadonlySet<string> = new Set(['pi', 'e', 'i', 'infinity']);
