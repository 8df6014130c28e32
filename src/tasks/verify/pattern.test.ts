import { expect, test } from 'vitest';
import { extractLast, matchExactly, matchPattern, parsePattern } from './pattern.ts';
import { withinTime } from './time-limit.ts';

test('a pattern matches anywhere in the text, and stays the same from call to call', () => {
  const pattern = parsePattern('regex', '^\\d+$', 'm');
  for (let i = 0; i < 3; i++) expect(matchPattern(pattern, 'a\n12')).toEqual({ ok: true });
  expect(matchPattern(pattern, 'a 12')).toEqual({
    ok: false,
    class: 'no match',
    why: 'expected a match of ^\\d+$, got "a 12"',
  });
});

test.each([
  ['(', '', /^regex: expected a regular expression, got Invalid regular expression/],
  ['a', 'g', /^regex: expected flags among i, m, s, u and v, got "g"/],
  ['a', 'uv', /^regex: expected a regular expression/],
])('%s with flags "%s" is refused', (source, flags, message) => {
  expect(() => parsePattern('regex', source, flags)).toThrow(message);
});

test('a pattern that backtracks without end does not hang: the answer is not judged', () => {
  const pattern = parsePattern('regex', '^(a+)+$');
  const answer = `${'a'.repeat(60)}!`;
  expect(() => matchPattern(pattern, answer)).toThrow(/^regex: expected a verdict within 500 ms, got none/);
  expect(() => extractLast(pattern, answer)).toThrow(/^extract: expected a verdict within 500 ms/);
  expect(matchPattern(pattern, 'aaa')).toEqual({ ok: true });
});

test('what the work throws comes through the time limit', () => {
  const thrown = new TypeError('mine');
  expect(() =>
    withinTime('work', () => {
      throw thrown;
    }),
  ).toThrow(thrown);
  expect(withinTime('work', () => undefined)).toBe(undefined);
});

test('the last match is extracted: its group where it has one', () => {
  expect(extractLast(parsePattern('extract', '<a>(.*?)</a>', 's'), '<a>1</a> no, <a>2\n</a>')).toBe('2\n');
  expect(extractLast(parsePattern('extract', '\\d+'), 'from 10 to 20')).toBe('20');
  expect(extractLast(parsePattern('extract', '(b)?\\d'), 'b1 2')).toBe('2');
  expect(extractLast(parsePattern('extract', '\\d+'), 'none')).toMatchObject({
    ok: false,
    class: 'no answer',
  });
});

test.each([
  ['Paris', ' Paris\n', true, false, true],
  ['Paris', ' Paris\n', false, false, false],
  ['Paris', 'paris', true, false, false],
  ['Paris', 'PARIS', true, true, true],
  ['12', '\uff11\uff12', true, true, false],
])('%j against %j, trim %s, ignoreCase %s: %s', (expected, text, trim, ignoreCase, ok) => {
  expect(matchExactly(expected, text, { trim, ignoreCase }).ok).toBe(ok);
});
