/** A tiny initialised model and helpers for the engine's tests. */
import type { Completion, SampleRequest } from '../engine.ts';
import type { LocalCore } from './core.ts';
import type { LayerKind, ModelConfig } from './config.ts';
import type { LoadedModel } from './directory.ts';
import { makeLayout } from './weights.ts';
import { assert } from '../../lib/errors.ts';
import { makeRng } from '../../lib/rng.ts';

const PLAIN: LayerKind = { rope: { theta: 10000, scaling: { type: 'default' } }, window: 0 };

export const tinyConfig: ModelConfig = {
  vocabularySize: 31,
  hiddenSize: 24,
  intermediateSize: 40,
  layers: 2,
  heads: 4,
  kvHeads: 2,
  headSize: 16,
  rmsEpsilon: 1e-5,
  contextLength: 128,
  tiedHead: false,
  family: 'llama',
  activation: 'silu',
  norms: 'before',
  normsLessOne: false,
  qkNorm: 'none',
  bias: { qkv: false, output: false, mlp: false },
  fused: false,
  embeddingScale: 1,
  attentionScale: 16 ** -0.5,
  attentionSoftcap: 0,
  logitSoftcap: 0,
  layerKinds: [PLAIN, PLAIN],
};

/** What families depart from Llama in, by a name for each: two configs that between them use every difference. */
export const tinyVariants: Record<string, Partial<ModelConfig>> = {
  plain: {},
  'biases, queries and keys normed by head, a tied head': {
    bias: { qkv: true, output: true, mlp: true },
    qkNorm: 'head',
    tiedHead: true,
  },
  'norms around, caps, scaled embedding, GELU, a window': {
    norms: 'around',
    normsLessOne: true,
    activation: 'gelu',
    attentionSoftcap: 3,
    logitSoftcap: 2,
    embeddingScale: 1.5,
    attentionScale: 0.4,
    layerKinds: [{ ...PLAIN, window: 7 }, PLAIN],
  },
  'norms after, queries and keys normed whole, a layer without positions, fused tensors': {
    norms: 'after',
    qkNorm: 'whole',
    fused: true,
    layerKinds: [PLAIN, { rope: undefined, window: 0 }],
  },
};

/** Random weights, normalisation weights too, so that no term of a gradient is hidden by a 1. */
export function tinyModel(overrides: Partial<ModelConfig> = {}, seed = 1): LoadedModel {
  const config = { ...tinyConfig, ...overrides };
  const layout = makeLayout(config);
  const values = new Float32Array(layout.length);
  const rng = makeRng(seed);
  for (const { name, shape, offset, length } of layout.parameters) {
    const isNorm = shape.length === 1 && !name.endsWith('.bias') && !config.normsLessOne;
    for (let i = 0; i < length; i++) {
      const x = rng.next() * 2 - 1;
      values[offset + i] =
        shape.length === 1 ? (isNorm ? 1 : 0) + 0.3 * x : (1.7 * x) / Math.sqrt(shape[1] as number);
    }
  }
  return {
    directory: '',
    configText: '{}',
    config,
    layout,
    modelHash: `tiny-${seed}`,
    adapter: null,
    close: () => undefined,
    read({ offset, length }, from, count, into) {
      assert(from + count <= length, 'a read past the end of a parameter');
      into.set(values.subarray(offset + from, offset + from + count));
    },
  };
}

/** Samples on a core without its thread. */
export function sampleAll(
  core: LocalCore,
  requests: readonly Omit<SampleRequest, 'signal' | 'onToken'>[],
): Completion[][] {
  const results: Completion[][] = [];
  requests.forEach((request, i) =>
    core.sampler.add({ ...request, cancelled: false, onDone: (completions) => (results[i] = completions) }),
  );
  while (core.sampler.busy) core.sampler.step();
  return results;
}

export function randomTokens(
  length: number,
  seed: number,
  vocabularySize = tinyConfig.vocabularySize,
): number[] {
  const rng = makeRng(seed, 99);
  return Array.from({ length }, () => rng.below(vocabularySize));
}
