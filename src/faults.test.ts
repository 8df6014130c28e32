/** What an engine that fails, a kill and Ctrl-C do to a run: nothing is lost, nothing counted twice, nothing scored 0. */
import { cpSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import type { Engine, SampleRequest } from './engine/engine.ts';
import { makeFakeEngine } from './engine/fake.ts';
import { evaluate, type RowLog } from './evaluate.ts';
import { R3Error } from './lib/errors.ts';
import { hash32 } from './lib/rng.ts';
import type { PartName } from './method/evaluation-rows.ts';
import { failureOf } from './method/testing.ts';
import { mine } from './mine.ts';
import { makePlayer, type Player } from './player.ts';
import { START_MODEL } from './quickstart.ts';
import { createRun, openRun, readRun, type Run } from './runs/run.ts';
import { countdown, type CountdownProblem } from './tasks/countdown.ts';
import { loadChatFormat } from './text/chat.ts';
import { loadTokenizer } from './text/tokenizer.ts';
import { saveCheckpoint, train } from './train.ts';
import { defaultTrainOptions, STALE_CORRECTION, type TrainOptions } from './train-options.ts';

const directory = mkdtempSync(join(tmpdir(), 'faults-'));
afterAll(() => rmSync(directory, { recursive: true }), 60_000);

const tokenizer = loadTokenizer(START_MODEL);
const [stop = 0] = loadChatFormat(START_MODEL, tokenizer).stopIds;
const ids = (text: string): number[] => [...tokenizer.encode(text), stop];
const REFLECTIONS = ['be careful', 'first 3 * 2 = 6', 'too big'].map(ids);
const ANSWERS = ['3 * 2 + 1', '3 + 2 + 1'].map(ids);

const problems: CountdownProblem[] = Array.from({ length: 12 }, (_, i) => ({
  id: `p${i}`,
  nums: [3, 2, 1],
  target: 7,
}));
const failures = problems.map((problem) =>
  failureOf(problem, { tokens: ids('3 + 2'), logprobs: [-1, -1, -1, -1], text: '3 + 2', stopReason: 'stop' }),
);
const options: TrainOptions = {
  ...defaultTrainOptions(),
  steps: 4,
  failuresPerStep: 3,
  reflectionsPerFailure: 3,
  checkpointEvery: 2,
};
const AHEAD: Partial<TrainOptions> = {
  maxStaleness: 2,
  loss: { ...options.loss, importanceSamplingCorrection: STALE_CORRECTION },
};

const scripted = (): Engine =>
  makeFakeEngine((prompt, index, seed) => {
    const draw = hash32(seed, index, prompt.length);
    const asksToReflect = tokenizer.decode([...prompt]).endsWith('why?');
    return (asksToReflect ? REFLECTIONS[draw % 3] : ANSWERS[draw % 2]) ?? [];
  });
const playerOn = (engine: Engine): Player<CountdownProblem> =>
  makePlayer(engine, START_MODEL, countdown, countdown.prompts('short'), {
    temperature: 1,
    maxAttemptTokens: 20,
    maxReflectionTokens: 20,
  });

const unanswered = new R3Error('engine', 'no-network', 'no answer after 5 resends');
/** Fails each request that `fails`. */
function failingOn(fails: (request: SampleRequest) => boolean, error: Error = unanswered): Engine {
  const engine = scripted();
  return {
    ...engine,
    sample: async (request) => {
      if (fails(request)) throw error;
      return engine.sample(request);
    },
  };
}

/** A run that begins, with its first checkpoint. */
async function begun(name: string): Promise<Run> {
  const run = createRun(join(directory, name), { version: 1 });
  run.appendFailures(failures);
  await saveCheckpoint(run, scripted(), 0);
  return run;
}
const logsOf = (name: string): string[] =>
  ['metrics', 'episodes', 'failures'].map((log) =>
    readFileSync(join(directory, name, `${log}.jsonl`), 'utf8'),
  );
const material = { failures, problems };

/** Everything that touches the engine or the run; `before` is told of each call. */
function watched(engine: Engine, run: Run, before: (name: string) => void): { engine: Engine; run: Run } {
  const telling = <T extends object>(target: T, names: readonly string[]): T => {
    const entries = Object.entries(target).map(([name, value]: [string, unknown]) => [
      name,
      names.includes(name) && typeof value === 'function'
        ? (...given: unknown[]): unknown => {
            before(name);
            return (value as (...all: unknown[]) => unknown)(...given);
          }
        : value,
    ]);
    return Object.fromEntries(entries) as T;
  };
  return {
    engine: telling(engine, ['sample', 'logprobs', 'forwardBackward', 'step', 'saveState']),
    run: telling(run, [
      'appendGroup',
      'appendMetrics',
      'appendTimings',
      'saveCheckpoint',
      'pruneCheckpoints',
    ]),
  };
}

describe.each([
  ['each step when it begins', options],
  [
    'steps ahead, everything trained',
    {
      ...options,
      ...AHEAD,
      trainTokens: 'all',
      firstAttempts: 'on-policy',
      mining: { ...options.mining, samples: 3 },
    },
  ],
  ['failures mined anew, steps ahead', { ...options, ...AHEAD, firstAttempts: 'refreshed', refreshEvery: 2 }],
] as [string, TrainOptions][])('a run that samples %s', (name, chosen) => {
  test('is killed before any kind of call and resumed: to the same bytes', async () => {
    const run = await begun(`${name} whole`);
    const counts = new Map<string, number>();
    const killed: string[] = [];
    // A kill leaves the folder as it is at that moment.
    const spied = watched(scripted(), run, (call) => {
      const count = (counts.get(call) ?? 0) + 1;
      counts.set(call, count);
      if (count !== (call === 'sample' ? 30 : call === 'saveState' ? 2 : 3)) return;
      const copy = `${name} killed at ${call} ${count}`;
      cpSync(run.directory, join(directory, copy), { recursive: true });
      killed.push(copy);
    });
    await train(spied.run, playerOn(spied.engine), material, chosen);
    run.close();
    expect(counts.size).toBe(10);
    expect(killed.length).toBeGreaterThan(7);
    for (const path of killed) {
      await goOn(path, chosen);
      expect(logsOf(path), path).toEqual(logsOf(`${name} whole`));
      rmSync(join(directory, path), { recursive: true });
    }
  });

  test('is stopped by Ctrl-C after a step and resumed: to the same bytes, with each step trained once', async () => {
    for (const at of [0, 2]) {
      const path = `${name} stopped ${at}`;
      const run = await begun(path);
      const stopping = new AbortController();
      const done = await train(run, playerOn(scripted()), material, chosen, {
        signal: stopping.signal,
        onStep: ({ step }) => step === at && stopping.abort(),
      });
      run.close();
      expect(done).toBe(at + 1);
      await goOn(path, chosen);
      expect(logsOf(path)).toEqual(logsOf(`${name} whole`));
      const { metrics } = readRun(join(directory, path));
      expect(metrics.map(({ step }) => step)).toEqual([0, 1, 2, 3]);
    }
  });
});

async function goOn(path: string, chosen: TrainOptions): Promise<void> {
  const run = openRun(join(directory, path));
  const { checkpoint } = run.resume();
  const minedAt = (checkpoint as { state: { source: { minedAt: number } } }).state.source.minedAt;
  const all = readFileSync(join(run.directory, 'failures.jsonl'), 'utf8').trim().split('\n');
  const present = all
    .map((line) => JSON.parse(line) as (typeof failures)[number])
    .filter((failure) => (failure.minedAt ?? 0) === minedAt);
  await train(run, playerOn(scripted()), { failures: present, problems }, chosen);
  run.close();
}

test('episodes that are sampled ahead say how stale they are, and one step waits for those of the next', async () => {
  const run = await begun('stale');
  const engine = scripted();
  const order: string[] = [];
  const noted: Engine = {
    ...engine,
    sample: async (request) => {
      const completions = await engine.sample(request);
      order.push('sampled');
      return completions;
    },
    step: (adam) => {
      order.push('step');
      return engine.step(adam);
    },
  };
  await train(run, playerOn(noted), material, { ...options, ...AHEAD, steps: 5 });
  run.close();
  const { metrics, episodes } = readRun(join(directory, 'stale'));
  expect(metrics.map(({ staleness }) => staleness)).toEqual([0, 1, 2, 2, 2]);
  for (const { step, staleness } of episodes()) expect(staleness).toBe(Math.min(step, 2));
  // Three steps from the start weights, one from those of each of the next two, none after that.
  const requests = 3 * (1 + 3);
  const perStep = order
    .join(' ')
    .split('step')
    .map((part) => part.split('sampled').length - 1);
  expect(perStep).toEqual([3 * requests, requests, requests, 0, 0, 0]);
});

test('a group that the engine fails on is left out by name, and the others are trained as they are', async () => {
  // The reflections of the second group of step 1.
  const failing = hash32(hash32(options.seed, 1, 1), 0, 0);
  const whole = await begun('whole');
  await train(whole, playerOn(scripted()), material, options);
  whole.close();
  const run = await begun('left out');
  await train(run, playerOn(failingOn(({ seed }) => seed === failing)), material, options);
  run.close();

  const { metrics, episodes } = readRun(join(directory, 'left out'));
  expect(metrics.map((row) => [row['groups'], row['groups/leftOut']])).toEqual([
    [3, undefined],
    [2, 1],
    [3, undefined],
    [3, undefined],
  ]);
  const lines = readFileSync(join(directory, 'left out', 'episodes.jsonl'), 'utf8')
    .trim()
    .split('\n');
  const records = lines.map((line) => JSON.parse(line) as { step: number; group: string; error?: string });
  const [left, ...more] = records.filter(({ error }) => error !== undefined);
  expect(more).toEqual([]);
  expect(left).toMatchObject({ step: 1, episodes: [], error: unanswered.message });
  // No group is lost, and none has an episode that was not sampled.
  const groups = (name: string): string[] =>
    readFileSync(join(directory, name, 'episodes.jsonl'), 'utf8')
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { step: number; group: string })
      .map(({ step, group }) => `${step} ${group}`);
  expect(groups('left out').toSorted()).toEqual(groups('whole').toSorted());
  expect([...episodes()].filter(({ reward }) => reward === null)).toEqual([]);
  expect([...episodes()]).toHaveLength(11 * 3);
});

