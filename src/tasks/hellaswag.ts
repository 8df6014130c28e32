/**
 * HellaSwag: which of four endings goes on with a text (Zellers et al., arXiv 1905.07830).
 *
 * Rows: `{"ctx", "endings": [4], "label": 0..3, "ind"}`; `label` may be a text, as on the hub. By log-probability each
 * ending follows the context in plain text, as in lm-evaluation-harness (tasks/hellaswag), whose preprocessing of
 * WikiHow's marks is done here too; its context begins with the activity label, and a row that has one
 * (`activity_label`, `ctx_a`, `ctx_b`) is put together as there. By generation the endings are options with letters.
 */
import type { Task } from '../method/task.ts';
import { hasField, idOf, rowWith, textField, textsField, type Fields } from './fields.ts';
import { CHOICE_TASK, parseAnswer, type ChoiceProblem } from './multiple-choice.ts';

export interface HellaSwagProblem extends ChoiceProblem {
  context: string;
}

export const hellaswag = {
  name: 'hellaswag',
  ...CHOICE_TASK,
  parseRow,
  choices: ({ context, options, answer }) => ({
    context,
    continuations: options.map((option) => ` ${option}`),
    answer,
  }),
} satisfies Task<HellaSwagProblem>;

function parseRow(row: unknown): HellaSwagProblem {
  const isReadBefore = hasField(row, 'context');
  const names = isReadBefore
    ? ({ context: 'context', options: 'options', answer: 'answer', id: 'id' } as const)
    : ({ context: 'ctx', options: 'endings', answer: 'label', id: 'ind' } as const);
  const fields = rowWith(row, [names.context, names.options, names.answer]);
  const context = isReadBefore ? textField(fields, 'context') : contextOf(fields);
  const options = textsField(fields, names.options, 2, 26).map(withoutMarks);
  const answer = parseAnswer(names.answer, fields[names.answer], options);
  const question = `Which ending goes on best with this text?\n\n${context} ...`;
  return { id: idOf(fields, names.id, 'hellaswag', context), context, question, options, answer };
}

function contextOf(fields: Fields): string {
  const { activity_label: label, ctx_a: first, ctx_b: second } = fields;
  if (typeof label !== 'string' || typeof first !== 'string' || typeof second !== 'string') {
    return withoutMarks(textField(fields, 'ctx'));
  }
  const capitalized = second.charAt(0).toUpperCase() + second.slice(1).toLowerCase();
  return withoutMarks(`${label}: ${first} ${capitalized}`);
}

/** `[title]` and its like are left from WikiHow. */
function withoutMarks(text: string): string {
  return text
    .trim()
    .replaceAll(' [title]', '. ')
    .replaceAll(/\[.*?\]/g, '')
    .replaceAll('  ', ' ');
}
