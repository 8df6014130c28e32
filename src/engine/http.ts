/**
 * Exchanges with one HTTP service: a request, and the whole of its reply.
 *
 * An exchange has a connection to itself until its reply is there; then the connection is kept for the next one. A
 * connection is a Client of undici, and the idle ones are kept here: undici's own pool looks through all of its
 * connections for a free one. A reply of any status is a value; only a request without a whole reply throws
 * `Lost`. Nothing is sent twice, and no redirect is followed (a key would go with it). All deadlines share one tick of
 * the clock instead of a timer each. A secret that a service sends back is masked before anybody reads it. Knows nothing
 * else of what is exchanged.
 *
 * Replies may be compressed with gzip, deflate, or zstd where this Node has it.
 */
import type { IncomingHttpHeaders } from 'node:http';
import { promisify } from 'node:util';
import zlib from 'node:zlib';
import { buildConnector, Client } from 'undici';
import { R3Error, messageOf } from '../lib/errors.ts';
import { onCancel, throwIfCancelled, type Cancel, type Clock } from './clock.ts';

export interface Exchange {
  method: 'GET' | 'POST' | 'DELETE';
  /** With a slash at its beginning. */
  path: string;
  /** Name and value by turns, beside those of every request. */
  headers: readonly string[];
  body?: string | Uint8Array | undefined;
  /** From sending it to the end of its reply. */
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
  /** Of bodies. */
  bytesOut: number;
  bytesIn: number;
}

export interface Http {
  /** Throws Lost, or the R3Error of a cancellation, or R3Error `bad-answer` where the reply cannot be decompressed. */
  send(exchange: Exchange): Promise<Reply>;
  traffic(): Traffic;
  /** Ends what is under way. */
  close(): void;
}

/**
 * Why there was no reply. `stale`: the connection had been idle, and the server may have closed it before; worth another
 * one at once. `timeout`: no whole reply in time. `cut`: the connection ended. `unreachable`: there never was one.
 */
export type Loss = 'stale' | 'timeout' | 'cut' | 'too-large' | 'unreachable';

/**
 * A request that got no reply, or not the whole of it; the server may have taken it all the same. `message`: what came
 * in place of a reply, for a person.
 */
export class Lost extends Error {
  readonly why: Loss;

  constructor(why: Loss, message: string, cause?: unknown) {
    super(message, { cause });
    this.name = 'Lost';
    this.why = why;
  }
}

/** Deadlines are looked at so often. */
const TICK_MS = 250;
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

interface Connection {
  client: Client;
  /** It has served an exchange since it was opened. */
  isUsed: boolean;
}

interface Pending {
  deadline: number;
  expire(): void;
}

/** `origin`: scheme, host and port. `headers`: of every request, name and value by turns. `secret`: masked in replies. */
export function openHttp(options: {
  origin: string;
  headers: readonly string[];
  secret?: string | undefined;
  clock: Clock;
}): Http {
  const { origin, clock, secret = '' } = options;
  const common = [...options.headers, 'accept-encoding', Object.keys(DECODERS).join(', ')];
  // Deadlines are kept here; one connector for all, so that TLS sessions are resumed.
  const limits = { headersTimeout: 0, bodyTimeout: 0, maxResponseSize: MAX_REPLY_BYTES };
  const clientOptions = { ...limits, connect: buildConnector({ timeout: 0 }) };
  const counts: Traffic = { requests: 0, bytesOut: 0, bytesIn: 0 };
  const open = new Set<Client>();
  /** The one that was used last is on top. */
  const idle: Connection[] = [];
  const pending = new Set<Pending>();
  const stopTicks = clock.every(TICK_MS, () => {
    const now = clock.now();
    for (const each of pending) if (each.deadline <= now) each.expire();
  });

  function connect(): Connection {
    const connection = { client: new Client(origin, clientOptions), isUsed: false };
    // A client whose connection was closed while it was idle opens another.
    connection.client.on('connect', () => (connection.isUsed = false));
    open.add(connection.client);
    return connection;
  }

  const masked = async (received: Reply | Promise<Reply>): Promise<Reply> => {
    const reply = await received;
    if (secret === '' || !reply.body.includes(secret)) return reply;
    // As long as it was, since lengths within a body may count it.
    const body = reply.body.toString('latin1').replaceAll(secret, '*'.repeat(secret.length));
    return { ...reply, body: Buffer.from(body, 'latin1') };
  };

  const send = (asked: Exchange): Promise<Reply> =>
    new Promise((resolve, reject) => {
      throwIfCancelled(asked.cancel);
      const { method, path, timeoutMs, cancel } = asked;
      const body = typeof asked.body === 'string' ? Buffer.from(asked.body) : asked.body;
      const connection = idle.pop() ?? connect();
      const chunks: Buffer[] = [];
      let status = 0;
      let headers: IncomingHttpHeaders = {};
      let isSent = false;
      let isOver = false;
      const end = (): boolean => {
        if (isOver) return false;
        isOver = true;
        pending.delete(entry);
        leave();
        return true;
      };
      const fail = (error: Error): void => {
        if (!end()) return;
        open.delete(connection.client);
        void connection.client.destroy();
        reject(error);
      };
      const entry: Pending = {
        deadline: clock.now() + timeoutMs,
        expire: () => fail(new Lost('timeout', `nothing within ${timeoutMs / 1000} s`)),
      };
      const leave = onCancel(cancel, fail);
      pending.add(entry);
      counts.requests += 1;
      counts.bytesOut += body?.length ?? 0;

      const request = { method, path, headers: [...common, ...asked.headers], body: body ?? null };
      connection.client.dispatch(request, {
        onRequestStart: () => {
          isSent = true;
        },
        onResponseStart: (_, code, fields) => {
          status = code;
          headers = fields;
        },
        onResponseData: (_, chunk) => {
          chunks.push(chunk);
        },
        onResponseEnd: () => {
          if (!end()) return;
          connection.isUsed = true;
          idle.push(connection);
          const whole = chunks.length === 1 ? (chunks[0] as Buffer) : Buffer.concat(chunks);
          counts.bytesIn += whole.length;
          resolve(masked(decompress({ status, headers, body: whole })));
        },
        onResponseError: (_, error) => {
          const isStale = connection.isUsed && status === 0;
          fail(lossOf(error, isSent, isStale));
        },
      });
    });

  return {
    send,
    traffic: () => ({ ...counts }),
    close: () => {
      stopTicks();
      for (const client of open) void client.destroy();
    },
  };
}

