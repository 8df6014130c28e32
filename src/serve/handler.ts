/**
 * An OpenAI-compatible server as a function from Request to Response, over one engine.
 *
 *     GET /health   GET /v1/models   POST /v1/chat/completions   POST /v1/completions
 *
 * A request is checked from the outside in: host, path, method, key, type, size, body. Whatever is sampled for it
 * ends when its signal is raised. Opens no port, reads no clock and draws no random numbers: those are arguments.
 */
import { createHash, timingSafeEqual } from 'node:crypto';
import { decodeUtf8, parseJsonObject } from '../lib/json.ts';
import { messageOf } from '../lib/errors.ts';
import { ApiError, errorBody, toApiError } from './api-error.ts';
import { makeChatWriter } from './chat-reply.ts';
import { readChatJob } from './chat-request.ts';
import { makeCompletionWriter } from './completion-reply.ts';
import { readCompletionJob } from './completion-request.ts';
import { makeEventStream } from './event-stream.ts';
import { readText, type Body } from './fields.ts';
import { runJob, usageOf, type Job, type ServedModel, type Usage } from './job.ts';
import type { ReplyContext, Writer } from './reply.ts';

export interface Limits {
  maxBodyBytes: number;
  /** Of one completion. */
  maxTokens: number;
  /** Under way at a time, those included that the engine has not begun. */
  maxRequests: number;
}

/** One line of the log. Never holds a text of a prompt or of an answer. */
export interface RequestLog {
  method: string;
  /** As it was asked for: text from outside. */
  path: string;
  /** 499: the client went away. */
  status: number;
  promptTokens: number;
  completionTokens: number;
  seconds: number;
  /** What the server itself failed at, for statuses from 500 on. */
  error?: string;
}

export interface HandlerOptions {
  model: ServedModel;
  limits: Limits;
  /** Asked for as a bearer token under /v1. */
  apiKey?: string | undefined;
  /**
   * Answer only requests whose host is `isLoopback`: a page on the web that has its own name resolve to this
   * machine (DNS rebinding) gets nothing.
   */
  isLoopbackOnly: boolean;
  /** Milliseconds since 1970. */
  now: () => number;
  /** An unsigned 32-bit integer, for requests without a seed. */
  randomSeed: () => number;
  /** Unique. */
  newId: () => string;
  log: (entry: RequestLog) => void;
}

export interface Handler {
  /** Does not throw. */
  handle(request: Request): Promise<Response>;
  /** From now on requests get status 503. Resolves when those under way have ended. */
  stop(): Promise<void>;
}

const LOOPBACK = /^(localhost|127(\.\d{1,3}){3}|::1|\[::1\])$/;
const RETRY_SECONDS = '1';

/** Whether a host is this machine's own, reached by nobody else. */
export function isLoopback(host: string): boolean {
  return LOOPBACK.test(host);
}

/** What a route answers with; `ended` comes when nothing is sampled for it any more. */
interface Answer {
  response: Response;
  ended: Promise<Usage | undefined>;
}

export function makeHandler(options: HandlerOptions): Handler {
  const { model, limits, apiKey, now, log } = options;
  const created = Math.floor(now() / 1000);
  let underWay = 0;
  let isStopping = false;
  let onIdle: (() => void) | undefined;

  const described = {
    id: model.name,
    object: 'model',
    created,
    owned_by: 'r3',
    max_model_len: model.engine.capabilities().contextLength,
  };

  /** The endpoints that sample: what they read of a body, and how they write. */
  const makers: Readonly<
    Record<string, (body: Body, context: ReplyContext) => { job: Job; writer: Writer }>
  > = {
    '/v1/chat/completions': (body, context) => {
      const job = readChatJob(body, model, limits, options.randomSeed);
      return { job, writer: makeChatWriter(job, context) };
    },
    '/v1/completions': (body, context) => {
      const job = readCompletionJob(body, model, limits, options.randomSeed);
      return { job, writer: makeCompletionWriter(job, context) };
    },
  };

  async function route(request: Request): Promise<Answer> {
    const { hostname, pathname } = new URL(request.url);
    if (options.isLoopbackOnly && !isLoopback(hostname)) {
      const message = 'Host: expected localhost, 127.0.0.1 or [::1], got another name';
      throw new ApiError(403, `${message}; r3 serve --host answers on other addresses`);
    }
    if (isStopping) throw new ApiError(503, 'the server is stopping', { headers: { connection: 'close' } });
    const make = makers[pathname];
    const modelPath = `/v1/models/${encodeURIComponent(model.name)}`;
    if (pathname === '/health') {
      checkMethod(request, 'GET');
      return answer({ status: 'ok' });
    }
    if (pathname === '/v1/models' || pathname === modelPath) {
      checkMethod(request, 'GET');
      checkKey(request, apiKey);
      return answer(pathname === modelPath ? described : { object: 'list', data: [described] });
    }
    if (make === undefined) {
      const known = ['/health', '/v1/models', ...Object.keys(makers)].join(', ');
      throw new ApiError(404, `path: expected one of ${known}`, { code: 'not_found' });
    }
    checkMethod(request, 'POST');
    checkKey(request, apiKey);
    checkType(request);

    if (underWay >= limits.maxRequests) {
      const message = `requests under way: expected at most ${limits.maxRequests}, got one more; try again later`;
      throw new ApiError(429, message, { headers: { 'retry-after': RETRY_SECONDS } });
    }
    underWay++;
    let ended: Promise<unknown> = Promise.resolve();
    try {
      const body = parseBody(await readBytes(request, limits.maxBodyBytes));
      checkModelName(body, model.name);
      const context = { id: options.newId(), created: Math.floor(now() / 1000), model };
      const { job, writer } = make(body, context);
      const answered = await (job.isStream ? stream : reply)(model, job, writer, request.signal);
      ended = answered.ended;
      return answered;
    } finally {
      void ended
        .catch(() => undefined)
        .then(() => {
          underWay--;
          if (underWay === 0) onIdle?.();
        });
    }
  }

  return {
    handle: async (request) => {
      const start = now();
      const entry = (status: number, usage?: Usage, error?: ApiError): void =>
        log({
          method: request.method,
          path: new URL(request.url).pathname,
          status,
          promptTokens: usage?.prompt_tokens ?? 0,
          completionTokens: usage?.completion_tokens ?? 0,
          seconds: (now() - start) / 1000,
          ...(error !== undefined && error.status >= 500 ? { error: messageOf(error.cause ?? error) } : {}),
        });
      const fail = (thrown: unknown): ApiError =>
        request.signal.aborted ? new ApiError(499, 'the client went away') : toApiError(thrown);
      try {
        const { response, ended } = await route(request);
        ended.then(
          (usage) => entry(response.status, usage),
          (thrown: unknown) => {
            const error = fail(thrown);
            entry(error.status, undefined, error);
          },
        );
        return response;
      } catch (thrown) {
        const error = fail(thrown);
        entry(error.status, undefined, error);
        return Response.json(errorBody(error), { status: error.status, headers: error.headers });
      }
    },
    stop: async () => {
      isStopping = true;
      if (underWay > 0) await new Promise<void>((resolve) => (onIdle = resolve));
    },
  };
}

