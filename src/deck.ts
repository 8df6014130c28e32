/**
 * A deck of items that is dealt in passes: each pass goes over all of them, in an order of its own.
 *
 * What is dealt is a function of (items, seed, position), and the position is a number: a run that is resumed goes on
 * where it stood. Where steps take equal shares, the rest of a pass that does not fill a step is left out of it.
 */
import { hash32, makeRng } from './lib/rng.ts';

export interface Deck<T> {
  /** The next `count` items. */
  deal(count: number): T[];
  /** How many were dealt so far. */
  position(): number;
}

/** Which of a run's streams orders are drawn from: above its steps. */
const ORDER_STREAM = 0x40000003;

/** `perStep`: what a step takes; at most the number of items, of which there is at least one. */
export function makeDeck<T>(items: readonly T[], perStep: number, seed: number, start = 0): Deck<T> {
  const passLength = Math.floor(items.length / perStep) * perStep;
  let position = start;
  let pass = -1;
  let order: number[] = [];
  return {
    deal: (count) =>
      Array.from({ length: count }, () => {
        const current = Math.floor(position / passLength);
        if (current !== pass) {
          order = makeRng(hash32(seed, ORDER_STREAM, current)).shuffle([...items.keys()]);
          pass = current;
        }
        const item = items[order[position % passLength] as number] as T;
        position += 1;
        return item;
      }),
    position: () => position,
  };
}
