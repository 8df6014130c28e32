/**
 * Tokenizers against Python tokenizers 0.23 and transformers 5.17: test/fixtures/text/tokenizers.json, which
 * scripts/fixtures/text/tokenizers.py wrote; and what holds for any text.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { afterAll, describe, expect, test } from 'vitest';
import { hasTokenizer } from './tokenizer-json.ts';
import { loadTokenizer } from './tokenizer.ts';

interface Case {
  text: string;
  ids: number[];
  decoded: string;
  plain: string;
}

interface Fixture {
  tokenizers: Record<string, { added_tokens: unknown[]; cases: Case[] }>;
  files: Record<string, { text: string; ids: number[] }[]>;
}

interface TokenizerFile {
  model: { vocab: unknown; merges: string[][] };
}

const read = (path: string): unknown =>
  JSON.parse(readFileSync(new URL(`../../test/fixtures/${path}`, import.meta.url), 'utf8'));
const fixture = read('text/tokenizers.json') as Fixture;
const scratch = mkdtempSync(join(tmpdir(), 'tokenizer-parity-'));
afterAll(() => rmSync(scratch, { recursive: true }));
/** A directory with these files, from JSON or as they are. */
function directoryWith(files: Record<string, unknown>): string {
  const directory = mkdtempSync(join(scratch, 'model-'));
  for (const [name, content] of Object.entries(files)) {
    writeFileSync(join(directory, name), typeof content === 'string' ? content : JSON.stringify(content));
  }
  return directory;
}

describe.each(Object.entries(fixture.tokenizers))(
  '%s with added tokens of every kind',
  (name, { added_tokens, cases }) => {
    const json = { ...(read(`tokenizers/${name}/tokenizer.json`) as object), added_tokens };
    const tokenizer = loadTokenizer(join(directoryWith({ 'tokenizer.json': json }), 'tokenizer.json'));

    test('ids and texts are those of Python tokenizers', () => {
      const got = cases.map(({ text, ids }) => ({
        text,
        ids: tokenizer.encode(text),
        decoded: tokenizer.decodeWithSpecials(ids),
        plain: tokenizer.decode(ids),
      }));
      expect(got).toEqual(cases);
    });

    test('any text has ids, one with halves of characters too, and they decode', () => {
      fc.assert(
        fc.property(fc.array(fc.integer({ min: 0, max: 0xffff }), { maxLength: 20 }), (units) => {
          const text = String.fromCharCode(...units);
          const ids = tokenizer.encode(text);
          expect(ids.every((id) => Number.isInteger(id) && id < tokenizer.vocabularySize)).toBe(true);
          expect(typeof tokenizer.decode(ids)).toBe('string');
        }),
      );
    });
  },
);

describe.each(Object.entries(fixture.files))('vocab.json and merges.txt of a %s', (name, cases) => {
  const { model } = read('tokenizers/byte-level/tokenizer.json') as TokenizerFile;
  const files = {
    'vocab.json': model.vocab,
    'merges.txt': `#version: 0.2\n${model.merges.map((pair) => pair.join(' ')).join('\n')}\n`,
  };

  test('give the ids of transformers without a tokenizer.json', () => {
    const config = {
      tokenizer_class: name,
      added_tokens_decoder: { 400: { content: '<|im_end|>', special: true } },
    };
    const tokenizer = loadTokenizer(directoryWith({ ...files, 'tokenizer_config.json': config }));
    expect(cases.map(({ text }) => ({ text, ids: tokenizer.encode(text) }))).toEqual(cases);
    expect(tokenizer.encode('a<|im_end|>').at(-1)).toBe(400);
  });

  test('are a tokenizer', () => {
    const directory = directoryWith({
      ...files,
      'tokenizer_config.json': { tokenizer_class: `${name}Fast` },
    });
    expect(hasTokenizer(directory)).toBe(true);
  });

  test('are an error with the way out where a line is no pair', () => {
    const config = { tokenizer_class: name };
    const directory = directoryWith({
      ...files,
      'merges.txt': 'a b\na b c\n',
      'tokenizer_config.json': config,
    });
    expect(() => loadTokenizer(directory)).toThrow(/merges\.txt line 2: expected two tokens, got "a b c"/);
  });
});

test.each<[Record<string, unknown>, RegExp]>([
  [
    { 'tokenizer.model': 'x' },
    /got only tokenizer\.model\. In Python, AutoTokenizer\.from_pretrained\(.*save_pretrained/,
  ],
  [
    { 'vocab.json': {}, 'merges.txt': '' },
    /tokenizer_class: expected Qwen2Tokenizer or GPT2Tokenizer.* got none\. In Python/,
  ],
  ...['constructor', 'toString', '__proto__Fast'].map((name): [Record<string, unknown>, RegExp] => [
    { 'vocab.json': {}, 'merges.txt': '', 'tokenizer_config.json': { tokenizer_class: name } },
    new RegExp(`tokenizer_class: expected Qwen2Tokenizer or GPT2Tokenizer.* got "${name}"`),
  ]),
  [
    { 'vocab.json': {} },
    /expected a tokenizer\.json in .* got none\. Fetch it with the model, or its vocab\.json/,
  ],
])('%j without a tokenizer.json is an error that says how to get one', (files, message) => {
  const directory = directoryWith(files);
  expect(() => loadTokenizer(directory)).toThrow(message);
  expect(hasTokenizer(directory)).toBe(false);
});

test('special tokens are put around a text where they are asked for, and only there', () => {
  const json = read('tokenizers/byte-level/tokenizer.json') as object;
  const special = { id: '<|im_start|>', ids: [317], tokens: ['<|im_start|>'] };
  const post_processor = {
    type: 'TemplateProcessing',
    single: [{ SpecialToken: { id: special.id, type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }],
    pair: [],
    special_tokens: { [special.id]: special },
  };
  const tokenizer = loadTokenizer(directoryWith({ 'tokenizer.json': { ...json, post_processor } }));
  expect(tokenizer.encode('e')).toEqual([68]);
  expect(tokenizer.encodeWithSpecials('e')).toEqual([317, 68]);
  expect(tokenizer.encodeWithSpecials('')).toEqual([317]);
});
