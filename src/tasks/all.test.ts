import { expect, test } from 'vitest';
import { TASKS } from './all.ts';

/** A row of each data set. */
const ROWS: Readonly<Record<string, Record<string, unknown>>> = {
  countdown: { nums: [3, 7, 11], target: 21 },
  'function-calling': {
    query: 'What is the weather in Lyon?',
    tools: JSON.stringify([
      {
        name: 'weather',
        description: 'Of a city.',
        parameters: { city: { type: 'str', description: 'Its name.' } },
      },
    ]),
    answers: JSON.stringify([{ name: 'weather', arguments: { city: 'Lyon' } }]),
  },
  gsm8k: { question: 'Two and a half?', answer: 'Add them.\n#### 2.5' },
  math: {
    problem: 'Half?',
    solution: 'It is $\\boxed{\\frac{1}{2}}$.',
    level: 'Level 3',
    unique_id: 'a/1',
    subject: 'Algebra',
  },
  'mmlu-pro': { question: 'Which?', options: ['a', 'b', 'c'], answer: 'B', answer_index: 1 },
  mmlu: { subject: 'anatomy', question: 'Which?', choices: ['a', 'b', 'c', 'd'], answer: 2 },
  hellaswag: { ctx: 'A man sits. he', endings: ['runs', 'stands up'], label: '1', ind: 7 },
};

const withRows = TASKS.filter(({ name }) => name in ROWS);

test('every task of a public data set has a row here', () => {
  expect(TASKS.map(({ name }) => name).filter((name) => !(name in ROWS))).toEqual(['templated-calls']);
});

// A set of failures holds problems; training from it, and resuming, reads them.
test.each(withRows.map((task) => [task.name, task] as const))(
  'a problem of %s is read again as it was written',
  (name, task) => {
    const problem = task.parseRow(ROWS[name], 0);
    expect(task.parseRow(JSON.parse(JSON.stringify(problem)), 1)).toEqual(problem);
  },
);
