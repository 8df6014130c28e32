/**
 * A strict server of the Tinker protocol inside this process, on a port of the loopback interface.
 *
 * It is there to hold a client to the protocol: it does what docs and SDK of the protocol say, and refuses what they
 * refuse, including options that real servers ignore. What is computed is the backend's: the embedded engine, or a cheap
 * imitation. Switches imitate known servers (quirks.ts), and each HTTP request can meet a fault (faults.ts).
 *
 * This file is HTTP and faults; endpoints.ts is what the requests mean.
 */
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { gunzipSync } from 'node:zlib';
import { messageOf } from '../../src/lib/errors.ts';
import type { Backend } from './backend.ts';
import { json, makeEndpoints, type Call, type EndpointOptions } from './endpoints.ts';
import { makeFaultQueue, type Fault, type FaultQueue, type FaultScript, type Keeps } from './faults.ts';
import { makeFutures } from './futures.ts';
import { STRICT, type Quirks } from './quirks.ts';
import { Refusal } from './refusal.ts';
import { makeWorld, type Reply } from './world.ts';

export interface TinkerServerOptions {
  /** The server closes it. */
  backend: Backend;
  quirks?: Quirks;
  /** Requests need this X-API-Key. Default: any, or none. */
  apiKey?: string;
  /** What comes before `/api/v1/` in paths, such as `/services/tinker-prod`. */
  prefix?: string;
  /** A result is there no earlier than so long after its request. Default 0. */
  latencyMs?: number;
  /** How long a poll waits for a result. Real servers: 5 to 30 s. Default 200. */
  pollWindowMs?: number;
  /** How long a model waits for a number that is missing. Default 100. */
  graceMs?: number;
  /** A session without heartbeats ends after this. Default 300 s, the least that the protocol asks for. */
  sessionTimeoutMs?: number;
  /** Milliseconds. Default Date.now. */
  now?: () => number;
  /** Default 64 MiB: chunks of training data are estimated at 5 MB, and one larger datum goes alone. */
  maxBodyBytes?: number;
  /** Default 100 000. */
  keptResults?: number;
  /** Requests that the log keeps, the latest. Default 10 000. */
  keptLog?: number;
  /** Added to what `client/config` answers, such as `fwdbwd_max_chunk_len`. */
  clientConfig?: Record<string, unknown>;
  /** Adapter slots. Default: no limit. */
  maxModels?: number;
  /** Default 128. */
  maxRank?: number;
  /** Default: no limit. */
  maxSamplesInFlight?: number;
  /** Default: never. */
  metadataAboveBytes?: number;
  /** How a poll without a result is answered. Default 408. */
  tryAgainStatus?: 408 | 200;
  archives?: 'link' | 'redirect';
  refuseVersion?: (version: string) => string | undefined;
  /** For texts in `stop`. Left out: they are refused. */
  detokenize?: (tokens: readonly number[]) => string;
  /** Asked for each request that no fault of the queue meets. */
  faultScript?: FaultScript;
}

export interface LogEntry {
  endpoint: string;
  /** 0: the connection was cut. */
  status: number;
  fault?: Fault['kind'];
}

export interface TinkerServer {
  /** The base URL, without `/api/v1`. */
  readonly url: string;
  /** The latest requests, in the order of their answers. */
  readonly log: readonly LogEntry[];
  /** Requests by endpoint, whatever came of them. */
  readonly counts: ReadonlyMap<string, number>;
  readonly faults: FaultQueue;
  /** Ends all sessions, as when heartbeats stay away. */
  expireSessions(): void;
  /** Cuts all connections, forgets what is not kept, and listens again on the same port. */
  restart(keeps: Keeps, downMs?: number): Promise<void>;
  stats(): {
    openFutures: number;
    peakInFlight: number;
    models: number;
    sessions: number;
    lateOperations: number;
  };
  close(): Promise<void>;
}

const API = '/api/v1/';
const MIB = 2 ** 20;