/**
 * The address of a service, without a slash at its end. Throws R3Error `bad-option` for what is none, for other protocols
 * than http and https, and for a user, a password, a query or a fragment: an address is kept in folders and shown.
 * `keyVariable`: where a key belongs.
 */
export function parseServerUrl(text: string, keyVariable: string): string {
  const refuse = (got: string): R3Error =>
    new R3Error(
      'config',
      'bad-option',
      `--url: expected the address of a server, such as http://localhost:8000, got ${got}`,
    );
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined) throw refuse('a text that is none');
  if (url.protocol !== 'http:' && url.protocol !== 'https:') throw refuse(`the protocol ${url.protocol}`);
  if (url.username !== '' || url.password !== '')
    throw refuse(`one with a user or a password in it; put the key into ${keyVariable}`);
  if (url.search !== '' || url.hash !== '') throw refuse('one with a query or a fragment in it');
  return `${url.origin}${url.pathname.replace(/\/+$/, '')}`;
}

/** Codes of connections that were there and ended. */
const CUT = ['ECONNRESET', 'EPIPE', 'ETIMEDOUT'];

function lossOf(error: Error, isSent: boolean, isStale: boolean): Lost {
  const code = codeOf(error);
  if (code === 'UND_ERR_RES_EXCEEDED_MAX_SIZE')
    return new Lost('too-large', `one of more than ${MAX_REPLY_BYTES} bytes`, error);
  if (!isSent && !CUT.includes(code)) return new Lost('unreachable', code, error);
  const why = code.startsWith('UND_ERR') ? error.message : code;
  return new Lost(isStale ? 'stale' : 'cut', `a connection that was cut (${why})`, error);
}

/** Of several addresses of a host that all refuse, the first one's code. */
function codeOf(error: Error): string {
  const first: unknown = error instanceof AggregateError ? error.errors[0] : error;
  const code = (first as NodeJS.ErrnoException | undefined)?.code;
  return typeof code === 'string' ? code : first instanceof Error ? first.name : 'an unknown error';
}

function decompress(reply: Reply): Reply | Promise<Reply> {
  const encoding = reply.headers['content-encoding'];
  if (encoding === undefined || encoding === 'identity' || reply.body.length === 0) return reply;
  return decoded(reply, encoding);
}

async function decoded(reply: Reply, encoding: string): Promise<Reply> {
  const decode = DECODERS[encoding];
  const what = `reply in ${encoding}`;
  if (decode === undefined) {
    throw new R3Error('engine', 'bad-answer', `${what}: expected ${Object.keys(DECODERS).join(' or ')}`);
  }
  try {
    return { ...reply, body: await decode(reply.body, { maxOutputLength: MAX_REPLY_BYTES }) };
  } catch (cause) {
    const got = `others (${messageOf(cause)})`;
    throw new R3Error('engine', 'bad-answer', `${what}: expected bytes of it, got ${got}`, { cause });
  }
}
