/**
 * Rows of data files: JSON lines (`.jsonl`) and Parquet (`.parquet`), one at a time, each with its place.
 *
 * JSON lines are read in pieces, blank lines are skipped; Parquet is read by row group (hyparquet; snappy, gzip,
 * zstd, brotli, lz4). What a row must hold is the task's business (`parseRow`); here a row is any JSON object.
 * Parquet gives 64-bit integers as bigint. Nothing here writes.
 */
import { createReadStream } from 'node:fs';
import { asyncBufferFromFile, parquetMetadataAsync, parquetReadObjects } from 'hyparquet';
import { compressors } from 'hyparquet-compressors';
import { R3Error, messageOf } from '../lib/errors.ts';
import { checkNotUtf16, parseJsonObject } from '../lib/json.ts';
import type { Problem } from '../method/episode.ts';
import type { Task } from '../method/task.ts';

/** Characters of one line: an answer of a million control characters, each written as six, takes a fifth of it. */
export const MAX_LINE_LENGTH = 1 << 25;
/** Parquet rows that are turned into objects at once. */
const ROWS_AT_ONCE = 1024;

export interface Row {
  row: unknown;
  /** From 1: the line of a .jsonl file, the row of a .parquet file. */
  line: number;
  /** The line as it stands in a .jsonl file. */
  text?: string;
}

/** A line that is not a JSON object. */
export interface BadRow {
  line: number;
  /** What was expected and what was got, without the place. */
  why: string;
}

/**
 * The rows of a file, in order. Throws R3Error `bad-file` for a file that is missing, of another kind, not whole or
 * without a row, and `bad-row` for a line that is not a JSON object.
 */
export async function* readRows(path: string): AsyncGenerator<Row, void, undefined> {
  for await (const row of readEveryRow(path)) {
    if ('why' in row) throw new R3Error('task', 'bad-row', `${placeOf(path, row.line)}: ${row.why}`);
    yield row;
  }
}

/** As `readRows`, but a line that is not a JSON object is given as such, and reading goes on. */
export async function* readEveryRow(path: string): AsyncGenerator<Row | BadRow, void, undefined> {
  const read = readerFor(path);
  let count = 0;
  try {
    for await (const row of read(path)) {
      count += 1;
      yield row;
    }
  } catch (error) {
    throw error instanceof R3Error ? error : fileError(path, error);
  }
  if (count === 0) throw new R3Error('task', 'bad-file', `${path}: expected at least one row, got none`);
}

/**
 * The problems of a data file, the first `limit` (at least 1) of them. A problem whose id came before gets `~2`, `~3`, ... after it.
 * Throws as `readRows`, and R3Error `bad-row` with file and line for a row that the task refuses.
 */
export async function loadProblems<P extends Problem>(
  task: Task<P>,
  path: string,
  options: { limit?: number } = {},
): Promise<P[]> {
  const problems: P[] = [];
  const ids = new Set<string>();
  for await (const row of readRows(path)) {
    const problem = parseRowAt(task, row, path);
    let id = problem.id;
    for (let copy = 2; ids.has(id); copy++) id = `${problem.id}~${copy}`;
    ids.add(id);
    problems.push(id === problem.id ? problem : { ...problem, id });
    if (problems.length === options.limit) break;
  }
  return problems;
}

function parseRowAt<P extends Problem>(task: Task<P>, { row, line, text }: Row, path: string): P {
  try {
    return task.parseRow(row, line - 1, text);
  } catch (error) {
    throw new R3Error('task', 'bad-row', `${placeOf(path, line)}: ${messageOf(error)}`, { cause: error });
  }
}

/** `train.jsonl line 12`, for messages. */
export function placeOf(path: string, line: number): string {
  return `${path} ${path.endsWith('.parquet') ? 'row' : 'line'} ${line}`;
}

function readerFor(path: string): (path: string) => AsyncIterable<Row | BadRow> {
  if (path.endsWith('.jsonl')) return readJsonLines;
  if (path.endsWith('.parquet')) return readParquet;
  throw new R3Error('task', 'bad-file', `${path}: expected a file that ends in .jsonl or .parquet`);
}

