/** Model folders that do not hold what they should: one clear error each, which names the file and what to do. */
import { cpSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeEach, expect, test } from 'vitest';
import { openModel } from './directory.ts';
import { writeSafetensors, type WritableTensor } from './safetensors.ts';

const scratch = mkdtempSync(join(tmpdir(), 'directory-'));
afterAll(() => rmSync(scratch, { recursive: true }));
const CONFIG = {
  model_type: 'llama',
  vocab_size: 3,
  hidden_size: 16,
  intermediate_size: 2,
  num_hidden_layers: 1,
  num_attention_heads: 1,
  tie_word_embeddings: true,
};

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(scratch, 'model-'));
  writeConfig(CONFIG);
});

function writeConfig(config: unknown): void {
  writeFileSync(join(folder, 'config.json'), typeof config === 'string' ? config : JSON.stringify(config));
}

/** The tensors of a model of CONFIG. */
function tensorsOf(dtype: 'F32' | 'BF16'): WritableTensor[] {
  return openModel(folder, 1).layout.parameters.map(({ name, shape, length }) => ({
    name,
    shape,
    dtype,
    data: new Float32Array(length).fill(1),
  }));
}

function load(tensors: WritableTensor[]): Float32Array {
  writeSafetensors(join(folder, 'model.safetensors'), tensors);
  const { layout, fill } = openModel(folder);
  const values = new Float32Array(layout.length);
  fill(values);
  return values;
}

test('weights that are all finite are read', () => {
  const tensors = tensorsOf('BF16');
  tensors[1]!.data.set([0, -0, 2 ** -126, 2 ** 127]);
  expect([...load(tensors).subarray(48, 53)]).toEqual([0, -0, 2 ** -126, 2 ** 127, 1]);
});

test.each([
  ['F32', [Number.NaN, 1, Infinity, -Infinity], 3],
  ['BF16', [1, 1, 1, Number.NaN], 1],
] as const)(
  '%s weights that are not finite are refused, with tensor, file, count and what to do',
  (dtype, values, count) => {
    const tensors = tensorsOf(dtype);
    tensors[1]!.data.set(values, 2);
    expect(() => load(tensors)).toThrow(
      `${join(folder, 'model.safetensors')}: model.layers.0.self_attn.q_proj.weight: expected finite weights, got ` +
        `${count} of 256 that are NaN or infinite. The file is damaged, or the training that wrote it diverged: ` +
        'copy it again, or take an earlier checkpoint.',
    );
  },
);

test('a tensor that is missing, is too many or has another shape is refused by name', () => {
  const tensors = tensorsOf('F32');
  const path = join(folder, 'model.safetensors');
  expect(() => load(tensors.slice(1))).toThrow(
    `${path}: expected a tensor model.embed_tokens.weight of shape [3, 16] as config.json says, got none`,
  );
  expect(() => load([...tensors, { ...tensors[0]!, name: 'more' }])).toThrow(
    `${path}: expected only the tensors of a Llama model as config.json says, got also more`,
  );
  expect(() => load([{ ...tensors[0]!, shape: [16, 3] }, ...tensors.slice(1)])).toThrow(
    `${path}: model.embed_tokens.weight: expected shape [3, 16] as config.json says, got [16, 3]`,
  );
});

test.each<[unknown, string]>([
  ['null', 'expected a JSON object, got null'],
  ['', 'expected a JSON object, got an empty text'],
  ['[]', 'expected a JSON object, got []'],
  [
    '{"hidden_size": 16, "hidden_size": 32}',
    'hidden_size: expected each key once in an object, got it twice',
  ],
  [{ ...CONFIG, rope_theta: 'x' }, 'rope_theta: expected a number, got "x"'],
  [{ ...CONFIG, model_type: 'mamba' }, 'model_type: expected "llama", got "mamba"'],
  [{ ...CONFIG, vocab_size: 0 }, 'vocab_size: expected at least 1, got 0'],
  [{ ...CONFIG, num_hidden_layers: 1e9 }, 'num_hidden_layers: expected at most 1024, got 1000000000'],
  [{ ...CONFIG, num_hidden_layers: 1.5 }, 'num_hidden_layers: expected a whole number, got 1.5'],
  [{ ...CONFIG, vocab_size: undefined }, 'vocab_size: expected a number, got nothing'],
  [{ ...CONFIG, rms_norm_eps: 0 }, 'rms_norm_eps: expected more than 0, got 0'],
  [{ ...CONFIG, rms_norm_eps: null }, 'rms_norm_eps: expected a number, got null'],
  [{ ...CONFIG, tie_word_embeddings: 'no' }, 'tie_word_embeddings: expected true or false, got "no"'],
  [{ ...CONFIG, attention_bias: true }, 'attention_bias: expected false, got true'],
  [{ ...CONFIG, head_dim: 8 }, 'head_dim: expected a multiple of 16, got 8'],
  [{ ...CONFIG, rope_scaling: 'x' }, 'rope_scaling: expected an object, got "x"'],
  [{ ...CONFIG, rope_scaling: { type: 'linear' } }, 'rope_scaling.type: expected "default", got "linear"'],
  [{ ...CONFIG, hidden_act: 'gelu' }, 'hidden_act: expected "silu", got "gelu"'],
  [
    JSON.stringify(CONFIG).replace('"vocab_size":3', '"vocab_size":1e400'),
    'vocab_size: expected a number of at most',
  ],
])('the config %j is refused', (config, message) => {
  writeConfig(config);
  expect(() => openModel(folder)).toThrow(`${join(folder, 'config.json')}: ${message}`);
});

test('weights in several files are refused, with what merges them', () => {
  writeFileSync(join(folder, 'model.safetensors.index.json'), '{}');
  for (const seed of [undefined, 1]) {
    expect(() => openModel(folder, seed)).toThrow(
      /model\.safetensors\.index\.json: expected the weights in one file, .* Merge them/,
    );
  }
});

test('a config may begin with a byte order mark', () => {
  writeConfig(`\ufeff${JSON.stringify(CONFIG)}`);
  expect(openModel(folder, 1).config.hiddenSize).toBe(16);
});

test('the start model, copied, loads', () => {
  cpSync(fileURLToPath(new URL('../../../models/start', import.meta.url)), folder, { recursive: true });
  const { layout, fill } = openModel(folder);
  const values = new Float32Array(layout.length);
  fill(values);
  expect(values.some((value) => value !== 0)).toBe(true);
});
