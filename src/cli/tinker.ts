/**
 * `--engine tinker`: the options of a Tinker-compatible service, and an engine from them.
 *
 * The key comes from TINKER_API_KEY and goes to the client alone. Texts are made on this machine: tokenizer and chat
 * template come from a folder, by default the downloaded model of the service's name. What a service cannot do is
 * refused by name.
 */
import { existsSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import type { Command } from 'commander';
import { DEFAULT_CONTEXT } from '../engine/local/config.ts';
import { openTinkerEngine, ORIGIN_FILE, type TinkerEngine } from '../engine/tinker/tinker-engine.ts';
import { KEY_VARIABLE } from '../engine/tinker/requests.ts';
import { parseServerUrl } from '../engine/http.ts';
import { R3Error } from '../lib/errors.ts';
import { isObject, parseJsonObject } from '../lib/json.ts';
import { isLoopback } from '../serve/handler.ts';
import { loadTokenizer } from '../text/tokenizer.ts';
import type { Io } from './io.ts';
import { givenOptions, usageError, type EngineFlags, type LoraFlags, type PlayerFlags } from './options.ts';
import { findTexts } from './session.ts';

export interface TinkerFlags extends Pick<EngineFlags, 'engine' | 'context'> {
  url?: string;
  tokenizer?: string;
}

/** A model on a service, and the folder with its texts. */
export interface TinkerPlace {
  url: string;
  baseModel: string;
  /** A checkpoint for samplers; left out: the base model. */
  modelPath?: string;
  /** The same weights as a checkpoint for training. */
  statePath?: string;
  texts: string;
  contextLength: number;
  vocabularySize: number;
}

/** Largest difference of sampler and trainer that the audit lets pass, in nats: both may compute in bfloat16, which is some tenths apart; wrong ids, weights or temperatures are whole nats apart. */
export const REMOTE_TOLERANCE = 0.5;
/** The official client's. */
const DEFAULT_RANK = 32;

/** Options that only the embedded engine has. */
const OF_EMBEDDED: Readonly<Record<string, string>> = {
  '--dtype': "the precision is the service's affair",
  '--threads': 'nothing is computed here',
  '--pass-tokens': "memory is the service's affair",
  '--accept-kernels': 'a service never gives the same bytes',
  '--lora-alpha': 'services scale an adapter by 32 / rank',
  '--lora-dropout': 'the protocol has no dropout',
  '--rslora': 'services scale an adapter by 32 / rank',
  '--target-modules': 'services choose the modules',
  '--lora-layers': 'services train all layers',
  '--min-p': 'the protocol has no such option',
};

export function addTinkerOptions(command: Command): Command {
  return addTokenizerOption(
    command.option(
      '--url <address>',
      'of the service, with --engine tinker (default: TINKER_BASE_URL; its key: TINKER_API_KEY)',
    ),
  );
}

export function addTokenizerOption(command: Command): Command {
  return command.option(
    '--tokenizer <dir>',
    'with --engine tinker: the folder, or downloaded model, with tokenizer and chat template (default: the downloaded model of that name)',
  );
}

/** Throws a usage error for options that have no meaning with the engine. */
export function refuseForEngine(command: Command, engine: EngineFlags['engine'] = 'local'): void {
  const given = givenOptions(command);
  if (engine === 'tinker') {
    const embedded = given.find((option) => option in OF_EMBEDDED);
    if (embedded === undefined) return;
    throw usageError(`${embedded}: expected none with --engine tinker, got it; ${OF_EMBEDDED[embedded]}`);
  }
  const remote = given.find(
    (option) => option === '--tokenizer' || (option === '--url' && engine === 'local'),
  );
  if (remote !== undefined)
    throw usageError(`${remote}: expected an --engine that is a service beside it, got ${engine}`);
}

/** Training at a temperature that log-probabilities of a service are not of would be another training. */
export function refuseTemperature({ temperature }: PlayerFlags): void {
  if (temperature === 1) return;
  throw usageError(
    `--temperature: expected 1 with --engine tinker, because a service scores and trains at 1 alone, got ${temperature}`,
  );
}

/** `model`: the service's name, a path tinker://..., or a folder that was saved from there. Throws R3Error. */
export function settleTinker(model: string, flags: TinkerFlags, env: Io['env']): TinkerPlace {
  const url = flags.url ?? env['TINKER_BASE_URL'] ?? '';
  if (url === '')
    throw usageError('--url: expected the address of the service (or TINKER_BASE_URL), got none');
  const origin = originOf(model);
  const isPath = model.startsWith('tinker://');
  const baseModel = origin?.baseModel ?? model;
  const modelPath = origin?.path ?? (isPath ? model : undefined);
  if (isPath && flags.tokenizer === undefined)
    throw usageError('--tokenizer: expected the folder of the base model beside a path tinker://, got none');
  const texts = findTexts(flags.tokenizer ?? baseModel, env);
  if (!existsSync(join(texts, 'tokenizer.json'))) {
    const fix =
      flags.tokenizer === undefined ? `; give --tokenizer, or download it: r3 pull ${baseModel}` : '';
    const message = `${texts}: expected a folder with tokenizer.json and the chat template of ${baseModel}, got none${fix}`;
    throw new R3Error('text', 'bad-file', message);
  }
  const config = configOf(texts);
  const longest = numberOf(config['max_position_embeddings']) ?? DEFAULT_CONTEXT;
  return {
    url: parseServerUrl(url, KEY_VARIABLE),
    baseModel,
    ...(modelPath === undefined ? {} : { modelPath }),
    ...(origin?.statePath === undefined ? {} : { statePath: origin.statePath }),
    texts: resolve(texts),
    contextLength: flags.context ?? Math.min(longest, DEFAULT_CONTEXT),
    vocabularySize: numberOf(config['vocab_size']) ?? loadTokenizer(texts).vocabularySize,
  };
}

/** Opens what is settled; with a rank to train an adapter of it. */
export async function openTinker(
  io: Io,
  place: TinkerPlace,
  lora?: { rank: number; seed: number },
): Promise<TinkerEngine> {
  const { texts, ...rest } = place;
  const apiKey = io.env[KEY_VARIABLE] || undefined;
  const { protocol, hostname, host } = new URL(place.url);
  if (apiKey !== undefined && protocol === 'http:' && !isLoopback(hostname))
    io.note(`r3: warning: the API key goes to ${host} unencrypted; https keeps it secret`);
  const engine = await openTinkerEngine({
    ...rest,
    apiKey,
    lora,
    localModel: texts,
    onNotice: (text) => io.note(`r3: ${text}`),
  });
  const { server, ignores } = engine.service();
  if (ignores.length > 0) io.note(`r3: ${server} takes and ignores: ${ignores.join(', ')}`);
  return engine;
}

/** The adapter that flags ask for. */
export function remoteLora({ lora = DEFAULT_RANK, seed = 0 }: LoraFlags & { seed?: number }): {
  rank: number;
  seed: number;
} {
  return { rank: lora, seed };
}

/** Of a folder that holds an adapter from a service. */
export function originOf(
  directory: string,
): { baseModel: string; path: string; statePath?: string } | undefined {
  const file = join(directory, ORIGIN_FILE);
  if (!existsSync(file)) return undefined;
  const { baseModel, path, statePath } = parseJsonObject(readFileSync(file, 'utf8'));
  if (typeof baseModel === 'string' && typeof path === 'string')
    return { baseModel, path, ...(typeof statePath === 'string' ? { statePath } : {}) };
  throw new R3Error('engine', 'bad-file', `${file}: expected baseModel and path, got others`);
}

/** The model's own config, or that of its text part. */
function configOf(directory: string): Record<string, unknown> {
  const file = join(directory, 'config.json');
  if (!existsSync(file)) return {};
  const config = parseJsonObject(readFileSync(file, 'utf8'));
  const { text_config: texts } = config;
  return isObject(texts) ? { ...config, ...texts } : config;
}

function numberOf(value: unknown): number | undefined {
  return typeof value === 'number' && Number.isSafeInteger(value) && value > 0 ? value : undefined;
}
