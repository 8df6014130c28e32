/**
 * The tokenizer of a Hugging Face model directory: text to ids and back.
 *
 * @huggingface/tokenizers does the work, from tokenizer.json. This file adds what training needs: the full
 * set of ids that end a turn, decoding that changes nothing (no "clean-up" of spaces) and that accepts any
 * id the model can sample, and errors that name the file.
 * Special tokens are never added: a chat template writes them itself, and their text becomes their one id.
 *
 * Known: byte-level BPE, BPE with byte fallback, Unigram, and WordLevel.
 * Differs from Python in decoding ids that no text has: half of a character next to whole ones in byte fallback leaves those
 * whole (Python shows U+FFFD for each byte of the run), and a letter such as é in an added token of a byte-level
 * tokenizer stays (Python reads it as a byte).
 */
import { existsSync, statSync } from 'node:fs';
import { basename, dirname } from 'node:path';
import { Tokenizer as HuggingFaceTokenizer } from '@huggingface/tokenizers';
import { R3Error, messageOf } from '../lib/errors.ts';
import { isObject, showValue } from '../lib/json.ts';
import { makeSplitter, type AddedToken } from './added-tokens.ts';
import { readJson, readSpecialTokens } from './model-files.ts';
import { readTokenizerJson } from './tokenizer-json.ts';
import type { JsonObject } from './model-files.ts';

export interface Tokenizer {
  /** The text of a special token becomes its id; none is added. Throws R3Error `bad-file` for a word without an id, or
   * with one that config.json has no room for. */
  encode(text: string): number[];
  /** The same with the tokens that the file's post-processor puts around a text, such as BOS. */
  encodeWithSpecials(text: string): number[];
  /** Special tokens are left out, and so are ids that stand for no token (padding rows of an embedding). */
  decode(ids: readonly number[]): string;
  decodeWithSpecials(ids: readonly number[]): string;
  /** One token as the file writes it, for display: `Ġthe`, `▁the`, `<|im_end|>`. `<no token 7>` for an unused id. */
  tokenText(id: number): string;
  /** The highest id plus one. A model's embedding may have more rows. */
  vocabularySize: number;
  specialIds: ReadonlySet<number>;
  /** Stands for words outside the vocabulary, where the tokenizer has such an id. */
  unknownId: number | undefined;
  /** Ids that end a turn: of generation_config.json, config.json and tokenizer_config.json, in this order. */
  eosIds: number[];
}

/** What is used of @huggingface/tokenizers 0.2.0, whose own types do not resolve under Node's module rules. */
interface Library {
  normalizer: ((text: string) => string) | null;
  /** Metaspace puts its sign before the first section only, where it is told so. */
  pre_tokenizer: ((text: string, place: { section_index: number }) => string[]) | null;
  model: { (words: string[]): string[]; vocab: string[]; unk_token_id?: number };
  post_processor: ((tokens: string[], pair: null, addSpecials: true) => { tokens: string[] }) | null;
  decoder: Decoder | null;
  /** Throws for an empty list. */
  decode(ids: number[], options: { clean_up_tokenization_spaces: boolean }): string;
  token_to_id(token: string): number | undefined;
  id_to_token(id: number): string | undefined;
  get_added_tokens_decoder(): Map<number, AddedToken>;
}

/**
 * `path`: a model directory, or a tokenizer.json, which is then all that is read. Throws R3Error `bad-file` when the
 * tokenizer is missing or a file is malformed.
 */
export function loadTokenizer(path: string): Tokenizer {
  if (existsSync(path) && !statSync(path).isDirectory()) return loadFile(path);
  const json = readTokenizerJson(path);
  checkFile(`${path}/tokenizer.json`, json);
  return makeTokenizer(path, json);
}

/** A tokenizer.json on its own. */
function loadFile(path: string): Tokenizer {
  const json = readJson(dirname(path), basename(path)) ?? {};
  checkFile(path, json);
  return makeTokenizer(path, json);
}

