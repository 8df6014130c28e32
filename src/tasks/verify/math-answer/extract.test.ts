import { describe, expect, test } from 'vitest';
import { extractAnswer, formulasOf, lastBoxed } from './extract.ts';

describe('extractAnswer', () => {
  test.each([
    ['So \\boxed{1}, or rather \\boxed{\\frac{1}{2}}.', '\\frac{1}{2}'],
    ['\\boxed{\\text{a \\} brace}}', '\\text{a \\} brace}'],
    ['\\fbox{7}', '7'],
    ['It is \\boxed 5', '5'],
    ['$\\boxed{1}$ and $\\boxed{-2}$.', '1, -2'],
    ['\\boxed{15\\frac{39}{40}} or \\boxed{\\frac{639}{40}}', '15\\frac{39}{40}, \\frac{639}{40}'],
    ['$\\boxed{1}$, $\\boxed{2}$, and $\\boxed{3}$', '1, 2, 3'],
    ['\\boxed{1}\\text{ or }\\boxed{2}', '1, 2'],
    ['\\boxed{4}\n\n\\boxed{5}', '5'],
    ['\\boxed{4} \\boxed{5}', '5'],
    ['The answer is 5, which is a prime.', '5'],
    ['\\boxed{1} papers, then \\boxed{2}', '2'],
    ['\\boxed{3} is what it was\nThe answer is 4', '3'],
    ['Work.\n#### 18', '18'],
    ['#### Final Answer\nThe answer is 5.', '5'],
    ['Final Answer: The final answer is $3\\pi$. I hope it is correct.', '3\\pi'],
    ['**Answer:** \\(x = 2\\)', 'x = 2'],
    ['The answer is:\n\n$$\n\\frac{1}{2}\n$$', '\\frac{1}{2}'],
    ['The answer is 3.5.', '3.5'],
    ['The answer is $\\$36$.', '\\$36'],
    ['First $a = 1$.\nHence $a + b$ is $7$.', '7'],
    ['We add them up.\nThe total is 42.', '42'],
    ['\\frac{3}{4}', '\\frac{3}{4}'],
    ['First \\boxed{255}. The final answer is $10,455$. I hope it is correct.', '10,455'],
    ['Final Answer: The volume of $ABCD$ is 120. I hope it is correct.', '120'],
    ['It comes to\n\\[\n9\n\\]', '9'],
  ])('%j states %j', (completion, answer) => {
    expect(extractAnswer(completion)).toBe(answer);
  });

  test.each([
    '',
    'I add 3 and 4.\nThen I stop at 7',
    '\\boxed{unclosed\nand nothing else',
    'words '.repeat(60),
  ])('%j states nothing', (completion) => {
    expect(extractAnswer(completion)).toBeUndefined();
  });

  test('only the end of a long text is searched', () => {
    expect(extractAnswer(`\\boxed{1}${' word'.repeat(10_000)}\n\\boxed{2}`)).toBe('2');
    expect(lastBoxed(`\\boxed{1}${' word'.repeat(10_000)}`)).toBeUndefined();
  });
});

test('the formulas of a text are what could be meant as its answer', () => {
  expect(formulasOf('Try $x = 2$ and \\(y\\); the answer is 5.')).toEqual(['5', 'x = 2', 'y']);
});
