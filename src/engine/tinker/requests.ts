/**
 * One HTTP request of the Tinker protocol: where it goes and what it carries. It is sent once, answered or not.
 *
 * Wire facts: the key travels in X-API-Key and nowhere else; calls lie under {base}/api/v1/.
 */
import { R3Error } from '../../lib/errors.ts';
import type { Clock } from '../clock.ts';
import { openHttp, parseServerUrl, type Exchange, type Http, type Reply } from '../http.ts';

export interface Send extends Omit<Exchange, 'headers' | 'timeoutMs'> {
  /** After {base}/api/v1/, without a slash at its beginning. */
  path: string;
  /** Of the body; default JSON. */
  contentType?: string | undefined;
  /** Default JSON. */
  accept?: string | undefined;
  /** More headers, name and value by turns. */
  headers?: readonly string[] | undefined;
}

export interface Requests extends Omit<Http, 'send'> {
  /** Throws Lost, or the R3Error of a cancellation. */
  send(request: Send, timeoutMs: number): Promise<Reply>;
}

/** Where the key of a service is read from. */
export const KEY_VARIABLE = 'TINKER_API_KEY';
export const JSON_TYPE = 'application/json';
export const PROTOBUF_TYPE = 'application/x-protobuf';

/** Throws R3Error `bad-option` for an address or key that cannot be used. */
export function openRequests(options: {
  url: string;
  apiKey?: string | undefined;
  userAgent: string;
  clock: Clock;
}): Requests {
  const { apiKey, clock } = options;
  const base = new URL(parseServerUrl(options.url, KEY_VARIABLE));
  if (apiKey !== undefined && !/^[\x21-\x7e]+$/.test(apiKey)) {
    throw new R3Error(
      'config',
      'bad-option',
      'API key: expected letters, digits and signs, got other characters',
    );
  }
  const common = ['user-agent', options.userAgent, ...(apiKey === undefined ? [] : ['x-api-key', apiKey])];
  const http = openHttp({ origin: base.origin, headers: common, secret: apiKey, clock });
  const prefix = `${base.pathname.replace(/\/+$/, '')}/api/v1/`;
  return {
    ...http,
    send: (send, timeoutMs) => {
      const headers = ['accept', send.accept ?? JSON_TYPE, ...(send.headers ?? [])];
      if (send.body !== undefined) headers.push('content-type', send.contentType ?? JSON_TYPE);
      const { method, body, cancel } = send;
      return http.send({ method, path: prefix + send.path, headers, body, timeoutMs, cancel });
    },
  };
}
