/**
 * The streaming detokenizer on the three kinds of tokenizer in test/fixtures/tokenizers, and the stop matcher
 * on strings of few letters, so that stop strings occur, overlap and contain each other.
 */
import { fileURLToPath } from 'node:url';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { lastTokens, makeDetokenizer, makeStopMatcher } from './stream.ts';
import { loadTokenizer } from './tokenizer.ts';
import type { Tokenizer } from './tokenizer.ts';

const load = (kind: string): Tokenizer =>
  loadTokenizer(fileURLToPath(new URL(`../../test/fixtures/tokenizers/${kind}`, import.meta.url)));

/** The pieces that a detokenizer gives, the last one by `end`. */
function piecesOf(tokenizer: Tokenizer, ids: readonly number[], before: readonly number[] = []): string[] {
  const detokenizer = makeDetokenizer(tokenizer, before);
  return [...ids.map((id) => detokenizer.push(id)), detokenizer.end()];
}

describe.each(['byte-level', 'byte-fallback', 'word-level'])('%s detokenizer', (kind) => {
  const tokenizer = load(kind);

  test('its pieces put together are the decoding of all ids, for any ids', () => {
    const ids = fc.array(fc.nat(tokenizer.vocabularySize + 3), { maxLength: 40 });
    fc.assert(
      fc.property(ids, (tokens) => {
        expect(piecesOf(tokenizer, tokens).join('')).toBe(tokenizer.decode(tokens));
      }),
      { numRuns: 300 },
    );
  });

  test('the text of a prompt and the pieces that continue it are the text of all tokens', () => {
    const text = fc.string({ unit: fc.constantFrom('5', '3', 'a', ' ', '🦀', '\n'), maxLength: 30 });
    fc.assert(
      fc.property(text, fc.nat(), (whole, place) => {
        const ids = tokenizer.encode(whole);
        const prompt = ids.slice(0, place % (ids.length + 1));
        const before = tokenizer.decode(prompt);
        fc.pre(!before.endsWith('\uFFFD'));
        const pieces = piecesOf(tokenizer, ids.slice(prompt.length), lastTokens(tokenizer, prompt));
        expect(before + pieces.join('')).toBe(tokenizer.decode(ids));
      }),
      { numRuns: 300 },
    );
  });

  test('no piece of a text has a broken character', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme' }), (text) => {
        const whole = text.replaceAll('\uFFFD', '');
        for (const piece of piecesOf(tokenizer, tokenizer.encode(whole))) {
          expect(piece).not.toMatch(/\p{Surrogate}|\uFFFD/u);
        }
      }),
    );
  });
});

test('a character of several tokens comes out with its last token', () => {
  const tokenizer = load('byte-level');
  expect(piecesOf(tokenizer, tokenizer.encode('x🦀y'))).toEqual(['x', '', '', '', '🦀', 'y', '']);
});

test('a character that stays incomplete comes out at the end as U+FFFD', () => {
  const tokenizer = load('byte-level');
  expect(piecesOf(tokenizer, tokenizer.encode('x🦀').slice(0, 3))).toEqual(['x', '', '', '\uFFFD']);
});

test('special tokens have no text', () => {
  const tokenizer = load('word-level');
  expect(piecesOf(tokenizer, tokenizer.encode('try <|user|> again <|end|>'))).toEqual([
    'try',
    '',
    ' again',
    '',
    '',
  ]);
});

test('a continuation has the space before it, also after special tokens, and none where no text comes before', () => {
  const words = load('word-level');
  const after = (prompt: string): string =>
    piecesOf(words, words.encode('5'), lastTokens(words, words.encode(prompt))).join('');
  expect(['3', '3 <|end|> <|user|>', '<|user|>', ''].map(after)).toEqual([' 5', ' 5', '5', '5']);
});

