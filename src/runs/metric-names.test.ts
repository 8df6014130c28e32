import { readdirSync, readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import type { Episode } from '../method/episode.ts';
import { stepMetrics } from '../method/metrics.ts';
import { findMetricName, METRIC_NAMES, metricNameRows } from './metric-names.ts';

const read = (name: string): string => readFileSync(new URL(`../../${name}`, import.meta.url), 'utf8');

function episode(more: Partial<Episode>): Episode {
  const written = { tokens: [1, 2], logprobs: [-1, -1], text: '', stopReason: 'stop' as const };
  return {
    version: 1,
    step: 0,
    group: 'g',
    index: 0,
    problem: { id: 'p' },
    attempt: written,
    attemptScore: null,
    reflection: written,
    retry: written,
    score: { ok: true },
    reward: 1,
    advantage: 1,
    ...more,
  };
}

test('every number of a step is listed, and every name that a source of numbers writes', () => {
  const step = stepMetrics([
    episode({ kind: 'vague', hint: 'true' }),
    episode({ kind: 'search', hint: 'false', reward: 0 }),
  ]);
  const method = new URL('../method/', import.meta.url);
  const sources = readdirSync(method).filter((name) => /^(loss|metrics)[a-z-]*\.ts$/.test(name));
  const written = sources.flatMap((name) =>
    [...readFileSync(new URL(name, method), 'utf8').matchAll(/metrics\['([^']+)'\] =/g)].map(
      ([, key = '']) => key,
    ),
  );
  expect(written).toContain('kl');
  const names = new Set([...Object.keys(step), ...written]);
  expect(names.size).toBeGreaterThan(20);
  expect([...names].filter((name) => findMetricName(name) === undefined)).toEqual([]);
  expect(findMetricName('reflection/length')).toBeUndefined();
  expect(findMetricName('kind/long search')?.name).toBe('kind/<kind>');
});

test('the document of the run folder has the list, row by row', () => {
  const document = read('docs/run-folder.md');
  expect(document).toContain(`| --- | --- | --- |\n${metricNameRows().join('\n')}\n`);
  expect(new Set(METRIC_NAMES.map(({ name }) => name)).size).toBe(METRIC_NAMES.length);
});
