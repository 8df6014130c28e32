import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { R3Error } from '../lib/errors.ts';
import { posedText } from '../method/task.ts';
import { countdown, solve, type CountdownProblem } from './countdown.ts';

const paper = countdown.prompts('paper');
const short = countdown.prompts('short');
const problem: CountdownProblem = { id: 'p', nums: [92, 57, 64], target: 29 };

/** `ok`, or the class of the error. */
function verdictOf(answer: string, prompts = short, of = problem): string {
  const verdict = countdown.verify(of, answer, prompts);
  return verdict.ok ? 'ok' : verdict.class;
}

function refusal(row: unknown): string {
  try {
    countdown.parseRow(row);
  } catch (error) {
    expect(error).toBeInstanceOf(R3Error);
    expect((error as R3Error).code).toBe('bad-row');
    return (error as R3Error).message;
  }
  return 'accepted';
}

describe('an answer to the short prompts', () => {
  test.each([
    ['64 - ( 92 - 57 )', 'ok'],
    ['64-(92-57)', 'ok'],
    ['64 − (92 − 57)\n', 'ok'],
    ['57 - 92 + 64', 'ok'],
    ['64 - ( 92 - 57 ) = 29', 'ok'],
    ['64 - ( 92 - 57 ) = 30', 'invalid equation'],
    ['64 - ( 92 - 57 ) = 92 - 63', 'invalid equation'],
    ['( 92 - 57 ) + 64', 'missed target'],
    ['( 92 - 57 ) + 64 = 29', 'missed target'],
    ['64 - 92 - 57', 'missed target'],
    ['92 - 57', 'wrong numbers'],
    ['64 - ( 92 - 57 ) + 0', 'wrong numbers'],
    ['64 - ( 92 - 57 ) + 57 - 57', 'wrong numbers'],
    ['29', 'wrong numbers'],
    ['', 'invalid equation'],
    ['-92 + 57 + 64', 'invalid equation'],
    ['64 - (92 - 57', 'invalid equation'],
    ['<answer>64 - (92 - 57)</answer>', 'invalid equation'],
    ['64 / (57 - 57) + 92', 'invalid equation'],
  ])('%j is %s', (answer, verdict) => {
    expect(verdictOf(answer)).toBe(verdict);
  });

  test('with a fraction on the way is exact', () => {
    const fractions = { id: 'f', nums: [8, 3, 8, 3], target: 24 };
    expect(verdictOf('8 / (3 - 8 / 3)', short, fractions)).toBe('ok');
    expect(verdictOf('8 * 3 * 3 / 8', short, fractions)).toBe('missed target');
  });

  test('uses a number that is given twice exactly twice', () => {
    const twice = { id: 't', nums: [5, 5, 2], target: 12 };
    expect(verdictOf('5 + 5 + 2', short, twice)).toBe('ok');
    expect(verdictOf('5 * 2 + 2', short, twice)).toBe('wrong numbers');
  });
});

describe('an answer to the paper prompts', () => {
  test.each([
    ['<answer>64 - (92 - 57)</answer>', 'ok'],
    ['First 92 - 57 = 35.\n<answer>\n64 - (92 - 57) = 29\n</answer>\nDone.', 'ok'],
    ['<answer>92 + 57</answer> no: <answer>64 - (92 - 57)</answer>', 'ok'],
    ['<answer>64 - (92 - 57)</answer> or <answer>92 + 57</answer>', 'wrong numbers'],
    ['<answer>64 - (92 - 57)</answer> and <answer>', 'ok'],
    ['<answer>64 - (92 - 57)</answer> and </answer>', 'ok'],
    ['64 - (92 - 57)', 'invalid equation'],
    ['<answer>64 - (92 - 57)', 'invalid equation'],
    ['</answer>64 - (92 - 57)<answer>', 'invalid equation'],
    ['<answer></answer>', 'invalid equation'],
    ['<answer>2 ** 3</answer>', 'invalid equation'],
  ])('%j is %s', (answer, verdict) => {
    expect(verdictOf(answer, paper)).toBe(verdict);
  });

  test('that is missing says so', () => {
    const verdict = countdown.verify(problem, 'I give up', paper);
    expect(verdict).toMatchObject({ ok: false, class: 'invalid equation' });
    expect(verdict).toHaveProperty('why', expect.stringContaining('no answer'));
  });
});

test('verify never throws, whatever was written', () => {
  fc.assert(
    fc.property(fc.array(fc.nat(0xffff)), fc.constantFrom(paper, short), (codes, prompts) => {
      const text = String.fromCharCode(...codes);
      expect(countdown.verify(problem, text, prompts)).toHaveProperty('ok');
      expect(countdown.verify(problem, `<answer>${text}</answer>`, prompts)).toHaveProperty('ok');
    }),
  );
});

test('known answers have their verdict, with each class of error among them', () => {
  const nums = fc.array(fc.integer({ min: 1, max: 99 }), { minLength: 2, maxLength: 4 });
  fc.assert(
    fc.property(
      nums,
      fc.integer({ min: -50, max: 300 }),
      fc.constantFrom(paper, short),
      (list, target, prompts) => {
        const random = { id: 'r', nums: list, target };
        const answers = countdown.known(random, prompts);
        const classes = answers.map(({ answer, ok }) => {
          const verdict = verdictOf(answer, prompts, random);
          expect(verdict === 'ok', `${answer} is ${verdict}`).toBe(ok);
          return verdict;
        });
        expect(new Set(classes)).toEqual(
          new Set([
            ...(answers[0]?.ok === true ? ['ok'] : []),
            'missed target',
            'wrong numbers',
            'invalid equation',
          ]),
        );
      },
    ),
    { numRuns: 50 },
  );
});

