/**
 * Seconds of a Reflect, Retry, Reward step, estimated from a little of one.
 *
 * One group is sampled and trained with few tokens of each part, twice as many the second time; what a part costs per
 * token is the difference, so that what is paid once does not count. Sampling and training grow in proportion to
 * tokens as long as attention is a small part, which it is at the lengths of this method.
 */
import type { Engine } from '../engine/engine.ts';
import type { LocalEngineOptions } from '../engine/local/core.ts';
import type { Io } from './io.ts';
import { openEngine, withEngine } from './session.ts';

export interface StepShape {
  /** Failures. */
  groups: number;
  /** Reflections on each. */
  numGenerations: number;
  promptTokens: number;
  reflectionTokens: number;
  /** Between reflection and retry. */
  bridgeTokens: number;
  retryTokens: number;
}

export interface StepEstimate {
  sample: number;
  train: number;
  total: number;
}

/** Tokens that are sampled for each completion, and of each prompt, in the shorter measurement. */
const SAMPLED = 6;
const PROMPT = 48;

export async function measureStep(
  io: Io,
  shape: StepShape,
  options: Omit<LocalEngineOptions, 'kernels'>,
): Promise<StepEstimate> {
  return withEngine(openEngine(io, { ...options, trainable: true }), async (engine) => {
    const { groups, numGenerations: G, promptTokens, reflectionTokens, bridgeTokens, retryTokens } = shape;
    const rows = groups * G;
    await decode(engine, rows, 2);
    const perSampled = slope(
      await decode(engine, rows, SAMPLED),
      await decode(engine, rows, 2 * SAMPLED),
      SAMPLED,
    );
    const perPrompt = slope(
      await prefill(engine, PROMPT * 4, 1),
      await prefill(engine, PROMPT * 8, 2),
      PROMPT * 4,
    );
    const perTrained = slope(await train(engine, 1, PROMPT), await train(engine, 2, PROMPT), PROMPT);
    const sample =
      perSampled * (reflectionTokens + retryTokens) +
      perPrompt * (groups * promptTokens + rows * bridgeTokens);
    const trainSeconds = perTrained * (groups * promptTokens + rows * reflectionTokens);
    return { sample, train: trainSeconds, total: sample + trainSeconds };
  });
}

function slope(shorter: number, longer: number, tokens: number): number {
  return Math.max(0, longer - shorter) / tokens;
}

/** Seconds to sample `count` tokens for each of `rows` completions. */
function decode(engine: Engine, rows: number, count: number): Promise<number> {
  const params = { temperature: 1, maxTokens: count, stopIds: [] };
  return seconds(() =>
    engine.sample({ prompt: freshTokens(engine, 4, count), count: rows, params, seed: 1 }),
  );
}

/** Seconds to compute a prompt that the cache does not hold. */
function prefill(engine: Engine, length: number, salt: number): Promise<number> {
  const params = { temperature: 1, maxTokens: 1, stopIds: [] };
  return seconds(() =>
    engine.sample({ prompt: freshTokens(engine, length, 100 + salt), count: 1, params, seed: 1 }),
  );
}

/** Seconds to train on sequences, half of whose tokens are scored. */
function train(engine: Engine, count: number, length: number): Promise<number> {
  const datums = Array.from({ length: count }, (_, n) => ({
    tokens: freshTokens(engine, length, 200 + n),
    positions: Array.from({ length: length >> 1 }, (__, i) => (length >> 1) + i),
  }));
  return seconds(async () => {
    await engine.forwardBackward(datums, (logprobs) => ({
      loss: 0,
      gradients: logprobs.map((row) => new Float32Array(row.length).fill(1e-3)),
      metrics: {},
    }));
    await engine.zeroGradients();
  });
}

/** Different tokens for each salt. */
function freshTokens(engine: Engine, length: number, salt: number): number[] {
  const { vocabularySize } = engine.capabilities();
  return Array.from({ length }, (_, i) => (i * 7919 + salt * 104_729) % vocabularySize);
}

async function seconds(work: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await work();
  return (performance.now() - start) / 1000;
}