/** `directory`: where the files beside the tokenizer are looked for; a file has none beside it. */
function makeTokenizer(directory: string, json: JsonObject): Tokenizer {
  const config = readJson(directory, 'tokenizer_config.json') ?? {};
  const named = readSpecialTokens(directory);
  const library = makeLibrary(directory, json, config, named);
  // A tokenizer may have tokens that its model has no row for, such as padding: harmless until one is met.
  const rows = readJson(directory, 'config.json')?.['vocab_size'];
  const room = typeof rows === 'number' ? rows : Infinity;

  const specialIds = new Set<number>();
  for (const [id, token] of library.get_added_tokens_decoder()) if (token.special) specialIds.add(id);
  for (const text of Object.values(named)) {
    const id = library.token_to_id(text);
    if (id !== undefined) specialIds.add(id);
  }

  const decodeAll = (ids: number[]): string =>
    ids.length === 0 ? '' : library.decode(ids, { clean_up_tokenization_spaces: false });
  const known = (id: number): boolean => library.id_to_token(id) !== undefined;

  const tokensOf = makeEncoder(library);
  const idOf = (token: string): number => {
    // A word outside the vocabulary has no id where there is no unk_token.
    const id = library.token_to_id(token) ?? library.model.unk_token_id;
    if (id !== undefined && id < room) return id;
    const shown = JSON.stringify(token);
    const why =
      id === undefined
        ? `expected a word of the vocabulary, got ${shown}, and no unk_token stands for it`
        : `${expectedRoom(room)}, got ${id} for ${shown}. Are both files of the same model?`;
    throw new R3Error('text', 'bad-file', `${directory}/tokenizer.json: ${why}`);
  };
  const addAround = (tokens: string[]): string[] =>
    library.post_processor === null ? tokens : library.post_processor(tokens, null, true).tokens;

  return {
    encode: (text) => tokensOf(text).map(idOf),
    encodeWithSpecials: (text) => addAround(tokensOf(text)).map(idOf),
    decode: (ids) => decodeAll(ids.filter((id) => known(id) && !specialIds.has(id))),
    decodeWithSpecials: (ids) => decodeAll(ids.filter(known)),
    tokenText: (id) => library.id_to_token(id) ?? `<no token ${id}>`,
    vocabularySize: library.model.vocab.length,
    specialIds,
    unknownId: named.unk_token === undefined ? undefined : library.token_to_id(named.unk_token),
    eosIds: readEosIds(directory, library, named.eos_token, room),
  };
}

/**
 * Text to tokens. The library's own `encode` does the same but for the white space around added tokens, which it takes
 * as JavaScript has it, and for `single_word`, which it does not know.
 */
function makeEncoder(library: Library): (text: string) => string[] {
  const { normalizer, pre_tokenizer: cut, model } = library;
  const added = [...library.get_added_tokens_decoder().values()];
  const isLate = (token: AddedToken): boolean => token.normalized === true && normalizer !== null;
  const normalize = normalizer ?? ((text: string): string => text);
  const splitRaw = makeSplitter(added.filter((token) => !isLate(token)));
  const splitNormalized = makeSplitter(added.filter(isLate), ({ content }) => normalize(content));
  return (text) => {
    if (text === '') return [];
    return splitRaw(text).flatMap((piece, section_index) => {
      if ('token' in piece) return [piece.token.content];
      return splitNormalized(normalize(piece.text)).flatMap((part) => {
        if ('token' in part) return [part.token.content];
        if (part.text === '') return [];
        return model(cut === null ? [part.text] : cut(part.text, { section_index }));
      });
    });
  };
}

const MODEL_TYPES = ['BPE', 'Unigram', 'WordLevel', 'WordPiece'];
/** Far above any published vocabulary. */
const MAX_ID = 1 << 24;

/** Refuses what the library reads in silence: types it does not know, and ids that are none. */
function checkFile(path: string, json: JsonObject): void {
  const fail = (field: string, expected: string, got: unknown): R3Error =>
    new R3Error(
      'text',
      'bad-file',
      `${path}: ${field}: expected ${expected}, got ${showValue(got)}. Copy or download the file again.`,
    );
  const isId = (id: unknown): boolean => Number.isInteger(id) && Number(id) >= 0 && Number(id) <= MAX_ID;

  const model = isObject(json['model']) ? json['model'] : {};
  const { type, vocab } = model;
  // Old files of BPE models have no type.
  if (type !== undefined && !MODEL_TYPES.some((known) => known === type)) {
    throw fail('model.type', MODEL_TYPES.join(', '), type);
  }
  if (isObject(vocab)) {
    const tokens = new Map<unknown, string>();
    for (const [token, id] of Object.entries(vocab)) {
      const field = `model.vocab[${JSON.stringify(token)}]`;
      if (!isId(id)) throw fail(field, `an id from 0 to ${MAX_ID}`, id);
      const other = tokens.get(id);
      if (other !== undefined) throw fail(field, `an id other than that of ${JSON.stringify(other)}`, id);
      tokens.set(id, token);
    }
  }
  const added = json['added_tokens'] ?? [];
  if (!Array.isArray(added)) throw fail('added_tokens', 'a list', added);
  for (const token of added) {
    if (!isObject(token) || typeof token['content'] !== 'string' || !isId(token['id'])) {
      throw fail('added_tokens', `a token with its content and an id from 0 to ${MAX_ID}`, token);
    }
  }
}

