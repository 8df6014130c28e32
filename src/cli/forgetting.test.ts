import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { runInPlace } from './testing.ts';

const folder = mkdtempSync(join(tmpdir(), 'r3-forgetting-'));
afterAll(() => rmSync(folder, { recursive: true }));
const gsm8k = join(folder, 'gsm8k.jsonl');
writeFileSync(gsm8k, '{"question": "1 + 1?", "answer": "#### 2"}\n');

test.each([
  [['--problems', 'gsm8k'], 2, '--problems: expected task=file, got "gsm8k"'],
  [['--problems', `gsm9k=${gsm8k}`], 2, 'got "gsm9k"'],
  [['--problems', `mmlu=${gsm8k}`], 1, 'line 1: row: expected subject, question, choices, answer'],
  [
    ['--by', 'log-probability', '--problems', `gsm8k=${gsm8k}`],
    2,
    '--by: expected generation for the task gsm8k, which has no choices',
  ],
  [
    ['--prompts', 'short', '--problems', `gsm8k=${gsm8k}`],
    2,
    'that is given and that it has, got "short", which none takes',
  ],
  [['--problems', `gsm8k=${gsm8k}`], 1, 'nowhere: expected a model folder'],
])('r3 forgetting %j is explained before a model is loaded', async (flags, code, message) => {
  const outcome = await runInPlace(['forgetting', '--model', 'nowhere', ...flags]);
  expect(outcome.stderr).toContain(message);
  expect(outcome.code).toBe(code);
});

test('answers of the benchmark tasks are judged from a file', async () => {
  const answers = join(folder, 'answers.jsonl');
  const judge = async (task: string, rows: object[]): Promise<unknown[]> => {
    writeFileSync(answers, rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
    const { stdout, code } = await runInPlace(['check', task, '--answers', answers, '--json']);
    expect(code).toBe(0);
    return stdout
      .trim()
      .split('\n')
      .map((line) => (JSON.parse(line) as { class: string | null }).class);
  };
  expect(
    await judge('gsm8k', [
      { gold: 18, completion: '#### 18' },
      { gold: 'so\n#### 1,800', completion: 'It is \\boxed{1800}' },
      { gold: '18', completion: 'none' },
    ]),
  ).toEqual([null, null, 'no answer']);
  expect(
    await judge('math', [
      { gold: '\\frac{1}{2}', completion: '\\boxed{0.5}' },
      { gold: '(1,2)', completion: '\\boxed{(2,1)}' },
    ]),
  ).toEqual([null, 'wrong answer']);
  expect(
    await judge('mmlu-pro', [
      { options: ['a', 'b', 'c'], answer: 'B', completion: 'The answer is (B).' },
      { options: ['a', 'b', 'c'], answer: 1, completion: 'The answer is (C).' },
    ]),
  ).toEqual([null, 'wrong answer']);
});