test('a step of which most groups fail stops the run, which goes on where it was', async () => {
  const whole = await begun('answered');
  await train(whole, playerOn(scripted()), material, options);
  whole.close();
  const run = await begun('unanswered');
  let asked = 0;
  const engine = failingOn(() => ++asked > 30);
  await expect(train(run, playerOn(engine), material, options)).rejects.toMatchObject({
    code: 'incomplete',
    message: expect.stringMatching(
      /^the groups of step \d: expected the engine to answer for at least half of 3, .* no answer after 5 resends$/,
    ) as string,
  });
  run.close();
  await goOn('unanswered', options);
  expect(logsOf('unanswered')).toEqual(logsOf('answered'));
});

test.each([
  ['a wrong option', new R3Error('engine', 'bad-option', 'temperature: no')],
  ['a key that is refused', new R3Error('engine', 'no-access', 'key: no')],
  ['a cancellation', new R3Error('engine', 'cancelled', 'stopped')],
  ['a turn that is too long', new R3Error('task', 'too-long', 'a turn')],
  ['a fault of ours', new TypeError('x is undefined')],
])('%s is no failure of one group: it ends the run', async (name, error) => {
  const run = await begun(name);
  let asked = 0;
  const engine = failingOn(() => ++asked === 5, error);
  await expect(train(run, playerOn(engine), material, options)).rejects.toBe(error);
  run.close();
});

