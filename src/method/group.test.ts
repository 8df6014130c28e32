import { expect, test } from 'vitest';
import type { Episode, Written } from './episode.ts';
import { groupsOf } from './group.ts';

const written: Written = { tokens: [1], logprobs: [-1], text: '', stopReason: 'stop' };

function episode(step: number, group: string, index: number): Episode {
  return {
    version: 1,
    step,
    group,
    index,
    problem: { id: group },
    attempt: written,
    attemptScore: null,
    reflection: written,
    retry: null,
    score: null,
    reward: 0,
    advantage: null,
  };
}

test('groups are told apart by step and id, in order of appearance', () => {
  const all = [episode(0, 'a', 0), episode(0, 'b', 0), episode(0, 'a', 1), episode(1, 'a', 0)];
  expect(groupsOf(all)).toEqual([[all[0], all[2]], [all[1]], [all[3]]]);
});
