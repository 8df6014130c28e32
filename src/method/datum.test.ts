import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Episode } from './episode.ts';
import { reflectionDatum, trainedCount, trainedPositions } from './datum.ts';

const ids = fc.array(fc.nat(1000), { minLength: 1, maxLength: 12 });

test('trained are the sampled reflection ids, each once, and nothing else', () => {
  fc.assert(
    fc.property(ids, ids, (prompt, reflection) => {
      const { tokens, positions } = reflectionDatum(prompt, reflection);
      expect(tokens).toEqual([...prompt, ...reflection]);
      expect(positions.map((position) => tokens[position])).toEqual(reflection);
      expect(positions.length).toBe(reflection.length);
      expect(positions[0]).toBe(prompt.length);
      expect(positions.at(-1)).toBe(tokens.length - 1);
    }),
  );
});

test('the stop token is trained when it was sampled', () => {
  expect(reflectionDatum([1, 2, 3], [7, 8, 99]).positions).toEqual([3, 4, 5]);
  expect(trainedPositions(3, 3)).toEqual([3, 4, 5]);
});

test('an empty prompt or reflection is refused', () => {
  expect(() => reflectionDatum([], [1])).toThrow('prompt: expected at least one token, got none');
  expect(() => reflectionDatum([1], [])).toThrow('reflection: expected at least one token, got none');
});

test('an episode without an advantage trains no token', () => {
  const written = { tokens: [5, 6, 7], logprobs: [-1, -1, -1], text: '', stopReason: 'stop' } as const;
  const reflection = { ...written, tokens: [...written.tokens], logprobs: [...written.logprobs] };
  const episode: Episode = {
    version: 1,
    step: 0,
    group: 'a#0',
    index: 0,
    problem: { id: 'a' },
    attempt: reflection,
    attemptScore: null,
    reflection,
    retry: null,
    score: null,
    reward: 0,
    advantage: 0,
  };
  expect(trainedCount(episode)).toBe(3);
  expect(trainedCount({ ...episode, advantage: null })).toBe(0);
});