test('mining leaves out problems that the engine fails on, and stops where most are such', async () => {
  const seeds = new Set<number>();
  const mining = { ...options.mining, seed: 3 };
  const all = await mine(playerOn(failingOn(({ seed }) => !seeds.add(seed))), problems, mining);
  expect(all.leftOut).toEqual([]);
  const [failing = 0] = [...seeds].slice(2);
  const some = await mine(playerOn(failingOn(({ seed }) => seed === failing)), problems, mining);
  expect(some.leftOut).toEqual([{ problem: 'p2', error: unanswered.message }]);
  expect(some.attempts).toBe(problems.length - 1);
  expect(some.unscored).toBe(0);
  expect(some.failures).toEqual(all.failures.filter(({ problem }) => problem.id !== 'p2'));
  await expect(mine(playerOn(failingOn(() => true)), problems, mining)).rejects.toMatchObject({
    code: 'incomplete',
  });
});

test('an evaluation keeps no row that the engine failed on, does not end without it, and asks again', async () => {
  const evaluation = { seed: 3, fixedText: 'be careful' };
  const whole = await evaluate(playerOn(scripted()), problems, evaluation);
  const rows = new Map<PartName, { place: number }[]>();
  const log: RowLog = {
    kept: (part) => (rows.get(part) ?? []) as never,
    keep: (part, row) => void rows.set(part, [...(rows.get(part) ?? []), row]),
  };
  let asked = 0;
  const failing = failingOn(() => [3, 9].includes(++asked));
  await expect(evaluate(playerOn(failing), problems, { ...evaluation, log })).rejects.toMatchObject({
    code: 'incomplete',
    message: expect.stringMatching(
      /^the evaluation: expected a row for each of 12 problems .* on 2: /,
    ) as string,
  });
  expect(rows.get('tries')).toHaveLength(10);
  const samples: number[] = [];
  const again = failingOn(({ seed }) => samples.push(seed) < 0);
  const { rows: got } = await evaluate(playerOn(again), problems, { ...evaluation, log });
  expect(got).toEqual(whole.rows);
  expect(
    rows
      .get('tries')
      ?.map(({ place }) => place)
      .toSorted((a, b) => a - b),
  ).toEqual(problems.map((_, i) => i));
});
