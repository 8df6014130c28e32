import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { checkNumbers } from '../../lib/json.ts';
import { makeRng } from '../../lib/rng.ts';
import { makeValue } from './call-styles/fuzz-testing.ts';
import { parseJson, readJson, writeJson } from './json-values.ts';
import { pythonEquals, sameValue } from './values.ts';
import type { Value } from './values.ts';

/** undefined for what is refused. */
function valueOf(text: string): Value | undefined {
  const parsed = parseJson(text);
  return parsed.ok ? parsed.value : undefined;
}

describe('reading JSON', () => {
  test.each<[string, Value | undefined]>([
    ['1', 1n],
    ['-0', 0n],
    ['1.0', 1],
    ['1e2', 100],
    ['123456789012345678901234567890', 123456789012345678901234567890n],
    [' [1, "a\\u00e9", null] ', [1n, 'aé', null]],
    ['{"a": 1, "a": 2.5}', new Map([['a', 2.5]])],
    ['{"__proto__": true}', new Map([['__proto__', true]])],
    ['01', undefined],
    ['+1', undefined],
    ['NaN', undefined],
    ['1e400', undefined],
    ["{'a': 1}", undefined],
    ['[1,]', undefined],
    ['{"a" 1}', undefined],
    ['"a\nb"', undefined],
    ['"\\x41"', undefined],
    ['"open', undefined],
    ['[1] 2', undefined],
    ['', undefined],
  ])('%s', (text, expected) => {
    expect(valueOf(text)).toEqual(expected);
  });

  test('refuses integers of thousands of digits and deep nesting', () => {
    expect(valueOf('9'.repeat(4000))).toBeDefined();
    expect(valueOf('9'.repeat(5000))).toBeUndefined();
    expect(valueOf('['.repeat(100) + ']'.repeat(100))).toBeDefined();
    expect(valueOf('['.repeat(200) + ']'.repeat(200))).toBeUndefined();
  });

  test('reads what JSON.parse reads, as the same values', () => {
    fc.assert(
      fc.property(fc.json({ maxDepth: 5 }), (text) => {
        const parsed = parseJson(text);
        const again = parsed.ok ? JSON.parse(writeJson(parsed.value)) : parsed;
        expect(JSON.stringify(again)).toBe(JSON.stringify(JSON.parse(text)));
      }),
    );
  });

  test('refuses what JSON.parse refuses, and numbers that no double holds', () => {
    const changed = fc
      .tuple(fc.json({ maxDepth: 3 }), fc.nat(), fc.constantFrom(...Array.from('{}[],:"\\ 01.eE+-tfn\n')))
      .map(([text, at, piece]) => {
        const place = at % (text.length + 1);
        return text.slice(0, place) + piece + text.slice(place + 1);
      });
    fc.assert(
      fc.property(changed, (text) => {
        let isJson = true;
        try {
          checkNumbers(JSON.parse(text));
        } catch {
          isJson = false;
        }
        expect(parseJson(text).ok).toBe(isJson);
      }),
      { numRuns: 2000 },
    );
  });

  test('reads back what it wrote, integers and floats apart', () => {
    for (let seed = 0; seed < 500; seed++) {
      const value = makeValue(makeRng(seed), 3);
      const read = valueOf(writeJson(value));
      expect(read !== undefined && sameValue(value, read), writeJson(value)).toBe(true);
    }
  });

  test('stops at the end of the value', () => {
    expect(readJson('x [1] y', 2)).toMatchObject({ ok: true, end: 5 });
  });
});

describe('equality', () => {
  test('of Python: by number, but not of a tuple and a list', () => {
    expect(pythonEquals(1n, 1)).toBe(true);
    expect(pythonEquals(true, 1n)).toBe(true);
    expect(pythonEquals([1n, [2]], [1, [2n]])).toBe(true);
    expect(pythonEquals({ tuple: [1n] }, [1n])).toBe(false);
    expect(pythonEquals('1', 1n)).toBe(false);
    expect(pythonEquals(10n ** 30n, 1e30)).toBe(false);
    expect(pythonEquals(null, false)).toBe(false);
  });

  test('exact: by type too, whatever the order of keys', () => {
    expect(sameValue(1n, 1)).toBe(false);
    expect(sameValue(true, 1n)).toBe(false);
    const ab = new Map([
      ['a', 1n],
      ['b', 2n],
    ]);
    const ba = new Map([
      ['b', 2n],
      ['a', 1n],
    ]);
    expect(sameValue(ab, ba)).toBe(true);
    expect(
      sameValue(
        ab,
        new Map([
          ['a', 1n],
          ['c', 2n],
        ]),
      ),
    ).toBe(false);
  });
});
