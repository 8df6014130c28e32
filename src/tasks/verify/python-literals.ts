/**
 * Calls in Python's syntax, read by hand: `f(a=1, b="x")`, `g.h(c=[1, (2, 3)], d={"k": None})`. Nothing is evaluated.
 *
 * Values are literals: strings with their prefixes, escapes and implicit joining, integers in every base, floats,
 * True, False, None, lists, tuples, dicts, and a sign before a number. As BFCL reads them, a bare name is its own
 * text, a call as an argument is its text, or a dict {name: arguments} where it has keyword arguments, and positional
 * arguments are counted but not read as parameters. `**{"any key": 1}` gives arguments whose names are no Python
 * names. f-strings, bytes, complex numbers, operators, subscripts, lambdas and comprehensions are refused. Whether a text
 * that is refused is a list of calls all the same, with arguments that BFCL evaluates, is asked of a loose reader, whose
 * values say nothing: arithmetic, `not` and `~` before a number, bytes, `\N{...}`, complex numbers, `...`, subscripts, dicts with any key, starred
 * arguments, a call in parentheses, white space around the dots of a name.
 * Python's grammar: https://docs.python.org/3/reference/lexical_analysis.html
 */
import { MAX_DEPTH, MAX_DIGITS, ReadError, toNumber, tryRead } from './json-values.ts';
import type { Read } from './json-values.ts';
import { isDict } from './values.ts';
import type { Dict, Value } from './values.ts';

export interface PythonCall {
  name: string;
  arguments: Dict;
  /** Arguments without a name. */
  positional: number;
}

/** The call that begins at `start`; what follows it is not looked at. */
export function readPythonCall(text: string, start = 0): Read<PythonCall> {
  return tryRead(() => {
    const reader = new PythonReader(text, start);
    return { value: reader.call(0), end: reader.at };
  });
}

/** A text that is one list of calls, `[f(a=1), g()]`, brackets included; a comma may end it. */
export function parsePythonCalls(text: string): Read<PythonCall[]> {
  return tryRead(() => {
    const reader = new PythonReader(text, 0);
    const calls = reader.sequence('[', ']', () => reader.call(0));
    reader.skipBlank();
    if (reader.at < text.length) reader.fail('the end of the list of calls');
    return { value: calls, end: reader.at };
  });
}

/** Whether a text is one list of calls whose values need not be literals. */
export function areCallsInPython(text: string): boolean {
  const read = tryRead(() => {
    const reader = new PythonReader(text, 0, true);
    const calls = reader.sequence('[', ']', () => reader.call(0));
    reader.skipBlank();
    return { value: calls.length > 0, end: reader.at };
  });
  return read.ok && read.value && read.end === text.length;
}

/** Letters, digits and underscores of any script, dots between; also "-", which names of APIs have. */
const NAME = /[\p{L}\p{Nl}_][\p{L}\p{Nl}\p{Mn}\p{Mc}\p{Nd}\p{Pc}]*/uy;
const CALL_NAME =
  /[\p{L}\p{Nl}_][\p{L}\p{Nl}\p{Mn}\p{Mc}\p{Nd}\p{Pc}-]*(?:\.[\p{L}\p{Nl}_][\p{L}\p{Nl}\p{Mn}\p{Mc}\p{Nd}\p{Pc}-]*)*/uy;
const INTEGER =
  /0[xX](?:_?[\da-fA-F])+|0[oO](?:_?[0-7])+|0[bB](?:_?[01])+|0(?:_?0)*(?![\d_.eEjJ])|[1-9](?:_?\d)*(?![\d_.eEjJ])/y;
