/**
 * One HTTP request of the Tinker protocol: sent once, answered or not.
 *
 * On node:http with connections that are kept (measured on loopback: 150 µs of processor time per request, where fetch
 * takes 1,000). All deadlines share one clock tick instead of a timer each. A reply of any status is a value; only a
 * request without a whole reply throws `ConnectionLost`. Nothing is resent or redirected here.
 *
 * Wire facts: the key travels in X-API-Key and nowhere else; calls lie under {base}/api/v1/; replies may be
 * compressed with gzip, deflate, or zstd where this Node has it.
 */
import http, { type IncomingHttpHeaders, type IncomingMessage } from 'node:http';
import https from 'node:https';
import { promisify } from 'node:util';
import zlib from 'node:zlib';
import { R3Error, messageOf } from '../../lib/errors.ts';
import { onCancel, throwIfCancelled, type Cancel, type Clock } from './clock.ts';

export interface Send {
  method: 'GET' | 'POST' | 'DELETE';
  /** After {base}/api/v1/, without a slash at its beginning. */
  path: string;
  body?: string | Uint8Array | undefined;
  /** Of the body; default JSON. */
  contentType?: string | undefined;
  /** Default JSON. */
  accept?: string | undefined;
  /** More headers, name and value by turns. */
  headers?: readonly string[] | undefined;
  timeoutMs: number;
  cancel: Cancel;
}

export interface Reply {
  status: number;
  headers: IncomingHttpHeaders;
  body: Buffer;
}

export interface Traffic {
  requests: number;
  bytesOut: number;
  bytesIn: number;
}

export interface Http {
  /** Throws ConnectionLost, or the R3Error of a cancellation. */
  send(request: Send): Promise<Reply>;
  traffic(): Traffic;
  close(): void;
}

/**
 * Why there was no reply. `stale`: the connection had been idle, and the server may have closed it before; worth another
 * one at once. `timeout`: no whole reply in time. `lost`: anything else.
 */
export type Loss = 'stale' | 'timeout' | 'lost';

/** A request that got no reply, or not the whole of it; the server may have taken it all the same. */
export class ConnectionLost extends Error {
  readonly loss: Loss;

  constructor(message: string, loss: Loss, options?: { cause?: unknown }) {
    super(message, options);
    this.loss = loss;
  }
}

export const JSON_TYPE = 'application/json';
export const PROTOBUF_TYPE = 'application/x-protobuf';

/** Deadlines are looked at so often. */
const TICK_MS = 500;
/** Far above the answer to a whole chunk of datums with their log-probabilities. */
const MAX_REPLY_BYTES = 2 ** 28;

/** zlib of newer Nodes has zstd, which the types of Node 20 do not know. */
const { zstdDecompress } = zlib as { zstdDecompress?: typeof zlib.gunzip };
const DECODERS: Readonly<Record<string, (body: Buffer, limits: zlib.ZlibOptions) => Promise<Buffer>>> = {
  gzip: promisify<Buffer, zlib.ZlibOptions, Buffer>(zlib.gunzip),
  deflate: promisify<Buffer, zlib.ZlibOptions, Buffer>(zlib.inflate),
  ...(zstdDecompress === undefined
    ? {}
    : { zstd: promisify<Buffer, zlib.ZlibOptions, Buffer>(zstdDecompress) }),
};

