/**
 * Which files of a repository a model needs, and what a folder lacks to be one.
 *
 * Weights are taken as safetensors only: the same weights as pickles, GGUF or ONNX stay where they are, as do those in
 * sub-folders. What the files hold is not looked at here, but for the shards that an index names.
 */
import { existsSync, readFileSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { R3Error, messageOf } from '../lib/errors.ts';
import { decodeUtf8, parseJsonObject, showValue } from '../lib/json.ts';
import { isSafePath } from './name.ts';

const INDEX = 'model.safetensors.index.json';
const WANTED = [
  /^(config|generation_config|adapter_config|vocab|special_tokens_map|added_tokens|chat_template)\.json$/,
  /^tokenizer[\w.-]*\.json$/,
  /^(merges\.txt|tokenizer\.model|chat_template\.jinja|model\.safetensors\.index\.json)$/,
  /^additional_chat_templates\/[^/]+\.jinja$/,
  /^[^/]+\.safetensors$/,
  /^(LICENSE(\.\w+)?|README\.md)$/,
];
/** What an engine loads. A repository may hold the same weights under further names. */
const WEIGHTS = ['model.safetensors', INDEX, 'adapter_model.safetensors'];
/** Mistral's own naming of weights that are there as model*.safetensors too. */
const DOUBLED = /^consolidated[\w.-]*\.safetensors$/;
const SHARD = /-\d+-of-\d+\.safetensors$/;
const PICKLE = /\.(bin|pth|pt|ckpt)$/;
/** The index of a model of ten thousand tensors has a megabyte. */
const MAX_INDEX_BYTES = 64 * 1024 * 1024;

/**
 * The files of a repository that a model needs, in the order of the listing. Throws R3Error `bad-file` for a
 * repository without a configuration, without weights in safetensors, or with a path that leads out of its folder.
 */
export function chooseFiles(repository: string, paths: readonly string[]): string[] {
  for (const path of paths) {
    const name = path.split(/[/\\]/).at(-1) ?? '';
    if (!isSafePath(path) && (isWanted(path) || isWanted(name))) {
      throw badFile(
        `${repository}: expected files under the repository's folder, got ${showValue(path)}; this repository is not safe to download`,
      );
    }
  }
  const wanted = paths.filter((path) => isWanted(path));
  const isWhole = wanted.includes('model.safetensors');
  const chosen = wanted.filter(
    (path) => !DOUBLED.test(path) && !(isWhole && (path === INDEX || SHARD.test(path))),
  );
  if (!chosen.some((path) => path === 'config.json' || path === 'adapter_config.json')) {
    throw badFile(`${repository}: expected a model with a config.json, got a repository without`);
  }
  if (!chosen.some((path) => WEIGHTS.includes(path))) throw withoutWeights(repository, paths);
  return chosen;
}

/** The files of a folder that a model needs, and their bytes in all. Throws as `chooseFiles` does. */
export function modelFilesOf(directory: string): { files: string[]; bytes: number } {
  const paths = readdirSync(directory);
  const templates = 'additional_chat_templates';
  if (paths.includes(templates)) {
    paths.push(...readdirSync(join(directory, templates)).map((name) => `${templates}/${name}`));
  }
  const files = chooseFiles(directory, paths);
  const bytes = files.reduce((sum, path) => sum + statSync(join(directory, path)).size, 0);
  return { files, bytes };
}

/** Throws R3Error `bad-file` unless a folder holds a model or an adapter, whole. */
export function checkModelFolder(directory: string): void {
  const [missing] = missingFiles(directory);
  if (missing === undefined) return;
  const isWeights = missing.endsWith('.safetensors') && !existsSync(join(directory, INDEX));
  if (isWeights) throw withoutWeights(directory, readdirSync(directory));
  throw badFile(`${directory}: expected a whole model, got a folder without ${missing}`);
}

/** What a folder lacks to be a model or an adapter. Throws R3Error `bad-file` for an index that cannot be read. */
export function missingFiles(directory: string): string[] {
  const has = (name: string): boolean => existsSync(join(directory, name));
  if (!has('config.json') && has('adapter_config.json')) {
    return ['adapter_model.safetensors'].filter((name) => !has(name));
  }
  return ['config.json', ...weightFiles(directory)].filter((name) => !has(name));
}

/** model.safetensors where it is there or nothing else is, else the shards of the index. */
function weightFiles(directory: string): string[] {
  const path = join(directory, INDEX);
  if (existsSync(join(directory, 'model.safetensors')) || !existsSync(path)) return ['model.safetensors'];
  try {
    const { size } = statSync(path);
    if (size > MAX_INDEX_BYTES) throw new Error(`expected at most ${MAX_INDEX_BYTES} bytes, got ${size}`);
    const map = parseJsonObject(decodeUtf8(readFileSync(path)))['weight_map'];
    const shards = typeof map === 'object' && map !== null ? [...new Set(Object.values(map))] : [];
    if (shards.length === 0) throw new Error('weight_map: expected the shard of each tensor, got none');
    return shards.map((shard: unknown) => {
      if (typeof shard === 'string' && isSafePath(shard)) return shard;
      throw new Error(`weight_map: expected names of files beside it, got ${showValue(shard)}`);
    });
  } catch (cause) {
    throw new R3Error('hub', 'bad-file', `${path}: ${messageOf(cause)}`, { cause });
  }
}

function isWanted(path: string): boolean {
  return WANTED.some((pattern) => pattern.test(path));
}

function withoutWeights(place: string, paths: readonly string[]): R3Error {
  const pickle = paths.find((path) => PICKLE.test(path));
  if (pickle !== undefined) {
    return badFile(
      `${place}: expected weights in safetensors, got ${showValue(pickle)}, a pickle, which can run any code when it is opened; convert it where that is acceptable: python -c "import transformers; transformers.AutoModelForCausalLM.from_pretrained('${place}').save_pretrained('DIR')"`,
    );
  }
  const gguf = paths.find((path) => path.endsWith('.gguf'));
  const got = gguf === undefined ? 'none' : `${showValue(gguf)}; choose the repository that it was made from`;
  return badFile(`${place}: expected weights in model.safetensors or in shards with ${INDEX}, got ${got}`);
}

function badFile(message: string): R3Error {
  return new R3Error('hub', 'bad-file', message);
}
