/**
 * Sampling with text on top of ids: stop strings, text as it appears, completions with their text.
 *
 * Each token of `Engine.sample` goes through a detokenizer and a stop matcher. A completion ends at the token
 * that completes a stop string. An engine stops at ids only, so it may sample on for the other completions
 * of the request; what it samples after a stop string is dropped, and when all have ended it is cancelled.
 * The result is a function of the sampled ids alone: it is the same whenever the cancellation arrives.
 */
import type { Completion, Engine, SamplingParams } from './engine/engine.ts';
import { assert } from './lib/errors.ts';
import type { Written } from './method/episode.ts';
import { lastTokens, makeDetokenizer, makeStopMatcher, type Detokenizer } from './text/stream.ts';
import type { Tokenizer } from './text/tokenizer.ts';

export interface GenerateOptions {
  params: SamplingParams;
  /** As in `SampleRequest`. */
  seed: number;
  count: number;
  stopStrings?: readonly string[];
  /** The text goes on where the prompt's ends, the space between them included; else it stands on its own. */
  continuesPrompt?: boolean;
  /** Called with each piece of text as soon as it is certain; `index` is the completion's place. */
  onText?: (index: number, text: string) => void;
  /** Called with each token of the completion as it is sampled, before the text that it makes certain. */
  onToken?: (index: number, token: number, logprob: number) => void;
  signal?: AbortSignal;
}

/**
 * `count` completions of a prompt. The text is without the stop token, and ends before a stop string; the
 * tokens and log-probabilities go up to the token that completed it, and the stop reason is then 'stop'.
 * Throws what `Engine.sample` throws, and R3Error `bad-option` for an empty stop string.
 */
export async function generateText(
  engine: Engine,
  tokenizer: Tokenizer,
  prompt: readonly number[],
  options: GenerateOptions,
): Promise<Written[]> {
  const { params, seed, count, stopStrings = [], continuesPrompt = false, onText, onToken, signal } = options;
  const before = continuesPrompt ? lastTokens(tokenizer, prompt) : [];
  const readers = Array.from({ length: count }, (_, index) =>
    makeReader(makeDetokenizer(tokenizer, before), params, stopStrings, {
      onText: (text) => onText?.(index, text),
      onToken: (token, logprob) => onToken?.(index, token, logprob),
    }),
  );

  // A message per token costs more than a token of a small model.
  const streams = stopStrings.length > 0 || onText !== undefined || onToken !== undefined;
  const allEnded = new AbortController();
  const completions = await engine.sample({
    prompt,
    count,
    params,
    seed,
    ...(streams
      ? {
          signal: signal ? AbortSignal.any([signal, allEnded.signal]) : allEnded.signal,
          onToken: (index, token, logprob) => {
            readers[index]?.push(token, logprob);
            if (readers.every((reader) => reader.ended())) allEnded.abort();
          },
        }
      : signal
        ? { signal }
        : {}),
  });
  return readers.map((reader, index) => {
    const completion = completions[index];
    assert(completion, `the engine gave ${completions.length} of ${count} completions`);
    return reader.finish(completion);
  });
}

/** Follows one completion. */
interface Reader {
  push(token: number, logprob: number): void;
  /** Nothing that follows belongs to the completion. */
  ended(): boolean;
  finish(completion: Completion): Written;
}

function makeReader(
  detokenizer: Detokenizer,
  params: SamplingParams,
  stopStrings: readonly string[],
  { onText, onToken }: { onText: (text: string) => void; onToken: (token: number, logprob: number) => void },
): Reader {
  const matcher = makeStopMatcher(stopStrings);
  let text = '';
  let length = 0;
  let stopToken = false;
  let stopString = false;

  const give = (piece: string): void => {
    if (piece === '') return;
    text += piece;
    onText(piece);
  };
  const match = (piece: string): void => {
    const found = matcher.push(piece);
    give(found.text);
    stopString = found.stopped;
  };
  const ended = (): boolean => stopString || stopToken || length >= params.maxTokens;
  const push = (token: number, logprob: number): void => {
    if (ended()) return;
    length++;
    onToken(token, logprob);
    stopToken = params.stopIds.includes(token);
    if (!stopToken) match(detokenizer.push(token));
  };

  return {
    push,
    ended,
    finish: ({ tokens, logprobs, stopReason }) => {
      // An engine that does not stream gives its tokens only here.
      const known = length;
      for (const [i, token] of tokens.entries()) if (i >= known) push(token, logprobs[i] as number);
      if (!stopString) match(detokenizer.end());
      give(matcher.end());
      const reason = stopString || stopToken ? 'stop' : length >= params.maxTokens ? 'length' : stopReason;
      return {
        tokens: tokens.slice(0, length),
        logprobs: logprobs.slice(0, length),
        text,
        stopReason: reason,
      };
    },
  };
}
