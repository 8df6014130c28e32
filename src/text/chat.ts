/**
 * The chat format of a model: messages to token ids, and a conversation that goes on after a completion.
 *
 * Ids that were sampled are never tokenized again. To go on, the whole conversation is rendered as text; the
 * part that is already there must be its start; only the text after the completion is encoded and appended.
 * A template for which this does not hold (it drops earlier thinking, or moves a system message) shows the
 * model another past than the one it was sampled from: that is an error, never repaired in silence.
 */
import { R3Error } from '../lib/errors.ts';
import { PROBE, textBetween, tryContinue } from './continuation.ts';
import { trimStart } from './jinja/white-space.ts';
import { loadChatTemplate } from './load-template.ts';
import type { Message, PromptOptions, Written } from './message.ts';
import type { ChatTemplate } from './template.ts';
import type { Tokenizer } from './tokenizer.ts';

/** Messages, their rendering, and the ids that stand for them up to and with the header of the turn to be sampled. */
export interface Conversation {
  messages: Message[];
  text: string;
  tokens: number[];
  /** What it was begun with. */
  options?: PromptOptions;
}

export interface ChatFormat {
  /** As text, up to and with the header of the assistant's turn. Throws R3Error `bad-template`. */
  render(messages: readonly Message[], options?: PromptOptions): string;
  /** The same as ids. */
  prompt(messages: readonly Message[], options?: PromptOptions): number[];
  /** A conversation that begins with these messages. */
  begin(messages: readonly Message[], options?: PromptOptions): Conversation;
  /**
   * The conversation after a completion and the messages that follow it, ready for the next completion:
   * the previous ids, the sampled ids, then what the template writes between. The end of turn is added where
   * it was not sampled. Throws R3Error `bad-template` when the template is not prefix-preserving here.
   */
  extend(
    previous: Conversation,
    completion: Omit<Written, 'logprobs'>,
    next: readonly Message[],
  ): Conversation;
  /** The tokenizer's end-of-turn ids, and the special token that this template writes after an answer. */
  stopIds: number[];
}

/**
 * With the template of the directory (`loadChatTemplate`). `now` is what templates that print a date see, in UTC.
 * Throws R3Error `bad-template` when there is none or it cannot be parsed.
 */
export function loadChatFormat(directory: string, tokenizer: Tokenizer, now: Date = new Date()): ChatFormat {
  return makeChatFormat(loadChatTemplate(directory), tokenizer, now);
}

/** Messages up to and with the header of the assistant's turn. */
export function renderPrompt(template: ChatTemplate, now: Date): ChatFormat['render'] {
  return (messages, options = {}) =>
    template.render({
      messages: messages.map((message) => ({ ...message })),
      tools: options.tools ?? null,
      addGenerationPrompt: true,
      variables: options.variables ?? {},
      now,
    }).text;
}

export function makeChatFormat(template: ChatTemplate, tokenizer: Tokenizer, now: Date): ChatFormat {
  const render = renderPrompt(template, now);
  const probe = tryContinue(render, PROBE.slice(0, 1), PROBE[1].content, PROBE.slice(2, 3));
  const afterAnswer = probe.ok ? tokenizer.encode(trimStart(probe.text))[0] : undefined;
  const endOfTurn = afterAnswer !== undefined && tokenizer.specialIds.has(afterAnswer) ? [afterAnswer] : [];

  return {
    render,
    prompt: (messages, options) => tokenizer.encode(render(messages, options)),
    begin: (messages, options) => {
      const text = render(messages, options);
      const begun = { messages: [...messages], text, tokens: tokenizer.encode(text) };
      return options === undefined ? begun : { ...begun, options };
    },
    extend: (previous, completion, next) => {
      const messages: Message[] = [
        ...previous.messages,
        { role: 'assistant', content: completion.text },
        ...next,
      ];
      const text = render(messages, previous.options);
      const between = textBetween(previous.text, text, completion.text);
      if (!between.ok) throw new R3Error('text', 'bad-template', between.why);
      return {
        ...previous,
        messages,
        text,
        tokens: [
          ...previous.tokens,
          ...completion.tokens,
          ...encodeBetween(tokenizer, completion.tokens, between.text),
        ],
      };
    },
    stopIds: [...new Set([...tokenizer.eosIds, ...endOfTurn])],
  };
}

/**
 * The text between a completion and the next one, without the end of turn when the completion has it. It is
 * encoded with the end of turn before it, because some tokens swallow the white space that follows them.
 */
function encodeBetween(tokenizer: Tokenizer, sampled: readonly number[], text: string): number[] {
  const last = sampled.at(-1);
  if (last !== undefined && tokenizer.specialIds.has(last)) {
    const ids = tokenizer.encode(trimStart(text));
    if (ids[0] === last) return ids.slice(1);
  }
  return tokenizer.encode(text);
}
