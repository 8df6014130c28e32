/**
 * The body of a chat completion: the answers in it, how each ended, and how many tokens the server counted.
 *
 * Every field that is read is checked. `usage` is required: costs and the attempts at equal tokens are counted with it.
 * An answer of several choices has one count for all of them; each choice gets an equal share of it, so that sums are
 * exact. Thinking that a server keeps apart from the answer is in the count and not in the text.
 */
import { isObject, parseJsonObject, showValue } from '../../lib/json.ts';
import { messageOf, R3Error } from '../../lib/errors.ts';

export interface ChatAnswer {
  text: string;
  /** `filtered`: the server withheld the rest of it. */
  stopReason: 'stop' | 'length' | 'filtered';
  tokenCount: number;
}

export interface ChatReply {
  answers: ChatAnswer[];
  promptTokens: number;
  completionTokens: number;
}

/** An answer that is none: it may be whole when it is asked for again. */
export class Unreadable extends Error {}

/** `asked`: what it must keep to. Throws Unreadable, and R3Error `bad-shape` where the server does not count tokens or does not limit them. */
export function readReply(text: string, asked: { count: number; maxTokens: number }): ChatReply {
  const body = parseBody(text);
  const choices = body['choices'];
  if (!Array.isArray(choices) || choices.length === 0)
    throw new Unreadable(`choices: expected a list of at least one, got ${showValue(choices)}`);
  const read = choices.slice(0, asked.count).map(readChoice);
  const { prompt, completion } = readUsage(
    body['usage'],
    read.some((choice) => choice.text !== ''),
  );
  const most = asked.maxTokens * choices.length;
  if (completion > most) {
    throw new R3Error(
      'engine',
      'bad-shape',
      `usage.completion_tokens: expected at most ${most}, the limit that was asked for, got ${completion}; the server does not keep to max_tokens, or counts what it does not limit`,
    );
  }
  return {
    answers: read.map((choice, i) => ({ ...choice, tokenCount: shareOf(completion, choices.length, i) })),
    promptTokens: prompt,
    completionTokens: completion,
  };
}

/** Equal shares in whole numbers that add up to the total. */
function shareOf(total: number, count: number, index: number): number {
  return Math.floor(total / count) + (index < total % count ? 1 : 0);
}

function parseBody(text: string): Record<string, unknown> {
  try {
    return parseJsonObject(text);
  } catch (error) {
    throw new Unreadable(messageOf(error));
  }
}

function readChoice(choice: unknown, i: number): Omit<ChatAnswer, 'tokenCount'> {
  const where = `choices[${i}]`;
  if (!isObject(choice)) throw new Unreadable(`${where}: expected an object, got ${showValue(choice)}`);
  const { message, finish_reason: finish } = choice;
  if (!isObject(message))
    throw new Unreadable(`${where}.message: expected an object, got ${showValue(message)}`);
  // A refusal is what the model said. Thinking that was cut off leaves no content.
  const content = message['content'] ?? message['refusal'] ?? '';
  if (typeof content !== 'string')
    throw new Unreadable(`${where}.message.content: expected a text, got ${showValue(content)}`);
  return { text: content, stopReason: readFinish(finish, where) };
}

function readFinish(finish: unknown, where: string): ChatAnswer['stopReason'] {
  switch (finish) {
    case 'stop':
    case 'tool_calls':
      return 'stop';
    case 'length':
      return 'length';
    case 'content_filter':
      return 'filtered';
    default:
      throw new Unreadable(
        `${where}.finish_reason: expected "stop", "length", "tool_calls" or "content_filter", got ${showValue(finish)}`,
      );
  }
}

function readUsage(usage: unknown, hasText: boolean): { prompt: number; completion: number } {
  const refuse = (what: string, got: unknown): R3Error =>
    new R3Error(
      'engine',
      'bad-shape',
      `${what}, got ${showValue(got)}; costs and attempts at equal tokens are counted with it: have the server report usage`,
    );
  if (!isObject(usage)) throw refuse('usage: expected the counts of tokens', usage);
  const { prompt_tokens: prompt, completion_tokens: completion } = usage;
  if (!isCount(prompt)) throw refuse('usage.prompt_tokens: expected a count', prompt);
  if (!isCount(completion) || (completion === 0 && hasText))
    throw refuse('usage.completion_tokens: expected the count of what was written', completion);
  return { prompt, completion };
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && Number(value) >= 0;
}
