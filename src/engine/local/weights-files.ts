/**
 * The weights of a folder in the Hugging Face layout: one file or several, read and written as one collection.
 *
 *   model.safetensors, or
 *   model.safetensors.index.json: { metadata, weight_map: tensor name -> shard name } and the shards beside it,
 *   model-00001-of-00003.safetensors and so on; for adapters the same with adapter_model in place of model
 *
 * As in transformers 5.17 the single file goes first when both are there. Index and shards must agree on every tensor;
 * the index's own total_size is not read, since published ones are wrong. Pickle files are never opened. Does not know
 * which tensors a model needs.
 */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { R3Error, messageOf } from '../../lib/errors.ts';
import { sha256File, storeError, writeFileAtomic } from '../../lib/files.ts';
import { decodeUtf8, parseJsonObject, showValue } from '../../lib/json.ts';
import {
  MAX_NAME_LENGTH,
  openSafetensors,
  storedBytes,
  writeSafetensors,
  type SafetensorsFile,
  type StoredTensor,
  type WritableTensor,
} from './safetensors.ts';

/** DeepSeek-V3's index of 92 thousand tensors has 9 MB. */
const MAX_INDEX_BYTES = 64 * 2 ** 20;
/** DeepSeek-V3 has 163. Each one holds a file open. */
const MAX_SHARDS = 512;
/** What file systems take. */
const MAX_FILE_NAME_LENGTH = 255;
/** The hub's libraries split files above this size. */
const MAX_SHARD_BYTES = 5e9;

/** Which weights of a folder: a model's or an adapter's. */
export type WeightsKind = 'model' | 'adapter_model';

/** Weights that were found right, as one read-only collection. Their files are open until `close`. */
export interface WeightsFiles {
  /** The file that names them all: the only one, or the index. For messages. */
  readonly path: string;
  /** The safetensors files, by name. */
  readonly paths: readonly string[];
  /** By name. `file` is the path of the file that holds it. */
  readonly tensors: ReadonlyMap<string, StoredTensor & { readonly file: string }>;
  /** As `SafetensorsFile.readF32`. */
  readF32(name: string, from?: number, count?: number, into?: Float32Array): Float32Array;
  /**
   * Hexadecimal sha256 of the one file; of shards, that of a line `name sha256` for each, sorted by name. Reads all
   * files.
   */
  hash(): string;
  close(): void;
}

/** The path of a folder's weights, or of their index; undefined when there is neither. */
export function findWeights(directory: string, kind: WeightsKind = 'model'): string | undefined {
  const single = join(directory, `${kind}.safetensors`);
  return [single, `${single}.index.json`].find((path) => existsSync(path));
}

/**
 * Opens the weights of a folder; the headers are read, the values not. Throws R3Error `bad-file` that names the file
 * and says what to do: where there are none, where they are in a format that is not read, where index and shards
 * differ, and what `openSafetensors` throws.
 */
export function openWeights(directory: string, kind: WeightsKind = 'model'): WeightsFiles {
  const path = findWeights(directory, kind);
  if (path === undefined) throw explainMissing(directory, kind);
  if (path.endsWith('.safetensors')) {
    const file = openSafetensors(path);
    return collect(path, [file], () => sha256File(path));
  }
  const shards = [...loadIndex(path)].toSorted(([a], [b]) => (a < b ? -1 : 1));
  checkPresent(path, directory, shards);
  const files: SafetensorsFile[] = [];
  try {
    for (const [shard, names] of shards) {
      const file = openSafetensors(join(directory, shard));
      files.push(file);
      checkShard(path, file, names);
    }
  } catch (error) {
    for (const file of files) file.close();
    throw error;
  }
  return collect(path, files, () => {
    const lines = shards.map(([shard]) => `${shard} ${sha256File(join(directory, shard))}\n`);
    return createHash('sha256').update(lines.join('')).digest('hex');
  });
}

/** `files` have no tensor name in common. */
function collect(path: string, files: readonly SafetensorsFile[], hash: () => string): WeightsFiles {
  const holders = new Map(files.flatMap((file) => [...file.tensors.keys()].map((name) => [name, file])));
  const tensors = files.flatMap((file) =>
    [...file.tensors].map(([name, { dtype, shape }]) => [name, { dtype, shape, file: file.path }] as const),
  );
  return {
    path,
    paths: files.map((file) => file.path),
    tensors: new Map(tensors),
    readF32(name, from, count, into) {
      const file = holders.get(name);
      if (file === undefined)
        throw new R3Error('engine', 'mismatch', `${path}: expected a tensor ${name}, got none of that name`);
      return file.readF32(name, from, count, into);
    },
    hash,
    close: () => {
      for (const file of files) file.close();
    },
  };
}

