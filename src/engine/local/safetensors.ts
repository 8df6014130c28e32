/**
 * The safetensors file format, read and written by hand.
 *
 *   u64 little-endian header length | JSON header, padded with spaces to a multiple of 8 | tensor bytes
 *   header: name -> { dtype, shape, data_offsets: [begin, end] }, relative to the first tensor byte;
 *           __metadata__ -> strings by name
 *
 * Follows github.com/huggingface/safetensors 0.8.0, whose writer sorts by dtype, widest first, then by name; ours
 * writes the same bytes. The header is checked whole before anything is read or sized by what it says;
 * values are then read and written strip by strip, so that no file has to fit in memory. A header may hold every dtype
 * of the format; the values of F32, F16 and BF16 are read. Knows nothing of folders and shards: see weights-files.ts.
 */
import { closeSync, fstatSync, openSync, statSync } from 'node:fs';
import { endianness } from 'node:os';
import { R3Error, assert, messageOf } from '../../lib/errors.ts';
import { readFully, storeError, writeFileAtomic } from '../../lib/files.ts';
import { decodeUtf8, isObject, parseJsonObject, showValue } from '../../lib/json.ts';
import { MAX_TENSOR_NAME_LENGTH } from '../../lib/weights-index.ts';
import { F16_LIMIT, bf16ToF32, f16ToF32, f32ToBf16, f32ToF16 } from './half-floats.ts';

/** The library's own limit on a header. */
const MAX_HEADER_BYTES = 100_000_000;
/** PyTorch's own limit on the dimensions of a tensor. */
const MAX_RANK = 64;
const ALIGNMENT = 8;
const METADATA = '__metadata__';
/** Every dtype of the format. Those below 8 bits are packed. */
const BITS_PER_ELEMENT = {
  BOOL: 8,
  F4: 4,
  F6_E2M3: 6,
  F6_E3M2: 6,
  U8: 8,
  I8: 8,
  F8_E5M2: 8,
  F8_E4M3: 8,
  F8_E8M0: 8,
  F8_E4M3FNUZ: 8,
  F8_E5M2FNUZ: 8,
  I16: 16,
  U16: 16,
  F16: 16,
  BF16: 16,
  I32: 32,
  U32: 32,
  F32: 32,
  C64: 64,
  F64: 64,
  I64: 64,
  U64: 64,
} as const;
/** Small enough for the second-level cache, large enough that calls to the system do not count. */
const READ_BYTES = 1 << 18;
/** How many numbers the writer asks for and converts at a time, unless a single row has more. */
const WRITE_ELEMENTS = 1 << 20;

/** How the library's writer sorts tensors before it sorts them by name. */
const WRITE_ORDER: readonly FloatType[] = ['F32', 'BF16', 'F16'];

/** A dtype as a header names it. */
export type TensorType = keyof typeof BITS_PER_ELEMENT;
/** The dtypes whose values are read and written. */
export type FloatType = 'F32' | 'F16' | 'BF16';

export interface StoredTensor {
  readonly dtype: TensorType;
  readonly shape: readonly number[];
}

/** An open file whose header was found right. */
export interface SafetensorsFile {
  readonly path: string;
  /** The `__metadata__`, empty when there is none. */
  readonly metadata: Readonly<Record<string, string>>;
  /** By name, in the order of their bytes. */
  readonly tensors: ReadonlyMap<string, StoredTensor>;
  /**
   * Elements [from, from + count) of a tensor, row-major, as f32 exactly; all of them by default. They go to the start
   * of `into` when given, and the part of it that was filled comes back. Throws R3Error `mismatch` when there is no
   * such tensor, `bad-file` for a dtype that is not read or a file that has changed.
   */
  readF32(name: string, from?: number, count?: number, into?: Float32Array): Float32Array;
  close(): void;
}

/** Where the bytes of a file come from. */
export interface ByteSource {
  readonly size: number;
  /** Fills `bytes` from `position` on. Returns how many were there. */
  read(bytes: Uint8Array, position: number): number;
  close(): void;
}

const COPY_AGAIN = 'copy or download it again';

function bad(file: string, text: string, options?: { cause: unknown }): R3Error {
  return new R3Error('engine', 'bad-file', `${file}: ${text}`, options);
}

