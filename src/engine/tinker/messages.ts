/**
 * The protobuf messages of the Tinker protocol (package `tinker_public`), in both directions: the client writes a
 * ForwardBackwardRequest and reads a ForwardBackwardOutput and a SampleResponse, a server the other way round.
 *
 * Buffers are little-endian and row-major. Tensors are read as float32 (bfloat16 widened) or int64 (int32 widened;
 * above 2^53 refused, never rounded); sparse ones (CSR) are read as dense ones. They are written dense, as float32
 * or int64. A NaN among prompt log-probabilities stands for "none". Fields that are not named here, such as the
 * likeliest alternatives of each token, are skipped. Whatever else is wrong with the bytes is one R3Error.
 *
 * Source: tinker_public.proto of the official SDK, 0.25.0. Its reader decides the open cases: empty
 * log-probabilities are absent ones, `num_datums` 0 means as many as the first field has.
 */
import { R3Error, assert, messageOf } from '../../lib/errors.ts';
import {
  asBytes,
  asDouble,
  asInteger,
  asIntegers,
  asText,
  makeProtoWriter,
  readFields,
  safeInteger,
  type Field,
  type ProtoWriter,
} from './protobuf.ts';

export type Dtype = 'float32' | 'int64';

/** Flat, row-major. No shape: one axis. Read ones hold a Float32Array, or for int64 a Float64Array. */
export interface Tensor {
  dtype: Dtype;
  data: ArrayLike<number>;
  shape?: readonly number[];
}

export type Chunk =
  | { type: 'text'; tokens: ArrayLike<number> }
  | { type: 'image'; data: Uint8Array; format: string; expectedTokens?: number }
  | { type: 'audio'; data: Uint8Array };

export interface MessageDatum {
  modelInput: readonly Chunk[];
  lossInputs: Readonly<Record<string, Tensor>>;
}

export interface ForwardBackwardRequest {
  modelId: string;
  /** 0 where it is left out. */
  seqId: number;
  data: readonly MessageDatum[];
  lossName: string;
  lossConfig: Readonly<Record<string, number>>;
  forwardOnly: boolean;
}

export interface ForwardBackwardOutput {
  outputType: string;
  /** One per datum, in order; each has at least one axis. */
  outputs: Record<string, Tensor>[];
  metrics: Record<string, number>;
}

export interface SampledSequence {
  tokens: number[];
  logprobs: number[] | null;
  stopReason: 'stop' | 'length';
}

export interface SampleResponse {
  sequences: SampledSequence[];
  /** One per token of the prompt; `null` where there is none, as for the first. */
  promptLogprobs: (number | null)[] | null;
  cachedPromptTokens: number;
}

/** No tensor and no list of datums of a real answer is larger; a sparse tensor of a few bytes could claim to be. */
const MAX_ELEMENTS = 2 ** 24;
const MAX_DATUMS = 2 ** 20;
const NO_BYTES = new Uint8Array();

/** Throws R3Error `bad-answer` for bytes that are no such message. */
export function decodeForwardBackwardRequest(bytes: Uint8Array): ForwardBackwardRequest {
  return guarded('ForwardBackwardRequest', () => {
    const request = { modelId: '', seqId: 0, lossName: '', forwardOnly: false };
    const data: MessageDatum[] = [];
    const lossConfig: Record<string, number> = {};
    for (const field of readFields(bytes)) {
      if (field.number === 1) request.modelId = asText(field);
      if (field.number === 2) request.seqId = asInteger(field);
      if (field.number === 3) data.push(readDatum(asBytes(field)));
      if (field.number === 4) request.lossName = asText(field);
      if (field.number === 5) readEntry(field, lossConfig, asDouble, 0);
      if (field.number === 6) request.forwardOnly = asInteger(field) !== 0;
      // The newer form of the configuration, which stands beside the older one: {1: number} or {2: text}.
      if (field.number === 7) readEntry(field, lossConfig, readConfigNumber, 0);
    }
    return { ...request, data, lossConfig };
  });
}

