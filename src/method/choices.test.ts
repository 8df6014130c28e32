import { expect, test } from 'vitest';
import { checkChoices, keepsFailures, PAPER_CHOICES, retryReward, type Choices } from './choices.ts';

const withChoices = (changed: Partial<Choices>) => (): void => checkChoices({ ...PAPER_CHOICES, ...changed });

test("the paper's choices agree with each other", () => {
  expect(withChoices({})).not.toThrow();
});

test('a choice that another would make void is refused by name', () => {
  expect(withChoices({ firstAttempts: 'refreshed' })).toThrow(
    /^refresh-every: .* got none with refreshed ones/,
  );
  expect(withChoices({ refreshEvery: 5 })).toThrow(/^refresh-every: .* got 5 with frozen ones/);
  expect(withChoices({ method: 'attempts', rounds: 2 })).toThrow(/^rounds: .*method attempts/);
  expect(withChoices({ method: 'attempts', firstAttempts: 'on-policy' })).toThrow(/^first-attempts: /);
  expect(withChoices({ method: 'retries', trainTokens: 'both' })).toThrow(/^train-tokens: /);
  expect(withChoices({ method: 'attempts', zeroVariance: 'refill' })).toThrow(/^zero-variance: /);
  expect(withChoices({ method: 'rejection-sampling', zeroVariance: 'drop' })).toThrow(/^zero-variance: /);
  expect(withChoices({ method: 'attempts', distillationRate: 1e-6 })).toThrow(/^distillation-rate: /);
  expect(withChoices({ trainTokens: 'both', retriesPerReflection: 2 })).toThrow(/^retries-per-reflection: /);
  expect(withChoices({ rounds: 2, retriesPerReflection: 2 })).toThrow(/^rounds: /);
  expect(withChoices({ retryReward: 'any' })).toThrow(/^retry-reward: /);
  expect(withChoices({ trainTokens: 'all' })).toThrow(/^train-tokens: .* got frozen ones, 1 per problem/);
});

test('several retries earn the share that passes, or 1 when any does; unjudged ones do not count', () => {
  expect(retryReward([true, false, false, false], 'mean')).toBe(0.25);
  expect(retryReward([true, false, null], 'mean')).toBe(0.5);
  expect(retryReward([true, false], 'any')).toBe(1);
  expect(retryReward([false, false], 'any')).toBe(0);
  expect(retryReward([null], 'mean')).toBeNull();
});

test('failures are kept when any, most or all of the judged attempts failed', () => {
  const kept = (failed: number, judged: number): boolean[] =>
    (['any', 'majority', 'all'] as const).map((rule) => keepsFailures(failed, judged, rule));
  expect(kept(0, 4)).toEqual([false, false, false]);
  expect(kept(1, 4)).toEqual([true, false, false]);
  expect(kept(2, 4)).toEqual([true, false, false]);
  expect(kept(3, 4)).toEqual([true, true, false]);
  expect(kept(4, 4)).toEqual([true, true, true]);
  expect(kept(0, 0)).toEqual([false, false, false]);
});
