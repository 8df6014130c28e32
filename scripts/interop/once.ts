/** Whether a run folder holds each step and each group of each step once. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { readRun } from '../../src/runs/run.ts';

export function checkOnce(run: string, steps: number, groups: number): { text: string; holds: boolean } {
  const rows = readFileSync(join(run, 'metrics.jsonl'), 'utf8').trimEnd().split('\n');
  const seen = rows.map((row) => (JSON.parse(row) as { step: number }).step);
  const inOrder = seen.length === steps && seen.every((step, i) => step === i);
  const episodes = new Set<string>();
  const inStep = new Map<number, Set<string>>();
  let count = 0;
  for (const { step, group, index } of readRun(run).episodes()) {
    count += 1;
    episodes.add(`${step} ${group} ${index}`);
    inStep.set(step, (inStep.get(step) ?? new Set()).add(group));
  }
  const whole = inStep.size === steps && [...inStep.values()].every(({ size }) => size === groups);
  const text = `${seen.length} steps, ${count} episodes, ${episodes.size} different ones`;
  return { text, holds: inOrder && whole && episodes.size === count };
}
