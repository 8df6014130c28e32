import { expect, test } from 'vitest';
import { hash32, makeRng, uniform24 } from './rng.ts';

test('a draw depends on seed, stream and counter alone', () => {
  const rng = makeRng(7, 3);
  const drawn = [rng.seed(), rng.seed(), rng.seed()];
  expect(drawn).toEqual([hash32(7, 3, 0), hash32(7, 3, 1), hash32(7, 3, 2)]);
  expect(makeRng(7, 3, 2).seed()).toBe(drawn[2]);
  expect(new Set([...drawn, hash32(8, 3, 0), hash32(7, 4, 0)]).size).toBe(5);
});

test('draws are uniform over 64 cells: chi-square within 5 standard deviations, along each argument', () => {
  for (const draw of [
    (i: number) => uniform24(1, 2, i),
    (i: number) => uniform24(1, i, 2),
    (i: number) => uniform24(i, 1, 2),
  ]) {
    const cells = new Array<number>(64).fill(0);
    for (let i = 0; i < 64_000; i++) cells[Math.floor(draw(i) * 64)]! += 1;
    const chi2 = cells.reduce((sum, n) => sum + (n - 1000) ** 2 / 1000, 0);
    expect(Math.abs(chi2 - 63)).toBeLessThan(5 * Math.sqrt(2 * 63));
  }
});
