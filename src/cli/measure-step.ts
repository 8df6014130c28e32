/**
 * Seconds of a Reflect, Retry, Reward step, estimated from a little of one.
 *
 * Each part (sampling, prompts, training) is done a few times and twice as often; what one more costs is the difference,
 * so that what is paid once does not count. Sampling and training grow in proportion to
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

/** Long enough for the clock and for what else the machine does. */
const LEAST_SECONDS = 0.3;
const MOST_UNITS = 256;
/** Tokens of a measured prompt or sequence, where the context has room for them. */
const LENGTH = 48;

export async function measureStep(
  io: Io,
  shape: StepShape,
  options: Omit<LocalEngineOptions, 'kernels'>,
): Promise<StepEstimate> {
  return withEngine(openEngine(io, { ...options, trainable: true }), async (engine) => {
    const { groups, numGenerations: G, promptTokens, reflectionTokens, bridgeTokens, retryTokens } = shape;
    const rows = groups * G;
    const { contextLength } = engine.capabilities();
    const length = Math.max(2, Math.min(LENGTH, contextLength >> 1));
    const perSampled = await perUnit((count) => decode(engine, rows, Math.min(count, contextLength - 4)));
    const perPrompt = (await perUnit((count) => prefill(engine, length, count))) / length;
    const perTrained = (await perUnit((count) => train(engine, length, count))) / length;
    const sample =
      perSampled * (reflectionTokens + retryTokens) +
      perPrompt * (groups * promptTokens + rows * bridgeTokens);
    const trainSeconds = perTrained * (groups * promptTokens + rows * reflectionTokens);
    return { sample, train: trainSeconds, total: sample + trainSeconds };
  });
}

/** Seconds of one more unit of work, from twice and once as many, as many as take long enough. */
async function perUnit(work: (count: number) => Promise<number>): Promise<number> {
  await work(1);
  for (let count = 1; ; count *= 2) {
    const once = await work(count);
    const twice = await work(2 * count);
    if (twice >= LEAST_SECONDS || count >= MOST_UNITS) return Math.max(0, twice - once) / count;
  }
}

/** Numbers prompts, so that none is in the cache. */
let salt = 0;

/** Seconds to sample `count` tokens for each of `rows` completions. */
function decode(engine: Engine, rows: number, count: number): Promise<number> {
  const params = { temperature: 1, maxTokens: count, stopIds: [] };
  return seconds(() => engine.sample({ prompt: freshTokens(engine, 2), count: rows, params, seed: 1 }));
}

/** Seconds to compute prompts that have nothing in common. */
function prefill(engine: Engine, length: number, count: number): Promise<number> {
  const params = { temperature: 1, maxTokens: 1, stopIds: [] };
  const prompts = Array.from({ length: count }, () => freshTokens(engine, length));
  return seconds(() =>
    Promise.all(prompts.map((prompt) => engine.sample({ prompt, count: 1, params, seed: 1 }))),
  );
}

/** Seconds to train on sequences, half of whose tokens are scored. */
function train(engine: Engine, length: number, count: number): Promise<number> {
  const datums = Array.from({ length: count }, () => ({
    tokens: freshTokens(engine, length),
    positions: Array.from({ length: length >> 1 }, (_, i) => length - (length >> 1) + i),
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

function freshTokens(engine: Engine, length: number): number[] {
  const { vocabularySize } = engine.capabilities();
  salt++;
  return Array.from({ length }, (_, i) => (i * 7919 + salt * 104_729) % vocabularySize);
}

async function seconds(work: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await work();
  return (performance.now() - start) / 1000;
}
