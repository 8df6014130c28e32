/**
 * The bodies of requests, read strictly: a field that is unknown, missing, of another type or out of range is a
 * refusal with status 400 that names it. What real servers ignore is refused here, so that a client cannot come to rely on
 * an option that does nothing.
 */
import { z } from 'zod';
import {
  decodeForwardBackwardRequest,
  type Chunk,
  type Tensor as WireTensor,
} from '../../src/engine/tinker/messages.ts';
import { asBytes, readFields, type Field } from '../../src/engine/tinker/protobuf.ts';
import { readJson } from '../../src/engine/tinker/json.ts';
import { messageOf } from '../../src/lib/errors.ts';
import { decodeUtf8, explainIssue } from '../../src/lib/json.ts';
import type { Tensor, TrainDatum } from './backend.ts';
import { LOSS_FIELDS, type LossName } from './losses.ts';
import { Refusal } from './refusal.ts';

const filled = z.string().min(1);
const count = z.int().min(0);
const texts = z.record(z.string(), z.string());
/** Requests name their own type; one without it is taken. */
const typed = (name: string) => z.literal(name).optional();
/** One segment of a path: no slash, no `..`. */
const bareName = z.string().regex(/^(?!\.)[A-Za-z0-9._-]{1,128}$/);
/** Sequence numbers of sampling and seeds have 64 bits: a bigint where a double would round. */
const wide = z.union([z.int().min(0), z.bigint().min(0n)]);
const seqId = z.int().min(1);

const chunk = z.discriminatedUnion('type', [
  z.strictObject({ type: z.literal('encoded_text'), tokens: z.array(count) }),
  z.looseObject({ type: z.enum(['image', 'image_asset_pointer', 'dmel']) }),
]);
const modelInput = z.strictObject({ chunks: z.array(chunk) });
const tensor = z.strictObject({
  data: z.array(z.number()),
  dtype: z.enum(['int64', 'float32']),
  shape: z.array(count).optional(),
  sparse_crow_indices: z.array(count).optional(),
  sparse_col_indices: z.array(count).optional(),
});
const passInput = z.strictObject({
  data: z.array(z.strictObject({ model_input: modelInput, loss_fn_inputs: z.record(z.string(), tensor) })),
  loss_fn: filled,
  loss_fn_config: z.record(z.string(), z.number()).optional(),
});

