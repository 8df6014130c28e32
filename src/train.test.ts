import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Datum, Engine } from './engine/engine.ts';
import { openLocalEngine } from './engine/local/local-engine.ts';
import { sha256File } from './lib/files.ts';
import type { Episode, Failure } from './method/episode.ts';
import { mine } from './mine.ts';
import { makePlayer, type Player, type PlayerOptions } from './player.ts';
import { START_MODEL } from './quickstart.ts';
import { createRun, openRun, readRun, type Run } from './runs/run.ts';
import { countdown, type CountdownProblem } from './tasks/countdown.ts';
import { generateProblems } from './tasks/countdown-generator.ts';
import { requireEnough, saveCheckpoint, train } from './train.ts';
import { defaultTrainOptions, STALE_CORRECTION, type TrainOptions } from './train-options.ts';

const problems = generateProblems({ count: 40, split: 'rl', numbers: 3, seed: 5 });
const directory = mkdtempSync(join(tmpdir(), 'train-'));
let failures: Failure<CountdownProblem>[];

const options: TrainOptions = {
  ...defaultTrainOptions(),
  steps: 3,
  failuresPerStep: 3,
  reflectionsPerFailure: 4,
  learningRate: 1e-3,
  checkpointEvery: 1,
  keepCheckpoints: 9,
};

/** Options that depart from the paper's, one or a few at a time. */
const CHOICES: Record<string, Partial<TrainOptions> & { player?: Partial<PlayerOptions> }> = {
  'as in the paper': {},
  'refreshed failures': { firstAttempts: 'refreshed', refreshEvery: 2 },
  'on-policy failures': { firstAttempts: 'on-policy', mining: { ...options.mining, samples: 2 } },
  'refilled groups': { zeroVariance: 'refill' },
  'dropped groups': { zeroVariance: 'drop' },
  'trained retries': { trainTokens: 'retry' },
  'trained reflections and retries': { trainTokens: 'both' },
  'everything trained': {
    trainTokens: 'all',
    firstAttempts: 'on-policy',
    mining: { samples: 4, maxPerProblem: 1, keepFailures: 'any' },
  },
  'several retries': { retriesPerReflection: 3 },
  'several rounds': { rounds: 3 },
  'several iterations': { numIterations: 2, loss: { ...options.loss, epsilon: 0.2 } },
  'GSPO, leave-one-out': {
    loss: { ...options.loss, importanceSamplingLevel: 'sequence' },
    advantages: { ...options.advantages, estimator: 'rloo' },
  },
  'steps sampled ahead': {
    maxStaleness: 1,
    loss: { ...options.loss, importanceSamplingCorrection: STALE_CORRECTION },
  },
  distillation: { distillationRate: 1e-4 },
  'the attempt dropped': { player: { dropAttempt: true }, trainTokens: 'both' },
  'GRPO on retries': { method: 'retries' },
  'GRPO on attempts': { method: 'attempts' },
  'rejection sampling': { method: 'rejection-sampling' },
};

function playerOn(engine: Engine, changed: Partial<PlayerOptions> = {}): Player<CountdownProblem> {
  return makePlayer(engine, START_MODEL, countdown, countdown.prompts('short'), {
    temperature: 1,
    maxAttemptTokens: 20,
    maxReflectionTokens: 24,
    ...changed,
  });
}

/** The engine, and every sequence that it is given to train. */
function watched(engine: Engine, trained: Datum[]): Engine {
  return {
    ...engine,
    forwardBackward: (datums, loss, scoring) => {
      trained.push(...datums);
      return engine.forwardBackward(datums, loss, scoring);
    },
  };
}

async function withRun<T>(run: Run, work: (engine: Engine) => Promise<T>): Promise<T> {
  const engine = await openLocalEngine({ model: START_MODEL, threads: 1 });
  try {
    return await work(engine);
  } finally {
    run.close();
    await engine.close();
  }
}

beforeAll(async () => {
  const engine = await openLocalEngine({ model: START_MODEL, trainable: false, threads: 1 });
  const mined = await mine(playerOn(engine), problems, { ...options.mining, seed: 1 });
  await engine.close();
  failures = mined.failures;
  expect(failures.length).toBeGreaterThan(5);
});

