import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { makeDeck } from './deck.ts';

test('a pass deals every item once, and the next pass in another order', () => {
  const items = Array.from({ length: 20 }, (_, i) => i);
  const deck = makeDeck(items, 4, 1);
  const first = deck.deal(20);
  const second = deck.deal(20);
  expect(first.toSorted((a, b) => a - b)).toEqual(items);
  expect(second.toSorted((a, b) => a - b)).toEqual(items);
  expect(second).not.toEqual(first);
});

test('a deck goes on from its position as if it had never stopped', () => {
  fc.assert(
    fc.property(fc.nat(40), fc.nat(40), fc.nat(1000), (before, after, seed) => {
      const items = Array.from({ length: 7 }, (_, i) => i);
      const whole = makeDeck(items, 3, seed);
      whole.deal(before);
      const resumed = makeDeck(items, 3, seed, whole.position());
      expect(resumed.deal(after)).toEqual(whole.deal(after));
    }),
  );
});

test('what does not fill a step is left out of its pass', () => {
  const dealt = makeDeck([0, 1, 2, 3, 4], 2, 3).deal(4);
  expect(new Set(dealt).size).toBe(4);
});
