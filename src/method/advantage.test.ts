import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { makeRng } from '../lib/rng.ts';
import { groupAdvantages, groupSignal, shuffledRewards } from './advantage.ts';

const reward = fc.constantFrom(0, 0.25, 0.5, 1);
const rewards = fc.array(fc.option(reward), { minLength: 1, maxLength: 16 });
const group = { scale: 'group', epsilon: 1e-4 } as const;
const none = { scale: 'none', epsilon: 1e-4 } as const;
const numbers = (values: readonly (number | null)[]): number[] => values.filter((value) => value !== null);
const sorted = (values: readonly (number | null)[]): number[] => numbers(values).toSorted((a, b) => a - b);

test('one pass in four gives 0.75 / 0.5001 and three times -0.25 / 0.5001', () => {
  const low = -0.25 / 0.5001;
  expect(groupAdvantages([1, 0, 0, 0], group)).toEqual([0.75 / 0.5001, low, low, low]);
  expect(groupAdvantages([1, 0, 0, 0])).toEqual(groupAdvantages([1, 0, 0, 0], group));
  expect(groupAdvantages([1, 0, 0, 0], none)).toEqual([0.75, -0.25, -0.25, -0.25]);
});

test('an unscored member is null and does not count in mean and standard deviation', () => {
  const [a, b, c, d] = groupAdvantages([1, 0, 0, null], group);
  expect([a, b, c].map((value) => value?.toFixed(4))).toEqual(['1.1545', '-0.5773', '-0.5773']);
  expect(d).toBeNull();
  fc.assert(
    fc.property(rewards, fc.constantFrom(group, none), (values, options) => {
      const advantages = groupAdvantages(values, options);
      expect(advantages.map((value) => value === null)).toEqual(values.map((value) => value === null));
      expect(numbers(advantages)).toEqual(groupAdvantages(numbers(values), options));
    }),
  );
});

test('a group with one score, or none, has no advantage', () => {
  expect(groupAdvantages([null, 1, null], group)).toEqual([null, 0, null]);
  expect(groupAdvantages([null, null], group)).toEqual([null, null]);
});

test('advantages sum to 0 and do not change when a constant is added to every reward', () => {
  fc.assert(
    fc.property(
      rewards,
      fc.integer({ min: -8, max: 8 }),
      fc.constantFrom(group, none),
      (values, constant, options) => {
        const advantages = numbers(groupAdvantages(values, options));
        const raised = values.map((value) => (value === null ? null : value + constant));
        expect(Math.abs(advantages.reduce((a, b) => a + b, 0))).toBeLessThan(1e-9);
        numbers(groupAdvantages(raised, options)).forEach((value, i) =>
          expect(value).toBeCloseTo(advantages[i]!, 9),
        );
      },
    ),
  );
});

test('a mixed group has at least one positive and one negative advantage, any other has only zeros', () => {
  fc.assert(
    fc.property(rewards, (values) => {
      const advantages = numbers(groupAdvantages(values, group));
      if (groupSignal(values) === 'mixed') {
        expect(Math.max(...advantages)).toBeGreaterThan(0.1);
        expect(Math.min(...advantages)).toBeLessThan(-0.1);
      } else {
        expect(advantages.every((value) => value === 0)).toBe(true);
      }
    }),
  );
});

test('the signal of a group is read from its scored members', () => {
  expect(groupSignal([1, 0, null])).toBe('mixed');
  expect(groupSignal([1, null, 1])).toBe('all-pass');
  expect(groupSignal([0, 0, null])).toBe('all-fail');
  expect(groupSignal([null, null])).toBe('unscored');
  expect(groupSignal([])).toBe('unscored');
});

test('shuffling keeps the rewards of each group and the places of its unscored members', () => {
  fc.assert(
    fc.property(fc.array(rewards, { maxLength: 6 }), fc.nat(), (batch, seed) => {
      const shuffled = shuffledRewards(batch, makeRng(seed));
      expect(shuffled.map(sorted)).toEqual(batch.map(sorted));
      expect(shuffled.map((g) => g.map((r) => r === null))).toEqual(
        batch.map((g) => g.map((r) => r === null)),
      );
      expect(shuffledRewards(batch, makeRng(seed))).toEqual(shuffled);
    }),
  );
});

test('shuffling breaks the pairing: each place is as likely as any other to hold the pass', () => {
  const batch = Array.from({ length: 4000 }, () => [1, 0, 0, 0]);
  const shuffled = shuffledRewards(batch, makeRng(3));
  for (let place = 0; place < 4; place++) {
    const passes = shuffled.filter((rewards_G) => rewards_G[place] === 1).length;
    expect(Math.abs(passes - 1000)).toBeLessThan(5 * Math.sqrt(4000 * 0.25 * 0.75));
  }
});
