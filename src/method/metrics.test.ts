import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Episode, Written } from './episode.ts';
import { runWarnings, stepMetrics } from './metrics.ts';

const written = (tokens: number[], stopReason: Written['stopReason'] = 'stop'): Written => ({
  tokens,
  logprobs: tokens.map(() => -1),
  text: '',
  stopReason,
});

function episode(
  group: string,
  reward: number | null,
  tokens: number[],
  more: Partial<Episode> = {},
): Episode {
  return {
    version: 1,
    step: 3,
    group,
    index: 0,
    problem: { id: group },
    attempt: written([1]),
    attemptScore: null,
    reflection: written(tokens),
    retry: written([2]),
    score: null,
    reward,
    advantage: reward,
    ...more,
  };
}

test('a step of four groups, worked by hand', () => {
  const episodes = [
    episode('a', 1, [5, 6, 9], { kind: 'search', hint: 'true' }),
    episode('a', 0, [5, 6, 9], { kind: 'search', hint: 'none' }),
    episode('b', 0, [5, 6, 9], { kind: 'vague', hint: 'false', retry: written([2, 2], 'length') }),
    episode('b', 0, [7], {
      kind: 'step',
      hint: 'true',
      reflection: written([7, 7, 7, 7, 7, 7], 'length'),
      retry: null,
    }),
    episode('c', 1, [9]),
    episode('d', null, [8, 9]),
  ];
  const metrics = stepMetrics(episodes);
  expect(metrics).toEqual({
    episodes: 6,
    groups: 4,
    reward: 2 / 5,
    unscored: 1 - 5 / 6,
    'groups/mixed': 1 / 4,
    'groups/allPass': 1 / 4,
    'groups/allFail': 1 / 4,
    'groups/unscored': 1 / 4,
    'completions/mean_length': (3 + 3 + 3 + 6 + 1 + 2) / 6,
    'completions/min_length': 1,
    'completions/max_length': 6,
    'completions/clipped_ratio': 1 - 5 / 6,
    'completions/mean_terminated_length': (3 + 3 + 3 + 1 + 2) / 5,
    'completions/min_terminated_length': 1,
    'completions/max_terminated_length': 3,
    reward_std: expect.closeTo(Math.sqrt(0.3), 12) as number,
    frac_reward_zero_std: 3 / 5,
    'retry/cutOff': 1 / 5,
    'reflection/duplicate': 1 / 6,
    'hint/true': 2 / 6,
    'hint/trueOfHints': 2 / 3,
    'kind/search': 2 / 6,
    'kind/step': 1 / 6,
    'kind/vague': 1 / 6,
  });
});

test('what was not measured has no entry', () => {
  const metrics = stepMetrics([episode('a', null, [1])]);
  expect(metrics['unscored']).toBe(1);
  for (const name of ['reward', 'hint/true']) expect(name in metrics).toBe(false);
  expect(Object.keys(metrics).some((name) => name.startsWith('kind/'))).toBe(false);
  expect(stepMetrics([])).toEqual({ episodes: 0, groups: 0 });
});

test('a run warns of a high KL and of hints that got less true, and of nothing else', () => {
  const run = (kl: number, start: number, end: number): Record<string, number>[] =>
    Array.from({ length: 30 }, (_, step) => ({
      kl: step < 20 ? 0 : kl,
      'hint/trueOfHints': step < 10 ? start : end,
    }));
  expect(runWarnings(run(0.3, 0.5, 0.46))).toEqual([]);
  expect(runWarnings(run(0.31, 0.5, 0.9))).toEqual([
    expect.stringContaining('KL to the start model is 0.31'),
  ]);
  expect(runWarnings(run(0.1, 0.5, 0.4))).toEqual([
    'Hints got less true: 50% of the hints were true before training, 40% after.',
  ]);
  expect(runWarnings([])).toEqual([]);
  expect(runWarnings([{ reward: 0 }])).toEqual([]);
});

test('group shares sum to 1, and every metric is a finite number', () => {
  const some = fc.record({
    group: fc.constantFrom('a', 'b', 'c'),
    reward: fc.option(fc.constantFrom(0, 1)),
    tokens: fc.array(fc.nat(3), { minLength: 1, maxLength: 4 }),
  });
  fc.assert(
    fc.property(fc.array(some, { minLength: 1, maxLength: 12 }), (rows) => {
      const metrics = stepMetrics(rows.map((row) => episode(row.group, row.reward, row.tokens)));
      const shares = Object.entries(metrics).filter(([name]) => name.startsWith('groups/'));
      expect(shares.length).toBe(4);
      expect(shares.reduce((sum, [, value]) => sum + value, 0)).toBeCloseTo(1, 12);
      expect(Object.values(metrics).every(Number.isFinite)).toBe(true);
      expect(metrics['reflection/duplicate']).toBeLessThan(1);
    }),
  );
});