export function encodeForwardBackwardRequest(request: ForwardBackwardRequest): Uint8Array {
  const writer = makeProtoWriter();
  if (request.modelId !== '') writer.text(1, request.modelId);
  if (request.seqId !== 0) writer.integer(2, request.seqId);
  for (const datum of request.data) {
    writer.message(3, () => {
      for (const chunk of datum.modelInput) writer.message(1, () => writeChunk(writer, chunk));
      for (const [name, tensor] of Object.entries(datum.lossInputs)) {
        writer.message(2, () => {
          writer.text(1, name);
          writer.message(2, () => writeTensor(writer, tensor));
        });
      }
    });
  }
  if (request.lossName !== '') writer.text(4, request.lossName);
  writeNumbers(writer, 5, request.lossConfig);
  if (request.forwardOnly) writer.integer(6, 1);
  return writer.finish();
}

/** Throws R3Error `bad-answer` for bytes that are no such message. */
export function decodeForwardBackwardOutput(bytes: Uint8Array): ForwardBackwardOutput {
  return guarded('ForwardBackwardOutput', () => {
    let outputType = '';
    const outputs: Record<string, Tensor>[] = [];
    const metrics: Record<string, number> = {};
    for (const field of readFields(bytes)) {
      if (field.number === 1) outputType = asText(field);
      if (field.number === 2) for (const each of readRecord(asBytes(field))) outputs.push(each);
      if (field.number === 3) readEntry(field, metrics, asDouble, 0);
      if (outputs.length > MAX_DATUMS) throw new Error(`expected at most ${MAX_DATUMS} outputs, got more`);
    }
    return { outputType, outputs, metrics };
  });
}

/** All outputs in one record: each must have the same names, and per name one dtype and trailing shape. */
export function encodeForwardBackwardOutput(output: ForwardBackwardOutput): Uint8Array {
  const writer = makeProtoWriter();
  const { outputType, outputs, metrics } = output;
  if (outputType !== '') writer.text(1, outputType);
  if (outputs.length > 0) {
    writer.message(2, () => {
      writer.text(1, outputType);
      for (const name of Object.keys(outputs[0] ?? {})) {
        const tensors = outputs.map((each) => each[name] ?? { dtype: 'float32' as const, data: [] });
        writer.message(2, () => {
          writer.text(1, name);
          writer.message(2, () => writeBatched(writer, tensors));
        });
      }
      writer.integer(3, outputs.length);
    });
  }
  writeNumbers(writer, 3, metrics);
  return writer.finish();
}

/** Throws R3Error `bad-answer` for bytes that are no such message. */
export function decodeSampleResponse(bytes: Uint8Array): SampleResponse {
  return guarded('SampleResponse', () => {
    const sequences: SampledSequence[] = [];
    let promptLogprobs: (number | null)[] | null = null;
    let cachedPromptTokens = 0;
    for (const field of readFields(bytes)) {
      if (field.number === 1) sequences.push(readSequence(asBytes(field)));
      if (field.number === 2 && asBytes(field).length > 0) {
        promptLogprobs = Array.from(floatsOf(asBytes(field)), (each) => (Number.isNaN(each) ? null : each));
      }
      if (field.number === 4) cachedPromptTokens = asInteger(field);
    }
    return { sequences, promptLogprobs, cachedPromptTokens };
  });
}

export function encodeSampleResponse(response: SampleResponse): Uint8Array {
  const writer = makeProtoWriter();
  for (const { tokens, logprobs, stopReason } of response.sequences) {
    writer.message(1, () => {
      if (stopReason === 'length') writer.integer(1, 1);
      if (tokens.length > 0) writer.bytes(2, tokenBytes(tokens));
      if (logprobs !== null) writer.bytes(3, bytesOf(Float32Array.from(logprobs)));
    });
  }
  if (response.promptLogprobs !== null) {
    writer.bytes(2, bytesOf(Float32Array.from(response.promptLogprobs, (each) => each ?? Number.NaN)));
  }
  if (response.cachedPromptTokens !== 0) writer.integer(4, response.cachedPromptTokens);
  return writer.finish();
}

function guarded<T>(message: string, read: () => T): T {
  try {
    return read();
  } catch (cause) {
    const why = messageOf(cause);
    throw new R3Error(
      'engine',
      'bad-answer',
      `${message}: expected protobuf bytes of it, got others (${why})`,
      {
        cause,
      },
    );
  }
}

function readSequence(bytes: Uint8Array): SampledSequence {
  const sequence: SampledSequence = { tokens: [], logprobs: null, stopReason: 'stop' };
  for (const field of readFields(bytes)) {
    if (field.number === 1) {
      const reason = asInteger(field);
      if (reason !== 0 && reason !== 1) throw new Error(`stop_reason: expected 0 or 1, got ${reason}`);
      sequence.stopReason = reason === 0 ? 'stop' : 'length';
    }
    if (field.number === 2) sequence.tokens = listOf(asBytes(field), 'int32');
    if (field.number === 3 && asBytes(field).length > 0)
      sequence.logprobs = listOf(asBytes(field), 'float32');
  }
  return sequence;
}

