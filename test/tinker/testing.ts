/** For the server's own tests: servers that end with their test, and plain calls to them, without the client. */
import { once } from 'node:events';
import { request, type IncomingHttpHeaders, type IncomingMessage } from 'node:http';
import { afterEach } from 'vitest';
import { makeScriptedBackend, type ScriptedBackend } from './scripted-backend.ts';
import { startTinkerServer, type TinkerServer, type TinkerServerOptions } from './server.ts';

const JSON_TYPE = 'application/json';
export const PROTOBUF = 'application/x-protobuf';

/** Any JSON, for tests that know what they look for: what is not there is undefined. */
export interface Json {
  readonly [key: string | number]: Json;
}

/** A text in a reply. */
export function text(value: unknown): string {
  if (typeof value === 'string') return value;
  throw new Error(`expected a text in the reply, got ${JSON.stringify(value)}`);
}

export interface Answer {
  status: number;
  headers: IncomingHttpHeaders;
  bytes: Uint8Array;
  /** The body, where it is JSON. */
  json: Json;
}

export interface RawClient {
  get(path: string, method?: string): Promise<Answer>;
  post(path: string, body: unknown, headers?: Record<string, string>): Promise<Answer>;
  /** Posts, and polls the future until it answers other than `try_again`. */
  run(path: string, body: unknown, accept?: string): Promise<Answer>;
  /** Polls a future. */
  result(requestId: string, accept?: string): Promise<Answer>;
}

export function rawClient(url: string): RawClient {
  const post: RawClient['post'] = (path, body, headers = {}) =>
    ask('POST', `${url}/api/v1/${path}`, {
      headers: {
        'content-type': body instanceof Uint8Array ? PROTOBUF : JSON_TYPE,
        accept: JSON_TYPE,
        ...headers,
      },
      body: body instanceof Uint8Array || typeof body === 'string' ? body : JSON.stringify(body),
    });
  const result: RawClient['result'] = async (requestId, accept = JSON_TYPE) => {
    for (;;) {
      const answer = await post('retrieve_future', { request_id: requestId }, { accept });
      if (answer.status !== 408 && answer.json['type'] !== ('try_again' as unknown)) return answer;
    }
  };
  return {
    get: (path, method = 'GET') => ask(method, path.startsWith('http') ? path : `${url}/api/v1/${path}`),
    post,
    result,
    run: async (path, body, accept) => {
      const submitted = await post(path, body);
      return submitted.status === 200 ? result(text(submitted.json['request_id']), accept) : submitted;
    },
  };
}

/** One request on a connection of its own, so that no test meets a connection that an earlier fault has broken. */
async function ask(
  method: string,
  url: string,
  { headers = {}, body }: { headers?: Record<string, string>; body?: string | Uint8Array } = {},
): Promise<Answer> {
  const outgoing = request(url, { method, headers, agent: false });
  outgoing.end(body);
  const [incoming] = (await once(outgoing, 'response')) as [IncomingMessage];
  const chunks: Buffer[] = [];
  for await (const chunk of incoming as AsyncIterable<Buffer>) chunks.push(chunk);
  const bytes = Buffer.concat(chunks);
  const isJson = incoming.headers['content-type'] === JSON_TYPE;
  const json = (isJson ? JSON.parse(bytes.toString()) : {}) as Json;
  return { status: incoming.statusCode ?? 0, headers: incoming.headers, bytes, json };
}

export interface Ready extends RawClient {
  server: TinkerServer;
  sessionId: string;
  modelId: string;
}

/** A server with a session and, unless it is refused, a model of rank 4. */
export async function startReady(options: TinkerServerOptions): Promise<Ready> {
  const server = await startTinkerServer(options);
  const client = rawClient(server.url);
  const session = await client.post('create_session', SESSION);
  const sessionId = text(session.json['session_id']);
  const made = await client.run('create_model', modelBody(sessionId));
  return { ...client, server, sessionId, modelId: text(made.json['model_id']) };
}

const opened: TinkerServer[] = [];
afterEach(async () => {
  for (const server of opened.splice(0)) await server.close();
});

/** It ends with the test. */
export function closedAfter(server: TinkerServer): TinkerServer {
  opened.push(server);
  return server;
}

/** The same as startReady, by default on a scripted backend; it ends with the test. */
export async function start(
  options: Partial<TinkerServerOptions> = {},
): Promise<Ready & { backend: ScriptedBackend }> {
  const backend = makeScriptedBackend();
  const ready = await startReady({ backend, ...options });
  closedAfter(ready.server);
  return { ...ready, backend };
}

export const SESSION = { tags: [], user_metadata: {}, sdk_version: '0.25.0', type: 'create_session' };
export const ADAM = {
  learning_rate: 0.01,
  beta1: 0.9,
  beta2: 0.95,
  eps: 1e-8,
  weight_decay: 0,
  grad_clip_norm: 0,
};

export function modelBody(sessionId: string, number = 0): Record<string, unknown> {
  return {
    session_id: sessionId,
    model_seq_id: number,
    base_model: 'models/tiny',
    user_metadata: { renderer: 'plain' },
    lora_config: { rank: 4, seed: 7, train_unembed: false, train_mlp: true, train_attn: true },
    type: 'create_model',
  };
}

export function textInput(tokens: readonly number[]): { chunks: unknown[] } {
  return { chunks: [{ type: 'encoded_text', tokens }] };
}

/** A datum of cross_entropy in JSON: each token predicts the next, all with the same weight. */
export function datumJson(tokens: readonly number[], weight = 1): Record<string, unknown> {
  const targets = tokens.slice(1);
  return {
    model_input: textInput(tokens.slice(0, -1)),
    loss_fn_inputs: {
      target_tokens: { data: targets, dtype: 'int64', shape: [targets.length] },
      weights: { data: targets.map(() => weight), dtype: 'float32' },
    },
  };
}

export function passBody(
  modelId: string,
  seqId: number,
  data: unknown[],
  loss = 'cross_entropy',
): Record<string, unknown> {
  return { forward_backward_input: { data, loss_fn: loss }, model_id: modelId, seq_id: seqId };
}

export function stepBody(modelId: string, seqId: number): Record<string, unknown> {
  return { adam_params: ADAM, model_id: modelId, seq_id: seqId, type: 'optim_step' };
}
