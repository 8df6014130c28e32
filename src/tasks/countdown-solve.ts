/**
 * Exhaustive search for a Countdown equation: take two numbers, put the result of + - * / in their place, go on
 * until one is left. Exact fractions in safe integers; a step whose fraction outgrows them is not tried.
 * For known-good answers and for "can this still reach the target"; not fast beyond five numbers.
 */

/** Steps until the search gives up: all of five numbers, a part of six. */
const MAX_STEPS = 1_000_000;

interface Term {
  num: number;
  den: number;
  /** The expression, its tokens separated by spaces. */
  text: string;
  /** Whether it needs parentheses inside another expression. */
  compound: boolean;
}

/**
 * An expression that uses each number once and equals the target, such as `64 - ( 92 - 57 )`.
 * undefined: there is none, or none was found within MAX_STEPS.
 */
export function solve(nums: readonly number[], target: number): string | undefined {
  let steps = 0;
  const search = (terms: Term[]): string | undefined => {
    const [only, second] = terms;
    if (only === undefined) return undefined;
    if (second === undefined) return only.num === target * only.den ? only.text : undefined;
    for (const [i, a] of terms.entries()) {
      for (const [j, b] of terms.entries()) {
        if (i === j) continue;
        const rest = terms.filter((term) => term !== a && term !== b);
        for (const term of combine(a, b, i < j)) {
          steps += 1;
          if (steps > MAX_STEPS) return undefined;
          const found = search([...rest, term]);
          if (found !== undefined) return found;
        }
      }
    }
    return undefined;
  };
  return search(nums.map((num) => ({ num, den: 1, text: String(num), compound: false })));
}

/** a - b and a / b; a + b and a * b in one of the two orders only. */
function combine(a: Term, b: Term, ordered: boolean): Term[] {
  const terms: Term[] = [];
  const add = (sign: string, num: number, den: number): void => {
    if (den === 0 || !Number.isSafeInteger(num) || !Number.isSafeInteger(den)) return;
    const divisor = gcd(Math.abs(num), Math.abs(den)) * Math.sign(den);
    terms.push({
      num: num / divisor,
      den: den / divisor,
      text: `${bracket(a)} ${sign} ${bracket(b)}`,
      compound: true,
    });
  };
  if (ordered) add('+', a.num * b.den + b.num * a.den, a.den * b.den);
  add('-', a.num * b.den - b.num * a.den, a.den * b.den);
  if (ordered) add('*', a.num * b.num, a.den * b.den);
  add('/', a.num * b.den, a.den * b.num);
  return terms;
}

function bracket(term: Term): string {
  return term.compound ? `( ${term.text} )` : term.text;
}

function gcd(a: number, b: number): number {
  return b === 0 ? a : gcd(b, a % b);
}
