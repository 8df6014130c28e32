/** The verdicts of BFCL's own checker on changed answers: test/fixtures/bfcl. */
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { functionCalling } from '../../src/tasks/function-calling.ts';
import type { CallProblem } from '../../src/tasks/function-calling.ts';

const FOLDER = new URL('../fixtures/bfcl/', import.meta.url);

function linesOf(name: string): string[] {
  return readFileSync(new URL(name, FOLDER), 'utf8').trim().split('\n');
}

function problemsOf(): CallProblem[] {
  const answers = linesOf('answers.jsonl');
  return linesOf('rows.jsonl').map((line, i) => {
    const truth = (answers[i] ?? '').replace(/^.*?"ground_truth"/, '"ground_truth"');
    const text = `${line.slice(0, -1)}, ${truth}`;
    return functionCalling.parseRow(JSON.parse(text), i, text);
  });
}

interface Judged {
  row: number;
  completion: string;
  style: string;
  verdict: boolean;
}

test("verdicts are those of BFCL's checker, in every style", () => {
  const problems = problemsOf();
  const judged = linesOf('verdicts.jsonl').map((line) => JSON.parse(line) as Judged);
  const differ = judged.filter(({ row, completion, style, verdict }) => {
    const { ok } = functionCalling.verify(problems[row]!, completion, functionCalling.prompts(style));
    return ok !== verdict;
  });
  expect(differ).toEqual([]);
  expect(judged.length).toBe(660);
  expect(judged.filter(({ verdict }) => verdict).length).toBeGreaterThan(80);
  expect(new Set(judged.map(({ style }) => style)).size).toBe(6);
});
