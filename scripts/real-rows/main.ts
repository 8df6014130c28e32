/**
 * Runs every task's verifier on the real rows of public data sets, and prints a table.
 *
 *   npm run real-rows -- DIR
 *
 * DIR holds the data sets; each file here says which of them it reads. Ends with exit code 1 where a row does not get
 * the verdict that is expected of it.
 */
import type { RealRowsResult } from './result.ts';
import { check as checkFunctionCalling } from './function-calling.ts';

const CHECKS: readonly ((dataDirectory: string) => Promise<RealRowsResult[]>)[] = [checkFunctionCalling];

const directory = process.argv[2];
if (directory === undefined) throw new Error('real-rows: expected a folder of data sets, got none');
for (const check of CHECKS) {
  for (const { name, rows, passed, note } of await check(directory)) {
    console.log(`${name}: ${passed} of ${rows}${note === undefined ? '' : ` (${note})`}`);
    if (passed < rows || rows === 0) process.exitCode = 1;
  }
}
