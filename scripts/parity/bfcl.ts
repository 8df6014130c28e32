/**
 * Compares verdicts with those of BFCL's own checker.
 *
 *   node scripts/run-ts.mjs scripts/parity/bfcl.ts judged.jsonl
 *
 * The file is what `scripts/parity/bfcl.py` prints. Prints how many verdicts agree, and the first that do not; exits 1
 * where one does not.
 */
import { readRows } from '../../src/tasks/rows.ts';
import { functionCalling } from '../../src/tasks/function-calling.ts';
import { isObject } from '../../src/lib/json.ts';

const SHOWN = 10;

const [path] = process.argv.slice(2);
if (path === undefined) throw new Error('bfcl: expected a file that scripts/parity/bfcl.py wrote, got none');
let right = 0;
let wrong = 0;
let passed = 0;
for await (const { row, line, text } of readRows(path)) {
  if (!isObject(row) || typeof row['completion'] !== 'string') throw new Error(`line ${line}: no completion`);
  const { problem, prompts } = functionCalling.answerRow(row, line - 1, 'bfcl', text);
  const verdict = functionCalling.verify(problem, row['completion'], prompts);
  if (verdict.ok) passed++;
  if (verdict.ok === row['verdict']) right++;
  else if (++wrong <= SHOWN) {
    console.log(`line ${line}: BFCL ${String(row['verdict'])}, here ${JSON.stringify(verdict)}`);
    console.log(`  ${row['completion']}\n  accepted ${JSON.stringify(row['accepted'])}`);
  }
}
console.log(`${right} of ${right + wrong} verdicts agree; ${passed} answers pass`);
if (wrong > 0) process.exitCode = 1;
