/**
 * From the tokens of an answer to what it is: recursive descent, bounded in depth and length.
 *
 *   answer   = item { ("," | ";") item }
 *   item     = side { ("=" | "!=" | "<" | "<=" | ">" | ">=" | "in") side } [ "approx" ... ]
 *   side     = part { "cup" part }
 *   part     = group | set | [ sum ] matrix | sum { ":" sum }
 *   sum      = [ sign ] product { ("+" | "-") product }
 *   product  = factor { [ "*" | "/" ] factor }        a slash binds as a product does: 1/2x is (1/2)x
 *   factor   = atom { "!" | "'" | degree } [ "^" exponent ]
 *
 * A whole number right before a fraction of whole numbers is a mixed number. Words after a value are its unit and are
 * dropped, and nothing is multiplied or added after them: 5 feet 6 inches is neither 30 nor 11. `a \pm b` is both of its values: the answer is read once for each choice of signs; with a \mp beside it the
 * two go together.
 * Throws `Unreadable`, and `TooLarge` from numbers.
 */
import {
  INFINITY,
  logarithm,
  negative,
  number,
  over,
  product,
  reciprocal,
  symbol,
  type Answer,
  type Expression,
  type RelationSign,
} from './expression.ts';
import { readTokens, Unreadable, type Token } from './lexer.ts';
import { add, equal, MINUS_ONE, ofDecimal, rational, type Rational } from './rational.ts';
import { SCALES } from './words.ts';

/** Longer than any answer; bounds the time. */
export const MAX_LENGTH = 1000;
const MAX_DEPTH = 60;
const MAX_PLUS_MINUS = 3;
const MAX_DIGITS = 1000;

/** `thousands`: whether 1,000 is one number. Throws `Unreadable` and `TooLarge`. */
export function parseAnswer(text: string, thousands: boolean): Answer {
  if (text.length > MAX_LENGTH) throw new Unreadable(`expected at most ${MAX_LENGTH} characters`);
  const tokens = readTokens(text, thousands);
  const variants = plusMinusVariants(tokens).map((variant) => new Parser(variant).answer());
  const [first] = variants;
  if (first === undefined) throw new Unreadable('expected an answer, got none');
  if (variants.length === 1) return first;
  const isSet = first.kind === 'set';
  const items = variants.flatMap((each) =>
    each.kind === 'list' || each.kind === 'set' ? each.items : [each],
  );
  return { kind: isSet ? 'set' : 'list', items };
}

function plusMinusVariants(tokens: Token[]): Token[][] {
  const isSign = (token: Token, sign: string): boolean => token.kind === 'sign' && token.sign === sign;
  const places = tokens.filter((token) => isSign(token, 'pm') || isSign(token, 'mp'));
  if (places.length === 0) return [tokens];
  const together = places.some((token) => isSign(token, 'mp'));
  if (!together && places.length > MAX_PLUS_MINUS) throw new Unreadable('expected fewer plus-minus signs');
  const count = together ? 2 : 2 ** places.length;
  return Array.from({ length: count }, (_, variant) =>
    tokens.map((token): Token => {
      const place = places.indexOf(token);
      if (place < 0) return token;
      const isMinus = together ? variant === 1 : ((variant >> place) & 1) === 1;
      return { kind: 'sign', sign: isMinus === isSign(token, 'pm') ? '-' : '+' };
    }),
  );
}

const RELATIONS: ReadonlyMap<string, { sign: RelationSign; turned: boolean }> = new Map([
  ['=', { sign: '=', turned: false }],
  ['!=', { sign: '!=', turned: false }],
  ['<', { sign: '<', turned: false }],
  ['<=', { sign: '<=', turned: false }],
  ['>', { sign: '<', turned: true }],
  ['>=', { sign: '<=', turned: true }],
  ['in', { sign: 'in', turned: false }],
]);
const CLOSING: ReadonlyMap<string, string> = new Map([
  ['(', ')'],
  ['[', ']'],
  ['{', '}'],
  ['set(', ')set'],
  ['floor(', ')floor'],
  ['ceil(', ')ceil'],
]);
const OPENS = new Set(CLOSING.keys());
const CLOSES = new Set(CLOSING.values());
const MATRICES = new Set(['pmatrix', 'bmatrix', 'matrix', 'Bmatrix', 'array', 'smallmatrix']);
/** What words begin with that say something about the value before them: `5 \text{ or more}`. */
const NO_UNIT = /^(?:or|and|but|is|are|not|if|unless|to) /;
/** Letters that name a function when an opening parenthesis follows. */
const FUNCTION_LETTERS = new Set(['f', 'g']);

