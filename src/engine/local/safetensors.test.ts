import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { anyText } from '../../lib/text-testing.ts';
import {
  bf16ToF32,
  f16ToF32,
  f32ToBf16,
  readSafetensors,
  readSafetensorsMetadata,
  toF32,
  writeSafetensors,
} from './safetensors.ts';

let folder: string;
let path: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'safetensors-'));
  path = join(folder, 'model.safetensors');
});
afterEach(() => rmSync(folder, { recursive: true }));

function fileOf(header: unknown, dataBytes: number): Buffer {
  const text = Buffer.from(typeof header === 'string' ? header : JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  return Buffer.concat([length, text, Buffer.alloc(dataBytes)]);
}

function reading(header: unknown, dataBytes: number): () => unknown {
  writeFileSync(path, fileOf(header, dataBytes));
  return () => readSafetensors(path);
}

function f32(begin: number, end: number, shape = [1]): object {
  return { dtype: 'F32', shape, data_offsets: [begin, end] };
}

/** The bf16 bits of the f32 with these bits. */
function bitsOf(word: number): number {
  return f32ToBf16(new Float32Array(Uint32Array.of(word).buffer))[0]!;
}

/** A tensor with a float for each element of its shape. */
const tensor = fc
  .record({
    name: anyText({ minLength: 1 }).filter((name) => name !== '__metadata__'),
    shape: fc.array(fc.integer({ min: 0, max: 4 }), { maxLength: 3 }),
    dtype: fc.constantFrom<'F32' | 'BF16'>('F32', 'BF16'),
    seed: fc.nat(),
  })
  .map(({ name, shape, dtype, seed }) => {
    const length = shape.reduce((product, size) => product * size, 1);
    return {
      name,
      shape,
      dtype,
      data: Float32Array.from({ length }, (_, i) => Math.sin(seed + i) * 10 ** (i % 7)),
    };
  });
const tensors = fc.uniqueArray(tensor, { selector: (t) => t.name, maxLength: 6 });
const metadata = fc.dictionary(fc.string(), fc.string(), { noNullPrototype: true });

test('what is written is what is read: names, shapes, f32 exactly, bf16 rounded, metadata', () => {
  fc.assert(
    fc.property(tensors, metadata, (list, meta) => {
      writeSafetensors(path, list, meta);
      const read = readSafetensors(path);
      expect(read.size).toBe(list.length);
      expect(readSafetensorsMetadata(path)).toEqual(meta);
      for (const { name, shape, dtype, data } of list) {
        const got = read.get(name)!;
        expect({ dtype: got.dtype, shape: got.shape }).toEqual({ dtype, shape });
        expect(toF32(got)).toEqual(dtype === 'F32' ? data : bf16ToF32(f32ToBf16(data)));
      }
    }),
    { numRuns: 60 },
  );
});

test('the bytes do not depend on the order of the tensors', () => {
  fc.assert(
    fc.property(tensors, metadata, (list, meta) => {
      writeSafetensors(path, list, meta);
      const bytes = readFileSync(path);
      writeSafetensors(path, list.toReversed(), Object.fromEntries(Object.entries(meta).toReversed()));
      expect(readFileSync(path).equals(bytes)).toBe(true);
    }),
    { numRuns: 30 },
  );
});

test('a file cut at any byte, or with bytes added, is refused', () => {
  fc.assert(
    fc.property(
      fc.uniqueArray(tensor, { selector: (t) => t.name, minLength: 1, maxLength: 3 }),
      fc.nat(),
      (list, at) => {
        writeSafetensors(path, list);
        const bytes = readFileSync(path);
        writeFileSync(path, bytes.subarray(0, at % bytes.length));
        expect(() => readSafetensors(path)).toThrow(
          /model\.safetensors: expected .*(truncated|copy or download it again)/,
        );
        writeFileSync(path, Buffer.concat([bytes, Buffer.alloc(1 + (at % 9))]));
        expect(() => readSafetensors(path)).toThrow(/bytes after the last tensor/);
      },
    ),
    { numRuns: 60 },
  );
});

test('the layout is that of the safetensors library 0.8.0: f32 before bf16, then by name, padded header', () => {
  // save_file({"b": ones(1), "a": ones(2), "c": ones(1, dtype=bfloat16)}, metadata={"format": "pt"}) gives these bytes.
  writeSafetensors(
    path,
    [
      { name: 'c', shape: [1], dtype: 'BF16', data: Float32Array.of(1) },
      { name: 'b', shape: [1], dtype: 'F32', data: Float32Array.of(1) },
      { name: 'a', shape: [2], dtype: 'F32', data: Float32Array.of(1, 1) },
    ],
    { format: 'pt' },
  );
  const bytes = readFileSync(path);
  const header =
    '{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]},"c":{"dtype":"BF16","shape":[1],"data_offsets":[12,14]}}';
  expect(Number(bytes.readBigUInt64LE()) % 8).toBe(0);
  expect(bytes.subarray(8, -14).toString().trimEnd()).toBe(header);
  expect(bytes.subarray(-14).toString('hex')).toBe('0000803f0000803f0000803f803f');
});

test('a tensor at an odd offset is read all the same', () => {
  const file = fileOf(
    {
      a: { dtype: 'BF16', shape: [1], data_offsets: [0, 2] },
      b: { dtype: 'F32', shape: [1], data_offsets: [2, 6] },
    },
    6,
  );
  file.writeFloatLE(1.5, file.length - 4);
  writeFileSync(path, file);
  expect(toF32(readSafetensors(path).get('b')!)).toEqual(Float32Array.of(1.5));
});

test('bf16 rounding gives a nearest bf16, and the even one of two', () => {
  fc.assert(
    fc.property(fc.float({ noNaN: true }), (value) => {
      const bits = f32ToBf16(Float32Array.of(value))[0]!;
      const [below, got, above] = bf16ToF32(Uint16Array.of(bits - 1, bits, bits + 1));
      if (!Number.isFinite(got)) {
        expect(Math.abs(value)).toBeGreaterThanOrEqual((2 - 2 ** -8) * 2 ** 127);
        return;
      }
      const error = Math.abs(got! - value);
      for (const other of [below!, above!]) {
        if (!Number.isFinite(other)) continue;
        expect(error).toBeLessThanOrEqual(Math.abs(other - value));
        if (error === Math.abs(other - value) && other !== got) expect(bits % 2).toBe(0);
      }
    }),
    { numRuns: 2000 },
  );
  expect(
    [0x3f808000, 0x3f818000, 0x3f808001, 0x7f7fffff, 0x7f800001, 0xffffffff, 0x80000000].map(bitsOf),
  ).toEqual([0x3f80, 0x3f82, 0x3f81, 0x7f80, 0x7fc0, 0x7fc0, 0x8000]);
});

test('each bf16 number survives the way to f32 and back', () => {
  const all = Uint16Array.from({ length: 0x10000 }, (_, i) => i).filter((bits) => (bits & 0x7fff) <= 0x7f80);
  expect(f32ToBf16(bf16ToF32(all))).toEqual(all);
});

test('f16 covers zeros, subnormals, normals, infinities and NaN', () => {
  const bits = Uint16Array.of(
    0x0000,
    0x8000,
    0x0001,
    0x83ff,
    0x0400,
    0x3c00,
    0x3555,
    0xc000,
    0x7bff,
    0x7c00,
    0xfc00,
    0x7e00,
  );
  expect([...f16ToF32(bits)]).toEqual([
    0,
    -0,
    2 ** -24,
    -1023 * 2 ** -24,
    2 ** -14,
    1,
    0.333251953125,
    -2,
    65504,
    Infinity,
    -Infinity,
    Number.NaN,
  ]);
});

test('a folder in place of the file is refused', () => {
  mkdirSync(path);
  expect(() => readSafetensors(path)).toThrow(`${path}: expected a file, got a folder`);
});

test('a truncated file says how much is missing', () => {
  const header = { a: { dtype: 'F32', shape: [250], data_offsets: [0, 1000] } };
  expect(reading(header, 900)).toThrow(
    `${path}: expected 1000 bytes of data, got 900 (truncated; copy or download it again)`,
  );
});

test('each malformed header is refused by name', () => {
  expect(reading({ a: f32(0, 4), b: f32(8, 12) }, 12)).toThrow(
    'b: expected its bytes to begin at 4, got 8 (a gap or an overlap)',
  );
  expect(reading({ a: f32(0, 4), b: f32(2, 6) }, 6)).toThrow('b: expected its bytes to begin at 4, got 2');
  expect(reading({ a: f32(4, 8) }, 8)).toThrow('a: expected its bytes to begin at 0, got 4');
  expect(reading({ a: f32(0, 8) }, 8)).toThrow('a: expected 4 bytes for F32 [1], got 8');
  expect(reading({ a: f32(0, 4, [2 ** 30, 2 ** 30]) }, 4)).toThrow('a: expected 4611686018427388000 bytes');
  expect(reading({ a: f32(0, -4, [-1]) }, 4)).toThrow(
    'a: expected a shape of non-negative integers, got [-1]',
  );
  expect(reading({ a: { ...f32(0, 4), data_offsets: [0] } }, 4)).toThrow(
    'a: expected data_offsets [begin, end], got [0]',
  );
  expect(reading({ a: { dtype: 'I64', shape: [1], data_offsets: [0, 8] } }, 8)).toThrow(
    'a: expected dtype F32, F16 or BF16, got "I64"; save the model in one of these',
  );
  expect(reading({ a: 3 }, 0)).toThrow('a: expected an object');
  expect(reading({ __metadata__: { n: 1 } }, 0)).toThrow('__metadata__.n: expected a string, got number');
  expect(reading('[]', 0)).toThrow(`${path}: header: expected a JSON object, got []`);
  expect(reading('not json', 0)).toThrow(`${path}: header: expected a JSON object, got "not json"`);
  expect(reading('{"a": {"dtype": "F32", "dtype": "F16"}}', 0)).toThrow(
    'header: dtype: expected each key once in an object, got it twice',
  );
  writeFileSync(path, Buffer.from('ffffffffffffff7f7b7d', 'hex'));
  expect(() => readSafetensors(path)).toThrow('expected a header of at most 100000000 bytes');
});

test('writing refuses a length that is not that of the shape, and a name given twice', () => {
  const one = { name: 'a', shape: [1], dtype: 'F32' as const, data: Float32Array.of(1) };
  expect(() => writeSafetensors(path, [{ ...one, shape: [2] }])).toThrow(
    'a: expected 2 values for [2], got 1',
  );
  expect(() => writeSafetensors(path, [one, one])).toThrow('a: expected a name of its own, got it twice');
});
