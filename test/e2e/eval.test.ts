/** `r3 eval` that is stopped. What it measures is tested in `train.test.ts`, on a model that was trained. */
import { fileURLToPath } from 'node:url';
import { afterAll, expect, test } from 'vitest';
import { makeWorkplace } from './r3.ts';

const workplace = makeWorkplace();
const { r3, write } = workplace;
afterAll(() => workplace.remove());

const START = fileURLToPath(new URL('../../models/start', import.meta.url));

test('an evaluation that is stopped says so, prints no result and ends with 130', async () => {
  const problems = write(
    'problems.jsonl',
    Array.from({ length: 150 }, (_, i) => ({ nums: [3 + (i % 40), 7, 1 + i], target: 11 + i + (i % 40) })),
  );
  const models = ['--model', START, '--against', START];
  const { code, stdout, stderr } = await r3(
    ['eval', '--json', '--task', 'countdown', '--prompts', 'short', ...models, '--problems', problems],
    {
      env: { CI: '1' },
      // The first line says that the first phase is over.
      during: (child) => child.stderr?.once('data', () => child.kill('SIGINT')),
    },
  );
  expect({ code, stdout }, stderr).toEqual({ code: 130, stdout: '' });
  expect(stderr).toContain('r3: stopped before everything was measured; nothing was kept\n');
});