afterAll(() => rmSync(directory, { recursive: true }));

test.each(Object.entries(CHOICES))(
  '%s: trained tokens are sampled ones, and a run that is stopped and resumed writes the same bytes',
  async (name, { player: changed, ...choices }) => {
    const chosen = { ...options, ...choices };
    const trained: Datum[] = [];
    const whole = join(directory, `${name} whole`);
    const started = (path: string): Run => {
      const run = createRun(path, { version: 1 });
      run.appendFailures(failures);
      return run;
    };
    const play = async (run: Run, steps: number): Promise<void> =>
      withRun(run, async (engine) => {
        const { checkpoint } = run.latestCheckpoint();
        if (checkpoint === null) await saveCheckpoint(run, engine, 0);
        const stop = new AbortController();
        const minedAt =
          (checkpoint?.state as { source?: { minedAt: number } } | undefined)?.source?.minedAt ?? 0;
        const set = minedAt === 0 ? failures : refreshedSet(run.directory, minedAt);
        const done = await train(
          run,
          playerOn(watched(engine, trained), changed),
          { failures: set, problems },
          chosen,
          { signal: stop.signal, onStep: ({ step }) => step + 1 === steps && stop.abort() },
        );
        expect(done).toBe(steps);
      });
    await play(started(whole), 3);
    const episodes = [...readRun(whole).episodes()];
    checkTrained(episodes, trained);
    checkGroups(episodes);

    const resumed = join(directory, `${name} resumed`);
    await play(started(resumed), 2);
    const goingOn = openRun(resumed);
    goingOn.resume();
    await play(goingOn, 3);
    for (const log of ['metrics', 'episodes', 'failures']) {
      const hash = (path: string): string => sha256File(join(path, `${log}.jsonl`));
      expect(`${log} ${hash(resumed)}`).toBe(`${log} ${hash(whole)}`);
    }
  },
);

function refreshedSet(run: string, minedAt: number): Failure<CountdownProblem>[] {
  const all = readFileSync(join(run, 'failures.jsonl'), 'utf8').trim().split('\n');
  return all
    .map((line) => JSON.parse(line) as Failure<CountdownProblem>)
    .filter((failure) => failure.minedAt === minedAt);
}

/** No two groups of a step have one id. */
function checkGroups(episodes: readonly Episode[]): void {
  const places = episodes.map(({ step, group, index }) => `${step} ${group} ${index}`);
  expect(new Set(places).size).toBe(places.length);
}

/** Every run of trained positions is, to the id, something that the model wrote in an episode. */
function checkTrained(episodes: readonly Episode[], trained: readonly Datum[]): void {
  const written = new Set(
    episodes.flatMap(({ attempt, reflection, retry, otherRetries, laterRounds }) =>
      [
        attempt,
        reflection,
        retry,
        ...(otherRetries ?? []).map((other) => other.retry),
        ...(laterRounds ?? []).flatMap((round) => [round.reflection, round.retry]),
      ].flatMap((w) => (w === null ? [] : [w.tokens.join(' ')])),
    ),
  );
  expect(trained.length).toBeGreaterThan(0);
  for (const { tokens, positions } of trained) {
    let run: number[] = [];
    positions.forEach((position, i) => {
      run.push(tokens[position] as number);
      if (positions[i + 1] === position + 1) return;
      expect(written).toContain(run.join(' '));
      run = [];
    });
  }
}

test('there are at least as many failures, or problems, as a step has groups', () => {
  const few = { failures: [1, 2], problems: [1, 2] };
  expect(() => requireEnough(few, options)).toThrow(
    /^failures: expected at least 3, .* got 2\. Give more problems or/,
  );
  expect(() => requireEnough(few, { ...options, method: 'attempts' })).toThrow(
    /^problems: expected at least 3/,
  );
  expect(() =>
    requireEnough({ ...few, problems: [1, 2, 3] }, { ...options, firstAttempts: 'on-policy' }),
  ).not.toThrow();
});
