import { mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { afterEach, expect, test } from 'vitest';
import { crc32c, openTensorboard, writeTensorboard, type TimedRow } from './tensorboard.ts';

const folders: string[] = [];
afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true });
});

function newFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'r3-tensorboard-'));
  folders.push(folder);
  return folder;
}

/** Records of a TFRecord file, framing and checksums checked. */
function recordsOf(file: Buffer): Buffer[] {
  const unmasked = (masked: number): number => {
    const rotated = (masked - 0xa282ead8) >>> 0;
    return ((rotated >>> 17) | (rotated << 15)) >>> 0;
  };
  const records: Buffer[] = [];
  for (let at = 0; at < file.length;) {
    const length = Number(file.readBigUInt64LE(at));
    expect(unmasked(file.readUInt32LE(at + 8))).toBe(crc32c(file.subarray(at, at + 8)));
    const data = file.subarray(at + 12, at + 12 + length);
    expect(unmasked(file.readUInt32LE(at + 12 + length))).toBe(crc32c(data));
    records.push(data);
    at += 16 + length;
  }
  return records;
}

/** Fields of a protobuf message, by number. */
function fieldsOf(message: Buffer): [field: number, value: number | Buffer][] {
  const fields: [number, number | Buffer][] = [];
  let at = 0;
  const varint = (): number => {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = message[at++] as number;
      value += (byte & 127) * scale;
      if (byte < 128) return value;
    }
  };
  while (at < message.length) {
    const key = varint();
    const [field, wire] = [key >>> 3, key & 7];
    if (wire === 0) fields.push([field, varint()]);
    else if (wire === 1) fields.push([field, message.readDoubleLE((at += 8) - 8)]);
    else if (wire === 5) fields.push([field, message.readFloatLE((at += 4) - 4)]);
    else {
      const length = varint();
      fields.push([field, message.subarray(at, (at += length))]);
    }
  }
  return fields;
}

function fieldOf(message: Buffer, wanted: number): number | Buffer | undefined {
  return fieldsOf(message).find(([field]) => field === wanted)?.[1];
}

function only(folder: string): Buffer {
  const names = readdirSync(folder);
  expect(names).toHaveLength(1);
  return readFileSync(join(folder, names[0] as string));
}

test('a file has the bytes that the library of TensorBoard writes for the same rows', () => {
  const path = new URL('../../test/fixtures/tensorboard.json', import.meta.url);
  const fixture = JSON.parse(readFileSync(path, 'utf8')) as {
    started: number;
    rows: TimedRow[];
    bytes: string;
  };
  const folder = newFolder();
  const written = writeTensorboard(folder, fixture.rows, fixture.started);
  expect(written).toBe(join(folder, 'events.out.tfevents.1700000000.r3'));
  expect(readFileSync(written).toString('base64')).toBe(fixture.bytes);
  writeTensorboard(folder, fixture.rows, fixture.started);
  expect(only(folder).toString('base64')).toBe(fixture.bytes);
});

// RFC 3720, appendix B.4, and the check value of the polynomial.
test('CRC-32C gives the published values', () => {
  expect(crc32c(Buffer.from('123456789'))).toBe(0xe3069283);
  expect(crc32c(Buffer.alloc(32))).toBe(0x8a9136aa);
  expect(crc32c(Buffer.alloc(32, 0xff))).toBe(0x62a8ab43);
  expect(crc32c(Uint8Array.from({ length: 32 }, (_, i) => i))).toBe(0x46dd794e);
});

test('whatever the names and values, each record is framed whole and holds them', () => {
  const anyMetrics = fc.dictionary(
    fc.string({ unit: 'grapheme', minLength: 1 }).filter((name) => name !== 'step'),
    fc.float({ noNaN: true, noDefaultInfinity: true }),
    { maxKeys: 5 },
  );
  fc.assert(
    fc.property(fc.nat(), anyMetrics, (step, metrics) => {
      const folder = newFolder();
      const writer = openTensorboard(folder);
      writer.append(step, { ...metrics, step, note: 'no number' }, 12.5);
      writer.close();
      const [version, start, event] = recordsOf(only(folder));
      expect(String(fieldOf(version!, 3))).toBe('brain.Event:2');
      expect(fieldOf(start!, 2) ?? 0).toBe(step);
      expect(fieldsOf(fieldOf(start!, 7) as Buffer)).toEqual([[1, 1]]);
      expect(fieldOf(event!, 1)).toBe(12.5);
      expect(fieldOf(event!, 2) ?? 0).toBe(step);
      const values = fieldsOf(fieldOf(event!, 5) as Buffer).map(([, value]) => [
        String(fieldOf(value as Buffer, 1)),
        fieldOf(value as Buffer, 2),
      ]);
      expect(Object.fromEntries(values)).toEqual(metrics);
    }),
    { numRuns: 50 },
  );
});

test('a process that goes on writes a file that sorts after the earlier ones and begins with its first step', () => {
  const folder = newFolder();
  for (const step of [0, 7, 3]) {
    const writer = openTensorboard(folder);
    writer.append(step, { reward: 1 }, 100);
    writer.append(step + 1, { reward: 1 }, 101);
    writer.close();
  }
  const names = readdirSync(folder).toSorted();
  expect(names).toHaveLength(3);
  const starts = names.map((name) => {
    const events = recordsOf(readFileSync(join(folder, name)));
    const withLog = events.filter((event) => fieldOf(event, 7) !== undefined);
    expect(withLog).toHaveLength(1);
    return fieldOf(withLog[0]!, 2) ?? 0;
  });
  expect(starts).toEqual([0, 7, 3]);
});

test('a run without a step gives a file that only says its version', () => {
  const folder = newFolder();
  expect(recordsOf(readFileSync(writeTensorboard(folder, [], 5)))).toHaveLength(1);
});
