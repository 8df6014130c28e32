/**
 * For tests of the client: a service on loopback that answers as a test scripts it, and a clock that does not wait.
 *
 * The service knows nothing of the protocol but its paths; what it is asked is kept. Calls that a test does not script
 * are answered as a plain service of the newer dialect would.
 */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { openTinkerClient, type TinkerClient, type TinkerClientOptions } from './client.ts';
import { throwIfCancelled, type Clock } from '../clock.ts';

export const KEY = 'tml-testkeythatnobodymaysee';

export interface Asked {
  method: string;
  /** After /api/v1/. */
  path: string;
  headers: Record<string, string | string[] | undefined>;
  body: Buffer;
  /** The body, where it is JSON. */
  json: Record<string, unknown>;
  /** How many requests for this path came before. */
  index: number;
}

/** `cut` ends the connection without a reply, `hang` never answers, undefined leaves it to the plain service. */
export type Answer =
  | { status?: number; json?: unknown; bytes?: Uint8Array; type?: string; headers?: Record<string, string> }
  | 'cut'
  | 'hang'
  | undefined;

export type Script = (asked: Asked) => Answer | Promise<Answer>;

export interface TestService {
  url: string;
  asked: Asked[];
  /** Paths in the order in which they came, without heartbeats. */
  paths(): string[];
  close(): Promise<void>;
}

export async function startTestService(script: Script): Promise<TestService> {
  const asked: Asked[] = [];
  const plain = makePlainService();
  const server = createServer((request, reply) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      void (async () => {
        const body = Buffer.concat(chunks);
        const path = (request.url ?? '').replace(/^.*\/api\/v1\//, '');
        const isJson = request.headers['content-type'] === 'application/json';
        const index = asked.filter((each) => each.path === path).length;
        const one: Asked = {
          method: request.method ?? '',
          path,
          headers: request.headers,
          body,
          json: isJson ? (JSON.parse(body.toString()) as Record<string, unknown>) : {},
          index,
        };
        asked.push(one);
        const answer = (await script(one)) ?? plain(one);
        if (answer === 'hang') return;
        if (answer === 'cut') {
          request.socket.destroy();
          return;
        }
        const bytes =
          answer.bytes ?? Buffer.from(answer.json === undefined ? '' : JSON.stringify(answer.json));
        const type =
          answer.type ?? (answer.bytes === undefined ? 'application/json' : 'application/x-protobuf');
        reply.writeHead(answer.status ?? 200, { 'content-type': type, ...answer.headers });
        reply.end(bytes);
      })();
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    asked,
    paths: () => asked.map(({ path }) => path).filter((path) => path !== 'session_heartbeat'),
    close: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => {
        server.close(resolve);
      });
    },
  };
}

/** Answers at the first poll, with the least that a client accepts. */
function makePlainService(): (asked: Asked) => Exclude<Answer, undefined> {
  const results = new Map<string, unknown>();
  let operations = 0;
  return ({ path, json }) => {
    const operation = (result: unknown): { json: unknown } => {
      const id = `op${operations++}`;
      results.set(id, result);
      return { json: { request_id: id } };
    };
    switch (path) {
      case 'client/config':
        return { json: { use_pyqwest_transport: false } };
      case 'create_session':
        return { json: { type: 'create_session', session_id: 's1' } };
      case 'session_heartbeat':
        return { json: { type: 'session_heartbeat' } };
      case 'create_model':
        return operation({ model_id: 's1:train:0', type: 'create_model' });
      case 'create_sampling_session':
        return { json: { type: 'create_sampling_session', sampling_session_id: 'sampler1' } };
      case 'optim_step':
        return operation({ metrics: { grad_norm: 2 } });
      case 'asample':
        return operation({ sequences: [{ tokens: [7, 8], logprobs: [-0.5, -0.25], stop_reason: 'stop' }] });
      case 'retrieve_future':
        return { json: results.get(String(json.request_id)) ?? { detail: 'unknown' } };
      default:
        return { status: 404, json: { detail: `no ${path}` } };
    }
  };
}

export interface TestClock extends Clock {
  /** What was slept, in milliseconds. */
  slept: number[];
  /** Moves time and runs what is due once in that time. */
  pass(milliseconds: number): void;
}

/** Sleeping takes no time but moves the clock. Chance is always one half. */
export function makeTestClock(): TestClock {
  let now = 0;
  const repeated = new Map<() => void, { everyMs: number; dueMs: number }>();
  const slept: number[] = [];
  return {
    slept,
    now: () => now,
    random: () => 0.5,
    sleep: async (milliseconds, cancel) => {
      throwIfCancelled(cancel);
      slept.push(milliseconds);
      now += milliseconds;
      await new Promise(setImmediate);
      throwIfCancelled(cancel);
    },
    every: (everyMs, work) => {
      repeated.set(work, { everyMs, dueMs: now + everyMs });
      return () => repeated.delete(work);
    },
    pass: (milliseconds) => {
      now += milliseconds;
      for (const [work, timing] of repeated) {
        if (timing.dueMs > now) continue;
        timing.dueMs = now + timing.everyMs;
        work();
      }
    },
  };
}

export interface TestSetup {
  service: TestService;
  client: TinkerClient;
  clock: TestClock;
  notices: string[];
  close(): Promise<void>;
}

/** A client of a scripted service. */
export async function connect(
  script: Script,
  options: Partial<TinkerClientOptions> = {},
): Promise<TestSetup> {
  const service = await startTestService(script);
  const clock = makeTestClock();
  const notices: string[] = [];
  const onNotice = (text: string): void => void notices.push(text);
  try {
    const client = await openTinkerClient({ url: service.url, apiKey: KEY, clock, onNotice, ...options });
    const close = async (): Promise<void> => {
      await client.close();
      await service.close();
    };
    return { service, client, clock, notices, close };
  } catch (error) {
    await service.close();
    throw error;
  }
}
