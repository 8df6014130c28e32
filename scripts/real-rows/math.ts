/**
 * GSM8K and MATH-500 as published: every gold answer passes as a completion, in several renderings, and a mutated one
 * fails. `check(DIR)` wants DIR/gsm8k/{train,test}.jsonl and DIR/math500/math500.jsonl.
 */
import { join } from 'node:path';
import { isObject } from '../../src/lib/json.ts';
import { gsm8k } from '../../src/tasks/gsm8k.ts';
import { math, type MathProblem } from '../../src/tasks/math.ts';
import { countRows, type RealRowsResult } from './result.ts';

export async function check(directory: string): Promise<RealRowsResult[]> {
  const results: RealRowsResult[] = [];
  for (const split of ['train', 'test']) {
    const path = join(directory, 'gsm8k', `${split}.jsonl`);
    results.push(
      await countRows(`gsm8k ${split}: gold answers pass`, path, (row) => {
        const problem = gsm8k.parseRow(row);
        return gsm8k.verify(problem, text(row, 'answer')).ok;
      }),
      await countRows(`gsm8k ${split}: other known answers`, path, (row) => {
        const problem = gsm8k.parseRow(row);
        return gsm8k.known(problem).every(({ answer, ok }) => gsm8k.verify(problem, answer).ok === ok);
      }),
      await countRows(`gsm8k ${split}: a gold answer with another number fails`, path, (row) => {
        const problem = gsm8k.parseRow(row);
        return !gsm8k.verify(problem, `${text(row, 'answer')}7`).ok;
      }),
    );
  }
  const path = join(directory, 'math500', 'math500.jsonl');
  const passes = (problem: MathProblem, completion: string): boolean => math.verify(problem, completion).ok;
  results.push(
    await countRows('math500: the worked solution passes', path, (row) =>
      passes(math.parseRow(row), text(row, 'solution')),
    ),
    await countRows('math500: the gold answer passes in other renderings', path, (row) => {
      const problem = math.parseRow(row);
      return renderings(problem.gold).every((completion) => passes(problem, completion));
    }),
    await countRows('math500: known answers', path, (row) => {
      const problem = math.parseRow(row);
      return math.known(problem).every(({ answer, ok }) => passes(problem, answer) === ok);
    }),
    await countRows('math500: the gold answer of a solution without its answer', path, (row) => {
      const { answer: _, ...rest } = row as Record<string, unknown>;
      const problem = math.parseRow(row);
      return passes({ ...problem, gold: math.parseRow(rest).gold }, `\\boxed{${problem.gold}}`);
    }),
  );
  return results;
}

/** The same answer as other people would write it down. */
function renderings(gold: string): string[] {
  return [
    `The final answer is $${gold}$. I hope it is correct.`,
    `**Answer:** \\(${gold}\\)`,
    `\\[ \\boxed{ ${gold} } \\]`,
    `\\boxed{${gold.replaceAll('\\frac', '\\dfrac')}}`,
    `\\boxed{\\displaystyle ${gold.replaceAll(/\\left|\\right|\\!/g, '')}}.`,
    `#### ${gold}`,
    gold,
  ];
}

function text(row: unknown, name: string): string {
  const value = isObject(row) ? row[name] : undefined;
  return typeof value === 'string' ? value : '';
}
