/**
 * Fields of a row of a data file, read strictly: what is missing or of another kind is named.
 *
 * Every function throws R3Error `bad-row` with the field, what was expected and what was got.
 */
import { createHash } from 'node:crypto';
import { R3Error } from '../lib/errors.ts';

export type Fields = Readonly<Record<string, unknown>>;

/** The row as an object that has all of `names`. */
export function rowWith(row: unknown, names: readonly string[]): Fields {
  if (typeof row !== 'object' || row === null || Array.isArray(row)) return refuse('row', 'an object', row);
  const fields = row as Fields;
  if (names.some((name) => fields[name] === undefined)) {
    const got = Object.keys(fields).join(', ') || 'none';
    const why = `row: expected ${names.join(', ')}, got ${got}; rename the columns (keys) of the file`;
    throw new R3Error('task', 'bad-row', why);
  }
  return fields;
}

/** Whether a row with an answer to judge is one of the data set: it has the problem's text and no `gold`. */
export function isDataRow(row: unknown, textName: string): boolean {
  const { gold, [textName]: text } = (typeof row === 'object' && row !== null ? row : {}) as Fields;
  return (gold === undefined || gold === null) && text !== undefined;
}

/** Whether a row has a field: some fields tell a problem that was read before from a row of the data set. */
export function hasField(row: unknown, name: string): boolean {
  const { [name]: value } = (typeof row === 'object' && row !== null ? row : {}) as Fields;
  return value !== undefined && value !== null;
}

/** A text that is not empty. */
export function textField(fields: Fields, name: string): string {
  const value = fields[name];
  return typeof value === 'string' && value.trim() !== ''
    ? value
    : refuse(name, 'a text that is not empty', value);
}

/** `min` to `max` texts. */
export function textsField(fields: Fields, name: string, min: number, max: number): string[] {
  const value = fields[name];
  const expected = `a list of ${min} to ${max} texts`;
  if (!Array.isArray(value) || value.length < min || value.length > max) return refuse(name, expected, value);
  return value.map((each: unknown, i) =>
    typeof each === 'string' ? each : refuse(`${name}[${i}]`, 'a text', each),
  );
}

/** The field `name` as an id, where the row has one, else a name made of what the problem says: equal problems, equal ids. */
export function idOf(fields: Fields, name: string, task: string, content: string): string {
  const value = fields[name];
  if (value === undefined || value === null) {
    return `${task}-${createHash('sha256').update(content).digest('hex').slice(0, 12)}`;
  }
  if (typeof value === 'number' || typeof value === 'bigint') return `${task}-${value}`;
  return typeof value === 'string' && value !== ''
    ? value
    : refuse(name, 'a text or number, or no such field', value);
}

/** A value as an error message shows it, cut where it is long. */
export function refuse(field: string, expected: string, got: unknown): never {
  const text = JSON.stringify(got, (_, inner: unknown) =>
    typeof inner === 'bigint' ? Number(inner) : inner,
  );
  const shown = text === undefined ? 'nothing' : text.length > 60 ? `${text.slice(0, 60)}...` : text;
  throw new R3Error('task', 'bad-row', `${field}: expected ${expected}, got ${shown}`);
}
