/** The model of the training benchmarks: 6 layers, width 384, 6 heads of 64, hidden 1024, vocabulary 512. */
import type { ModelConfig } from '../src/engine/local/config.ts';
import type { LoadedModel } from '../src/engine/local/directory.ts';
import { makeLayout } from '../src/engine/local/weights.ts';
import { makeRng } from '../src/lib/rng.ts';

export const BENCH_CONFIG: ModelConfig = {
  vocabularySize: 512,
  hiddenSize: 384,
  intermediateSize: 1024,
  layers: 6,
  heads: 6,
  kvHeads: 6,
  headSize: 64,
  rmsEpsilon: 1e-5,
  ropeTheta: 10000,
  contextLength: 512,
  tiedHead: false,
};

export function benchModel(): LoadedModel {
  const layout = makeLayout(BENCH_CONFIG);
  return {
    directory: '',
    configJson: {},
    config: BENCH_CONFIG,
    layout,
    modelHash: 'bench',
    fill(values) {
      const rng = makeRng(1);
      for (const { shape, offset, length } of layout.parameters) {
        for (let i = 0; i < length; i++)
          values[offset + i] = shape.length === 1 ? 1 : (rng.next() - 0.5) / Math.sqrt(shape[1] as number);
      }
    },
  };
}

/** Forward and backward through the layers and the head: 6 per weight and token, and causal attention. */
export function trainingFlops(tokens: number, length: number): number {
  const {
    hiddenSize: C,
    intermediateSize: F,
    heads: H,
    headSize: D,
    layers: L,
    vocabularySize: V,
  } = BENCH_CONFIG;
  const weights = L * (4 * C * H * D + 3 * C * F) + C * V;
  return tokens * (6 * weights + L * 6 * H * D * length);
}

export const ADAM = {
  learningRate: 1e-4,
  beta1: 0.9,
  beta2: 0.999,
  epsilon: 1e-8,
  weightDecay: 0,
  maxGradNorm: 1,
};
