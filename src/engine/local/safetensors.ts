/**
 * The safetensors file format, read and written by hand.
 *
 *   u64 little-endian header length | JSON header, padded with spaces to a multiple of 8 | tensor bytes
 *   header: name -> { dtype, shape, data_offsets: [begin, end] }, relative to the first tensor byte;
 *           __metadata__ -> strings by name
 *
 * Follows github.com/huggingface/safetensors, whose writer sorts by alignment of the dtype, descending, then by name;
 * ours writes the same bytes. Reads F32, F16 and BF16, refuses other dtypes by name. A file is checked whole before
 * any of it is used. Sharded models (model.safetensors.index.json) are not read here.
 */
import { closeSync, fstatSync, openSync } from 'node:fs';
import { endianness } from 'node:os';
import { R3Error, assert, messageOf } from '../../lib/errors.ts';
import { readFully, storeError, writeFileAtomic } from '../../lib/files.ts';
import { decodeUtf8, parseJsonObject, showValue } from '../../lib/json.ts';

/** The library's own limit on a header. */
const MAX_HEADER_BYTES = 100_000_000;
const ALIGNMENT = 8;
const METADATA = '__metadata__';
const BYTES_PER_ELEMENT = { F32: 4, F16: 2, BF16: 2 } as const;
/** How many numbers the writer converts at a time. */
const CHUNK_ELEMENTS = 1 << 22;

export type TensorType = keyof typeof BYTES_PER_ELEMENT;

/** A tensor of a file. `data` is a view of the file's bytes, little-endian, row-major. */
export interface StoredTensor {
  dtype: TensorType;
  shape: number[];
  data: Uint8Array;
}

export interface WritableTensor {
  name: string;
  shape: readonly number[];
  data: Float32Array;
  /** What it becomes in the file. BF16 rounds to nearest, ties to even. */
  dtype: 'F32' | 'BF16';
}

/**
 * All tensors of a file, by name, in the order of their bytes. The whole file is held in memory for as long as one
 * of them is. Throws R3Error `bad-file` naming the file and what does not fit.
 */
export function readSafetensors(path: string): Map<string, StoredTensor> {
  return readWhole(path).tensors;
}

/** The `__metadata__` of a file: strings by name, empty when it has none. */
export function readSafetensorsMetadata(path: string): Record<string, string> {
  return readWhole(path, 'header').metadata;
}

interface Contents {
  tensors: Map<string, StoredTensor>;
  metadata: Record<string, string>;
}

function readWhole(path: string, part: 'header' | 'all' = 'all'): Contents {
  assert(endianness() === 'LE', 'safetensors: this machine is big-endian');
  try {
    const file = openSync(path, 'r');
    try {
      const status = fstatSync(file);
      if (!status.isFile()) throw bad(path, 'expected a file, got a folder or a device; check the path');
      const { size } = status;
      if (size < ALIGNMENT)
        throw bad(path, `expected at least ${ALIGNMENT} bytes, got ${size}; ${COPY_AGAIN}`);
      const start = new Uint8Array(ALIGNMENT);
      readFully(file, start, 0);
      const headerBytes = Number(new DataView(start.buffer).getBigUint64(0, true));
      if (headerBytes > MAX_HEADER_BYTES) {
        throw bad(
          path,
          `expected a header of at most ${MAX_HEADER_BYTES} bytes, got ${headerBytes}; is it a safetensors file?`,
        );
      }
      if (ALIGNMENT + headerBytes > size) {
        throw bad(
          path,
          `expected ${headerBytes} bytes of header, got ${size - ALIGNMENT} (truncated; ${COPY_AGAIN})`,
        );
      }
      const header = new Uint8Array(headerBytes);
      readFully(file, header, ALIGNMENT);
      const { metadata, entries } = parseHeader(path, header);
      const dataStart = ALIGNMENT + headerBytes;
      const dataBytes = checkLayout(path, entries, size - dataStart);
      const tensors = new Map<string, StoredTensor>();
      if (part === 'all') {
        // A buffer of its own: offsets then have the alignment that the writer gave them.
        const data = new Uint8Array(dataBytes);
        readFully(file, data, dataStart);
        for (const { name: tensor, dtype, shape, begin, end } of entries) {
          tensors.set(tensor, { dtype, shape, data: data.subarray(begin, end) });
        }
      }
      return { tensors, metadata };
    } finally {
      closeSync(file);
    }
  } catch (error) {
    throw storeError(path, error);
  }
}