test('a character that the prompt leaves incomplete is not taken into account', () => {
  const tokenizer = load('byte-level');
  const [first = 0, ...rest] = tokenizer.encode('🦀');
  const prompt = [...tokenizer.encode('x'), first];
  expect(lastTokens(tokenizer, prompt)).toEqual(tokenizer.encode('x'));
  const pieces = piecesOf(tokenizer, [...rest, ...tokenizer.encode('y')], lastTokens(tokenizer, prompt));
  expect(pieces.join('')).toBe(tokenizer.decode([...rest, ...tokenizer.encode('y')]));
});

/** Text and state after pieces were pushed, the held text included. */
function matched(stops: string[], pieces: readonly string[]): { text: string; stopped: boolean } {
  const matcher = makeStopMatcher(stops);
  let text = '';
  let stopped = false;
  for (const piece of pieces) {
    const found = matcher.push(piece);
    text += found.text;
    stopped = found.stopped;
  }
  return { text: text + matcher.end(), stopped };
}

test('a stop string across pieces ends the text before it', () => {
  expect(matched(['</answer>'], ['7 </an', 'swer', '> more'])).toEqual({ text: '7 ', stopped: true });
});

test('text is released as soon as it cannot be part of a stop string', () => {
  const matcher = makeStopMatcher(['abc']);
  expect(matcher.push('xab')).toEqual({ text: 'x', stopped: false });
  expect(matcher.push('ab')).toEqual({ text: 'ab', stopped: false });
  expect(matcher.push('d')).toEqual({ text: 'abd', stopped: false });
  expect(matcher.end()).toBe('');
});

test('the stop string that is completed first ends the text, the longer of two at once', () => {
  expect(matched(['bcd', 'c'], ['abcd']).text).toBe('ab');
  expect(matched(['c', 'bc'], ['abcd']).text).toBe('a');
});

test('after a stop there is no more text', () => {
  const matcher = makeStopMatcher(['.']);
  matcher.push('a.b');
  expect(matcher.push('c')).toEqual({ text: '', stopped: true });
  expect(matcher.end()).toBe('');
});

test('an empty stop string is refused', () => {
  expect(() => makeStopMatcher([''])).toThrow(/expected at least one character/);
});

const letters = (maxLength: number): fc.Arbitrary<string> =>
  fc.string({ unit: fc.constantFrom('a', 'b', 'c'), maxLength });
const stopLists = fc.array(letters(4), { maxLength: 3 }).map((stops) => stops.filter((stop) => stop !== ''));

test('how the text is cut makes no difference', () => {
  fc.assert(
    fc.property(stopLists, fc.array(letters(4), { maxLength: 8 }), (stops, pieces) => {
      expect(matched(stops, pieces)).toEqual(matched(stops, pieces.join('').split('')));
    }),
    { numRuns: 500 },
  );
});

test('the text is all that comes before the stop string that ends first', () => {
  fc.assert(
    fc.property(stopLists, letters(16), (stops, whole) => {
      const ends = Array.from({ length: whole.length + 1 }, (_, end) => end);
      const end = ends.find((at) => stops.some((stop) => whole.slice(0, at).endsWith(stop)));
      const head = whole.slice(0, end);
      const cut = Math.max(0, ...stops.filter((stop) => head.endsWith(stop)).map((stop) => stop.length));
      const expected = end === undefined ? whole : head.slice(0, head.length - cut);
      expect(matched(stops, [whole])).toEqual({ text: expected, stopped: end !== undefined });
    }),
    { numRuns: 500 },
  );
});

test('what is held back is never more than a stop string needs', () => {
  fc.assert(
    fc.property(stopLists, letters(16), (stops, whole) => {
      const matcher = makeStopMatcher(stops);
      let held = '';
      for (const letter of whole) {
        const { text, stopped } = matcher.push(letter);
        if (stopped) return;
        held = (held + letter).slice(text.length);
        expect(held === '' || stops.some((stop) => stop.startsWith(held) && stop !== held)).toBe(true);
      }
    }),
    { numRuns: 500 },
  );
});