/** Throws R3Error `bad-option` for an address or key that cannot be used. */
export function openHttp(options: {
  url: string;
  apiKey?: string | undefined;
  userAgent: string;
  clock: Clock;
}): Http {
  const { apiKey, clock } = options;
  const base = parseBase(options.url);
  if (apiKey !== undefined && !/^[\x21-\x7e]+$/.test(apiKey)) {
    throw new R3Error(
      'config',
      'bad-option',
      'API key: expected letters, digits and signs, got other characters',
    );
  }
  const { request, Agent } = base.protocol === 'https:' ? https : http;
  const agent = new Agent({ keepAlive: true });
  const common = ['host', base.host, 'user-agent', options.userAgent, 'connection', 'keep-alive'];
  common.push('accept-encoding', Object.keys(DECODERS).join(', '));
  if (apiKey !== undefined) common.push('x-api-key', apiKey);
  const target = {
    hostname: base.hostname.replace(/^\[|\]$/g, ''),
    port: base.port,
    agent,
    setDefaultHeaders: false,
  };
  const prefix = `${base.pathname.replace(/\/+$/, '')}/api/v1/`;
  const counts: Traffic = { requests: 0, bytesOut: 0, bytesIn: 0 };

  interface Pending {
    deadline: number;
    expire(): void;
  }
  const pending = new Set<Pending>();
  const stopTicks = clock.every(TICK_MS, () => {
    const now = clock.now();
    for (const each of pending) if (each.deadline <= now) each.expire();
  });

  const exchange = (send: Send): Promise<Reply> =>
    new Promise((resolve, reject) => {
      const { method, path, body, timeoutMs, cancel } = send;
      const headers = [...common, 'accept', send.accept ?? JSON_TYPE, ...(send.headers ?? [])];
      const size = body === undefined ? 0 : Buffer.byteLength(body);
      if (body !== undefined) headers.push('content-type', send.contentType ?? JSON_TYPE);
      if (method !== 'GET') headers.push('content-length', String(size));
      counts.requests += 1;
      counts.bytesOut += size;

      const sent = request({ ...target, method, path: prefix + path, headers });
      let isOver = false;
      const end = (): boolean => {
        if (isOver) return false;
        isOver = true;
        pending.delete(entry);
        leave();
        return true;
      };
      const lose = (why: string, loss: Loss, cause?: unknown): void => {
        if (!end()) return;
        sent.destroy();
        reject(new ConnectionLost(why, loss, { cause }));
      };
      const entry: Pending = {
        deadline: clock.now() + timeoutMs,
        expire: () => lose(`nothing within ${timeoutMs / 1000} s`, 'timeout'),
      };
      const leave = onCancel(cancel, (error) => {
        if (!end()) return;
        sent.destroy();
        reject(error);
      });
      pending.add(entry);

      sent.on('error', (error) => lose(reasonOf(error), sent.reusedSocket ? 'stale' : 'lost', error));
      sent.on('response', (reply) => {
        const chunks: Buffer[] = [];
        let received = 0;
        reply.on('data', (chunk: Buffer) => {
          chunks.push(chunk);
          received += chunk.length;
          if (received > MAX_REPLY_BYTES) lose(`more than ${MAX_REPLY_BYTES} bytes`, 'lost');
        });
        reply.on('error', (error) => lose(reasonOf(error), 'lost', error));
        reply.on('aborted', () => lose('an answer that was cut', 'lost'));
        reply.on('end', () => {
          if (!end()) return;
          counts.bytesIn += received;
          resolve(finish(reply, chunks));
        });
      });
      sent.end(body);
    });

  return {
    send: async (send) => {
      throwIfCancelled(send.cancel);
      return exchange(send);
    },
    traffic: () => ({ ...counts }),
    close: () => {
      stopTicks();
      agent.destroy();
    },
  };
}

function finish(reply: IncomingMessage, chunks: readonly Buffer[]): Reply | Promise<Reply> {
  const { statusCode: status = 0, headers } = reply;
  const body = chunks.length === 1 ? (chunks[0] as Buffer) : Buffer.concat(chunks);
  const encoding = headers['content-encoding'];
  if (encoding === undefined || encoding === 'identity' || body.length === 0)
    return { status, headers, body };
  return decompress(encoding, body).then((plain) => ({ status, headers, body: plain }));
}

async function decompress(encoding: string, body: Buffer): Promise<Buffer> {
  const decode = DECODERS[encoding];
  const what = `reply in ${encoding}`;
  if (decode === undefined) {
    throw new R3Error('engine', 'bad-answer', `${what}: expected ${Object.keys(DECODERS).join(' or ')}`);
  }
  try {
    return await decode(body, { maxOutputLength: MAX_REPLY_BYTES });
  } catch (cause) {
    throw new R3Error(
      'engine',
      'bad-answer',
      `${what}: expected bytes of it, got others (${messageOf(cause)})`,
      {
        cause,
      },
    );
  }
}

function parseBase(url: string): URL {
  const base = URL.canParse(url) ? new URL(url) : undefined;
  if (base === undefined || !/^https?:$/.test(base.protocol)) {
    // What cannot be read as an address may still hold a password.
    const got = url.includes('@') ? 'something else' : url;
    throw new R3Error('config', 'bad-option', `url: expected http://HOST:PORT or https://HOST, got ${got}`);
  }
  if (base.username !== '' || base.password !== '') {
    const fix = 'give the key apart from it';
    throw new R3Error(
      'config',
      'bad-option',
      `url: expected an address without a user, got one with; ${fix}`,
    );
  }
  return base;
}

function reasonOf(error: Error): string {
  return (error as NodeJS.ErrnoException).code ?? error.message;
}
