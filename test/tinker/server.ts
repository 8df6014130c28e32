/**
 * A strict server of the Tinker protocol inside this process, on a port of the loopback interface.
 *
 * It is there to hold a client to the protocol: it does what docs and SDK of the protocol say, and refuses what they
 * refuse, including options that real servers ignore. What is computed is the backend's: the embedded engine, or a cheap
 * imitation. Switches imitate known servers (quirks.ts), and each HTTP request can meet a fault (faults.ts). It may do
 * without the port: then whoever has it hands requests over (in-process.ts).
 *
 * This file is HTTP and faults; endpoints.ts is what the requests mean.
 */
import { once } from 'node:events';
import { createServer, type IncomingHttpHeaders, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { gunzipSync } from 'node:zlib';
import { messageOf } from '../../src/lib/errors.ts';
import type { Backend } from './backend.ts';
import { json, makeEndpoints, type Call, type EndpointOptions } from './endpoints.ts';
import { makeFaultQueue, type Fault, type FaultQueue, type FaultScript, type Keeps } from './faults.ts';
import { isReady, makeFutures } from './futures.ts';
import { STRICT, type Quirks } from './quirks.ts';
import { Refusal } from './refusal.ts';
import { systemTimers, wait, type Timers } from './timers.ts';
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
  /** What all waits are by. Default: those of the machine. */
  timers?: Timers;
  /** Whether to listen on a port. Default true. */
  listens?: boolean;
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
  archives?: 'link' | 'redirect' | 'none';
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

/** A request as it arrives. */
export interface Arrival {
  method: string;
  /** Path and query. */
  url: string;
  headers: IncomingHttpHeaders;
  /** The body as it was sent. */
  read(): Promise<Uint8Array>;
}

/** What goes back: a reply, the first half of one, or nothing but a broken connection. */
export type Delivery = { sent: 'whole' | 'half'; reply: Reply } | { sent: 'nothing' };

export interface TinkerServer {
  /** The base URL, without `/api/v1`. */
  readonly url: string;
  /** One request, and the fault that it meets. */
  exchange(request: Arrival): Promise<Delivery>;
  /** Called when a restart breaks all connections: for those that are no sockets. */
  readonly connections: Set<() => void>;
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
  const { backend, quirks = STRICT, prefix = '', now = Date.now, timers = systemTimers } = options;
  const { maxBodyBytes = 64 * MIB, keptLog = 10_000, apiKey, faultScript } = options;
  const futures = makeFutures({
    latencyMs: options.latencyMs ?? 0,
    pollWindowMs: options.pollWindowMs ?? 200,
    keptResults: options.keptResults ?? 100_000,
    timers,
  });
  const world = makeWorld({ backend, futures, now, sessionTimeoutMs: options.sessionTimeoutMs ?? 300_000 });
  const endpoints = makeEndpoints({
    backend,
    quirks,
    world,
    futures,
    now,
    timers,
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
  const { listens = true } = options;
  await listen(0);
  const port = listens ? (http.address() as AddressInfo).port : 0;
  const url = `http://127.0.0.1:${port}${prefix}`;
  const connections = new Set<() => void>();

  async function listen(at: number): Promise<void> {
    if (!listens) return;
    // Thousands of connections may be opened at once.
    http.listen({ port: at, host: '127.0.0.1', backlog: 16_384 });
    await once(http, 'listening');
  }

  async function serve(incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
    const { method = '', url: target = '/', headers } = incoming;
    const delivery = await exchange({ method, url: target, headers, read: () => readWhole(incoming) });
    if (delivery.sent === 'nothing') {
      incoming.socket.resetAndDestroy();
      return;
    }
    const { status, headers: sent, body } = delivery.reply;
    const whole = Buffer.from(body);
    outgoing.writeHead(status, { ...sent, 'content-length': whole.length });
    if (delivery.sent === 'half') {
      outgoing.write(whole.subarray(0, whole.length >> 1), () => incoming.socket.destroy());
      return;
    }
    outgoing.end(whole);
    // What is left of a refused body is read and dropped, so that the client gets to the answer.
    if (!incoming.complete) incoming.resume();
  }

  async function exchange(request: Arrival): Promise<Delivery> {
    if (isDown) return { sent: 'nothing' };
    const { pathname, searchParams: query } = new URL(request.url, url);
    const path = pathname.startsWith(prefix + API) ? pathname.slice(prefix.length + API.length) : '';
    const endpoint = endpointOf(request.method, path);
    counts.set(endpoint, (counts.get(endpoint) ?? 0) + 1);
    const fault = faults.next(endpoint) ?? faultScript?.(endpoint);
    const note = (status: number): void => {
      log.push({ endpoint, status, ...(fault === undefined ? {} : { fault: fault.kind }) });
      if (log.length > keptLog) log.splice(0, log.length - keptLog / 2);
    };
    if (fault?.kind === 'reset' && fault.when === 'before') {
      note(0);
      return { sent: 'nothing' };
    }
    if (fault?.kind === 'restart' && fault.when !== 'after') {
      note(0);
      await restart(fault.keeps, fault.downMs);
      return { sent: 'nothing' };
    }
    if (fault?.kind === 'expire') expireSessions();

    const reply = await answer(request, path, query, fault);
    if (fault?.kind === 'restart') {
      note(0);
      await settled(reply.requestId);
      await restart(fault.keeps, fault.downMs);
      return { sent: 'nothing' };
    }
    if (fault?.kind === 'reset') {
      note(0);
      const isHalf = fault.when === 'during' && Buffer.byteLength(reply.body) > 1;
      return isHalf ? { sent: 'half', reply } : { sent: 'nothing' };
    }
    note(reply.status);
    return { sent: 'whole', reply };
  }

  async function answer(
    request: Arrival,
    path: string,
    query: URLSearchParams,
    fault: Fault | undefined,
  ): Promise<Reply> {
    const { method, headers } = request;
    try {
      checkHeaders(request);
      const body = unzipped(headers, await request.read());
      if (fault?.kind === 'hold') await wait(timers, fault.ms);
      if (fault?.kind === 'status' && fault.when === 'before') return statusReply(fault);
      const { accept = '*/*', 'content-type': type = '' } = headers;
      const call: Call = {
        method,
        path,
        query,
        body,
        isProtobuf: type.startsWith('application/x-protobuf'),
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

  /** Waits until the operation has been done. */
  async function settled(id: string | undefined): Promise<void> {
    if (id === undefined) return;
    let future = await futures.poll(id);
    while (typeof future !== 'number' && !isReady(future)) future = await futures.poll(id);
  }

  function forget(id: string, { status, of }: Extract<Fault, { kind: 'lost' }>): void {
    if (of === 'any' || futures.get(id)?.kind === 'sample') futures.forget(id, status);
  }
  function forgetPolled(body: Uint8Array, fault: Extract<Fault, { kind: 'lost' }>): void {
    const { request_id: id } = JSON.parse(Buffer.from(body).toString()) as { request_id?: string };
    if (id !== undefined) forget(id, fault);
  }

  /** The key, and what the client takes and sends: JSON, or protobuf where the endpoint has it. */
  function checkHeaders({ method, url: target, headers }: Arrival): void {
    const { accept = '*/*', 'content-type': type = '', 'content-encoding': encoding = 'identity' } = headers;
    const isDownload = target.includes(`${API}archives/`);
    if (apiKey !== undefined && !isDownload && headers['x-api-key'] !== apiKey) {
      throw new Refusal(401, 'X-API-Key: expected the key of this server, got another or none');
    }
    if (!/application\/(json|x-protobuf|\*)|\*\/\*/.test(accept)) {
      throw new Refusal(406, `accept: expected application/json or application/x-protobuf, got ${accept}`);
    }
    if (method === 'POST' && !/^application\/(json|x-protobuf)\b/.test(type)) {
      throw new Refusal(
        415,
        `content-type: expected application/json or application/x-protobuf, got ${type}`,
      );
    }
    // zstd only where client/config announces it, which needs a newer Node than the oldest that is supported.
    if (encoding !== 'identity' && encoding !== 'gzip') {
      throw new Refusal(415, `content-encoding: expected gzip or none, got ${encoding}`);
    }
    const size = Number(headers['content-length'] ?? 0);
    if (size > maxBodyBytes)
      throw new Refusal(413, `body: expected at most ${maxBodyBytes} bytes, got ${size}`);
  }

  /** By events, which take less time than the iterator of a stream. */
  async function readWhole(incoming: IncomingMessage): Promise<Uint8Array> {
    const chunks: Buffer[] = [];
    let size = 0;
    await new Promise<void>((resolve, reject) => {
      incoming.on('end', resolve).on('error', reject);
      incoming.on('data', (chunk: Buffer) => {
        size += chunk.length;
        if (size <= maxBodyBytes) chunks.push(chunk);
        else reject(new Refusal(413, `body: expected at most ${maxBodyBytes} bytes, got more`));
      });
    });
    const [first] = chunks;
    return chunks.length === 1 && first !== undefined ? first : Buffer.concat(chunks);
  }

  function unzipped(headers: IncomingHttpHeaders, body: Uint8Array): Uint8Array {
    if (headers['content-encoding'] !== 'gzip') return body;
    try {
      return gunzipSync(body, { maxOutputLength: maxBodyBytes });
    } catch (error) {
      throw new Refusal(400, `body: expected gzip, got ${messageOf(error)}`);
    }
  }

  function expireSessions(): void {
    for (const session of world.sessions.values()) world.expire(session);
  }

  async function shut(): Promise<void> {
    for (const cut of connections) cut();
    connections.clear();
    if (!listens) return;
    const closed = once(http, 'close');
    http.close();
    http.closeAllConnections();
    await closed;
  }
  let restarting: Promise<void> = Promise.resolve();
  let isClosed = false;
  let isDown = false;
  function restart(keeps: Keeps, downMs = 0): Promise<void> {
    restarting = restarting.then(async () => {
      if (isClosed) return;
      isDown = true;
      await shut();
      if (keeps !== 'memory') await world.clear(keeps === 'checkpoints');
      if (downMs > 0) await wait(timers, downMs);
      await listen(port);
      isDown = false;
    });
    return restarting;
  }

  return {
    url,
    exchange,
    connections,
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
