/** What the experiments' command line refuses, and what it takes. */
import { expect, test } from 'vitest';
import { parseArguments } from '../../scripts/experiments/arguments.ts';

test('without options every arm of an experiment runs, from the shipped start models, with three seeds', () => {
  const { arms, seeds, starts, threads } = parseArguments(['claim']);
  expect(arms.map(({ name }) => name)).toEqual(['paper', 'shuffled']);
  expect({ seeds, threads }).toEqual({ seeds: [1, 2, 3], threads: undefined });
  expect([...starts.rare.keys()]).toEqual([1]);
  expect(starts.common.size).toBe(0);
});

test('arms, seeds and start models are chosen', () => {
  const { arms, seeds, starts } = parseArguments(
    'claim --arm shuffled --seed 7 --rare 2=models/a=b --threads 2'.split(' '),
  );
  expect(arms.map(({ name }) => name)).toEqual(['shuffled']);
  expect(seeds).toEqual([7]);
  expect(starts.rare.get(2)).toBe('models/a=b');
});

test.each([
  ['clam', /^experiments: expected one of claim, .* or all, got "clam"$/],
  ['claim --arm paper --arm foo', '--arm: expected one of paper, shuffled, got "foo"'],
  ['claim --seed x', '--seed: expected a whole number of at least 0, got "x"'],
  ['claim --threads 0', '--threads: expected a whole number of at least 1, got "0"'],
  ['claim --common models', '--common: expected NUMBER=FOLDER, got "models"'],
  ['claim --sed 1', /Unknown option '--sed'/],
])('%s is refused', (line, message) => {
  expect(() => parseArguments(line.split(' '))).toThrow(message);
});
