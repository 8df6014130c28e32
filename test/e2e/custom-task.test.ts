/** A run on a task that is a file: trained, shown, and refused once the file has changed. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { makeModel, makeWorkplace } from './r3.ts';

const workplace = makeWorkplace();
const { r3, folder } = workplace;
const at = (name: string): string => join(folder, name);

const TASK = {
  name: 'plus',
  promptAgain: 'again',
  reflect: 'why',
  verifier: { exact: '{answer}' },
  bad: ['again'],
};
const saveTask = (task: object): void => writeFileSync(at('plus.json'), JSON.stringify(task));

beforeAll(async () => {
  await makeModel(workplace);
  const problems = readFileSync(at('problems.jsonl'), 'utf8').trimEnd().split('\n');
  const rows = problems.map((line) => {
    const { nums, target } = JSON.parse(line) as { nums: number[]; target: number };
    return { prompt: `${nums.join(' ')} to ${target}`, answer: nums.join(' + ') };
  });
  workplace.write('rows.jsonl', rows);
  saveTask(TASK);
});
afterAll(() => workplace.remove());

test('a task without code is trained on, its file is recorded, and a changed one is refused', async () => {
  const limits = ['--max-attempt-tokens', '8', '--max-reflection-tokens', '12'];
  const groups = ['--failures-per-step', '4', '--num-generations', '4', '--samples', '4'];
  const trained = await r3([
    'train',
    '--task',
    'plus.json',
    '--model',
    'model',
    '--problems',
    'rows.jsonl',
    '--steps',
    '2',
    ...limits,
    ...groups,
  ]);
  expect(trained.code, trained.stderr).toBe(0);
  const run = 'runs/plus-001';
  const config = JSON.parse(readFileSync(at(`${run}/config.json`), 'utf8')) as unknown;
  expect(config).toMatchObject({
    task: 'plus',
    taskFile: {
      path: expect.stringMatching(/plus\.json$/) as string,
      sha256: expect.stringMatching(/^[0-9a-f]{64}$/) as string,
    },
  });
  const shown = await r3(['show', run]);
  expect(shown.stdout).toContain(`${run}: plus, 2 steps`);
  expect(shown.stdout).toMatch(/problem\n {4}\d \d to \d/);

  // Failures in the run folder are read back as problems of the task.
  const again = await r3([
    'train',
    '--task',
    'plus.json',
    '--model',
    'model',
    '--failures',
    `${run}/failures.jsonl`,
    '--steps',
    '1',
    ...limits,
    ...groups.slice(0, 4),
  ]);
  expect(again.code, again.stderr).toBe(0);

  saveTask({ ...TASK, prompt: '{prompt} to' });
  const from = ['--failures', `${run}/failures.jsonl`];
  const changed = await r3(['train', '--task', 'plus.json', '--model', 'model', ...from, ...limits]);
  expect(changed.code).toBe(1);
  expect(changed.stderr).toContain('expected a failure mined with the prompt that the task plus has now');

  saveTask({ ...TASK, verifier: { exact: '{answer}', ignoreCase: true } });
  for (const args of [
    ['train', '--resume', run],
    ['show', run],
    ['report', run],
  ]) {
    const { code, stderr } = await r3(args);
    expect(code).toBe(1);
    expect(stderr).toMatch(
      /runs\/plus-001: expected the task plus as it was when the run began, got a changed .*plus\.json/,
    );
  }
});
