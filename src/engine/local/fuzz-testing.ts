/**
 * Hostile input for the readers of a model folder: safetensors headers, shard indexes, config.json, and the tokenizer's
 * and generation's small JSON files.
 *
 * Each input is a valid file of its kind, changed in its bytes, its lengths or its JSON; it is a function of a seed and
 * a number. A reader must give a valid result or an R3Error, read nothing past the end of the file, and size nothing by
 * what the file claims. All in memory.
 */
import { R3Error, messageOf } from '../../lib/errors.ts';
import { decodeUtf8, parseJsonObject } from '../../lib/json.ts';
import { makeRng, type Rng } from '../../lib/rng.ts';
import { parseWeightsIndex } from '../../lib/weights-index.ts';
import { parseJson, specialTokensOf } from '../../text/model-files.ts';
import { eosIdsOf } from '../../text/tokenizer.ts';
import { parseModelConfig } from './config.ts';
import { makeSafetensorsFile } from './safetensors.ts';

type Json = string | number | boolean | null | Json[] | { [key: string]: Json };

interface Reader {
  /** A valid file. */
  make(rng: Rng): { json: Json; data?: Uint8Array };
  /** Reads it. Throws R3Error, or an Error that says what a result lacks. */
  read(bytes: Uint8Array): void;
}

export interface FuzzCounts {
  accepted: number;
  refused: number;
  /** Of one input. For people, who would see a reader that hangs; machines differ too much for a limit. */
  slowestMs: number;
}

/** Reads inputs [from, from + count), turn by turn. Throws an Error that names seed and input when a reader fails. */
export function fuzzReaders(seed: number, from: number, count: number): Record<string, FuzzCounts> {
  const results: Record<string, FuzzCounts> = {};
  const names = Object.keys(READERS);
  for (const name of names) results[name] = { accepted: 0, refused: 0, slowestMs: 0 };
  for (let input = from; input < from + count; input++) {
    const name = names[input % names.length]!;
    const result = results[name]!;
    const bytes = makeInput(READERS[name]!, makeRng(seed, input));
    const start = performance.now();
    try {
      READERS[name]!.read(bytes);
      result.accepted++;
    } catch (error) {
      const why = unexpected(error);
      if (why !== undefined) {
        const text = Buffer.from(bytes.subarray(0, 600)).toString('latin1');
        throw new Error(`${name}, seed ${seed}, input ${input}: ${why}\n${JSON.stringify(text)}`, {
          cause: error,
        });
      }
      result.refused++;
    }
    result.slowestMs = Math.max(result.slowestMs, performance.now() - start);
  }
  return results;
}

/** What is wrong with an error, undefined when it is as it should be. Readers wrap causes: each is looked at. */
function unexpected(error: unknown): string | undefined {
  if (!(error instanceof R3Error)) return `expected an R3Error, got ${String(error)}`;
  if (error.message.length > 2500) return `expected a short message, got ${error.message.length} characters`;
  for (let cause: unknown = error; cause instanceof Error; cause = cause.cause) {
    if (cause instanceof RangeError || messageOf(cause).startsWith('internal error')) return String(cause);
  }
  return undefined;
}

function makeInput(reader: Reader, rng: Rng): Uint8Array {
  const { json, data } = reader.make(rng);
  // One change finds more than many: what is behind the first refusal is not read.
  const changes = rng.pick([0, 1, 1, 1, 1, 2, 3]);
  const text = Buffer.from(
    rng.below(3) === 0 ? JSON.stringify(json) : renderChanged(json, rng, rng.below(3)),
  );
  let bytes: Buffer = text;
  if (data !== undefined) {
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(text.length));
    bytes = Buffer.concat([length, text, data]);
    if (rng.below(10) === 0) bytes.writeBigUInt64LE(BigInt.asUintN(64, rng.pick(LENGTHS)));
  }
  if (rng.below(2) === 0) return bytes;
  for (let i = 0; i < changes; i++) bytes = changeBytes(bytes, rng);
  return bytes;
}

const LENGTHS = [0n, 1n, 2n, 7n, 8n, 100n, 99_999_999n, 100_000_001n, 2n ** 31n, 2n ** 53n, 2n ** 63n, -1n];

