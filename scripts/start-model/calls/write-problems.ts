/**
 * Writes problems of a split as JSON lines on standard output, for `r3 train` and `r3 eval --problems`.
 *   node scripts/run-ts.mjs scripts/start-model/calls/write-problems.ts unseen-tools 750 > unseen.jsonl
 */
import { CALL_SPLITS } from '../../../src/tasks/templated-calls-generator.ts';
import { generateCalls } from '../../../src/tasks/templated-calls.ts';

const [name, count] = process.argv.slice(2);
const split = CALL_SPLITS.find((known) => known === name);
if (split === undefined) throw new Error(`split: expected one of ${CALL_SPLITS.join(', ')}, got ${name}`);
if (count === undefined || !/^\d{1,6}$/.test(count))
  throw new Error(`count: expected a whole number, got ${count}`);
for (const problem of generateCalls({ count: Number(count), split, seed: 7 }))
  console.log(JSON.stringify(problem));