function answer(body: object, usage?: Usage): Answer {
  return { response: Response.json(body), ended: Promise.resolve(usage) };
}

async function reply(model: ServedModel, job: Job, writer: Writer, signal: AbortSignal): Promise<Answer> {
  const written = await runJob(model, job, signal);
  const usage = usageOf(job, written);
  return answer(writer.whole(written, usage), usage);
}

/** Returns with the first token, so that what the engine refuses has a status of its own. */
async function stream(model: ServedModel, job: Job, writer: Writer, signal: AbortSignal): Promise<Answer> {
  const gone = new AbortController();
  const events = makeEventStream(() => gone.abort());
  const sendAll = (chunks: readonly object[]): void => chunks.forEach((chunk) => events.send(chunk));
  let hasBegun = false;
  let begin: () => void = () => undefined;
  const begun = new Promise<void>((resolve) => (begin = resolve));
  const open = (): void => {
    if (hasBegun) return;
    hasBegun = true;
    sendAll(writer.opening());
    begin();
  };

  const work = async (): Promise<Usage> => {
    const written = await runJob(model, job, AbortSignal.any([signal, gone.signal]), (choice, piece) => {
      open();
      sendAll(writer.piece(choice, piece));
    });
    open();
    written.forEach((one, choice) => sendAll(writer.closing(choice, one)));
    const usage = usageOf(job, written);
    if (job.includeUsage) events.send(writer.usage(usage));
    events.end();
    return usage;
  };
  const ended = work().catch((error: unknown) => {
    if (hasBegun) {
      events.send(errorBody(toApiError(error)));
      events.end();
    }
    throw error;
  });
  await Promise.race([begun, ended]);
  const headers = { 'content-type': 'text/event-stream; charset=utf-8', 'cache-control': 'no-cache' };
  return { response: new Response(events.body, { headers }), ended };
}

function checkMethod(request: Request, expected: string): void {
  if (request.method === expected) return;
  const message = `method: expected ${expected}, got ${request.method}`;
  throw new ApiError(405, message, { headers: { allow: expected } });
}

/** Compares digests, in a time that does not depend on how much of the key is right. */
function checkKey(request: Request, apiKey: string | undefined): void {
  if (apiKey === undefined) return;
  const digest = (text: string): Buffer => createHash('sha256').update(text).digest();
  const given = /^Bearer (.*)$/i.exec(request.headers.get('authorization') ?? '')?.[1] ?? '';
  if (timingSafeEqual(digest(given), digest(apiKey))) return;
  throw new ApiError(401, 'Authorization: expected the API key as a bearer token, got none or another', {
    code: 'invalid_api_key',
    headers: { 'www-authenticate': 'Bearer' },
  });
}

/** JSON only: a form or a plain text is what a page on the web may send here without asking the browser. */
function checkType(request: Request): void {
  const type = request.headers.get('content-type') ?? 'none';
  if (/^application\/json\s*(;|$)/i.test(type)) return;
  throw new ApiError(415, 'content-type: expected application/json, got another or none');
}

async function readBytes(request: Request, maxBytes: number): Promise<Uint8Array> {
  const tooLarge = (): ApiError =>
    new ApiError(413, `body: expected at most ${maxBytes} bytes, got more`, {
      code: 'body_too_large',
    });
  if (Number(request.headers.get('content-length') ?? 0) > maxBytes) throw tooLarge();
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of request.body ?? []) {
    size += chunk.length;
    if (size > maxBytes) throw tooLarge();
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

function parseBody(bytes: Uint8Array): Body {
  try {
    return parseJsonObject(decodeUtf8(bytes));
  } catch (cause) {
    throw new ApiError(400, `body: ${messageOf(cause)}`, { cause });
  }
}

function checkModelName(body: Body, name: string): void {
  const asked = readText(body, 'model') ?? name;
  if (asked === name) return;
  throw new ApiError(404, `model: expected ${JSON.stringify(name)}, the one that is served, got another`, {
    param: 'model',
    code: 'model_not_found',
  });
}