function bad(path: string, text: string, options?: { cause: unknown }): R3Error {
  return new R3Error('engine', 'bad-file', `${path}: ${text}`, options);
}

function loadIndex(path: string): Map<string, string[]> {
  try {
    const status = statSync(path);
    if (!status.isFile()) throw bad(path, 'expected a file, got a folder or a device; check the path');
    if (status.size > MAX_INDEX_BYTES)
      throw bad(path, `expected an index of at most ${MAX_INDEX_BYTES} bytes, got ${status.size}`);
    return parseIndex(path, readFileSync(path));
  } catch (error) {
    throw storeError(path, error);
  }
}

/**
 * The tensor names of each shard that an index names. Shard names are plain names of files in the same folder. Throws
 * R3Error `bad-file`.
 */
export function parseIndex(path: string, bytes: Uint8Array): Map<string, string[]> {
  let index: Record<string, unknown>;
  try {
    index = parseJsonObject(decodeUtf8(bytes));
  } catch (cause) {
    throw bad(path, `${messageOf(cause)}; copy or download it again`, { cause });
  }
  const map = index['weight_map'];
  if (typeof map !== 'object' || map === null || Array.isArray(map))
    throw bad(path, `weight_map: expected an object, got ${showValue(map)}`);
  const shards = new Map<string, string[]>();
  for (const [name, shard] of Object.entries(map)) {
    if (name.length > MAX_NAME_LENGTH) {
      throw bad(
        path,
        `expected tensor names of at most ${MAX_NAME_LENGTH} characters, got one of ${name.length}`,
      );
    }
    checkShardName(path, name, shard);
    const names = shards.get(shard);
    if (names !== undefined) names.push(name);
    else if (shards.size < MAX_SHARDS) shards.set(shard, [name]);
    else throw bad(path, `expected at most ${MAX_SHARDS} shards, got more`);
  }
  if (shards.size === 0) throw bad(path, 'weight_map: expected the tensors of a model, got none');
  return shards;
}

/** A shard lies beside its index: a name that leads elsewhere is refused, on every system. */
function checkShardName(path: string, name: string, shard: unknown): asserts shard is string {
  const isPlain =
    typeof shard === 'string' &&
    shard.length <= MAX_FILE_NAME_LENGTH &&
    shard.endsWith('.safetensors') &&
    !/[/\\:\p{Cc}\p{Cs}]/u.test(shard);
  if (!isPlain) {
    throw bad(
      path,
      `weight_map: ${name}: expected the plain name of a .safetensors file in the same folder, got ${showValue(shard)}`,
    );
  }
}

function checkPresent(path: string, directory: string, shards: readonly [string, string[]][]): void {
  const absent = shards.map(([shard]) => shard).filter((shard) => !existsSync(join(directory, shard)));
  if (absent.length === 0) return;
  throw bad(
    path,
    `expected ${shards.length} shards beside it, got ${shards.length - absent.length}: ${listed(absent)} ${absent.length === 1 ? 'is' : 'are'} missing. Download the model again, for example with r3 pull.`,
  );
}

/** A shard holds the tensors that the index puts there and no others. So no tensor is in two shards. */
function checkShard(path: string, file: SafetensorsFile, names: readonly string[]): void {
  const named = new Set(names);
  const lost = names.filter((name) => !file.tensors.has(name));
  const extra = [...file.tensors.keys()].filter((name) => !named.has(name));
  const advice = `${path} does not belong to it: download the model again, for example with r3 pull`;
  if (lost.length > 0) throw bad(file.path, `expected the tensor ${listed(lost)}, got none; ${advice}`);
  if (extra.length > 0) {
    throw bad(
      file.path,
      `expected only the tensors that the index puts there, got also ${listed(extra)}; ${advice}`,
    );
  }
}

function listed(names: readonly string[]): string {
  const rest = names.length - 3;
  return `${names.slice(0, 3).join(', ')}${rest > 0 ? ` and ${rest} more` : ''}`;
}

