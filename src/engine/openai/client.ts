/**
 * A client of POST /v1/chat/completions: messages in, answers with their token counts out. It samples and nothing else.
 *
 * A bounded number of requests is under way at a time, over connections that are kept alive. What fails for a cause that
 * may pass is sent again, a limited number of times with growing waits, or when the server asks for it. Any other
 * failure ends the requests beside it, which would meet the same, and is what every later call throws; but a
 * conversation that is too long, or that is withheld, concerns one request alone.
 *
 * Servers differ in two fields, found by asking: several answers come from one request with `n` where that is honoured,
 * else from single requests; `max_tokens` becomes `max_completion_tokens` where a server asks for it. Fields of sampling
 * that were not asked for are not sent: the server's own defaults then hold. The key is in a header and nowhere else.
 */
import { setMaxListeners } from 'node:events';
import { makeLimit } from '../../lib/concurrent.ts';
import { R3Error } from '../../lib/errors.ts';
import { isObject, parseJsonObject } from '../../lib/json.ts';
import { hash32 } from '../../lib/rng.ts';
import type { Message } from '../../text/message.ts';
import { systemClock } from '../clock.ts';
import { openHttp, type Exchange, type Reply } from '../http.ts';
import { readReply, type ChatAnswer, type ChatReply } from './answer.ts';
import { lossOf, refusalOf, type Failure, type Place } from './refusal.ts';

/** Sends after the first: with the waits between them, about four minutes. */
const MAX_RESENDS = 8;
const FIRST_WAIT_MS = 1000;
const LONGEST_WAIT_MS = 60_000;
/** A server that asks for more is not worth waiting for. */
const MOST_WAIT_MS = 10 * 60_000;
/** Of `n`: OpenAI's limit. */
const MAX_TOGETHER = 128;
/** Hashes to the draws of waits. */
const WAIT_STREAM = 0x40000030;

export interface ChatClientOptions {
  /** The address that `/chat/completions` is put after, as `parseServerUrl` gives it. */
  url: string;
  /** What the server calls the model. */
  model: string;
  apiKey?: string | undefined;
  /** Requests under way at a time. */
  concurrency: number;
  /** For one request, from sending it to the end of its answer. */
  timeoutMs: number;
  /** Ends every request and every wait; calls then throw R3Error `cancelled`. */
  signal: AbortSignal;
  /** Waits, or throws when the signal is raised. */
  wait(milliseconds: number, signal: AbortSignal): Promise<void>;
  /** Milliseconds since 1970. */
  now(): number;
  /** Told before a wait, for the person who watches. */
  onWait?: ((why: string, milliseconds: number) => void) | undefined;
}

export interface ChatRequest {
  messages: readonly Message[];
  /** How many answers, independent of each other. */
  count: number;
  /** Of each answer. */
  maxTokens: number;
  temperature: number;
  topK?: number | undefined;
  topP?: number | undefined;
  minP?: number | undefined;
  /** An unsigned 32-bit integer. Whether the same seed gives the same answer is the server's affair. */
  seed: number;
}

/** Counters since the client was opened. */
export interface ChatStats {
  /** Requests that were answered, and those that were sent again. */
  calls: number;
  resent: number;
  promptTokens: number;
  completionTokens: number;
}

export interface ChatClient {
  /**
   * What GET /models says of the model: its context, where the server tells it. A server without that endpoint says
   * nothing. Throws R3Error `no-access`, `no-network`, `cancelled`.
   */
  describe(): Promise<{ contextLength: number | undefined }>;
  /** Throws R3Error `too-long`, `no-access`, `not-found`, `no-network`, `bad-option`, `bad-shape`, `cancelled`. */
  complete(request: ChatRequest): Promise<ChatAnswer[]>;
  stats(): ChatStats;
  close(): void;
}