const FLOAT = /(?:(?:\d(?:_?\d)*)?\.\d(?:_?\d)*|\d(?:_?\d)*\.?)(?:[eE][+-]?\d(?:_?\d)*)?/y;
const STRING_START = /([rRuU]?)("""|'''|"|')/y;
/** What the loose reader knows beside: what stands before a value, between two values, and in a name. */
const LOOSE_STRING_START = /((?:[bB][rR]?|[rR][bB])(?="|'))/y;
const PREFIX = /[~+-]|not\b/y;
const OPERATOR = /\*\*|\/\/|<<|>>|[-+*/%@|&^]/y;
const SPACED_DOT = /[ \t]*\.[ \t]*/y;
const COMMENT = /#[^\n]*/y;
const CONSTANTS: ReadonlyMap<string, Value> = new Map<string, Value>([
  ['True', true],
  ['False', false],
  ['None', null],
]);
const SIMPLE_ESCAPES: Readonly<Record<string, string>> = {
  '\n': '',
  '\\': '\\',
  "'": "'",
  '"': '"',
  a: '\x07',
  b: '\b',
  f: '\f',
  n: '\n',
  r: '\r',
  t: '\t',
  v: '\v',
};
const HEX_LENGTHS: Readonly<Record<string, number>> = { x: 2, u: 4, U: 8 };

class PythonReader {
  readonly text: string;
  at: number;
  /** Whether a comma stood before the closing bracket of the sequence that was read last. */
  hasLastComma = false;

  readonly isLoose: boolean;

  constructor(text: string, at: number, isLoose = false) {
    this.text = text;
    this.at = at;
    this.isLoose = isLoose;
  }

  call(depth: number): PythonCall {
    this.checkDepth(depth);
    this.skipBlank();
    if (this.isLoose && this.text.charAt(this.at) === '(') {
      const [call, ...others] = this.sequence('(', ')', () => this.call(depth + 1));
      return call === undefined || others.length > 0 || this.hasLastComma ? this.fail('a call') : call;
    }
    const name = this.match(CALL_NAME)?.[0] ?? this.fail('the name of a function');
    while (this.isLoose && this.match(SPACED_DOT) !== undefined) {
      if (this.match(CALL_NAME) === undefined) this.fail('a name');
    }
    this.skipBlank();
    if (this.text.charAt(this.at) !== '(') this.fail(`"(" after ${name}`);
    const given = new Map<string, Value>();
    let positional = 0;
    this.sequence('(', ')', () => {
      this.skipBlank();
      if (this.text.startsWith('**', this.at)) {
        this.at += 2;
        const unpacked = this.value(depth + 1);
        if (this.isLoose) return undefined;
        if (!isDict(unpacked)) return this.fail('a dict after "**"');
        for (const [key, value] of unpacked) given.set(key, value);
        return undefined;
      }
      if (this.isLoose && this.text.charAt(this.at) === '*') {
        this.at++;
        this.value(depth + 1);
        return undefined;
      }
      const key = this.tryKey();
      if (key === undefined) {
        if (given.size > 0) this.fail('an argument with its name after one with a name');
        this.value(depth + 1);
        positional++;
      } else given.set(key, this.value(depth + 1));
      return undefined;
    });
    return { name, arguments: given, positional };
  }

  /** `name =`, else undefined and nothing is read. */
  tryKey(): string | undefined {
    const start = this.at;
    const name = this.match(NAME)?.[0];
    this.skipBlank();
    if (name !== undefined && this.text.charAt(this.at) === '=' && this.text.charAt(this.at + 1) !== '=') {
      this.at++;
      return name;
    }
    this.at = start;
    return undefined;
  }

  value(depth: number): Value {
    const value = this.operand(depth);
    if (!this.isLoose) return value;
    for (this.skipBlank(); this.match(OPERATOR) !== undefined; this.skipBlank()) this.operand(depth);
    return value;
  }

  /** A value, and for the loose reader one between two operators. */
  operand(depth: number): Value {
    this.checkDepth(depth);
    this.skipBlank();
    if (this.isLoose) {
      if (this.match(PREFIX) !== undefined) return this.prefixed(depth + 1);
      if (this.text.startsWith('...', this.at)) {
        this.at += 3;
        return null;
      }
      this.match(LOOSE_STRING_START);
    }
    const character = this.text.charAt(this.at);
    if (character === '[') return this.sequence('[', ']', () => this.value(depth + 1));
    if (character === '{') return this.dict(depth);
    if (character === '(') return this.tuple(depth);
    if (this.peek(STRING_START)) return this.strings();
    if (character === '+' || character === '-') {
      this.at++;
      this.skipBlank();
      const number = this.number();
      return character === '-' ? -number : number;
    }
    if (/[\d.]/.test(character)) return this.number();
    return this.named(depth);
  }

  /** What may stand after `not` or `~`: BFCL takes a number there, and a boolean. */
  prefixed(depth: number): Value {
    this.checkDepth(depth);
    this.skipBlank();
    if (this.match(/True\b|False\b/y) !== undefined) return null;
    if (this.text.charAt(this.at) !== '(') return this.number();
    return this.sequence('(', ')', () => this.prefixed(depth + 1)).length === 1
      ? null
      : this.fail('a number');
  }

  /** True, False, None, another name, or a call. */
  named(depth: number): Value {
    const start = this.at;
    const name = this.match(NAME)?.[0];
    if (name === undefined) return this.fail('a value');
    const end = this.at;
    this.skipBlank();
    if (this.isLoose && this.text.charAt(this.at) === '[') {
      this.sequence('[', ']', () => this.value(depth + 1));
      return name;
    }
    if (this.text.charAt(this.at) === '(' || this.text.charAt(this.at) === '.') {
      this.at = start;
      const call = this.call(depth + 1);
      if (call.arguments.size > 0) return new Map<string, Value>([[call.name, call.arguments]]);
      return this.text.slice(start, this.at);
    }
    this.at = end;
    const constant = CONSTANTS.get(name);
    return constant === undefined ? name : constant;
  }

  dict(depth: number): Value {
    const entries = new Map<string, Value>();
    this.sequence('{', '}', () => {
      const start = this.at;
      const key = this.value(depth + 1);
      if (typeof key !== 'string' && !this.isLoose)
        throw new ReadError(start, 'expected a string as the key of a dict, got another value');
      this.skipBlank();
      if (this.text.charAt(this.at) !== ':') this.fail('":" after a key');
      this.at++;
      // Where reading is loose, only that there is an entry counts.
      entries.set(typeof key === 'string' ? key : `entry ${entries.size}`, this.value(depth + 1));
      return undefined;
    });
    return entries;
  }

  /** A tuple, or a value between parentheses. */
  tuple(depth: number): Value {
    const values = this.sequence('(', ')', () => this.value(depth + 1));
    const [only] = values;
    return values.length === 1 && only !== undefined && !this.hasLastComma ? only : { tuple: values };
  }

  /** Items between brackets, with commas between and perhaps one at the end. */
  sequence<T>(open: string, close: string, item: () => T): T[] {
    this.skipBlank();
    if (this.text.charAt(this.at) !== open) this.fail(`"${open}"`);
    this.at++;
    const items: T[] = [];
    let hasLastComma = false;
    for (;;) {
      this.skipBlank();
      if (this.text.charAt(this.at) === close) break;
      items.push(item());
      this.skipBlank();
      hasLastComma = this.text.charAt(this.at) === ',';
      if (hasLastComma) this.at++;
      else if (this.text.charAt(this.at) !== close) this.fail(`"," or "${close}"`);
    }
    this.at++;
    this.hasLastComma = hasLastComma;
    return items;
  }

  number(): bigint | number {
    const start = this.at;
    if (this.isLoose) {
      const digits = this.match(INTEGER)?.[0] ?? this.match(FLOAT)?.[0] ?? this.fail('a number');
      const isComplex = this.match(/[jJ]/y) !== undefined;
      const hasZeros = /^0[\d_]*[1-9]/.test(digits) && /^[\d_]+$/.test(digits);
      if ((hasZeros && !isComplex) || /[\p{L}\d_.]/u.test(this.text.charAt(this.at))) this.fail('a number');
      return 0n;
    }
    const integer = this.match(INTEGER)?.[0].replaceAll('_', '');
    let value: bigint | number;
    if (integer === undefined) {
      const float = this.match(FLOAT)?.[0].replaceAll('_', '') ?? this.fail('a number');
      if (/^\d+$/.test(float) && /[\s,)\]}]/.test(this.text.charAt(this.at)))
        throw new ReadError(start, 'expected a number without leading zeros, got one with');
      value = toNumber(float, false, start);
    } else if (/^0[xXoObB]/.test(integer)) {
      if (integer.length > MAX_DIGITS)
        throw new ReadError(start, `expected at most ${MAX_DIGITS} digits, got more`);
      value = BigInt(integer);
    } else value = toNumber(integer, true, start);
    if (/[\p{L}\d_.]/u.test(this.text.charAt(this.at))) this.fail('the end of a number');
    return value;
  }

  /** One string or several side by side, which Python joins. */
  strings(): string {
    let joined = '';
    for (let start = this.match(STRING_START); start !== undefined; start = this.match(STRING_START)) {
      joined += this.string(start[2] ?? '"', /r/i.test(start[1] ?? ''));
      this.skipBlank();
    }
    return joined;
  }

  /** The rest of a string after its opening quote. */
  string(quote: string, isRaw: boolean): string {
    const start = this.at;
    const parts: string[] = [];
    let from = this.at;
    while (this.at < this.text.length) {
      const character = this.text.charAt(this.at);
      if (this.text.startsWith(quote, this.at)) {
        parts.push(this.text.slice(from, this.at));
        this.at += quote.length;
        return parts.join('');
      }
      if (character === '\n' && quote.length === 1) break;
      if (character === '\\' && isRaw) this.at += 2;
      else if (character === '\\') {
        parts.push(this.text.slice(from, this.at), this.escape());
        from = this.at;
      } else this.at++;
    }
    throw new ReadError(start, 'expected a string that ends, got one that does not');
  }

  escape(): string {
    const letter = this.text.charAt(this.at + 1);
    const simple = SIMPLE_ESCAPES[letter];
    if (simple !== undefined) {
      this.at += 2;
      return simple;
    }
    const octal = /^[0-7]{1,3}/.exec(this.text.slice(this.at + 1, this.at + 4))?.[0];
    if (octal !== undefined) {
      this.at += 1 + octal.length;
      return String.fromCharCode(Number.parseInt(octal, 8));
    }
    const hexLength = HEX_LENGTHS[letter];
    if (hexLength !== undefined) {
      const digits = this.text.slice(this.at + 2, this.at + 2 + hexLength);
      const code =
        /^[\da-fA-F]+$/.test(digits) && digits.length === hexLength ? Number.parseInt(digits, 16) : -1;
      if (code < 0 || code > 0x10ffff) this.fail(`${hexLength} hexadecimal digits after "\\${letter}"`);
      this.at += 2 + hexLength;
      return String.fromCodePoint(code);
    }
    if (this.isLoose && this.match(/\\N\{[A-Za-z\d -]+\}/y) !== undefined) return '';
    if (letter === 'N') this.fail('an escape other than \\N{...}');
    // Python keeps the backslash before any other character.
    this.at += 2;
    return `\\${letter}`;
  }

  skipBlank(): void {
    for (;;) {
      while (/[ \t\r\n\f]/.test(this.text.charAt(this.at))) this.at++;
      if (this.match(COMMENT) === undefined) return;
    }
  }

  match(pattern: RegExp): RegExpExecArray | undefined {
    pattern.lastIndex = this.at;
    const match = pattern.exec(this.text);
    if (match === null) return undefined;
    this.at += match[0].length;
    return match;
  }

  peek(pattern: RegExp): boolean {
    pattern.lastIndex = this.at;
    return pattern.test(this.text);
  }

  checkDepth(depth: number): void {
    if (depth > MAX_DEPTH) this.fail(`at most ${MAX_DEPTH} levels`);
  }

  fail(expected: string): never {
    const got = this.at < this.text.length ? JSON.stringify(this.text.charAt(this.at)) : 'the end';
    throw new ReadError(this.at, `expected ${expected}, got ${got}`);
  }
}
