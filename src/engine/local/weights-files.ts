/**
 * The weights of a folder in the Hugging Face layout: one file or several, read and written as one collection.
 *
 * `lib/weights-index.ts` says how the files are named. Index and shards must agree on every tensor. Pickle files are
 * never opened. Does not know which tensors a model needs.
 */
import { createHash } from 'node:crypto';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { R3Error } from '../../lib/errors.ts';
import { sha256File, storeError, writeFileAtomic } from '../../lib/files.ts';
import {
  explainNoWeights,
  loadWeightsIndex,
  weightsNames,
  type WeightsKind,
} from '../../lib/weights-index.ts';
import {
  openSafetensors,
  storedBytes,
  writeSafetensors,
  type SafetensorsFile,
  type StoredTensor,
  type WritableTensor,
} from './safetensors.ts';

/** The hub's libraries split files above this size. */
const MAX_SHARD_BYTES = 5e9;

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
  const { single, index } = weightsNames(kind);
  return [single, index].map((name) => join(directory, name)).find((path) => existsSync(path));
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
  const shards = [...loadWeightsIndex(path)].toSorted(([a], [b]) => (a < b ? -1 : 1));
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

function bad(path: string, text: string): R3Error {
  return new R3Error('engine', 'bad-file', `${path}: ${text}`);
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

function explainMissing(directory: string, kind: WeightsKind): unknown {
  try {
    const why = explainNoWeights(directory, readdirSync(directory), kind);
    return new R3Error('engine', 'bad-file', why);
  } catch (error) {
    return storeError(directory, error);
  }
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
  const { single, index: indexName } = weightsNames(kind);
  const shards = splitShards(tensors, maxShardBytes);
  if (shards.length <= 1) {
    writeSafetensors(join(directory, single), tensors, metadata);
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
  writeFileAtomic(join(directory, indexName), `${JSON.stringify(index, null, 2)}\n`);
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
