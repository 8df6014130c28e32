/**
 * TensorBoard event files: the numbers of metrics.jsonl under the same names, for TensorBoard and what reads its files.
 *
 * A file is a TFRecord stream: length, masked CRC-32C of the length, data, masked CRC-32C of the data. Each record is
 * a protobuf `Event`; the first says `brain.Event:2`. A process writes a file of its own. Its first step is announced
 * by a SessionLog START: TensorBoard then drops what earlier files say of that step and of later ones, so a resumed
 * run shows each step once.
 * Scalars alone: no histograms, no texts. Sources: tensorflow/core/util/event.proto, tensorflow/core/framework/summary.proto,
 * tensorflow/core/lib/io/record_writer.h (TensorFlow, public).
 */
import { closeSync, mkdirSync, openSync, readdirSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { storeError, writeFileAtomic } from '../lib/files.ts';

const FILE_NAME = /^events\.out\.tfevents\.(\d{10})\.r3$/;
/** What TensorBoard must read at the beginning of a file to apply the rule of restarts. */
const FILE_VERSION = 'brain.Event:2';

export interface TensorboardWriter {
  /** One event with a scalar for each number among `metrics`. `wallTime`: seconds since 1970. */
  append(step: number, metrics: Readonly<Record<string, unknown>>, wallTime: number): void;
  close(): void;
}

/**
 * Opens a new event file in a folder, which is made where there is none. Earlier files stay; the name of the new one
 * sorts after theirs. Throws R3Error `no-space` where it cannot be written.
 */
export function openTensorboard(directory: string): TensorboardWriter {
  try {
    mkdirSync(directory, { recursive: true });
    const times = readdirSync(directory).map((name) => Number(FILE_NAME.exec(name)?.[1] ?? -1));
    const opened = Date.now() / 1000;
    const path = join(directory, eventFileName(Math.max(opened, ...times.map((time) => time + 1))));
    const file = openSync(path, 'wx');
    const write = (event: Uint8Array): void => {
      try {
        writeSync(file, tfRecord(event));
      } catch (error) {
        throw storeError(path, error);
      }
    };
    write(versionEvent(opened));
    let started = false;
    return {
      append: (step, metrics, wallTime) => {
        if (!started) write(startEvent(step, wallTime));
        started = true;
        write(scalarsEvent(step, metrics, wallTime));
      },
      close: () => closeSync(file),
    };
  } catch (error) {
    throw storeError(directory, error);
  }
}

export interface TimedRow {
  step: number;
  /** Seconds since 1970. */
  wallTime: number;
  metrics: Readonly<Record<string, unknown>>;
}

/** Writes a whole run as one event file, in place of the one that an earlier call wrote of it, and returns its path. */
export function writeTensorboard(directory: string, rows: readonly TimedRow[], started: number): string {
  const first = rows[0];
  const events = [
    versionEvent(started),
    ...(first === undefined ? [] : [startEvent(first.step, first.wallTime)]),
    ...rows.map(({ step, metrics, wallTime }) => scalarsEvent(step, metrics, wallTime)),
  ];
  try {
    mkdirSync(directory, { recursive: true });
  } catch (error) {
    throw storeError(directory, error);
  }
  const path = join(directory, eventFileName(started));
  writeFileAtomic(path, Buffer.concat(events.map(tfRecord)));
  return path;
}

function eventFileName(seconds: number): string {
  return `events.out.tfevents.${String(Math.floor(seconds)).padStart(10, '0')}.r3`;
}

/** Event: wall_time = 1 (double), file_version = 3. */
function versionEvent(wallTime: number): Uint8Array {
  return Buffer.concat([doubleField(1, wallTime), bytesField(3, Buffer.from(FILE_VERSION))]);
}

/** Event: wall_time = 1, step = 2, session_log = 7; SessionLog: status = 1, START = 1. */
function startEvent(step: number, wallTime: number): Uint8Array {
  return Buffer.concat([doubleField(1, wallTime), intField(2, step), bytesField(7, intField(1, 1))]);
}

/** Event: wall_time = 1, step = 2, summary = 5; Summary: value = 1; Value: tag = 1, simple_value = 2 (float). */
function scalarsEvent(
  step: number,
  metrics: Readonly<Record<string, unknown>>,
  wallTime: number,
): Uint8Array {
  const values = Object.entries(metrics).flatMap(([name, value]) => {
    if (name === 'step' || typeof value !== 'number') return [];
    return [bytesField(1, Buffer.concat([bytesField(1, Buffer.from(name)), floatField(2, value)]))];
  });
  return Buffer.concat([doubleField(1, wallTime), intField(2, step), bytesField(5, Buffer.concat(values))]);
}

const WIRE = { varint: 0, fixed64: 1, bytes: 2, fixed32: 5 } as const;

function key(field: number, wire: number): Buffer {
  return varint(field * 8 + wire);
}

/** Seven bits a byte, lowest first. `value`: a whole number of at least 0 that a double holds. */
function varint(value: number): Buffer {
  const bytes: number[] = [];
  let rest = value;
  while (rest >= 128) {
    bytes.push((rest % 128) + 128);
    rest = Math.floor(rest / 128);
  }
  bytes.push(rest);
  return Buffer.from(bytes);
}

/** proto3 leaves out a field of the value 0. */
function intField(field: number, value: number): Buffer {
  return value === 0 ? Buffer.alloc(0) : Buffer.concat([key(field, WIRE.varint), varint(value)]);
}

function doubleField(field: number, value: number): Buffer {
  if (value === 0) return Buffer.alloc(0);
  const bytes = Buffer.alloc(8);
  bytes.writeDoubleLE(value);
  return Buffer.concat([key(field, WIRE.fixed64), bytes]);
}

/** Always written: the one use is a member of a oneof, whose presence says which member it is. */
function floatField(field: number, value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeFloatLE(value);
  return Buffer.concat([key(field, WIRE.fixed32), bytes]);
}

function bytesField(field: number, bytes: Uint8Array): Buffer {
  return Buffer.concat([key(field, WIRE.bytes), varint(bytes.length), bytes]);
}

function tfRecord(data: Uint8Array): Buffer {
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(data.length));
  return Buffer.concat([length, maskedCrc(length), data, maskedCrc(data)]);
}

function maskedCrc(bytes: Uint8Array): Buffer {
  const crc = crc32c(bytes);
  const rotated = ((crc >>> 15) | (crc << 17)) >>> 0;
  const masked = Buffer.alloc(4);
  masked.writeUInt32LE((rotated + 0xa282ead8) % 2 ** 32);
  return masked;
}

/** The Castagnoli polynomial, bits reversed. */
const POLYNOMIAL = 0x82f63b78;
const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ POLYNOMIAL : crc >>> 1;
  return crc;
});

/** CRC-32C (RFC 3720, section 12.1), as an unsigned 32-bit number. */
export function crc32c(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = (TABLE[(crc ^ byte) & 255] as number) ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}
