import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { R3Error } from '../../lib/errors.ts';
import { readJson, writeJson } from './json.ts';

describe('readJson', () => {
  it('reads integers beyond 2^53 as bigint, wherever they stand, and all others as numbers', () => {
    const text =
      '{"seq_id": 999999999999999999, "a":[-9007199254740993,9007199254740991,1.2345678901234567,1e20]}';
    expect(readJson(text, 'x')).toEqual({
      seq_id: 999999999999999999n,
      a: [-9007199254740993n, 9007199254740991, 1.2345678901234567, 1e20],
    });
    expect(readJson('18446744073709551615', 'x')).toBe(18446744073709551615n);
  });

  it('leaves texts and keys alone, digits and escapes in them too', () => {
    const value = { '12345678901234567890': 't', n1: 'n1', quote: '"\\" : 12345678901234567890', e: '' };
    const text = `{"big": 12345678901234567890, "rest": ${JSON.stringify(value)}}`;
    expect(readJson(text, 'x')).toEqual({ big: 12345678901234567890n, rest: value });
  });

  it('gives what JSON.parse gives, for any JSON whose numbers are below 2^53', () => {
    const isSmall = (text: string): boolean => !/\d{16}/.test(text);
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        const text = JSON.stringify(value);
        fc.pre(isSmall(text));
        expect(readJson(text, 'x')).toEqual(JSON.parse(text));
        // Beside a long integer the slower way reads the same text.
        expect(readJson(`[${text}, 99999999999999999]`, 'x')).toEqual([JSON.parse(text), 99999999999999999n]);
      }),
    );
  });

  it('names what it was to be where a text is no JSON', () => {
    const read = (text: string) => () => readJson(text, 'create_session');
    expect(read('<html>')).toThrow(/^create_session: expected JSON, got <html>/);
    expect(read(' ')).toThrow('create_session: expected JSON, got an empty body');
    expect(read('[01, 12345678901234567890')).toThrow(R3Error);
  });
});

describe('writeJson', () => {
  it('is inverted by readJson, bigints included', () => {
    const integer = fc.oneof(fc.maxSafeInteger(), fc.bigInt({ min: 2n ** 53n, max: 2n ** 64n - 1n }));
    const leaf = fc.oneof(integer, fc.string({ unit: 'grapheme' }), fc.boolean(), fc.constant(null));
    const { value } = fc.letrec((tie) => ({
      value: fc.oneof(
        { maxDepth: 3 },
        leaf,
        fc.array(tie('value')),
        fc.dictionary(fc.string(), tie('value'), { noNullPrototype: true }),
      ),
    }));
    fc.assert(
      fc.property(value, (each) => {
        expect(readJson(writeJson(each), 'x')).toEqual(each);
      }),
    );
  });

  it('writes what JSON.stringify writes', () => {
    fc.assert(
      fc.property(fc.jsonValue(), (each) => {
        expect(writeJson(each)).toBe(JSON.stringify(each));
      }),
    );
  });

  it('writes typed arrays as lists and leaves undefined fields out', () => {
    const value = { a: Float32Array.of(0.5, -1), b: undefined, c: Float64Array.of(2 ** 53), d: null, e: [] };
    expect(writeJson(value)).toBe('{"a":[0.5,-1],"c":[9007199254740992],"d":null,"e":[]}');
  });

  it('refuses numbers that JSON does not have', () => {
    expect(() => writeJson({ a: [Number.NaN] })).toThrow('JSON: expected finite numbers, got NaN');
  });
});
