/**
 * The text of an answer, LaTeX or plain, as tokens.
 *
 * Layout is dropped (white space, \left, \!, \displaystyle, dollar signs), other ways to write the same are made one
 * (\dfrac, \tfrac and \frac; `<=` and \le; ** and ^), and words get a meaning: a function, a unit, `and`, a text.
 * A comma in 1,000 is part of the number when `thousands` is set, else it separates.
 * Throws `Unreadable`.
 */
import { FUNCTIONS, GREEK, isUnit, SCALES, UNICODE } from './words.ts';

export type Token =
  /** Digits with at most one point. `spaced`: white space stands before it. */
  | { kind: 'number'; digits: string; spaced: boolean }
  | { kind: 'letter'; name: string }
  | { kind: 'function'; name: string }
  /** Words: an answer of their own, or a unit. */
  | { kind: 'text'; text: string }
  | { kind: 'scale'; word: string }
  | { kind: 'begin' | 'end'; name: string }
  /** Everything else, by one name each. */
  | { kind: 'sign'; sign: string };

/** The text is not an answer in the grammar. */
export class Unreadable extends Error {}

const LAYOUT = new Set(
  (
    'left right middle big Big bigg Bigg bigl bigr Bigl Bigr biggl biggr Biggl Biggr displaystyle textstyle scriptstyle ' +
    'limits nolimits quad qquad rm bf it mathstrut strut hfill allowbreak nobreak'
  ).split(' '),
);
const TEXTS = new Set(
  'text mbox hbox textbf textrm textit texttt textsf textnormal emph textsc underline'.split(' '),
);
const FONTS = new Set(
  'mathrm mathbf mathit mathsf mathtt mathcal operatorname boldsymbol bm vec hat bar overrightarrow boxed fbox ensuremath tilde'.split(
    ' ',
  ),
);
/** Commands that are another sign. */
const SIGNS: ReadonlyMap<string, string> = new Map([
  ...['frac', 'dfrac', 'tfrac', 'cfrac'].map((name) => [name, 'frac'] as const),
  ...['binom', 'dbinom', 'tbinom'].map((name) => [name, 'binom'] as const),
  ...['cdot', 'times', 'ast', 'cdotp'].map((name) => [name, '*'] as const),
  ...['le', 'leq', 'leqslant', 'leqq'].map((name) => [name, '<='] as const),
  ...['ge', 'geq', 'geqslant', 'geqq'].map((name) => [name, '>='] as const),
  ...['ne', 'neq'].map((name) => [name, '!='] as const),
  ...['approx', 'simeq', 'sim', 'doteq'].map((name) => [name, 'approx'] as const),
  ...['emptyset', 'varnothing'].map((name) => [name, 'empty'] as const),
  ...['lvert', 'rvert', 'vert', 'mid'].map((name) => [name, '|'] as const),
  ...['circ', 'degree', 'degrees'].map((name) => [name, 'degree'] as const),
  ...['cup', 'bigcup'].map((name) => [name, 'cup'] as const),
  ...['land', 'wedge', 'lor', 'vee'].map((name) => [name, ','] as const),
  ['sqrt', 'sqrt'],
  ['div', '/'],
  ['lt', '<'],
  ['gt', '>'],
  ['equiv', '='],
  ['in', 'in'],
  ['pm', 'pm'],
  ['mp', 'mp'],
  ['infty', 'infinity'],
  ['lbrace', 'set('],
  ['rbrace', ')set'],
  ['lbrack', '['],
  ['rbrack', ']'],
  ['lparen', '('],
  ['rparen', ')'],
  ['langle', '('],
  ['rangle', ')'],
  ['lfloor', 'floor('],
  ['rfloor', ')floor'],
  ['lceil', 'ceil('],
  ['rceil', ')ceil'],
  ['colon', ':'],
  ['overline', 'overline'],
  ['prime', "'"],
]);
/** Two characters, then one, as they are written without a command. */
const PLAIN: readonly (readonly [string, string])[] = [
  ['**', '^'],
  ['<=', '<='],
  ['>=', '>='],
  ['!=', '!='],
  ['==', '='],
  ..."+-*/^_(){}[]|,;:=<>!%&'".split('').map((sign) => [sign, sign] as const),
];

const NUMBER = /\d+(?:\.\d*)?|\.\d+/y;
const NUMBER_WITH_COMMAS = /\d{1,3}(?:(?:,\\!\s*|\\!,|,|\{,\}|\\,\s*|\\ | )\d{3})+(?!\d)(?:\.\d+)?/y;
/** 1.5e3, 2e3; but 2e-3 is a product and a difference, and 4E3 may have base 16. */
const SCIENTIFIC = /(?:(\d+\.\d+)[eE]([+-]?\d{1,3})|(\d+)e\+?(\d{1,3}))(?![\w^.])/y;
const WORD = /[A-Za-z]+/y;
const COMMAND = /\\([A-Za-z]+)\*?/y;