function changeBytes(bytes: Buffer, rng: Rng): Buffer {
  const at = rng.below(bytes.length + 1);
  const end = Math.min(bytes.length, at + rng.below(20));
  switch (rng.below(6)) {
    case 0:
      return bytes.subarray(0, at);
    case 1:
      return Buffer.concat([bytes.subarray(0, at), bytes.subarray(end)]);
    case 2:
      return Buffer.concat([bytes.subarray(0, end), bytes.subarray(at)]);
    case 3:
      return Buffer.concat([bytes.subarray(0, at), Buffer.from(rng.pick(SNIPPETS)), bytes.subarray(at)]);
    default: {
      const changed = Buffer.from(bytes);
      if (at < changed.length)
        changed[at] = rng.below(2) === 0 ? rng.below(256) : changed[at]! ^ (1 << rng.below(8));
      return changed;
    }
  }
}

const SNIPPETS = [
  '\0',
  '\ufeff',
  '"',
  '\\',
  '{',
  '}',
  '[',
  ']',
  ',',
  ':',
  '-',
  '9',
  'e9',
  ' ',
  '\ud800',
  '../',
];

/** Values that readers of JSON stumble over. Not all are JSON. */
const HOSTILE = [
  'null',
  'true',
  '-1',
  '0',
  '-0',
  '0.5',
  '1e400',
  '-1e400',
  '1e308',
  '5e-324',
  '9007199254740991',
  '9007199254740993',
  '4294967296',
  '18446744073709551616',
  '1e1000000',
  'NaN',
  'Infinity',
  'undefined',
  '"NaN"',
  '""',
  '"\\u0000"',
  '"\\ud800"',
  '"__proto__"',
  '"../../x.safetensors"',
  '"toString"',
  '"constructor"',
  `"${'a'.repeat(3000)}"`,
  '[]',
  '{}',
  '[null]',
  '[0, 0]',
  '[4294967295, 4294967295, 0]',
  '[9007199254740991, 9007199254740991]',
  `[${'1,'.repeat(200)}1]`,
  '{"__proto__": {"dtype": "F32"}}',
  '{"toString": 1, "valueOf": 1}',
  '{"toJSON": 1, "length": -1}',
  '{"a": 1, "a": 2}',
  `${'['.repeat(400)}${']'.repeat(400)}`,
  `${'['.repeat(8000)}${']'.repeat(8000)}`,
];
/** Names with a meaning elsewhere, and one too long for a message. */
const HOSTILE_KEYS = [
  '__proto__',
  'constructor',
  'toString',
  'length',
  '',
  '0',
  '4294967295',
  '__metadata__',
];

/** The text of a JSON value in which `changes` of its parts are others. */
function renderChanged(value: Json, rng: Rng, changes: number): string {
  const parts: Json[] = [];
  const collect = (part: Json): void => {
    parts.push(part);
    if (typeof part === 'object' && part !== null) Object.values(part).forEach(collect);
  };
  collect(value);
  const chosen = new Set(Array.from({ length: changes }, () => rng.below(parts.length)));
  let next = 0;
  const render = (part: Json): string => {
    const isChosen = chosen.has(next++);
    const text = renderPart(part, isChosen);
    if (!isChosen) return text;
    switch (rng.below(4)) {
      case 0:
        return JSON.stringify(rng.pick(parts));
      case 1:
        return typeof part === 'number' ? String(part + rng.pick([-2, -1, 1, 2, part, -2 * part])) : text;
      default:
        return rng.pick(HOSTILE);
    }
  };
  const renderPart = (part: Json, isChosen: boolean): string => {
    if (Array.isArray(part)) return `[${part.map(render).join(',')}]`;
    if (typeof part !== 'object' || part === null) return JSON.stringify(part);
    const fields = Object.entries(part).map(([key, field]) => {
      const name = isChosen && rng.below(4) === 0 ? rng.pick(HOSTILE_KEYS) : key;
      return `${JSON.stringify(name)}:${render(field)}`;
    });
    if (isChosen && fields.length > 0 && rng.below(2) === 0) fields.push(rng.pick(fields));
    return `{${fields.join(',')}}`;
  };
  return render(value);
}

const PATH = 'file';

