/**
 * A verifier that is a command: the answer is on standard input, the row in R3_PROBLEM. Exit code 0 passes; 1 fails,
 * and then the first line of output is the class of error and the second the reason.
 */
import { readFileSync } from 'node:fs';

const { answer: expected } = JSON.parse(process.env['R3_PROBLEM']);
const dates = readFileSync(0, 'utf8').match(/\d{4}-\d{2}-\d{2}/g) ?? [];
const last = dates.at(-1);
if (last !== expected) {
  console.log(last === undefined ? 'no date' : 'wrong date');
  console.log(`expected ${expected}, got ${last ?? 'none'}`);
  process.exit(1);
}