function readDatum(bytes: Uint8Array): MessageDatum {
  const modelInput: Chunk[] = [];
  const lossInputs: Record<string, Tensor> = {};
  for (const field of readFields(bytes)) {
    if (field.number === 1) modelInput.push(readChunk(asBytes(field)));
    if (field.number === 2) {
      readEntry(field, lossInputs, (value) => readTensor(asBytes(value)), readTensor(NO_BYTES));
    }
  }
  return { modelInput, lossInputs };
}

function readChunk(bytes: Uint8Array): Chunk {
  let chunk: Chunk | undefined;
  for (const field of readFields(bytes)) {
    if (field.number === 1) {
      const tokens = readFields(asBytes(field)).findLast(({ number }) => number === 1);
      chunk = { type: 'text', tokens: integersOf(tokens === undefined ? NO_BYTES : asBytes(tokens), 4) };
    }
    if (field.number === 2) {
      const image: Chunk = { type: 'image', data: NO_BYTES, format: '' };
      for (const inner of readFields(asBytes(field))) {
        if (inner.number === 1) image.data = asBytes(inner);
        if (inner.number === 2) image.format = asText(inner);
        if (inner.number === 3) image.expectedTokens = asInteger(inner);
      }
      chunk = image;
    }
    if (field.number === 3) {
      const data = readFields(asBytes(field)).findLast(({ number }) => number === 1);
      chunk = { type: 'audio', data: data === undefined ? NO_BYTES : asBytes(data) };
    }
  }
  if (chunk === undefined) throw new Error('chunk: expected text, an image or audio, got none of them');
  return chunk;
}

function writeChunk(writer: ProtoWriter, chunk: Chunk): void {
  switch (chunk.type) {
    case 'text':
      return writer.message(1, () => writer.bytes(1, tokenBytes(chunk.tokens)));
    case 'image':
      return writer.message(2, () => {
        writer.bytes(1, chunk.data);
        writer.text(2, chunk.format);
        if (chunk.expectedTokens !== undefined) writer.integer(3, chunk.expectedTokens);
      });
    case 'audio':
      return writer.message(3, () => writer.bytes(1, chunk.data));
    default:
      chunk satisfies never;
  }
}

function readTensor(bytes: Uint8Array): Tensor {
  let dense: Uint8Array = NO_BYTES;
  let sparse: Uint8Array | undefined;
  let dtype = 0;
  const shape: number[] = [];
  for (const field of readFields(bytes)) {
    if (field.number === 1) [dense, sparse] = [asBytes(field), undefined];
    if (field.number === 2) sparse = asBytes(field);
    if (field.number === 3) dtype = asInteger(field);
    if (field.number === 4) shape.push(...asIntegers(field));
  }
  const data = sparse === undefined ? numbersOf(dense, dtype) : readSparse(sparse, dtype, shape);
  if (shape.length > 0 && sizeOf(shape) !== data.length) {
    throw new Error(
      `tensor: expected the ${sizeOf(shape)} values of shape [${shape.join()}], got ${data.length}`,
    );
  }
  return { dtype: dtypeOf(dtype), data, ...(shape.length > 0 ? { shape } : {}) };
}

