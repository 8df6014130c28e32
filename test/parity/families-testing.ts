/**
 * What transformers and PEFT computed for a model directory, and how far a core is from it.
 *
 * Reads the files that scripts/fixtures/families.py writes (test/fixtures/families/README.md). The tests compare
 * the committed ones, `npm run parity` those of fresh random models; both by the functions here. They measure and
 * leave the judging to the caller.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Datum, WeightsName } from '../../src/engine/engine.ts';
import type { LocalCore } from '../../src/engine/local/core.ts';
import { openModel, type LoadedModel } from '../../src/engine/local/directory.ts';
import { openSafetensors } from '../../src/engine/local/safetensors.ts';
import { sampleAll } from '../../src/engine/local/testing.ts';

/**
 * Float32 against float64 in transformers itself differs by up to 1.1e-6 of the largest logit and 2.8e-6 of a
 * gradient tensor's largest value (`noise` in each expected.json). An engine that adds in another order has an error
 * of its own of that size. These are seven times that or more, and a fifth of what the project promises (1e-4).
 */
export const LIMITS = { logits: 2e-5, gradients: 2e-5 };

interface Expected {
  sequences: number[][];
  /** The first position whose logits are stored. */
  logitsFrom: number;
  loss: number;
  greedy: Greedy;
  /** By directory name. */
  adapters: Record<string, { loss: number; greedy: Greedy }>;
}

interface Greedy {
  prompt: number[];
  tokens: number[];
}

export interface Fixture {
  directory: string;
  expected: Expected;
  /** A stored tensor as F32. Throws for a name that is not stored. */
  tensor(key: string): Float32Array;
  /** Names after `prefix` of the tensors that begin with it. */
  names(prefix: string): string[];
  /** Every sequence, each token after the first scored. */
  datums: Datum[];
  /** The largest logit: what differences of logits and log-probabilities are compared with. */
  scale: number;
}

/** The fixture's model, or its adapter in the folder `adapter`, for sequences as long as the fixture's. */
export function openFixture({ directory, expected }: Fixture, adapter?: string): LoadedModel {
  const greedy = [expected.greedy, ...Object.values(expected.adapters).map((a) => a.greedy)];
  const contextLength = Math.max(
    ...greedy.map(({ prompt, tokens }) => prompt.length + tokens.length),
    ...expected.sequences.map(({ length }) => length),
  );
  return adapter === undefined
    ? openModel(directory, { contextLength })
    : openModel(adapter, { contextLength, base: directory });
}

export function loadFixture(directory: string): Fixture {
  const expected = JSON.parse(readFileSync(join(directory, 'expected.json'), 'utf8')) as Expected;
  const { tensors, readF32 } = openSafetensors(join(directory, 'expected.safetensors'));
  const tensor = (key: string): Float32Array => {
    if (!tensors.has(key)) throw new Error(`${directory}: expected a tensor ${key}, got none`);
    return readF32(key);
  };
  return {
    directory,
    expected,
    tensor,
    names: (prefix) =>
      [...tensors.keys()].filter((key) => key.startsWith(prefix)).map((key) => key.slice(prefix.length)),
    datums: expected.sequences.map((tokens) => ({ tokens, positions: tokens.slice(1).map((_, i) => i + 1) })),
    scale: largestOf(tensor('logits')),
  };
}

/**
 * Largest difference of the log-probabilities of all sequences, over the logits' scale. `of` is '' (the default) or
 * 'ADAPTER.': which stored ones to compare with.
 */
export function scoreDeviation(
  core: LocalCore,
  fixture: Fixture,
  { of = '', weights = 'current' }: { of?: string; weights?: WeightsName } = {},
): number {
  const differences = core
    .forward(fixture.datums, 1, weights, false)
    .map((row, n) => largestDifference(row, fixture.tensor(`${of}logprobs.${n}`)));
  return Math.max(...differences) / fixture.scale;
}

/**
 * Largest difference of the log-softmax over the whole vocabulary at every position of the first sequence, over the
 * logits' scale. `key` names the stored logits.
 */
export function distributionDeviation(core: LocalCore, fixture: Fixture, key = 'logits'): number {
  const [sequence = []] = fixture.expected.sequences;
  const logits = fixture.tensor(key);
  // Merged logits are stored from the first position on.
  const from = key === 'logits' ? fixture.expected.logitsFrom : 0;
  const V = logits.length / (sequence.length - from);
  const questions: Datum[] = [];
  for (let t = from; t < sequence.length; t++) {
    const known = sequence.slice(0, t + 1);
    for (let v = 0; v < V; v++) questions.push({ tokens: [...known, v], positions: [t + 1] });
  }
  const scored = core.forward(questions, 1, 'current', false);
  let worst = 0;
  for (let start = 0; start < logits.length; start += V) {
    const row = logits.subarray(start, start + V);
    const top = Math.max(...row);
    const norm = top + Math.log(row.reduce((sum, x) => sum + Math.exp(x - top), 0));
    for (let v = 0; v < V; v++) {
      worst = worseOf(worst, Math.abs((scored[start + v]?.[0] ?? NaN) - ((row[v] ?? NaN) - norm)));
    }
  }
  return worst / fixture.scale;
}

/** One forward and backward of the mean negative log-probability of all sequences; returns it. */
export function accumulate(core: LocalCore, { datums }: Fixture): number {
  const count = datums.reduce((sum, d) => sum + d.positions.length, 0);
  const logprobs = core.forward(datums, 1, 'current', true);
  core.backward(logprobs.map((row) => new Float32Array(row.length).fill(-1 / count)));
  return -logprobs.reduce((sum, row) => row.reduce((s, x) => s + x, sum), 0) / count;
}

/**
 * The gradients that `core` holds: the parameter that is farthest off, and its largest difference over its tensor's
 * largest value. `of` is '' or 'ADAPTER.'.
 */
export function gradientDeviation(
  core: LocalCore,
  fixture: Fixture,
  of = '',
): { name: string; deviation: number } {
  let worst = { name: 'none', deviation: 0 };
  for (const name of fixture.names(`${of}grad.`)) {
    const wanted = fixture.tensor(`${of}grad.${name}`);
    const deviation = largestDifference(core.gradientOf(name), wanted) / largestOf(wanted);
    if (!(deviation <= worst.deviation)) worst = { name, deviation };
  }
  return worst;
}

/** As many greedy tokens as are expected, after the same prompt, with the cache. */
export function greedyTokens(core: LocalCore, { prompt, tokens }: Greedy): number[] {
  const params = { temperature: 0, maxTokens: tokens.length, stopIds: [] };
  const sampled = sampleAll(core, [{ prompt, count: 1, params, seed: 0 }]);
  return sampled[0]?.[0]?.tokens ?? [];
}

function largestOf(values: Float32Array): number {
  return values.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
}

/** NaN and a difference in length are as far as can be. */
function largestDifference(got: ArrayLike<number>, wanted: ArrayLike<number>): number {
  if (got.length !== wanted.length) return Infinity;
  let worst = 0;
  for (let i = 0; i < wanted.length; i++) worst = worseOf(worst, Math.abs(got[i]! - wanted[i]!));
  return worst;
}

function worseOf(worst: number, difference: number): number {
  return difference <= worst ? worst : Number.isNaN(difference) ? Infinity : difference;
}
