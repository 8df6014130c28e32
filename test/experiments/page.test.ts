import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { armsOf, EXPERIMENTS } from '../../scripts/experiments/definitions.ts';
import { renderPage } from '../../scripts/experiments/page.ts';
import { checkTrainOptions } from '../../src/train-options.ts';
import { quickstartTrainOptions } from '../../src/quickstart.ts';

const path = (name: string): string => fileURLToPath(new URL(`../../docs/${name}`, import.meta.url));

test('the page of experiments is made of the results beside it', () => {
  expect(renderPage(path('experiments'))).toBe(readFileSync(path('experiments.md'), 'utf8'));
});

test('an arm that several experiments name is the same in all of them', () => {
  const named = new Map<string, string>();
  for (const { name, label: _, ...arm } of EXPERIMENTS.flatMap((experiment) => experiment.arms)) {
    const text = JSON.stringify(arm);
    expect(named.get(name) ?? text).toBe(text);
    named.set(name, text);
  }
  expect(armsOf('all').map(({ name }) => name)).toEqual([...named.keys()]);
});

test('no arm has options that contradict each other', () => {
  for (const { train = {} } of armsOf('all'))
    expect(() => checkTrainOptions({ ...quickstartTrainOptions(1, false), ...train }, {})).not.toThrow();
});
