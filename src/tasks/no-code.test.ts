import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { afterAll, expect, test } from 'vitest';
import type { RowProblem } from './define.ts';
import { loadTask, type LoadedTask } from './load-task.ts';
import { fill } from './no-code.ts';

const folder = mkdtempSync(join(tmpdir(), 'r3-no-code-'));
afterAll(() => rmSync(folder, { recursive: true }));

let made = 0;
function load(spec: unknown, env: Record<string, string> = {}): Promise<LoadedTask> {
  const path = join(folder, `task-${made++}.json`);
  writeFileSync(path, typeof spec === 'string' ? spec : JSON.stringify(spec));
  return loadTask(path, env);
}
const exact = { exact: '{answer}' };
const row = { prompt: 'What is {x} in {"a": {"b": 1}}?', answer: 4, id: 'q1' };

/** Verdicts by answer: null for a pass, else the class. */
async function classes(spec: unknown, answers: readonly string[], of: unknown = row): Promise<unknown[]> {
  const { task } = await load(spec);
  const problem = task.parseRow(of, 0);
  const verdicts = await Promise.all(
    answers.map(async (answer) => task.verify(problem, answer, task.prompts('default'))),
  );
  return verdicts.map((verdict) => (verdict.ok ? null : verdict.class));
}

test('the prompt is the field prompt of the row, whatever braces are in it', async () => {
  const { task } = await load({ name: 'plain', verifier: exact });
  const problem = task.parseRow(row, 0);
  expect(problem).toEqual({ id: 'q1', row });
  expect(task.pose(problem, task.prompts('default'))).toEqual([{ role: 'user', content: row.prompt }]);
});

test('templates take fields; doubled braces and other braces stay', async () => {
  const spec = {
    name: 'texts',
    prompt: 'Say {answer} as {"json": {"a": 1}} with {{answer}} and {list}',
    promptAgain: 'Again: {answer}',
    reflect: 'Why?',
    id: 'key',
    verifier: exact,
  };
  const { task } = await load(spec);
  const prompts = task.prompts('default');
  const problem = task.parseRow({ answer: 4, list: ['a', 1], key: 'k-1' }, 0);
  expect(problem.id).toBe('k-1');
  expect(task.pose(problem, prompts)[0]?.content).toBe(
    'Say 4 as {"json": {"a": 1}} with {answer} and ["a",1]',
  );
  expect(task.poseAgain(problem, prompts)).toBe('Again: 4');
  expect(prompts.reflect).toBe('Why?');
  expect(() => task.parseRow({ answer: 4, list: [] }, 0)).toThrow('key: expected a text or a number');
});

test('values stand in a text as they are: nothing in them is a template or a pattern of replacement', () => {
  fc.assert(
    fc.property(fc.string(), (value) => {
      expect(fill('<{a}|{a}>', { a: value })).toBe(`<${value}|${value}>`);
    }),
    { examples: [['$&'], ['{a}'], ['{{a}}'], ['$1{b}']] },
  );
});

test('a row without a field that a template names is refused, with the field that was meant', async () => {
  const { task } = await load({ name: 'plain', verifier: exact });
  expect(() => task.parseRow({ prompt: 'p', anwser: 4 }, 0)).toThrow(
    'answer: expected a field of the row, which has prompt, anwser; did you mean anwser?',
  );
});

test('exact', async () => {
  expect(await classes({ name: 'a', verifier: exact }, ['4', ' 4\n', '5', '4.'])).toEqual([
    null,
    null,
    'wrong answer',
    'wrong answer',
  ]);
  expect(await classes({ name: 'a', verifier: { ...exact, trim: false } }, [' 4'])).toEqual(['wrong answer']);
  const tagged = { ...exact, extract: '<a>(.*?)</a>' };
  expect(await classes({ name: 'a', verifier: tagged }, ['<a>5</a><a>4</a>', '<a>5</a>', '4'])).toEqual([
    null,
    'wrong answer',
    'no answer',
  ]);
});

test('exact knows its good answer itself', async () => {
  const { task } = await load({ name: 'a', verifier: exact });
  expect(task.known(task.parseRow(row, 0), task.prompts('default'))).toEqual([
    { answer: '4', ok: true },
    { answer: '', ok: false },
  ]);
});

test('regex', async () => {
  const verifier = { regex: '^[a-z]+$', flags: 'i' };
  expect(await classes({ name: 'a', verifier }, ['Abc', 'a1'])).toEqual([null, 'no match']);
});

