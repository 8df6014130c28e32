/** A tiny initialised model and helpers for the engine's tests. */
import type { Completion, SampleRequest } from '../engine.ts';
import type { LocalCore } from './core.ts';
import type { ModelConfig } from './config.ts';
import type { LoadedModel } from './directory.ts';
import { makeLayout } from './weights.ts';
import { makeRng } from '../../lib/rng.ts';

export const tinyConfig: ModelConfig = {
  vocabularySize: 31,
  hiddenSize: 24,
  intermediateSize: 40,
  layers: 2,
  heads: 4,
  kvHeads: 2,
  headSize: 16,
  rmsEpsilon: 1e-5,
  ropeTheta: 10000,
  contextLength: 128,
  tiedHead: false,
};

/** Random weights, normalisation weights too, so that no term of a gradient is hidden by a 1. */
export function tinyModel(overrides: Partial<ModelConfig> = {}, seed = 1): LoadedModel {
  const config = { ...tinyConfig, ...overrides };
  const layout = makeLayout(config);
  return {
    directory: '',
    configJson: {},
    config,
    layout,
    modelHash: `tiny-${seed}`,
    fill(values) {
      const rng = makeRng(seed);
      for (const { shape, offset, length } of layout.parameters) {
        for (let i = 0; i < length; i++) {
          const x = rng.next() * 2 - 1;
          values[offset + i] = shape.length === 1 ? 1 + 0.3 * x : (1.7 * x) / Math.sqrt(shape[1] as number);
        }
      }
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
