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
import type { Problem } from '../method/episode.ts';
import type { Task } from '../method/task.ts';

/** Characters of one line: a problem with many tools takes some tens of thousands. */
export const MAX_LINE_LENGTH = 1 << 22;
/** Parquet rows that are turned into objects at once. */
const ROWS_AT_ONCE = 1024;

export interface Row {
  row: unknown;
  /** From 1: the line of a .jsonl file, the row of a .parquet file. */
  line: number;
}

/**
 * The rows of a file, in order. Throws R3Error `bad-file` for a file that is missing, of another kind, not whole or
 * without a row, and `bad-row` for a line that is not a JSON object.
 */
export async function* readRows(path: string): AsyncGenerator<Row, void, undefined> {
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
  for await (const { row, line } of readRows(path)) {
    const problem = parseRowAt(task, row, line, path);
    let id = problem.id;
    for (let copy = 2; ids.has(id); copy++) id = `${problem.id}~${copy}`;
    ids.add(id);
    problems.push(id === problem.id ? problem : { ...problem, id });
    if (problems.length === options.limit) break;
  }
  return problems;
}

function parseRowAt<P extends Problem>(task: Task<P>, row: unknown, line: number, path: string): P {
  try {
    return task.parseRow(row, line - 1);
  } catch (error) {
    throw new R3Error('task', 'bad-row', `${placeOf(path, line)}: ${messageOf(error)}`, { cause: error });
  }
}

/** `train.jsonl line 12`, for messages. */
export function placeOf(path: string, line: number): string {
  return `${path} ${path.endsWith('.parquet') ? 'row' : 'line'} ${line}`;
}

function readerFor(path: string): (path: string) => AsyncIterable<Row> {
  if (path.endsWith('.jsonl')) return readJsonLines;
  if (path.endsWith('.parquet')) return readParquet;
  throw new R3Error('task', 'bad-file', `${path}: expected a file that ends in .jsonl or .parquet`);
}

async function* readJsonLines(path: string): AsyncGenerator<Row, void, undefined> {
  const decoder = new TextDecoder('utf-8', { fatal: true });
  let held = '';
  let line = 0;
  for await (const bytes of createReadStream(path)) {
    const lines = (held + decoder.decode(bytes as Uint8Array, { stream: true })).split('\n');
    held = lines.pop() ?? '';
    for (const text of lines) yield* parseLine(text, ++line, path);
    checkLength(held, line + 1, path);
  }
  yield* parseLine(held + decoder.decode(), line + 1, path);
}

/** No row for a blank line. */
function* parseLine(text: string, line: number, path: string): Generator<Row, void, undefined> {
  checkLength(text, line, path);
  if (text.trim() === '') return;
  let row: unknown;
  try {
    row = JSON.parse(text);
  } catch (error) {
    throw badLine(path, line, `${excerpt(text)} (${messageOf(error)})`, error);
  }
  if (typeof row !== 'object' || row === null || Array.isArray(row)) throw badLine(path, line, excerpt(text));
  yield { row, line };
}

function checkLength(text: string, line: number, path: string): void {
  if (text.length <= MAX_LINE_LENGTH) return;
  throw new R3Error(
    'task',
    'bad-row',
    `${placeOf(path, line)}: expected at most ${MAX_LINE_LENGTH} characters, got more; is it one JSON object a line?`,
  );
}

function badLine(path: string, line: number, got: string, cause?: unknown): R3Error {
  return new R3Error('task', 'bad-row', `${placeOf(path, line)}: expected a JSON object, got ${got}`, {
    cause,
  });
}

function excerpt(text: string): string {
  return JSON.stringify(text.length > 60 ? `${text.slice(0, 60)}...` : text);
}

async function* readParquet(path: string): AsyncGenerator<Row, void, undefined> {
  const file = await asyncBufferFromFile(path);
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
  const isMissing = error instanceof Error && 'code' in error && error.code === 'ENOENT';
  const text = isMissing ? 'expected a file, got nothing at this path; check its spelling' : messageOf(error);
  return new R3Error('task', 'bad-file', `${path}: ${text}`, { cause: error });
}
