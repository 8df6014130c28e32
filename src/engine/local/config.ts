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
import { decodeUtf8, explainIssue, parseJsonObject } from '../../lib/json.ts';
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

/** Above any published model; with larger sizes, planning the memory alone would not end. */
const MAX_LAYERS = 1024;
const MAX_WIDTH = 1 << 20;
const MAX_VOCABULARY = 1 << 24;
const MAX_CONTEXT = 1 << 26;

const upTo = (most: number): z.ZodInt => z.int().min(1).max(most);
const ropeSchema = z.looseObject({
  rope_theta: z.number().positive().optional(),
  rope_type: z.string().optional(),
  type: z.string().optional(),
});

/** The fields that matter. `const` fields have one value that this decoder computes. */
const schema = z.looseObject({
  model_type: z.literal('llama'),
  vocab_size: upTo(MAX_VOCABULARY),
  hidden_size: upTo(MAX_WIDTH),
  intermediate_size: upTo(MAX_WIDTH),
  num_hidden_layers: upTo(MAX_LAYERS),
  num_attention_heads: upTo(MAX_WIDTH),
  num_key_value_heads: upTo(MAX_WIDTH).optional(),
  head_dim: upTo(MAX_WIDTH).nullish(),
  rms_norm_eps: z.number().positive().default(1e-6),
  rope_theta: z.number().positive().optional(),
  rope_scaling: ropeSchema.nullish(),
  rope_parameters: ropeSchema.nullish(),
  max_position_embeddings: upTo(MAX_CONTEXT).default(2048),
  tie_word_embeddings: z.boolean().default(false),
  hidden_act: z.literal('silu').default('silu'),
  attention_bias: z.literal(false).default(false),
  mlp_bias: z.literal(false).default(false),
});

/** Throws R3Error `bad-file` that names the field, what was expected and what was got. */
export function parseModelConfig(json: unknown, path: string): ModelConfig {
  const parsed = schema.safeParse(json);
  if (!parsed.success) {
    throw new R3Error(
      'engine',
      'bad-file',
      `${path}: ${explainIssue(parsed.error.issues, json)}. This engine computes Llama models (model_type "llama").`,
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
  let json: Record<string, unknown>;
  try {
    json = parseJsonObject(decodeUtf8(readFileSync(path)));
  } catch (cause) {
    const why = `${path}: ${messageOf(cause)}. A Hugging Face config.json comes with the model: copy or download it again.`;
    throw new R3Error('engine', 'bad-file', why, { cause });
  }
  return { json, config: parseModelConfig(json, path) };
}
