/** Task files of code. Files that import the package's names need dist/, which `npm test` builds. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { loadTask } from './load-task.ts';

const folder = mkdtempSync(join(tmpdir(), 'r3-task-'));
afterAll(() => rmSync(folder, { recursive: true }));

function write(name: string, text: string): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
}
const IMPORT = "import { defineTask } from 'reflect-retry-reward';\n";
const BODY =
  "defineTask({ name: 'mine', load: () => ({ gold: '4' }), prompt: (p) => p.gold, verify: (p, a) => a === p.gold })";

test.each([
  [
    'default.ts',
    `${IMPORT}enum Kind { A }\nexport default ${BODY} satisfies object; export const kind: Kind = Kind.A;`,
  ],
  ['named.mts', `${IMPORT}export const task = ${BODY};`],
  ['default.js', `${IMPORT}export default ${BODY};`],
  ['named.mjs', `${IMPORT}export const task = ${BODY};`],
])('%s is a task', async (name, text) => {
  const { task, file } = await loadTask(write(name, text));
  expect({ name: task.name, path: file.path }).toEqual({ name: 'mine', path: join(folder, name) });
  const problem = task.parseRow({}, 0);
  expect(await task.verify(problem, '4', task.prompts('default'))).toEqual({ ok: true });
});

test('the hash covers the local files that a task imports', async () => {
  mkdirSync(join(folder, 'lib'));
  const path = write(
    'importing.ts',
    `${IMPORT}import { gold } from './lib/gold.ts';\nexport default ${BODY.replace("'4'", 'gold')};`,
  );
  const hash = async (gold: string): Promise<string> => {
    write('lib/gold.ts', `export const gold: string = '${gold}';`);
    return (await loadTask(path)).file.sha256;
  };
  const first = await hash('4');
  expect(await hash('4')).toBe(first);
  expect(await hash('5')).not.toBe(first);
});

test.each([
  ['none.ts', undefined, 'bad-file', /none\.ts: expected a task's file, got none; check the path$/],
  ['syntax.ts', 'export const x: = 1;', 'bad-file', /syntax\.ts: .*ParseError/],
  ['throws.ts', "throw new Error('no database');", 'bad-file', /throws\.ts: no database$/],
  ['missing.ts', "import './nowhere.ts';", 'bad-file', /missing\.ts: .*nowhere/],
  ['empty.ts', 'export {};', 'bad-task', /empty\.ts: expected a task made with defineTask, got none/],
  [
    'object.ts',
    'export default { name: "a", prompts: () => 1 };',
    'bad-task',
    /object\.ts: .*\(pose is missing\)/,
  ],
])('%s is refused', async (name, text, code, message) => {
  const path = text === undefined ? join(folder, name) : write(name, text);
  await expect(loadTask(path)).rejects.toMatchObject({
    boundary: 'task',
    code,
    message: expect.stringMatching(message) as string,
  });
});
