import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import type { TaskResult } from '../forgetting.ts';
import { openResults } from './forgetting-results.ts';

const place = mkdtempSync(join(tmpdir(), 'r3-forgetting-results-'));
afterAll(() => rmSync(place, { recursive: true }));

const at = { which: 'before', place: 1, task: 'my/task' } as const;
const facts = { model: { hash: 'aa' }, seed: 1, sampling: { temperature: 0, topK: undefined } };
const result: TaskResult = {
  task: 'my/task',
  by: 'log-probability',
  rows: [{ problem: 'a', passed: null, bySum: null }],
  accuracy: { rate: Number.NaN, low: 0, high: 1, n: 0 },
};
const never = (): Promise<TaskResult> => Promise.reject(new Error('measured again'));

test('a task that was measured is not measured again, and its result is the same', async () => {
  const directory = join(place, 'kept');
  expect(await openResults(directory).findOrMake(at, facts, () => Promise.resolve(result))).toEqual(result);
  expect(readdirSync(directory)).toEqual(['before-02-my_task.json']);
  expect(await openResults(directory).findOrMake(at, facts, never)).toEqual(result);
  await expect(openResults(directory).findOrMake({ ...at, which: 'model' }, facts, never)).rejects.toThrow(
    'measured again',
  );
});

test('what was measured otherwise is refused by name, and kept', async () => {
  const results = openResults(join(place, 'other'));
  await results.findOrMake(at, facts, () => Promise.resolve(result));
  await expect(results.findOrMake(at, { ...facts, seed: 2 }, never)).rejects.toThrow(
    'before-02-my_task.json: seed: expected 2, got 1; choose another --out',
  );
  await expect(
    results.findOrMake(at, { ...facts, model: { hash: 'bb', directory: 'long' } }, never),
  ).rejects.toThrow('before-02-my_task.json: model.hash: expected "bb", got "aa"; choose another --out');
  expect(await results.findOrMake(at, facts, never)).toEqual(result);
});

test.each(['{"ver', '{"version":2}'])('a file that holds %j is refused by name', async (text) => {
  writeFileSync(join(place, 'before-02-my_task.json'), text);
  await expect(openResults(place).findOrMake(at, facts, never)).rejects.toThrow(/my_task\.json: .*expected/);
});
