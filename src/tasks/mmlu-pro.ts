/**
 * MMLU-Pro: harder questions with up to ten options (Wang et al., arXiv 2406.01574).
 *
 * Rows: `{"question_id", "question", "options": [3 to 10], "answer": "I", "answer_index", "category"}`; the letter and the
 * index must agree where both are there. By generation, as the benchmark has it; by log-probability its letters, in the
 * form of MMLU, for a quick look.
 */
import type { Task } from '../method/task.ts';
import { idOf, refuse, rowWith, textField, textsField, type Fields } from './fields.ts';
import {
  CHOICE_TASK,
  letterChoices,
  letterOf,
  MAX_OPTIONS,
  parseAnswer,
  type ChoiceProblem,
} from './multiple-choice.ts';
import { PLAIN } from './plain-prompts.ts';

export interface MmluProProblem extends ChoiceProblem {
  category: string;
}

export const mmluPro = {
  name: 'mmlu-pro',
  ...CHOICE_TASK,
  parseRow,
  choices: (problem) =>
    letterChoices(
      problem,
      `The following are multiple choice questions (with answers) about ${problem.category}.\n\n`,
    ),
  answerRow: (row) => ({ problem: answered(row), prompts: PLAIN }),
} satisfies Task<MmluProProblem>;

function parseRow(row: unknown): MmluProProblem {
  const fields = rowWith(row, ['question', 'options', 'answer']);
  return problemOf(fields, textField(fields, 'question'));
}

/** `{options, answer}`, where a question is not needed. */
function answered(row: unknown): MmluProProblem {
  const fields = rowWith(row, ['options', 'answer']);
  return problemOf(fields, typeof fields['question'] === 'string' ? fields['question'] : '');
}

function problemOf(fields: Fields, question: string): MmluProProblem {
  const options = textsField(fields, 'options', 2, MAX_OPTIONS);
  const answer = parseAnswer('answer', fields['answer'], options);
  const index = fields['answer_index'];
  if (index !== undefined && index !== null && parseAnswer('answer_index', index, options) !== answer) {
    refuse('answer_index', `the index of the answer ${letterOf(answer)}, ${answer}`, index);
  }
  const { category } = fields;
  const content = [question, ...options].join('\n');
  return {
    id: idOf(fields, 'question_id', 'mmlu-pro', content),
    question,
    options,
    answer,
    category: typeof category === 'string' && category !== '' ? category : 'other',
  };
}
