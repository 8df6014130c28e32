/**
 * The reply of POST /v1/completions.
 *
 * `logprobs: 0` gives the text, the log-probability and the offset of each sampled token, the stop token included.
 * `return_token_ids` adds prompt_token_ids and token_ids to each choice, as vLLM does; in a stream prompt_token_ids
 * come with a choice's first chunk.
 */
import type { Job } from './job.ts';
import { replyHead, type ReplyContext, type Writer } from './reply.ts';
import { tokenTexts } from './token-text.ts';

export function makeCompletionWriter(job: Job, context: ReplyContext): Writer {
  const { tokenizer } = context.model;
  const head = (): object => replyHead('text_completion', { ...context, id: `cmpl-${context.id}`, job });
  const promptOf = (choice: number): readonly number[] =>
    job.prompts[Math.floor(choice / job.count)]?.tokens ?? [];
  /** Per choice of a stream: where its next token's text begins, and the token before it. */
  const places = Array.from({ length: job.prompts.length * job.count }, (_, choice) => ({
    offset: 0,
    lastToken: promptOf(choice).at(-1) ?? 0,
    isFirst: true,
  }));

  const scores = (
    tokens: readonly number[],
    logprobs: readonly number[],
    place: { offset: number; lastToken: number },
  ): object | null => {
    if (!job.logprobs) return null;
    const texts = tokenTexts(tokenizer, tokens, place.lastToken);
    let end = place.offset;
    const offsets = texts.map((text) => (end += text.length) - text.length);
    place.offset = end;
    place.lastToken = tokens.at(-1) ?? place.lastToken;
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
        logprobs: scores(tokens, logprobs, { offset: 0, lastToken: promptOf(index).at(-1) ?? 0 }),
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
