/**
 * The chat format of a model: messages to token ids, and a conversation that goes on after a completion.
 *
 * Ids that were sampled are never tokenized again. To go on, the whole conversation is rendered as text; the
 * part that is already there must be its start; only the text after the completion is encoded and appended.
 * A template for which this does not hold (it drops earlier thinking, or moves a system message) shows the
 * model another past than the one it was sampled from: that is an error, never repaired in silence.
 *
 * Templates are Jinja, rendered by @huggingface/jinja with the variables that transformers gives.
 */
import { Template } from '@huggingface/jinja';
import { R3Error, messageOf } from '../lib/errors.ts';
import { showValue } from '../lib/json.ts';
import type { Message, Written } from './message.ts';
import { isObject, readJson, readSpecialTokens, readText } from './model-files.ts';
import type { Tokenizer } from './tokenizer.ts';

/** Messages, their rendering, and the ids that stand for them up to and with the header of the turn to be sampled. */
export interface Conversation {
  messages: Message[];
  text: string;
  tokens: number[];
}

export interface ChatFormat {
  /** As text, up to and with the header of the assistant's turn. Throws R3Error `bad-template`. */
  render(messages: readonly Message[]): string;
  /** The same as ids. */
  prompt(messages: readonly Message[]): number[];
  /** A conversation that begins with these messages. */
  begin(messages: readonly Message[]): Conversation;
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
 * From chat_template.jinja, else from `chat_template` in tokenizer_config.json (of several, the one named
 * "default"). `now` is what templates that print a date see, in UTC.
 * Throws R3Error `bad-template` when there is none or it cannot be parsed.
 */
export function loadChatFormat(directory: string, tokenizer: Tokenizer, now: Date = new Date()): ChatFormat {
  const { path, source } = readTemplate(directory);
  return makeChatFormat(source, readSpecialTokens(directory), tokenizer, now, `${path}: chat template`);
}

/** `variables`: what the template sees beside the messages, such as bos_token. `name`: what errors call it. */
export function makeChatFormat(
  source: string,
  variables: Record<string, string>,
  tokenizer: Tokenizer,
  now: Date,
  name = 'chat template',
): ChatFormat {
  const template = parseTemplate(source, name);
  const render = (messages: readonly Message[]): string => {
    try {
      return template.render({
        messages,
        tools: null,
        documents: null,
        add_generation_prompt: true,
        ...variables,
        given_strftime_now: (format: string) => formatTime(now, format),
      });
    } catch (cause) {
      const roles = messages.map((message) => message.role).join(', ');
      const why = `${name}: expected it to render the roles ${roles}, got: ${messageOf(cause)}`;
      throw new R3Error('text', 'bad-template', why, { cause });
    }
  };

  const probe = tryContinue(render, PROBE.slice(0, 1), PROBE[1].content, PROBE.slice(2, 3));
  const afterAnswer = probe.ok ? tokenizer.encode(probe.text.trimStart())[0] : undefined;
  const endOfTurn = afterAnswer !== undefined && tokenizer.specialIds.has(afterAnswer) ? [afterAnswer] : [];

  return {
    render,
    prompt: (messages) => tokenizer.encode(render(messages)),
    begin: (messages) => {
      const text = render(messages);
      return { messages: [...messages], text, tokens: tokenizer.encode(text) };
    },
    extend: (previous, completion, next) => {
      const messages: Message[] = [
        ...previous.messages,
        { role: 'assistant', content: completion.text },
        ...next,
      ];
      const text = render(messages);
      const between = textBetween(previous.text, text, completion.text);
      if (!between.ok) throw new R3Error('text', 'bad-template', between.why);
      return {
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
    const ids = tokenizer.encode(text.trimStart());
    if (ids[0] === last) return ids.slice(1);
  }
  return tokenizer.encode(text);
}

type Continued = { ok: true; text: string } | { ok: false; why: string };

/** What the template writes after an answer: from its end of turn to the header of the next answer. */
function tryContinue(
  render: (messages: readonly Message[]) => string,
  before: readonly Message[],
  answer: string,
  next: readonly Message[],
): Continued {
  let shorter: string;
  let longer: string;
  try {
    shorter = render(before);
    longer = render([...before, { role: 'assistant', content: answer }, ...next]);
  } catch (error) {
    if (error instanceof R3Error) return { ok: false, why: error.message };
    throw error;
  }
  return textBetween(shorter, longer, answer);
}

/** The part of the longer rendering that follows the shorter one and the answer. */
function textBetween(shorter: string, longer: string, answer: string): Continued {
  if (!longer.startsWith(shorter)) return parting('the conversation so far', shorter, longer, 0);

  const rest = longer.slice(shorter.length);
  if (rest.startsWith(answer)) return { ok: true, text: rest.slice(answer.length) };
  // Many templates trim the answer. The ids that were sampled stay as they are.
  const trimmed = answer.trim();
  const start = rest.length - rest.trimStart().length;
  if (rest.startsWith(trimmed, start)) return { ok: true, text: rest.slice(start + trimmed.length) };
  return parting('the answer as it was sampled', trimmed, rest.slice(start), shorter.length + start);
}

/** Says where two renderings part. `offset`: where both begin in the longer rendering. */
function parting(what: string, expected: string, got: string, offset: number): Continued {
  let at = 0;
  while (at < expected.length && expected[at] === got[at]) at++;
  const show = (text: string): string => JSON.stringify(text.slice(Math.max(0, at - 20), at + 30));
  const why =
    `chat template: expected ${what} to stay as it is when messages are added, got a difference at character ` +
    `${offset + at}: ${show(expected)} became ${show(got)}. The template is not prefix-preserving: ` +
    'put one that keeps earlier turns unchanged into chat_template.jinja of the model directory.';
  return { ok: false, why };
}

export interface TemplateCheck {
  /** Holds for plain answers: user, assistant, user, assistant, user, and the answer to be sampled. */
  prefixPreserving: boolean;
  /** It holds with a system message first, too, and the template shows that message. */
  takesSystem: boolean;
  /** It holds for answers with a <think> block. All that matters for a model that always writes one. */
  keepsThinking: boolean;
  /** One sentence for each that does not hold; says where the renderings part. */
  detail: string;
}

const SYSTEM: Message = { role: 'system', content: 'The standing order.' };
const PROBE = [
  { role: 'user', content: 'The first question?' },
  { role: 'assistant', content: 'The first answer.' },
  { role: 'user', content: 'The second question?' },
  { role: 'assistant', content: 'The second answer.' },
  { role: 'user', content: 'The third question?' },
] as const satisfies Message[];

/** Tries the order of turns of the method on fixed messages. For the audit before any weight moves. */
export function checkTemplate(format: ChatFormat): TemplateCheck {
  const plain = whyNot(format, PROBE);
  const system = whyNot(format, [SYSTEM, ...PROBE]);
  const thinking = whyNot(format, withThinking(format));
  const sentences = [
    plain && `Plain answers: ${plain}`,
    system && `With a system message: ${system}`,
    thinking && `Answers with a <think> block: ${thinking}`,
  ];
  return {
    prefixPreserving: plain === undefined,
    takesSystem: system === undefined,
    keepsThinking: thinking === undefined,
    detail: sentences.filter((sentence) => sentence !== undefined).join('\n'),
  };
}

/** Why a conversation cannot be sampled answer by answer; undefined when it can. */
function whyNot(format: ChatFormat, messages: readonly Message[]): string | undefined {
  for (const [i, message] of messages.entries()) {
    if (message.role !== 'assistant') continue;
    const before = messages.slice(0, i);
    const next = messages.slice(i + 1, i + 2);
    const between = tryContinue((shown) => format.render(shown), before, message.content, next);
    if (!between.ok) return between.why;
    const rendering = format.render([...before, message, ...next]);
    const lost = [...before, ...next].find(
      ({ role, content }) => role !== 'assistant' && !rendering.includes(content),
    );
    if (lost)
      return `chat template: expected the ${lost.role} message to be shown, got a rendering without it.`;
  }
  return undefined;
}

/** The probe with a <think> block in each answer; some templates open the block in the answer's header. */
function withThinking(format: ChatFormat): Message[] {
  const thought = opensThinking(format) ? 'Well.\n</think>\n\n' : '<think>\nWell.\n</think>\n\n';
  return PROBE.map((message) =>
    message.role === 'assistant' ? { ...message, content: thought + message.content } : message,
  );
}

function opensThinking(format: ChatFormat): boolean {
  try {
    return format.render(PROBE.slice(0, 1)).trimEnd().endsWith('<think>');
  } catch (error) {
    // A template that renders nothing fails the other checks, with its reason.
    if (error instanceof R3Error) return false;
    throw error;
  }
}

function readTemplate(directory: string): { path: string; source: string } {
  const file = readText(directory, 'chat_template.jinja');
  if (file !== undefined) return { path: `${directory}/chat_template.jinja`, source: file };
  const path = `${directory}/tokenizer_config.json`;
  const value = readJson(directory, 'tokenizer_config.json')?.['chat_template'] ?? undefined;
  if (typeof value === 'string') return { path, source: value };
  if (Array.isArray(value)) {
    const named = value.filter(isObject);
    const source = named.find(({ name }) => name === 'default')?.['template'];
    if (typeof source === 'string') return { path, source };
    const names = named.map(({ name }) => String(name)).join(', ') || 'none';
    const why = `${path}: chat_template: expected one that is named "default", got ${names}`;
    throw new R3Error('text', 'bad-template', why);
  }
  if (value !== undefined) {
    const why = `${path}: chat_template: expected a text or a list of named ones, got ${showValue(value)}`;
    throw new R3Error('text', 'bad-template', why);
  }
  throw new R3Error(
    'text',
    'bad-template',
    `chat template: expected chat_template.jinja, or chat_template in tokenizer_config.json, in ${directory}, got ` +
      'neither. Base models have none: take the instruct model, or put a template into chat_template.jinja.',
  );
}

function parseTemplate(source: string, name: string): Template {
  const fail = (got: string, cause?: unknown): R3Error =>
    new R3Error(
      'text',
      'bad-template',
      `${name}: expected Jinja that @huggingface/jinja can parse, got ${got}. Correct it, or copy or download it again.`,
      { cause },
    );
  if (source.trim() === '') throw fail('an empty text');
  try {
    // The library's strftime_now reads the clock. This line puts ours in its place; its line end is trimmed.
    // Line ends become \n, as in Jinja2.
    return new Template(`{% set strftime_now = given_strftime_now %}\n${source.replace(/\r\n?/g, '\n')}`);
  } catch (cause) {
    // At the end of the text the parser reads a token that is not there.
    throw fail(cause instanceof TypeError ? 'a block that does not end' : messageOf(cause), cause);
  }
}

const pad = (value: number): string => String(value).padStart(2, '0');

/** Python's strftime for the directives that chat templates use, in English and UTC. */
function formatTime(date: Date, format: string): string {
  const word = (options: Intl.DateTimeFormatOptions): string =>
    new Intl.DateTimeFormat('en-US', { ...options, timeZone: 'UTC' }).format(date);
  const directives: Record<string, string> = {
    '%Y': String(date.getUTCFullYear()),
    '%m': pad(date.getUTCMonth() + 1),
    '%d': pad(date.getUTCDate()),
    '%H': pad(date.getUTCHours()),
    '%M': pad(date.getUTCMinutes()),
    '%S': pad(date.getUTCSeconds()),
    '%B': word({ month: 'long' }),
    '%b': word({ month: 'short' }),
    '%A': word({ weekday: 'long' }),
    '%a': word({ weekday: 'short' }),
    '%%': '%',
  };
  return format.replace(/%./g, (directive) => {
    const value = directives[directive];
    if (value === undefined) throw new Error(`strftime_now: expected a known directive, got ${directive}`);
    return value;
  });
}