/** Where a token stands: in a matrix, `\\` ends a row. */
export function readTokens(source: string, thousands: boolean): Token[] {
  const text = source.replaceAll(/[^\x20-\x7e]/gu, (sign) => UNICODE.get(sign) ?? sign);
  const tokens: Token[] = [];
  let at = 0;
  let spaced = false;
  let openMatrices = 0;

  const match = (pattern: RegExp): RegExpExecArray | null => {
    pattern.lastIndex = at;
    const found = pattern.exec(text);
    if (found !== null) at += found[0].length;
    return found;
  };
  const sign = (name: string): void => void tokens.push({ kind: 'sign', sign: name });
  /** The inside of the braces that come next; undefined where none do. */
  const braced = (): string | undefined => {
    while (text[at] === ' ') at += 1;
    if (text[at] !== '{') return undefined;
    const end = closingBrace(text, at);
    if (end === undefined) throw new Unreadable('expected a closing brace, got none');
    const inside = text.slice(at + 1, end);
    at = end + 1;
    return inside;
  };

  const command = (name: string): void => {
    const known = SIGNS.get(name);
    if (known !== undefined) sign(known);
    else if (LAYOUT.has(name)) return;
    else if (TEXTS.has(name)) readText(braced() ?? '', tokens, thousands);
    else if (name === 'mathbb') {
      const set = braced();
      tokens.push({ kind: 'letter', name: `set ${set ?? ''}` });
    } else if (FONTS.has(name)) {
      const inside = braced();
      // A letter in another font is that letter.
      if (inside !== undefined) readFont(inside, tokens, thousands);
    } else if (name === 'begin' || name === 'end') {
      const environment = (braced() ?? '').replace('*', '');
      openMatrices += name === 'begin' ? 1 : -1;
      tokens.push({ kind: name, name: environment });
      if (name === 'begin' && environment === 'array') braced();
    } else if (name === 'pi') tokens.push({ kind: 'letter', name: 'pi' });
    else if (GREEK.has(name)) tokens.push({ kind: 'letter', name });
    else if (FUNCTIONS.has(name)) tokens.push({ kind: 'function', name: FUNCTIONS.get(name) ?? name });
    else if (name === 'hspace' || name === 'phantom' || name === 'vspace') braced();
    else throw new Unreadable(`expected a known command, got \\${name}`);
  };

  while (at < text.length) {
    const wasSpaced = spaced;
    spaced = false;
    const char = text.charAt(at);
    if (/\s/.test(char) || char === '~' || char === '$') {
      at += 1;
      spaced = true;
      continue;
    }
    if (char === '\\') {
      // Inside a matrix two backslashes end a row; elsewhere they are one that was escaped twice.
      if (text[at + 1] === '\\') {
        if (openMatrices > 0) {
          sign('row');
          at += 2;
        } else {
          at += 1;
          if (!/[A-Za-z]/.test(text.charAt(at + 1))) at += 1;
        }
        continue;
      }
      const named = match(COMMAND);
      if (named !== null) {
        command(named[1] ?? '');
        continue;
      }
      const next = text.charAt(at + 1);
      at += 2;
      if (next === '{') sign('set(');
      else if (next === '}') sign(')set');
      else if (next === '%') sign('%');
      else if (next === '|') sign('|');
      else if (next === '&' || next === '_') throw new Unreadable(`expected an answer, got \\${next}`);
      else spaced = true;
      continue;
    }
    const scientific = match(SCIENTIFIC);
    if (scientific !== null) {
      const [, mantissa = '', exponent = '', whole = mantissa, power = exponent] = scientific;
      tokens.push({ kind: 'number', digits: shifted(whole, Number(power)), spaced: wasSpaced });
      continue;
    }
    const digits = (thousands ? match(NUMBER_WITH_COMMAS) : null) ?? match(NUMBER);
    if (digits !== null) {
      tokens.push({ kind: 'number', digits: digits[0].replaceAll(/[^\d.]/g, ''), spaced: wasSpaced });
      continue;
    }
    const word = match(WORD);
    if (word !== null) {
      readWord(word[0], wasSpaced, tokens);
      continue;
    }
    // A sign in braces has other space around it and is the same sign.
    const [, signInBraces] = match(/\{([,:;=<>+-])\}/y) ?? [];
    if (signInBraces !== undefined) {
      sign(signInBraces);
      continue;
    }
    const plain = PLAIN.find(([written]) => text.startsWith(written, at));
    if (plain === undefined) {
      if (/[€£¥]/.test(char) || (char === '.' && at === text.length - 1)) {
        at += 1;
        continue;
      }
      throw new Unreadable(`expected an answer, got ${JSON.stringify(char)}`);
    }
    sign(plain[1]);
    at += plain[0].length;
  }
  return tokens;
}

