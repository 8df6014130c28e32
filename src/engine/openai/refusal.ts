/**
 * What a server's refusal, or the loss of its answer, means: one R3Error per cause, and whether the cause may pass.
 *
 *     401 403, 402 and spent quotas  no-access     404                         not-found
 *     a prompt beyond the context    too-long      408 409 425 429 5xx, losses no-network, after resends
 *     an answer that is none         bad-shape     the rest of 4xx             bad-option
 *
 * Servers say that a prompt is too long in their own words: by OpenAI's code `context_length_exceeded`, by llama.cpp's
 * type `exceed_context_size_error`, by vLLM in the message alone. The API key is cut out of what is quoted.
 */
import type { IncomingHttpHeaders } from 'node:http';
import { R3Error } from '../../lib/errors.ts';
import { isObject } from '../../lib/json.ts';
import { oneLine } from '../../lib/printable.ts';
import { Lost, type Reply } from '../http.ts';
import { Unreadable } from './answer.ts';

const MAX_QUOTE_LENGTH = 300;
const PASSING = [408, 409, 425, 429];
const TOO_LONG =
  /context[ _-]?(length|size|window)|maximum context|max_model_len|(prompt|input) is too long|too many input tokens/i;

/** Where a request went, and what must never be shown. */
export interface Place {
  /** The address without anything secret. */
  address: string;
  model: string;
  apiKey: string | undefined;
}

export interface Failure {
  error: R3Error;
  /** Whether it may pass, so that the request is sent again. */
  mayPass: boolean;
  /** How long the server asks to wait. */
  waitMs?: number | undefined;
  /** The server withholds the answer because of the prompt. */
  filtered?: boolean;
  /** The server asks for max_completion_tokens in place of max_tokens. */
  wantsOtherLimit?: boolean;
}

/** Of a status that is not 200. `now`: milliseconds since 1970, for a date to wait for. */
export function refusalOf({ status, headers, body }: Reply, place: Place, now: number): Failure {
  const { code, type, message } = errorIn(body.toString('utf8'));
  const said = quote(message, place);
  const { address, model } = place;
  const fail = (kind: R3Error['code'], expected: string, fix = ''): Failure => ({
    error: new R3Error('engine', kind, `${address}: expected ${expected}, got status ${status}${said}${fix}`),
    mayPass: false,
  });
  if (status >= 300 && status < 400)
    return fail('not-found', 'the server itself', ', another address; give that one as --url');
  if (status === 401) {
    const key = place.apiKey === undefined ? 'no key was sent' : 'the key that was sent is refused';
    return {
      error: new R3Error(
        'engine',
        'no-access',
        `${address}: expected an API key that the server takes, got status 401: ${key}; set OPENAI_API_KEY, or name another variable with --api-key-env`,
      ),
      mayPass: false,
    };
  }
  if (status === 402 || code === 'insufficient_quota') return fail('no-access', 'an account with credit');
  if (status === 403) return fail('no-access', `a key that may use ${model}`);
  if (status === 404 || status === 405)
    return fail(
      'not-found',
      `chat completions of the model ${model}`,
      '; check --model, and --url, which ends in /v1 on most servers',
    );
  if (PASSING.includes(status) || (status >= 500 && status !== 501))
    return { ...fail('no-network', 'an answer'), mayPass: true, waitMs: waitOf(headers, now) };
  if (status === 413 || code === 'context_length_exceeded' || type === 'exceed_context_size_error')
    return fail('too-long', "a conversation within the model's context");
  if (TOO_LONG.test(message)) return fail('too-long', "a conversation within the model's context");
  if (code === 'content_filter')
    return { ...fail('bad-option', 'a prompt that the server takes'), filtered: true };
  return {
    ...fail('bad-option', 'a request that the server takes'),
    wantsOtherLimit: message.includes('max_completion_tokens'),
  };
}

/** Of an exchange without an answer that can be read. `begun`: the server has answered before. */
export function lossOf(error: unknown, { address, model }: Place, begun: boolean): Failure {
  if (error instanceof Unreadable) {
    const what = `${address}: expected a chat completion of ${model}, got one that cannot be read: ${oneLine(error.message)}`;
    return { error: new R3Error('engine', 'bad-shape', what), mayPass: true };
  }
  if (!(error instanceof Lost)) throw error;
  const isAbsent = error.why === 'unreachable';
  const isCertificate = /CERT|SELF_SIGNED|UNABLE_TO_VERIFY|ERR_TLS|ERR_SSL|EPROTO/.test(error.message);
  const hint = isCertificate
    ? '; a server with a certificate of its own needs it in NODE_EXTRA_CA_CERTS'
    : isAbsent
      ? '; is the server up, and is --url its address?'
      : '';
  return {
    error: new R3Error(
      'engine',
      'no-network',
      `${address}: expected an answer, got ${error.message}${hint}`,
      { cause: error },
    ),
    mayPass: !isCertificate && error.why !== 'too-large' && (begun || !isAbsent),
  };
}

/** The error in a body: OpenAI's `{error: {message, code, type}}`, an older `{message}`, or FastAPI's `{detail}`. */
function errorIn(text: string): { code: unknown; type: unknown; message: string } {
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch {
    return { code: undefined, type: undefined, message: text };
  }
  const outer = isObject(body) ? body : {};
  const inner = isObject(outer['error']) ? outer['error'] : outer;
  const { code, type } = inner;
  const message = inner['message'] ?? outer['error'] ?? outer['detail'];
  return { code, type, message: typeof message === 'string' ? message : JSON.stringify(message ?? '') };
}

function quote(message: string, { apiKey }: Place): string {
  const safe = apiKey === undefined ? message : message.replaceAll(apiKey, '[key]');
  const line = oneLine(safe).trim().slice(0, MAX_QUOTE_LENGTH);
  return line === '' || line === '""' ? '' : `: ${line}`;
}

/** Retry-After in seconds or as a date, or in the milliseconds that OpenAI's servers add; undefined where there is none. */
function waitOf(headers: IncomingHttpHeaders, now: number): number | undefined {
  const inMs = headers['retry-after-ms'];
  if (typeof inMs === 'string' && /^\d{1,9}(\.\d+)?$/.test(inMs)) return Number(inMs);
  const text = headers['retry-after'];
  if (text === undefined) return undefined;
  if (/^\d{1,9}(\.\d+)?$/.test(text)) return 1000 * Number(text);
  const date = Date.parse(text);
  return Number.isNaN(date) ? undefined : Math.max(0, date - now);
}