async function* readJsonLines(path: string): AsyncGenerator<Row | BadRow, void, undefined> {
  const decoder = new TextDecoder('utf-8', { fatal: true });
  // The pieces of a line that has not ended yet, joined once; those beyond the limit are dropped.
  let held: string[] = [];
  let heldLength = 0;
  let line = 0;
  const hold = (piece: string): void => {
    heldLength += piece.length;
    if (heldLength <= MAX_LINE_LENGTH) held.push(piece);
  };
  const release = (): Row | BadRow | undefined => {
    const isWhole = heldLength <= MAX_LINE_LENGTH;
    const text = held.join('');
    held = [];
    heldLength = 0;
    line += 1;
    return isWhole ? tryLine(text, line) : { line, why: TOO_LONG };
  };
  const decode = (bytes?: Uint8Array): string => {
    try {
      return bytes === undefined ? decoder.decode() : decoder.decode(bytes, { stream: true });
    } catch (cause) {
      const [whole = ''] = new TextDecoder().decode(bytes).split('\ufffd');
      const where = `near line ${line + whole.split('\n').length}`;
      throw new Error(`expected text in UTF-8, got bytes that are not, ${where}; save the file as UTF-8`, {
        cause,
      });
    }
  };
  let isFirst = true;
  for await (const chunk of createReadStream(path)) {
    const bytes = chunk as Uint8Array;
    if (isFirst) checkNotUtf16(bytes);
    isFirst = false;
    const [first = '', ...others] = decode(bytes).split('\n');
    hold(first);
    for (const piece of others) {
      const row = release();
      if (row !== undefined) yield row;
      hold(piece);
    }
  }
  hold(decode());
  const last = release();
  if (last !== undefined) yield last;
}

const TOO_LONG = `expected at most ${MAX_LINE_LENGTH} characters, got more; is it one JSON object a line?`;

/** undefined for a blank line. */
function tryLine(text: string, line: number): Row | BadRow | undefined {
  if (text.trim() === '') return undefined;
  try {
    return { row: parseJsonObject(text), line, text };
  } catch (error) {
    return { line, why: messageOf(error) };
  }
}

async function* readParquet(path: string): AsyncGenerator<Row, void, undefined> {
  const file = await asyncBufferFromFile(path);
  if (file.byteLength === 0) {
    const why = 'expected a Parquet file, got an empty one; copy or download it again';
    throw new R3Error('task', 'bad-file', `${path}: ${why}`);
  }
  const metadata = await parquetMetadataAsync(file);
  let line = 0;
  for (const group of metadata.row_groups) {
    const end = line + Number(group.num_rows);
    while (line < end) {
      const rowEnd = Math.min(line + ROWS_AT_ONCE, end);
      const rows = await parquetReadObjects({ file, metadata, compressors, rowStart: line, rowEnd });
      for (const row of rows) yield { row, line: ++line };
      if (line !== rowEnd) throw new Error(`expected ${rowEnd} rows, got ${line}`);
    }
  }
}

function fileError(path: string, error: unknown): R3Error {
  return new R3Error('task', 'bad-file', `${path}: ${explain(path, error)}`, { cause: error });
}

function explain(path: string, error: unknown): string {
  const why = messageOf(error);
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  if (code === 'ENOENT') return 'expected a file, got nothing at this path; check its spelling';
  if (code === 'EISDIR') return 'expected a file, got a folder; name a file in it';
  return code === undefined && path.endsWith('.parquet') ? explainParquet(why) : why;
}

/** What stands behind a message of hyparquet, and what to do. */
function explainParquet(why: string): string {
  const again = 'write it again (in Python: to_parquet), or as JSON lines with the ending .jsonl';
  if (/footer != PAR1|too short/.test(why)) {
    return (
      `expected a whole Parquet file, which ends in PAR1, got one that does not: another kind of file, or one that ` +
      `was cut off; copy or download it again, or name JSON lines .jsonl (${why})`
    );
  }
  if (why.includes('compression codec')) {
    return `expected snappy, gzip, zstd, brotli, lz4 or no compression, got another (${why}); ${again}`;
  }
  if (/unsupported|not supported|parquet unhandled type/.test(why)) {
    return `expected Parquet with plain columns and lists, got a form that hyparquet does not read (${why}); ${again}`;
  }
  return `expected a whole Parquet file, got a damaged one (${why}); copy or download it again`;
}
