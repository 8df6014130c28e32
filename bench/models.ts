/** Models of the benchmarks, with random weights, and the settings that train them. */
import { parseModelConfig, type ModelConfig } from '../src/engine/local/config.ts';
import type { LoadedModel } from '../src/engine/local/directory.ts';
import { makeLayout } from '../src/engine/local/weights.ts';
import { hash32 } from '../src/lib/rng.ts';

/** The model of the training benchmarks: 6 layers, width 384, 6 heads of 64, hidden 1024, vocabulary 512. */
export const BENCH_CONFIG = parseModelConfig(
  {
    model_type: 'llama',
    vocab_size: 512,
    hidden_size: 384,
    intermediate_size: 1024,
    num_hidden_layers: 6,
    num_attention_heads: 6,
    rms_norm_eps: 1e-5,
    max_position_embeddings: 512,
  },
  'bench',
);

/** Random weights of a shape: uniform, with the variance that keeps activations of one size. */
export function randomModel(config: ModelConfig): LoadedModel {
  const layout = makeLayout(config);
  return {
    directory: '',
    configText: '{}',
    config,
    layout,
    modelHash: 'bench',
    adapter: null,
    read({ shape, offset }, from, count, into) {
      const isVector = shape.length === 1;
      const scale = isVector ? 0 : 2 ** -32 / Math.sqrt(shape[1] as number);
      for (let i = 0; i < count; i++)
        into[i] = isVector ? 1 : (hash32(1, offset + from + i, 0) - 2 ** 31) * scale;
    },
    close: () => undefined,
  };
}

export function benchModel(): LoadedModel {
  return randomModel(BENCH_CONFIG);
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

/** The adapter of the benchmarks: every linear layer but the head. */
export const LORA = {
  rank: 16,
  alpha: 32,
  dropout: 0,
  rsLora: false,
  targets: 'all-linear' as const,
  layers: null,
};

export const ADAM = {
  learningRate: 1e-4,
  beta1: 0.9,
  beta2: 0.999,
  epsilon: 1e-8,
  weightDecay: 0,
  maxGradNorm: 1,
};