const COPY_AGAIN = 'copy or download it again';

function bad(file: string, text: string): R3Error {
  return new R3Error('engine', 'bad-file', `${file}: ${text}`);
}

interface Entry {
  name: string;
  dtype: TensorType;
  shape: number[];
  begin: number;
  end: number;
}

/** The entries of a header, each checked by itself, in the order of their bytes. */
function parseHeader(
  file: string,
  bytes: Uint8Array,
): { metadata: Record<string, string>; entries: Entry[] } {
  let header: Record<string, unknown>;
  try {
    header = parseJsonObject(decodeUtf8(bytes));
  } catch (cause) {
    const why = `${file}: header: ${messageOf(cause)}; is it a safetensors file?`;
    throw new R3Error('engine', 'bad-file', why, { cause });
  }
  const metadata: [string, string][] = [];
  const entries: Entry[] = [];
  for (const [name, value] of Object.entries(header)) {
    if (name === METADATA) {
      if (!isRecord(value)) throw bad(file, `${METADATA}: expected an object, got ${showValue(value)}`);
      for (const [key, text] of Object.entries(value)) {
        if (typeof text !== 'string')
          throw bad(file, `${METADATA}.${key}: expected a string, got ${typeof text}`);
        metadata.push([key, text]);
      }
    } else {
      entries.push(parseEntry(file, name, value));
    }
  }
  entries.sort((a, b) => a.begin - b.begin || a.end - b.end);
  return { metadata: Object.fromEntries(metadata), entries };
}

function parseEntry(file: string, name: string, value: unknown): Entry {
  if (!isRecord(value)) throw bad(file, `${name}: expected an object, got ${showValue(value)}`);
  const { dtype, shape, data_offsets: offsets } = value;
  if (dtype !== 'F32' && dtype !== 'F16' && dtype !== 'BF16') {
    throw bad(
      file,
      `${name}: expected dtype F32, F16 or BF16, got ${showValue(dtype)}; save the model in one of these (in Python: model.to(torch.bfloat16).save_pretrained)`,
    );
  }
  if (!isCounts(shape))
    throw bad(file, `${name}: expected a shape of non-negative integers, got ${showValue(shape)}`);
  if (!isCounts(offsets) || offsets.length !== 2) {
    throw bad(file, `${name}: expected data_offsets [begin, end], got ${showValue(offsets)}`);
  }
  const [begin = 0, end = 0] = offsets;
  const bytes = shape.reduce((product, size) => product * size, BYTES_PER_ELEMENT[dtype]);
  if (end - begin !== bytes) {
    throw bad(
      file,
      `${name}: expected ${bytes} bytes for ${dtype} [${shape.join(', ')}], got ${end - begin}`,
    );
  }
  return { name, dtype, shape, begin, end };
}

