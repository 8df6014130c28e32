/**
 * The decoder's shape, read from a Hugging Face config.json.
 *
 * Reads what transformers 4 and 5 write. A field or architecture that this decoder does not compute is
 * refused by name: a wrong answer from an ignored field would be worse than none.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { messageOf, R3Error } from '../../lib/errors.ts';
import { PAGE_SIZE } from '../../kernels/ops.ts';

export interface ModelConfig {
  vocabularySize: number;
  hiddenSize: number;
  intermediateSize: number;
  layers: number;
  heads: number;
  kvHeads: number;
  headSize: number;
  rmsEpsilon: number;
  ropeTheta: number;
  contextLength: number;
  /** The output head is the embedding table. */
  tiedHead: boolean;
}

const count = z.int().positive();
const ropeSchema = z.looseObject({
  rope_theta: z.number().positive().optional(),
  rope_type: z.string().optional(),
  type: z.string().optional(),
});

/** The fields that matter. `const` fields have one value that this decoder computes. */
const schema = z.looseObject({
  model_type: z.literal('llama'),
  vocab_size: count,
  hidden_size: count,
  intermediate_size: count,
  num_hidden_layers: count,
  num_attention_heads: count,
  num_key_value_heads: count.optional(),
  head_dim: count.nullish(),
  rms_norm_eps: z.number().positive().default(1e-6),
  rope_theta: z.number().positive().optional(),
  rope_scaling: ropeSchema.nullish(),
  rope_parameters: ropeSchema.nullish(),
  max_position_embeddings: count.default(2048),
  tie_word_embeddings: z.boolean().default(false),
  hidden_act: z.literal('silu').default('silu'),
  attention_bias: z.literal(false).default(false),
  mlp_bias: z.literal(false).default(false),
});

/** Throws R3Error `bad-file` that names the field, what was expected and what was got. */
export function parseModelConfig(json: unknown, path: string): ModelConfig {
  const parsed = schema.safeParse(json);
  if (!parsed.success) {
    const issue = parsed.error.issues[0];
    const field = issue?.path.join('.') ?? '';
    const got = JSON.stringify(
      field
        .split('.')
        .reduce<unknown>((value, key) => (value as Record<string, unknown> | undefined)?.[key], json),
    );
    throw new R3Error(
      'engine',
      'bad-file',
      `${path}: ${field}: ${issue?.message ?? 'malformed'}, got ${got}. This engine computes Llama models (model_type "llama").`,
    );
  }
  const c = parsed.data;
  const rope = c.rope_parameters ?? c.rope_scaling ?? {};
  const ropeType = rope.rope_type ?? rope.type ?? 'default';
  if (ropeType !== 'default') {
    throw new R3Error(
      'engine',
      'bad-file',
      `${path}: rope scaling: expected "default", got ${JSON.stringify(ropeType)}, which this engine does not compute`,
    );
  }
  const headSize = c.head_dim ?? c.hidden_size / c.num_attention_heads;
  const kvHeads = c.num_key_value_heads ?? c.num_attention_heads;
  if (!Number.isInteger(headSize) || headSize % PAGE_SIZE !== 0) {
    throw new R3Error(
      'engine',
      'bad-file',
      `${path}: head_dim: expected a multiple of ${PAGE_SIZE}, got ${headSize}`,
    );
  }
  if (c.num_attention_heads % kvHeads !== 0) {
    throw new R3Error(
      'engine',
      'bad-file',
      `${path}: num_key_value_heads: expected a divisor of num_attention_heads (${c.num_attention_heads}), got ${kvHeads}`,
    );
  }
  return {
    vocabularySize: c.vocab_size,
    hiddenSize: c.hidden_size,
    intermediateSize: c.intermediate_size,
    layers: c.num_hidden_layers,
    heads: c.num_attention_heads,
    kvHeads,
    headSize,
    rmsEpsilon: c.rms_norm_eps,
    ropeTheta: c.rope_theta ?? rope.rope_theta ?? 10000,
    contextLength: c.max_position_embeddings,
    tiedHead: c.tie_word_embeddings,
  };
}

/** The file as it is, so that it can be written back, and what it means. */
export function loadModelConfig(directory: string): { json: Record<string, unknown>; config: ModelConfig } {
  const path = join(directory, 'config.json');
  let json: unknown;
  try {
    json = JSON.parse(readFileSync(path, 'utf8'));
  } catch (error) {
    throw new R3Error(
      'engine',
      'bad-file',
      `${path}: expected a Hugging Face config.json, got: ${messageOf(error)}`,
      { cause: error },
    );
  }
  return { json: json as Record<string, unknown>, config: parseModelConfig(json, path) };
}