function makeLibrary(
  directory: string,
  json: JsonObject,
  config: JsonObject,
  named: Partial<Record<string, string>>,
): Library {
  const model = isObject(json['model']) ? json['model'] : {};
  try {
    const library: Library = new HuggingFaceTokenizer(
      {
        ...json,
        added_tokens: allAddedTokens(json, config),
        pre_tokenizer: withUnicodeSpace(json['pre_tokenizer']),
      },
      // For WordLevel the library looks for unk_token here, Python's tokenizers in the model.
      { ...config, ...named, unk_token: model['unk_token'] ?? named['unk_token'] },
    );
    keepByteOrderMarks(library.decoder);
    showNormalized(library);
    return library;
  } catch (cause) {
    const why =
      `${directory}/tokenizer.json: expected a tokenizer in the format of Hugging Face tokenizers, got one ` +
      `that @huggingface/tokenizers refuses: ${messageOf(cause)}`;
    throw new R3Error('text', 'bad-file', why, { cause });
  }
}

/** A decoder of the library, which is a function with fields. */
interface Decoder {
  decoders?: Decoder[];
  text_decoder?: InstanceType<typeof TextDecoder>;
}

/** U+FEFF is a character of a text like any other; the decoder of byte fallback would leave it out. */
function keepByteOrderMarks(decoder: Decoder | null): void {
  decoder?.decoders?.forEach(keepByteOrderMarks);
  if (decoder?.text_decoder) decoder.text_decoder = new TextDecoder('utf-8', { ignoreBOM: true });
}

/** Python decodes an added token to the form in which it was looked for. */
function showNormalized(library: Library): void {
  const { normalizer, model } = library;
  if (normalizer === null) return;
  for (const token of library.get_added_tokens_decoder().values()) {
    if (token.normalized === true) model.vocab[token.id] = normalizer(token.content);
  }
}

const GPT2_PATTERN =
  "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\p{White_Space}\\p{L}\\p{N}]+|" +
  '\\p{White_Space}+(?!\\P{White_Space})|\\p{White_Space}+';

/** The pattern that ByteLevel has inside, with Unicode's white space where the library has JavaScript's. */
function withUnicodeSpace(cut: unknown): unknown {
  if (!isObject(cut)) return cut;
  if (Array.isArray(cut['pretokenizers'])) {
    return { ...cut, pretokenizers: cut['pretokenizers'].map(withUnicodeSpace) };
  }
  const { type, use_regex: usesRegex = true, add_prefix_space: prefix } = cut;
  // With a prefix, the blank comes before the cut, which two steps could not do.
  if (type !== 'ByteLevel' || usesRegex !== true || prefix !== false) return cut;
  const split = { type: 'Split', pattern: { Regex: GPT2_PATTERN }, behavior: 'Isolated', invert: false };
  return { type: 'Sequence', pretokenizers: [split, { ...cut, use_regex: false }] };
}

/** Those of tokenizer.json, and those that only tokenizer_config.json has: transformers joins them in this way. */
function allAddedTokens(json: JsonObject, config: JsonObject): unknown[] {
  const tokens: unknown[] = Array.isArray(json['added_tokens']) ? [...json['added_tokens']] : [];
  const ids = new Set(tokens.map((token) => (isObject(token) ? token['id'] : undefined)));
  const more = isObject(config['added_tokens_decoder']) ? config['added_tokens_decoder'] : {};
  for (const [key, token] of Object.entries(more)) {
    if (isObject(token) && !ids.has(Number(key))) tokens.push({ ...token, id: Number(key) });
  }
  return tokens;
}

function expectedRoom(room: number): string {
  return `expected ids below ${room}, the vocab_size of config.json`;
}

function readEosIds(
  directory: string,
  library: Library,
  eosText: string | undefined,
  room: number,
): number[] {
  const ids = new Set<number>();
  for (const name of ['generation_config.json', 'config.json']) {
    const value = readJson(directory, name)?.['eos_token_id'];
    for (const id of eosIdsOf(`${directory}/${name}`, value, room)) ids.add(id);
  }
  const id = eosText === undefined ? undefined : library.token_to_id(eosText);
  if (id !== undefined) ids.add(id);
  return [...ids];
}

/** The ids in the field `eos_token_id` of the file at `path`. Throws R3Error `bad-file`. */
export function eosIdsOf(path: string, value: unknown, room: number): number[] {
  if (value === undefined || value === null) return [];
  const ids: unknown[] = Array.isArray(value) ? value : [value];
  return ids.map((id) => {
    if (typeof id !== 'number' || !Number.isInteger(id) || id < 0) {
      const what = `expected a token id or a list of them, got ${showValue(value)}`;
      throw new R3Error('text', 'bad-file', `${path}: eos_token_id: ${what}`);
    }
    if (id >= room) {
      const what = `${expectedRoom(room)}, got ${id}. Are both files of the same model?`;
      throw new R3Error('text', 'bad-file', `${path}: eos_token_id: ${what}`);
    }
    return id;
  });
}