describe('solve', () => {
  test('finds an expression over fractions where only that works', () => {
    expect(verdictOf(solve([3, 3, 8, 8], 24) ?? '', short, { id: 'f', nums: [3, 3, 8, 8], target: 24 })).toBe(
      'ok',
    );
  });

  test('finds the target of any expression over up to four numbers', () => {
    const nums = fc.array(fc.integer({ min: 1, max: 99 }), { minLength: 1, maxLength: 4 });
    fc.assert(
      fc.property(
        nums,
        fc.array(fc.constantFrom('+', '-', '*'), { minLength: 3, maxLength: 3 }),
        (list, signs) => {
          const target = list.reduce((left, right, i) => {
            const sign = signs[i - 1];
            return sign === '+' ? left + right : sign === '-' ? left - right : left * right;
          });
          expect(verdictOf(solve(list, target) ?? 'none', short, { id: 'r', nums: list, target })).toBe('ok');
        },
      ),
      { numRuns: 50 },
    );
  });

  test('is undefined where there is no expression', () => {
    expect(solve([1, 1], 3)).toBeUndefined();
    expect(solve([1, 1, 1, 1], 100)).toBeUndefined();
    expect(solve([], 1)).toBeUndefined();
  });
});

describe('a row', () => {
  test('becomes a problem with an id from its content, or its own', () => {
    expect(countdown.parseRow({ nums: [92, 57, 64], target: 29, expression: 'x' })).toEqual({
      id: '92-57-64-to-29',
      nums: [92, 57, 64],
      target: 29,
    });
    expect(countdown.parseRow({ id: 'a', nums: [1, 2], target: 3 }).id).toBe('a');
  });

  test('of bigint, as Parquet gives it, is the row of numbers', () => {
    expect(countdown.parseRow({ nums: [92n, 57n, 64n], target: 29n, id: null })).toEqual(
      countdown.parseRow({ nums: [92, 57, 64], target: 29 }),
    );
  });

  test.each([
    [null, 'row: expected an object, got null'],
    [{ target: 3 }, 'row: expected nums and target, got target; rename the columns (keys) of the file'],
    [{ nums: '1 2', target: 3 }, 'nums: expected a list of 2 to 8 whole numbers, got "1 2"'],
    [{ nums: [3], target: 3 }, 'nums: expected a list of 2 to 8 whole numbers, got [3]'],
    [
      { nums: [1, 2, 3, 4, 5, 6, 7, 8, 9], target: 3 },
      'nums: expected a list of 2 to 8 whole numbers, got [1,2,3,4,5,6,7,8,9]',
    ],
    [{ nums: [1, '2'], target: 3 }, 'nums[1]: expected a whole number from 1 to 1000000, got "2"'],
    [{ nums: [0, 2], target: 3 }, 'nums[0]: expected a whole number from 1 to 1000000, got 0'],
    [{ nums: [1.5, 2], target: 3 }, 'nums[0]: expected a whole number from 1 to 1000000, got 1.5'],
    [{ nums: [1, 10n ** 30n], target: 3 }, 'nums[1]: expected a whole number from 1 to 1000000, got 1e+30'],
    [{ nums: [1, 2] }, 'row: expected nums and target, got nums; rename the columns (keys) of the file'],
    [{ nums: [1, 2], target: '3' }, 'target: expected a whole number of at most 1000000, got "3"'],
    [{ nums: [1, 2], target: 3, id: 7 }, 'id: expected a text that is not empty, or no id, got 7'],
  ])('is refused: case %#', (row, message) => {
    expect(refusal(row)).toBe(message);
  });
});

describe('prompts', () => {
  test('of the short set are words of the start model', () => {
    expect(posedText(countdown, problem, short)).toBe('92 57 64 to 29');
    expect(short.reflect).toBe('why');
    expect(countdown.poseAgain(problem, short)).toBe('again');
  });

  test('of the paper set pose the whole problem each time', () => {
    expect(posedText(countdown, problem, paper)).toMatch(/\[92, 57, 64\] that equals 29/);
    expect(countdown.poseAgain(problem, paper)).toBe(posedText(countdown, problem, paper));
    expect(countdown.promptSets[0]).toBe('paper');
  });

  test('of an unknown name are an error that lists the names', () => {
    expect(() => countdown.prompts('long')).toThrow('prompts: expected paper or short, got "long"');
  });
});

test('a reflection holds an answer where it gives the whole expression, for either prompts, not where it gives steps', () => {
  const leaks = (reflection: string, prompts = short): boolean =>
    countdown
      .answersIn(problem, reflection, prompts)
      .some((answer) => countdown.verify(problem, answer, prompts).ok);
  for (const prompts of [short, paper]) {
    expect(leaks('Next time write 64 - (92 - 57) = 29.', prompts)).toBe(true);
    expect(leaks('keep 64 need 35 93 92 - 57 = 35 yes 64 - 35 = 29', prompts)).toBe(false);
    expect(leaks('I used 92 + 57 - 64, which is too big', prompts)).toBe(false);
  }
});
