/** Shapes of published models, as their config.json gives them: sizes alone, the weights are random. */
import { parseModelConfig, withContext, type ModelConfig } from '../src/engine/local/config.ts';

const SHAPES: Record<string, Record<string, unknown>> = {
  'qwen2.5-0.5b': {
    model_type: 'qwen2',
    architectures: ['Qwen2ForCausalLM'],
    vocab_size: 151_936,
    hidden_size: 896,
    intermediate_size: 4864,
    num_hidden_layers: 24,
    num_attention_heads: 14,
    num_key_value_heads: 2,
    rms_norm_eps: 1e-6,
    rope_theta: 1_000_000,
    max_position_embeddings: 32_768,
    tie_word_embeddings: true,
    dtype: 'bfloat16',
  },
};

const SHAPE_NAMES = Object.keys(SHAPES);
export const DEFAULT_SHAPE = 'qwen2.5-0.5b';

export interface Shape {
  name: string;
  configText: string;
  config: ModelConfig;
}

/** Throws for a name that is not there. */
export function shapeOf(name: string): Shape {
  const json = SHAPES[name];
  if (json === undefined)
    throw new Error(`--shape: expected ${SHAPE_NAMES.join(', ')}, got ${JSON.stringify(name)}`);
  return { name, configText: JSON.stringify(json), config: withContext(parseModelConfig(json, name)) };
}
