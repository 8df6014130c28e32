/** The README's picture is drawn from the committed numbers. */
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { renderKindsChart } from '../../src/runs/report/curves.ts';
import type { StepRow } from '../../src/runs/run.ts';

const read = (name: string): string => readFileSync(new URL(`../../docs/${name}`, import.meta.url), 'utf8');

test('docs/kinds.svg is what docs/kinds.json draws', () => {
  const rows = JSON.parse(read('kinds.json')) as StepRow[];
  expect(rows.length).toBeGreaterThan(50);
  expect(read('kinds.svg')).toBe(renderKindsChart(rows));
});
