import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { makeRng } from '../lib/rng.ts';
import {
  drawProblem,
  generateProblems,
  isInSplit,
  problemKey,
  renderStep,
  solutionsOf,
  stepsOf,
} from './countdown-generator.ts';
import { countdown } from './countdown.ts';

const short = countdown.prompts('short');

describe('a problem', () => {
  test('keeps the ranges, and its tree solves it', () => {
    for (const numbers of [3, 4] as const) {
      const rng = makeRng(1);
      for (let i = 0; i < 200; i++) {
        const problem = drawProblem(rng, { split: 'warm-up', numbers });
        expect(problem.nums).toHaveLength(numbers);
        expect(problem.nums.every((num) => num >= 1 && num <= 99)).toBe(true);
        expect(problem.target).toBeGreaterThanOrEqual(10);
        expect(problem.target).toBeLessThanOrEqual(100);
        expect(problem.nums).not.toContain(problem.target);
        expect(countdown.verify(problem, problem.solution.text, short)).toEqual({ ok: true });
        expect(problem.solution.steps).toHaveLength(numbers - 1);
        for (const step of problem.solution.steps) {
          expect(countdown.verify({ id: '', nums: [step.left, step.right], target: step.value }, renderStep(step), short)).toEqual({ ok: true }); // prettier-ignore
        }
      }
    }
  });

  test('is the same for the same seed, another for another', () => {
    const draw = (seed: number): unknown => generateProblems({ count: 20, split: 'rl', seed, numbers: 3 });
    expect(draw(5)).toEqual(draw(5));
    expect(draw(5)).not.toEqual(draw(6));
  });

  test('comes once in a list, in any order of its numbers, and never when it is excluded', () => {
    const options = { count: 300, split: 'report', seed: 2, numbers: 3 } as const;
    const keys = generateProblems(options).map(({ nums, target }) => problemKey(nums, target));
    expect(new Set(keys).size).toBe(300);
    expect(problemKey([3, 1, 2], 10)).toBe(problemKey([2, 3, 1], 10));
    const exclude = new Set(keys.slice(0, 150));
    const others = generateProblems({ ...options, exclude }).map(({ nums, target }) =>
      problemKey(nums, target),
    );
    expect(others.filter((key) => exclude.has(key))).toEqual([]);
    expect(others).toContain(keys[150]);
  });
});

describe('splits', () => {
  test('cover every problem once: held-out 12%, of which half to choose and half to report, RL 8%, warm-up 80%', () => {
    const shares = { 'held-out': 0.12, choose: 0.06, report: 0.06, rl: 0.08, 'warm-up': 0.8 };
    const splits = Object.keys(shares) as (keyof typeof shares)[];
    const keys = Array.from({ length: 5000 }, (_, i) =>
      problemKey([1 + (i % 99), 1 + Math.floor(i / 99), 70], 29),
    );
    const found = keys.map((key) => splits.filter((split) => isInSplit(key, split)).join(' '));
    expect(new Set(found)).toEqual(new Set(['held-out choose', 'held-out report', 'rl', 'warm-up']));
    for (const split of splits) {
      const share = found.filter((names) => names.includes(split)).length / keys.length;
      expect(Math.abs(share - shares[split]), split).toBeLessThan(0.02);
    }
  });

  test('hold the problems that are drawn from them', () => {
    for (const split of ['held-out', 'choose', 'report', 'rl', 'warm-up'] as const) {
      for (const { nums, target } of generateProblems({ count: 20, split, seed: 3, numbers: 3 })) {
        expect(isInSplit(problemKey(nums, target), split)).toBe(true);
      }
    }
  });
});

test('steps take the larger number first and give whole numbers from 1 to 199', () => {
  expect(stepsOf(3, 12).map(renderStep)).toEqual(['12 + 3 = 15', '12 - 3 = 9', '12 * 3 = 36', '12 / 3 = 4']);
  expect(stepsOf(7, 7).map(renderStep)).toEqual(['7 + 7 = 14', '7 * 7 = 49', '7 / 7 = 1']);
  expect(stepsOf(199, 150).map(renderStep)).toEqual(['199 - 150 = 49']);
});

test('solutions are all right, and the tree of a drawn problem is among them', () => {
  fc.assert(
    fc.property(fc.nat(), (seed) => {
      const problem = drawProblem(makeRng(seed), { split: 'rl', numbers: 3 });
      const texts = solutionsOf(problem.nums, problem.target).map(({ text }) => text);
      for (const text of texts) expect(countdown.verify(problem, text, short)).toEqual({ ok: true });
      const value = (text: string): string => text.split(' ').toSorted().join(' ');
      expect(texts.map(value)).toContain(value(problem.solution.text));
    }),
    { numRuns: 50 },
  );
  expect(solutionsOf([92, 57, 64], 29).map(({ text }) => text)).toContain('64 - ( 92 - 57 )');
  expect(solutionsOf([1, 1, 1], 50)).toEqual([]);
});