export const BODIES = {
  'client/config': z.strictObject({ sdk_version: filled }),
  'client/dynamic_config': z.strictObject({ sdk_version: filled }),
  create_session: z.strictObject({
    tags: z.array(z.string()),
    user_metadata: texts,
    sdk_version: filled,
    project_id: filled.optional(),
    type: typed('create_session'),
  }),
  session_heartbeat: z.strictObject({ session_id: filled, type: typed('session_heartbeat') }),
  telemetry: z.looseObject({ events: z.array(z.unknown()).max(100) }),
  create_model: z.strictObject({
    session_id: filled,
    model_seq_id: count,
    base_model: filled,
    user_metadata: texts.optional(),
    lora_config: z.strictObject({
      rank: z.int().min(1),
      seed: count.optional(),
      train_unembed: z.boolean().default(true),
      train_mlp: z.boolean().default(true),
      train_attn: z.boolean().default(true),
    }),
    type: typed('create_model'),
  }),
  get_info: z.strictObject({ model_id: filled, type: typed('get_info') }),
  unload_model: z.strictObject({ model_id: filled, type: typed('unload_model') }),
  forward_backward: z.strictObject({
    forward_backward_input: passInput,
    model_id: filled,
    seq_id: seqId,
    type: typed('forward_backward'),
  }),
  forward: z.strictObject({
    forward_input: passInput,
    model_id: filled,
    seq_id: seqId,
    type: typed('forward'),
  }),
  optim_step: z.strictObject({
    adam_params: z.strictObject({
      learning_rate: z.number().min(0).default(1e-4),
      beta1: z.number().min(0).lt(1).default(0.9),
      beta2: z.number().min(0).lt(1).default(0.95),
      eps: z.number().min(0).default(1e-12),
      weight_decay: z.number().min(0).default(0),
      grad_clip_norm: z.number().min(0).default(0),
    }),
    model_id: filled,
    seq_id: seqId,
    type: typed('optim_step'),
  }),
  save_weights: z.strictObject({
    model_id: filled,
    path: bareName,
    seq_id: seqId,
    ttl_seconds: z.int().min(1).optional(),
    overwrite: z.boolean().optional(),
    user_metadata: texts.optional(),
    type: typed('save_weights'),
  }),
  save_weights_for_sampler: z.strictObject({
    model_id: filled,
    path: bareName.optional(),
    sampling_session_seq_id: count.optional(),
    seq_id: seqId,
    ttl_seconds: z.int().min(1).optional(),
    user_metadata: texts.optional(),
    type: typed('save_weights_for_sampler'),
  }),
  load_weights: z.strictObject({
    model_id: filled,
    seq_id: seqId,
    path: filled,
    optimizer: z.boolean(),
    type: typed('load_weights'),
  }),
  weights_info: z.strictObject({ tinker_path: filled }),
  create_sampling_session: z.strictObject({
    session_id: filled,
    sampling_session_seq_id: count,
    base_model: filled.optional(),
    model_path: filled.optional(),
    type: typed('create_sampling_session'),
  }),
  asample: z.strictObject({
    num_samples: z.int().min(1).default(1),
    prompt: modelInput,
    sampling_params: z.strictObject({
      max_tokens: z.int().min(1).optional(),
      seed: wide.optional(),
      stop: z.union([z.string().min(1), z.array(z.string().min(1)), z.array(count), z.null()]).optional(),
      temperature: z.number().min(0).default(1),
      top_k: z.union([z.literal(-1), z.int().min(1)]).default(-1),
      top_p: z.number().gt(0).max(1).default(1),
    }),
    sampling_session_id: filled,
    seq_id: wide,
    prompt_logprobs: z.boolean().nullable().optional(),
    topk_prompt_logprobs: z.literal(0).optional(),
    type: typed('sample'),
  }),
  retrieve_future: z.strictObject({ request_id: filled, allow_metadata_only: z.boolean().optional() }),
} as const;

export type BodyName = keyof typeof BODIES;
export type BodyOf<Name extends BodyName> = z.infer<(typeof BODIES)[Name]>;

/** Throws Refusal. */
export function readBody<Name extends BodyName>(name: Name, bytes: Uint8Array): BodyOf<Name> {
  let text: string;
  let value: unknown;
  try {
    text = decodeUtf8(bytes);
    value = readJson(text, 'body');
  } catch (error) {
    throw new Refusal(400, messageOf(error));
  }
  const result = BODIES[name].safeParse(value);
  if (result.success) return result.data as BodyOf<Name>;
  // Rounded numbers will do for the message, which cannot show a bigint.
  throw new Refusal(400, explainIssue(result.error.issues, JSON.parse(text)));
}

/** forward_backward in either dialect, or forward. */
export interface TrainRequest {
  modelId: string;
  seqId: number;
  lossName: string;
  lossConfig: Readonly<Record<string, number>>;
  forwardOnly: boolean;
  /** Throws Refusal. Apart, because a request that is refused from here on has used up its number. */
  data(): TrainDatum[];
}

/** What a field holds: a kind of value, or a message within. */
type FieldKind = Field['wire'] | 'numbers' | { [number: number]: FieldKind };
const entryOf = (value: FieldKind): FieldKind => ({ 1: 'bytes', 2: value });
const TENSOR_FIELDS = {
  1: 'bytes',
  2: { 1: 'bytes', 2: 'bytes', 3: 'bytes' },
  3: 'varint',
  4: 'numbers',
} as const;
const CHUNK_FIELDS = {
  1: { 1: 'bytes' },
  2: { 1: 'bytes', 2: 'bytes', 3: 'varint' },
  3: { 1: 'bytes' },
} as const;
const PASS_FIELDS = {
  1: 'bytes',
  2: 'varint',
  3: { 1: CHUNK_FIELDS, 2: entryOf(TENSOR_FIELDS) },
  4: 'bytes',
  5: entryOf('fixed64'),
  6: 'varint',
} as const;

