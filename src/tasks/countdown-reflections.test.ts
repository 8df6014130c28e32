import { expect, test } from 'vitest';
import { describeReflection } from './countdown-reflections.ts';

const problem = { nums: [92, 57, 64], target: 29 };

test.each([
  ['be careful retry', 'vague', 'none'],
  ['check', 'vague', 'none'],
  ['used 57 twice', 'diagnosis', 'none'],
  ['missing 57', 'diagnosis', 'none'],
  ['too big', 'diagnosis', 'none'],
  ['got 99 want 29', 'diagnosis', 'none'],
  ['', 'other', 'none'],
  ['64 - 35 = 29', 'other', 'none'],
  ['too many numbers', 'other', 'none'],
  ['I should check each number again.', 'other', 'none'],
  // 92 - 57 = 35 leads to 64 - 35; 92 + 57 leads nowhere.
  ['first 92 - 57 = 35', 'step', 'true'],
  ['first 64 + 57 = 121', 'step', 'true'],
  ['first 92 + 57 = 149', 'step', 'false'],
  ['first 92 - 57 = 36', 'step', 'false'],
  ['first 92 - 58 = 34', 'step', 'false'],
  ['first 92 - 92 = 0', 'step', 'false'],
  ['first', 'step', 'false'],
  ['keep 64 need 35 93 92 + 57 = 149 92 - 57 = 35 yes 64 - 35 = 29', 'short search', 'true'],
  ['keep 92 need 63 121 64 + 57 = 121 yes 121 - 92 = 29', 'short search', 'true'],
  ['keep 64 need 35 93 92 + 57 = 149 92 - 57 = 36 yes 64 - 36 = 28', 'short search', 'false'],
  ['keep 64 need 35 93 92 - 57 = 35 yes 64 - 35 = 28', 'short search', 'false'],
  ['keep 64 need 35 93 92 - 57 = 35 yes 92 - 63 = 29', 'short search', 'false'],
  ['keep 64 need 35 93 92 - 64 = 28 yes 64 - 35 = 29', 'short search', 'false'],
  ['keep 64 need 35 93 92 - 57 = 35 yes', 'short search', 'false'],
  ['keep 64 need 35 93 yes 64 - 35 = 29', 'short search', 'false'],
  ['keep 64 need 35 93 92 - 57 = 35 yes 64 - 35 = 29 no', 'short search', 'false'],
  ['keep 57 need 28 86 92 + 64 = 156 92 - 64 = 28 no', 'short search', 'none'],
  [
    'keep 57 need 28 86 92 + 64 = 156 no keep 64 need 35 93 92 + 57 = 149 92 - 57 = 35 yes 64 - 35 = 29',
    'long search',
    'true',
  ],
  ['keep 64 need 35 93 92 + 57 = 149 no keep 64 need', 'long search', 'none'],
])('%j is %s, hint %s', (text, kind, hint) => {
  expect(describeReflection(problem, text)).toEqual({ kind, hint });
});

test('a step of a four-number problem is true when the other numbers can still reach the target', () => {
  const four = { nums: [2, 3, 5, 7], target: 41 };
  expect(describeReflection(four, 'first 7 * 5 = 35').hint).toBe('true');
  expect(describeReflection(four, 'first 7 + 5 = 12').hint).toBe('false');
  expect(describeReflection({ nums: [1, 1, 1, 100], target: 99 }, 'first 100 * 1 = 100').hint).toBe('true');
  expect(describeReflection({ nums: [1, 1, 1, 100], target: 103 }, 'first 100 * 1 = 100').hint).toBe('false');
});
