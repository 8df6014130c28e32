/**
 * The reply of POST /v1/chat/completions.
 *
 * Where tools were given, whole and well-formed tool calls in the text become `tool_calls`; an answer that holds one
 * and came to its own end has finish_reason "tool_calls". Log-probabilities and token ids are one for each sampled
 * token, the stop token included; in a stream they come with the first chunk after they were sampled.
 * `return_token_ids` adds prompt_token_ids to the reply and token_ids to its choices, as vLLM does.
 */
import type { Written } from '../text/message.ts';
import type { ChatJob } from './chat-request.ts';
import type { Piece } from './job.ts';
import { replyHead, type ReplyContext, type Writer } from './reply.ts';
import { bytesOf, tokenTexts } from './token-text.ts';
import { makeToolCallReader, type ToolPart } from './tool-calls.ts';

export function makeChatWriter(job: ChatJob, context: ReplyContext): Writer {
  const { tokenizer } = context.model;
  const [prompt] = job.prompts;
  const promptIds = prompt?.tokens ?? [];
  const head = (kind: string): object => replyHead(kind, { ...context, id: `chatcmpl-${context.id}`, job });
  const chunk = (fields: object): object => ({
    ...head('chat.completion.chunk'),
    ...(job.includeUsage ? { usage: null } : {}),
    ...fields,
  });
  const promptTokens = job.returnTokenIds ? { prompt_token_ids: promptIds } : {};

  const scores = (tokens: readonly number[], logprobs: readonly number[], before: number): object | null => {
    if (!job.logprobs) return null;
    const texts = tokenTexts(tokenizer, tokens, [before]);
    return {
      content: texts.map((token, i) => ({
        token,
        logprob: logprobs[i],
        bytes: bytesOf(token),
        top_logprobs: [],
      })),
      refusal: null,
    };
  };
  const finishReason = (stopReason: Written['stopReason'], calls: number): string =>
    stopReason === 'stop' && calls > 0 ? 'tool_calls' : stopReason;
  const callId = (choice: number, index: number): string => `call_${context.id}_${choice}_${index}`;

  const choices = Array.from({ length: job.count }, () => ({
    reader: job.readsToolCalls ? makeToolCallReader() : undefined,
    calls: 0,
    /** Sampled since the last chunk. */
    tokens: [] as number[],
    logprobs: [] as number[],
    lastToken: promptIds.at(-1) ?? 0,
  }));
  type Choice = (typeof choices)[number];

  const choiceChunk = (index: number, choice: Choice, delta: object, finish: string | null): object => {
    const { tokens, logprobs, lastToken } = choice;
    choice.tokens = [];
    choice.logprobs = [];
    choice.lastToken = tokens.at(-1) ?? lastToken;
    const some = job.logprobs && tokens.length > 0;
    return chunk({
      choices: [
        {
          index,
          delta,
          logprobs: some ? scores(tokens, logprobs, lastToken) : null,
          finish_reason: finish,
          ...(job.returnTokenIds ? { token_ids: tokens } : {}),
        },
      ],
    });
  };
  const deltaOf = (part: ToolPart, index: number, choice: Choice): object => {
    if ('text' in part) return { content: part.text };
    const call = {
      index: choice.calls,
      id: callId(index, choice.calls),
      type: 'function',
      function: part.call,
    };
    choice.calls++;
    return { tool_calls: [call] };
  };
  const chunksOf = (index: number, choice: Choice, parts: readonly ToolPart[]): object[] =>
    parts.map((part) => choiceChunk(index, choice, deltaOf(part, index, choice), null));

  return {
    whole: (written, usage) => ({
      ...head('chat.completion'),
      ...promptTokens,
      choices: written.map(({ text, tokens, logprobs, stopReason }, index) => {
        const reader = job.readsToolCalls ? makeToolCallReader() : undefined;
        const parts = reader === undefined ? [{ text }] : [...reader.push(text), ...reader.end()];
        const content = parts.map((part) => ('text' in part ? part.text : '')).join('');
        const calls = parts.flatMap((part) => ('call' in part ? [part.call] : []));
        return {
          index,
          message: {
            role: 'assistant',
            content: calls.length > 0 && content === '' ? null : content,
            refusal: null,
            ...(calls.length === 0
              ? {}
              : {
                  tool_calls: calls.map((call, i) => ({
                    id: callId(index, i),
                    type: 'function',
                    function: call,
                  })),
                }),
          },
          logprobs: scores(tokens, logprobs, promptIds.at(-1) ?? 0),
          finish_reason: finishReason(stopReason, calls.length),
          ...(job.returnTokenIds ? { token_ids: tokens } : {}),
        };
      }),
      usage,
    }),

    opening: () =>
      choices.map((_, index) =>
        chunk({
          ...(index === 0 ? promptTokens : {}),
          choices: [
            { index, delta: { role: 'assistant', content: '' }, logprobs: null, finish_reason: null },
          ],
        }),
      ),
    piece: (index, { text, tokens, logprobs }: Piece) => {
      const choice = choices[index] as Choice;
      choice.tokens.push(...tokens);
      choice.logprobs.push(...logprobs);
      if (text === '') return [];
      return chunksOf(index, choice, choice.reader?.push(text) ?? [{ text }]);
    },
    closing: (index, { stopReason }) => {
      const choice = choices[index] as Choice;
      const rest = chunksOf(index, choice, choice.reader?.end() ?? []);
      return [...rest, choiceChunk(index, choice, {}, finishReason(stopReason, choice.calls))];
    },
    usage: (usage) => ({ ...head('chat.completion.chunk'), choices: [], usage }),
  };
}