/** Throws an Error for a field that the schema of SDK 0.25 lacks; decoding would pass over it. */
function checkFields(
  bytes: Uint8Array,
  kinds: { readonly [number: number]: FieldKind },
  where: string,
): void {
  for (const field of readFields(bytes)) {
    const kind = kinds[field.number];
    if (kind === undefined)
      throw new Error(`${where}: expected fields of the schema, got field ${field.number}`);
    if (typeof kind === 'object') checkFields(asBytes(field), kind, where);
    else if (
      field.wire !== kind &&
      !(kind === 'numbers' && (field.wire === 'varint' || field.wire === 'bytes'))
    ) {
      throw new Error(`${where}: expected ${kind} in field ${field.number}, got ${field.wire}`);
    }
  }
}

export function readProtobufTrainRequest(bytes: Uint8Array): TrainRequest {
  let request: ReturnType<typeof decodeForwardBackwardRequest>;
  try {
    checkFields(bytes, PASS_FIELDS, 'ForwardBackwardRequest');
    request = decodeForwardBackwardRequest(bytes);
  } catch (error) {
    throw new Refusal(400, messageOf(error));
  }
  const { modelId, seqId: seq, lossName, lossConfig, forwardOnly, data } = request;
  if (modelId === '') throw new Refusal(400, 'model_id: expected an id, got none');
  if (seq < 1) throw new Refusal(400, `seq_id: expected at least 1, got ${seq}`);
  return {
    modelId,
    seqId: seq,
    lossName,
    lossConfig,
    forwardOnly,
    data: () =>
      data.map(({ modelInput: chunks, lossInputs }) => ({
        tokens: chunks.flatMap(textOf),
        inputs: Object.fromEntries(Object.entries(lossInputs).map(([name, each]) => [name, shaped(each)])),
      })),
  };
}

export function readJsonTrainRequest(name: 'forward' | 'forward_backward', bytes: Uint8Array): TrainRequest {
  const body = readBody(name, bytes);
  const input = 'forward_input' in body ? body.forward_input : body.forward_backward_input;
  return {
    modelId: body.model_id,
    seqId: body.seq_id,
    lossName: input.loss_fn,
    lossConfig: input.loss_fn_config ?? {},
    forwardOnly: name === 'forward',
    data: () =>
      input.data.map(({ model_input, loss_fn_inputs }) => ({
        tokens: tokensOf(model_input),
        inputs: Object.fromEntries(
          Object.entries(loss_fn_inputs).map(([key, each]) => [key, fromTensorData(key, each)]),
        ),
      })),
  };
}

/** The ids of all chunks together: a prompt often comes in many small ones. */
export function tokensOf({ chunks }: z.infer<typeof modelInput>): number[] {
  const [first] = chunks;
  if (chunks.length === 1 && first?.type === 'encoded_text') return first.tokens;
  return chunks.flatMap((each) => {
    if (each.type === 'encoded_text') return each.tokens;
    throw new Refusal(400, `chunks: expected encoded_text, got ${each.type}`);
  });
}

function textOf(each: Chunk): number[] {
  if (each.type === 'text') return Array.from(each.tokens);
  throw new Refusal(400, `model_input: expected encoded_text, got ${each.type}`);
}

function shaped({ dtype, data, shape = [data.length] }: WireTensor): Tensor {
  return { dtype, data, shape: shape.length === 0 ? [data.length] : shape };
}

/** TensorData of JSON: dense, or CSR rows with the shape of the dense form. */
function fromTensorData(name: string, each: z.infer<typeof tensor>): Tensor {
  const { dtype, data, shape, sparse_crow_indices: rows, sparse_col_indices: columns } = each;
  if (rows === undefined && columns === undefined) {
    const dense = shape ?? [data.length];
    const size = dense.reduce((a, b) => a * b, 1);
    if (size === data.length) return { dtype, data, shape: dense };
    throw new Refusal(
      400,
      `${name}: expected ${size} values for the shape [${dense.join(', ')}], got ${data.length}`,
    );
  }
  const [height, width] = shape ?? [];
  if (
    height === undefined ||
    width === undefined ||
    rows?.length !== height + 1 ||
    columns?.length !== data.length
  ) {
    throw new Refusal(400, `${name}: expected CSR indices that fit a shape of two axes, got others`);
  }
  const dense = new Float64Array(height * width);
  for (let row = 0; row < height; row++) {
    const [from = 0, to = 0] = [rows[row], rows[row + 1]];
    for (let i = from; i < to; i++) dense[row * width + (columns[i] ?? 0)] = data[i] ?? 0;
  }
  return { dtype, data: dense, shape: [height, width] };
}

