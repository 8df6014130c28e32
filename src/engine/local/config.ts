/**
 * The decoder's shape, read from a Hugging Face config.json.
 *
 * Reads what transformers 4 and 5 write. A field or architecture that this decoder does not compute is
 * refused by name: a wrong answer from an ignored field would be worse than none.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { messageOf, R3Error } from '../../lib/errors.ts';
import { decodeUtf8, parseJsonObject, showValue } from '../../lib/json.ts';
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

/** Throws R3Error `bad-file` that names the field, what was expected and what was got. */
export function parseModelConfig(json: Readonly<Record<string, unknown>>, path: string): ModelConfig {
  const fields = fieldsOf(json, path);
  fields.fixed('model_type', 'llama');
  const vocabularySize = fields.count('vocab_size', MAX_VOCABULARY);
  const hiddenSize = fields.count('hidden_size', MAX_WIDTH);
  const intermediateSize = fields.count('intermediate_size', MAX_WIDTH);
  const layers = fields.count('num_hidden_layers', MAX_LAYERS);
  const heads = fields.count('num_attention_heads', MAX_WIDTH);
  const kvHeads = fields.count('num_key_value_heads', MAX_WIDTH, heads);
  const headSize = fields.count('head_dim', MAX_WIDTH, hiddenSize / heads);
  const rmsEpsilon = fields.positive('rms_norm_eps') ?? 1e-6;
  const rope = fields.object('rope_parameters') ?? fields.object('rope_scaling');
  const ropeTheta = fields.positive('rope_theta') ?? rope?.positive('rope_theta') ?? 10000;
  const contextLength = fields.count('max_position_embeddings', MAX_CONTEXT, 2048);
  const tiedHead = fields.flag('tie_word_embeddings');
  // These have one value that this decoder computes; so has rope scaling.
  fields.fixed('hidden_act', 'silu', 'silu');
  fields.fixed('attention_bias', false, false);
  fields.fixed('mlp_bias', false, false);
  rope?.fixed(rope.has('rope_type') ? 'rope_type' : 'type', 'default', 'default');
  if (!Number.isInteger(headSize) || headSize % PAGE_SIZE !== 0) {
    throw fields.refusal('head_dim', `a multiple of ${PAGE_SIZE}`, headSize);
  }
  if (heads % kvHeads !== 0) {
    throw fields.refusal('num_key_value_heads', `a divisor of num_attention_heads (${heads})`, kvHeads);
  }
  return {
    vocabularySize,
    hiddenSize,
    intermediateSize,
    layers,
    heads,
    kvHeads,
    headSize,
    rmsEpsilon,
    ropeTheta,
    contextLength,
    tiedHead,
  };
}

interface Fields {
  has(name: string): boolean;
  /** A whole number from 1 to `most`. */
  count(name: string, most: number, otherwise?: number): number;
  positive(name: string): number | undefined;
  flag(name: string): boolean;
  /** Throws unless the field is `value`. */
  fixed(name: string, value: string | boolean, otherwise?: string | boolean): void;
  object(name: string): Fields | undefined;
  refusal(name: string, expected: string, got: unknown): R3Error;
}

/** Fields that transformers writes as null where it means that there is none. */
const NULLABLE = ['head_dim', 'rope_scaling', 'rope_parameters'];

/** Reads fields of an object and refuses wrong ones by name. */
function fieldsOf(json: Readonly<Record<string, unknown>>, path: string, prefix = ''): Fields {
  const read = (name: string): unknown =>
    json[name] === null && NULLABLE.includes(name) ? undefined : json[name];
  const refusal = (name: string, expected: string, got: unknown): R3Error =>
    new R3Error(
      'engine',
      'bad-file',
      `${path}: ${prefix}${name}: expected ${expected}, got ${showValue(got)}. This engine computes Llama models (model_type "llama").`,
    );
  const number = (name: string): number | undefined => {
    const value = read(name);
    if (value !== undefined && typeof value !== 'number') throw refusal(name, 'a number', value);
    return value;
  };
  return {
    refusal,
    has: (name) => read(name) !== undefined,
    count: (name, most, otherwise) => {
      const value = number(name);
      if (value === undefined) {
        if (otherwise === undefined) throw refusal(name, 'a number', value);
        return otherwise;
      }
      if (!Number.isInteger(value)) throw refusal(name, 'a whole number', value);
      if (value < 1) throw refusal(name, 'at least 1', value);
      if (value > most) throw refusal(name, `at most ${most}`, value);
      return value;
    },
    positive: (name) => {
      const value = number(name);
      if (value !== undefined && value <= 0) throw refusal(name, 'more than 0', value);
      return value;
    },
    flag: (name) => {
      const value = read(name) === undefined ? false : read(name);
      if (typeof value !== 'boolean') throw refusal(name, 'true or false', value);
      return value;
    },
    fixed: (name, value, otherwise) => {
      const got = read(name) === undefined ? otherwise : read(name);
      if (got !== value) throw refusal(name, JSON.stringify(value), got);
    },
    object: (name) => {
      const value = read(name);
      if (value === undefined) return undefined;
      if (!isObject(value)) throw refusal(name, 'an object', value);
      return fieldsOf(value, path, `${name}.`);
    },
  };
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
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
