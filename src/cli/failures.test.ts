import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import type { Failure } from '../method/episode.ts';
import { countdown } from '../tasks/countdown.ts';
import { posedHash } from '../mine.ts';
import { loadFailures } from './failures.ts';

const folder = mkdtempSync(join(tmpdir(), 'r3-failures-'));
afterAll(() => rmSync(folder, { recursive: true }));
const path = join(folder, 'failures.jsonl');

const prompts = countdown.prompts('paper');
const by = { task: countdown, prompts, options: { temperature: 1 } };
const problem = { id: '1-2-to-3', nums: [1, 2], target: 3 };
const failure: Failure & { problem: { nums: number[]; target: number } } = {
  version: 1,
  id: '1-2-to-3#0',
  problem,
  sampleIndex: 0,
  samples: 1,
  failed: 1,
  attempt: { tokens: [4], logprobs: [-0.5], text: '1 - 2', stopReason: 'stop' },
  verdict: { ok: false, class: 'missed target', why: 'expected 3, got -1' },
  modelHash: 'ab',
  prompts: { name: 'paper', sha256: posedHash(countdown, problem, prompts) },
  sampling: { temperature: 1, maxTokens: 8, seed: 1 },
};

function load(...rows: object[]): Failure[] {
  writeFileSync(path, rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
  return loadFailures(path, by, { modelHash: 'ab', vocabularySize: 10 });
}

test('failures read back as they were mined', () => {
  const second = { ...failure, id: '1-2-to-3#1', sampleIndex: 1 };
  expect(load(failure, second)).toEqual([failure, second]);
});

test('a failure of a version that kept no prompts is read', () => {
  const { prompts: _, ...before } = failure;
  expect(load(before)).toEqual([before]);
});

test.each<[string, object[], string]>([
  [
    'a failure of another model',
    [{ ...failure, modelHash: 'cd' }],
    'line 1: expected failures of the start model (ab)',
  ],
  [
    'a failure at another temperature',
    [{ ...failure, sampling: { ...failure.sampling, temperature: 0.5 } }],
    'line 1: expected a failure mined with the temperature 1, got one mined with 0.5; mine the failures again, or give --temperature 0.5',
  ],
  [
    'a failure of another prompt set',
    [{ ...failure, prompts: { ...failure.prompts, name: 'short' } }],
    'line 1: expected a failure mined with the prompts paper, got one mined with short; mine the failures again, or give --prompts short',
  ],
  [
    'a failure of a task whose prompt has changed',
    [{ ...failure, prompts: { name: 'paper', sha256: 'ef' } }],
    'line 1: expected a failure mined with the prompt that the task countdown has now, got one mined with another; mine the failures again, or give the task as it was',
  ],
  ['the same failure twice', [failure, failure], 'line 2: id: expected a new one, got 1-2-to-3#0 again'],
  ['an attempt that passed', [{ ...failure, verdict: { ok: true } }], 'line 1: verdict'],
  [
    'a field that is missing',
    [{ ...failure, attempt: undefined }],
    'line 1: attempt: expected an object, got nothing; is it a file that r3 mine wrote?',
  ],
  [
    'a problem that the task refuses',
    [{ ...failure, problem: { id: 'p', nums: [1], target: 1 } }],
    'line 1: nums: expected',
  ],
  [
    'a token that the model does not have',
    [failure, { ...failure, id: 'b', attempt: { ...failure.attempt, tokens: [10] } }],
    "line 2: attempt.tokens: expected ids below 10, the model's vocabulary, got 10; mine",
  ],
  [
    'a token without its log-probability',
    [{ ...failure, attempt: { ...failure.attempt, logprobs: [] } }],
    'line 1: attempt.logprobs: expected 1, one a token, got 0; mine',
  ],
  ['nothing', [], 'expected failures, got none'],
])('%s is refused', (_, rows, message) => {
  expect(() => load(...rows)).toThrow(`${path}${message.startsWith('line') ? ' ' : ': '}${message}`);
});

test('a file whose last line is cut is refused', () => {
  const line = `${JSON.stringify(failure)}\n`;
  writeFileSync(path, line + line.slice(0, 30));
  expect(() => loadFailures(path, by, { modelHash: 'ab', vocabularySize: 10 })).toThrow(
    `${path}:2: expected a line of JSON, got`,
  );
});
