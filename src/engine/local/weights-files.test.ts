/** Weights in one file and in shards: what is written is what is read, and one clear error for each broken folder. */
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { afterAll, afterEach, beforeEach, expect, test } from 'vitest';
import { sha256File } from '../../lib/files.ts';
import type { WeightsKind } from '../../lib/weights-index.ts';
import { writeSafetensors, type WritableTensor } from './safetensors.ts';
import { findWeights, openWeights, saveWeights, type WeightsFiles } from './weights-files.ts';

const scratch = mkdtempSync(join(tmpdir(), 'weights-files-'));
afterAll(() => rmSync(scratch, { recursive: true }));

let folder: string;
let opened: WeightsFiles[];
beforeEach(() => {
  folder = mkdtempSync(join(scratch, 'model-'));
  opened = [];
});
afterEach(() => {
  for (const weights of opened) weights.close();
});

/** The weights of the folder, open until the test ends. */
function open(kind?: WeightsKind): WeightsFiles {
  const weights = openWeights(folder, kind);
  opened.push(weights);
  return weights;
}

function tensor(name: string, length: number, dtype: WritableTensor['dtype'] = 'F32'): WritableTensor {
  return { name, shape: [length], dtype, data: Float32Array.from({ length }, (_, i) => length + i) };
}

function write(name: string, content: unknown): void {
  writeFileSync(join(folder, name), typeof content === 'string' ? content : JSON.stringify(content));
}

function writeIndex(weightMap: unknown): void {
  write('model.safetensors.index.json', { metadata: {}, weight_map: weightMap });
}

const A = 'model-00001-of-00002.safetensors';
const B = 'model-00002-of-00002.safetensors';

/** Shards of one tensor each: a in A, b in B. */
function writeShards(): void {
  saveWeights(folder, [tensor('a', 2), tensor('b', 3)], { maxShardBytes: 12 });
}

test('one file is read, and its hash is that of its bytes', () => {
  saveWeights(folder, [tensor('a', 2), tensor('b', 3, 'BF16')]);
  expect(readdirSync(folder)).toEqual(['model.safetensors']);
  const path = join(folder, 'model.safetensors');
  const weights = open();
  expect(weights).toMatchObject({ path, paths: [path] });
  expect([...weights.tensors]).toEqual([
    ['a', { dtype: 'F32', shape: [2], file: path }],
    ['b', { dtype: 'BF16', shape: [3], file: path }],
  ]);
  expect(weights.readF32('b', 1, 2)).toEqual(Float32Array.of(4, 5));
  expect(weights.hash()).toBe(sha256File(path));
});

test('shards are read as one, and their hash is that of their names and hashes', () => {
  writeShards();
  expect(readdirSync(folder).toSorted()).toEqual([A, B, 'model.safetensors.index.json']);
  const weights = open();
  expect(weights.path).toBe(join(folder, 'model.safetensors.index.json'));
  expect(weights.paths).toEqual([join(folder, A), join(folder, B)]);
  expect(weights.tensors.get('b')).toEqual({ dtype: 'F32', shape: [3], file: join(folder, B) });
  expect(weights.readF32('a')).toEqual(Float32Array.of(2, 3));
  expect(weights.readF32('b', 0, 1, new Float32Array(2))).toEqual(Float32Array.of(3));
  expect(() => weights.readF32('c')).toThrow('index.json: expected a tensor c, got none of that name');
  const lines = `${A} ${sha256File(join(folder, A))}\n${B} ${sha256File(join(folder, B))}\n`;
  expect(weights.hash()).toBe(createHash('sha256').update(lines).digest('hex'));
});

test('shards are named and indexed as transformers 5.17 does', () => {
  // save_pretrained(max_shard_size=...) of tensors of 8, 12, 4 and 20 bytes.
  saveWeights(folder, [tensor('z', 2), tensor('b', 3), tensor('c', 1), tensor('a', 5)], {
    maxShardBytes: 16,
  });
  expect(readFileSync(join(folder, 'model.safetensors.index.json'), 'utf8')).toBe(`{
  "metadata": {
    "total_parameters": 11,
    "total_size": 44
  },
  "weight_map": {
    "a": "model-00003-of-00003.safetensors",
    "b": "model-00002-of-00003.safetensors",
    "c": "model-00002-of-00003.safetensors",
    "z": "model-00001-of-00003.safetensors"
  }
}
`);
});

test('what is saved with any limit on a shard is what is opened', () => {
  const lengths = fc.array(fc.integer({ min: 0, max: 9 }), { minLength: 1, maxLength: 8 });
  fc.assert(
    fc.property(lengths, fc.integer({ min: 1, max: 80 }), (list, maxShardBytes) => {
      const directory = mkdtempSync(join(scratch, 'saved-'));
      const tensors = list.map((length, i) => tensor(`t${i}`, length));
      saveWeights(directory, tensors, { maxShardBytes });
      const weights = openWeights(directory);
      expect([...weights.tensors.keys()].toSorted()).toEqual(tensors.map(({ name }) => name));
      for (const { name, data } of tensors) expect(weights.readF32(name)).toEqual(data);
      const total = list.reduce((sum, length) => sum + 4 * length, 0);
      expect(weights.paths.length === 1).toBe(total <= maxShardBytes || list.length === 1);
      weights.close();
    }),
    { numRuns: 25 },
  );
});