export function openChatClient(options: ChatClientOptions): ChatClient {
  const { url, model, apiKey, concurrency, timeoutMs, signal, wait, now, onWait } = options;
  const { origin, pathname } = new URL(url);
  const key = apiKey === undefined ? [] : ['authorization', `Bearer ${apiKey}`];
  const headers = ['accept', 'application/json', ...key];
  const http = openHttp({ origin, headers, secret: apiKey, clock: systemClock });
  const inTurn = makeLimit(concurrency);
  const stats: ChatStats = { calls: 0, resent: 0, promptTokens: 0, completionTokens: 0 };
  /** Raised by the first failure that the other requests would meet too. */
  const failed = new AbortController();
  const ended = AbortSignal.any([signal, failed.signal]);
  // Every wait listens; Node warns from eleven on.
  setMaxListeners(0, ended);
  let hasAnswered = false;
  let limitField: 'max_tokens' | 'max_completion_tokens' = 'max_tokens';
  let takesMany = true;

  const throwIfEnded = (): void => {
    if (signal.aborted) throw new R3Error('engine', 'cancelled', 'the requests were stopped');
    if (failed.signal.aborted) throw failed.signal.reason;
  };

  /** Sends until there is an answer, or a failure that does not pass. `attempt` throws what `lossOf` knows. */
  async function persist<T extends object>(
    attempt: () => Promise<T | Failure>,
    place: Place,
    seed: number,
  ): Promise<T | Failure> {
    for (let failures = 0; ; failures++) {
      throwIfEnded();
      let failure: Failure;
      try {
        const got = await attempt();
        if (!isFailure(got)) return got;
        failure = got;
      } catch (error) {
        throwIfEnded();
        failure = lossOf(error, place, hasAnswered);
      }
      const waitMs = failure.waitMs ?? Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** failures);
      if (!failure.mayPass || failures >= MAX_RESENDS || waitMs > MOST_WAIT_MS) return failure;
      stats.resent++;
      onWait?.(failure.error.message, waitMs);
      // Spread, so that requests that were refused together do not come back together.
      const spread = hash32(WAIT_STREAM, seed, failures) / 2 ** 32;
      await wait(waitMs + Math.min(waitMs, FIRST_WAIT_MS) * spread, ended).catch((error: unknown) => {
        throwIfEnded();
        throw error;
      });
    }
  }

  /** `path`: after the client's address. */
  const exchange = async (asked: Omit<Exchange, 'timeoutMs' | 'cancel'>): Promise<Reply> => {
    const path = pathname.replace(/\/+$/, '') + asked.path;
    const reply = await http.send({ ...asked, path, timeoutMs, cancel: [ended] });
    hasAnswered = true;
    return reply;
  };

  const address = `${url}/chat/completions`;
  const place = { address, model, apiKey };

  async function ask(request: ChatRequest, count: number, seed: number): Promise<ChatReply | Failure> {
    const { messages, maxTokens, temperature, topK, topP, minP } = request;
    const send = async (): Promise<ChatReply | Failure> => {
      const field = limitField;
      const body = JSON.stringify({
        model,
        messages: messages.map(wireMessage),
        [field]: maxTokens,
        temperature,
        ...(topP === undefined ? {} : { top_p: topP }),
        ...(topK === undefined ? {} : { top_k: topK }),
        ...(minP === undefined ? {} : { min_p: minP }),
        ...(count === 1 ? {} : { n: count }),
        // Servers read it into signed integers of 32 bits.
        seed: seed >>> 1,
      });
      const reply = await exchange({
        method: 'POST',
        path: '/chat/completions',
        headers: ['content-type', 'application/json'],
        body,
      });
      if (reply.status === 200) return readReply(textOf(reply), { count, maxTokens });
      const failure = refusalOf(reply, place, now());
      if (failure.wantsOtherLimit !== true || field !== 'max_tokens') return failure;
      limitField = 'max_completion_tokens';
      return send();
    };
    const got = await inTurn(() => persist(send, place, seed));
    if (!isFailure(got)) {
      stats.calls++;
      stats.promptTokens += got.promptTokens;
      stats.completionTokens += got.completionTokens;
    }
    return got;
  }

  async function askOne(request: ChatRequest, seed: number): Promise<ChatAnswer> {
    const got = await ask(request, 1, seed);
    if (!isFailure(got)) return got.answers[0] as ChatAnswer;
    if (got.filtered === true) return { text: '', stopReason: 'filtered', tokenCount: 0 };
    throw got.error;
  }

  async function complete(request: ChatRequest): Promise<ChatAnswer[]> {
    const { count, seed } = request;
    const answers: ChatAnswer[] = [];
    const together = Math.min(count, MAX_TOGETHER);
    if (together > 1 && takesMany) {
      const got = await ask(request, together, seed);
      if (!isFailure(got)) answers.push(...got.answers);
      // What is refused for another reason than `n` is refused again below, and then said.
      else if (got.error.code !== 'bad-option') throw got.error;
      takesMany = answers.length === together || (isFailure(got) && got.filtered === true);
    }
    const missing = Array.from({ length: count - answers.length }, (_, i) => answers.length + i);
    const singles = await Promise.all(
      missing.map((i) => askOne(request, i === 0 ? seed : hash32(seed, i, 0))),
    );
    return [...answers, ...singles];
  }

  return {
    describe: async () => {
      const where = { address: `${url}/models`, model, apiKey };
      const send = async (): Promise<Reply | Failure> => {
        const reply = await exchange({ method: 'GET', path: '/models', headers: [] });
        return reply.status === 200 ? reply : refusalOf(reply, where, now());
      };
      const got = await persist(send, where, 0);
      if (!isFailure(got)) return { contextLength: contextOf(textOf(got), model) };
      if (['no-access', 'no-network'].includes(got.error.code)) throw got.error;
      return { contextLength: undefined };
    },
    complete: async (request) => {
      try {
        return await complete(request);
      } catch (error) {
        if (!(error instanceof R3Error && ['too-long', 'cancelled'].includes(error.code)))
          failed.abort(error);
        throw error;
      }
    },
    stats: () => ({ ...stats }),
    close: http.close,
  };
}

function textOf({ body }: Reply): string {
  return body.toString('utf8');
}

function isFailure(got: object): got is Failure {
  return 'mayPass' in got;
}

/** As OpenAI has it: arguments of calls are a text. */
function wireMessage({ tool_calls: calls, ...message }: Message): object {
  if (calls === undefined) return message;
  return {
    ...message,
    tool_calls: calls.map(({ function: { name, arguments: given }, ...call }) => ({
      ...call,
      function: { name, arguments: typeof given === 'string' ? given : JSON.stringify(given) },
    })),
  };
}

/** `max_model_len` of the model's entry, as vLLM and r3 serve have it. */
function contextOf(text: string, model: string): number | undefined {
  let models: unknown;
  try {
    models = parseJsonObject(text)['data'];
  } catch {
    return undefined;
  }
  const entry: unknown = Array.isArray(models)
    ? models.find((each: unknown) => isObject(each) && each['id'] === model)
    : undefined;
  const length = isObject(entry) ? entry['max_model_len'] : undefined;
  return Number.isSafeInteger(length) && Number(length) > 0 ? Number(length) : undefined;
}
