/**
 * The reply of POST /v1/completions.
 *
 * `logprobs: 0` gives the text, the log-probability and the offset of each sampled token, the stop token included.
 * Texts go on where the prompt's ends, so that prompt and text put together are the whole.
 * `return_token_ids` adds prompt_token_ids and token_ids to each choice, as vLLM does; in a stream prompt_token_ids
 * come with a choice's first chunk.
 */
import { lastTokens } from '../text/stream.ts';
import type { Job } from './job.ts';
import { replyHead, type ReplyContext, type Writer } from './reply.ts';
import { tokenTexts } from './token-text.ts';

/** Where the next token's text begins, and the tokens before it. */
interface Place {
  offset: number;
  before: readonly number[];
}

export function makeCompletionWriter(job: Job, context: ReplyContext): Writer {
  const { tokenizer } = context.model;
  const head = (): object => replyHead('text_completion', { ...context, id: `cmpl-${context.id}`, job });
  const promptOf = (choice: number): readonly number[] =>
    job.prompts[Math.floor(choice / job.count)]?.tokens ?? [];
  const startOf = (choice: number): Place => ({
    offset: 0,
    before: lastTokens(tokenizer, promptOf(choice)),
  });
  /** Per choice of a stream. */
  const places = Array.from({ length: job.prompts.length * job.count }, (_, choice) => ({
    ...startOf(choice),
    isFirst: true,
  }));

  const scores = (tokens: readonly number[], logprobs: readonly number[], place: Place): object | null => {
    if (!job.logprobs) return null;
    const texts = tokenTexts(tokenizer, tokens, place.before);
    let end = place.offset;
    const offsets = texts.map((text) => (end += text.length) - text.length);
    place.offset = end;
    if (tokens.length > 0) place.before = tokens.slice(-1);
    return { tokens: texts, token_logprobs: logprobs, top_logprobs: null, text_offset: offsets };
  };
  const ids = (choice: number, tokens: readonly number[], withPrompt: boolean): object =>
    job.returnTokenIds
      ? { ...(withPrompt ? { prompt_token_ids: promptOf(choice) } : {}), token_ids: tokens }
      : {};
  const chunk = (choice: object): object => ({
    ...head(),
    ...(job.includeUsage ? { usage: null } : {}),
    choices: [choice],
  });

  return {
    whole: (written, usage) => ({
      ...head(),
      choices: written.map(({ text, tokens, logprobs, stopReason }, index) => ({
        index,
        text,
        logprobs: scores(tokens, logprobs, startOf(index)),
        finish_reason: stopReason,
        ...ids(index, tokens, true),
      })),
      usage,
    }),
    opening: () => [],
    piece: (index, { text, tokens, logprobs }) => {
      const place = places[index];
      if (place === undefined) return [];
      const isFirst = place.isFirst;
      place.isFirst = false;
      return [
        chunk({
          index,
          text,
          logprobs: scores(tokens, logprobs, place),
          finish_reason: null,
          ...ids(index, tokens, isFirst),
        }),
      ];
    },
    closing: (index, { stopReason }) => [
      chunk({ index, text: '', logprobs: null, finish_reason: stopReason, ...ids(index, [], false) }),
    ],
    usage: (usage) => ({ ...head(), choices: [], usage }),
  };
}
