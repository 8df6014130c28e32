/**
 * Where the hub is, where models are cached and which token is sent: what the Hugging Face tools read from the
 * environment, read here in the same order (huggingface_hub 1.33, constants.py and utils/_auth.py).
 *
 * The environment is an argument. An empty variable counts as absent. Of the ways to log in, the variables and the
 * token file are read; the notebook's vault and the exchange of CI tokens are not.
 */
import { existsSync, readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import { R3Error } from '../lib/errors.ts';
import { storeError } from '../lib/files.ts';

const ENDPOINT = 'https://huggingface.co';

export type Environment = Readonly<Record<string, string | undefined>>;

export interface HubSettings {
  /** Address of the hub, without a slash at its end. */
  endpoint: string;
  /** Folder of the cache, absolute. */
  cache: string;
  token: string | undefined;
  /** Nothing is asked of the network. */
  offline: boolean;
  /** Whether snapshots may be links to blobs. */
  symlinks: boolean;
  /** Whether a proxy is configured, which Node's fetch does not use. */
  hasProxy: boolean;
}

/** Throws R3Error `bad-option` for an endpoint or token that cannot be one; the message never holds the token. */
export function readHubSettings(env: Environment): HubSettings {
  return {
    endpoint: endpointOf(env),
    cache: hubCache(env),
    token: isSet(env, 'HF_HUB_DISABLE_IMPLICIT_TOKEN') ? undefined : readToken(env),
    offline: isSet(env, 'HF_HUB_OFFLINE') || isSet(env, 'TRANSFORMERS_OFFLINE'),
    symlinks: !isSet(env, 'HF_HUB_DISABLE_SYMLINKS'),
    hasProxy: ['HTTPS_PROXY', 'https_proxy', 'HTTP_PROXY', 'http_proxy', 'ALL_PROXY', 'all_proxy'].some(
      (name) => valueOf(env, name) !== undefined,
    ),
  };
}

/** The folder of the cache. */
export function hubCache(env: Environment): string {
  const cache = valueOf(env, 'HF_HUB_CACHE') ?? valueOf(env, 'HUGGINGFACE_HUB_CACHE');
  return resolve(cache === undefined ? join(hubHome(env), 'hub') : expandPath(cache, env));
}

function hubHome(env: Environment): string {
  const home = valueOf(env, 'HF_HOME');
  if (home !== undefined) return expandPath(home, env);
  return join(expandPath(valueOf(env, 'XDG_CACHE_HOME') ?? '~/.cache', env), 'huggingface');
}

function endpointOf(env: Environment): string {
  const given = valueOf(env, 'HF_ENDPOINT') ?? ENDPOINT;
  const url = URL.canParse(given) ? new URL(given) : undefined;
  if (url === undefined || !/^https?:$/.test(url.protocol) || url.username !== '' || url.search !== '') {
    // Not shown: it may hold a password.
    throw badOption(
      'HF_ENDPOINT: expected the address of a hub, such as https://huggingface.co, got something else',
    );
  }
  return `${url.origin}${url.pathname}`.replace(/\/+$/, '');
}

function readToken(env: Environment): string | undefined {
  const name = ['HF_TOKEN', 'HUGGING_FACE_HUB_TOKEN'].find((each) => cleaned(env[each]) !== undefined);
  if (name !== undefined) return checkedToken(name, cleaned(env[name]));
  const path = expandPath(valueOf(env, 'HF_TOKEN_PATH') ?? join(hubHome(env), 'token'), env);
  if (!existsSync(path)) return undefined;
  try {
    return checkedToken(path, cleaned(readFileSync(path, 'utf8')));
  } catch (error) {
    throw storeError(path, error);
  }
}

/** A header takes no other characters, and what fetch says of them would show the token. */
function checkedToken(where: string, token: string | undefined): string | undefined {
  if (token === undefined || /^[\x21-\x7e]+$/.test(token)) return token;
  throw badOption(`${where}: expected a token of letters, digits and signs, got one with other characters`);
}

function cleaned(text: string | undefined): string | undefined {
  const token = text?.replaceAll(/[\r\n]/g, '').trim();
  return token === '' ? undefined : token;
}

function expandPath(path: string, env: Environment): string {
  return path
    .replace(/^~(?=$|[/\\])/, () => valueOf(env, 'HOME') ?? homedir())
    .replaceAll(
      /\$(?:(\w+)|\{(\w+)\})/g,
      (whole, bare: string, braced: string) => env[bare ?? braced] ?? whole,
    );
}

function isSet(env: Environment, name: string): boolean {
  return /^(1|on|yes|true)$/i.test(env[name] ?? '');
}

function valueOf(env: Environment, name: string): string | undefined {
  return env[name] === '' ? undefined : env[name];
}

function badOption(message: string): R3Error {
  return new R3Error('config', 'bad-option', message);
}
