import {
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { anyText } from '../../lib/text-testing.ts';
import { bf16ToF32, f16ToF32, f32ToBf16, f32ToF16 } from './half-floats.ts';
import {
  openSafetensors,
  writeSafetensors,
  type FloatType,
  type SafetensorsFile,
  type WritableTensor,
} from './safetensors.ts';

let folder: string;
let path: string;
let opened: SafetensorsFile[];
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'safetensors-'));
  path = join(folder, 'model.safetensors');
  opened = [];
});
afterEach(() => {
  for (const file of opened) file.close();
  rmSync(folder, { recursive: true });
});

/** The file at `path`, open until the test ends. */
function open(): SafetensorsFile {
  const file = openSafetensors(path);
  opened.push(file);
  return file;
}

function fileOf(header: unknown, dataBytes: number): Buffer {
  const text = Buffer.from(typeof header === 'string' ? header : JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  return Buffer.concat([length, text, Buffer.alloc(dataBytes)]);
}

function reading(header: unknown, dataBytes: number): () => unknown {
  writeFileSync(path, fileOf(header, dataBytes));
  return open;
}

function f32(begin: number, end: number, shape = [1]): object {
  return { dtype: 'F32', shape, data_offsets: [begin, end] };
}

/** A tensor with a float for each element of its shape. */
const tensor = fc
  .record({
    name: anyText({ minLength: 1 }).filter((name) => name !== '__metadata__'),
    shape: fc.array(fc.integer({ min: 0, max: 4 }), { maxLength: 3 }),
    dtype: fc.constantFrom<FloatType>('F32', 'F16', 'BF16'),
    seed: fc.nat(),
  })
  .map(({ name, shape, dtype, seed }) => {
    const length = shape.reduce((product, size) => product * size, 1);
    return {
      name,
      shape,
      dtype,
      data: Float32Array.from({ length }, (_, i) => Math.sin(seed + i) * 10 ** (i % 5)),
    };
  });
const tensors = fc.uniqueArray(tensor, { selector: (t) => t.name, maxLength: 6 });
const metadata = fc.dictionary(fc.string(), fc.string(), { noNullPrototype: true });

/** Whether two arrays hold the same numbers. Far faster than `toEqual` on long ones. */
function same(a: Float32Array, b: Float32Array): boolean {
  return a.length === b.length && a.every((value, i) => Object.is(value, b[i]));
}

/** Numbers as they are after a file of `dtype`. */
function rounded(data: Float32Array, dtype: FloatType): Float32Array {
  if (dtype === 'F32') return data;
  return dtype === 'BF16' ? bf16ToF32(f32ToBf16(data)) : f16ToF32(f32ToF16(data));
}

test('what is written is what is read: names, shapes, f32 exactly, bf16 and f16 rounded, metadata', () => {
  fc.assert(
    fc.property(tensors, metadata, (list, meta) => {
      writeSafetensors(path, list, meta);
      const file = openSafetensors(path);
      expect(file.tensors.size).toBe(list.length);
      expect(file.metadata).toEqual(meta);
      for (const { name, shape, dtype, data } of list) {
        expect(file.tensors.get(name)).toMatchObject({ dtype, shape });
        expect(file.readF32(name)).toEqual(rounded(data, dtype));
      }
      file.close();
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
        expect(open).toThrow(/model\.safetensors: expected .*(truncated|copy or download it again)/);
        writeFileSync(path, Buffer.concat([bytes, Buffer.alloc(1 + (at % 9))]));
        expect(open).toThrow(/bytes after the last tensor/);
      },
    ),
    { numRuns: 60 },
  );
});

test('the layout is that of the safetensors library 0.8.0: f32, bf16, f16, then by name, padded header', () => {
  // save_file({"b": ones(1), "a": ones(2), "c": ones(1, dtype=bfloat16), "0": ones(1, dtype=float16)},
  //   metadata={"format": "pt"}) gives these bytes.
  writeSafetensors(
    path,
    [
      { name: '0', shape: [1], dtype: 'F16', data: Float32Array.of(1) },
      { name: 'c', shape: [1], dtype: 'BF16', data: Float32Array.of(1) },
      { name: 'b', shape: [1], dtype: 'F32', data: Float32Array.of(1) },
      { name: 'a', shape: [2], dtype: 'F32', data: Float32Array.of(1, 1) },
    ],
    { format: 'pt' },
  );
  const bytes = readFileSync(path);
  const header =
    '{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]},"c":{"dtype":"BF16","shape":[1],"data_offsets":[12,14]},"0":{"dtype":"F16","shape":[1],"data_offsets":[14,16]}}';
  expect(Number(bytes.readBigUInt64LE()) % 8).toBe(0);
  expect(bytes.subarray(8, -16).toString().trimEnd()).toBe(header);
  expect(bytes.subarray(-16).toString('hex')).toBe('0000803f0000803f0000803f803f003c');
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
  expect(open().readF32('b')).toEqual(Float32Array.of(1.5));
});

test('a folder in place of the file is refused', () => {
  mkdirSync(path);
  expect(open).toThrow(`${path}: expected a file, got a folder`);
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
  expect(reading({ a: { ...f32(0, 4), dtype: 'I128' } }, 4)).toThrow(
    /a: expected a dtype of the format \(BOOL, .*\), got "I128"/,
  );
  expect(reading({ a: { ...f32(0, 4), dtype: 'toString' } }, 4)).toThrow('got "toString"');
  expect(reading({ a: { dtype: 'F4', shape: [3], data_offsets: [0, 2] } }, 2)).toThrow(
    'a: expected 1.5 bytes for F4 [3], got 2',
  );
  expect(reading({ a: f32(0, 0, new Array<number>(65).fill(0)) }, 0)).toThrow('of at most 64 sizes, got 65');
  const long = 'a'.repeat(1025);
  for (const header of [{ [long]: f32(0, 4) }, { __metadata__: { [long]: '' } }])
    expect(reading(header, 4)).toThrow(`${path}: expected names of at most 1024 characters, got one of 1025`);
  expect(reading({ a: 3 }, 0)).toThrow('a: expected an object');
  expect(reading({ __metadata__: { n: 1 } }, 0)).toThrow('__metadata__.n: expected a string, got number');
  expect(reading('[]', 0)).toThrow(`${path}: header: expected a JSON object, got []`);
  expect(reading('not json', 0)).toThrow(`${path}: header: expected a JSON object, got "not json"`);
  expect(reading('{"a": {"dtype": "F32", "dtype": "F16"}}', 0)).toThrow(
    'header: dtype: expected each key once in an object, got it twice',
  );
  writeFileSync(path, Buffer.from('ffffffffffffff7f7b7d', 'hex'));
  expect(open).toThrow('expected a header of at most 100000000 bytes');
});

test('a dtype that is not read is refused when its tensor is read, and not before', () => {
  const file = reading(
    { ids: { dtype: 'I64', shape: [2], data_offsets: [0, 16] }, w: f32(16, 20) },
    20,
  )() as SafetensorsFile;
  expect(file.tensors.get('ids')?.dtype).toBe('I64');
  expect(file.readF32('w')).toEqual(Float32Array.of(0));
  expect(() => file.readF32('ids')).toThrow(
    `${path}: ids: expected dtype F32, F16 or BF16, got I64; save the model in one of these`,
  );
  expect(() => file.readF32('x')).toThrow(`${path}: expected a tensor x, got none of that name`);
});

test('a tensor is read in strips of any length, into the place that is given', () => {
  const length = (1 << 18) + 77;
  const data = Float32Array.from({ length }, (_, i) => i % 251);
  const dtypes: FloatType[] = ['F32', 'F16', 'BF16'];
  writeSafetensors(
    path,
    dtypes.map((dtype) => ({ name: dtype, shape: [length], dtype, data })),
  );
  const file = open();
  const into = new Float32Array(length + 2);
  for (const dtype of dtypes) {
    expect(same(file.readF32(dtype), data)).toBe(true);
    for (const [from, count] of [
      [0, 1],
      [7, 0],
      [length, 0],
      [length - 1, 1],
      [3, 1 << 17],
      [1, length - 2],
    ] as const) {
      into.fill(-1);
      const read = file.readF32(dtype, from, count, into);
      expect(same(read, data.subarray(from, from + count)), `${dtype} [${from}, +${count})`).toBe(true);
      expect(into[count]).toBe(-1);
    }
    expect(() => file.readF32(dtype, 1, length)).toThrow('internal error');
    expect(() => file.readF32(dtype, 0, 2, new Float32Array(1))).toThrow('internal error');
  }
});

test('a file that is cut while it is open is refused', () => {
  const data = new Float32Array(100);
  writeSafetensors(path, [{ name: 'a', shape: [100], dtype: 'F32', data }]);
  const file = open();
  truncateSync(path, 200);
  expect(() => file.readF32('a')).toThrow(/the file was cut while it was open; copy or download it again/);
});

test('a tensor that is made row by row gives the same bytes, in strips that do not grow with it', () => {
  const [rows, columns] = [1500, 1000];
  const data = Float32Array.from({ length: rows * columns }, (_, i) => i % 509);
  const whole: WritableTensor = { name: 'a', shape: [rows, columns], dtype: 'BF16', data };
  writeSafetensors(path, [whole]);
  const expected = readFileSync(path);
  const asked: number[] = [];
  const made = (from: number, count: number): Float32Array => {
    asked.push(count);
    return data.slice(from * columns, (from + count) * columns);
  };
  writeSafetensors(path, [{ ...whole, data: made }]);
  expect(readFileSync(path).equals(expected)).toBe(true);
  expect(asked).toEqual([1048, 452]);
  const scalar = { name: 's', shape: [], dtype: 'F32' as const, data: () => Float32Array.of(2) };
  const empty = { name: 'e', shape: [3, 0], dtype: 'F32' as const, data: () => new Float32Array(0) };
  writeSafetensors(path, [scalar, empty]);
  expect(open().readF32('s')).toEqual(Float32Array.of(2));
  expect(() => writeSafetensors(path, [{ ...whole, data: () => new Float32Array(1) }])).toThrow(
    'a: expected 1048000 values for [1048, 1000], got 1',
  );
  expect(readdirSync(folder)).toEqual(['model.safetensors']);
});

test('a number beyond f16 is refused by the name of its tensor, and no file is left', () => {
  const of = (...values: number[]): void =>
    writeSafetensors(path, [
      { name: 'a', shape: [values.length], dtype: 'F16', data: Float32Array.from(values) },
    ]);
  expect(() => of(1, -70000)).toThrow(
    'a: expected numbers below 65520, which F16 can hold, got -70000; save as BF16 or F32',
  );
  expect(readdirSync(folder)).toEqual([]);
  of(65519, Infinity);
  expect(open().readF32('a')).toEqual(Float32Array.of(65504, Infinity));
});

test('writing refuses a length that is not that of the shape, and a name given twice', () => {
  const one = { name: 'a', shape: [1], dtype: 'F32' as const, data: Float32Array.of(1) };
  expect(() => writeSafetensors(path, [{ ...one, shape: [2] }])).toThrow(
    'a: expected 2 values for [2], got 1',
  );
  expect(() => writeSafetensors(path, [one, one])).toThrow('a: expected a name of its own, got it twice');
});
