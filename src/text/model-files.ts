/**
 * The small JSON files of a Hugging Face model directory, read for `tokenizer.ts` and `chat.ts`.
 *
 * A missing file is undefined, because most are optional; a file that is there but unreadable is an error.
 * Does not know what the fields mean, but for the named special tokens, which two files hold in two forms.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { R3Error, messageOf } from '../lib/errors.ts';
import { readTextFile } from '../lib/files.ts';
import { isObject, parseJsonObject } from '../lib/json.ts';

export type JsonObject = Record<string, unknown>;

/** The largest known tokenizer.json, Gemma 3's, has 33 MB. */
const MAX_FILE_BYTES = 256 * 1024 * 1024;

/** The text of a file, undefined when there is none. Throws R3Error `bad-file`. */
export function readText(directory: string, name: string): string | undefined {
  const path = join(directory, name);
  if (!existsSync(path)) return undefined;
  try {
    return readTextFile(path, MAX_FILE_BYTES);
  } catch (cause) {
    throw new R3Error('text', 'bad-file', `${path}: ${messageOf(cause)}`, { cause });
  }
}

/** The JSON object in a file, undefined when there is no such file. Throws R3Error `bad-file`. */
export function readJson(directory: string, name: string): JsonObject | undefined {
  const text = readText(directory, name);
  return text === undefined ? undefined : parseJson(join(directory, name), text);
}

/** The JSON object that is the text of the file at `path`. Throws R3Error `bad-file`. */
export function parseJson(path: string, text: string): JsonObject {
  try {
    return parseJsonObject(text);
  } catch (cause) {
    const why = `${path}: ${messageOf(cause)}. The file comes with the model: copy or download it again.`;
    throw new R3Error('text', 'bad-file', why, { cause });
  }
}

/** The special tokens that have a name, as chat templates see them. */
const SPECIAL_NAMES = [
  'bos_token',
  'eos_token',
  'unk_token',
  'pad_token',
  'sep_token',
  'cls_token',
  'mask_token',
] as const;
type SpecialName = (typeof SPECIAL_NAMES)[number];

export type SpecialTokens = Partial<Record<SpecialName, string>>;

/** Their texts, from tokenizer_config.json, else from special_tokens_map.json. Throws R3Error `bad-file`. */
export function readSpecialTokens(directory: string): SpecialTokens {
  return specialTokensOf(
    readJson(directory, 'tokenizer_config.json') ?? {},
    readJson(directory, 'special_tokens_map.json') ?? {},
  );
}

/** `readSpecialTokens` of what is in the two files. */
export function specialTokensOf(config: JsonObject, map: JsonObject): SpecialTokens {
  const found: SpecialTokens = {};
  for (const name of SPECIAL_NAMES) {
    const value = config[name] ?? map[name];
    const text = isObject(value) ? value['content'] : value;
    if (typeof text === 'string') found[name] = text;
  }
  return found;
}
