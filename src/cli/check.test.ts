/** `r3 check` on custom tasks, without a model; what it does with answers of built-in tasks is in program.test.ts. */
import { createServer } from 'node:http';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, test } from 'vitest';
import type { Task } from '../method/task.ts';
import { checkTask } from './check-task.ts';
import { runInPlace, type Outcome } from './testing.ts';

const folder = mkdtempSync(join(tmpdir(), 'r3-check-'));
afterAll(() => rmSync(folder, { recursive: true }));
const EXAMPLES = fileURLToPath(new URL('../../examples', import.meta.url));
const ENV = { PATH: process.env['PATH'] ?? '' };

function write(name: string, value: unknown): string {
  const path = join(folder, name);
  const rows = Array.isArray(value)
    ? value.map((row) => `${JSON.stringify(row)}\n`).join('')
    : JSON.stringify(value);
  writeFileSync(path, rows);
  return path;
}

interface Line {
  name: string;
  ok: boolean;
  detail: string;
}
async function check(
  task: string,
  ...more: string[]
): Promise<Outcome & { lines: Line[]; failed: string[] }> {
  const outcome = await runInPlace(['check', task, ...more, '--json'], ENV);
  const lines = outcome.stdout
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Line);
  return { ...outcome, lines, failed: lines.filter(({ ok }) => !ok).map(({ name }) => name) };
}
const rows = write('rows.jsonl', [
  { prompt: 'Add 1 and 2.', answer: '3' },
  { prompt: 'Add 2 and 2.', answer: '4' },
]);

