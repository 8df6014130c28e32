/**
 * Tokenizers of the three kinds in test/fixtures/tokenizers. The ids and texts below are those of Python
 * transformers 5.17.0 (tokenizers 0.23.2) for the same directories.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import * as fc from 'fast-check';
import { afterAll, expect, test } from 'vitest';
import { loadTokenizer } from './tokenizer.ts';

const fixture = (kind: string): string =>
  fileURLToPath(new URL(`../../test/fixtures/tokenizers/${kind}`, import.meta.url));
const byteLevel = loadTokenizer(fixture('byte-level'));
const byteFallback = loadTokenizer(fixture('byte-fallback'));
const wordLevel = loadTokenizer(fixture('word-level'));

const scratch = mkdtempSync(join(tmpdir(), 'tokenizer-'));
afterAll(() => rmSync(scratch, { recursive: true }));
/** A directory with these files. */
function directoryWith(files: Record<string, string>): string {
  const directory = mkdtempSync(join(scratch, 'model-'));
  for (const [name, text] of Object.entries(files)) writeFileSync(join(directory, name), text);
  return directory;
}

test('byte-level BPE gives the ids of transformers', () => {
  const ids = [274, 265, 276, 220, 19, 17, 11, 276, 77, 6, 83, 275, 83, 30];
  expect(byteLevel.encode("The answer is 42, isn't it?")).toEqual(ids);
});

test('BPE with byte fallback gives the ids of transformers', () => {
  const ids = [302, 313, 285, 243, 162, 169, 131, 285, 240, 152, 159, 324, 207, 132, 13, 13, 283];
  expect(byteFallback.encode('try again 🦀 한 e\u0301\n\nx')).toEqual(ids);
});

test('a word-level tokenizer gives one id for a word and the unknown id for others', () => {
  expect(wordLevel.encode('make 12 with 3 + 9 unheard')).toEqual([14, 41, 15, 32, 5, 38, 0]);
});

test('a word-level tokenizer decodes with single spaces', () => {
  expect(wordLevel.decode(wordLevel.encode('make  12\nwith 3 +   9'))).toBe('make 12 with 3 + 9');
});

test('the text of a special token is its one id, and no other special token is added', () => {
  expect(byteLevel.encode('<|im_start|>e<|im_end|>')).toEqual([317, 68, 318]);
  expect(byteFallback.encode('<|user|>\n\n hi<|end|>\n')).toEqual([326, 285, 272, 273, 328]);
  expect(wordLevel.encode('<|user|> make<|end|>')).toEqual([2, 14, 4]);
});

test('decode leaves out special tokens and keeps added tokens that are not special', () => {
  const ids = byteLevel.encode('<|im_start|>try<tool>again<|im_end|>');
  expect(byteLevel.decode(ids)).toBe('try<tool>again');
  expect(byteLevel.decodeWithSpecials(ids)).toBe('<|im_start|>try<tool>again<|im_end|>');
});

test('decode keeps spaces before punctuation, whatever clean_up_tokenization_spaces says', () => {
  expect(byteLevel.decode(byteLevel.encode("is 4 . No , it 's"))).toBe("is 4 . No , it 's");
});

test('ids beyond the vocabulary decode to nothing and have a name for display', () => {
  expect(byteLevel.decode([68, byteLevel.vocabularySize + 5, 69])).toBe('ef');
  expect(byteLevel.decode([])).toBe('');
  expect(byteLevel.tokenText(265)).toBe('Ġanswer');
  expect(byteLevel.tokenText(5000)).toBe('<no token 5000>');
});

test('vocabulary size counts added tokens', () => {
  expect([byteLevel, byteFallback, wordLevel].map((t) => t.vocabularySize)).toEqual([320, 329, 60]);
});

test('end-of-turn ids are joined from generation_config, config and the eos_token', () => {
  expect(byteLevel.eosIds).toEqual([318, 316]);
  expect(byteFallback.eosIds).toEqual([2, 328]);
  expect(wordLevel.eosIds).toEqual([4]);
  const directory = directoryWith({
    'tokenizer.json': readFileSync(join(fixture('word-level'), 'tokenizer.json'), 'utf8'),
    'special_tokens_map.json': '{"eos_token": {"content": "<|end|>"}}',
    'config.json': '{"eos_token_id": 2}',
    'generation_config.json': '{"eos_token_id": null}',
  });
  expect(loadTokenizer(directory).eosIds).toEqual([2, 4]);
});

