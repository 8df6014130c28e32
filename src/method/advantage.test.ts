import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { makeRng } from '../lib/rng.ts';
import {
  ADVANTAGE_ESTIMATORS,
  SCALE_REWARDS,
  advantages,
  defaultAdvantageOptions,
  groupSignal,
  shuffledRewards,
  type AdvantageOptions,
} from './advantage.ts';

type Rewards = (number | null)[];

const reward = fc.constantFrom(0, 0.25, 0.5, 1);
const rewards = fc.array(fc.option(reward), { minLength: 1, maxLength: 16 });
const groups = fc.array(rewards, { minLength: 1, maxLength: 5 });
const numbers = (values: readonly (number | null)[]): number[] => values.filter((value) => value !== null);
const sorted = (values: readonly (number | null)[]): number[] => numbers(values).toSorted((a, b) => a - b);
const total = (values: readonly (number | null)[]): number => numbers(values).reduce((a, b) => a + b, 0);
const of = (batch: Rewards[], options: Partial<AdvantageOptions> = {}): Rewards[] =>
  advantages(batch, { ...defaultAdvantageOptions(), ...options });
const ofOne = (group: Rewards, options: Partial<AdvantageOptions> = {}): Rewards => of([group], options)[0]!;

/** Every estimator with every option that it has. */
const choices: Partial<AdvantageOptions>[] = [
  ...SCALE_REWARDS.map((scaleRewards) => ({ scaleRewards })),
  { estimator: 'rloo' },
  { estimator: 'rloo', normalizeAdvantages: true },
  { estimator: 'reinforce++' },
  { estimator: 'reinforce++-baseline' },
];
const choice = fc.constantFrom(...choices);

test('one pass in four gives 0.75 / 0.5001 and three times -0.25 / 0.5001', () => {
  const low = -0.25 / 0.5001;
  expect(ofOne([1, 0, 0, 0])).toEqual([0.75 / 0.5001, low, low, low]);
  expect(advantages([[1, 0, 0, 0]])).toEqual([ofOne([1, 0, 0, 0], { scaleRewards: 'group' })]);
  expect(ofOne([1, 0, 0, 0], { scaleRewards: 'none' })).toEqual([0.75, -0.25, -0.25, -0.25]);
});

test("'batch' centres by group and divides by the standard deviation of all rewards of the step", () => {
  const [first, second] = of(
    [
      [1, 0],
      [1, 1],
    ],
    { scaleRewards: 'batch' },
  );
  expect(first).toEqual([0.5 / 0.5001, -0.5 / 0.5001]);
  expect(second).toEqual([0, 0]);
});

test('leave-one-out compares with the mean of the others', () => {
  expect(ofOne([1, 0, 0, null], { estimator: 'rloo' })).toEqual([1, -0.5, -0.5, null]);
  fc.assert(
    fc.property(rewards, (group) => {
      const n = numbers(group).length;
      fc.pre(n > 1);
      const centred = ofOne(group, { scaleRewards: 'none' });
      ofOne(group, { estimator: 'rloo' }).forEach((advantage, i) => {
        if (advantage === null) expect(centred[i]).toBeNull();
        else expect(advantage).toBeCloseTo((centred[i]! * n) / (n - 1), 12);
      });
    }),
  );
});

test('REINFORCE++ compares with the whole batch, its baseline variant with the group first', () => {
  const batch = [
    [1, 1],
    [1, 0],
    [0, 0],
  ];
  const deviation = Math.sqrt(0.3) + 1e-4;
  expect(of(batch, { estimator: 'reinforce++' }).flat()).toEqual(
    [1, 1, 1, 0, 0, 0].map((r) => (r - 0.5) / deviation),
  );
  const within = of(batch, { estimator: 'reinforce++-baseline' }).flat();
  const scale = Math.sqrt(0.1) + 1e-4;
  expect(within).toEqual([0, 0, 0.5 / scale, -0.5 / scale, 0, 0]);
});

