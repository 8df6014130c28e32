/** Shares of a whole, and drawing by them. */
import type { Rng } from '../../src/lib/rng.ts';

/** A key of a record of shares that sum to 1, with that probability. */
export function pickShare<K extends string>(shares: Readonly<Record<K, number>>, rng: Rng): K {
  let left = rng.next();
  let picked: K | undefined;
  for (const key in shares) {
    picked = key;
    left -= shares[key];
    if (left < 0) break;
  }
  if (picked === undefined) throw new Error('internal error: no shares');
  return picked;
}
