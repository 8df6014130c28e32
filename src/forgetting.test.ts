import { expect, test } from 'vitest';
import { makeFakeEngine } from './engine/fake.ts';
import { compareForgetting, measureForgetting, type SuiteEntry, type TaskResult } from './forgetting.ts';
import { hash32 } from './lib/rng.ts';
import type { Task } from './method/task.ts';
import { makePlayer, type Player } from './player.ts';
import { START_MODEL } from './quickstart.ts';
import { countdown } from './tasks/countdown.ts';
import { loadChatFormat } from './text/chat.ts';
import { loadTokenizer } from './text/tokenizer.ts';

const tokenizer = loadTokenizer(START_MODEL);
const [stop = 0] = loadChatFormat(START_MODEL, tokenizer).stopIds;
const prompts = countdown.prompts('short');
const problems = Array.from({ length: 30 }, (_, i) => ({ id: `p${i}`, nums: [3, 2, 1], target: 7 }));
const withChoices = {
  ...countdown,
  choices: () => ({ context: '3 2 1 to', continuations: [' 6', ' 7'], answer: 1 }),
};
const entry = (by: SuiteEntry['by'], task: unknown = countdown): SuiteEntry =>
  ({ task: task as Task, prompts, problems, by }) satisfies SuiteEntry;

/** Passes where a draw in 8 is below `skill`. */
function playerOf(skill: number): (of: SuiteEntry) => Player {
  const engine = makeFakeEngine((_, index, seed) => {
    const passes = hash32(seed, index, 0) % 8 < skill;
    return [...tokenizer.encode(passes ? '3 * 2 + 1' : '3 + 2 + 1'), stop];
  });
  return ({ task }) =>
    makePlayer(engine, START_MODEL, task, prompts, {
      temperature: 1,
      maxAttemptTokens: 12,
      maxReflectionTokens: 12,
    });
}

test('each entry gives a row for each problem, with its accuracy', async () => {
  const suite = [entry('generation'), entry('log-probability', withChoices)];
  const seen: string[] = [];
  const [generated, scored] = await measureForgetting(playerOf(4), suite, {
    seed: 1,
    onProgress: (task, done, total) => seen.push(`${task} ${done}/${total}`),
  });
  expect(generated?.rows.map(({ problem }) => problem)).toEqual(problems.map(({ id }) => id));
  const passes = generated?.rows.filter((row) => row.passed === true).length ?? 0;
  expect(generated?.accuracy).toMatchObject({ rate: passes / 30, n: 30 });
  expect(passes).toBeGreaterThan(3);
  expect(passes).toBeLessThan(27);
  expect(scored?.rows.every(({ bySum }) => typeof bySum === 'boolean')).toBe(true);
  expect(seen).toContain('countdown 30/30');
});

test('two models see the same draws, and what one lost is counted problem by problem', async () => {
  const measure = (skill: number): Promise<TaskResult[]> =>
    measureForgetting(playerOf(skill), [entry('generation')], { seed: 1 });
  const [before, after] = [await measure(6), await measure(3)];
  expect(await measure(6)).toEqual(before);
  const [change] = compareForgetting(before, after);
  expect(change).toMatchObject({ task: 'countdown', gained: 0 });
  expect(change?.lost).toBeGreaterThan(3);
  expect(change?.change.diff).toBeCloseTo(-(change?.lost ?? 0) / 30, 12);
  expect(change?.change.high).toBeLessThan(0);
});

test('a model compared with itself has changed nothing', async () => {
  const results = await measureForgetting(playerOf(4), [entry('generation')], { seed: 1 });
  expect(compareForgetting(results, results)[0]).toMatchObject({
    change: { diff: 0, low: 0, high: 0, n: 30 },
    lost: 0,
    gained: 0,
  });
});

test('what was not judged in one of the models is left out of the comparison', () => {
  const accuracy = { rate: 1, low: 0, high: 1, n: 1 };
  const result = (rows: TaskResult['rows']): TaskResult => ({ task: 't', by: 'generation', rows, accuracy });
  const before = result([
    { problem: 'a', passed: true },
    { problem: 'b', passed: null },
    { problem: 'c', passed: true },
  ]);
  const after = result([
    { problem: 'c', passed: false },
    { problem: 'b', passed: true },
    { problem: 'a', passed: true },
  ]);
  expect(compareForgetting([before], [after])[0]).toMatchObject({
    change: { n: 2 },
    lost: 1,
    gained: 0,
    notJudged: 1,
  });
  expect(compareForgetting([before], [])).toEqual([]);
});

test('a task that stands in a suite twice is compared by its place', () => {
  const accuracy = { rate: 1, low: 0, high: 1, n: 1 };
  const result = (problem: string, solved: boolean): TaskResult => ({
    task: 't',
    by: 'generation',
    rows: [{ problem, passed: solved }],
    accuracy,
  });
  const before = [result('a', true), result('b', true)];
  expect(compareForgetting(before, [result('a', true), result('b', false)])).toMatchObject([
    { change: { n: 1 }, lost: 0 },
    { change: { n: 1 }, lost: 1 },
  ]);
});

test('a problem that does not fit the context is not judged', async () => {
  const engine = makeFakeEngine(() => [stop], { contextLength: 14 });
  const player = makePlayer(engine, START_MODEL, countdown, prompts, {
    temperature: 0,
    maxAttemptTokens: 12,
    maxReflectionTokens: 12,
  });
  const [result] = await measureForgetting(() => player, [entry('generation')], {
    seed: 1,
  });
  expect(result?.accuracy.n).toBe(0);
  expect(result?.rows[0]?.passed).toBeNull();
});
