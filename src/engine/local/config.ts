/**
 * The decoder's shape, read from a Hugging Face config.json.
 *
 * Reads what transformers 4 and 5 write. What differs from family to family is in `families.ts`. A field or
 * architecture that this decoder does not compute is refused by name: a wrong answer from an ignored field
 * would be worse than none.
 */
import { join } from 'node:path';
import { messageOf, R3Error } from '../../lib/errors.ts';
import { readTextFile } from '../../lib/files.ts';
import { parseJsonObject } from '../../lib/json.ts';
import { PAGE_SIZE, type Activation } from '../../kernels/ops.ts';
import { FAMILIES, FAMILY_NAMES } from './families.ts';
import { fieldsOf } from './fields.ts';

/** How a rotary frequency table departs from theta^(-2i/D). */
export type RopeScaling =
  | { type: 'default' }
  /** Chen et al. (arXiv 2306.15595): positions divided by `factor`. */
  | { type: 'linear'; factor: number }
  /** Llama 3.1: low frequencies divided by `factor`, high ones kept, those between interpolated. */
  | { type: 'llama3'; factor: number; lowFactor: number; highFactor: number; originalContext: number }
  /** LongRoPE (arXiv 2402.13753): a divisor per frequency, one list up to the original context and one beyond. */
  | {
      type: 'longrope';
      shortFactors: number[];
      longFactors: number[];
      originalContext: number;
      attentionFactor: number;
    };

export interface Rope {
  theta: number;
  scaling: RopeScaling;
}

/** What may differ from layer to layer. */
export interface LayerKind {
  /** Undefined: the layer does not encode positions (NoPE). */
  rope: Rope | undefined;
  /** How many positions a row sees, its own among them; 0: all before it. */
  window: number;
}

export interface ModelConfig {
  /** `model_type`. */
  family: string;
  vocabularySize: number;
  hiddenSize: number;
  intermediateSize: number;
  layers: number;
  heads: number;
  kvHeads: number;
  headSize: number;
  rmsEpsilon: number;
  /** The longest sequence that the engine computes. */
  contextLength: number;
  /** The output head is the embedding table. */
  tiedHead: boolean;
  activation: Activation;
  /** Where a block's RMSNorms stand: before it (Llama), after it (OLMo 2), or both (Gemma). */
  norms: 'before' | 'after' | 'around';
  /** Norm weights are stored less one (Gemma). */
  normsLessOne: boolean;
  /** RMSNorm of queries and keys before RoPE: of each head (Qwen3), or of all heads together (OLMo 2). */
  qkNorm: 'none' | 'head' | 'whole';
  bias: { qkv: boolean; output: boolean; mlp: boolean };
  /** q, k, v are one tensor in the file, and so are gate and up (Phi-3). */
  fused: boolean;
  /** Embeddings are multiplied by this. */
  embeddingScale: number;
  /** Scores are multiplied by this. */
  attentionScale: number;
  /** Scores s become c tanh(s / c); 0: they do not. */
  attentionSoftcap: number;
  /** The same for logits. */
  logitSoftcap: number;
  /** One per layer. */
  layerKinds: LayerKind[];
}

/** Above any published model; with larger sizes, planning the memory alone would not end. */
const MAX_LAYERS = 1024;
const MAX_WIDTH = 1 << 20;
const MAX_VOCABULARY = 1 << 24;
const MAX_CONTEXT = 1 << 26;
/** Of a config.json, or of an adapter's. Published ones have some kilobytes. */
export const MAX_CONFIG_BYTES = 1 << 24;

/** The sizes that every family has. */
export type Sizes = Pick<
  ModelConfig,
  | 'vocabularySize'
  | 'hiddenSize'
  | 'intermediateSize'
  | 'layers'
  | 'heads'
  | 'kvHeads'
  | 'headSize'
  | 'contextLength'
>;

