/**
 * MMLU-Pro, MMLU and HellaSwag as published: every row is read, its known answers are judged rightly, and it can be posed as
 * a choice by log-probability. `check(DIR)` wants DIR/{mmlu-pro,mmlu,hellaswag}.
 */
import { join } from 'node:path';
import type { Task } from '../../src/method/task.ts';
import { hellaswag } from '../../src/tasks/hellaswag.ts';
import { mmluPro } from '../../src/tasks/mmlu-pro.ts';
import { mmlu } from '../../src/tasks/mmlu.ts';
import { letterOf, type ChoiceProblem } from '../../src/tasks/multiple-choice.ts';
import { PLAIN } from '../../src/tasks/plain-prompts.ts';
import { countRows, type RealRowsResult } from './result.ts';

const FILES: readonly (readonly [Task, string])[] = [
  [mmluPro, 'mmlu-pro/test-2000.jsonl'],
  [mmlu, 'mmlu/dev.jsonl'],
  [mmlu, 'mmlu/test-2000.jsonl'],
  [hellaswag, 'hellaswag/validation.jsonl'],
];

export async function check(directory: string): Promise<RealRowsResult[]> {
  const results: RealRowsResult[] = [];
  for (const [task, file] of FILES) {
    const path = join(directory, file);
    results.push(
      await countRows(`${file}: known answers`, path, async (row, index) => {
        const problem = task.parseRow(row, index);
        for (const { answer, ok } of task.known(problem, PLAIN)) {
          if ((await task.verify(problem, answer, PLAIN)).ok !== ok) return false;
        }
        return true;
      }),
      await countRows(`${file}: the text of the right option passes`, path, async (row, index) => {
        const problem = task.parseRow(row, index) as ChoiceProblem;
        const option = problem.options[problem.answer] ?? '';
        const answers = [
          `The answer is: ${letterOf(problem.answer)}. ${option}`,
          `(${letterOf(problem.answer)}) ${option}`,
        ];
        for (const answer of answers) if (!(await task.verify(problem, answer, PLAIN)).ok) return false;
        return true;
      }),
      await countRows(`${file}: choices`, path, (row, index) => {
        const choices = task.choices?.(task.parseRow(row, index), PLAIN);
        return choices?.continuations[choices.answer] !== undefined;
      }),
    );
  }
  return results;
}