test('positives only sets what is below the baseline to 0 and leaves the rest', () => {
  fc.assert(
    fc.property(groups, choice, (batch, options) => {
      const centred = of(batch, options).flat();
      const kept = of(batch, { ...options, negativeReflections: 'positives-only' }).flat();
      expect(kept).toEqual(centred.map((a) => (a === null ? null : Math.max(a, 0))));
    }),
  );
});

test('an unscored member is null and counts in nothing', () => {
  const [a, b, c, d] = ofOne([1, 0, 0, null]);
  expect([a, b, c].map((value) => value?.toFixed(4))).toEqual(['1.1545', '-0.5773', '-0.5773']);
  expect(d).toBeNull();
  fc.assert(
    fc.property(groups, choice, (batch, options) => {
      const all = of(batch, options);
      expect(all.map((group) => group.map((value) => value === null))).toEqual(
        batch.map((group) => group.map((value) => value === null)),
      );
      expect(all.map(numbers)).toEqual(of(batch.map(numbers), options));
    }),
  );
});

test('a batch with one score, or none, has no advantage', () => {
  for (const options of choices) {
    expect(ofOne([null, 1, null], options), JSON.stringify(options)).toEqual([null, 0, null]);
    expect(of([[null, null], []], options)).toEqual([[null, null], []]);
  }
});

test('advantages sum to 0 where they are centred, and do not change when a constant is added to every reward', () => {
  fc.assert(
    fc.property(groups, fc.integer({ min: -8, max: 8 }), choice, (batch, constant, options) => {
      const all = of(batch, options);
      expect(Math.abs(total(all.flat()))).toBeLessThan(1e-8);
      if (options.estimator !== 'reinforce++') {
        for (const group of all) {
          if (options.normalizeAdvantages !== true) expect(Math.abs(total(group))).toBeLessThan(1e-8);
        }
      }
      const raised = batch.map((group) => group.map((value) => (value === null ? null : value + constant)));
      const again = of(raised, options).flat();
      all.flat().forEach((value, i) => {
        if (value !== null) expect(again[i]).toBeCloseTo(value, 9);
      });
    }),
  );
});

test('a mixed group has at least one positive and one negative advantage, any other has only zeros', () => {
  fc.assert(
    fc.property(rewards, (values) => {
      const own = numbers(ofOne(values));
      if (groupSignal(values) === 'mixed') {
        expect(Math.max(...own)).toBeGreaterThan(0.1);
        expect(Math.min(...own)).toBeLessThan(-0.1);
      } else {
        expect(own.every((value) => value === 0)).toBe(true);
      }
    }),
  );
});

test('an option that the estimator does not have is refused by name', () => {
  for (const estimator of ADVANTAGE_ESTIMATORS.filter((name) => name !== 'grpo')) {
    expect(() => of([[1, 0]], { estimator, scaleRewards: 'none' })).toThrow(
      /^scaleRewards: expected no 'none'/,
    );
  }
  expect(() => of([[1, 0]], { normalizeAdvantages: true })).toThrow(
    /^normalizeAdvantages: expected estimator/,
  );
});

test('the signal of a group is read from its scored members', () => {
  expect(groupSignal([1, 0, null])).toBe('mixed');
  expect(groupSignal([1, null, 1])).toBe('all-pass');
  expect(groupSignal([0, 0, null])).toBe('all-fail');
  expect(groupSignal([null, null])).toBe('unscored');
  expect(groupSignal([])).toBe('unscored');
});

test('rewards that differ by rounding noise are equal, and their advantages next to nothing', () => {
  const noisy = [0.1 + 0.2, 0.3, 0.3, 0.3];
  expect(new Set(noisy).size).toBe(2);
  expect(groupSignal(noisy)).toBe('all-pass');
  expect(groupSignal([1e-10, 0])).toBe('all-fail');
  expect(groupSignal([0.3 + 1e-7, 0.3])).toBe('mixed');
  for (const advantage of numbers(ofOne(noisy))) expect(Math.abs(advantage)).toBeLessThan(1e-11);
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