/**
 * Opens a file and checks its header. Nothing of the tensors is read. Throws R3Error `bad-file` naming the file and
 * what does not fit.
 */
export function openSafetensors(path: string): SafetensorsFile {
  try {
    // Before opening: to open a pipe would wait for its writer.
    if (!statSync(path).isFile()) {
      throw bad(path, 'expected a file, got a folder or a device; check the path');
    }
    const file = openSync(path, 'r');
    try {
      return makeSafetensorsFile(path, {
        size: fstatSync(file).size,
        read: (bytes, position) => {
          try {
            return readFully(file, bytes, position);
          } catch (error) {
            throw storeError(path, error);
          }
        },
        close: () => closeSync(file),
      });
    } catch (error) {
      closeSync(file);
      throw error;
    }
  } catch (error) {
    throw storeError(path, error);
  }
}

/** `openSafetensors` over bytes from anywhere; `path` is what errors name. */
export function makeSafetensorsFile(path: string, source: ByteSource): SafetensorsFile {
  assert(endianness() === 'LE', 'safetensors: this machine is big-endian');
  const headerBytes = readHeaderLength(path, source);
  const header = new Uint8Array(headerBytes);
  source.read(header, ALIGNMENT);
  const { metadata, entries } = parseHeader(path, header);
  const dataStart = ALIGNMENT + headerBytes;
  checkLayout(path, entries, source.size - dataStart);
  const tensors = new Map(entries.map((entry) => [entry.name, entry]));
  const readAt = (bytes: Uint8Array, position: number): void => {
    const got = source.read(bytes, position);
    if (got < bytes.length) {
      throw bad(
        path,
        `expected ${bytes.length} bytes at ${position}, got ${got}: the file was cut while it was open; ${COPY_AGAIN}`,
      );
    }
  };
  let strip: Uint8Array | undefined;
  return {
    path,
    metadata,
    tensors,
    readF32(name, from = 0, count, into) {
      const tensor = tensors.get(name);
      if (tensor === undefined) {
        throw new R3Error('engine', 'mismatch', `${path}: expected a tensor ${name}, got none of that name`);
      }
      const { dtype, shape, begin } = tensor;
      if (dtype !== 'F32' && dtype !== 'F16' && dtype !== 'BF16') {
        throw bad(
          path,
          `${name}: expected dtype F32, F16 or BF16, got ${dtype}; save the model in one of these (in Python: model.to(torch.bfloat16).save_pretrained), or take it from before it was quantized`,
        );
      }
      const elements = elementsOf(shape);
      const wanted = count ?? elements - from;
      assert(
        Number.isInteger(from) && from >= 0 && wanted >= 0 && from + wanted <= elements,
        `${name}: elements [${from}, ${from + wanted}) of ${elements}`,
      );
      assert(into === undefined || into.length >= wanted, `${name}: ${wanted} elements into ${into?.length}`);
      const values = into === undefined ? new Float32Array(wanted) : into.subarray(0, wanted);
      const elementBytes = BITS_PER_ELEMENT[dtype] / 8;
      const start = dataStart + begin + from * elementBytes;
      if (dtype === 'F32') {
        readAt(new Uint8Array(values.buffer, values.byteOffset, values.byteLength), start);
        return values;
      }
      strip ??= new Uint8Array(READ_BYTES);
      const convert = dtype === 'BF16' ? bf16ToF32 : f16ToF32;
      const stripElements = READ_BYTES / elementBytes;
      for (let i = 0; i < wanted; i += stripElements) {
        const part = Math.min(stripElements, wanted - i);
        readAt(strip.subarray(0, part * elementBytes), start + i * elementBytes);
        convert(new Uint16Array(strip.buffer, 0, part), values.subarray(i, i + part));
      }
      return values;
    },
    close: () => source.close(),
  };
}

/** The length of a header, which is in the file whole. */
function readHeaderLength(path: string, source: ByteSource): number {
  const { size } = source;
  if (size < ALIGNMENT) throw bad(path, `expected at least ${ALIGNMENT} bytes, got ${size}; ${COPY_AGAIN}`);
  const start = new Uint8Array(ALIGNMENT);
  source.read(start, 0);
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
  return headerBytes;
}

