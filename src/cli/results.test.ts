import { expect, test } from 'vitest';
import { summarise, type EvaluationRow } from '../method/controls.ts';
import { resultsTable } from './results.ts';

const trial = (passed: boolean, tokens = 4): { passed: boolean; tokens: number } => ({ passed, tokens });
const rows: EvaluationRow[] = [
  { problem: 'a', firstTry: trial(true), secondTry: null, freshAttempts: [trial(true)] },
  { problem: 'b', firstTry: trial(false), secondTry: trial(true, 8), freshAttempts: [trial(false)] },
];

test('a table has a line for each control that was run, in percent with its interval', () => {
  const lines = resultsTable([{ head: 'before', summary: summarise(rows) }]).split('\n');
  expect(lines.map((line) => line.slice(0, 37).trimEnd())).toEqual([
    'solved, %',
    'first try',
    'second try, after its own reflection',
    'two independent tries',
    'independent tries at equal tokens',
    '  how many tries those are',
    'tokens of a first try',
    'tokens of both tries',
  ]);
  expect(lines[1]).toMatch(/ 50\.0 \(9\.5–90\.5\)$/);
  expect(lines[2]).toMatch(/ 100\.0 \(34\.2–100\.0\)$/);
  expect(lines.slice(5).map((line) => line.split(/\s+/).at(-1))).toEqual(['2', '4.0', '8.0']);
});