test('added tokens that only tokenizer_config.json has are known', () => {
  const directory = directoryWith({
    'tokenizer.json': readFileSync(join(fixture('byte-level'), 'tokenizer.json'), 'utf8'),
    'tokenizer_config.json': '{"added_tokens_decoder": {"325": {"content": "<more>", "special": true}}}',
  });
  const tokenizer = loadTokenizer(directory);
  expect(tokenizer.encode('e<more>')).toEqual([68, 325]);
  expect(tokenizer.specialIds.has(325)).toBe(true);
});

test('byte-level BPE: decode inverts encode for every text in normal form C', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'grapheme' }), (text) => {
      expect(byteLevel.decodeWithSpecials(byteLevel.encode(text))).toBe(text.normalize('NFC'));
    }),
  );
});

test('a directory without tokenizer.json is an error that says what is needed', () => {
  expect(() => loadTokenizer(directoryWith({}))).toThrow(
    /expected a tokenizer\.json in .*, got none\. Fetch it/,
  );
});

test('a cut tokenizer.json is an error that names the file', () => {
  const directory = directoryWith({ 'tokenizer.json': '{"model": {' });
  expect(() => loadTokenizer(directory)).toThrow(
    /tokenizer\.json: expected a JSON object, got .* copy or download it again/,
  );
});

test('a tokenizer.json that is no tokenizer is an error with the reason', () => {
  const directory = directoryWith({ 'tokenizer.json': '{"model": {"type": "BPE"}}' });
  expect(() => loadTokenizer(directory)).toThrow(/refuses: Tokenizer must contain a "decoder" property/);
});

interface TokenizerFile {
  model: { type: string; vocab: Record<string, unknown> };
  added_tokens: unknown;
}

test.each<[string, (json: TokenizerFile) => unknown, string]>([
  ['an unknown type', (json) => (json.model.type = 'Foo'), 'model.type: expected BPE, Unigram'],
  [
    'an id that is none',
    (json) => (json.model.vocab['the'] = 'x'),
    'model.vocab["the"]: expected an id from 0 to',
  ],
  [
    'an id too large',
    (json) => (json.model.vocab['the'] = 1e9),
    'model.vocab["the"]: expected an id from 0 to',
  ],
  [
    'an id twice',
    (json) => (json.model.vocab['the'] = json.model.vocab['try']),
    'model.vocab["the"]: expected an id other than that of "try"',
  ],
  [
    'added tokens that are no list',
    (json) => (json.added_tokens = 'x'),
    'added_tokens: expected a list, got "x"',
  ],
  [
    'an added token without content',
    (json) => (json.added_tokens = [null]),
    'added_tokens: expected a token with',
  ],
])('%s is an error that names file and field', (_, change, message) => {
  const json = JSON.parse(readFileSync(join(fixture('word-level'), 'tokenizer.json'), 'utf8'));
  change(json);
  const directory = directoryWith({ 'tokenizer.json': JSON.stringify(json) });
  expect(() => loadTokenizer(directory)).toThrow(`${directory}/tokenizer.json: ${message}`);
});

test('ids that config.json has no room for are errors where they are met, and only there', () => {
  const directory = directoryWith({
    'tokenizer.json': readFileSync(join(fixture('word-level'), 'tokenizer.json'), 'utf8'),
    'config.json': '{"vocab_size": 20}',
  });
  const tokenizer = loadTokenizer(directory);
  const [word] = loadTokenizer(fixture('word-level')).encode('try');
  expect(word).toBeGreaterThanOrEqual(20);
  expect(() => tokenizer.encode('try')).toThrow(
    `${directory}/tokenizer.json: expected ids below 20, the vocab_size of config.json, got ${word} for "try". ` +
      'Are both files of the same model?',
  );
  writeFileSync(join(directory, 'generation_config.json'), '{"eos_token_id": [1, 20]}');
  expect(() => loadTokenizer(directory)).toThrow(
    `${directory}/generation_config.json: eos_token_id: expected ids below 20, the vocab_size of config.json, got 20`,
  );
});

test('a malformed eos_token_id is an error that names file and field', () => {
  const directory = directoryWith({
    'tokenizer.json': readFileSync(join(fixture('word-level'), 'tokenizer.json'), 'utf8'),
    'generation_config.json': '{"eos_token_id": ["</s>"]}',
  });
  expect(() => loadTokenizer(directory)).toThrow(
    /generation_config\.json: eos_token_id: expected a token id/,
  );
});

test('a word without an id is an error when nothing stands for unknown words', () => {
  const json = JSON.parse(readFileSync(join(fixture('word-level'), 'tokenizer.json'), 'utf8'));
  json.model.unk_token = '<none>';
  const tokenizer = loadTokenizer(directoryWith({ 'tokenizer.json': JSON.stringify(json) }));
  expect(() => tokenizer.encode('make unheard')).toThrow(/expected a word of the vocabulary, got "unheard"/);
});