test('a tensor given twice is refused before a shard is written', () => {
  expect(() => saveWeights(folder, [tensor('a', 2), tensor('a', 3)], { maxShardBytes: 8 })).toThrow(
    'a: expected a name of its own, got it twice',
  );
  expect(readdirSync(folder)).toEqual([]);
});

test('an adapter is found under its own name', () => {
  saveWeights(folder, [tensor('a', 2)], { kind: 'adapter_model' });
  expect(findWeights(folder)).toBeUndefined();
  expect(findWeights(folder, 'adapter_model')).toBe(join(folder, 'adapter_model.safetensors'));
  expect(open('adapter_model').readF32('a')).toEqual(Float32Array.of(2, 3));
  expect(open).toThrow("expected a model's weights, got an adapter's (adapter_model.safetensors)");
});

test('the single file goes before an index', () => {
  writeShards();
  saveWeights(folder, [tensor('c', 1)]);
  expect([...open().tensors.keys()]).toEqual(['c']);
});

test('absent shards are refused by name, with how to get them', () => {
  writeShards();
  rmSync(join(folder, B));
  expect(open).toThrow(
    `${join(folder, 'model.safetensors.index.json')}: expected 2 shards beside it, got 1: ${B} is missing. ` +
      'Download the model again, for example with r3 pull.',
  );
});

test('a tensor that its shard lacks is refused', () => {
  writeShards();
  writeIndex({ a: A, b: B, c: B });
  expect(open).toThrow(`${join(folder, B)}: expected the tensor c, got none; `);
});

test('a tensor that the index does not name is refused', () => {
  writeShards();
  writeSafetensors(join(folder, B), [tensor('b', 3), tensor('c', 1)]);
  expect(open).toThrow(
    `${join(folder, B)}: expected only the tensors that the index puts there, got also c; `,
  );
});

test('a tensor in two shards is refused', () => {
  writeShards();
  writeSafetensors(join(folder, B), [tensor('b', 3), tensor('a', 2)]);
  expect(open).toThrow(
    `${join(folder, B)}: expected only the tensors that the index puts there, got also a; `,
  );
});

test('a truncated shard is refused by name', () => {
  writeShards();
  writeFileSync(join(folder, B), readFileSync(join(folder, B)).subarray(0, -1));
  expect(open).toThrow(`${join(folder, B)}: expected 12 bytes of data, got 11 (truncated`);
});

test.each([
  '../model.safetensors',
  '/etc/model.safetensors',
  'sub/model.safetensors',
  '..\\model.safetensors',
  'C:model.safetensors',
  'model.safetensors\0',
  'a\0.safetensors',
  '..',
  '.',
  '',
  'pytorch_model-00001-of-00002.bin',
  `${'a'.repeat(300)}.safetensors`,
  3,
  null,
  [A],
])('the shard name %j is refused', (shard) => {
  writeShards();
  mkdirSync(join(folder, 'sub'));
  writeIndex({ a: A, b: shard });
  expect(open).toThrow(
    'index.json: weight_map: b: expected the plain name of a .safetensors file in the same folder, got ',
  );
});

test.each<[string, string]>([
  ['{}', 'weight_map: expected an object, got nothing'],
  ['{"weight_map": []}', 'weight_map: expected an object, got []'],
  ['{"weight_map": {}}', 'weight_map: expected the tensors of a model, got none'],
  [
    '{"weight_map": {"a": "a.safetensors", "a": "b.safetensors"}}',
    'a: expected each key once in an object, got it twice',
  ],
  ['[]', 'expected a JSON object, got []'],
  ['', 'expected a JSON object, got an empty text'],
  [`{"weight_map": {"${'a'.repeat(1025)}": "a.safetensors"}}`, 'expected tensor names of at most 1024'],
  [
    JSON.stringify({
      weight_map: Object.fromEntries(Array.from({ length: 513 }, (_, i) => [`t${i}`, `${i}.safetensors`])),
    }),
    'expected at most 512 shards, got more',
  ],
])('the index %.40s is refused', (text, message) => {
  write('model.safetensors.index.json', text);
  expect(open).toThrow(`${join(folder, 'model.safetensors.index.json')}: ${message}`);
});

test.each<[string, WeightsKind, string]>([
  [
    'pytorch_model.bin',
    'model',
    `got a pickle file, which can run any program when it is opened and is not read. If you trust it, convert it in Python with transformers: AutoModelForCausalLM.from_pretrained("FOLDER").save_pretrained('OUT')`,
  ],
  ['consolidated.00.pth', 'model', 'got a pickle file'],
  ['model.pt', 'model', 'got a pickle file'],
  [
    'adapter_model.bin',
    'adapter_model',
    "PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained('BASE')",
  ],
  ['model-q4.gguf', 'model', 'got a GGUF file, which is not read. Take the model that it was made from'],
  [A, 'model', `expected the index of ${A} and the other shards, got no such file`],
  ['model.safetensors', 'adapter_model', "expected an adapter's weights, got a model's (model.safetensors)"],
  ['training_args.bin', 'model', 'expected the weights, got no such file'],
])('a folder with only %s is refused', (name, kind, message) => {
  write('config.json', {});
  write(name, 'not opened');
  expect(() => open(kind)).toThrow(message.replace('FOLDER', folder));
});

test('a folder that is absent, and a folder in place of the index, are refused', () => {
  expect(() => openWeights(join(folder, 'none'))).toThrow(
    'expected a file or folder, got nothing at this path',
  );
  mkdirSync(join(folder, 'model.safetensors.index.json'));
  expect(open).toThrow('index.json: expected a file, got a folder');
});