/** The dense values of a CSR matrix: those of row r are the entries row_starts[r] to row_starts[r + 1]. */
function readSparse(bytes: Uint8Array, dtype: number, shape: readonly number[]): Float32Array | Float64Array {
  const parts: Record<'values' | 'rowStarts' | 'columns', Uint8Array> = {
    values: NO_BYTES,
    rowStarts: NO_BYTES,
    columns: NO_BYTES,
  };
  for (const field of readFields(bytes)) {
    if (field.number === 1) parts.values = asBytes(field);
    if (field.number === 2) parts.rowStarts = asBytes(field);
    if (field.number === 3) parts.columns = asBytes(field);
  }
  const values = numbersOf(parts.values, dtype);
  const rowStarts = integersOf(parts.rowStarts, 8);
  const columns = integersOf(parts.columns, 8);
  const [rowCount = 0, columnCount = 0] = shape;
  const isWhole =
    shape.length === 2 &&
    rowStarts.length === rowCount + 1 &&
    rowStarts[0] === 0 &&
    rowStarts[rowCount] === values.length &&
    columns.length === values.length;
  if (!isWhole)
    throw new Error(`sparse tensor: expected CSR of a matrix, got parts that do not fit [${shape.join()}]`);
  const size = sizeOf(shape);
  const data = dtypeOf(dtype) === 'float32' ? new Float32Array(size) : new Float64Array(size);
  for (let row = 0; row < rowCount; row++) {
    const [start, end] = [rowStarts[row] as number, rowStarts[row + 1] as number];
    if (end < start || end > values.length)
      throw new Error(`sparse tensor: expected rows in order, got ${end}`);
    for (let i = start; i < end; i++) {
      const column = columns[i] as number;
      if (column < 0 || column >= columnCount)
        throw new Error(`sparse tensor: expected a column, got ${column}`);
      data[row * columnCount + column] = values[i] as number;
    }
  }
  return data;
}

function writeTensor(writer: ProtoWriter, { dtype, data, shape }: Tensor): void {
  writer.bytes(1, packedBytes(dtype, data));
  writer.integer(3, DTYPES[dtype]);
  if (shape !== undefined && shape.length > 0) writer.integers(4, shape);
}

/** The datums of an ArrayRecord: per name one tensor, with offsets in bytes where each datum's part begins. */
function readRecord(bytes: Uint8Array): Record<string, Tensor>[] {
  const fields: Record<string, Tensor[]> = {};
  let count = 0;
  for (const field of readFields(bytes)) {
    if (field.number === 2) readEntry(field, fields, (value) => readBatched(asBytes(value)), []);
    if (field.number === 3) count = asInteger(field);
  }
  const named = Object.entries(fields);
  if (count === 0) count = named[0]?.[1].length ?? 0;
  if (count < 0 || count > MAX_DATUMS)
    throw new Error(`num_datums: expected at most ${MAX_DATUMS}, got ${count}`);
  for (const [name, tensors] of named) {
    if (tensors.length !== count) throw new Error(`${name}: expected ${count} datums, got ${tensors.length}`);
  }
  return Array.from({ length: count }, (_, i) =>
    Object.fromEntries(named.map(([name, tensors]) => [name, tensors[i] as Tensor])),
  );
}

function readBatched(bytes: Uint8Array): Tensor[] {
  let data: Uint8Array = NO_BYTES;
  let offsets: Float64Array = new Float64Array();
  let dtype = 0;
  const trailing: number[] = [];
  for (const field of readFields(bytes)) {
    if (field.number === 1) data = asBytes(field);
    if (field.number === 2) offsets = integersOf(asBytes(field), 8);
    if (field.number === 3) dtype = asInteger(field);
    if (field.number === 4) trailing.push(...asIntegers(field));
  }
  const width = sizeOf(trailing);
  return Array.from({ length: Math.max(0, offsets.length - 1) }, (_, i) => {
    const [start, end] = [offsets[i] as number, offsets[i + 1] as number];
    if (start < 0 || end < start || end > data.length) {
      throw new Error(
        `offsets: expected places within ${data.length} bytes in order, got ${start} to ${end}`,
      );
    }
    const values = numbersOf(data.subarray(start, end), dtype);
    const rows = width === 0 ? 0 : values.length / width;
    if (!Number.isInteger(rows))
      throw new Error(`expected rows of ${width} values, got ${values.length} values`);
    return { dtype: dtypeOf(dtype), data: values, shape: [rows, ...trailing] };
  });
}

function writeBatched(writer: ProtoWriter, tensors: readonly Tensor[]): void {
  const { dtype, shape = [0] } = tensors[0] as Tensor;
  const parts = tensors.map((tensor) => packedBytes(dtype, tensor.data));
  const offsets = new Float64Array(parts.length + 1);
  for (const [i, part] of parts.entries()) offsets[i + 1] = (offsets[i] as number) + part.length;
  writer.bytes(1, Buffer.concat(parts));
  writer.bytes(2, packedBytes('int64', offsets));
  writer.integer(3, DTYPES[dtype]);
  if (shape.length > 1) writer.integers(4, shape.slice(1));
}