/** Throws R3Error `bad-file` that names the field, what was expected and what was got. */
export function parseModelConfig(json: Readonly<Record<string, unknown>>, path: string): ModelConfig {
  const fields = fieldsOf(json, path, `This engine computes the families ${FAMILY_NAMES.join(', ')}.`);
  const name = fields.choice('model_type', FAMILY_NAMES);
  const architectures = fields.strings('architectures') ?? [];
  if (
    architectures.length > 0 &&
    !architectures.some((architecture) => architecture.endsWith('ForCausalLM'))
  ) {
    throw fields.refuse('architectures', 'a causal language model (...ForCausalLM)');
  }
  const family = FAMILIES[name];
  const hiddenSize = fields.count('hidden_size', MAX_WIDTH);
  const heads = fields.count('num_attention_heads', MAX_WIDTH);
  const sizes: Sizes = {
    vocabularySize: fields.count('vocab_size', MAX_VOCABULARY),
    hiddenSize,
    intermediateSize: fields.count('intermediate_size', MAX_WIDTH),
    layers: fields.count('num_hidden_layers', MAX_LAYERS),
    heads,
    kvHeads: fields.count('num_key_value_heads', MAX_WIDTH, family.kvHeads ?? heads),
    headSize: fields.count('head_dim', MAX_WIDTH, family.headSize ?? hiddenSize / heads),
    contextLength: fields.count('max_position_embeddings', MAX_CONTEXT, family.contextLength),
  };
  const { headSize, kvHeads } = sizes;
  if (!Number.isInteger(headSize) || headSize % PAGE_SIZE !== 0) {
    throw fields.refuse('head_dim', `a multiple of ${PAGE_SIZE} (here ${headSize})`);
  }
  if (heads % kvHeads !== 0) {
    throw fields.refuse('num_key_value_heads', `a divisor of num_attention_heads (${heads})`);
  }
  const config: ModelConfig = {
    family: name,
    ...sizes,
    rmsEpsilon: fields.positive('rms_norm_eps') ?? family.rmsEpsilon,
    tiedHead: fields.flag('tie_word_embeddings', family.tiedHead),
    activation: 'silu',
    norms: 'before',
    normsLessOne: false,
    qkNorm: 'none',
    bias: { qkv: false, output: false, mlp: false },
    fused: false,
    embeddingScale: 1,
    attentionScale: headSize ** -0.5,
    attentionSoftcap: 0,
    logitSoftcap: 0,
    ...family.read(fields, sizes),
  };
  fields.fixed('partial_rotary_factor', 1);
  for (const dropout of ['attention_dropout', 'resid_pdrop', 'embd_pdrop']) fields.fixed(dropout, 0);
  for (const flag of ['is_encoder_decoder', 'add_cross_attention', 'rope_interleaved'])
    fields.fixed(flag, false);
  fields.finish(changesNothing);
  return config;
}

/** Fields of a config.json that say nothing about what is computed. */
function changesNothing(name: string): boolean {
  return /^(_|transformers|unsloth)/.test(name) || HARMLESS.has(name);
}

const HARMLESS = new Set(
  `dtype torch_dtype auto_map cache_implementation is_decoder is_llama_config pretraining_tp use_cache initializer_range
  bos_token_id eos_token_id pad_token_id unk_token_id sep_token_id decoder_start_token_id tokenizer_class
  output_attentions output_hidden_states output_scores return_dict return_dict_in_generate torchscript tf_legacy_loss
  use_bfloat16 tie_encoder_decoder cross_attention_hidden_size chunk_size_feed_forward pruned_heads
  finetuning_task problem_type task_specific_params id2label label2id num_labels prefix
  max_length min_length do_sample num_beams num_beam_groups num_return_sequences temperature top_k top_p typical_p
  diversity_penalty repetition_penalty length_penalty no_repeat_ngram_size encoder_no_repeat_ngram_size bad_words_ids
  forced_bos_token_id forced_eos_token_id remove_invalid_values exponential_decay_length_penalty suppress_tokens
  begin_suppress_tokens early_stopping`.split(/\s+/),
);

/** Keys and values of longer sequences would take more memory than most users have; more is an option. */
export const DEFAULT_CONTEXT = 4096;

/**
 * The longest sequence whose positions are encoded as in the model's first training. Beyond it LongRoPE models encode
 * all positions in another way, so an engine is opened for one or the other (`rope.ts`). Infinite in other models.
 */
export function originalContext({ layerKinds }: ModelConfig): number {
  const limits = layerKinds.map(({ rope }) =>
    rope?.scaling.type === 'longrope' ? rope.scaling.originalContext : Infinity,
  );
  return Math.min(...limits);
}

/**
 * The config of an engine for sequences of at most `contextLength` tokens; by default the model's own limit, but no
 * more than DEFAULT_CONTEXT and its original context. Throws R3Error `bad-option` for more than the model has.
 */
export function withContext(config: ModelConfig, contextLength?: number): ModelConfig {
  if (contextLength !== undefined && contextLength > config.contextLength) {
    throw new R3Error(
      'engine',
      'bad-option',
      `context: expected at most ${config.contextLength} tokens, which the model was made for, got ${contextLength}`,
    );
  }
  const otherwise = Math.min(config.contextLength, DEFAULT_CONTEXT, originalContext(config));
  return { ...config, contextLength: contextLength ?? otherwise };
}

/** The text of the file, so that it can be written back, and what it means. */
export function loadModelConfig(directory: string): { text: string; config: ModelConfig } {
  const path = join(directory, 'config.json');
  let text: string;
  let json: Record<string, unknown>;
  try {
    text = readTextFile(path, MAX_CONFIG_BYTES);
    json = parseJsonObject(text);
  } catch (cause) {
    const why = `${path}: ${messageOf(cause)}. A Hugging Face config.json comes with the model: copy or download it again.`;
    throw new R3Error('engine', 'bad-file', why, { cause });
  }
  return { text, config: parseModelConfig(json, path) };
}
