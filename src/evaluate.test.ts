import { expect, test } from 'vitest';
import type { Capabilities } from './engine/engine.ts';
import { makeFakeEngine, type FakeEngine } from './engine/fake.ts';
import { crossReadings, evaluate, klToStart, measure, measureTogether, profileOf } from './evaluate.ts';
import { hash32 } from './lib/rng.ts';
import { makePlayer, type Player } from './player.ts';
import { START_MODEL } from './quickstart.ts';
import { countdown, type CountdownProblem } from './tasks/countdown.ts';
import { loadChatFormat } from './text/chat.ts';
import { loadTokenizer } from './text/tokenizer.ts';

const tokenizer = loadTokenizer(START_MODEL);
const [stop = 0] = loadChatFormat(START_MODEL, tokenizer).stopIds;
const ids = (text: string): number[] => [...tokenizer.encode(text), stop];
const MAX_REFLECTION = 12;
const problems = Array.from({ length: 40 }, (_, i) => ({ id: `p${i}`, nums: [3, 2, 1], target: 7 }));
const options = { seed: 5, fixedText: 'be careful' };

/** A model that passes by chance, more often after a reflection that begins with `liked`; it writes `liked` always. */
function model(liked: string): {
  engine: FakeEngine;
  playerAt: (temperature: number) => Player<CountdownProblem>;
} {
  const likedId = tokenizer.encode(liked)[0] ?? 0;
  const engine = makeFakeEngine((prompt, index, seed) => {
    const text = tokenizer.decode([...prompt]);
    const draw = hash32(seed, index, prompt.length) % 4;
    if (text.includes('why') && !text.includes('again'))
      return draw === 0 ? Array.from({ length: MAX_REFLECTION }, () => likedId) : [likedId, stop];
    return ids(draw === 0 || (draw < 3 && prompt.includes(likedId)) ? '3 * 2 + 1' : '3 + 2 + 1');
  });
  const playerAt = (temperature: number): Player<CountdownProblem> =>
    makePlayer(engine, START_MODEL, countdown, countdown.prompts('short'), {
      temperature,
      maxAttemptTokens: 20,
      maxReflectionTokens: MAX_REFLECTION,
    });
  return { engine, playerAt };
}

const count = (outcomes: readonly (boolean | null)[]): number => outcomes.filter(Boolean).length;

test('a problem has a second try exactly when its first failed, and a reflection that does not end fails', async () => {
  const { rows, failed } = await evaluate(model('try').playerAt(1), problems, options);
  expect(rows.map(({ problem }) => problem)).toEqual(problems.map(({ id }) => id));
  for (const row of rows) expect(row.secondTry === null).toBe(row.firstTry.passed);
  const endless = failed.filter(({ reflection }) => reflection.stopReason !== 'stop');
  expect(endless.length).toBeGreaterThan(0);
  for (const { retry, place } of endless) {
    expect(retry).toBeNull();
    expect(rows[place]?.secondTry).toEqual({ passed: false, tokens: MAX_REFLECTION });
  }
});

test('two evaluations with one seed are equal, and another seed gives another', async () => {
  const rowsAt = async (seed: number): Promise<unknown> =>
    (await evaluate(model('try').playerAt(1), problems, { ...options, seed })).rows;
  expect(await rowsAt(5)).toEqual(await rowsAt(5));
  expect(await rowsAt(6)).not.toEqual(await rowsAt(5));
});

test("the start model's reflections are read as they were evaluated; only the trained model writes again", async () => {
  const [start, trained] = [model('try'), model('first')];
  const evaluation = await evaluate(start.playerAt(1), problems, options);
  start.engine.calls.samples.length = 0;
  let done = 0;
  const outcomes = await crossReadings(evaluation, trained.playerAt(1), options.seed, () => done++);
  const asked = (engine: FakeEngine): number =>
    engine.calls.samples.filter(({ params }) => params.maxTokens === MAX_REFLECTION).length;
  const { length } = evaluation.failed;
  expect([asked(start.engine), asked(trained.engine)]).toEqual([0, length]);
  expect(done).toBe(5 * length);
  for (const list of Object.values(outcomes)) expect(list).toHaveLength(length);
  // Each reader passes more often after the beginning that it likes.
  expect(count(outcomes.startStart)).toBeGreaterThan(count(outcomes.trainedStart));
  expect(count(outcomes.trainedTrained)).toBeGreaterThan(count(outcomes.startTrained));
});

test('every phase counts up to its total, and the forced beginning is the commonest of the trained model', async () => {
  const [start, trained] = [model('try'), model('first')];
  const phases: { name: string; total: number | undefined; done: number[] }[] = [];
  const watcher = {
    phase: (name: string, total?: number) => void phases.push({ name, total, done: [] }),
    update: (done: number) => void phases.at(-1)?.done.push(done),
  };
  const before = await measure('the start model', start.playerAt, 1, problems, options, watcher);
  const after = await measure('the trained model', trained.playerAt, 1, problems, options, watcher);
  const { forcedBeginning } = await measureTogether(before, after, options.seed, watcher);
  expect(phases.map(({ name }) => name)).toEqual([
    'measure the start model',
    'measure the start model, greedy',
    'measure the trained model',
    'measure the trained model, greedy',
    'who gains: writer or reader',
    'force the beginning of reflections',
  ]);
  for (const { total = 0, done } of phases) {
    expect(done).toEqual(Array.from({ length: total }, (_, i) => i + 1));
    expect(total).toBeGreaterThan(0);
  }
  expect(forcedBeginning).toEqual([...tokenizer.encode('first')]);
  for (const { rows } of [before.sampled, before.greedy]) {
    for (const row of rows) expect(row.afterForcedBeginning === null).toBe(row.firstTry.passed);
  }
  for (const row of after.sampled.rows) expect(row.afterForcedBeginning).toBeUndefined();
});

test('reflections have kinds where the task tells them, and no share of what it does not tell', async () => {
  const evaluation = await evaluate(model('try').playerAt(1), problems, options);
  expect(profileOf(evaluation)).toMatchObject({ kinds: { other: expect.closeTo(1, 9) }, trueHints: 0 });
  const { describeReflection: _, ...task } = countdown;
  const untold = { ...evaluation, player: { ...evaluation.player, task } };
  expect(profileOf(untold)).toMatchObject({ kinds: {}, trueHints: Number.NaN, trueOfHints: Number.NaN });
});

test('the KL to the start model is 0 for the start model itself, and counts every problem', async () => {
  const player = model('try').playerAt(1);
  const evaluation = await evaluate(player, problems, options);
  const done: number[] = [];
  const watcher = { phase: () => undefined, update: (n: number) => void done.push(n) };
  expect(await klToStart(evaluation, player, watcher)).toBe(0);
  expect(done.at(-1)).toBe(evaluation.failed.length);
  const { logprobs, ...engine } = player.engine;
  const twice: typeof player.engine = {
    ...engine,
    logprobs: async (...asked) => (await logprobs(...asked)).map((values) => values.map((v) => v - Math.LN2)),
  };
  // d = -log 2 at each token: 1/2 + log 2 - 1.
  expect(await klToStart(evaluation, { ...player, engine: twice }, watcher)).toBeCloseTo(Math.LN2 - 0.5, 6);
  const capabilities = (): Capabilities => ({ ...engine.capabilities(), scoresAt: 0.5 });
  const elsewhere = { ...evaluation, player: { ...player, engine: { ...player.engine, capabilities } } };
  expect(await klToStart(elsewhere, player, watcher)).toBeNaN();
});
