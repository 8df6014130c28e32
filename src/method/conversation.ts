/**
 * Supervised rows: a conversation and which of its tokens are trained.
 *
 *   {"messages": [{"role": "user", "content": "92 57 64 to 29"},
 *                 {"role": "assistant", "content": "( 92 - 57 ) + 64", "weight": 0},
 *                 {"role": "user", "content": "why"},
 *                 {"role": "assistant", "content": "keep 64 need 35 93", "train": [[1, 6]]}]}
 *
 * The standard messages format with one field more. What an assistant message wrote is trained, with the end token of
 * its turn; `"weight": 0` trains none of it (as in OpenAI's fine-tuning format); `train` names ranges of its tokens,
 * from inclusive, to exclusive. Token 0 is the first one after the generation prompt, the end token is the last.
 * Nothing here tokenizes: a range that goes past the message is found when its tokens are known (`trainedTokens`).
 */
import { R3Error } from '../lib/errors.ts';
import type { Message } from './episode.ts';

/** From inclusive, to exclusive. */
export type TokenRange = readonly [from: number, to: number];

export interface ConversationMessage extends Message {
  /** 0: none of it is trained. Left out: 1 for the assistant, 0 for the others. */
  weight?: 0 | 1;
  /** Ascending, without overlap. Left out: all of its tokens. */
  train?: readonly TokenRange[];
}

export interface ConversationRow {
  messages: ConversationMessage[];
  /** A name for counting, such as the kind of data; trains nothing. */
  kind?: string;
}

const MAX_MESSAGES = 1000;
const MAX_RANGES = 10_000;
const ROLES = ['system', 'user', 'assistant'] as const;
const MESSAGE_KEYS = ['role', 'content', 'weight', 'train'];

/**
 * A row as a conversation with at least one trained message. Fields of the row other than `messages` and `kind` are
 * ignored, fields of a message are not: one that this format cannot honour (`tool_calls`, a misspelt `weight`) would
 * change what is learned. A field that is null counts as left out, an integer may be a bigint, as Parquet gives them.
 * `where` names the row in messages. Throws R3Error `bad-row`.
 */
export function parseConversationRow(row: unknown, where: string): ConversationRow {
  const { messages, kind } = asRecord(row, where);
  if (!Array.isArray(messages) || messages.length === 0 || messages.length > MAX_MESSAGES) {
    return fail(where, 'messages', `a list of 1 to ${MAX_MESSAGES} messages`, messages);
  }
  const parsed = messages.map((message: unknown, index) =>
    parseMessage(message, where, `messages[${index}]`),
  );
  if (!parsed.some(isTrained)) {
    fail(
      where,
      'messages',
      'an assistant message that is trained',
      parsed.map(({ role }) => role).join(', '),
    );
  }
  if (!isGiven(kind)) return { messages: parsed };
  return typeof kind === 'string' ? { messages: parsed, kind } : fail(where, 'kind', 'a text', kind);
}

/** Which of a message's `count` tokens are trained, ascending. Throws R3Error `bad-row` when a range goes past them. */
export function trainedTokens(message: ConversationMessage, count: number, where: string): number[] {
  if (!isTrained(message)) return [];
  const indices: number[] = [];
  for (const [from, to] of message.train ?? [[0, count]]) {
    if (to > count)
      fail(where, 'train', `ranges within the ${count} tokens of ${JSON.stringify(message.content)}`, [
        from,
        to,
      ]);
    for (let index = from; index < to; index++) indices.push(index);
  }
  return indices;
}

function isTrained({ role, weight, train }: ConversationMessage): boolean {
  return role === 'assistant' && weight !== 0 && train?.length !== 0;
}

function parseMessage(value: unknown, where: string, place: string): ConversationMessage {
  const fields = asRecord(value, where, place);
  for (const [key, field] of Object.entries(fields)) {
    if (!MESSAGE_KEYS.includes(key) && isGiven(field))
      fail(where, place, `only ${MESSAGE_KEYS.join(', ')}`, key);
  }

  const role = ROLES.find((name) => name === fields['role']);
  if (role === undefined) return fail(where, `${place}.role`, ROLES.join(', '), fields['role']);
  const { content } = fields;
  if (typeof content !== 'string') return fail(where, `${place}.content`, 'a text', content);
  const message: ConversationMessage = { role, content };

  if (isGiven(fields['weight'])) {
    const weight = tryInteger(fields['weight']);
    if (weight !== 0 && weight !== 1) return fail(where, `${place}.weight`, '0 or 1', fields['weight']);
    if (weight === 1 && role !== 'assistant') fail(where, `${place}.weight`, `0 for role ${role}`, 1);
    message.weight = weight;
  }
  if (isGiven(fields['train'])) {
    if (role !== 'assistant') fail(where, `${place}.train`, `no ranges for role ${role}`, fields['train']);
    if (message.weight === 0) fail(where, `${place}.train`, 'no ranges beside weight 0', fields['train']);
    message.train = parseRanges(fields['train'], where, `${place}.train`);
  }
  return message;
}

function parseRanges(value: unknown, where: string, place: string): TokenRange[] {
  if (!Array.isArray(value) || value.length > MAX_RANGES) {
    return fail(where, place, `a list of at most ${MAX_RANGES} [from, to] pairs`, value);
  }
  let end = 0;
  return value.map((pair: unknown, index): TokenRange => {
    const [from, to] = Array.isArray(pair) && pair.length === 2 ? pair.map(tryInteger) : [];
    if (from === undefined || to === undefined || from < end || to <= from) {
      return fail(where, `${place}[${index}]`, `[from, to] with ${end} <= from < to`, pair);
    }
    end = to;
    return [from, to];
  });
}

function asRecord(value: unknown, where: string, place?: string): Record<string, unknown> {
  if (typeof value === 'object' && value !== null && !Array.isArray(value))
    return value as Record<string, unknown>;
  return fail(where, place ?? 'row', 'an object', value);
}

function isGiven(value: unknown): boolean {
  return value !== undefined && value !== null;
}

function tryInteger(value: unknown): number | undefined {
  const number = typeof value === 'bigint' ? Number(value) : value;
  return typeof number === 'number' && Number.isSafeInteger(number) ? number : undefined;
}

function fail(where: string, place: string, expected: string, got: unknown): never {
  const text =
    JSON.stringify(got, (_, inner: unknown) => (typeof inner === 'bigint' ? Number(inner) : inner)) ??
    'nothing';
  const shown = text.length > 60 ? `${text.slice(0, 60)}...` : text;
  throw new R3Error('task', 'bad-row', `${where}: ${place}: expected ${expected}, got ${shown}`);
}