/** Why a folder has no weights, from what it holds in their place. */
function explainMissing(directory: string, kind: WeightsKind): R3Error {
  let names: string[];
  try {
    names = readdirSync(directory).toSorted();
  } catch (error) {
    return storeError(directory, error) as R3Error;
  }
  const wanted = `${kind}.safetensors`;
  const found = (pattern: RegExp): string | undefined => names.find((name) => pattern.test(name));
  const shard = found(/\d-of-\d+\.safetensors$/);
  if (shard !== undefined) {
    return bad(
      join(directory, `${wanted}.index.json`),
      `expected the index of ${shard} and the other shards, got no such file; download it again, for example with r3 pull`,
    );
  }
  const other = found(kind === 'model' ? /^adapter_model\./ : /^model[.-].*safetensors/);
  if (other !== undefined) {
    return bad(
      join(directory, wanted),
      kind === 'model'
        ? `expected a model's weights, got an adapter's (${other}); name the model that the adapter is for`
        : `expected an adapter's weights, got a model's (${other}); check the path`,
    );
  }
  // Trainers leave other pickles beside the weights.
  const pickle = found(/^(?!training_args|optimizer|scheduler|rng_state).*\.(bin|pth?|ckpt)$/);
  if (pickle !== undefined) {
    const convert =
      kind === 'model'
        ? "AutoModelForCausalLM.from_pretrained('FOLDER').save_pretrained('OUT')"
        : "PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained('BASE'), 'FOLDER').save_pretrained('OUT')";
    return bad(
      join(directory, pickle),
      `expected ${wanted}, got a pickle file, which can run any program when it is opened and is not read. If you trust it, convert it in Python with transformers: ${convert}`,
    );
  }
  const gguf = found(/\.gguf$/i);
  if (gguf !== undefined) {
    return bad(
      join(directory, gguf),
      `expected ${wanted}, got a GGUF file, which is not read. Take the folder that it was made from, or convert it in Python with transformers: AutoModelForCausalLM.from_pretrained('FOLDER', gguf_file='${gguf}').save_pretrained('OUT')`,
    );
  }
  return bad(
    join(directory, wanted),
    `expected the weights, got no such file. Name a folder that holds config.json and ${wanted}.`,
  );
}

/**
 * Writes weights to a folder that has none, as transformers 5 does: one file, or when they take more than
 * `maxShardBytes`, shards filled in the order of the tensors, and their index. A tensor larger than that is a shard
 * by itself. Holds no more in memory than `writeSafetensors`. Each file is whole or absent; the index comes last.
 * Throws what `writeSafetensors` throws.
 */
export function saveWeights(
  directory: string,
  tensors: readonly WritableTensor[],
  options: { kind?: WeightsKind; maxShardBytes?: number; metadata?: Readonly<Record<string, string>> } = {},
): void {
  const { kind = 'model', maxShardBytes = MAX_SHARD_BYTES, metadata = { format: 'pt' } } = options;
  const single = join(directory, `${kind}.safetensors`);
  const shards = splitShards(tensors, maxShardBytes);
  if (shards.length <= 1) {
    writeSafetensors(single, tensors, metadata);
    return;
  }
  const number = (n: number): string => String(n).padStart(5, '0');
  const shardOf = new Map<string, string>();
  for (const { name } of tensors) {
    if (shardOf.has(name))
      throw new R3Error('engine', 'bad-shape', `${name}: expected a name of its own, got it twice`);
    shardOf.set(name, '');
  }
  shards.forEach((shard, i) => {
    const file = `${kind}-${number(i + 1)}-of-${number(shards.length)}.safetensors`;
    writeSafetensors(join(directory, file), shard, metadata);
    for (const { name } of shard) shardOf.set(name, file);
  });
  const index = {
    metadata: {
      total_parameters: sum(tensors, ({ shape }) => shape.reduce((product, size) => product * size, 1)),
      total_size: sum(tensors, storedBytes),
    },
    weight_map: Object.fromEntries([...shardOf].toSorted(([a], [b]) => (a < b ? -1 : 1))),
  };
  writeFileAtomic(`${single}.index.json`, `${JSON.stringify(index, null, 2)}\n`);
}

function splitShards(tensors: readonly WritableTensor[], maxShardBytes: number): WritableTensor[][] {
  const shards: WritableTensor[][] = [];
  let bytes = 0;
  for (const tensor of tensors) {
    const more = storedBytes(tensor);
    if (shards.length === 0 || bytes + more > maxShardBytes) {
      shards.push([]);
      bytes = 0;
    }
    shards.at(-1)?.push(tensor);
    bytes += more;
  }
  return shards;
}

function sum<T>(items: readonly T[], value: (item: T) => number): number {
  return items.reduce((total, item) => total + value(item), 0);
}
