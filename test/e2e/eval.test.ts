/** `r3 eval` on the start model: what it leaves, and going on after Ctrl-C. */
import { existsSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, expect, test } from 'vitest';
import { interruptWhen, makeWorkplace } from './r3.ts';

const workplace = makeWorkplace();
const { folder, r3, write } = workplace;
afterAll(() => workplace.remove());

const START = fileURLToPath(new URL('../../models/start', import.meta.url));
const PROBLEMS = write(
  'problems.jsonl',
  Array.from({ length: 30 }, (_, i) => ({ nums: [3 + (i % 40), 7, 1 + i], target: 11 + i + (i % 40) })),
);
const LENGTHS = ['--max-attempt-tokens', '20', '--max-reflection-tokens', '40'];
const EVAL = ['eval', '--task', 'countdown', '--prompts', 'short', '--problems', PROBLEMS, ...LENGTHS];

const outputs = (directory: string): string[] =>
  ['rows.jsonl', 'summary.json'].map((name) => readFileSync(join(folder, directory, name), 'utf8'));

test('an evaluation that is stopped says how to go on, and goes on to the same bytes', async () => {
  const models = ['--model', START, '--against', START, '--seeds', '1,2'];
  const whole = await r3([...EVAL, ...models, '--out', 'whole', '--json']);
  expect(whole.code, whole.stderr).toBe(0);
  const { directory, ...summary } = JSON.parse(whole.stdout);
  expect(directory).toBe('whole');
  expect(summary).toEqual(JSON.parse(readFileSync(join(folder, 'whole/summary.json'), 'utf8')));
  expect(summary).toMatchObject({
    n: 30,
    seeds: [1, 2],
    model: { sampled: [{ firstTry: { n: 30 } }, { seed: 2 }], greedy: { afterEmptyReflection: { n: 30 } } },
    change: { kl: [0, 0], sampled: [{ secondTry: { diff: 0, mcnemar: { p: 1 } } }, {}] },
  });

  const rows = join(folder, 'evaluations/countdown-001/rows.jsonl');
  const stopped = await r3([...EVAL, ...models], {
    env: { CI: '1' },
    during: (child) => interruptWhen(child, () => existsSync(rows) && statSync(rows).size > 0),
  });
  expect({ code: stopped.code, stdout: stopped.stdout }, stopped.stderr).toEqual({ code: 130, stdout: '' });
  expect(stopped.stderr).toContain('go on with: r3 eval --resume evaluations/countdown-001\n');
  const resumed = await r3(['eval', '--resume', 'evaluations/countdown-001', '--threads', '1']);
  expect(resumed.code, resumed.stderr).toBe(0);
  expect(outputs('evaluations/countdown-001')).toEqual(outputs('whole'));
  expect(resumed.stdout).toMatch(/\nsecond try, after its own reflection +\d/);
});

test('problems that have changed are refused by name', async () => {
  write('problems.jsonl', [{ nums: [1, 2, 3], target: 7 }]);
  const { code, stderr } = await r3(['eval', '--resume', 'whole']);
  expect(code).toBe(1);
  expect(stderr).toContain('expected the problems, which whole began with, got others');
});
