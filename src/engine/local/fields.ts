/**
 * Strict reading of a JSON object's fields: a wrong value, and a field that nobody read, is refused by name.
 *
 * A reader asks for each field that it computes with; `finish` then refuses whatever is left. A configuration
 * that says more than the program understands would otherwise be computed wrongly and without a word.
 */
import { R3Error } from '../../lib/errors.ts';
import { showValue } from '../../lib/json.ts';

export interface Fields {
  /** Present, and not null. */
  has(name: string): boolean;
  /** Present, and null. */
  isNull(name: string): boolean;
  /** A whole number of at least 0. */
  countFrom0(name: string, otherwise: number): number;
  /** A whole number from 1 to `most`. Throws where it is missing and there is no `otherwise`. */
  count(name: string, most: number, otherwise?: number): number;
  /** A number above 0; undefined where there is none. */
  positive(name: string): number | undefined;
  isNumber(name: string): boolean;
  /** A number from 0 to less than 1, 0 where there is none. */
  share(name: string): number;
  /** A string; undefined where there is none, or with `orOther` where it is something else. */
  text(name: string, orOther?: boolean): string | undefined;
  flag(name: string, otherwise: boolean): boolean;
  /** One of a closed set. */
  choice<T extends string>(name: string, values: readonly T[], otherwise?: T): T;
  /** A list of numbers; undefined where there is none. */
  numbers(name: string): number[] | undefined;
  /** A list of strings; undefined where there is none. */
  strings(name: string): string[] | undefined;
  /** Throws unless the field is `value` or missing. */
  fixed(name: string, value: string | number | boolean): void;
  object(name: string): Fields | undefined;
  /** An error about this field. */
  refuse(name: string, expected: string): R3Error;
  /** Throws for the first field that was not asked for and is not `known` to change nothing. */
  finish(known: (name: string) => boolean): void;
}

/** `purpose` ends each message: what the reader is for. */
export function fieldsOf(
  json: Readonly<Record<string, unknown>>,
  path: string,
  purpose: string,
  prefix = '',
): Fields {
  const asked = new Set<string>();
  const inner: Fields[] = [];
  /** null is what Python's writers put where there is nothing. */
  const read = (name: string): unknown => {
    asked.add(name);
    const value = Object.hasOwn(json, name) ? json[name] : undefined;
    return value === null ? undefined : value;
  };
  const refusal = (name: string, expected: string, got: unknown): R3Error =>
    new R3Error(
      'engine',
      'bad-file',
      `${path}: ${prefix}${name}: expected ${expected}, got ${showValue(got)}. ${purpose}`,
    );
  const number = (name: string): number | undefined => {
    const value = read(name);
    if (value !== undefined && typeof value !== 'number') throw refusal(name, 'a number', value);
    return value;
  };
  const list = <T>(name: string, kind: string, is: (item: unknown) => item is T): T[] | undefined => {
    const value = read(name);
    if (value === undefined) return undefined;
    if (!Array.isArray(value) || !value.every(is)) throw refusal(name, `a list of ${kind}`, value);
    return value;
  };
  return {
    has: (name) => read(name) !== undefined,
    isNull: (name) => json[name] === null,
    countFrom0: (name, otherwise) => {
      const value = number(name) ?? otherwise;
      if (!Number.isSafeInteger(value) || value < 0)
        throw refusal(name, 'a whole number of at least 0', value);
      return value;
    },
    count: (name, most, otherwise) => {
      const value = number(name);
      if (value === undefined) {
        if (otherwise === undefined) throw refusal(name, 'a number', value);
        return otherwise;
      }
      if (!Number.isInteger(value)) throw refusal(name, 'a whole number', value);
      if (value < 1) throw refusal(name, 'at least 1', value);
      if (value > most) throw refusal(name, `at most ${most}`, value);
      return value;
    },
    positive: (name) => {
      const value = number(name);
      if (value !== undefined && value <= 0) throw refusal(name, 'more than 0', value);
      return value;
    },
    isNumber: (name) => typeof read(name) === 'number',
    share: (name) => {
      const value = number(name) ?? 0;
      if (!(value >= 0 && value < 1)) throw refusal(name, 'a number from 0 to less than 1', value);
      return value;
    },
    text: (name, orOther = false) => {
      const value = read(name);
      if (typeof value === 'string') return value;
      if (value !== undefined && !orOther) throw refusal(name, 'a string', value);
      return undefined;
    },
    flag: (name, otherwise) => {
      const value = read(name) ?? otherwise;
      if (typeof value !== 'boolean') throw refusal(name, 'true or false', value);
      return value;
    },
    choice: (name, values, otherwise) => {
      const value = read(name) ?? otherwise;
      const found = values.find((known) => known === value);
      if (found !== undefined) return found;
      const shown = values.map((known) => JSON.stringify(known));
      throw refusal(name, shown.length === 1 ? shown.join() : `one of ${shown.join(', ')}`, value);
    },
    numbers: (name) =>
      list(name, 'numbers', (item): item is number => typeof item === 'number' && Number.isFinite(item)),
    strings: (name) => list(name, 'strings', (item): item is string => typeof item === 'string'),
    fixed: (name, value) => {
      const got = read(name);
      if (got !== undefined && got !== value) throw refusal(name, JSON.stringify(value), got);
    },
    object: (name) => {
      const value = read(name);
      if (value === undefined) return undefined;
      if (typeof value !== 'object' || Array.isArray(value)) throw refusal(name, 'an object', value);
      const fields = fieldsOf(value as Record<string, unknown>, path, purpose, `${prefix}${name}.`);
      inner.push(fields);
      return fields;
    },
    refuse: (name, expected) => refusal(name, expected, json[name]),
    finish: (known) => {
      for (const [name, value] of Object.entries(json)) {
        if (value === null || asked.has(name) || known(name)) continue;
        throw refusal(name, 'no such field', value);
      }
      for (const fields of inner) fields.finish(known);
    },
  };
}