interface Entry extends StoredTensor {
  name: string;
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
    throw bad(file, `header: ${messageOf(cause)}; is it a safetensors file?`, { cause });
  }
  const metadata: [string, string][] = [];
  const entries: Entry[] = [];
  for (const [name, value] of Object.entries(header)) {
    if (name === METADATA) {
      if (!isObject(value)) throw bad(file, `${METADATA}: expected an object, got ${showValue(value)}`);
      for (const [key, text] of Object.entries(value)) {
        checkName(file, key);
        if (typeof text !== 'string')
          throw bad(file, `${METADATA}.${key}: expected a string, got ${typeof text}`);
        metadata.push([key, text]);
      }
    } else {
      checkName(file, name);
      entries.push(parseEntry(file, name, value));
    }
  }
  entries.sort((a, b) => a.begin - b.begin || a.end - b.end);
  return { metadata: Object.fromEntries(metadata), entries };
}

function checkName(file: string, name: string): void {
  if (name.length <= MAX_TENSOR_NAME_LENGTH) return;
  throw bad(
    file,
    `expected names of at most ${MAX_TENSOR_NAME_LENGTH} characters, got one of ${name.length}`,
  );
}

function parseEntry(file: string, name: string, value: unknown): Entry {
  if (!isObject(value)) throw bad(file, `${name}: expected an object, got ${showValue(value)}`);
  const { dtype, shape, data_offsets: offsets } = value;
  if (!isTensorType(dtype)) {
    throw bad(
      file,
      `${name}: expected a dtype of the format (${Object.keys(BITS_PER_ELEMENT).join(', ')}), got ${showValue(dtype)}`,
    );
  }
  if (!isCounts(shape))
    throw bad(file, `${name}: expected a shape of non-negative integers, got ${showValue(shape)}`);
  if (shape.length > MAX_RANK)
    throw bad(file, `${name}: expected a shape of at most ${MAX_RANK} sizes, got ${shape.length}`);
  if (!isCounts(offsets) || offsets.length !== 2) {
    throw bad(file, `${name}: expected data_offsets [begin, end], got ${showValue(offsets)}`);
  }
  const [begin = 0, end = 0] = offsets;
  const bytes = (elementsOf(shape) * BITS_PER_ELEMENT[dtype]) / 8;
  if (end - begin !== bytes) {
    throw bad(
      file,
      `${name}: expected ${bytes} bytes for ${dtype} [${shape.join(', ')}], got ${end - begin}`,
    );
  }
  return { name, dtype, shape, begin, end };
}

/** Entries must cover the data from its first byte to its last, without a gap or an overlap. */
function checkLayout(file: string, entries: readonly Entry[], dataBytes: number): void {
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
}

function isTensorType(value: unknown): value is TensorType {
  return typeof value === 'string' && Object.hasOwn(BITS_PER_ELEMENT, value);
}

function isCounts(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((item) => Number.isSafeInteger(item) && item >= 0);
}

/** Exact up to 2^53, and above that at least 2^53: more than any offset. */
function elementsOf(shape: readonly number[]): number {
  return shape.includes(0) ? 0 : shape.reduce((product, size) => product * size, 1);
}

export interface WritableTensor {
  name: string;
  shape: readonly number[];
  /**
   * All values, or a function that makes those of rows [from, from + count) of the first axis when they are written.
   * Its result is read before the next call and not kept.
   */
  data: Float32Array | ((from: number, count: number) => Float32Array);
  /** What it becomes in the file. BF16 and F16 round to nearest, ties to even. */
  dtype: FloatType;
}

/** How many bytes a tensor takes in a file. */
export function storedBytes({ shape, dtype }: Pick<WritableTensor, 'shape' | 'dtype'>): number {
  return (elementsOf(shape) * BITS_PER_ELEMENT[dtype]) / 8;
}

/**
 * Writes a file at once (aside, then renamed), holding no more of it than a strip. The bytes depend on the arguments
 * alone, not on their order. Throws R3Error `bad-shape` when a tensor's length is not that of its shape or a name
 * occurs twice, `bad-option` for a number beyond f16, `no-space`.
 */
