/**
 * The final number of an answer to a word problem, as an exact fraction.
 *
 *   1. after the last `####` that a number follows, as in GSM8K's own answers;
 *   2. else in the last \boxed{...};
 *   3. else after the last "answer is" or "Answer:";
 *   4. else the last number of the text.
 *
 * A statement is its one number, as a fraction or with words too (`1/2`, `3 million`); of `9 * 2 = 18` it is what stands
 * after the sign; of anything else it is the first number: nothing is calculated. Where a place states something that is
 * no number, the next one counts. Currency signs, thousands commas, percent signs and units are dropped.
 * 1 and 4 are close to `strict-match` and `flexible-extract` of EleutherAI's lm-evaluation-harness
 * (tasks/gsm8k/gsm8k.yaml). Departures: of several `####` the last counts, not the first; the side after a `=`.
 */
import type { Answer } from './math-answer/expression.ts';
import { exactForm, DivisionByZero, rationalOf } from './math-answer/exact.ts';
import { afterAnswerIs, lastBoxed, searched } from './math-answer/extract.ts';
import { readings } from './math-answer/math-answer.ts';
import { divide, negate, add, ofDecimal, TooLarge, type Rational } from './math-answer/rational.ts';

/** Longer numbers are no answers to word problems. */
const MAX_LENGTH = 60;
/** Commas at thousands, as in India, or misplaced: the last group has at least three digits. */
const WHOLE = String.raw`(?:\d{1,3}(?:,\d{2,})*,\d{3,}|\d+)`;
/** 2 1/2, 1/2, 1,234.5, .5, with a sign and a currency before it; a minus between two values is no sign. */
const NUMBER = new RegExp(
  String.raw`(?:(?<![\w)\]}.])([-−])\s?)?(?:\\?[$€£¥]\s?([-−])?)?(?<![\w.])` +
    String.raw`(?:(\d+)\s+(\d+)\s*/\s*(\d+)|(${WHOLE}(?:\.\d+)?|\.\d+)(?:\s*/\s*(\d+))?)`,
  'g',
);

/** undefined where a text holds no number. Never throws. */
export function finalNumber(answer: string): Rational | undefined {
  const text = searched(answer);
  const stated = [afterHashes(text), lastBoxed(text), afterAnswerIs(text)];
  for (const statement of stated) {
    const number = statement === undefined ? undefined : numberIn(statement);
    if (number !== undefined) return number;
  }
  return numbersOf(text).at(-1);
}

/** A bare number: `18`, `1,800`, `-5`, `$3.50`, `3/4`. */
export function bareNumber(text: string): Rational | undefined {
  return valueOf(text.trim());
}

/** Every number of a text, from left to right. */
export function numbersOf(text: string): Rational[] {
  return [...text.matchAll(NUMBER)].flatMap((found) => {
    const [, before = '', after = '', whole, above, below, single, divisor = '1'] = found;
    if (found[0].length > MAX_LENGTH || isZero(below) || isZero(divisor)) return [];
    const digits = (written: string): Rational => ofDecimal(written.replaceAll(',', ''));
    const value =
      whole !== undefined && above !== undefined && below !== undefined
        ? add(digits(whole), divide(digits(above), digits(below)))
        : divide(digits(single ?? '0'), digits(divisor));
    return [before + after === '' ? value : negate(value)];
  });
}

const isZero = (digits: string | undefined): boolean => digits !== undefined && /^0+$/.test(digits);

/** A heading may begin with as many signs: what follows must begin as a number does. */
function afterHashes(text: string): string | undefined {
  const found = [...text.matchAll(/####[ \t]*((?:\\?[$€£¥]|[-−\\.\d(])[^\n]*)/g)];
  return found.at(-1)?.[1]?.trim();
}

/** The value of a statement that is one number, else the first number in it. */
function numberIn(statement: string): Rational | undefined {
  return valueOf(statement) ?? numbersOf(withPlainNumbers(statement))[0];
}

const FRACTION = /\\[dtc]?frac\s*(?:\{\s*(\d+)\s*\}|(\d))\s*(?:\{\s*(\d+)\s*\}|(\d))/g;

/** LaTeX's fractions as 1/2, and commas between thousands. */
function withPlainNumbers(statement: string): string {
  return statement
    .replaceAll(FRACTION, (_, a: string, b: string, c: string, d: string) => ` ${a ?? b}/${c ?? d} `)
    .replaceAll(/(?<=\d)(?:\{,\}|,?\\[,! ]| )(?=\d{3}(?!\d))/g, ',');
}

/** Whether a statement, or what stands after its last `=`, holds one number and nothing is done with it. */
function isOneNumber(statement: string): boolean {
  // m^2 is a unit.
  const side = (withPlainNumbers(statement).split('=').at(-1) ?? '').replaceAll(/\^\{?\d\}?/g, '');
  return numbersOf(side).length === 1 && !side.includes('!');
}

function valueOf(statement: string): Rational | undefined {
  if (!isOneNumber(statement)) return undefined;
  for (const answer of readings(statement.replace(/\.$/, ''))) {
    const value = rationalIn(answer);
    if (value !== undefined) return value;
  }
  return undefined;
}

function rationalIn(answer: Answer): Rational | undefined {
  if (answer.kind === 'relation') {
    const last = answer.sides.at(-1);
    return last === undefined || answer.signs.some((sign) => sign !== '=') ? undefined : rationalIn(last);
  }
  if (answer.kind !== 'value') return undefined;
  try {
    return rationalOf(exactForm(answer.value));
  } catch (error) {
    if (error instanceof TooLarge || error instanceof DivisionByZero) return undefined;
    throw error;
  }
}
