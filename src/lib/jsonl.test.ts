import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { openJsonl, readJsonl, stringifyRecord } from './jsonl.ts';
import { anyText } from './text-testing.ts';

let folder: string;
let path: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'jsonl-'));
  path = join(folder, 'log.jsonl');
});
afterEach(() => rmSync(folder, { recursive: true }));

const records = fc.array(
  fc.record({
    text: anyText(),
    n: fc.integer(),
    list: fc.array(fc.float({ noNaN: true, noDefaultInfinity: true })),
  }),
  {
    maxLength: 6,
  },
);
const asText = (rows: readonly object[]): string => rows.map((row) => `${JSON.stringify(row)}\n`).join('');

test('what is appended is what is read, whatever the text holds', () => {
  fc.assert(
    fc.property(records, (rows) => {
      rmSync(path, { force: true });
      const file = openJsonl(path);
      for (const row of rows) file.append(row);
      file.close();
      expect(readFileSync(path, 'utf8')).toBe(asText(rows));
      expect([...readJsonl(path)]).toEqual(JSON.parse(JSON.stringify(rows)));
    }),
    { numRuns: 50 },
  );
});

test('a file cut at any byte opens with exactly its whole records and goes on after them', () => {
  fc.assert(
    fc.property(records, fc.nat(), anyText(), (rows, cut, text) => {
      const bytes = Buffer.from(asText(rows));
      const kept = bytes.subarray(0, cut % (bytes.length + 1));
      writeFileSync(path, kept);
      const whole = [...kept].filter((byte) => byte === 10).length;
      const file = openJsonl(path);
      expect(file.count()).toBe(whole);
      file.append({ text });
      file.close();
      expect(readFileSync(path, 'utf8')).toBe(asText([...rows.slice(0, whole), { text }]));
    }),
    { numRuns: 100 },
  );
});

test('a last line that ends in a newline and does not parse is dropped on open', () => {
  writeFileSync(path, '{"a":1}\n\0\0\0\0\n');
  const file = openJsonl(path);
  expect(file.count()).toBe(1);
  file.close();
  expect(readFileSync(path, 'utf8')).toBe('{"a":1}\n');
});

test('truncateTo keeps the first records, and appending goes on from there', () => {
  fc.assert(
    fc.property(records, fc.nat(), (rows, cut) => {
      rmSync(path, { force: true });
      const count = cut % (rows.length + 1);
      const file = openJsonl(path);
      for (const row of rows) file.append(row);
      file.truncateTo(count);
      expect(file.count()).toBe(count);
      file.append({ end: true });
      file.close();
      expect(readFileSync(path, 'utf8')).toBe(asText([...rows.slice(0, count), { end: true }]));
    }),
    { numRuns: 50 },
  );
});

test('truncateTo refuses to keep more records than there are', () => {
  const file = openJsonl(path);
  file.append({ a: 1 });
  expect(() => file.truncateTo(2)).toThrow(/log\.jsonl: expected at least 2 records, got 1/);
  file.close();
});

test('lines longer than a read chunk are whole', () => {
  const file = openJsonl(path);
  const rows = [{ text: 'a'.repeat(3_000_000) }, { text: '' }, { text: 'é'.repeat(1_500_000) }, { end: 1 }];
  for (const row of rows) file.append(row);
  file.close();
  expect([...readJsonl(path)]).toEqual(rows);
  const again = openJsonl(path);
  expect(again.count()).toBe(4);
  again.close();
});

test('reading a log leaves out a torn last line, reading a file refuses it, and both take a whole one without a newline', () => {
  writeFileSync(path, '{"a":1}\n{"a":');
  expect([...readJsonl(path, 'skip-torn')]).toEqual([{ a: 1 }]);
  expect(() => [...readJsonl(path)]).toThrow(
    /log\.jsonl:2: expected a line of JSON, got .*: make or copy it again/,
  );
  writeFileSync(path, '{"a":1}\n{"a":2}');
  expect([...readJsonl(path)]).toEqual([{ a: 1 }, { a: 2 }]);
});

test('a malformed line in the middle is an error with file and line', () => {
  writeFileSync(path, '{"a":1}\n{"a":\n{"a":3}\n');
  expect(() => [...readJsonl(path)]).toThrow(/log\.jsonl:2: expected a line of JSON, got "\{\\"a\\":"/);
  writeFileSync(path, '{"a":1}\n\n{"a":3}\n');
  expect(() => [...readJsonl(path)]).toThrow(/log\.jsonl:2: expected a line of JSON, got an empty line/);
  writeFileSync(
    path,
    Buffer.concat([Buffer.from('{"a":"'), Buffer.from([0xff]), Buffer.from('"}\n{"a":3}\n')]),
  );
  expect(() => [...readJsonl(path)]).toThrow(/log\.jsonl:1/);
});

test('a missing file is an error that names it', () => {
  expect(() => [...readJsonl(path)]).toThrow(/log\.jsonl: expected a file or folder, got nothing/);
});

test('a value that JSON would change is an error that names its field', () => {
  expect(() => stringifyRecord({ loss: Number.NaN })).toThrow('loss: expected a finite number, got NaN');
  expect(() => stringifyRecord({ a: [{ b: 1 }, { b: -Infinity }] })).toThrow(
    'a[1].b: expected a finite number, got -Infinity',
  );
  expect(() => stringifyRecord({ a: { n: 1n } })).toThrow('a.n: expected a JSON value, got a bigint');
  expect(() => stringifyRecord({ a: new Float32Array(1) })).toThrow(
    'a: expected a plain object or array, got Float32Array',
  );
  expect(() => stringifyRecord({ a: new Date(0) })).toThrow('a: expected a plain object or array, got Date');
  expect(() => stringifyRecord({ a: [undefined] })).toThrow('a[0]: expected a JSON value, got undefined');
  expect(() => stringifyRecord({ a: () => 1 })).toThrow('a: expected a JSON value, got a function');
  const loop: Record<string, unknown> = {};
  loop['self'] = loop;
  expect(() => stringifyRecord(loop)).toThrow(/expected at most 100 levels/);
});

test('a refused record leaves the file as it was', () => {
  const file = openJsonl(path);
  file.append({ a: 1 });
  expect(() => file.append({ a: Number.NaN })).toThrow();
  file.append({ a: 2 });
  file.close();
  expect(readFileSync(path, 'utf8')).toBe('{"a":1}\n{"a":2}\n');
});