/** Bases in words, as in 101_{\text{two}}. */
const BASES: ReadonlyMap<string, string> = new Map(
  'two three four five six seven eight nine ten eleven twelve'
    .split(' ')
    .map((name, i) => [name, String(i + 2)]),
);

/** Holds the place in one list of tokens. */
class Parser {
  readonly #tokens: Token[];
  #at = 0;
  #depth = 0;
  /** Open bars: inside them a bar closes. */
  #bars = 0;
  /** Whether the product that was read last ends in a unit. */
  #endsInUnit = false;

  constructor(tokens: Token[]) {
    this.#tokens = [...tokens];
  }

  answer(): Answer {
    const items = this.#items();
    if (this.#at < this.#tokens.length) throw new Unreadable('expected the end of the answer, got more');
    const [only] = items;
    if (only === undefined) throw new Unreadable('expected an answer, got none');
    return items.length === 1 ? only : { kind: 'list', items };
  }

  /** Up to a closing bracket or the end. Separators may repeat and may stand at the end. */
  #items(): Answer[] {
    const items: Answer[] = [];
    for (;;) {
      while (this.#take(',') || this.#take(';')) continue;
      if (this.#isEnd()) return items;
      items.push(this.#item());
      if (!this.#isSign(',') && !this.#isSign(';')) return items;
    }
  }

  #item(): Answer {
    let sides = [this.#side()];
    let signs: { sign: RelationSign; turned: boolean }[] = [];
    for (;;) {
      const token = this.#peek();
      if (token?.kind !== 'sign') break;
      if (token.sign === 'approx') {
        // x ≈ 3.1 states a value; after a value, it is an estimate of it.
        this.#at += 1;
        const estimate = this.#side();
        const [first] = sides;
        const isNamed = sides.length === 1 && first?.kind === 'value' && first.value.kind === 'symbol';
        if (
          isNamed &&
          first.value.kind === 'symbol' &&
          first.value.name !== 'pi' &&
          first.value.name !== 'e'
        ) {
          sides = [first, estimate];
          signs = [{ sign: '=', turned: false }];
        }
        continue;
      }
      const relation = RELATIONS.get(token.sign);
      if (relation === undefined) break;
      this.#at += 1;
      signs.push(relation);
      sides.push(this.#side());
    }
    const [only] = sides;
    if (only === undefined || signs.length === 0) return only as Answer;
    const turned = signs.some((each) => each.turned);
    if (turned && signs.some((each) => !each.turned && each.sign !== '=')) {
      throw new Unreadable('expected relations in one direction');
    }
    const names = signs.map(({ sign }) => sign);
    return turned
      ? { kind: 'relation', sides: sides.toReversed(), signs: names.toReversed() }
      : { kind: 'relation', sides, signs: names };
  }

  #side(): Answer {
    const parts = [this.#part()];
    while (this.#take('cup')) parts.push(this.#part());
    const [only] = parts;
    return parts.length === 1 && only !== undefined ? only : { kind: 'union', parts };
  }

  #part(): Answer {
    if (this.#take('empty')) return { kind: 'set', items: [] };
    const token = this.#peek();
    if (token?.kind === 'letter' && token.name === 'set R') {
      this.#at += 1;
      const value = (expression: Expression): Answer => ({
        kind: 'value',
        value: expression,
        percent: false,
      });
      const items = [value(negative(INFINITY)), value(INFINITY)];
      return { kind: 'group', open: '(', close: ')', items };
    }
    const structure = this.#tryStructure();
    if (structure !== undefined) return structure;
    if (token?.kind === 'begin') return this.#matrix();
    const bracketed = this.#tryBracketedMatrix();
    if (bracketed !== undefined) return bracketed;

    const parts = [this.#sum()];
    const after = this.#peek();
    if (after?.kind === 'begin') {
      const matrix = this.#matrix();
      const [factor] = parts;
      if (matrix.kind !== 'matrix' || factor === undefined) return matrix;
      return { kind: 'matrix', rows: matrix.rows.map((row) => row.map((entry) => product([factor, entry]))) };
    }
    while (this.#take(':')) parts.push(this.#sum());
    if (parts.length > 2) return { kind: 'ratio', parts };
    const [value, divisor] = parts;
    if (value === undefined) throw new Unreadable('expected a value');
    const percent = this.#take('%');
    this.#dropUnits();
    return { kind: 'value', value: divisor === undefined ? value : over(value, divisor), percent };
  }

  /** A tuple, interval or set, which brackets with a comma inside are, where nothing but a bracket follows. */
  #tryStructure(): Answer | undefined {
    const token = this.#peek();
    if (token?.kind !== 'sign' || !['(', '[', 'set(', '{'].includes(token.sign)) return undefined;
    const { end, hasComma } = this.#findClose();
    const last = this.#tokens[end];
    if (last?.kind !== 'sign') return undefined;
    const isSet = token.sign === 'set(' || token.sign === '{';
    if (isSet ? last.sign !== (token.sign === '{' ? '}' : ')set') : last.sign !== ')' && last.sign !== ']')
      return undefined;
    const isPair = !isSet && hasComma;
    if (!isPair && token.sign !== 'set(' && !(token.sign === '{' && hasComma)) return undefined;
    if (!this.#endsAfter(end)) return undefined;
    this.#at += 1;
    this.#enter();
    const items = this.#items();
    this.#depth -= 1;
    if (this.#at !== end) throw new Unreadable('expected a closing bracket');
    this.#at = end + 1;
    this.#dropUnits();
    // Bare braces group and are not seen; \{ and \} are.
    if (token.sign === '{') return { kind: 'list', items };
    if (isSet) return { kind: 'set', items };
    return {
      kind: 'group',
      open: token.sign === '[' ? '[' : '(',
      close: last.sign === ']' ? ']' : ')',
      items,
    };
  }

  /** Whether a structure that ends here is not a factor of something. */
  #endsAfter(end: number): boolean {
    const next = this.#tokens[end + 1];
    if (next === undefined || next.kind === 'text') return true;
    return (
      next.kind === 'sign' &&
      (RELATIONS.has(next.sign) ||
        [',', ';', 'cup', 'approx', ':', '&', 'row'].includes(next.sign) ||
        CLOSES.has(next.sign))
    );
  }

  /** The token that closes the bracket at this place, of whatever kind, and whether a comma stands directly inside. */
  #findClose(): { end: number; hasComma: boolean } {
    let depth = 0;
    let hasComma = false;
    for (let i = this.#at; i < this.#tokens.length; i++) {
      const token = this.#tokens[i];
      if (token?.kind !== 'sign') continue;
      if (OPENS.has(token.sign)) depth += 1;
      else if (CLOSES.has(token.sign) && --depth === 0) return { end: i, hasComma };
      else if (depth === 1 && (token.sign === ',' || token.sign === ';')) hasComma = true;
    }
    return { end: -1, hasComma };
  }

  #matrix(): Answer {
    const begin = this.#peek();
    if (begin?.kind !== 'begin' || !MATRICES.has(begin.name)) throw new Unreadable('expected a matrix');
    this.#at += 1;
    this.#enter();
    const rows: Expression[][] = [[]];
    for (;;) {
      const token = this.#peek();
      if (token?.kind === 'end') break;
      if (this.#take('row')) rows.push([]);
      else if (!this.#take('&')) rows.at(-1)?.push(this.#sum());
    }
    this.#depth -= 1;
    this.#at += 1;
    return { kind: 'matrix', rows: rows.filter((row) => row.length > 0) };
  }

  /** `[ \begin{array}...\end{array} ]`: its brackets are those of the matrix. */
  #tryBracketedMatrix(): Answer | undefined {
    const start = this.#at;
    if (this.#tokens[start + 1]?.kind !== 'begin' || !(this.#take('(') || this.#take('['))) return undefined;
    const matrix = this.#matrix();
    if (this.#take(')') || this.#take(']')) return matrix;
    this.#at = start;
    return undefined;
  }

  #sum(): Expression {
    this.#enter();
    const terms: Expression[] = [];
    const first = this.#take('-') ? true : (this.#take('+'), false);
    terms.push(first ? negative(this.#product()) : this.#product());
    for (;;) {
      if (this.#endsInUnit && (this.#isSign('+') || this.#isSign('-')))
        throw new Unreadable('a term after a unit');
      if (this.#take('+')) terms.push(this.#product());
      else if (this.#take('-')) terms.push(negative(this.#product()));
      else break;
    }
    this.#depth -= 1;
    const [only] = terms;
    return terms.length === 1 && only !== undefined ? only : { kind: 'sum', terms };
  }

  #product(): Expression {
    const factors: Expression[] = [this.#signedFactor()];
    for (;;) {
      this.#endsInUnit = this.#dropUnits();
      if (this.#endsInUnit && (this.#isSign('*') || this.#isSign('/') || this.#startsFactor()))
        throw new Unreadable('a factor after a unit');
      if (this.#take('*')) factors.push(this.#signedFactor());
      else if (this.#take('/')) factors.push(reciprocal(this.#signedFactor()));
      else if (this.#isSign('%') && this.#startsFactorAt(this.#at + 1))
        throw new Unreadable('a percent sign inside');
      else if (this.#startsFactor()) factors.push(this.#factor());
      else return product(factors);
    }
  }

  #signedFactor(): Expression {
    this.#enter();
    const minus = this.#take('-');
    if (!minus) this.#take('+');
    const factor = minus ? negative(this.#signedFactor()) : this.#factor();
    this.#depth -= 1;
    return factor;
  }

  #factor(): Expression {
    this.#enter();
    let base = this.#atom();
    for (;;) {
      const token = this.#peek();
      if (this.#take('!')) base = { kind: 'call', name: 'factorial', of: [base] };
      else if (this.#take('degree')) continue;
      else if (token?.kind === 'scale') {
        this.#at += 1;
        base = product([base, number(rational(SCALES.get(token.word) ?? 1n))]);
      } else if (this.#isSign('^')) {
        this.#at += 1;
        if (this.#isDegree()) continue;
        base = { kind: 'power', base, exponent: this.#argument(true) };
      } else break;
    }
    this.#depth -= 1;
    return base;
  }

  /** Eats `\circ` or `{\circ}`. */
  #isDegree(): boolean {
    if (this.#take('degree')) return true;
    const inside = this.#tokens[this.#at + 1];
    if (!this.#isSign('{') || inside?.kind !== 'sign' || inside.sign !== 'degree') return false;
    this.#at += 2;
    this.#expect('}');
    return true;
  }

  #atom(): Expression {
    const token = this.#peek();
    if (token === undefined) throw new Unreadable('expected a value, got the end');
    if (token.kind === 'number') return this.#number();
    if (token.kind === 'letter') return this.#letter();
    if (token.kind === 'text') {
      this.#at += 1;
      return symbol(`text: ${token.text}`);
    }
    if (token.kind === 'function') return this.#call();
    if (token.kind !== 'sign') throw new Unreadable(`expected a value, got ${token.kind}`);
    this.#at += 1;
    switch (token.sign) {
      case '(':
      case '[':
      case '{':
        return this.#inside(CLOSING.get(token.sign) ?? ')');
      case 'floor(':
        return { kind: 'call', name: 'floor', of: [this.#inside(')floor')] };
      case 'ceil(':
        return { kind: 'call', name: 'ceil', of: [this.#inside(')ceil')] };
      case '|': {
        this.#bars += 1;
        const of = this.#sum();
        this.#bars -= 1;
        this.#expect('|');
        return { kind: 'call', name: 'abs', of: [of] };
      }
      case 'frac': {
        const above = this.#argument(false);
        return over(above, this.#argument(false));
      }
      case 'binom': {
        const from = this.#argument(false);
        return { kind: 'call', name: 'binomial', of: [from, this.#argument(false)] };
      }
      case 'sqrt': {
        const degree = this.#take('[') ? wholeOf(this.#inside(']')) : 2;
        return { kind: 'root', degree, of: this.#argument(true) };
      }
      case 'infinity':
        return INFINITY;
      case 'overline':
        // A line over letters names a segment, which is its letters.
        return this.#argument(false);
      default:
        throw new Unreadable(`expected a value, got ${token.sign}`);
    }
  }

  #inside(close: string): Expression {
    const bars = this.#bars;
    this.#bars = 0;
    const inside = this.#sum();
    this.#bars = bars;
    this.#take('%');
    this.#expect(close);
    return inside;
  }

  /** `{...}`, or what stands next: of a number its first digit as in TeX, or all of it where `wholeNumber`. */
  #argument(wholeNumber: boolean): Expression {
    this.#enter();
    try {
      const token = this.#peek();
      if (this.#take('{')) return this.#inside('}');
      if (this.#take('-')) return negative(this.#argument(wholeNumber));
      if (token?.kind !== 'number') return this.#atom();
      if (wholeNumber || token.digits.length === 1) {
        this.#at += 1;
        return number(ofDigits(token.digits));
      }
      this.#tokens[this.#at] = { ...token, digits: token.digits.slice(1) };
      return number(ofDigits(token.digits.slice(0, 1)));
    } finally {
      this.#depth -= 1;
    }
  }

  /** With its base, its repeating digits, or the fraction of a mixed number. */
  #number(): Expression {
    const token = this.#peek();
    if (token?.kind !== 'number') throw new Unreadable('expected a number');
    this.#at += 1;
    const { digits } = token;
    if (this.#take('_')) {
      const named = subscriptOf(this.#argument(true));
      const base = BASES.get(named) ?? named;
      return base === '10'
        ? number(ofDigits(digits))
        : symbol(`base ${base}: ${digits.replace(/^0+(?=.)/, '')}`);
    }
    if (this.#isSign('overline') && digits.includes('.')) {
      this.#at += 1;
      this.#expect('{');
      const repeating = this.#peek();
      if (repeating?.kind !== 'number' || repeating.digits.includes('.'))
        throw new Unreadable('expected digits');
      this.#at += 1;
      this.#expect('}');
      return number(withRepeating(digits, repeating.digits));
    }
    const fraction = digits.includes('.') ? undefined : this.#tryFractionOfWholes();
    return number(fraction === undefined ? ofDigits(digits) : add(ofDigits(digits), fraction));
  }

  /** The `\frac{1}{2}` or ` 1/2` of a mixed number. */
  #tryFractionOfWholes(): Rational | undefined {
    const start = this.#at;
    const next = this.#peek();
    if (next?.kind === 'number' && next.spaced && !next.digits.includes('.')) {
      const [slash, below] = [this.#tokens[start + 1], this.#tokens[start + 2]];
      if (
        slash?.kind !== 'sign' ||
        slash.sign !== '/' ||
        below?.kind !== 'number' ||
        /[.]|^0+$/.test(below.digits)
      ) {
        return undefined;
      }
      this.#at += 3;
      return rational(BigInt(next.digits), BigInt(below.digits));
    }
    if (!this.#isSign('frac')) return undefined;
    this.#at += 1;
    const [above, below] = [this.#argument(false), this.#argument(false)];
    const isWhole = (e: Expression): e is Extract<Expression, { kind: 'number' }> =>
      e.kind === 'number' && e.value.den === 1n;
    if (isWhole(above) && isWhole(below) && below.value.num !== 0n) {
      return rational(above.value.num, below.value.num);
    }
    throw new Unreadable('expected a mixed number of whole numbers');
  }

  #letter(): Expression {
    const token = this.#peek();
    if (token?.kind !== 'letter') throw new Unreadable('expected a letter');
    this.#at += 1;
    let { name } = token;
    if (this.#take('_')) name += `_${subscriptOf(this.#argument(true))}`;
    while (this.#take("'")) name += "'";
    const isFunction = FUNCTION_LETTERS.has(name.charAt(0)) || name.endsWith("'");
    if (!isFunction || !this.#isSign('(')) return symbol(name);
    this.#at += 1;
    this.#enter();
    const of: Expression[] = [this.#sum()];
    while (this.#take(',')) of.push(this.#sum());
    this.#depth -= 1;
    this.#expect(')');
    return { kind: 'call', name, of };
  }

  /** `\sin^2 2x`: the argument goes on up to a sign, a bracket that closes, or another function. */
  #call(): Expression {
    const token = this.#peek();
    if (token?.kind !== 'function') throw new Unreadable('expected a function');
    this.#at += 1;
    const { name } = token;
    let exponent: Expression | undefined;
    let base: Expression | undefined;
    for (;;) {
      if (this.#take('^')) exponent = this.#argument(true);
      else if (this.#take('_')) base = this.#argument(true);
      else break;
    }
    const of = this.#functionArguments(name);
    const [inside] = of;
    if (inside === undefined) throw new Unreadable('expected an argument');
    let value: Expression;
    if (name === 'log') value = logarithm(inside, base);
    else if (name === 'exp') value = { kind: 'power', base: symbol('e'), exponent: inside };
    else value = { kind: 'call', name, of };
    if (exponent === undefined) return value;
    const isInverse =
      exponent.kind === 'number' && equal(exponent.value, MINUS_ONE) && /^(sin|cos|tan|cot)$/.test(name);
    return isInverse ? { kind: 'call', name: `arc${name}`, of } : { kind: 'power', base: value, exponent };
  }

  #functionArguments(name: string): Expression[] {
    this.#enter();
    const of: Expression[] = [];
    if (this.#take('(')) {
      do of.push(this.#sum());
      while (this.#take(','));
      this.#expect(')');
    } else if (this.#take('{')) {
      of.push(this.#inside('}'));
    } else {
      const factors = [this.#take('-') ? negative(this.#factor()) : this.#factor()];
      while (this.#startsFactor() && this.#peek()?.kind !== 'function' && !this.#isSign('(')) {
        factors.push(this.#factor());
      }
      if (this.#isSign('(') && name === 'ln') throw new Unreadable('expected one argument');
      of.push(product(factors));
    }
    this.#depth -= 1;
    return of;
  }

  /** Words after a value, and what they are raised to: `cm^2`, `\text{ inches}^2`. Whether there were any. */
  #dropUnits(): boolean {
    const start = this.#at;
    for (;;) {
      const token = this.#peek();
      const slash =
        token?.kind === 'sign' && token.sign === '/' && this.#tokens[this.#at + 1]?.kind === 'text';
      if (token?.kind !== 'text' && !slash) return this.#at > start;
      if (token?.kind === 'text' && NO_UNIT.test(token.text)) throw new Unreadable('words that are no unit');
      this.#at += slash ? 2 : 1;
      if (this.#take('^')) this.#argument(true);
    }
  }

  #startsFactor(): boolean {
    return this.#startsFactorAt(this.#at);
  }

  #startsFactorAt(place: number): boolean {
    const token = this.#tokens[place];
    if (token === undefined) return false;
    if (token.kind === 'number' || token.kind === 'letter' || token.kind === 'function') return true;
    if (token.kind !== 'sign') return false;
    if (token.sign === '|') return this.#bars === 0;
    return ['(', '[', '{', 'frac', 'sqrt', 'binom', 'floor(', 'ceil(', 'infinity', 'overline'].includes(
      token.sign,
    );
  }

  #peek(): Token | undefined {
    return this.#tokens[this.#at];
  }

  #isSign(sign: string): boolean {
    const token = this.#peek();
    return token?.kind === 'sign' && token.sign === sign;
  }

  #take(sign: string): boolean {
    if (!this.#isSign(sign)) return false;
    this.#at += 1;
    return true;
  }

  #expect(sign: string): void {
    if (!this.#take(sign)) throw new Unreadable(`expected ${sign}`);
  }

  #isEnd(): boolean {
    const token = this.#peek();
    return token === undefined || (token.kind === 'sign' && CLOSES.has(token.sign));
  }

  #enter(): void {
    this.#depth += 1;
    if (this.#depth > MAX_DEPTH) throw new Unreadable(`expected at most ${MAX_DEPTH} levels`);
  }
}

function wholeOf(expression: Expression): number {
  if (expression.kind !== 'number' || expression.value.den !== 1n)
    throw new Unreadable('expected a whole degree');
  const degree = Number(expression.value.num);
  if (degree < 1 || degree > 64) throw new Unreadable('expected a degree from 1 to 64');
  return degree;
}

/** A subscript as part of a name. */
function subscriptOf(expression: Expression): string {
  switch (expression.kind) {
    case 'number':
      return `${expression.value.num}${expression.value.den === 1n ? '' : `/${expression.value.den}`}`;
    case 'symbol':
      return expression.name.replace(/^text: /, '');
    case 'sum':
      return expression.terms.map(subscriptOf).join('+');
    case 'product':
      return expression.factors.map(subscriptOf).join('');
    case 'power':
    case 'root':
    case 'call':
      throw new Unreadable('expected a subscript that is a name');
    default:
      return expression satisfies never;
  }
}

function ofDigits(digits: string): Rational {
  if (digits.length > MAX_DIGITS) throw new Unreadable(`expected at most ${MAX_DIGITS} digits`);
  return ofDecimal(digits);
}

/** 0.1 and 6 repeating: 1/6. */
function withRepeating(start: string, repeating: string): Rational {
  const places = start.split('.')[1]?.length ?? 0;
  const period = rational(BigInt(repeating), 10n ** BigInt(repeating.length) - 1n);
  return add(ofDigits(start), rational(period.num, period.den * 10n ** BigInt(places)));
}