/** An entry of a map: key 1, value 2, each left out where it is the default. */
function readEntry<T>(field: Field, into: Record<string, T>, read: (value: Field) => T, absent: T): void {
  let key = '';
  let value = absent;
  for (const part of readFields(asBytes(field))) {
    if (part.number === 1) key = asText(part);
    if (part.number === 2) value = read(part);
  }
  // A plain assignment to `__proto__` would set the prototype.
  Object.defineProperty(into, key, { value, enumerable: true, writable: true, configurable: true });
}

function readConfigNumber(field: Field): number {
  const number = readFields(asBytes(field)).findLast(({ number: each }) => each === 1);
  if (number === undefined) throw new Error('loss_fn_config_v2: expected a number, got a text');
  return asDouble(number);
}

function writeNumbers(writer: ProtoWriter, field: number, numbers: Readonly<Record<string, number>>): void {
  for (const [key, value] of Object.entries(numbers)) {
    writer.message(field, () => {
      writer.text(1, key);
      writer.double(2, value);
    });
  }
}

const DTYPES = { float32: 1, int64: 2 } as const;

function dtypeOf(dtype: number): Dtype {
  return dtype === 2 || dtype === 3 ? 'int64' : 'float32';
}

/** The values of a buffer of a DType: 1 float32, 2 int64, 3 int32, 4 bfloat16. */
function numbersOf(bytes: Uint8Array, dtype: number): Float32Array | Float64Array {
  switch (dtype) {
    case 1:
      return floatsOf(bytes);
    case 2:
      return integersOf(bytes, 8);
    case 3:
      return integersOf(bytes, 4);
    case 4: {
      // bfloat16 is the upper half of a float32.
      const halves = new Uint16Array(aligned(bytes, 2));
      return new Float32Array(Uint32Array.from(halves, (half) => half << 16).buffer);
    }
    case 0:
      if (bytes.length === 0) return new Float32Array();
      throw new Error('dtype: expected one, got none');
    default:
      throw new Error(`dtype: expected 1 to 4, got ${dtype}`);
  }
}

function floatsOf(bytes: Uint8Array): Float32Array {
  return new Float32Array(aligned(bytes, 4));
}

function integersOf(bytes: Uint8Array, size: 4 | 8): Float64Array {
  const buffer = aligned(bytes, size);
  if (size === 4) return Float64Array.from(new Int32Array(buffer));
  return Float64Array.from(new BigInt64Array(buffer), safeInteger);
}

/** Values of 4 bytes each. A loop: to copy and spread a typed array takes ten times as long. */
function listOf(bytes: Uint8Array, dtype: 'int32' | 'float32'): number[] {
  checkWhole(bytes, 4);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const list = new Array<number>(bytes.length / 4);
  for (let i = 0; i < list.length; i++)
    list[i] = dtype === 'int32' ? view.getInt32(4 * i, true) : view.getFloat32(4 * i, true);
  return list;
}

/** A copy at the beginning of a buffer, so that any element size may look at it. */
function aligned(bytes: Uint8Array, size: number): ArrayBuffer {
  checkWhole(bytes, size);
  return new Uint8Array(bytes).buffer;
}

function checkWhole(bytes: Uint8Array, size: number): void {
  if (bytes.length % size !== 0)
    throw new Error(`expected values of ${size} bytes, got ${bytes.length} bytes`);
}

function packedBytes(dtype: Dtype, data: ArrayLike<number>): Uint8Array {
  if (dtype === 'float32') return bytesOf(data instanceof Float32Array ? data : Float32Array.from(data));
  const packed = new BigInt64Array(data.length);
  for (let i = 0; i < packed.length; i++) packed[i] = BigInt(data[i] as number);
  return bytesOf(packed);
}

function tokenBytes(tokens: ArrayLike<number>): Uint8Array {
  const packed = Int32Array.from(tokens);
  const bad = packed.findIndex((token, i) => token !== tokens[i]);
  assert(bad < 0, `token id ${tokens[bad]} is no int32`);
  return bytesOf(packed);
}

/** Typed arrays have the byte order of the machine, which is little-endian on all that Node runs on but one. */
function bytesOf({ buffer, byteOffset, byteLength }: NodeJS.TypedArray): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength);
}

function sizeOf(shape: readonly number[]): number {
  let size = 1;
  for (const length of shape) {
    if (length < 0) throw new Error(`shape: expected sizes of at least 0, got ${length}`);
    size *= length;
  }
  if (size > MAX_ELEMENTS) throw new Error(`shape: expected at most ${MAX_ELEMENTS} values, got ${size}`);
  return size;
}
