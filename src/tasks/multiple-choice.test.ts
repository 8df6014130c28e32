import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { hellaswag } from './hellaswag.ts';
import { mmluPro } from './mmlu-pro.ts';
import { mmlu, withExamples } from './mmlu.ts';
import { chosenOption, letterOf } from './multiple-choice.ts';

const CITIES = ['Rome', 'Paris', 'Oslo', 'A town', 'None of these'];

describe('chosenOption', () => {
  test.each([
    ['The answer is (B).', 'B'],
    ['the answer is: **B**', 'B'],
    ['The answer is (A). No: the answer is (B).', 'B'],
    ['The answer is $\\boxed{\\text{B}}$', 'B'],
    ['\\boxed{A}\nSo the answer is (B)', 'B'],
    ['The answer is (A), I thought. \\boxed{(B)}', 'B'],
    ['**Answer:** B', 'B'],
    ['Answer: B. Paris', 'B'],
    ['The answer is option B', 'B'],
    ['The correct answer is (b)', 'B'],
    ['The answer is Paris.', 'B'],
    ['B', 'B'],
    ['(b)', 'B'],
    ['B.', 'B'],
    ['B) Paris', 'B'],
    ['B. Paris is the capital of France', 'B'],
    ['paris', 'B'],
    ['It is not A, and C is in Norway, so I choose B', 'B'],
    ['I think it must be B because A is in Italy. I am sure.', 'A'],
    ['The answer is A town', 'D'],
    ['It is B, I think', 'B'],
    ['A. Rome is in Italy, so no.\nB. Paris is in France, so yes.\nTherefore I choose B', 'B'],
    ['(A) is in Italy, (C) is in Norway. That leaves (B)', 'B'],
    ['A: no\nC: no\n\n**B**', 'B'],
    ['B. Paris\n\nIt is the capital of France.', 'B'],
    ['Answer: Because of France, B', 'B'],
    ['\\boxed{B) Paris}', 'B'],
    ['\\boxed{B) the capital, unlike C}', 'B'],
  ])('%j chooses %s', (answer, letter) => {
    expect(letterOf(chosenOption(answer, CITIES) ?? -1)).toBe(letter);
  });

  test('a mark with the text of its own option is that option, whatever letters the option holds', () => {
    const vitamins = ['Vitamin B', 'Vitamin C', 'Vitamin A'];
    expect(chosenOption('B. Vitamin C', vitamins)).toBe(1);
    expect(chosenOption('(B) vitamin c.', vitamins)).toBe(1);
    expect(chosenOption('A. Vitamin C', vitamins)).toBe(2);
    const lines = ['Route A and *B*', '$5$ for `C`'];
    expect(chosenOption('B. $5$ for `C`', lines)).toBe(1);
    expect(chosenOption('(A) Route A and *B*', lines)).toBe(0);
  });

  test.each([
    '',
    'The answer is (J).',
    'I do not know',
    'The answer is 7',
    'A dog and I went to see DNA',
    'answer is',
  ])('%j chooses none', (answer) => {
    expect(chosenOption(answer, CITIES)).toBeUndefined();
  });

  test('any text is read without an error, to an option that exists', () => {
    const pieces = [
      'A',
      'B',
      '(',
      ')',
      '.',
      ' ',
      'answer is',
      'Answer:',
      '\\boxed{',
      '}',
      '\n',
      'Paris',
      'x',
      '**',
    ];
    fc.assert(
      fc.property(fc.array(fc.constantFrom(...pieces)), (parts) => {
        const chosen = chosenOption(parts.join(''), CITIES);
        return chosen === undefined || (chosen >= 0 && chosen < CITIES.length);
      }),
      { numRuns: 3000 },
    );
  });
});

const PRO_ROW = {
  question_id: 71,
  question: 'Which number is prime?',
  options: ['4', '6', '7', '8', '9', '10', '12', '14', '15', '16'],
  answer: 'C',
  answer_index: 2,
  category: 'math',
};

