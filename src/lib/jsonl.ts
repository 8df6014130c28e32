/**
 * JSON lines: one record per line, only ever appended.
 *
 * A record is whole when its line ends in a newline and parses; the next append follows the last whole record.
 * So a kill at any byte costs the record that was being written and no other. Each record is one write call, so
 * that a reader beside the writer sees whole lines. Lines are split on the newline byte alone: U+2028 and a
 * carriage return are ordinary text of a record.
 * A damaged line in the middle is an error that names it, never skipped. Not a database: no index, no update.
 */
import { closeSync, fstatSync, fsyncSync, ftruncateSync, openSync, writeSync } from 'node:fs';
import { messageOf, R3Error } from './errors.ts';
import { readFully, storeError } from './files.ts';
import { checkNumbers } from './json.ts';

/** A limit on what one line may make a reader hold: an episode with its log-probabilities takes a few KB. */
export const MAX_LINE_BYTES = 64 << 20;
const CHUNK_BYTES = 1 << 20;
/** Deeper than any record; also ends a record that contains itself. */
const MAX_DEPTH = 100;
const NEWLINE = 10;

export interface JsonlFile {
  readonly path: string;
  /** How many whole records the file holds. */
  count(): number;
  /** Throws R3Error `bad-row` for a value that JSON would change or drop (NaN, BigInt, Float32Array, ...), naming its path. */
  append(record: object): void;
  /** Keeps the first `count` records. Throws R3Error `mismatch` when there are fewer. */
  truncateTo(count: number): void;
  /** Brings what was appended to the disk. */
  sync(): void;
  close(): void;
}

/** Opens a file for appending, creating it in an existing folder. A torn last line is cut off. */
export function openJsonl(path: string): JsonlFile {
  try {
    return openWhole(path);
  } catch (error) {
    throw storeError(path, error);
  }
}

function openWhole(path: string): JsonlFile {
  const file = openSync(path, 'a+');
  const size = fstatSync(file).size;
  let count = 0;
  let end = 0;
  let last: Line | undefined;
  for (const line of linesOf(file, path)) {
    // The line before the last is whole or an error of readJsonl; only the last can be torn.
    if (last !== undefined) count += 1;
    last = line;
  }
  if (last !== undefined) {
    const whole = last.terminated && tryParse(last.bytes) !== undefined;
    end = whole ? last.end : last.start;
    if (whole) count += 1;
  }
  if (end < size) ftruncateSync(file, end);

  return {
    path,
    count: () => count,
    append: (record) => {
      const bytes = Buffer.from(`${stringifyRecord(record)}\n`);
      if (bytes.length > MAX_LINE_BYTES) {
        throw new R3Error(
          'store',
          'bad-row',
          `${path}: expected a record of at most ${MAX_LINE_BYTES} bytes, got ${bytes.length}`,
        );
      }
      try {
        const written = writeSync(file, bytes);
        // A short write means that the disk filled up on the way: writing the rest says so.
        if (written < bytes.length) writeSync(file, bytes, written);
      } catch (error) {
        ftruncateSync(file, end);
        throw storeError(path, error);
      }
      end += bytes.length;
      count += 1;
    },
    truncateTo: (wanted) => {
      if (wanted > count) {
        throw new R3Error('store', 'mismatch', `${path}: expected at least ${wanted} records, got ${count}`);
      }
      if (wanted === count) return;
      let seen = 0;
      let keep = 0;
      if (wanted > 0) {
        for (const line of linesOf(file, path)) {
          seen += 1;
          keep = line.end;
          if (seen === wanted) break;
        }
      }
      ftruncateSync(file, keep);
      end = keep;
      count = wanted;
    },
    sync: () => fsyncSync(file),
    close: () => closeSync(file),
  };
}

/**
 * The records of a file, one at a time. A last line without a newline that parses is a record: files that people write
 * end like that. Throws R3Error `bad-file` for a line that does not parse, or holds a number too large for a double,
 * with file and line. With `skip-torn`, for logs, a last line that does not parse is left out: its writer was stopped,
 * or is still at it.
 */
export function* readJsonl(path: string, end?: 'skip-torn'): Generator<unknown, void, undefined> {
  let file: number;
  try {
    file = openSync(path, 'r');
  } catch (error) {
    throw storeError(path, error);
  }
  try {
    let number = 0;
    let broken: R3Error | undefined;
    for (const line of linesOf(file, path)) {
      if (broken !== undefined) throw broken;
      number += 1;
      const parsed = tryParse(line.bytes);
      if (parsed === undefined)
        broken = new R3Error(
          'store',
          'bad-file',
          `${path}:${number}: expected a line of JSON, got ${excerpt(line.bytes)}; the file was cut off or edited: make or copy it again, or remove this line`,
        );
      else {
        checkFinite(parsed.value, `${path}:${number}`);
        yield parsed.value;
      }
    }
    if (broken !== undefined && end !== 'skip-torn') throw broken;
  } finally {
    closeSync(file);
  }
}

