/**
 * MMLU: questions of 57 subjects with four choices (Hendrycks et al., arXiv 2009.03300).
 *
 * Rows: `{"subject", "question", "choices": [4], "answer": 0..3}`; `answer` may also be a letter. By generation as every
 * multiple-choice question (`multiple-choice.ts`); by log-probability as lm-evaluation-harness poses it, without examples
 * before it unless `withExamples` makes a task that has them (the harness's five-shot form takes the rows of dev).
 */
import type { Task } from '../method/task.ts';
import { hasField, idOf, rowWith, textField, textsField } from './fields.ts';
import {
  CHOICE_TASK,
  letterChoices,
  letterOf,
  MAX_OPTIONS,
  parseAnswer,
  plainQuestion,
  type ChoiceProblem,
} from './multiple-choice.ts';

export interface MmluProblem extends ChoiceProblem {
  subject: string;
}

export const mmlu = {
  name: 'mmlu',
  ...CHOICE_TASK,
  parseRow,
  choices: (problem) => letterChoices(problem, introductionOf(problem.subject)),
} satisfies Task<MmluProblem>;

/** MMLU whose questions, by log-probability, come after answered ones of their subject: up to `count` of `examples`. */
export function withExamples(examples: readonly MmluProblem[], count = 5): Task<MmluProblem> {
  return {
    ...mmlu,
    choices: (problem) => {
      const shown = examples.filter(({ subject, id }) => subject === problem.subject && id !== problem.id);
      const answered = shown
        .slice(0, count)
        .map((example) => `${plainQuestion(example)} ${letterOf(example.answer)}\n\n`);
      return letterChoices(problem, introductionOf(problem.subject) + answered.join(''));
    },
  };
}

/** As in the benchmark's own evaluation (hendrycks/test, evaluate.py) and the harness. */
function introductionOf(subject: string): string {
  const named = subject.replaceAll('_', ' ');
  return `The following are multiple choice questions (with answers) about ${named}.\n\n`;
}

function parseRow(row: unknown): MmluProblem {
  const optionsName = hasField(row, 'options') ? 'options' : 'choices';
  const fields = rowWith(row, ['subject', 'question', optionsName, 'answer']);
  const subject = textField(fields, 'subject');
  const question = textField(fields, 'question');
  const options = textsField(fields, optionsName, 2, MAX_OPTIONS);
  const answer = parseAnswer('answer', fields['answer'], options);
  const content = [subject, question, ...options].join('\n');
  return { id: idOf(fields, 'id', 'mmlu', content), subject, question, options, answer };
}
