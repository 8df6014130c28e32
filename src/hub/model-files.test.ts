import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { chooseFiles, missingFiles, modelFilesOf } from './model-files.ts';

const root = mkdtempSync(join(tmpdir(), 'r3-model-files-'));
afterAll(() => rmSync(root, { recursive: true }));
let made = 0;
function folder(files: Record<string, string>): string {
  const directory = join(root, String(made++));
  mkdirSync(directory);
  for (const [name, text] of Object.entries(files)) writeFileSync(join(directory, name), text);
  return directory;
}
const index = (...shards: unknown[]): string =>
  JSON.stringify({ weight_map: Object.fromEntries(shards.map((shard, i) => [`layer.${i}`, shard])) });

const BASE = ['config.json', 'model.safetensors'];

describe('of a repository', () => {
  test('configuration, tokenizer, templates, weights and licence are taken, nothing else', () => {
    const wanted = [
      'LICENSE',
      'LICENSE.txt',
      'README.md',
      'additional_chat_templates/tool_use.jinja',
      'added_tokens.json',
      'chat_template.jinja',
      'chat_template.json',
      'config.json',
      'generation_config.json',
      'merges.txt',
      'model-00001-of-00002.safetensors',
      'model-00002-of-00002.safetensors',
      'model.safetensors.index.json',
      'special_tokens_map.json',
      'tokenizer.json',
      'tokenizer.model',
      'tokenizer_config.json',
      'vocab.json',
    ];
    const others = [
      '.gitattributes',
      'consolidated.safetensors',
      'model.gguf',
      'modeling_custom.py',
      'onnx/model.onnx',
      'onnx/model.safetensors',
      'original/consolidated.00.pth',
      'pytorch_model.bin',
      'training_args.bin',
    ];
    expect(chooseFiles('o/m', [...wanted, ...others].toSorted()).toSorted()).toEqual(wanted.toSorted());
  });

  test('weights that are there whole and in shards are taken whole', () => {
    const shards = ['model.safetensors.index.json', 'model-00001-of-00001.safetensors'];
    expect(chooseFiles('o/m', [...BASE, ...shards])).toEqual(BASE);
  });

  test.each([
    [['adapter_config.json', 'adapter_model.safetensors']],
    [['adapter_config.json', 'adapter_model.safetensors', 'config.json', 'tokenizer.json']],
    [
      [
        'adapter_config.json',
        'adapter_model-00001-of-00001.safetensors',
        'adapter_model.safetensors.index.json',
        'model.safetensors',
      ],
    ],
  ])('an adapter is taken: %j', (adapter) => {
    expect(chooseFiles('o/m', adapter)).toEqual(adapter);
  });

  test.each([
    '../config.json',
    'a/../../model.safetensors',
    '/config.json',
    '..\\model.safetensors',
    'C:\\model.safetensors',
    'C:/config.json',
    'model\0.safetensors',
    'con.safetensors',
    'additional_chat_templates/aux.jinja',
    'additional_chat_templates/..\\x.jinja',
    './config.json',
    'a//config.json',
    `${'m'.repeat(300)}.safetensors`,
  ])('a path that may leave the folder is refused: %j', (path) => {
    expect(() => chooseFiles('o/m', [...BASE, path])).toThrow(/^o\/m: expected files under .* not safe/);
  });

  test('a strange path that is not wanted does not matter', () => {
    expect(chooseFiles('o/m', [...BASE, 'notes: today.txt', 'logs\\a.txt'])).toEqual(BASE);
  });

  test.each([
    [['model.safetensors'], 'o/m: expected a model with a config.json, got a repository without'],
    [
      ['config.json', 'pytorch_model.bin'],
      'o/m/pytorch_model.bin: expected model.safetensors, got a pickle file, which can run any program when it is opened and is not read. If you trust it, convert it in Python with transformers: AutoModelForCausalLM.from_pretrained("o/m").save_pretrained(\'OUT\')',
    ],
    [
      ['config.json', 'm.Q4.gguf'],
      'got a GGUF file, which is not read. Take the model that it was made from',
    ],
    [['config.json'], 'o/m/model.safetensors: expected the weights, got no such file'],
    [['config.json', 'onnx/model.safetensors'], 'o/m/model.safetensors: expected the weights'],
    [['config.json', 'onnx/model-00001-of-00002.safetensors'], 'o/m/model.safetensors: expected the weights'],
    [['adapter_config.json'], 'o/m/adapter_model.safetensors: expected the weights'],
    [
      ['config.json', 'adapter_config.json', 'model.safetensors'],
      "expected an adapter's weights, got a model's",
    ],
  ])('%j is refused', (paths, message) => {
    expect(() => chooseFiles('o/m', paths)).toThrow(message);
  });
});

describe('a folder', () => {
  test('is whole with a configuration and its weights', () => {
    const shards = { 'a-1-of-2.safetensors': '', 'a-2-of-2.safetensors': '' };
    const map = index('a-1-of-2.safetensors', 'a-1-of-2.safetensors', 'a-2-of-2.safetensors');
    expect(missingFiles(folder({ 'config.json': '{}', 'model.safetensors': '' }))).toEqual([]);
    expect(missingFiles(folder({ 'adapter_config.json': '{}', 'adapter_model.safetensors': '' }))).toEqual(
      [],
    );
    expect(
      missingFiles(folder({ 'config.json': '{}', 'model.safetensors.index.json': map, ...shards })),
    ).toEqual([]);
  });

  test('with an adapter_config.json is an adapter, as r3 writes it, beside the config.json of its base', () => {
    const adapter = { 'config.json': '{}', 'adapter_config.json': '{}' };
    expect(missingFiles(folder(adapter))).toEqual(['adapter_model.safetensors']);
    expect(missingFiles(folder({ ...adapter, 'model.safetensors': '' }))).toEqual([
      'adapter_model.safetensors',
    ]);
    expect(missingFiles(folder({ ...adapter, 'adapter_model.safetensors': '' }))).toEqual([]);
    const map = index('a.safetensors');
    expect(missingFiles(folder({ ...adapter, 'adapter_model.safetensors.index.json': map }))).toEqual([
      'a.safetensors',
    ]);
  });

  test('lacks the shards that its index names and that are not there', () => {
    const map = index('a.safetensors', 'b.safetensors', 'a.safetensors');
    const directory = folder({ 'config.json': '{}', 'model.safetensors.index.json': map });
    expect(missingFiles(directory)).toEqual(['a.safetensors', 'b.safetensors']);
  });

  test('with an index that an engine refuses is refused in the same words', () => {
    const directory = folder({
      'config.json': '{}',
      'model.safetensors.index.json': index('sub/a.safetensors'),
    });
    const path = join(directory, 'model.safetensors.index.json');
    expect(() => missingFiles(directory)).toThrow(
      `${path}: weight_map: layer.0: expected the plain name of a .safetensors file in the same folder, got "sub/a.safetensors"; copy or download it again`,
    );
  });

  test('is listed with the bytes of what a model needs', () => {
    const directory = folder({ 'config.json': '{}', 'model.safetensors': 'abc', 'notes.txt': 'more' });
    mkdirSync(join(directory, 'additional_chat_templates'));
    writeFileSync(join(directory, 'additional_chat_templates', 'a.jinja'), 'x');
    const { files, bytes } = modelFilesOf(directory);
    expect(files.toSorted()).toEqual([
      'additional_chat_templates/a.jinja',
      'config.json',
      'model.safetensors',
    ]);
    expect(bytes).toBe(6);
  });
});