interface Line {
  /** Without the newline. Valid until the next line is asked for. */
  bytes: Uint8Array;
  start: number;
  /** Where the next line starts. */
  end: number;
  /** Whether a newline ends it. */
  terminated: boolean;
}

function readOrExplain(file: number, chunk: Buffer, from: number, path: string): number {
  try {
    return readFully(file, chunk, from);
  } catch (error) {
    throw storeError(path, error);
  }
}

/** The lines of a file, in chunks of bounded size. */
function* linesOf(file: number, path: string): Generator<Line, void, undefined> {
  let held = Buffer.alloc(0);
  let start = 0;
  for (;;) {
    const chunk = Buffer.allocUnsafe(CHUNK_BYTES);
    const read = readOrExplain(file, chunk, start + held.length, path);
    // Only the new bytes can hold the newline that ends what was held.
    let searchFrom = held.length;
    held = held.length === 0 ? chunk.subarray(0, read) : Buffer.concat([held, chunk.subarray(0, read)]);
    let from = 0;
    for (;;) {
      const newline = held.indexOf(NEWLINE, searchFrom);
      if (newline < 0) break;
      yield {
        bytes: held.subarray(from, newline),
        start: start + from,
        end: start + newline + 1,
        terminated: true,
      };
      from = newline + 1;
      searchFrom = from;
    }
    start += from;
    held = held.subarray(from);
    if (held.length > MAX_LINE_BYTES) {
      throw new R3Error(
        'store',
        'bad-file',
        `${path}: expected lines of at most ${MAX_LINE_BYTES} bytes, got a longer one`,
      );
    }
    if (read < CHUNK_BYTES) break;
  }
  if (held.length > 0) yield { bytes: held, start, end: start + held.length, terminated: false };
}

function tryParse(bytes: Uint8Array): { value: unknown } | undefined {
  try {
    return { value: JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes)) as unknown };
  } catch {
    return undefined;
  }
}

/** JSON.parse reads 1e400 as Infinity, which no record of ours holds. */
function checkFinite(record: unknown, place: string): void {
  try {
    checkNumbers(record);
  } catch (cause) {
    throw new R3Error('store', 'bad-file', `${place}: ${messageOf(cause)}`, { cause });
  }
}

function excerpt(bytes: Uint8Array): string {
  const text = new TextDecoder().decode(bytes.subarray(0, 60));
  return bytes.length === 0 ? 'an empty line' : `${JSON.stringify(text)}${bytes.length > 60 ? '...' : ''}`;
}

/**
 * JSON text of a plain record. JSON.stringify alone writes NaN as null, drops functions, and turns typed arrays
 * into objects; here each of them is an error that names the field. A key whose value is undefined is left out.
 */
export function stringifyRecord(record: object): string {
  checkPlain(record, '', 0);
  return JSON.stringify(record);
}

function checkPlain(value: unknown, path: string, depth: number): void {
  const refusal = (expected: string, got: string): R3Error =>
    new R3Error('store', 'bad-row', `${path === '' ? 'record' : path}: expected ${expected}, got ${got}`);
  if (depth > MAX_DEPTH) throw refusal(`at most ${MAX_DEPTH} levels`, 'a deeper record');
  if (value === null || typeof value === 'string' || typeof value === 'boolean') return;
  if (typeof value === 'number') {
    if (!Number.isFinite(value)) throw refusal('a finite number', String(value));
    return;
  }
  if (value === undefined) throw refusal('a JSON value', 'undefined');
  if (typeof value !== 'object') throw refusal('a JSON value', `a ${typeof value}`);
  if (Array.isArray(value)) {
    for (let i = 0; i < value.length; i++) checkPlain(value[i], `${path}[${i}]`, depth + 1);
    return;
  }
  const prototype: unknown = Object.getPrototypeOf(value);
  if (prototype !== null && prototype !== Object.prototype) {
    throw refusal('a plain object or array', value.constructor.name);
  }
  for (const [key, field] of Object.entries(value)) {
    if (field !== undefined) checkPlain(field, path === '' ? key : `${path}.${key}`, depth + 1);
  }
}
