/**
 * The tokenizer.json of a model directory; where there is none, the same from vocab.json and merges.txt.
 *
 * Only byte-level BPE has those two files. How it cuts a text into words stands in neither, so it is known here by the
 * `tokenizer_class` of tokenizer_config.json: that of GPT-2, and that of Qwen2 (and 2.5, 3). Anything else, and a
 * tokenizer.model alone, is an error that says how Python transformers converts it.
 * Source of the two patterns: the published tokenizer.json files of openai-community/gpt2 and Qwen/Qwen2-0.5B.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { R3Error } from '../lib/errors.ts';
import { readJson, readText, type JsonObject } from './model-files.ts';

const QWEN2_PATTERN =
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

interface Family {
  normalizer: unknown;
  preTokenizer: (prefix: boolean) => unknown;
}

/** By the first part of the class's name. */
const FAMILIES: Readonly<Record<string, Family>> = {
  Qwen2Tokenizer: {
    normalizer: { type: 'NFC' },
    preTokenizer: (prefix) => ({
      type: 'Sequence',
      pretokenizers: [
        { type: 'Split', pattern: { Regex: QWEN2_PATTERN }, behavior: 'Isolated', invert: false },
        { type: 'ByteLevel', add_prefix_space: prefix, trim_offsets: false, use_regex: false },
      ],
    }),
  },
  GPT2Tokenizer: {
    normalizer: null,
    preTokenizer: (prefix) => ({
      type: 'ByteLevel',
      add_prefix_space: prefix,
      trim_offsets: true,
      use_regex: true,
    }),
  },
};

/** Whether `readTokenizerJson` finds a tokenizer of a kind that it reads; the files may yet be damaged. */
export function hasTokenizer(directory: string): boolean {
  const has = (name: string): boolean => existsSync(join(directory, name));
  if (has('tokenizer.json')) return true;
  if (!has('vocab.json') || !has('merges.txt')) return false;
  return familyOf(readJson(directory, 'tokenizer_config.json')) !== undefined;
}

/** `config`: what is in tokenizer_config.json. */
function familyOf(config: JsonObject | undefined): Family | undefined {
  const named = config?.['tokenizer_class'];
  if (typeof named !== 'string') return undefined;
  const name = named.replace(/Fast$/, '');
  return Object.hasOwn(FAMILIES, name) ? FAMILIES[name] : undefined;
}

/** Throws R3Error `bad-file` when there is no tokenizer that can be read. */
export function readTokenizerJson(directory: string): JsonObject {
  const json = readJson(directory, 'tokenizer.json');
  if (json !== undefined) return json;
  const vocabulary = readJson(directory, 'vocab.json');
  const merges = readText(directory, 'merges.txt');
  if (vocabulary !== undefined && merges !== undefined) return byteLevelBpe(directory, vocabulary, merges);

  const model = ['tokenizer.model', 'spiece.model'].find((name) => existsSync(join(directory, name)));
  const got =
    model === undefined ? 'none. Fetch it with the model, or its vocab.json and merges.txt' : `only ${model}`;
  const convert =
    model === undefined
      ? ''
      : `. In Python, AutoTokenizer.from_pretrained("${directory}").save_pretrained("${directory}") writes one (transformers, ` +
        'with sentencepiece or tiktoken installed)';
  throw new R3Error(
    'text',
    'bad-file',
    `tokenizer: expected a tokenizer.json in ${directory}, got ${got}${convert}.`,
  );
}

function byteLevelBpe(directory: string, vocabulary: JsonObject, merges: string): JsonObject {
  const config = readJson(directory, 'tokenizer_config.json') ?? {};
  const family = familyOf(config);
  if (family === undefined) {
    const why =
      `${directory}/tokenizer_config.json: tokenizer_class: expected ${Object.keys(FAMILIES).join(' or ')}, whose vocab.json ` +
      `and merges.txt can be read without a tokenizer.json, got ${JSON.stringify(config['tokenizer_class']) ?? 'none'}. ` +
      `In Python, AutoTokenizer.from_pretrained("${directory}").save_pretrained("${directory}") writes a tokenizer.json.`;
    throw new R3Error('text', 'bad-file', why);
  }
  const prefix = config['add_prefix_space'] === true;
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    // Those of tokenizer_config.json are added where the file is read.
    added_tokens: [],
    normalizer: family.normalizer,
    pre_tokenizer: family.preTokenizer(prefix),
    post_processor: null,
    decoder: { type: 'ByteLevel', add_prefix_space: prefix, trim_offsets: true, use_regex: true },
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: '',
      end_of_word_suffix: '',
      fuse_unk: false,
      byte_fallback: false,
      vocab: vocabulary,
      merges: readMerges(directory, merges),
    },
  };
}

/** One pair a line, the first line may be a version. */
function readMerges(directory: string, text: string): string[][] {
  const pairs: string[][] = [];
  for (const [i, line] of text.split(/\r?\n/).entries()) {
    if (line === '' || (i === 0 && line.startsWith('#version'))) continue;
    const pair = line.split(' ');
    if (pair.length !== 2) {
      const why = `${directory}/merges.txt line ${i + 1}: expected two tokens, got ${JSON.stringify(line.slice(0, 60))}`;
      throw new R3Error('text', 'bad-file', why);
    }
    pairs.push(pair);
  }
  return pairs;
}
