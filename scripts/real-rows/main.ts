/**
 * Runs every check of tasks on real, public rows: `npm run real-rows -- DIR [CHECK...]`, where DIR holds a folder for
 * each data set. Prints a table; exits 1 where rows fail that a check expects to pass. The data are not part of this repository.
 */
import { renderTable } from '../../src/cli/table.ts';
import { check as checkChoices } from './choices.ts';
import { check as checkFunctionCalling } from './function-calling.ts';
import { check as checkMath } from './math.ts';
import type { RealRowsResult } from './result.ts';

const CHECKS: Readonly<Record<string, (directory: string) => Promise<RealRowsResult[]>>> = {
  'function-calling': checkFunctionCalling,
  math: checkMath,
  choices: checkChoices,
};

const [directory, ...named] = process.argv.slice(2);
if (directory === undefined) throw new Error('real-rows: expected the folder with the data, got none');
const unknown = named.find((name) => CHECKS[name] === undefined);
if (unknown !== undefined) {
  throw new Error(`real-rows: expected ${Object.keys(CHECKS).join(' or ')}, got ${unknown}`);
}

const results: RealRowsResult[] = [];
for (const [name, check] of Object.entries(CHECKS)) {
  if (named.length === 0 || named.includes(name)) results.push(...(await check(directory)));
}
process.stdout.write(
  `${renderTable(
    ['check', 'rows', 'passed', 'note'],
    results.map(({ name, rows, passed, note }) => [name, rows, passed, note ?? '']),
  )}\n`,
);
if (results.some(({ rows, passed }) => passed < rows)) process.exitCode = 1;
