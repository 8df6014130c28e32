import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Episode, Written } from '../method/episode.ts';
import { countdown } from '../tasks/countdown.ts';
import { chooseEpisodes, renderEpisode, reportEpisode, warningsOfRun } from './reading.ts';

const written = (text: string, stopReason: Written['stopReason'] = 'stop'): Written => ({
  tokens: [1],
  logprobs: [-1],
  text,
  stopReason,
});

function episode(step: number, group: string, index: number, reward: number | null): Episode {
  const problem = { id: group, nums: [1, 2], target: 3 };
  return {
    version: 1,
    step,
    group,
    index,
    problem,
    attempt: written('1 - 2'),
    attemptScore: { ok: false, class: 'missed target', why: 'expected 3, got -1' },
    reflection: written('be \x1b[2Jcareful'),
    retry: written('1 + 2'),
    score: { ok: true },
    reward,
    advantage: null,
    kind: 'vague',
  };
}

const names = (episodes: readonly Episode[]): string[] =>
  episodes.map(({ step, group, index }) => `${step} ${group} ${index}`);

test('the latest episodes that helped come first, one for each group, then others', () => {
  const episodes = [
    episode(0, 'a', 0, 1),
    episode(1, 'b', 0, 1),
    episode(1, 'b', 1, 1),
    episode(2, 'c', 0, 0),
    episode(2, 'd', 0, null),
  ];
  expect(names(chooseEpisodes(episodes))).toEqual(['1 b 0', '0 a 0', '2 d 0']);
  expect(names(chooseEpisodes(episodes, { count: 1 }))).toEqual(['1 b 0']);
  expect(names(chooseEpisodes(episodes, { step: 2 }))).toEqual(['2 d 0', '2 c 0']);
});

test('a group is shown whole and in order', () => {
  const episodes = [
    episode(0, 'a', 0, 0),
    episode(0, 'a', 1, 1),
    episode(0, 'b', 0, 1),
    episode(4, 'a', 0, 1),
  ];
  expect(names(chooseEpisodes(episodes, { group: 'a' }))).toEqual(['0 a 0', '0 a 1', '4 a 0']);
  expect(names(chooseEpisodes(episodes, { group: 'a', step: 4 }))).toEqual(['4 a 0']);
});

test('as many as there are groups are found, however many were asked for, and none that did not help before one that did', () => {
  const any = fc.array(fc.tuple(fc.nat(20), fc.constantFrom('a', 'b', 'c'), fc.constantFrom(0, 1)), {
    maxLength: 200,
  });
  fc.assert(
    fc.property(any, fc.integer({ min: 1, max: 50 }), (rows, count) => {
      const episodes = rows
        .toSorted(([a], [b]) => a - b)
        .map(([step, group, reward]) => episode(step, group, 0, reward));
      const chosen = chooseEpisodes(episodes, { count });
      const helped = new Set(
        rows.filter(([, , reward]) => reward === 1).map(([step, group]) => `${step} ${group}`),
      );
      const helpedFirst = chosen.findIndex(({ reward }) => reward !== 1);
      expect(helpedFirst === -1 ? chosen.length : helpedFirst).toBe(Math.min(count, helped.size));
    }),
  );
});

test('an episode shows what was posed, written and judged, and cannot steer the terminal', () => {
  const text = renderEpisode(reportEpisode(countdown, countdown.prompts('short'), episode(7, 'a', 2, 1)));
  expect(text).toBe(
    [
      'step 7, a, reflection 2',
      '  problem\n    1 2 to 3',
      '  attempt\n    1 - 2\n    → fails: missed target: expected 3, got -1',
      '  reflection (vague)\n    be \u241b[2Jcareful',
      '  retry\n    1 + 2\n    → passes',
    ].join('\n'),
  );
});

test('a run warns as its evaluation does, and by its metrics where it has none', () => {
  const metrics = [{ step: 0, kl: 0.5 }];
  expect(warningsOfRun({ metrics, evaluation: null })).toEqual([
    expect.stringContaining('is 0.50 nats per token'),
  ]);
  expect(warningsOfRun({ metrics, evaluation: { summary: {}, warnings: ['less true'] } })).toEqual([
    'less true',
  ]);
});
