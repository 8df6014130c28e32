/**
 * Samplers: completions and prompt log-probabilities of weights that stay as they were when the sampler was made.
 *
 * At most so many samples are under way at once, and at most so many requests and bytes on their way to the service; the
 * rest waits in order. A service that answers 429 is given a pause, and for ten seconds only a few requests at a time. A
 * result that the service lost (410) is asked for anew, under a new sequence id: a sample that nobody saw does no harm.
 *
 * Wire facts: POST asample {num_samples, prompt: {chunks}, sampling_params, sampling_session_id, seq_id, prompt_logprobs?,
 * type: sample} answers {request_id}; sequence ids count per sampler, from 0; the stop token is the last of a
 * completion's tokens; log-probabilities are those at temperature 1. prompt_logprobs has one entry per token of the prompt, the first null; some
 * services leave that one out. Pauses after 429: 1 s, or 5 s where the request is larger than 128 KiB; for 10 s bytes count
 * twenty times and ten requests run at once, as in the official SDK.
 */
import { R3Error } from '../../lib/errors.ts';
import type { TokenIds } from '../engine.ts';
import { makeBudget } from './budget.ts';
import type { Wire } from './client.ts';
import type { Cancel } from '../clock.ts';
import { call, type Call } from './context.ts';
import { badAnswer, errorOfReply } from './errors.ts';
import { requestIdOf, retrieve, type Decode } from './futures.ts';
import { writeJson } from './json.ts';
import { sampleOfJson } from './json-messages.ts';
import { decodeSampleResponse, type SampledSequence, type SampleResponse } from './messages.ts';

export interface SampleOptions {
  prompt: TokenIds;
  /** Completions of this prompt, in one request. */
  count: number;
  maxTokens: number;
  temperature: number;
  topK?: number | undefined;
  topP?: number | undefined;
  /** Up to 64 bits. */
  seed?: number | bigint | undefined;
  stopIds?: readonly number[] | undefined;
  promptLogprobs?: boolean | undefined;
  signal?: AbortSignal | undefined;
}

export interface SampleResult {
  /** `count` of them. Log-probabilities are null where the service gives none. */
  sequences: SampledSequence[];
  /** As long as the prompt, the first null. Null where they were not asked for. */
  promptLogprobs: (number | null)[] | null;
}

export interface Sampler {
  readonly samplerId: string;
  sample(options: SampleOptions): Promise<SampleResult>;
}

const PAUSE_MS = 1000;
const LONG_PAUSE_MS = 5000;
const LARGE_BYTES = 128 * 1024;
const CAUTION_MS = 10_000;
const CAUTIOUS_DISPATCHES = 10;
const CAUTIOUS_FACTOR = 20;
const HEADERS = ['x-tinker-sampling-backpressure', '1'];

