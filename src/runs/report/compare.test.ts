import { expect, test } from 'vitest';
import { differencesTable } from './compare.ts';
import { emptyRun } from './testing.ts';

test('options that differ are told by their members, where they are a group in any run', () => {
  const withConfig = (config: Record<string, unknown>): ReturnType<typeof emptyRun> => ({
    ...emptyRun(),
    config: { version: 1, ...config },
  });
  const runs = [
    withConfig({ engine: 'local', lora: { rank: 4 }, seed: 1 }),
    withConfig({ engine: 'tinker', lora: null, seed: 1 }),
  ];
  expect(differencesTable(runs)?.rows).toEqual([
    { label: 'engine', cells: ['local', 'tinker'] },
    { label: 'lora.rank', cells: ['4', '–'] },
  ]);
  expect(differencesTable([...runs.slice(0, 1), ...runs.slice(0, 1)])).toBeNull();
});
