import { expect, test } from 'vitest';
import { learningRateAt } from './schedule.ts';

const rates = (kind: 'constant' | 'linear' | 'cosine'): number[] =>
  Array.from({ length: 10 }, (_, step) =>
    learningRateAt({ kind, warmupSteps: 2, flatSteps: 3, floor: 0.1 }, 2, step, 10),
  );

test('a rate warms up, stays at the peak, and falls towards the floor, which it reaches one step after the last', () => {
  expect(rates('linear').slice(0, 5)).toEqual([1, 2, 2, 2, 2]);
  expect(rates('linear')[9]).toBeCloseTo(0.2 + (2 - 0.2) / 5);
  expect(rates('cosine')[9]).toBeCloseTo(0.2 + (2 - 0.2) * ((1 + Math.cos(0.8 * Math.PI)) / 2));
  expect(learningRateAt({ kind: 'linear', warmupSteps: 0, flatSteps: 0, floor: 0 }, 2, 0, 1)).toBe(2);
  expect(rates('constant')[9]).toBe(2);
  for (const kind of ['linear', 'cosine'] as const)
    for (let i = 6; i < 10; i++) expect(rates(kind)[i]).toBeLessThan(rates(kind)[i - 1]!);
});