/** What makes samplers of one client, which share its limits. */
export function makeSamplers(wire: Wire): (samplerId: string) => Sampler {
  const { context, session, room } = wire;
  const { clock, limits } = context;
  let cautiousUntil = -Infinity;
  const isCautious = (): boolean => clock.now() < cautiousUntil;
  const flights = makeBudget(() => limits.maxInFlight);
  const dispatches = makeBudget(() => (isCautious() ? CAUTIOUS_DISPATCHES : limits.maxDispatches));
  const bytes = makeBudget(() => session.config.dispatchBytes);
  const decode: Decode<SampleResponse> = {
    json: sampleOfJson,
    ...(session.dialect === 'protobuf' ? { protobuf: decodeSampleResponse } : {}),
  };

  /** Sends one request, as often as the service says 429; its request id. */
  const dispatch = async (body: string, cancel: Cancel): Promise<string> => {
    const deadline = clock.now() + limits.operationMs;
    const asked: Call = {
      what: 'asample',
      missing: 'expired',
      method: 'POST',
      path: 'asample',
      body,
      headers: HEADERS,
      accepted: [429],
      cancel,
    };
    for (;;) {
      const freeDispatch = await dispatches.take(1, cancel);
      try {
        const freeBytes = await bytes.take(body.length * (isCautious() ? CAUTIOUS_FACTOR : 1), cancel);
        try {
          const reply = await call(context, asked);
          if (reply.status !== 429) return requestIdOf('asample', reply);
          if (clock.now() > deadline) throw errorOfReply(asked, reply, context.redact);
        } finally {
          freeBytes();
        }
      } finally {
        freeDispatch();
      }
      context.counts.resent += 1;
      context.notice('busy', 'the service asks for fewer requests at a time (429): samples wait');
      cautiousUntil = clock.now() + CAUTION_MS;
      await clock.sleep(body.length > LARGE_BYTES ? LONG_PAUSE_MS : PAUSE_MS, cancel);
    }
  };

  return (samplerId) => {
    let nextSeq = 0;
    return {
      samplerId,
      sample: async (options) => {
        const { signal } = options;
        const cancel = signal === undefined ? [context.ended] : [context.ended, signal];
        const land = await flights.take(1, cancel);
        try {
          for (let resubmits = 0; ; resubmits++) {
            const requestId = await dispatch(bodyOf(options, samplerId, nextSeq++), cancel);
            try {
              const asked = { what: 'asample', requestId, decode, room, cancel };
              return checked(options, await retrieve(context, asked));
            } catch (error) {
              const isLost = error instanceof R3Error && error.code === 'expired';
              if (!isLost || context.ended.aborted || resubmits >= limits.maxResubmits) throw error;
              context.counts.resent += 1;
            }
          }
        } finally {
          land();
        }
      },
    };
  };
}

function bodyOf(options: SampleOptions, samplerId: string, seqId: number): string {
  const { prompt, count, maxTokens, temperature, topK = -1, topP = 1, seed, stopIds = [] } = options;
  if (!prompt.every((token) => Number.isSafeInteger(token) && token >= 0)) {
    throw new R3Error('engine', 'bad-option', 'prompt: expected token ids, got another number');
  }
  const params = writeJson({
    max_tokens: maxTokens,
    seed,
    stop: stopIds.length === 0 ? undefined : stopIds,
    temperature,
    top_k: topK,
    top_p: topP,
  });
  // By hand, since this is most of the work of a call.
  const start = `{"num_samples":${count},"prompt":{"chunks":[{"type":"encoded_text","tokens":${JSON.stringify(prompt)}}]}`;
  const scores = options.promptLogprobs === true ? ',"prompt_logprobs":true' : '';
  const session = JSON.stringify(samplerId);
  return `${start},"sampling_params":${params},"sampling_session_id":${session},"seq_id":${seqId}${scores},"type":"sample"}`;
}

/** The response, when it is one to this request. */
function checked(options: SampleOptions, response: SampleResponse): SampleResult {
  const { sequences } = response;
  const { prompt, count } = options;
  const what = 'result of asample';
  if (sequences.length !== count) throw badAnswer(what, `${count} completions`, String(sequences.length));
  for (const { tokens, logprobs } of sequences) {
    if (tokens.length > options.maxTokens) {
      throw badAnswer(what, `at most ${options.maxTokens} tokens`, String(tokens.length));
    }
    if (logprobs !== null && logprobs.length !== tokens.length) {
      throw badAnswer(what, `${tokens.length} log-probabilities`, String(logprobs.length));
    }
  }
  if (options.promptLogprobs !== true) return { sequences, promptLogprobs: null };
  const scores = response.promptLogprobs;
  if (scores?.length === prompt.length) return { sequences, promptLogprobs: scores };
  if (scores?.length === prompt.length - 1) return { sequences, promptLogprobs: [null, ...scores] };
  const got = scores === null ? 'none' : String(scores.length);
  throw badAnswer(what, `${prompt.length} log-probabilities of the prompt`, got);
}
