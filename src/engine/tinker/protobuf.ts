/**
 * proto3 wire format: what the messages of the Tinker protocol need, and no more.
 *
 * A message is a row of fields. Each has a number and one of four wire types: a varint, 8 bytes, a length with so
 * many bytes, or 4 bytes. A reader takes them in any order and skips what it does not know; numbers that repeat come
 * packed (one length, then varints) or one field each, and both are read. No groups, no reflection, no schema file.
 * Errors are plain; messages.ts says which message was at fault.
 *
 * Source: protobuf.dev, "Encoding".
 */

export type Field =
  | { number: number; wire: 'varint'; value: bigint }
  | { number: number; wire: 'fixed64' | 'bytes' | 'fixed32'; value: Uint8Array };

/** Field numbers end at 2^29 - 1. */
const MAX_FIELD_NUMBER = 2 ** 29 - 1;
const MAX_VARINT_BYTES = 10;

/** The fields of a message in their order; their bytes are views. Throws an Error for bytes that are none. */
export function readFields(bytes: Uint8Array): Field[] {
  const cursor = { bytes, at: 0 };
  const fields: Field[] = [];
  while (cursor.at < bytes.length) {
    const key = readVarint(cursor);
    const number = Number(key >> 3n);
    if (number < 1 || number > MAX_FIELD_NUMBER) throw new Error(`expected a field number, got ${number}`);
    switch (Number(key & 7n)) {
      case 0:
        fields.push({ number, wire: 'varint', value: readVarint(cursor) });
        break;
      case 1:
        fields.push({ number, wire: 'fixed64', value: take(cursor, 8) });
        break;
      case 2:
        fields.push({ number, wire: 'bytes', value: take(cursor, Number(readVarint(cursor))) });
        break;
      case 5:
        fields.push({ number, wire: 'fixed32', value: take(cursor, 4) });
        break;
      default:
        throw new Error(`field ${number}: expected wire type 0, 1, 2 or 5, got ${key & 7n}`);
    }
  }
  return fields;
}

interface Cursor {
  bytes: Uint8Array;
  at: number;
}

/** An unsigned 64-bit number. Nearly all take one to four bytes, so bigints are left for the rest. */
function readVarint(cursor: Cursor): bigint {
  const { bytes } = cursor;
  let low = 0;
  for (let i = 0; i < 4; i++) {
    const byte = bytes[cursor.at++];
    if (byte === undefined) throw new Error('expected a number, got the end of the message');
    low |= (byte & 0x7f) << (7 * i);
    if (byte < 0x80) return BigInt(low);
  }
  let value = BigInt(low);
  for (let i = 4; i < MAX_VARINT_BYTES; i++) {
    const byte = bytes[cursor.at++];
    if (byte === undefined) throw new Error('expected a number, got the end of the message');
    value |= BigInt(byte & 0x7f) << BigInt(7 * i);
    if (byte < 0x80) return BigInt.asUintN(64, value);
  }
  throw new Error(`expected a number of at most ${MAX_VARINT_BYTES} bytes, got a longer one`);
}

function take(cursor: Cursor, size: number): Uint8Array {
  const left = cursor.bytes.length - cursor.at;
  if (size > left) throw new Error(`expected ${size} more bytes, got ${left}`);
  cursor.at += size;
  return cursor.bytes.subarray(cursor.at - size, cursor.at);
}

/** The bytes of a `bytes` field or of a message within. */
export function asBytes(field: Field): Uint8Array {
  if (field.wire !== 'bytes') throw new Error(`field ${field.number}: expected bytes, got ${field.wire}`);
  return field.value;
}

export function asText(field: Field): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(asBytes(field));
  } catch (cause) {
    throw new Error(`field ${field.number}: expected text in UTF-8, got other bytes`, { cause });
  }
}

/** An int32, int64, uint32, bool or enum. Throws an Error beyond 2^53. */
export function asInteger(field: Field): number {
  if (field.wire !== 'varint') throw new Error(`field ${field.number}: expected a number, got ${field.wire}`);
  return safeInteger(BigInt.asIntN(64, field.value));
}

/** What one field of `repeated int64` adds: a single number, or packed ones. */
export function asIntegers(field: Field): number[] {
  if (field.wire === 'varint') return [asInteger(field)];
  const cursor = { bytes: asBytes(field), at: 0 };
  const numbers: number[] = [];
  while (cursor.at < cursor.bytes.length) numbers.push(safeInteger(BigInt.asIntN(64, readVarint(cursor))));
  return numbers;
}

export function asDouble(field: Field): number {
  if (field.wire !== 'fixed64')
    throw new Error(`field ${field.number}: expected a double, got ${field.wire}`);
  const { buffer, byteOffset } = field.value;
  return new DataView(buffer, byteOffset, 8).getFloat64(0, true);
}

/** Throws an Error for a number that a double would round. */
export function safeInteger(value: bigint): number {
  const number = Number(value);
  if (!Number.isSafeInteger(number)) throw new Error(`expected an integer below 2^53, got ${value}`);
  return number;
}

/** Writes a message field by field. Values that are proto3's defaults are written too; leave those fields out. */
export interface ProtoWriter {
  /** Also bool and enum. A negative number takes ten bytes. */
  integer(field: number, value: number): void;
  /** `repeated int64`, packed. */
  integers(field: number, values: readonly number[]): void;
  double(field: number, value: number): void;
  text(field: number, value: string): void;
  bytes(field: number, value: Uint8Array): void;
  /** A message within, whose fields `write` writes. */
  message(field: number, write: () => void): void;
  finish(): Uint8Array;
}

const FIRST_SIZE_BYTES = 256;

export function makeProtoWriter(): ProtoWriter {
  let buffer = new Uint8Array(FIRST_SIZE_BYTES);
  let size = 0;

  const room = (bytes: number): void => {
    if (size + bytes <= buffer.length) return;
    const grown = new Uint8Array(Math.max(buffer.length * 2, size + bytes));
    grown.set(buffer.subarray(0, size));
    buffer = grown;
  };
  const varint = (value: number): void => {
    room(MAX_VARINT_BYTES);
    if (value < 0) {
      let rest = BigInt.asUintN(64, BigInt(value));
      for (; rest >= 0x80n; rest >>= 7n) buffer[size++] = Number(rest & 0x7fn) | 0x80;
      buffer[size++] = Number(rest);
      return;
    }
    let rest = value;
    for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) buffer[size++] = (rest % 0x80) | 0x80;
    buffer[size++] = rest;
  };
  const raw = (value: Uint8Array): void => {
    room(value.length);
    buffer.set(value, size);
    size += value.length;
  };
  /** Writes the contents, then moves them to make way for their length, which is known only now. */
  const sized = (field: number, write: () => void): void => {
    varint(field * 8 + 2);
    const start = size;
    write();
    const length = size - start;
    varint(length);
    const lengthBytes = buffer.slice(start + length, size);
    buffer.copyWithin(start + lengthBytes.length, start, start + length);
    buffer.set(lengthBytes, start);
  };
  const bytes = (field: number, value: Uint8Array): void => {
    varint(field * 8 + 2);
    varint(value.length);
    raw(value);
  };

  return {
    integer: (field, value) => {
      varint(field * 8);
      varint(value);
    },
    integers: (field, values) => sized(field, () => values.forEach(varint)),
    double: (field, value) => {
      varint(field * 8 + 1);
      room(8);
      new DataView(buffer.buffer).setFloat64(size, value, true);
      size += 8;
    },
    text: (field, value) => bytes(field, Buffer.from(value, 'utf8')),
    bytes,
    message: sized,
    finish: () => buffer.slice(0, size),
  };
}
