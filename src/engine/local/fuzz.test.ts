/** Hostile files: a part of what `scripts/fuzz-readers.ts` does, with other inputs each time. */
import { expect, test } from 'vitest';
import { fuzzReaders } from './fuzz-testing.ts';

test('each reader of a model folder gives a result or an R3Error for 20 thousand hostile inputs', () => {
  // An error names the seed and the input.
  const seed = Math.floor(Math.random() * 2 ** 32);
  for (const { accepted, refused } of Object.values(fuzzReaders(seed, 0, 20_000))) {
    // Inputs that are all refused at once, or all fine, would show nothing.
    expect(accepted).toBeGreaterThan(300);
    expect(refused).toBeGreaterThan(300);
  }
});