/** Entries must cover the data from its first byte to its last, without a gap or an overlap. Returns its length. */
function checkLayout(file: string, entries: readonly Entry[], dataBytes: number): number {
  let position = 0;
  for (const { name, begin, end } of entries) {
    if (begin !== position) {
      throw bad(
        file,
        `${name}: expected its bytes to begin at ${position}, got ${begin} (a gap or an overlap)`,
      );
    }
    position = end;
  }
  if (dataBytes < position) {
    throw bad(file, `expected ${position} bytes of data, got ${dataBytes} (truncated; ${COPY_AGAIN})`);
  }
  if (dataBytes > position) {
    throw bad(
      file,
      `expected ${position} bytes of data, got ${dataBytes} (bytes after the last tensor; ${COPY_AGAIN})`,
    );
  }
  return position;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isCounts(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((item) => Number.isSafeInteger(item) && item >= 0);
}

/** A tensor's values as f32, exactly. May share the file's bytes: treat it as read-only. */
export function toF32(tensor: StoredTensor): Float32Array {
  const { data, dtype } = tensor;
  if (dtype === 'F32') {
    const aligned = data.byteOffset % 4 === 0 ? data : data.slice();
    return new Float32Array(aligned.buffer, aligned.byteOffset, aligned.byteLength / 4);
  }
  const aligned = data.byteOffset % 2 === 0 ? data : data.slice();
  const halves = new Uint16Array(aligned.buffer, aligned.byteOffset, aligned.byteLength / 2);
  return dtype === 'BF16' ? bf16ToF32(halves) : f16ToF32(halves);
}

/** bf16 is the upper half of an f32. */
export function bf16ToF32(bits: Uint16Array): Float32Array {
  const words = new Uint32Array(bits.length);
  for (let i = 0; i < bits.length; i++) words[i] = bits[i]! << 16;
  return new Float32Array(words.buffer);
}

/** The upper half of each f32, rounded to nearest, ties to even. A NaN becomes 0x7fc0: any NaN, the same bits. */
export function f32ToBf16(values: Float32Array): Uint16Array {
  const words = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const bits = new Uint16Array(values.length);
  for (let i = 0; i < words.length; i++) {
    const word = words[i]!;
    const isNan = (word & 0x7fffffff) > 0x7f800000;
    // Half of the last kept bit, less one when that bit is even: a tie then carries only into an odd one.
    bits[i] = isNan ? 0x7fc0 : (word + 0x7fff + ((word >>> 16) & 1)) >>> 16;
  }
  return bits;
}

/** IEEE 754 binary16: 1 sign, 5 exponent and 10 fraction bits. */
export function f16ToF32(bits: Uint16Array): Float32Array {
  f16Table ??= Float32Array.from({ length: 0x10000 }, (_, half) => f16Value(half));
  const values = new Float32Array(bits.length);
  for (let i = 0; i < bits.length; i++) values[i] = f16Table[bits[i]!]!;
  return values;
}

let f16Table: Float32Array | undefined;

function f16Value(half: number): number {
  const sign = half >>> 15 === 1 ? -1 : 1;
  const exponent = (half >>> 10) & 31;
  const fraction = half & 1023;
  if (exponent === 31) return fraction === 0 ? sign * Infinity : Number.NaN;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  return sign * (1024 + fraction) * 2 ** (exponent - 25);
}

/**
 * Writes a file at once (aside, then renamed). The bytes depend on the arguments alone, not on their order.
 * Throws R3Error `bad-shape` when a tensor's length is not that of its shape or a name occurs twice, `no-space`.
 */
export function writeSafetensors(
  path: string,
  tensors: readonly WritableTensor[],
  metadata: Readonly<Record<string, string>> = {},
): void {
  assert(endianness() === 'LE', 'safetensors: this machine is big-endian');
  const sorted = tensors.toSorted(
    (a, b) =>
      BYTES_PER_ELEMENT[b.dtype] - BYTES_PER_ELEMENT[a.dtype] ||
      Buffer.compare(Buffer.from(a.name), Buffer.from(b.name)),
  );
  // A map and not an object: an object would move names that look like integers to the front.
  const fields: [string, unknown][] = [];
  if (Object.keys(metadata).length > 0) {
    fields.push([
      METADATA,
      Object.fromEntries(Object.entries(metadata).toSorted(([a], [b]) => (a < b ? -1 : 1))),
    ]);
  }
  const seen = new Set<string>([METADATA]);
  let position = 0;
  for (const { name, shape, data, dtype } of sorted) {
    if (seen.has(name))
      throw new R3Error('engine', 'bad-shape', `${name}: expected a name of its own, got it twice`);
    seen.add(name);
    const elements = shape.reduce((product, size) => product * size, 1);
    if (elements !== data.length) {
      throw new R3Error(
        'engine',
        'bad-shape',
        `${name}: expected ${elements} values for [${shape.join(', ')}], got ${data.length}`,
      );
    }
    const end = position + elements * BYTES_PER_ELEMENT[dtype];
    fields.push([name, { dtype, shape, data_offsets: [position, end] }]);
    position = end;
  }
  const text = Buffer.from(
    `{${fields.map(([name, value]) => `${JSON.stringify(name)}:${JSON.stringify(value)}`).join(',')}}`,
  );
  const header = Buffer.alloc(Math.ceil(text.length / ALIGNMENT) * ALIGNMENT, ' ');
  text.copy(header);
  writeFileAtomic(path, fileBytes(header, sorted));
}

function* fileBytes(
  header: Uint8Array,
  tensors: readonly WritableTensor[],
): Generator<Uint8Array, void, undefined> {
  const length = new Uint8Array(ALIGNMENT);
  new DataView(length.buffer).setBigUint64(0, BigInt(header.length), true);
  yield length;
  yield header;
  for (const { data, dtype } of tensors) {
    for (let i = 0; i < data.length; i += CHUNK_ELEMENTS) {
      const part = data.subarray(i, i + CHUNK_ELEMENTS);
      const stored = dtype === 'F32' ? part : f32ToBf16(part);
      yield new Uint8Array(stored.buffer, stored.byteOffset, stored.byteLength);
    }
  }
}