describe('of a sound task', () => {
  test.each(['paper', 'short'])('every check of countdown passes, prompts %s', async (set) => {
    const { code, failed, lines, stderr } = await check('countdown', '--prompts', set, '--limit', '20');
    expect({ code, failed }).toEqual({ code: 0, failed: [] });
    expect(lines.map(({ name }) => name)).toEqual([
      'verifier',
      'junk',
      'empty answers',
      'huge answers',
      'prompt echoed',
      'control tokens',
      'control characters',
      'deep nesting',
      'long numbers',
      'JSON and LaTeX bombs',
      'good answers in disguise',
      'same verdict twice',
      'time per verdict',
      'ids',
    ]);
    expect(stderr).toBe('14 checks over 20 problems: all ok\n');
  });

  test.each([
    ['no-code/task.json', ['--problems', join(EXAMPLES, 'no-code/rows.jsonl')]],
    ['typed-task/task.ts', []],
    ['typed-task/task.ts', ['--problems', join(EXAMPLES, 'typed-task/rows.jsonl')]],
  ])('every check of examples/%s passes %j', async (task, more) => {
    const { code, failed, stderr } = await check(join(EXAMPLES, task), ...more);
    expect({ code, failed, stderr }).toMatchObject({ code: 0, failed: [] });
  });

  test('the examples in docs/custom-tasks.md are the file of JSON, and a task in TypeScript', async () => {
    const page = readFileSync(join(EXAMPLES, '../docs/custom-tasks.md'), 'utf8');
    const [json = '', code = ''] = [...page.matchAll(/(?:^ {4}.*\n|^\n(?= {4}))+/gm)]
      .map(([block]) => block.replaceAll(/^ {4}/gm, ''))
      .filter((block) => /^\s*[{i]/.test(block));
    expect(JSON.parse(json)).toEqual(JSON.parse(readFileSync(join(EXAMPLES, 'no-code/task.json'), 'utf8')));
    const path = join(folder, 'docs.ts');
    writeFileSync(path, code);
    const { failed, stderr } = await check(path, '--problems', join(EXAMPLES, 'typed-task/rows.jsonl'));
    expect({ failed, stderr }).toEqual({ failed: [], stderr: '14 checks over 3 problems: all ok\n' });
  });

  test('the example with a command judges answers', async () => {
    const [first] = readFileSync(join(EXAMPLES, 'no-code/rows.jsonl'), 'utf8').split('\n');
    const row = JSON.parse(first ?? '') as object;
    const answers = write('dates.jsonl', [
      { ...row, completion: 'It is 2021-03-05.' },
      { ...row, completion: '2021-05-03' },
    ]);
    const { code, lines } = await check(join(EXAMPLES, 'no-code/command.json'), '--answers', answers);
    expect({ code, lines }).toEqual({
      code: 0,
      lines: [
        { ok: true, class: null, why: null },
        { ok: false, class: 'wrong date', why: 'expected 2021-03-05, got 2021-05-03' },
      ],
    });
  });
});

describe('of function calling', () => {
  const tools = [{ name: 'f', parameters: { type: 'object', properties: { a: { type: 'integer' } } } }];
  const wanted = { question: 'Call f.', function: tools, ground_truth: [{ f: { a: [1] } }] };

  test('problems where no call is wanted, where any text is right, do not fail the checks of others', async () => {
    const none = { id: 'irrelevance_0', question: 'Hi', function: tools };
    const path = write('calls.jsonl', [
      none,
      { ...none, id: 'irrelevance_1' },
      wanted,
      { ...wanted, id: 'b' },
    ]);
    const { code, failed, stderr } = await check('function-calling', '--problems', path);
    expect({ code, failed }, stderr).toEqual({ code: 0, failed: [] });
  });

  test('--prompts is the style of rows without one, and --rules asks for --answers', async () => {
    const answers = write('calls-answers.jsonl', [
      { tools, accepted: [{ f: { a: [1] } }], completion: '[f(a=1)]' },
      { tools, accepted: [{ f: { a: [1] } }], completion: '[f(a=1)]', style: 'json' },
    ]);
    const { lines } = await check('function-calling', '--answers', answers, '--prompts', 'python');
    expect(lines).toMatchObject([{ ok: true }, { ok: false, class: 'format' }]);
    const path = write('calls.jsonl', [wanted]);
    const refused = await check('function-calling', '--problems', path, '--rules', 'strict');
    expect(refused.stderr).toContain('--rules: expected --answers beside it');
  });
});

describe('exit code 1 and the first thing that is wrong, where the verifier', () => {
  test('accepts everything', async () => {
    const task = write('all.json', { name: 'all', verifier: { regex: '' }, good: ['3'], bad: [] });
    const { code, failed, lines } = await check(task, '--problems', rows);
    expect(code).toBe(1);
    expect(failed).toEqual([
      'verifier',
      'junk',
      'empty answers',
      'huge answers',
      'prompt echoed',
      'control tokens',
    ]);
    expect(lines[1]?.detail).toBe('problem row-1, answer "I do not know": expected fail, got pass');
  });

  test('rejects what is known to be good', async () => {
    const task = write('none.json', { name: 'none', verifier: { regex: '^x$' }, good: ['{answer}'] });
    const { code, failed, lines } = await check(task, '--problems', rows);
    expect({ code, failed }).toEqual({ code: 1, failed: ['verifier'] });
    expect(lines[0]?.detail).toBe('problem row-1, answer "3": expected pass, got fail');
  });

  test('backtracks without end on an answer', async () => {
    const task = write('slow.json', { name: 'slow', verifier: { regex: '^(x+)+y$' }, good: ['xy'] });
    const { code, failed, lines } = await check(task, '--problems', rows);
    expect({ code, failed }).toEqual({ code: 1, failed: ['huge answers'] });
    expect(lines[3]?.detail).toContain('expected a verdict, got an error: verify of task slow');
  });

  test('judges one answer now so, now otherwise', async () => {
    let calls = 0;
    const random: Task = {
      name: 'random',
      promptSets: ['a'],
      prompts: () => ({ name: 'a', reflect: '' }),
      pose: () => [{ role: 'user', content: 'p' }],
      poseAgain: () => 'p',
      parseRow: () => ({ id: '1' }),
      known: () => [
        { answer: 'good', ok: true },
        { answer: 'bad', ok: false },
      ],
      verify: (_, answer) =>
        answer === 'good' ? { ok: true } : { ok: false, class: 'no', why: `call ${++calls}` },
    };
    const checks = await checkTask(random, [{ id: '1' }], random.prompts('a'));
    expect(checks.filter(({ ok }) => !ok)).toEqual([
      {
        name: 'same verdict twice',
        ok: false,
        detail: expect.stringMatching(
          /answer "bad": expected the same verdict twice, got fail \(no: call \d+\), then/,
        ) as string,
      },
    ]);
  });
});

test('two problems of one id fail a check, and rows of a file that share one are told', async () => {
  const code = `import { defineTask } from 'reflect-retry-reward';
    export default defineTask({
      name: 'twice',
      load: (row) => ({ id: row.id, answer: row.answer }),
      prompt: ({ answer }) => 'Say ' + answer,
      verify: (problem, answer) => answer === problem.answer,
      known: ({ answer }) => [{ answer, ok: true }, { answer: 'x', ok: false }],
      generate: () => [{ id: 'a', answer: '1' }, { id: 'a', answer: '2' }],
    });`;
  const path = join(folder, 'twice.ts');
  writeFileSync(path, code);
  const generated = await check(path);
  expect({ code: generated.code, failed: generated.failed }, generated.stderr).toEqual({
    code: 1,
    failed: ['ids'],
  });
  expect(generated.lines.at(-1)?.detail).toContain('problem a: expected one problem of this id, got ');
  const file = write('one-id.jsonl', [
    { id: 'a', prompt: 'Add 1 and 2.', answer: '3' },
    { id: 'a', prompt: 'Add 2 and 2.', answer: '4' },
  ]);
  const { lines } = await check(
    write('plain.json', { name: 'plain', verifier: { exact: '{answer}' } }),
    '--problems',
    file,
  );
  expect(lines.at(-1)).toEqual({
    name: 'ids',
    ok: true,
    detail: '2 problems, each with an id of its own; 1 by ~2, ~3, ... behind an id that came before',
  });
});

describe('answers that cannot be judged have ok null and a reason, others are judged', () => {
  const answers = write('answers.jsonl', [
    { prompt: 'p', answer: '3', completion: '3' },
    { prompt: 'p', answer: '3', completion: 'hang' },
    { prompt: 'p', answer: '3', completion: '4' },
  ]);
  const expected = (why: string): unknown[] => [
    { ok: true, class: null, why: null },
    { ok: null, class: null, why: expect.stringContaining(why) as string },
    { ok: false, class: 'wrong', why: 'no' },
  ];

  test('by a command', async () => {
    const code = `const answer = require('fs').readFileSync(0, 'utf8');
      if (answer === 'hang') setInterval(() => {}, 1000);
      else { console.log('wrong\\nno'); process.exitCode = answer === JSON.parse(process.env.R3_PROBLEM).answer ? 0 : 1; }`;
    const verifier = { command: [process.execPath, '-e', code], timeoutMs: 3000 };
    const {
      code: exit,
      lines,
      stderr,
    } = await check(write('command.json', { name: 'c', verifier }), '--answers', answers);
    expect(exit).toBe(0);
    expect(lines).toEqual(expected('expected an end within 3000 ms'));
    expect(stderr).toBe('3 answers: 1 ok, 1 not judged, 1 wrong\n');
  });

  test('by a service', async () => {
    const server = createServer((request, response) => {
      let body = '';
      request.on('data', (chunk) => (body += String(chunk)));
      request.on('end', () => {
        const { problem, answer } = JSON.parse(body) as { problem: { answer: string }; answer: string };
        if (answer === 'hang') response.statusCode = 400;
        response.end(JSON.stringify({ ok: answer === problem.answer, class: 'wrong', why: 'no' }));
      });
    });
    await new Promise<void>((ready) => server.listen(0, '127.0.0.1', ready));
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
    const task = write('http.json', { name: 'h', verifier: { http: { url } } });
    const { code, lines } = await check(task, '--answers', answers);
    server.close();
    expect({ code, lines }).toEqual({ code: 0, lines: expected('expected status 200, got 400') });
  });
});

test('a task without problems of its own asks for a file', async () => {
  const { code, stderr } = await check(
    write('plain.json', { name: 'plain', verifier: { exact: '{answer}' } }),
  );
  expect({ code, stderr }).toEqual({
    code: 2,
    stderr: 'r3: --problems: expected a file, because the task plain makes no problems itself, got none\n',
  });
});

test('a row that a task refuses is an error with file and line', async () => {
  const bad = write('bad.jsonl', [{ prompt: 'p', answer: '3' }, { prompt: 'p' }]);
  const { code, stderr } = await check(
    write('plain.json', { name: 'plain', verifier: { exact: '{answer}' } }),
    '--problems',
    bad,
  );
  expect(code).toBe(1);
  expect(stderr).toBe(`r3: ${bad} line 2: answer: expected a field of the row, which has prompt\n`);
});