test('jsonSchema, in place or in a file beside the task', async () => {
  const schema = { type: 'object', required: ['a'] };
  writeFileSync(join(folder, 'schema.json'), JSON.stringify(schema));
  for (const jsonSchema of [schema, 'schema.json']) {
    const spec = { name: 'a', verifier: { jsonSchema } };
    expect(await classes(spec, ['{"a": 1}', '{}', 'a'])).toEqual([null, 'schema', 'not JSON']);
  }
});

test('a command runs in the folder of the task, with the environment and the row', async () => {
  writeFileSync(
    join(folder, 'judge.mjs'),
    `const { id, answer } = JSON.parse(process.env.R3_PROBLEM);
     console.log([id, answer, process.env.EXTRA].join());
     process.exit(1)`,
  );
  const spec = { name: 'a', verifier: { command: [process.execPath, 'judge.mjs'] } };
  const { task } = await load(spec, { EXTRA: 'extra' });
  expect(await task.verify(task.parseRow(row, 0), '4', task.prompts('default'))).toMatchObject({
    class: 'q1,4,extra',
  });
});

test('the hash covers the files that a task is made of', async () => {
  const spec = { name: 'a', verifier: { command: ['node', 'hashed.mjs'] } };
  const path = join(folder, 'hashed.json');
  const hash = async (code: string, text: unknown): Promise<string> => {
    writeFileSync(join(folder, 'hashed.mjs'), code);
    writeFileSync(path, JSON.stringify(text));
    return (await loadTask(path)).file.sha256;
  };
  const first = await hash('1', spec);
  expect(await hash('1', spec)).toBe(first);
  const changed = [await hash('2', spec), await hash('1', { ...spec, reflect: 'why' })];
  expect(new Set([first, ...changed]).size).toBe(3);
});

test('without an environment a task poses but does not judge', async () => {
  const path = join(folder, 'posed.json');
  writeFileSync(
    path,
    JSON.stringify({ name: 'a', verifier: { http: { url: 'http://h/', headers: { a: '${NO}' } } } }),
  );
  const { task } = await loadTask(path);
  const problem = task.parseRow(row, 0) as RowProblem;
  expect(task.pose(problem, task.prompts('default'))[0]?.content).toBe(row.prompt);
  await expect(task.verify(problem, '4', task.prompts('default'))).rejects.toThrow('expected an environment');
});

test.each([
  ['{"name": "a"', /: expected a JSON object, got/],
  [{ name: 'a' }, /: verifier: expected an object, got nothing$/],
  [{ name: 'a b', verifier: exact }, /: defineTask: name: expected 1 to 64 letters/],
  [
    { name: 'a', promt: 'x', verifier: exact },
    /: promt: expected one of name, prompt, .*, got an unknown key; did you mean prompt\?$/,
  ],
  [
    { name: 'a', verifier: { ...exact, trimm: true } },
    /: verifier\.trimm: expected one of exact, trim, ignoreCase, extract, got an unknown key; did you mean trim\?$/,
  ],
  [
    { name: 'a', verifier: { http: { url: 'http://h/', timeout: 3 } } },
    /: verifier\.http\.timeout: expected one of url, headers, timeoutMs, concurrency, got an unknown key/,
  ],
  [
    { name: 'a', verifier: { regexp: 'a' } },
    /: verifier: expected one of exact, regex, jsonSchema, command, http, got regexp; did you mean regex\?$/,
  ],
  [{ name: 'a', verifier: { ...exact, regex: 'a' } }, /: verifier: expected one of .*, got exact, regex$/],
  [{ name: 'a', verifier: { regex: '(' } }, /: verifier\.regex: expected a regular expression/],
  [{ name: 'a', verifier: { ...exact, extract: '(' } }, /: verifier\.extract: expected a regular expression/],
  [{ name: 'a', verifier: { jsonSchema: { type: 'txt' } } }, /: verifier\.jsonSchema: type: expected/],
  [{ name: 'a', verifier: { jsonSchema: 'none.json' } }, /: verifier\.jsonSchema: ENOENT/],
  [{ name: 'a', verifier: { command: [] } }, /: verifier\.command: expected at least 1 entries, got \[\]$/],
  [
    { name: 'a', verifier: { command: ['a'], timeoutMs: 0 } },
    /: verifier\.timeoutMs: expected more than 0, got 0$/,
  ],
  [{ name: 'a', verifier: { http: { url: 'ftp://h/' } } }, /: verifier: http\.url: expected an address/],
])('a file that is not a task is refused by the key: %#', async (spec, message) => {
  await expect(load(spec)).rejects.toThrow(message);
});
