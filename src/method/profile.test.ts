import { expect, test } from 'vitest';
import { reflectionProfile } from './profile.ts';

test('shares are of all reflections, the truth of hints is of those that hint', () => {
  const profile = reflectionProfile([
    { kind: 'vague', hint: 'none', tokens: 2 },
    { kind: 'vague', hint: 'none', tokens: 4 },
    { kind: 'step', hint: 'true', tokens: 8 },
    { kind: 'search', hint: 'false', tokens: 10 },
  ]);
  expect(profile).toEqual({
    kinds: { vague: 0.5, step: 0.25, search: 0.25 },
    meanTokens: 6,
    trueHints: 0.25,
    trueOfHints: 0.5,
  });
});

test('without reflections there are no kinds, and no number is NaN', () => {
  expect(reflectionProfile([])).toEqual({ kinds: {}, meanTokens: 0, trueHints: 0, trueOfHints: 0 });
});
