/**
 * Which files of a repository a model needs, and what a folder lacks to be one.
 *
 * Weights are taken as safetensors only: the same weights as pickles, GGUF or ONNX stay where they are, as do those in
 * sub-folders. What has an adapter_config.json is an adapter, whatever is beside it, as it is to an engine. What the
 * files hold is not looked at here, but for the shards that an index names.
 */
import { existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { R3Error } from '../lib/errors.ts';
import { showValue } from '../lib/json.ts';
import { explainNoWeights, loadWeightsIndex, weightsNames, type WeightsKind } from '../lib/weights-index.ts';
import { isSafePath } from './name.ts';

const ADAPTER_CONFIG = 'adapter_config.json';
const WANTED = [
  /^(config|generation_config|adapter_config|vocab|special_tokens_map|added_tokens|chat_template)\.json$/,
  /^tokenizer[\w.-]*\.json$/,
  /^(merges\.txt|tokenizer\.model|chat_template\.jinja|(adapter_)?model\.safetensors\.index\.json)$/,
  /^additional_chat_templates\/[^/]+\.jinja$/,
  /^[^/]+\.safetensors$/,
  /^(LICENSE(\.\w+)?|README\.md)$/,
];
/** Mistral's own naming of weights that are there as model*.safetensors too. */
const DOUBLED = /^consolidated[\w.-]*\.safetensors$/;
const SHARD = /-\d+-of-\d+\.safetensors$/;

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
  const isDoubled = (path: string): boolean => {
    const { single, index } = weightsNames(path.startsWith('adapter_model') ? 'adapter_model' : 'model');
    return DOUBLED.test(path) || (wanted.includes(single) && (path === index || SHARD.test(path)));
  };
  const chosen = wanted.filter((path) => !isDoubled(path));
  if (!chosen.some((path) => path === 'config.json' || path === ADAPTER_CONFIG)) {
    throw badFile(`${repository}: expected a model with a config.json, got a repository without`);
  }
  const kind: WeightsKind = chosen.includes(ADAPTER_CONFIG) ? 'adapter_model' : 'model';
  const { single, index } = weightsNames(kind);
  if (chosen.includes(single) || chosen.includes(index)) return chosen;
  throw badFile(explainNoWeights(repository, paths, kind));
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

/** What a folder lacks to be a model or an adapter. Throws R3Error `bad-file` for an index that cannot be read. */
export function missingFiles(directory: string): string[] {
  const has = (name: string): boolean => existsSync(join(directory, name));
  const [config, kind] = has(ADAPTER_CONFIG)
    ? ([ADAPTER_CONFIG, 'adapter_model'] as const)
    : (['config.json', 'model'] as const);
  const { single, index } = weightsNames(kind);
  const weights =
    has(single) || !has(index) ? [single] : [...loadWeightsIndex(join(directory, index)).keys()];
  return [config, ...weights].filter((name) => !has(name));
}

function isWanted(path: string): boolean {
  return WANTED.some((pattern) => pattern.test(path));
}

function badFile(message: string): R3Error {
  return new R3Error('hub', 'bad-file', message);
}
