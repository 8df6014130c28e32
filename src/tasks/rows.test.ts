import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { R3Error } from '../lib/errors.ts';
import { countdown } from './countdown.ts';
import { MAX_LINE_LENGTH, loadProblems, readEveryRow, readRows, type Row } from './rows.ts';

const fixtures = new URL('../../test/fixtures/countdown/', import.meta.url).pathname;
let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'r3-rows-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

function file(name: string, content: string | Uint8Array): string {
  const path = join(folder, name);
  writeFileSync(path, content);
  return path;
}

async function rowsOf(path: string): Promise<Row[]> {
  const rows: Row[] = [];
  for await (const row of readRows(path)) rows.push(row);
  return rows;
}

async function failure(promise: Promise<unknown>): Promise<R3Error> {
  const error: unknown = await promise.then(
    () => 'nothing was thrown',
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(R3Error);
  return error as R3Error;
}

describe('JSON lines', () => {
  test('each row comes with its line; blank lines, CRLF and a missing last newline are accepted', async () => {
    const path = file('a.jsonl', '{"a":1}\r\n\n  \n{"a":"ünï\u2028"}');
    expect(await rowsOf(path)).toEqual([
      { row: { a: 1 }, line: 1, text: '{"a":1}\r' },
      { row: { a: 'ünï\u2028' }, line: 4, text: '{"a":"ünï\u2028"}' },
    ]);
  });

  test('a character that is split over two reads comes whole', async () => {
    const text = `{"a":"x${'🦀'.repeat(40_000)}"}`;
    expect(await rowsOf(file('crab.jsonl', text))).toEqual([
      { row: JSON.parse(text) as unknown, line: 1, text },
    ]);
  });

  test.each([
    ['{"nums": [1, 2', 'expected a JSON object, got "{\\"nums\\": [1, 2" ('],
    ['[1, 2]', 'expected a JSON object, got [1,2]'],
    ['null', 'expected a JSON object, got null'],
    ['{"target": 1e400}', 'target: expected a number of at most 1.8e308, got a larger one'],
    ['{"target": 1, "target": 2}', 'target: expected each key once in an object, got it twice'],
    ['nums,target', 'expected a JSON object, got "nums,target" ('],
  ])('%s is an error with file and line', async (line, message) => {
    const path = file('bad.jsonl', `{"a":1}\n${line}\n{"a":3}\n`);
    const error = await failure(rowsOf(path));
    expect(error.code).toBe('bad-row');
    expect(error.boundary).toBe('task');
    expect(error.message.startsWith(`${path} line 2: ${message}`), error.message).toBe(true);
  });

  test('a line over the limit is an error that names it, and those after it can be read', async () => {
    const path = file('long.jsonl', `{}\n${' '.repeat(MAX_LINE_LENGTH + 1)}\nnone\n\n{"a":1}`);
    const error = await failure(rowsOf(path));
    expect(error.code).toBe('bad-row');
    const why = `expected at most ${MAX_LINE_LENGTH} characters`;
    expect(error.message).toContain(`${path} line 2: ${why}`);
    const rows = [];
    for await (const row of readEveryRow(path)) rows.push(row);
    expect(rows).toEqual([
      { row: {}, line: 1, text: '{}' },
      { line: 2, why: expect.stringContaining(why) as unknown },
      { line: 3, why: expect.stringContaining('expected a JSON object') as unknown },
      { row: { a: 1 }, line: 5, text: '{"a":1}' },
    ]);
  });

  test('a byte order mark is left out', async () => {
    expect(await rowsOf(file('mark.jsonl', '\ufeff{"a":1}'))).toEqual([
      { row: { a: 1 }, line: 1, text: '{"a":1}' },
    ]);
  });

  test.each([
    ['latin1', Buffer.from('{"a":1}\n{"a":"ü"}\n', 'latin1'), 'got bytes that are not, near line 2'],
    ['UTF-16', Buffer.from('{"a":1}\n', 'utf16le'), 'got UTF-16'],
    ['UTF-8 that is cut in a character', Buffer.from('{"a":"ü').subarray(0, -1), 'got bytes that are not'],
  ])('%s is an error that says what to do', async (_, bytes, got) => {
    const path = file('encoding.jsonl', bytes);
    const error = await failure(rowsOf(path));
    expect(error.code).toBe('bad-file');
    expect(error.message).toContain(`${path}: expected text in UTF-8, ${got}`);
    expect(error.message).toContain('save the file as UTF-8');
  });
});

describe('Parquet', () => {
  test.each(['snappy', 'zstd'])(
    'rows of a %s file come in order over row groups, 64-bit integers as bigint',
    async (name) => {
      const rows = await rowsOf(join(fixtures, `${name}.parquet`));
      expect(rows.map(({ line }) => line)).toEqual([1, 2, 3, 4, 5]);
      expect(rows[1]?.row).toEqual({ target: 82n, nums: [83n, 78n, 1n, 39n] });
      expect(rows[4]?.row).toEqual({ target: 24n, nums: [2n, 3n, 5n, 7n] });
    },
  );

  const snappy = readFileSync(join(fixtures, 'snappy.parquet'));
  /** The codec of a column follows its name in the footer: 1 is snappy, 3 is LZO, both zigzag-encoded. */
  const lzo = (): Buffer => {
    const bytes = Buffer.from(snappy);
    bytes[bytes.indexOf('target\u0015\u0002') + 7] = 6;
    return bytes;
  };
  const withoutPages = (): Buffer => Buffer.from(snappy).fill(0xff, 4, 120);

  test.each<[string, string | Uint8Array, RegExp]>([
    [
      'is not Parquet',
      'a text that is long enough to hold a footer',
      /which ends in PAR1, got .* another kind/,
    ],
    ['is empty', '', /got an empty one; copy or download it again/],
    [
      'is cut',
      snappy.subarray(0, -20),
      /which ends in PAR1, got .* or one that was cut off; copy or download/,
    ],
    [
      'is compressed in another way',
      lzo(),
      /expected snappy, gzip, zstd, brotli, lz4 .*LZO.*; write it again/,
    ],
    ['is damaged', withoutPages(), /got a damaged one \(.*\); copy or download it again/],
  ])('a file that %s is an error that says what to do', async (_, bytes, message) => {
    const path = file('bad.parquet', bytes);
    const error = await failure(rowsOf(path));
    expect(error.code).toBe('bad-file');
    expect(error.message.startsWith(`${path}: expected`), error.message).toBe(true);
    expect(error.message).toMatch(message);
  });

  test('columns that the task does not know are an error that names those it wants and those it got', async () => {
    const bytes = Buffer.from(snappy.toString('latin1').replaceAll('target', 'answer'), 'latin1');
    const path = file('columns.parquet', bytes);
    expect((await failure(loadProblems(countdown, path))).message).toBe(
      `${path} row 1: row: expected nums and target, got answer, nums; rename the columns (keys) of the file`,
    );
  });
});

describe('a file', () => {
  test('without rows is an error', async () => {
    const path = file('empty.jsonl', '\n\n');
    expect((await failure(rowsOf(path))).message).toBe(`${path}: expected at least one row, got none`);
  });

  test('that is missing is an error', async () => {
    const path = join(folder, 'absent.jsonl');
    expect((await failure(rowsOf(path))).message).toBe(
      `${path}: expected a file, got nothing at this path; check its spelling`,
    );
    expect((await failure(rowsOf(join(folder, 'absent.parquet')))).code).toBe('bad-file');
  });

  test('of another kind is an error', async () => {
    expect((await failure(rowsOf('rows.csv'))).message).toBe(
      'rows.csv: expected a file that ends in .jsonl or .parquet',
    );
  });
});

describe('problems', () => {
  test('of a Parquet file are numbers, and equal ones have distinct ids', async () => {
    const problems = await loadProblems(countdown, join(fixtures, 'snappy.parquet'));
    expect(problems[0]).toEqual({ id: '44-19-35-to-98', nums: [44, 19, 35], target: 98 });
    expect(problems[2]).toEqual({ id: '44-19-35-to-98~2', nums: [44, 19, 35], target: 98 });
    expect(new Set(problems.map(({ id }) => id)).size).toBe(5);
  });

  test('have distinct ids even where a file already uses the form of a copy', async () => {
    const row = (id: string): string => JSON.stringify({ id, nums: [1, 2], target: 3 });
    const path = file('ids.jsonl', [row('a'), row('a~2'), row('a'), row('a')].join('\n'));
    expect((await loadProblems(countdown, path)).map(({ id }) => id)).toEqual(['a', 'a~2', 'a~3', 'a~4']);
  });

  test('after the limit are not read', async () => {
    const path = file('limit.jsonl', '{"nums":[1,2],"target":3}\nnot json\n');
    expect(await loadProblems(countdown, path, { limit: 1 })).toHaveLength(1);
  });

  test('that the task refuses are errors with file and line', async () => {
    const path = file('refused.jsonl', '{"nums":[1,2],"target":3}\n{"nums":[1],"target":4}\n');
    const error = await failure(loadProblems(countdown, path));
    expect(error.code).toBe('bad-row');
    expect(error.message).toBe(`${path} line 2: nums: expected a list of 2 to 8 whole numbers, got [1]`);
  });
});
