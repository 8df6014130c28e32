/**
 * Joins a file of BFCL's questions with its file of accepted answers, line by line, and prints JSON lines for
 * `r3 ... function-calling`.
 *
 *   node scripts/run-ts.mjs scripts/bfcl-join.ts BFCL_v4_multiple.json possible_answer/BFCL_v4_multiple.json > multiple.jsonl
 *
 * The lines are joined as texts, because 1 and 1.0 differ for BFCL's checker. The files of irrelevance and relevance
 * have no answers: rename them to .jsonl.
 */
import { readFileSync } from 'node:fs';
import { joinBfcl } from './real-rows/function-calling.ts';

const [questions, answers] = process.argv.slice(2);
if (questions === undefined || answers === undefined) {
  throw new Error('bfcl-join: expected two files, the questions and the possible answers');
}
for (const line of joinBfcl(readFileSync(questions, 'utf8'), readFileSync(answers, 'utf8')))
  console.log(line);
