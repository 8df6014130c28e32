import { expect, test } from 'vitest';
import { closest } from './closest.ts';

test.each([
  ['promt', ['prompt', 'promptAgain'], 'prompt'],
  ['Prompt', ['prompt'], 'prompt'],
  ['timeout', ['timeoutMs', 'trim'], 'timeoutMs'],
  ['xyz', ['prompt'], undefined],
  ['ab', ['ac', 'ab'], 'ab'],
  ['a', [], undefined],
])('%s among %j is %s', (word, known, expected) => {
  expect(closest(word, known)).toBe(expected);
});
