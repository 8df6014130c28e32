import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { reflectionDatum, trainedPositions, trainedSequences, type Segment, type Trained } from './datum.ts';

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

const written = (tokens: readonly number[], stopReason: 'stop' | 'length' = 'stop'): Segment['written'] => ({
  tokens: [...tokens],
  logprobs: tokens.map((token) => -token),
  stopReason,
});

test('segments of one conversation are one sequence, trained where they were sampled and nowhere else', () => {
  fc.assert(
    fc.property(ids, ids, ids, ids, (prompt, reflection, between, retry) => {
      const again = [...prompt, ...reflection, ...between];
      const [sequence, ...others] = trainedSequences([
        { prompt, written: written(reflection) },
        { prompt: again, written: written(retry, 'length') },
      ]);
      expect(others).toEqual([]);
      const { datum, sampledLogprobs, truncated } = sequence as Trained;
      expect(datum.tokens).toEqual([...again, ...retry]);
      expect(datum.positions.map((position) => datum.tokens[position])).toEqual([...reflection, ...retry]);
      expect(datum.positions).toEqual([
        ...trainedPositions(prompt.length, reflection.length),
        ...trainedPositions(again.length, retry.length),
      ]);
      expect(sampledLogprobs).toEqual([...reflection, ...retry].map((token) => -token));
      expect(truncated).toBe(true);
    }),
  );
});

test('a segment that does not go on from the one before is a sequence of its own', () => {
  const sequences = trainedSequences([
    { prompt: [1, 2], written: written([3]) },
    { prompt: [1, 9, 3], written: written([4, 5]) },
  ]);
  expect(sequences.map(({ datum }) => datum)).toEqual([
    { tokens: [1, 2, 3], positions: [2] },
    { tokens: [1, 9, 3, 4, 5], positions: [3, 4] },
  ]);
  expect(() => trainedSequences([{ prompt: [1], written: written([]) }])).toThrow(
    'segment: expected at least one token, got none',
  );
});