export interface TrainLimits {
  contextLength: number;
  vocabularySize: number;
  losses: readonly LossName[];
  /** Losses of ratios may have `weights` too. */
  takesWeights: boolean;
}

/**
 * Checks a training request whole, before it has a future. Every per-token tensor is as long as its datum's input
 * (cross_entropy may have K columns), target_tokens are int64, all else float32, and each loss has its own inputs and
 * options and no others. Throws Refusal.
 */
export function checkTrainRequest(
  { lossName, lossConfig }: TrainRequest,
  data: readonly TrainDatum[],
  limits: TrainLimits,
): LossName {
  const name = limits.losses.find((each) => each === lossName);
  if (name === undefined) {
    throw new Refusal(400, `loss_fn: expected one of ${limits.losses.join(', ')}, got ${lossName}`);
  }
  const { inputs: needed, config, required } = LOSS_FIELDS[name];
  for (const [key, value] of Object.entries(lossConfig)) {
    if (!config.includes(key))
      throw new Refusal(400, `loss_fn_config: expected no ${key} for ${name}, got ${value}`);
    if (!Number.isFinite(value))
      throw new Refusal(400, `loss_fn_config.${key}: expected a number, got ${value}`);
  }
  const missing = required.find((key) => lossConfig[key] === undefined);
  if (missing !== undefined) throw new Refusal(400, `loss_fn_config.${missing}: expected a number, got none`);
  if (data.length === 0) throw new Refusal(400, 'data: expected at least 1 datum, got 0');
  const allowed = limits.takesWeights ? [...needed, 'weights'] : needed;
  data.forEach((datum, n) => checkDatum(datum, `data[${n}]`, name, needed, allowed, limits));
  return name;
}

function checkDatum(
  { tokens, inputs }: TrainDatum,
  where: string,
  name: LossName,
  needed: readonly string[],
  allowed: readonly string[],
  limits: TrainLimits,
): void {
  const refuse = (what: string): never => {
    throw new Refusal(400, `${where}.${what}`);
  };
  checkTokens(tokens, `${where}.model_input`, limits.vocabularySize);
  // The last target is one token more.
  if (tokens.length >= limits.contextLength)
    refuse(`model_input: expected fewer than ${limits.contextLength} tokens, got ${tokens.length}`);
  for (const key of needed)
    if (inputs[key] === undefined) refuse(`loss_fn_inputs: expected ${key}, got none`);
  const shape = inputs['target_tokens']?.shape ?? [];
  const mayBeWide = name === 'cross_entropy' && shape.length === 2 && (shape[1] ?? 0) > 0;
  if (shape[0] !== tokens.length || !(shape.length === 1 || mayBeWide))
    refuse(`target_tokens: expected the shape [${tokens.length}], got [${shape.join(', ')}]`);
  for (const [key, each] of Object.entries(inputs)) {
    if (!allowed.includes(key)) refuse(`loss_fn_inputs: expected no ${key} for ${name}, got one`);
    if (each.shape.join() !== shape.join())
      refuse(`${key}: expected the shape [${shape.join(', ')}], got [${each.shape.join(', ')}]`);
    const dtype = key === 'target_tokens' ? 'int64' : 'float32';
    if (each.dtype !== dtype) refuse(`${key}: expected ${dtype}, got ${each.dtype}`);
    if (!Array.from(each.data).every(Number.isFinite)) refuse(`${key}: expected finite numbers, got others`);
  }
  checkTokens(
    Array.from(inputs['target_tokens']?.data ?? []),
    `${where}.target_tokens`,
    limits.vocabularySize,
  );
}

/** Throws Refusal for an id outside the vocabulary, and for none. */
export function checkTokens(tokens: readonly number[], where: string, vocabularySize: number): void {
  if (tokens.length === 0) throw new Refusal(400, `${where}: expected at least 1 token, got 0`);
  for (const id of tokens) {
    if (Number.isInteger(id) && id >= 0 && id < vocabularySize) continue;
    throw new Refusal(400, `${where}: expected ids from 0 to ${vocabularySize - 1}, got ${id}`);
  }
}
