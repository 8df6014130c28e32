/**
 * What a folder or a repository says of its weights without opening them: the names of the files, and the index of
 * those in shards.
 *
 *   model.safetensors, or model.safetensors.index.json: { metadata, weight_map: tensor name -> shard name };
 *   for adapters the same with adapter_model in place of model
 *
 * The index's own total_size is not read, since published ones are wrong. Does not look into the shards.
 */
import { R3Error, messageOf } from './errors.ts';
import { readTextFile, storeError } from './files.ts';
import { decodeUtf8, isObject, parseJsonObject, showValue } from './json.ts';

/** DeepSeek-V3's index of 92 thousand tensors has 9 MB. */
const MAX_INDEX_BYTES = 64 * 2 ** 20;
/** DeepSeek-V3 has 163. Each one holds a file open. */
const MAX_SHARDS = 512;
/** What file systems take. */
const MAX_FILE_NAME_LENGTH = 255;
/** Published names of tensors stay under 150; a longer one would fill an error message. */
export const MAX_TENSOR_NAME_LENGTH = 1024;

/** Which weights of a folder: a model's or an adapter's. */
export type WeightsKind = 'model' | 'adapter_model';

/** The files that name all weights: the only one, which goes first as in transformers 5.17, and the index of shards. */
export function weightsNames(kind: WeightsKind): { single: string; index: string } {
  return { single: `${kind}.safetensors`, index: `${kind}.safetensors.index.json` };
}

/**
 * The tensor names of each shard that the index at `path` names. Shard names are plain names of files in the same
 * folder. Throws R3Error `bad-file`.
 */
export function loadWeightsIndex(path: string): Map<string, string[]> {
  return explained(path, () => parse(readTextFile(path, MAX_INDEX_BYTES)));
}

/** `loadWeightsIndex` of the bytes of a file. */
export function parseWeightsIndex(path: string, bytes: Uint8Array): Map<string, string[]> {
  return explained(path, () => parse(decodeUtf8(bytes)));
}

function explained<T>(path: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    const known = storeError(path, error);
    if (known instanceof R3Error) throw known;
    const why = `${path}: ${messageOf(error)}; copy or download it again`;
    throw new R3Error('store', 'bad-file', why, { cause: error });
  }
}

function parse(text: string): Map<string, string[]> {
  const { weight_map: map } = parseJsonObject(text);
  if (!isObject(map)) throw new Error(`weight_map: expected an object, got ${showValue(map)}`);
  const shards = new Map<string, string[]>();
  for (const [name, shard] of Object.entries(map)) {
    if (name.length > MAX_TENSOR_NAME_LENGTH) {
      throw new Error(
        `expected tensor names of at most ${MAX_TENSOR_NAME_LENGTH} characters, got one of ${name.length}`,
      );
    }
    checkShardName(name, shard);
    const names = shards.get(shard);
    if (names !== undefined) names.push(name);
    else if (shards.size < MAX_SHARDS) shards.set(shard, [name]);
    else throw new Error(`expected at most ${MAX_SHARDS} shards, got more`);
  }
  if (shards.size === 0) throw new Error('weight_map: expected the tensors of a model, got none');
  return shards;
}

/** A shard lies beside its index: a name that leads elsewhere is refused, on every system. */
function checkShardName(name: string, shard: unknown): asserts shard is string {
  const isPlain =
    typeof shard === 'string' &&
    shard.length <= MAX_FILE_NAME_LENGTH &&
    shard.endsWith('.safetensors') &&
    !/[/\\:\p{Cc}\p{Cs}]/u.test(shard);
  if (!isPlain) {
    throw new Error(
      `weight_map: ${name}: expected the plain name of a .safetensors file in the same folder, got ${showValue(shard)}`,
    );
  }
}

/**
 * Why a place has no weights, from the names of the files that it has instead. `place`: a folder or a repository, as
 * transformers would be told.
 */
export function explainNoWeights(place: string, names: readonly string[], kind: WeightsKind): string {
  const { single, index } = weightsNames(kind);
  const sorted = names.toSorted();
  const found = (pattern: RegExp): string | undefined => sorted.find((name) => pattern.test(name));
  const from = `from_pretrained(${JSON.stringify(place)}`;
  const shard = found(/^[^/]*\d-of-\d+\.safetensors$/);
  if (shard !== undefined) {
    return `${place}/${index}: expected the index of ${shard} and the other shards, got no such file; download it again, for example with r3 pull`;
  }
  const other = found(kind === 'model' ? /^adapter_model\./ : /^model[.-].*safetensors/);
  if (other !== undefined) {
    return `${place}/${single}: ${
      kind === 'model'
        ? `expected a model's weights, got an adapter's (${other}); name the model that the adapter is for`
        : `expected an adapter's weights, got a model's (${other}); check the path`
    }`;
  }
  // Trainers leave other pickles beside the weights.
  const pickle = found(/^(?!training_args|optimizer|scheduler|rng_state).*\.(bin|pth?|ckpt)$/);
  if (pickle !== undefined) {
    const convert =
      kind === 'model'
        ? `AutoModelForCausalLM.${from}).save_pretrained('OUT')`
        : `PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained('BASE'), ${JSON.stringify(place)}).save_pretrained('OUT')`;
    return `${place}/${pickle}: expected ${single}, got a pickle file, which can run any program when it is opened and is not read. If you trust it, convert it in Python with transformers: ${convert}`;
  }
  const gguf = found(/\.gguf$/i);
  if (gguf !== undefined) {
    return `${place}/${gguf}: expected ${single}, got a GGUF file, which is not read. Take the model that it was made from, or convert it in Python with transformers: AutoModelForCausalLM.${from}, gguf_file=${JSON.stringify(gguf)}).save_pretrained('OUT')`;
  }
  return `${place}/${single}: expected the weights, got no such file and no ${index}; check the path`;
}