/** The digits of a number times a power of ten. */
function shifted(digits: string, power: number): string {
  const [whole = '', fraction = ''] = digits.split('.');
  const point = whole.length + power;
  const all = (whole + fraction).padStart(whole.length + fraction.length - Math.min(point, 0), '0');
  const place = Math.max(point, 0);
  const padded = all.padEnd(place, '0');
  return place >= padded.length ? padded : `${padded.slice(0, place)}.${padded.slice(place)}`;
}

/** The index of the brace that closes the one at `open`. */
export function closingBrace(text: string, open: number): number | undefined {
  let depth = 0;
  for (let i = open; i < text.length; i++) {
    const char = text[i];
    if (char === '\\') i += 1;
    else if (char === '{') depth += 1;
    else if (char === '}' && --depth === 0) return i;
  }
  return undefined;
}

/** What stands inside \text{...}: a connective, mathematics with its unit, or words. */
function readText(inside: string, tokens: Token[], thousands: boolean): void {
  const text = inside.trim();
  if (text === '') return;
  const joined = /^,?\s*(?:and|or|,)$/i.test(text);
  if (joined) {
    tokens.push({ kind: 'sign', sign: ',' });
    return;
  }
  const isWords = /^[A-Za-z][A-Za-z\s.,'/-]*(?:\^\{?\d\}?)?$/.test(text);
  const isLetter = /^[A-Za-z]$/.test(text);
  if (isWords && !(isLetter && !afterOperand(tokens))) {
    const small = text.toLowerCase();
    if (/^percent(age)?$/.test(small)) tokens.push({ kind: 'sign', sign: '%' });
    else if (SCALES.has(small)) tokens.push({ kind: 'scale', word: small });
    else if (FUNCTIONS.has(text)) tokens.push({ kind: 'function', name: FUNCTIONS.get(text) ?? text });
    else
      tokens.push({
        kind: 'text',
        text: small
          .replaceAll(/[\s.]+/g, ' ')
          .replace(/^(an?|the) /, '')
          .trim(),
      });
    return;
  }
  tokens.push(...readTokens(text, thousands));
}

/** \mathrm{e} is e, \mathrm{cm} a unit, \operatorname{lcm} a function. */
function readFont(inside: string, tokens: Token[], thousands: boolean): void {
  if (/^\s*[A-Za-z]\s*$/.test(inside)) tokens.push({ kind: 'letter', name: inside.trim() });
  else readText(inside, tokens, thousands);
}

/** A run of letters outside of any command. */
function readWord(word: string, spaced: boolean, tokens: Token[]): void {
  const small = word.toLowerCase();
  const isAfter = afterOperand(tokens);
  if (word === 'sqrt') tokens.push({ kind: 'sign', sign: 'sqrt' });
  else if (word === 'pi' || word === 'Pi') tokens.push({ kind: 'letter', name: 'pi' });
  else if (/^(infinity|inf|oo)$/.test(small) && word.length > 1)
    tokens.push({ kind: 'sign', sign: 'infinity' });
  else if (isAfter && /^(and|or)$/.test(small)) tokens.push({ kind: 'sign', sign: ',' });
  else if (isAfter && /^(percent|pct)$/.test(small)) tokens.push({ kind: 'sign', sign: '%' });
  else if (isAfter && SCALES.has(small)) tokens.push({ kind: 'scale', word: small });
  else if (isAfter && isUnit(word)) tokens.push({ kind: 'text', text: small });
  else if (FUNCTIONS.has(word)) tokens.push({ kind: 'function', name: FUNCTIONS.get(word) ?? word });
  else if (isAfter && spaced && word === 'U') tokens.push({ kind: 'sign', sign: 'cup' });
  else if (GREEK.has(word)) tokens.push({ kind: 'letter', name: word });
  else if (word.length >= 4 && (spaced || tokens.length === 0)) tokens.push({ kind: 'text', text: small });
  else readLetters(word, tokens);
}

/** `sinx`, `xpi`: letters, with the functions and constants that stand among them left as letters. */
function readLetters(word: string, tokens: Token[]): void {
  for (const name of word) tokens.push({ kind: 'letter', name });
}

/** Whether what comes next could be its unit. */
function afterOperand(tokens: readonly Token[]): boolean {
  const last = tokens.at(-1);
  if (last === undefined) return false;
  if (last.kind === 'sign')
    return [')', ']', '}', ')set', '%', 'degree', '|', '!', 'infinity'].includes(last.sign);
  return last.kind !== 'begin' && last.kind !== 'function';
}