describe('mmlu-pro', () => {
  const problem = mmluPro.parseRow(PRO_ROW);

  test('a row becomes a problem with ten letters', () => {
    expect(problem).toMatchObject({ id: 'mmlu-pro-71', answer: 2, category: 'math' });
    expect(mmluPro.pose(problem)[0]?.content).toContain('J. 16');
  });

  test('a letter that is not the right one fails, and one beyond the options is no answer', () => {
    expect(mmluPro.verify(problem, 'The answer is (C).')).toEqual({ ok: true });
    expect(mmluPro.verify(problem, 'The answer is 7.')).toEqual({ ok: true });
    expect(mmluPro.verify(problem, 'The answer is (J).')).toEqual({
      ok: false,
      class: 'wrong answer',
      why: 'expected C, got J',
    });
    expect(mmluPro.verify(problem, 'The answer is (K).')).toMatchObject({ class: 'no answer' });
  });

  test('another option with the same text is as right', () => {
    const twice = mmluPro.parseRow({ ...PRO_ROW, options: ['7', '6', '7'] });
    expect(mmluPro.verify(twice, 'A').ok).toBe(true);
  });

  test.each([
    [{ ...PRO_ROW, answer: 'K' }, 'answer: expected a letter from A to J or an index from 0 to 9, got "K"'],
    [{ ...PRO_ROW, answer_index: 3 }, 'answer_index: expected the index of the answer C, 2, got 3'],
    [{ ...PRO_ROW, options: 'A, B' }, 'options: expected a list of 2 to 26 texts, got "A, B"'],
    [{ ...PRO_ROW, options: ['a', 1] }, 'options[1]: expected a text, got 1'],
  ])('a malformed row is refused', (row, message) => {
    expect(() => mmluPro.parseRow(row)).toThrow(message);
  });

  test('a row of answers has a letter or an index, and needs no question', () => {
    for (const answer of ['C', 'c', '(C)', 2, '2', 2n]) {
      const { problem: answered } = mmluPro.answerRow({ options: PRO_ROW.options, answer, completion: '' });
      expect(answered.answer).toBe(2);
    }
  });
});

const ROW = {
  subject: 'high_school_physics',
  question: 'What falls?',
  choices: ['up', 'down', 'left', 'right'],
  answer: 1,
};

describe('mmlu', () => {
  test('by log-probability the question is posed as the harness poses it', () => {
    expect(mmlu.choices(mmlu.parseRow(ROW))).toEqual({
      context:
        'The following are multiple choice questions (with answers) about high school physics.\n\n' +
        'What falls?\nA. up\nB. down\nC. left\nD. right\nAnswer:',
      continuations: [' A', ' B', ' C', ' D'],
      answer: 1,
    });
  });

  test('examples of the subject come before it, answered, and never the question itself', () => {
    const example = mmlu.parseRow({ ...ROW, question: 'What rises?', answer: 0 });
    const other = mmlu.parseRow({ ...ROW, subject: 'law', question: 'Who judges?' });
    const problem = mmlu.parseRow(ROW);
    const choices = withExamples([problem, other, example]).choices?.(problem, mmlu.prompts('plain'));
    const context = JSON.stringify(choices?.context);
    expect(context).toContain(String.raw`D. right\nAnswer: A\n\nWhat falls?`);
    expect(context).not.toContain('Who judges?');
    expect(context.split('What falls?')).toHaveLength(2);
  });
});

describe('hellaswag', () => {
  const row = {
    ind: 4,
    ctx: 'Making tea: A man boils water. he',
    endings: ['pours it over the leaves.', 'eats the cup.', 'sings [title] a song.', 'leaves.'],
    label: 0,
  };

  test('endings go on with the context in plain text, without marks', () => {
    expect(hellaswag.choices(hellaswag.parseRow(row))).toEqual({
      context: 'Making tea: A man boils water. he',
      continuations: [' pours it over the leaves.', ' eats the cup.', ' sings.  a song.', ' leaves.'].map(
        (text) => text.replace('  ', ' '),
      ),
      answer: 0,
    });
  });

  test('a row of the hub is put together from its parts', () => {
    const whole = {
      ...row,
      label: '0',
      activity_label: 'Making tea',
      ctx_a: 'A man boils water.',
      ctx_b: 'he',
    };
    expect(hellaswag.parseRow(whole).context).toBe('Making tea: A man boils water. He');
  });

  test('by generation the endings are options', () => {
    const problem = hellaswag.parseRow(row);
    expect(hellaswag.pose(problem)[0]?.content).toContain('B. eats the cup.');
    expect(hellaswag.verify(problem, 'A').ok).toBe(true);
  });
});

test('known answers of each task are judged as they say', () => {
  const problems = [
    [mmluPro, mmluPro.parseRow(PRO_ROW)],
    [mmlu, mmlu.parseRow(ROW)],
    [mmlu, mmlu.parseRow({ ...ROW, choices: ['same', 'same'] })],
  ] as const;
  for (const [task, problem] of problems) {
    const known = task.known(problem);
    expect(known.filter(({ answer, ok }) => task.verify(problem, answer).ok !== ok)).toEqual([]);
  }
});
