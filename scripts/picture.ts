/**
 * Makes the README's picture from a run: the share of each kind of reflection by step.
 *
 *   node scripts/run-ts.mjs scripts/picture.ts RUN
 *
 * Writes docs/kinds.json (the numbers) and docs/kinds.svg (drawn from them; a test says whether it is current).
 */
import { writeFileSync } from 'node:fs';
import { renderKindsChart } from '../src/runs/report/curves.ts';
import { readRun, type StepRow } from '../src/runs/run.ts';

const [run] = process.argv.slice(2);
if (run === undefined) throw new Error('picture: expected a run folder, got nothing');
const rows = readRun(run).metrics.map((row): StepRow => {
  const kinds = Object.entries(row).flatMap(([name, value]) =>
    name.startsWith('kind/') ? [[name, Math.round(Number(value) * 1e4) / 1e4]] : [],
  );
  return { step: row.step, ...Object.fromEntries(kinds) };
});
writeFileSync('docs/kinds.json', `[\n${rows.map((row) => JSON.stringify(row)).join(',\n')}\n]\n`);
writeFileSync('docs/kinds.svg', renderKindsChart(rows));