export async function startTinkerServer(options: TinkerServerOptions): Promise<TinkerServer> {
  const { backend, quirks = STRICT, prefix = '', now = Date.now } = options;
  const { maxBodyBytes = 64 * MIB, keptLog = 10_000, apiKey, faultScript } = options;
  const futures = makeFutures({
    latencyMs: options.latencyMs ?? 0,
    pollWindowMs: options.pollWindowMs ?? 200,
    keptResults: options.keptResults ?? 100_000,
  });
  const world = makeWorld({ backend, futures, now, sessionTimeoutMs: options.sessionTimeoutMs ?? 300_000 });
  const endpoints = makeEndpoints({
    backend,
    quirks,
    world,
    futures,
    now,
    graceMs: options.graceMs ?? 100,
    clientConfig: options.clientConfig ?? {},
    maxModels: options.maxModels ?? Infinity,
    maxRank: options.maxRank ?? 128,
    maxSamplesInFlight: options.maxSamplesInFlight ?? Infinity,
    metadataAboveBytes: options.metadataAboveBytes ?? Infinity,
    tryAgainStatus: options.tryAgainStatus ?? 408,
    archives: options.archives ?? 'link',
    refuseVersion: options.refuseVersion,
    detokenize: options.detokenize,
  } satisfies EndpointOptions);
  const faults = makeFaultQueue();
  const log: LogEntry[] = [];
  const counts = new Map<string, number>();

  const http = createServer({ keepAliveTimeout: 60_000 }, (incoming, outgoing) => {
    // Whoever cut the connection has nobody left to tell.
    incoming.on('error', () => undefined);
    outgoing.on('error', () => undefined);
    serve(incoming, outgoing).catch(() => incoming.socket.destroy());
  });
  await listen(0);
  const { port } = http.address() as AddressInfo;
  const url = `http://127.0.0.1:${port}${prefix}`;

  async function listen(at: number): Promise<void> {
    // Thousands of connections may be opened at once.
    http.listen({ port: at, host: '127.0.0.1', backlog: 16_384 });
    await once(http, 'listening');
  }

  async function serve(incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
    const { pathname, searchParams: query } = new URL(incoming.url ?? '/', url);
    const path = pathname.startsWith(prefix + API) ? pathname.slice(prefix.length + API.length) : '';
    const endpoint = endpointOf(incoming.method ?? '', path);
    counts.set(endpoint, (counts.get(endpoint) ?? 0) + 1);
    const fault = faults.next(endpoint) ?? faultScript?.(endpoint);
    const note = (status: number): void => {
      log.push({ endpoint, status, ...(fault === undefined ? {} : { fault: fault.kind }) });
      if (log.length > keptLog) log.splice(0, log.length - keptLog / 2);
    };
    if (fault?.kind === 'reset' && fault.when === 'before') {
      note(0);
      incoming.socket.resetAndDestroy();
      return;
    }
    if (fault?.kind === 'restart') {
      note(0);
      await restart(fault.keeps, fault.downMs);
      return;
    }
    if (fault?.kind === 'expire') expireSessions();

    const reply = await answer(incoming, path, query, fault);
    if (fault?.kind === 'reset') {
      note(0);
      cut(incoming, outgoing, reply, fault.when);
      return;
    }
    note(reply.status);
    send(outgoing, reply);
    // What is left of a refused body is read and dropped, so that the client gets to the answer.
    if (!incoming.complete) incoming.resume();
  }

  async function answer(
    incoming: IncomingMessage,
    path: string,
    query: URLSearchParams,
    fault: Fault | undefined,
  ): Promise<Reply> {
    try {
      checkHeaders(incoming);
      const body = await readWhole(incoming);
      if (fault?.kind === 'hold') await new Promise((resolve) => setTimeout(resolve, fault.ms));
      if (fault?.kind === 'status' && fault.when === 'before') return statusReply(fault);
      const accept = incoming.headers.accept ?? '*/*';
      const call: Call = {
        method: incoming.method ?? '',
        path,
        query,
        body,
        isProtobuf: isProtobuf(incoming),
        acceptsProtobuf: accept.includes('application/x-protobuf'),
        origin: url + API.slice(0, -1),
        isFull: fault?.kind === 'full',
      };
      if (fault?.kind === 'lost' && path === 'retrieve_future') forgetPolled(body, fault);
      let reply = await endpoints.handle(call);
      if (fault?.kind === 'duplicate') reply = await endpoints.handle(call);
      const { requestId } = reply;
      if (requestId !== undefined && fault?.kind === 'slow') futures.hold(requestId, fault.ms);
      if (requestId !== undefined && fault?.kind === 'lost') forget(requestId, fault);
      return fault?.kind === 'status' ? statusReply(fault) : reply;
    } catch (error) {
      if (error instanceof Refusal) return json(error.status, { detail: error.message });
      // A fault of this server: the test that meets it shall see what it was.
      return json(500, { detail: `internal error: ${messageOf(error)}` });
    }
  }

  function forget(id: string, { status, of }: Extract<Fault, { kind: 'lost' }>): void {
    if (of === 'any' || futures.get(id)?.kind === 'sample') futures.forget(id, status);
  }
  function forgetPolled(body: Uint8Array, fault: Extract<Fault, { kind: 'lost' }>): void {
    const { request_id: id } = JSON.parse(Buffer.from(body).toString()) as { request_id?: string };
    if (id !== undefined) forget(id, fault);
  }

  /** The key, and what the client takes and sends: JSON, or protobuf where the endpoint has it. */
  function checkHeaders(incoming: IncomingMessage): void {
    const {
      accept = '*/*',
      'content-type': type = '',
      'content-encoding': encoding = 'identity',
    } = incoming.headers;
    const isDownload = incoming.url?.includes(`${API}archives/`) === true;
    if (apiKey !== undefined && !isDownload && incoming.headers['x-api-key'] !== apiKey) {
      throw new Refusal(401, 'X-API-Key: expected the key of this server, got another or none');
    }
    if (!/application\/(json|x-protobuf|\*)|\*\/\*/.test(accept)) {
      throw new Refusal(406, `accept: expected application/json or application/x-protobuf, got ${accept}`);
    }
    if (incoming.method === 'POST' && !/^application\/(json|x-protobuf)\b/.test(type)) {
      throw new Refusal(
        415,
        `content-type: expected application/json or application/x-protobuf, got ${type}`,
      );
    }
    // zstd only where client/config announces it, which needs a newer Node than the oldest that is supported.
    if (encoding !== 'identity' && encoding !== 'gzip') {
      throw new Refusal(415, `content-encoding: expected gzip or none, got ${encoding}`);
    }
    const size = Number(incoming.headers['content-length'] ?? 0);
    if (size > maxBodyBytes)
      throw new Refusal(413, `body: expected at most ${maxBodyBytes} bytes, got ${size}`);
  }

  async function readWhole(incoming: IncomingMessage): Promise<Uint8Array> {
    const chunks: Buffer[] = [];
    let size = 0;
    for await (const chunk of incoming as AsyncIterable<Buffer>) {
      chunks.push(chunk);
      size += chunk.length;
      if (size > maxBodyBytes)
        throw new Refusal(413, `body: expected at most ${maxBodyBytes} bytes, got more`);
    }
    const [first] = chunks;
    const whole = chunks.length === 1 && first !== undefined ? first : Buffer.concat(chunks);
    if (incoming.headers['content-encoding'] !== 'gzip') return whole;
    try {
      return gunzipSync(whole, { maxOutputLength: maxBodyBytes });
    } catch (error) {
      throw new Refusal(400, `body: expected gzip, got ${messageOf(error)}`);
    }
  }

  /** Sends nothing of a reply, or half of it, and breaks the connection. */
  function cut(
    incoming: IncomingMessage,
    outgoing: ServerResponse,
    { status, headers, body }: Reply,
    when: 'before' | 'after' | 'during',
  ): void {
    const whole = Buffer.from(body);
    if (when !== 'during' || whole.length < 2) {
      incoming.socket.resetAndDestroy();
      return;
    }
    outgoing.writeHead(status, { ...headers, 'content-length': whole.length });
    outgoing.write(whole.subarray(0, whole.length >> 1), () => incoming.socket.destroy());
  }

  function expireSessions(): void {
    for (const session of world.sessions.values()) world.expire(session);
  }

  async function shut(): Promise<void> {
    const closed = once(http, 'close');
    http.close();
    http.closeAllConnections();
    await closed;
  }
  let restarting: Promise<void> = Promise.resolve();
  let isClosed = false;
  function restart(keeps: Keeps, downMs = 0): Promise<void> {
    restarting = restarting.then(async () => {
      if (isClosed) return;
      await shut();
      if (keeps !== 'memory') await world.clear(keeps === 'checkpoints');
      if (downMs > 0) await new Promise((resolve) => setTimeout(resolve, downMs));
      await listen(port);
    });
    return restarting;
  }

  return {
    url,
    log,
    counts,
    faults,
    expireSessions,
    restart,
    stats: () => ({
      openFutures: futures.pendingCount(),
      peakInFlight: endpoints.peakInFlight(),
      models: world.models.size,
      sessions: world.sessions.size,
      lateOperations: [...world.models.values()].reduce((sum, { sequence }) => sum + sequence.lateCount(), 0),
    }),
    close: async () => {
      await restarting;
      isClosed = true;
      await shut();
      futures.close();
      await world.clear(false);
      await backend.close();
    },
  };
}

function isProtobuf(incoming: IncomingMessage): boolean {
  return incoming.headers['content-type']?.startsWith('application/x-protobuf') === true;
}

function send(outgoing: ServerResponse, { status, headers = {}, body }: Reply): void {
  outgoing.writeHead(status, { ...headers, 'content-length': Buffer.byteLength(body) });
  outgoing.end(body);
}

function statusReply({ status, retryAfterMs }: Extract<Fault, { kind: 'status' }>): Reply {
  const reply = json(status, { detail: `a fault: status ${status}` });
  if (retryAfterMs === undefined) return reply;
  return { ...reply, headers: { ...reply.headers, 'retry-after-ms': String(retryAfterMs) } };
}

/** The name under which a request is counted and meets faults: the last part of a POST's path, else what it is about. */
function endpointOf(method: string, path: string): string {
  if (method === 'POST') return path.slice(path.lastIndexOf('/') + 1);
  if (method === 'DELETE') return 'delete_checkpoint';
  if (path.endsWith('/archive')) return 'archive';
  return path.split('/')[0] ?? '';
}
