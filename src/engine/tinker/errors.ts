/**
 * What a Tinker-compatible service refuses or fails at, as one R3Error per cause.
 *
 * A message says what was asked for, what came, what the service said (on one line, cut, without the key) and what
 * helps. Codes: `bad-option` a request that it refuses; `no-access` key, permission, payment; `not-found` a name it
 * does not have; `expired` a session, model, sampler or result that it no longer knows; `mismatch` a name that is taken;
 * `failed` an operation that it could not carry out; `no-network` no answer, or trouble that did not pass;
 * `bad-answer` an answer that is none.
 *
 * Wire facts: error bodies are {detail}, {error, message} or any text; a failed operation is {error, category}, where
 * category is user, server or unknown.
 */
import { R3Error, type ErrorCode } from '../../lib/errors.ts';
import { oneLine } from '../../lib/printable.ts';
import type { Reply } from '../http.ts';

const MAX_DETAIL_LENGTH = 300;

/** Takes the key out of a text. */
export type Redact = (text: string) => string;

export function makeRedact(apiKey: string | undefined): Redact {
  return (text) => (apiKey === undefined ? text : text.replaceAll(apiKey, '***'));
}

/** How an error names a request, and what it means that its object is not there. */
export interface Named {
  /** Such as `forward_backward`. */
  what: string;
  /** A file or name that is asked for may not exist; a model or sampler that this client made has expired. */
  missing: 'not-found' | 'expired';
}

/** The error that a status from 300 on is. */
export function errorOfReply({ what, missing }: Named, reply: Reply, redact: Redact): R3Error {
  const { status } = reply;
  const said = detailOf(reply, redact);
  const got = `${what}: expected status 200, got ${status}${said === '' ? '' : ` (${said})`}`;
  const make = (code: ErrorCode, fix = ''): R3Error => new R3Error('engine', code, got + fix);
  switch (status) {
    case 401:
      return make('no-access', '; set TINKER_API_KEY to a key that this service knows');
    case 402:
      return make('no-access', '; the service waits for payment');
    case 403:
      return make('no-access', '; the key may not do this');
    case 404:
    case 410:
      return missing === 'expired' ? make('expired', `; ${RESUME}`) : make('not-found');
    case 409:
      return make('mismatch', '; the name or number is taken');
    case 408:
    case 425:
    case 429:
      return make('no-network', '; the service stayed busy');
    default:
      if (status >= 500) return make('no-network', '; the service keeps failing');
      return make(status < 400 ? 'bad-answer' : 'bad-option');
  }
}

export const RESUME = 'the service no longer knows it: resume the run from its last checkpoint';

/** The error of an operation that the service took on and reports as failed. */
export function errorOfFailure(what: string, body: Record<string, unknown>, redact: Redact): R3Error {
  const said = textOf(body.error, redact);
  const isUser = body.category === 'user';
  const message = `${what}: expected a result, got a failure of the operation (${said})`;
  return new R3Error('engine', isUser ? 'bad-option' : 'failed', message);
}

export function badAnswer(what: string, expected: string, got: string): R3Error {
  return new R3Error('engine', 'bad-answer', `${what}: expected ${expected}, got ${got}`);
}

/** What an error body says, for a person. */
export function detailOf(reply: Reply, redact: Redact): string {
  const text = reply.body.toString('utf8');
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch {
    return textOf(text, redact);
  }
  if (typeof body !== 'object' || body === null) return textOf(body, redact);
  const { detail, error, message } = body as Record<string, unknown>;
  return textOf(detail ?? message ?? error ?? body, redact);
}

function textOf(value: unknown, redact: Redact): string {
  const text = typeof value === 'string' ? value : (JSON.stringify(value) ?? '');
  // The key goes first: a cut could leave a part of it.
  return oneLine(redact(text)).trim().slice(0, MAX_DETAIL_LENGTH);
}
