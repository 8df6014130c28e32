/**
 * Random use of the engine, the same for the same seed, and a training loop that goes on after whatever ends it.
 *
 * What the engine answered is a list of lines, to be compared with those of the same script under faults.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { AdamParams, Datum, Loss, SampleRequest } from '../../src/engine/engine.ts';
import { openTinkerEngine, type TinkerEngine } from '../../src/engine/tinker/tinker-engine.ts';
import { messageOf, R3Error } from '../../src/lib/errors.ts';
import { makeRng, type Rng } from '../../src/lib/rng.ts';
import type { Connection } from './fault-case.ts';

export async function openOn(
  connection: Connection,
  dialect: 'protobuf' | 'json' | undefined,
): Promise<TinkerEngine> {
  return openTinkerEngine({
    ...connection,
    dialect,
    baseModel: 'models/tiny',
    vocabularySize: VOCABULARY,
    lora: { rank: 4, seed: 7 },
  });
}

/** A few rounds of calls that are made without awaiting; at the end of a round all have settled. */
export async function playEngine(engine: TinkerEngine, seed: number): Promise<string[]> {
  const rng = makeRng(seed, 3);
  const folder = mkdtempSync(join(tmpdir(), 'engine-script-'));
  const told: Promise<string>[] = [];
  const tell = (what: string, work: Promise<unknown>): void => {
    told.push(
      work.then(
        (value) => `${what} ${textOf(value)}`,
        (error: unknown) => `${what} failed: ${error instanceof R3Error ? error.code : messageOf(error)}`,
      ),
    );
  };
  let states = 0;
  const calls: (() => void)[] = [
    () => tell('sample', engine.sample(drawSample(rng))),
    () => tell('logprobs', engine.logprobs(drawDatums(rng))),
    () => tell('reference', engine.logprobs(drawDatums(rng), { weights: 'reference' })),
    () => tell('forwardBackward', engine.forwardBackward(drawDatums(rng), curved)),
    () => {
      tell('forwardBackward', engine.forwardBackward(drawDatums(rng), curved));
      tell('step', engine.step(drawAdam(rng)));
      tell('sample', engine.sample(drawSample(rng)));
    },
    () => tell('step', engine.step(drawAdam(rng))),
    () => tell('zeroGradients', engine.zeroGradients()),
    () => tell('saveState', engine.saveState(join(folder, String(states++)))),
    () => {
      if (states > 0) tell('loadState', engine.loadState(join(folder, String(states - 1))));
    },
    // The loss fails: nothing of it is left on the service, and the step is refused.
    () => {
      tell('forwardBackward', engine.forwardBackward(drawDatums(rng), failing));
      tell('step', engine.step(drawAdam(rng)));
      tell('zeroGradients', engine.zeroGradients());
    },
  ];
  try {
    for (let round = 1 + rng.below(2); round > 0; round--) {
      for (let count = 1 + rng.below(4); count > 0; count--) rng.pick(calls)();
      await Promise.all(told);
    }
    return await Promise.all(told);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Where a training loop stands: how often it had to begin anew, and what each of its steps gave, the last time. */
export interface Trained {
  errors: R3Error[];
  steps: string[];
}

/**
 * Samples, trains and saves, `count` steps; where the service ends it, goes on from the last saved state with a new
 * engine. Throws what is no R3Error.
 */
export async function trainInSteps(
  open: () => Promise<TinkerEngine>,
  seed: number,
  count: number,
): Promise<Trained> {
  const folder = mkdtempSync(join(tmpdir(), 'engine-script-'));
  const stateAt = (step: number): string => join(folder, String(step));
  const errors: R3Error[] = [];
  const steps: string[] = [];
  let saved = 0;
  let engine: TinkerEngine | undefined;
  try {
    while (steps.length < count || saved < count) {
      try {
        if (engine === undefined) {
          steps.length = saved;
          engine = await open();
          if (saved > 0) await engine.loadState(stateAt(saved));
        }
        const rng = makeRng(seed, 4 + steps.length);
        const sampled = await Promise.all([engine.sample(drawSample(rng)), engine.sample(drawSample(rng))]);
        const datums = drawDatums(rng);
        const results = await Promise.all([
          engine.forwardBackward(datums, curved),
          engine.step(drawAdam(rng)),
        ]);
        steps.push(textOf([sampled, results, await engine.logprobs(datums)]));
        // Not after every step: a run loses more than the step under way.
        if (steps.length === count || rng.below(2) === 0) {
          rmSync(stateAt(steps.length), { recursive: true, force: true });
          await engine.saveState(stateAt(steps.length));
          saved = steps.length;
        }
      } catch (error) {
        if (!(error instanceof R3Error) || errors.length > MOST_ERRORS) throw error;
        errors.push(error);
        await engine?.close();
        engine = undefined;
      }
    }
    await engine?.close();
    return { errors, steps };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

const VOCABULARY = 100;
/** More than any draw of faults makes. */
const MOST_ERRORS = 20;

function textOf(value: unknown): string {
  return JSON.stringify(value, (_, each: unknown) => (each instanceof Float32Array ? [...each] : each)) ?? '';
}

/** Neither linear nor of one sign. */
const curved: Loss = (logprobs) => ({
  loss: logprobs.flatMap((row) => [...row]).reduce((sum, x) => sum + Math.exp(x) - 0.3 * x, 0),
  gradients: logprobs.map((row) => row.map((x, i) => Math.exp(x) - (i % 2 === 0 ? 0.3 : -0.2))),
  metrics: {},
});

const failing: Loss = () => {
  throw new R3Error('engine', 'bad-shape', 'a loss that fails');
};

function drawTokens(rng: Rng, least: number): number[] {
  return Array.from({ length: least + rng.below(6) }, () => rng.below(VOCABULARY));
}

function drawSample(rng: Rng): SampleRequest {
  const params = { temperature: 1, maxTokens: 1 + rng.below(5), stopIds: [] };
  return { prompt: drawTokens(rng, 1), count: 1 + rng.below(3), params, seed: rng.seed() };
}

function drawDatums(rng: Rng): Datum[] {
  return Array.from({ length: 1 + rng.below(rng.below(3) === 0 ? 8 : 2) }, () => {
    const tokens = drawTokens(rng, 2);
    return { tokens, positions: tokens.flatMap((_, i) => (i > 0 && rng.below(3) > 0 ? [i] : [])) };
  });
}

function drawAdam(rng: Rng): AdamParams {
  const maxGradNorm = rng.below(3) === 0 ? 0.5 : undefined;
  return {
    learningRate: 0.01 * (1 + rng.below(9)),
    beta1: 0.9,
    beta2: 0.95,
    epsilon: 1e-4,
    weightDecay: 0,
    maxGradNorm,
  };
}
