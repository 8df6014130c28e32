/**
 * Whether two answers, once read, are the same answer. Symmetric; never throws.
 *
 * Values are compared exactly where they have an exact form (`exact.ts`): 1/2, 0.5 and 2/4 are one value, 0.333 is not
 * 1/3. Where a form holds something that was not taken apart (sin x, sqrt(x + 1), 2^x), both are evaluated at POINTS
 * and must agree to DIGITS digits at each at which both exist, at least MIN_POINTS of them; a decimal fraction
 * of many digits is never taken for such a value.
 * The rules for structures are at their functions; docs/tasks.md has them as a table.
 */
import {
  differenceOf,
  DivisionByZero,
  exactForm,
  rationalOf,
  ratioOf,
  sameForm,
  type ExactForm,
} from './exact.ts';
import { INFINITY, number, variablesOf, type Answer, type Expression } from './expression.ts';
import { agree, isFinite, valueOf } from './numeric.ts';
import { MINUS_ONE, rational, TooLarge } from './rational.ts';

const DIGITS = 10;
const POINTS = 8;
const MIN_POINTS = 3;
/** Characters of a fraction that may be the value of something without an exact form: sin(pi/6) is 1/2. */
const MAX_FRACTION_LENGTH = 8;
/** Of a list, set or union; bounds the pairs that are compared. */
const MAX_ITEMS = 60;

type Value = Extract<Answer, { kind: 'value' }>;
type Relation = Extract<Answer, { kind: 'relation' }>;

export function same(first: Answer, second: Answer): boolean {
  const [a, b] = [unpacked(first), unpacked(second)];
  if (a.kind === 'relation' && b.kind === 'relation') {
    if (isMembership(a) === isMembership(b)) return sameRelation(a, b);
    return isMembership(a) ? sameMembership(a, b) : sameMembership(b, a);
  }
  if (a.kind === 'relation') return sameAsStated(a, b);
  if (b.kind === 'relation') return sameAsStated(b, a);
  if (a.kind === 'value' && b.kind === 'value') return sameValue(a, b);
  if (isUnordered(a) && isUnordered(b)) return sameInAnyOrder(a.items, b.items);
  if (isUnordered(a) && b.kind === 'value') return a.items.length > 0 && sameInAnyOrder(a.items, [b]);
  if (isUnordered(b) && a.kind === 'value') return b.items.length > 0 && sameInAnyOrder([a], b.items);
  if (a.kind === 'group' && b.kind === 'group') {
    // Brackets tell intervals apart, and intervals have two ends.
    const sameBrackets = a.open === b.open && a.close === b.close;
    return (a.items.length !== 2 || sameBrackets) && sameInOrder(a.items, b.items);
  }
  // 1, 2 without brackets is also the point (1, 2), and so is the column of 1 and 2.
  if (a.kind === 'group' && b.kind === 'list') return sameInOrder(a.items, b.items);
  if (a.kind === 'list' && b.kind === 'group') return sameInOrder(a.items, b.items);
  if (a.kind === 'matrix' && b.kind === 'group') return sameColumn(a.rows, b.items);
  if (a.kind === 'group' && b.kind === 'matrix') return sameColumn(b.rows, a.items);
  if (a.kind === 'matrix' && b.kind === 'matrix') {
    return sameLists(a.rows, b.rows, (x, y) => sameLists(x, y, sameExpression));
  }
  // `(-1, 2) or (3, 4)` names the union.
  const [parts, others] = [partsOf(a), partsOf(b)];
  if (parts !== undefined && others !== undefined) return sameInAnyOrder(parts, others);
  if (a.kind === 'ratio' && b.kind === 'ratio') return sameRatio(a.parts, b.parts);
  return false;
}

/** A list or set of one item is that item. */
function unpacked(answer: Answer): Answer {
  if (answer.kind !== 'list' && answer.kind !== 'set') return answer;
  const [only] = answer.items;
  return answer.items.length === 1 && only !== undefined ? only : answer;
}

function isUnordered(answer: Answer): answer is Extract<Answer, { kind: 'list' | 'set' }> {
  return answer.kind === 'list' || answer.kind === 'set';
}

function partsOf(answer: Answer): readonly Answer[] | undefined {
  if (answer.kind === 'union') return answer.parts;
  return answer.kind === 'list' ? answer.items : undefined;
}

function sameLists<T>(a: readonly T[], b: readonly T[], equal: (x: T, y: T) => boolean): boolean {
  return a.length === b.length && a.every((item, i) => equal(item, b[i] as T));
}

function sameInOrder(a: readonly Answer[], b: readonly Answer[]): boolean {
  return sameLists(a, b, same);
}

