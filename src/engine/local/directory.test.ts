/** Model folders that do not hold what they should: one clear error each, which names the file and what to do. */
import {
  cpSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeEach, expect, test } from 'vitest';
import { openModel, saveModel, storedAs, type LoadedModel } from './directory.ts';
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
function tensorsOf(dtype: 'F32' | 'BF16'): (WritableTensor & { data: Float32Array })[] {
  return openModel(folder, { initSeed: 1 }).layout.parameters.map(({ name, shape, length }) => ({
    name,
    shape,
    dtype,
    data: new Float32Array(length).fill(1),
  }));
}

function load(tensors: WritableTensor[]): Float32Array {
  writeSafetensors(join(folder, 'model.safetensors'), tensors);
  return valuesOf(openModel(folder));
}

/** All values of a model. */
function valuesOf({ layout, read }: LoadedModel): Float32Array {
  const values = new Float32Array(layout.length);
  for (const p of layout.parameters) read(p, 0, p.length, values.subarray(p.offset));
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
    `${path}: expected a tensor model.embed_tokens.weight of shape [3, 16] as the config says, got none. Are all files of the same model?`,
  );
  expect(() => load([...tensors, { ...tensors[0]!, name: 'more' }])).toThrow(
    `${path}: expected only the tensors that the config (llama) asks for, got also more`,
  );
  expect(() => load([{ ...tensors[0]!, shape: [16, 3] }, ...tensors.slice(1)])).toThrow(
    `${path}: model.embed_tokens.weight: expected shape [3, 16] as the config says, got [16, 3]`,
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
  [{ ...CONFIG, model_type: 'mamba' }, 'model_type: expected one of "llama", "mistral", "qwen2"'],
  [{ ...CONFIG, architectures: ['LlamaForSequenceClassification'] }, 'architectures: expected a causal'],
  [{ ...CONFIG, quantization_config: { bits: 4 } }, 'quantization_config: expected no such field, got'],
  [
    { ...CONFIG, rope_scaling: { rope_type: 'yarn' } },
    'rope_scaling.rope_type: expected one of "default", "linear"',
  ],
  [
    { ...CONFIG, rope_parameters: { rope_theta: 1, mscale: 1 } },
    'rope_parameters.mscale: expected no such field, got 1',
  ],
  [{ ...CONFIG, attention_dropout: 0.1 }, 'attention_dropout: expected 0, got 0.1'],
  [{ ...CONFIG, vocab_size: 0 }, 'vocab_size: expected at least 1, got 0'],
  [{ ...CONFIG, num_hidden_layers: 1e9 }, 'num_hidden_layers: expected at most 1024, got 1000000000'],
  [{ ...CONFIG, num_hidden_layers: 1.5 }, 'num_hidden_layers: expected a whole number, got 1.5'],
  [{ ...CONFIG, vocab_size: undefined }, 'vocab_size: expected a number, got nothing'],
  [{ ...CONFIG, rms_norm_eps: 0 }, 'rms_norm_eps: expected more than 0, got 0'],
  [{ ...CONFIG, tie_word_embeddings: 'no' }, 'tie_word_embeddings: expected true or false, got "no"'],
  [{ ...CONFIG, attention_bias: 1 }, 'attention_bias: expected true or false, got 1'],
  [{ ...CONFIG, head_dim: 8 }, 'head_dim: expected a multiple of 16 (here 8), got 8'],
  [{ ...CONFIG, rope_scaling: 'x' }, 'rope_scaling: expected an object, got "x"'],
  [{ ...CONFIG, rope_scaling: { type: 'linear' } }, 'rope_scaling.factor: expected a number, got nothing'],
  [{ ...CONFIG, hidden_act: 'gelu' }, 'hidden_act: expected "silu", got "gelu"'],
  [
    JSON.stringify(CONFIG).replace('"vocab_size":3', '"vocab_size":1e400'),
    'vocab_size: expected a number of at most',
  ],
])('the config %j is refused', (config, message) => {
  writeConfig(config);
  expect(() => openModel(folder)).toThrow(`${join(folder, 'config.json')}: ${message}`);
});

test('a config that is no file is refused, and so is one that is too large to be one', () => {
  rmSync(join(folder, 'config.json'));
  mkdirSync(join(folder, 'config.json'));
  expect(() => openModel(folder)).toThrow('config.json: expected a file, got a folder or a device');
  rmSync(join(folder, 'config.json'), { recursive: true });
  writeConfig(`${' '.repeat(1 << 24)}{}`);
  expect(() => openModel(folder)).toThrow('config.json: expected at most 16777216 bytes, got 16777218');
});

test('a config may begin with a byte order mark', () => {
  writeConfig(`\ufeff${JSON.stringify(CONFIG)}`);
  expect(openModel(folder, { initSeed: 1 }).config.hiddenSize).toBe(16);
});

test('what is saved has the texts of what it came from, links included, and its config to the letter', async () => {
  writeConfig(
    '{"model_type": "llama", "vocab_size": 3, "hidden_size": 16, "intermediate_size": 2,\n' +
      '"num_hidden_layers": 1, "num_attention_heads": 1, "rms_norm_eps": 1.0e-6, "rope_theta": 10000.0}',
  );
  writeFileSync(join(folder, 'blob'), '{{ messages }}');
  symlinkSync('blob', join(folder, 'chat_template.jinja'));
  mkdirSync(join(folder, 'additional_chat_templates'));
  writeFileSync(join(folder, 'additional_chat_templates/tool_use.jinja'), '{{ tools }}');
  const model = openModel(folder, { initSeed: 1 });
  const saved = join(folder, 'saved');
  await saveModel(model, model.read, saved, 'BF16');
  const read = (name: string): string => readFileSync(join(saved, name), 'utf8');
  expect(lstatSync(join(saved, 'chat_template.jinja')).isSymbolicLink()).toBe(false);
  expect(read('chat_template.jinja')).toBe('{{ messages }}');
  expect(read('additional_chat_templates/tool_use.jinja')).toBe('{{ tools }}');
  expect(read('config.json')).toContain('"rope_theta": 10000.0');
  expect(read('config.json')).toContain('"dtype": "bfloat16"');
  expect(storedAs(openModel(saved))).toBe('BF16');
});

test('the start model, copied, loads', () => {
  cpSync(fileURLToPath(new URL('../../../models/start', import.meta.url)), folder, { recursive: true });
  const values = valuesOf(openModel(folder));
  expect(values.some((value) => value !== 0)).toBe(true);
});
