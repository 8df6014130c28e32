/**
 * JSON (RFC 8259) read into values that keep 1 and 1.0 apart, and written again.
 *
 * JSON.parse gives one number for both, which BFCL's rules do not. Texts are otherwise read as it reads them: of a
 * key that occurs twice, the last counts; NaN and Infinity are no JSON. Numbers that no double holds, integers of
 * thousands of digits and deep nesting are refused, so that time and memory stay linear in the text.
 */
import { isDict, isList, isTuple } from './values.ts';
import type { Value } from './values.ts';

/** As Python's own limit for the digits of an integer. */
export const MAX_DIGITS = 4300;
/** The deepest arguments of public data sets have under 10 levels. */
export const MAX_DEPTH = 100;

export type Read<T> = { ok: true; value: T; end: number } | { ok: false; at: number; why: string };

/** Why reading stopped, and where; never leaves this folder. */
export class ReadError extends Error {
  readonly at: number;
  constructor(at: number, message: string) {
    super(message);
    this.at = at;
  }
}

/** Runs a reader: what it throws as ReadError becomes a result. */
export function tryRead<T>(read: () => { value: T; end: number }): Read<T> {
  try {
    return { ok: true, ...read() };
  } catch (error) {
    if (error instanceof ReadError) return { ok: false, at: error.at, why: error.message };
    throw error;
  }
}

/** The JSON value that begins at `start`, white space skipped; what follows it is not looked at. */
export function readJson(text: string, start = 0): Read<Value> {
  return tryRead(() => {
    const reader = new JsonReader(text, start);
    return { value: reader.value(0), end: reader.at };
  });
}

/** The value that a whole text is. */
export function parseJson(text: string): Read<Value> {
  const read = readJson(text);
  if (!read.ok) return read;
  const end = skipSpace(text, read.end);
  return end === text.length
    ? { ...read, end }
    : { ok: false, at: end, why: `expected the end of the JSON, got ${JSON.stringify(text[end])}` };
}

/** One line of JSON. A float that is whole is written with `.0`, a tuple as a list. */
export function writeJson(value: Value): string {
  if (typeof value === 'bigint') return String(value);
  if (typeof value === 'number') return writeFloat(value);
  if (isTuple(value)) return writeJson(value.tuple);
  if (isList(value)) return `[${value.map(writeJson).join(', ')}]`;
  if (isDict(value)) {
    return `{${[...value].map(([key, inner]) => `${JSON.stringify(key)}: ${writeJson(inner)}`).join(', ')}}`;
  }
  return JSON.stringify(value);
}

/** A float as JSON and Python both read it. */
export function writeFloat(value: number): string {
  if (Object.is(value, -0)) return '-0.0';
  const text = String(value);
  return /^-?\d+$/.test(text) ? `${text}.0` : text;
}

/** A value of JavaScript as JSON.parse or a Parquet reader gives it: a whole number becomes an integer. */
export function fromPlain(value: unknown): Value {
  if (typeof value === 'number') return Number.isSafeInteger(value) ? BigInt(value) : value;
  if (Array.isArray(value)) return value.map(fromPlain);
  if (typeof value === 'object' && value !== null) {
    return new Map(
      Object.entries(value)
        .filter(([, inner]) => inner !== undefined)
        .map(([key, inner]) => [key, fromPlain(inner)]),
    );
  }
  if (typeof value === 'string' || typeof value === 'boolean' || typeof value === 'bigint') return value;
  return null;
}

export function skipSpace(text: string, at: number): number {
  while (at < text.length && ' \t\r\n'.includes(text.charAt(at))) at++;
  return at;
}

const NUMBER = /-?(?:0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?/y;
const WORDS: readonly (readonly [string, Value])[] = [
  ['true', true],
  ['false', false],
  ['null', null],
];

class JsonReader {
  readonly text: string;
  at: number;

  constructor(text: string, at: number) {
    this.text = text;
    this.at = at;
  }

  value(depth: number): Value {
    if (depth > MAX_DEPTH) this.fail(`at most ${MAX_DEPTH} levels`);
    this.at = skipSpace(this.text, this.at);
    const character = this.text.charAt(this.at);
    if (character === '{') return this.dict(depth);
    if (character === '[') return this.list(depth);
    if (character === '"') return this.string();
    for (const [word, value] of WORDS) {
      if (!this.text.startsWith(word, this.at)) continue;
      this.at += word.length;
      return value;
    }
    return this.number();
  }

  dict(depth: number): Value {
    const entries = new Map<string, Value>();
    this.at++;
    if (this.takes('}')) return entries;
    do {
      this.at = skipSpace(this.text, this.at);
      if (this.text.charAt(this.at) !== '"') this.fail('a key in double quotes');
      const key = this.string();
      if (!this.takes(':')) this.fail('":" after a key');
      // A key that comes again moves to its last place, as its value does.
      entries.delete(key);
      entries.set(key, this.value(depth + 1));
    } while (this.takes(','));
    if (!this.takes('}')) this.fail('"," or "}"');
    return entries;
  }

  list(depth: number): Value {
    const values: Value[] = [];
    this.at++;
    if (this.takes(']')) return values;
    do values.push(this.value(depth + 1));
    while (this.takes(','));
    if (!this.takes(']')) this.fail('"," or "]"');
    return values;
  }

  string(): string {
    const start = this.at;
    for (let end = start + 1; end < this.text.length; end++) {
      const character = this.text.charAt(end);
      if (character === '\\') end++;
      else if (character === '"') {
        this.at = end + 1;
        try {
          return JSON.parse(this.text.slice(start, this.at)) as string;
        } catch {
          throw new ReadError(
            start,
            'expected a string of JSON, got one with an escape or character that it forbids',
          );
        }
      }
    }
    throw new ReadError(start, 'expected a string that ends, got one that does not');
  }

  number(): Value {
    NUMBER.lastIndex = this.at;
    const match = NUMBER.exec(this.text);
    if (match === null) return this.fail('a value');
    const [digits, fraction, exponent] = match;
    const start = this.at;
    this.at += digits.length;
    return toNumber(digits, fraction === undefined && exponent === undefined, start);
  }

  takes(character: string): boolean {
    const at = skipSpace(this.text, this.at);
    if (this.text.charAt(at) !== character) return false;
    this.at = at + 1;
    return true;
  }

  fail(expected: string): never {
    const got = this.at < this.text.length ? JSON.stringify(this.text.charAt(this.at)) : 'the end';
    throw new ReadError(this.at, `expected ${expected}, got ${got}`);
  }
}

/** The number that decimal digits mean. Throws ReadError where it is too large. */
export function toNumber(digits: string, isInteger: boolean, at: number): bigint | number {
  if (isInteger) {
    if (digits.length > MAX_DIGITS) {
      throw new ReadError(at, `expected an integer of at most ${MAX_DIGITS} digits, got ${digits.length}`);
    }
    return BigInt(digits);
  }
  const value = Number(digits);
  if (!Number.isFinite(value))
    throw new ReadError(at, 'expected a number of at most 1.8e308, got a larger one');
  return value;
}