/** As sets: an item that is there twice counts once. */
function sameInAnyOrder(a: readonly Answer[], b: readonly Answer[]): boolean {
  if (a.length > MAX_ITEMS || b.length > MAX_ITEMS) return sameInOrder(a, b);
  const [ours, left] = [distinct(a), distinct(b)];
  if (ours.length !== left.length) return false;
  for (const item of ours) {
    const place = left.findIndex((other) => same(item, other));
    if (place < 0) return false;
    left.splice(place, 1);
  }
  return true;
}

function distinct(items: readonly Answer[]): Answer[] {
  const found: Answer[] = [];
  for (const item of items) if (!found.some((other) => same(item, other))) found.push(item);
  return found;
}

function sameColumn(rows: readonly Expression[][], items: readonly Answer[]): boolean {
  return (
    sameLists<Answer>(
      rows.map((row) => ({ kind: 'value', value: row[0] as Expression, percent: false })),
      items,
      same,
    ) && rows.every((row) => row.length === 1)
  );
}

/** 1:2:3 is 2:4:6. */
function sameRatio(a: readonly Expression[], b: readonly Expression[]): boolean {
  const [first, other] = [a[0], b[0]];
  if (first === undefined || other === undefined) return false;
  return sameLists(a, b, (x, y) =>
    sameExpression({ kind: 'product', factors: [x, other] }, { kind: 'product', factors: [y, first] }),
  );
}

/** 50% is 1/2, and 50 where the other has no percent sign: graders of MATH drop it. */
function sameValue(a: Value, b: Value): boolean {
  if (sameExpression(a.value, b.value)) return true;
  if (a.percent === b.percent) return false;
  const hundredth = ({ value }: Value): Expression => ({
    kind: 'product',
    factors: [value, number(rational(1, 100))],
  });
  return a.percent ? sameExpression(hundredth(a), b.value) : sameExpression(a.value, hundredth(b));
}

/**
 * Equations are the same when one is a multiple of the other: y = 2x + 3 and 2x - y + 3 = 0. Of a = b = c the ends count.
 * Inequalities: side by side, or one a positive multiple of the other.
 */
function sameRelation(a: Relation, b: Relation): boolean {
  const [one, other] = [withoutMiddle(a), withoutMiddle(b)];
  if (one.signs.join() !== other.signs.join()) return false;
  if (sameInOrder(one.sides, other.sides)) return true;
  const [sign, second] = one.signs;
  if (second !== undefined || sign === undefined || sign === 'in') return false;
  const isSymmetric = sign === '=' || sign === '!=';
  if (isSymmetric && sameInOrder(one.sides, other.sides.toReversed())) return true;
  const ratio = ratioOfDifferences(one, other);
  return ratio !== undefined && (isSymmetric || ratio.num > 0n);
}

const isMembership = ({ signs }: Relation): boolean => signs.length === 1 && signs[0] === 'in';

/** x in [1, 2) is 1 <= x < 2, and y in [1, 2) is not. */
function sameMembership({ sides: [name, set] }: Relation, inequality: Relation): boolean {
  const interval = intervalOf(inequality);
  if (interval === undefined || name === undefined || set === undefined) return false;
  return inequality.sides.some((side) => same(side, name)) && same(interval, set);
}

function withoutMiddle({ kind, sides, signs }: Relation): Relation {
  const [first, last] = [sides[0], sides.at(-1)];
  if (signs.some((sign) => sign !== '=') || first === undefined || last === undefined)
    return { kind, sides, signs };
  return { kind, sides: [first, last], signs: ['='] };
}

function ratioOfDifferences(a: Relation, b: Relation): ReturnType<typeof ratioOf> {
  const difference = ({ sides: [left, right] }: Relation): ReturnType<typeof differenceOf> | undefined => {
    if (left?.kind !== 'value' || right?.kind !== 'value') return undefined;
    const [before, after] = [tryExact(left.value), tryExact(right.value)];
    return before === undefined || after === undefined ? undefined : differenceOf(before, after);
  };
  try {
    const [one, other] = [difference(a), difference(b)];
    return one === undefined || other === undefined || one.size === 0 ? undefined : ratioOf(one, other);
  } catch (error) {
    if (error instanceof TooLarge) return undefined;
    throw error;
  }
}

/** Whether a relation says what the other answer says: x = 5 is 5, x in S is S, -2 <= x < 7 is [-2, 7). */
function sameAsStated(relation: Relation, other: Answer): boolean {
  const interval = intervalOf(relation);
  if (interval !== undefined) return same(interval, other);
  const stated = statedBy(relation);
  return stated !== undefined && same(stated, other);
}

