import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { z } from 'zod';
import { decodeUtf8, explainIssue, parseJsonObject, showValue } from './json.ts';

test('what JSON.stringify writes is read back, with keys and quotes of every kind', () => {
  fc.assert(
    fc.property(
      fc.dictionary(fc.string(), fc.jsonValue()),
      fc.constantFrom('', ' ', '\n\t'),
      (value, space) => {
        const text = JSON.stringify(value, null, space);
        expect(parseJsonObject(text)).toEqual(JSON.parse(text));
      },
    ),
  );
});

test.each([
  ['', 'expected a JSON object, got an empty text'],
  ['{"a": 1', 'expected a JSON object, got "{\\"a\\": 1" ('],
  ['null', 'expected a JSON object, got null'],
  ['[1, 2]', 'expected a JSON object, got [1,2]'],
  ['{"a": {"b": [1, -1e400]}}', 'a.b[1]: expected a number of at most 1.8e308, got a larger one'],
  ['{"a": 1, "b": {"a": 2}, "a": 3}', 'a: expected each key once in an object, got it twice; remove one'],
  ['{"l": [{"\\u0061": ":"}, {"a": 1, "\\u0061" : 2}]}', 'a: expected each key once'],
])('%s is an error', (text, message) => {
  expect(() => parseJsonObject(text)).toThrow(message);
});

test('a key may stand in several objects, and as a value', () => {
  const text = '{"a": "a", "b": [{"a": 1}, {"a": "a"}], "c": "\\"a\\":"}';
  expect(parseJsonObject(text)).toEqual({ a: 'a', b: [{ a: 1 }, { a: 'a' }], c: '"a":' });
});

test('a byte order mark is left out; UTF-16 and other bytes are errors that say what to do', () => {
  expect(decodeUtf8(Buffer.from('\ufeff{"a": "ü"}'))).toBe('{"a": "ü"}');
  for (const text of ['\ufeff{}', '{}']) {
    expect(() => decodeUtf8(Buffer.from(text, 'utf16le'))).toThrow('got UTF-16; save the file as UTF-8');
    expect(() => decodeUtf8(Buffer.from(text, 'utf16le').swap16())).toThrow('got UTF-16');
  }
  expect(() => decodeUtf8(Buffer.from('"ü"', 'latin1'))).toThrow('got bytes that are not; save the file');
});

describe('what a schema found', () => {
  const schema = z.strictObject({
    size: z.int().positive(),
    kind: z.enum(['a', 'b']),
    ids: z.array(z.int().min(0)).min(1).max(2),
    name: z.string().min(1),
    on: z.boolean(),
  });
  const good = { size: 1, kind: 'a', ids: [1], name: 'x', on: true };

  test.each<[unknown, string]>([
    [null, 'expected an object, got null'],
    [[], 'expected an object, got []'],
    [{ ...good, size: undefined }, 'size: expected a number, got nothing'],
    [{ ...good, size: '1' }, 'size: expected a number, got "1"'],
    [{ ...good, size: 1.5 }, 'size: expected a whole number, got 1.5'],
    [{ ...good, size: Infinity }, 'size: expected a number, got Infinity'],
    [{ ...good, size: 0 }, 'size: expected more than 0, got 0'],
    [{ ...good, kind: 'c' }, 'kind: expected "a" or "b", got "c"'],
    [{ ...good, ids: [] }, 'ids: expected at least 1 entries, got []'],
    [{ ...good, ids: [1, 2, 3] }, 'ids: expected at most 2 entries, got [1,2,3]'],
    [{ ...good, ids: [1, -2] }, 'ids[1]: expected at least 0, got -2'],
    [{ ...good, name: '' }, 'name: expected at least 1 characters, got ""'],
    [{ ...good, on: 1 }, 'on: expected true or false, got 1'],
    [{ ...good, more: 1 }, 'expected no other keys, got more'],
  ])('%j is said in the words of the house', (value, message) => {
    expect(explainIssue(schema.safeParse(value).error!.issues, value)).toBe(message);
  });
});

test('no control character of the text reaches the message', () => {
  expect(() => parseJsonObject('\u0000\u001b[31m{')).toThrow(/^\P{Cc}*$/u);
});

test('a long value is cut', () => {
  expect(showValue('x'.repeat(100))).toBe(`"${'x'.repeat(59)}...`);
});

test('nesting of 500 levels is read, more is refused, even where it would exhaust the stack', () => {
  const nested = (levels: number): string => `${'{"a":'.repeat(levels)}1${'}'.repeat(levels)}`;
  expect(parseJsonObject(nested(500))).toHaveProperty('a');
  const refusal = 'expected at most 500 levels of objects and lists, got more';
  expect(() => parseJsonObject(nested(501))).toThrow(refusal);
  expect(() => parseJsonObject(`${'['.repeat(1e5)}${']'.repeat(1e5)}`)).toThrow(refusal);
});