const READERS: Readonly<Record<string, Reader>> = {
  safetensors: {
    make: makeTensors,
    read(bytes) {
      const file = makeSafetensorsFile(PATH, {
        size: bytes.length,
        read(into, position) {
          if (!(position >= 0 && position + into.length <= bytes.length))
            throw new Error(`read past the file: ${into.length} bytes at ${position} of ${bytes.length}`);
          into.set(bytes.subarray(position, position + into.length));
          return into.length;
        },
        close: () => undefined,
      });
      let total = 0;
      for (const [name, { dtype, shape }] of file.tensors) {
        if (!['F32', 'F16', 'BF16'].includes(dtype)) continue;
        const values = file.readF32(name);
        total += values.length * (dtype === 'F32' ? 4 : 2);
        if (total > bytes.length || values.length !== shape.reduce((a, b) => a * b, 1))
          throw new Error(`${name}: ${values.length} values from a file of ${bytes.length} bytes`);
      }
    },
  },
  index: {
    make: (rng) => ({
      json: {
        metadata: { total_size: rng.below(1000) },
        weight_map: Object.fromEntries(
          Array.from({ length: 1 + rng.below(6) }, (_, i) => [`t${i}`, `model-${rng.below(3)}.safetensors`]),
        ),
      },
    }),
    read(bytes) {
      for (const shard of parseWeightsIndex(PATH, bytes).keys()) {
        if (/[/\\]|^\.\.?$/.test(shard)) throw new Error(`a shard name that leads elsewhere: ${shard}`);
      }
    },
  },
  config: {
    make: (rng) => ({
      json: {
        architectures: ['LlamaForCausalLM'],
        model_type: 'llama',
        vocab_size: 100 + rng.below(100),
        hidden_size: 64,
        intermediate_size: 128,
        num_hidden_layers: 1 + rng.below(4),
        num_attention_heads: 4,
        num_key_value_heads: rng.pick([1, 2, 4]),
        head_dim: rng.pick([16, 32, null]),
        rms_norm_eps: 1e-5,
        rope_theta: 10000,
        rope_scaling: rng.pick<Json>([null, { rope_type: 'default' }]),
        max_position_embeddings: 2048,
        tie_word_embeddings: rng.below(2) === 0,
        hidden_act: 'silu',
        attention_bias: false,
        torch_dtype: 'bfloat16',
      },
    }),
    read(bytes) {
      for (const [name, value] of Object.entries(parseModelConfig(objectOf(bytes), PATH))) {
        if (typeof value === 'number' && !Number.isFinite(value)) throw new Error(`${name}: ${value}`);
      }
    },
  },
  text: {
    make: (rng) => ({
      json: {
        eos_token: rng.pick<Json>(['</s>', { content: '</s>', lstrip: false }, null]),
        bos_token: '<s>',
        chat_template: '{{ messages }}',
        eos_token_id: rng.pick<Json>([2, [2, 5], null]),
        added_tokens_decoder: { 2: { content: '</s>', special: true } },
      },
    }),
    read(bytes) {
      const json = parseJson(PATH, Buffer.from(bytes).toString());
      for (const text of Object.values(specialTokensOf(json, {}))) {
        if (typeof text !== 'string') throw new Error(`a special token that is no text: ${typeof text}`);
      }
      for (const id of eosIdsOf(PATH, json['eos_token_id'], 100)) {
        if (!(Number.isInteger(id) && id >= 0 && id < 100)) throw new Error(`an id of ${id}`);
      }
    },
  },
};

/** As `loadModelConfig` does. */
function objectOf(bytes: Uint8Array): Record<string, unknown> {
  try {
    return parseJsonObject(decodeUtf8(bytes));
  } catch (cause) {
    throw new R3Error('engine', 'bad-file', messageOf(cause), { cause });
  }
}

function makeTensors(rng: Rng): { json: Json; data: Uint8Array } {
  const header: Record<string, Json> = {};
  if (rng.below(2) === 0) header['__metadata__'] = { format: 'pt' };
  let position = 0;
  for (let i = rng.below(5); i >= 0; i--) {
    const [dtype, bytes] = rng.pick<[string, number]>([
      ['F32', 4],
      ['F16', 2],
      ['BF16', 2],
      ['I64', 8],
    ]);
    const shape = Array.from({ length: rng.below(4) }, () => rng.below(5));
    // Now and then a gap or an overlap that a change of one number would not make.
    const begin = rng.below(12) === 0 ? Math.max(0, position + rng.pick([-8, -4, -2, 2, 8])) : position;
    const end = begin + shape.reduce((a, b) => a * b, bytes);
    header[`t${i}`] = { dtype, shape, data_offsets: [begin, end] };
    position = end;
  }
  return { json: header, data: Uint8Array.from({ length: position }, () => rng.below(256)) };
}