function statedBy({ sides, signs }: Relation): Answer | undefined {
  const [first, last] = [sides[0], sides.at(-1)];
  if (first === undefined || last === undefined) return undefined;
  if (signs.length === 1 && signs[0] === 'in') return isName(first) ? last : undefined;
  if (signs.some((sign) => sign !== '=')) return undefined;
  const isArithmetic = variables(first).size === 0 && variables(last).size === 0;
  if (isName(first) || isArithmetic) return last;
  return isName(last) ? first : undefined;
}

/** What an answer can be called: x, f(x), AB, |AB|, (x, y). */
function isName(answer: Answer): boolean {
  if (answer.kind === 'group') return answer.items.every(isName);
  if (answer.kind !== 'value' || answer.percent || variables(answer).size === 0) return false;
  const isLetters = (value: Expression): boolean =>
    value.kind === 'symbol' ||
    value.kind === 'call' ||
    (value.kind === 'product' && value.factors.every(isLetters)) ||
    (value.kind === 'power' && isLetters(value.base) && value.exponent.kind === 'number');
  return isLetters(answer.value);
}

function variables(answer: Answer): Set<string> {
  return answer.kind === 'value' ? variablesOf(answer.value) : new Set(['']);
}

/** Of inequalities about one thing that varies: x < 3, 5 <= x, -2 < x <= 7. */
function intervalOf({ sides, signs }: Relation): Answer | undefined {
  if (signs.some((sign) => sign !== '<' && sign !== '<=')) return undefined;
  const places = sides.flatMap((side, i) => (variables(side).size > 0 ? [i] : []));
  const [place] = places;
  if (place === undefined || places.length !== 1 || sides.length > 3 || (sides.length === 3 && place !== 1)) {
    return undefined;
  }
  const value = (expression: Expression): Answer => ({ kind: 'value', value: expression, percent: false });
  const low = sides[place - 1] ?? value({ kind: 'product', factors: [number(MINUS_ONE), INFINITY] });
  const high = sides[place + 1] ?? value(INFINITY);
  return {
    kind: 'group',
    open: signs[place - 1] === '<=' ? '[' : '(',
    close: signs[place] === '<=' ? ']' : ')',
    items: [low, high],
  };
}

/** Never throws. */
export function sameExpression(a: Expression, b: Expression): boolean {
  const [one, other] = [tryExact(a), tryExact(b)];
  if (one !== undefined && other !== undefined) {
    try {
      if (sameForm(one, other)) return true;
      if (one.certain && other.certain) return false;
    } catch (error) {
      if (!(error instanceof TooLarge)) throw error;
    }
    if (isLongFraction(one) || isLongFraction(other)) return false;
  }
  return sameAtPoints(a, b);
}

function tryExact(expression: Expression): ExactForm | undefined {
  try {
    return exactForm(expression);
  } catch (error) {
    if (error instanceof TooLarge || error instanceof DivisionByZero) return undefined;
    throw error;
  }
}

function isLongFraction(form: ExactForm): boolean {
  const value = rationalOf(form);
  return value !== undefined && `${value.num}${value.den}`.length > MAX_FRACTION_LENGTH;
}

/** Half of the points have negative coordinates, unless a root or logarithm holds a variable: those are taken as positive. */
function sameAtPoints(a: Expression, b: Expression): boolean {
  const names = [...new Set([...variablesOf(a), ...variablesOf(b)])].toSorted();
  const positive = hasRootOfVariable(a) || hasRootOfVariable(b);
  let agreed = 0;
  for (let point = 0; point < POINTS; point++) {
    const at = new Map(names.map((name, i) => [name, coordinate(point, i, positive)]));
    const [x, y] = [valueOf(a, at), valueOf(b, at)];
    if (isFinite(x) !== isFinite(y)) return false;
    if (!isFinite(x)) continue;
    if (!agree(x, y, DIGITS)) return false;
    agreed += 1;
  }
  return agreed >= MIN_POINTS;
}

/** Between 0.2 and 2.2, spread by irrational steps. */
function coordinate(point: number, variable: number, positive: boolean): number {
  const size = 0.2 + 2 * ((point * 0.414213562 + (variable + 1) * 0.618033989) % 1);
  return !positive && (point + variable) % 2 === 1 ? -size : size;
}

function hasRootOfVariable(expression: Expression): boolean {
  switch (expression.kind) {
    case 'number':
    case 'symbol':
      return false;
    case 'sum':
      return expression.terms.some(hasRootOfVariable);
    case 'product':
      return expression.factors.some(hasRootOfVariable);
    case 'power': {
      const isWhole = expression.exponent.kind === 'number' && expression.exponent.value.den === 1n;
      return !isWhole || hasRootOfVariable(expression.base);
    }
    case 'root':
      return variablesOf(expression.of).size > 0 || hasRootOfVariable(expression.of);
    case 'call':
      return expression.name === 'ln' || expression.name === 'log' || expression.of.some(hasRootOfVariable);
    default:
      return expression satisfies never;
  }
}
