import { describe, expect, test } from 'vitest';
import { math } from './math.ts';

const ROW = {
  problem: 'What is half of $x = 7$?',
  solution: 'Half of it is $\\frac{7}{2} = \\boxed{\\frac{7}{2}}.$',
  answer: '\\frac{7}{2}',
  subject: 'Prealgebra',
  level: 2,
  unique_id: 'test/prealgebra/1.json',
};
const problem = math.parseRow(ROW);

describe('math', () => {
  test('rows of MATH-500 and of the first release give the same problem', () => {
    expect(problem).toEqual({
      id: ROW.unique_id,
      problem: ROW.problem,
      gold: '\\frac{7}{2}',
      subject: 'Prealgebra',
      level: 2,
    });
    const { problem: text, solution, subject: type } = ROW;
    const early = math.parseRow({ problem: text, solution, level: 'Level 2', type });
    expect({ ...early, id: ROW.unique_id }).toEqual(problem);
  });

  test.each([
    [{ solution: 'x' }, 'row: expected problem, got solution'],
    [
      { problem: 'x', solution: 'no box' },
      'solution: expected a text with \\boxed{...}, or an answer beside it',
    ],
    [{ problem: 'x', answer: ' ' }, 'answer: expected a text that is not empty, got " "'],
  ])('%j is refused', (row, message) => {
    expect(() => math.parseRow(row)).toThrow(message);
  });

  test('the solution passes as a completion; verdicts name what was expected', () => {
    expect(math.verify(problem, ROW.solution)).toEqual({ ok: true });
    expect(math.verify(problem, 'So \\boxed{3.5}')).toEqual({ ok: true });
    expect(math.verify(problem, '\\boxed{\\frac{7}{3}}')).toEqual({
      ok: false,
      class: 'wrong answer',
      why: 'expected \\frac{7}{2}, got \\frac{7}{3}',
    });
    expect(math.verify(problem, '\\boxed{}')).toMatchObject({ ok: false, class: 'no answer' });
    const long = math.verify(problem, `\\boxed{${'9'.repeat(500)}}`);
    expect(!long.ok && long.why.length).toBeLessThan(200);
  });

  test.each([
    '\\frac{7}{2}',
    '\\text{east}',
    '(3,4]',
    '1,-2',
    'x=5',
    '\\text{(C)}',
    '\\$36',
    'x \\in [-2,7]',
    '90^\\circ',
  ])('known answers to %s are judged as they say', (gold) => {
    for (const { answer, ok } of math.known({ ...problem, gold })) {
      expect(math.verify({ ...problem, gold }, answer).ok, answer).toBe(ok);
    }
  });

  test('a row of answers has its gold bare, in a box or as a number', () => {
    for (const gold of ['\\frac72', '$3.5$', ROW.solution, 3.5]) {
      const { problem: answered } = math.answerRow({ gold, completion: '' });
      expect(math.verify(answered, '\\boxed{7/2}')).toEqual({ ok: true });
    }
  });

  test('a row of answers may be one of the data set', () => {
    expect(math.answerRow({ ...ROW, completion: '' }).problem).toEqual(problem);
    expect(() => math.answerRow({ completion: '' })).toThrow('row: expected gold, got completion');
  });

  test('a formula in a reflection that is the answer leaks it', () => {
    const leaks = (reflection: string): boolean =>
      math.answersIn(problem, reflection).some((answer) => math.verify(problem, answer).ok);
    expect(leaks('I should have seen that $7 \\div 2 = 3.5$.')).toBe(true);
    expect(leaks('I forgot to halve $7$.')).toBe(false);
  });

  test('the problem is posed with the form of its answer', () => {
    expect(math.pose(problem)[0]?.content).toContain('\\boxed{answer}');
    expect(math.poseAgain(problem)).toBe(math.pose(problem)[0]?.content);
  });
});