export function writeSafetensors(
  path: string,
  tensors: readonly WritableTensor[],
  metadata: Readonly<Record<string, string>> = {},
): void {
  assert(endianness() === 'LE', 'safetensors: this machine is big-endian');
  const sorted = tensors.toSorted(
    (a, b) =>
      WRITE_ORDER.indexOf(a.dtype) - WRITE_ORDER.indexOf(b.dtype) ||
      Buffer.compare(Buffer.from(a.name), Buffer.from(b.name)),
  );
  writeFileAtomic(path, fileBytes(makeHeader(sorted, metadata), sorted));
}

function makeHeader(
  tensors: readonly WritableTensor[],
  metadata: Readonly<Record<string, string>>,
): Uint8Array {
  // A list and not an object: an object would move names that look like integers to the front.
  const fields: [string, unknown][] = [];
  if (Object.keys(metadata).length > 0) {
    fields.push([
      METADATA,
      Object.fromEntries(Object.entries(metadata).toSorted(([a], [b]) => (a < b ? -1 : 1))),
    ]);
  }
  const seen = new Set<string>([METADATA]);
  let position = 0;
  for (const tensor of tensors) {
    const { name, shape, data, dtype } = tensor;
    if (seen.has(name))
      throw new R3Error('engine', 'bad-shape', `${name}: expected a name of its own, got it twice`);
    seen.add(name);
    if (data instanceof Float32Array) checkLength(tensor, shape, data);
    const end = position + storedBytes(tensor);
    fields.push([name, { dtype, shape, data_offsets: [position, end] }]);
    position = end;
  }
  const text = Buffer.from(
    `{${fields.map(([name, value]) => `${JSON.stringify(name)}:${JSON.stringify(value)}`).join(',')}}`,
  );
  const header = Buffer.alloc(Math.ceil(text.length / ALIGNMENT) * ALIGNMENT, ' ');
  text.copy(header);
  return header;
}

function checkLength({ name }: WritableTensor, shape: readonly number[], data: Float32Array): void {
  if (elementsOf(shape) === data.length) return;
  throw new R3Error(
    'engine',
    'bad-shape',
    `${name}: expected ${elementsOf(shape)} values for [${shape.join(', ')}], got ${data.length}`,
  );
}

function* fileBytes(
  header: Uint8Array,
  tensors: readonly WritableTensor[],
): Generator<Uint8Array, void, undefined> {
  const length = new Uint8Array(ALIGNMENT);
  new DataView(length.buffer).setBigUint64(0, BigInt(header.length), true);
  yield length;
  yield header;
  for (const tensor of tensors) {
    for (const strip of stripsOf(tensor)) {
      const stored = store(tensor, strip);
      yield new Uint8Array(stored.buffer, stored.byteOffset, stored.byteLength);
    }
  }
}

function* stripsOf(tensor: WritableTensor): Generator<Float32Array, void, undefined> {
  const { shape, data } = tensor;
  if (data instanceof Float32Array) {
    for (let i = 0; i < data.length; i += WRITE_ELEMENTS) yield data.subarray(i, i + WRITE_ELEMENTS);
    return;
  }
  const [rows = 1, ...rowShape] = shape;
  const rowElements = elementsOf(rowShape);
  if (rowElements === 0) return;
  const stripRows = Math.max(1, Math.floor(WRITE_ELEMENTS / rowElements));
  for (let row = 0; row < rows; row += stripRows) {
    const count = Math.min(stripRows, rows - row);
    const strip = data(row, count);
    checkLength(tensor, [count, ...rowShape], strip);
    yield strip;
  }
}

function store({ name, dtype }: WritableTensor, values: Float32Array): Float32Array | Uint16Array {
  switch (dtype) {
    case 'F32':
      return values;
    case 'BF16':
      return f32ToBf16(values);
    case 'F16':
      checkF16(name, values);
      return f32ToF16(values);
    default:
      return dtype satisfies never;
  }
}

function checkF16(name: string, values: Float32Array): void {
  for (let i = 0; i < values.length; i++) {
    const value = values[i]!;
    if ((value < F16_LIMIT && value > -F16_LIMIT) || !Number.isFinite(value)) continue;
    throw new R3Error(
      'engine',
      'bad-option',
      `${name}: expected numbers below ${F16_LIMIT}, which F16 can hold, got ${value}; save as BF16 or F32`,
    );
  }
}
