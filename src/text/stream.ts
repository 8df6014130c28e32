/**
 * Text from a stream of tokens: a detokenizer that never splits a character, and a matcher for stop strings
 * that may begin in one token and end in another.
 *
 * Both give text as early as it is certain, and in pieces that put together are the whole: for the
 * detokenizer `decode` of all ids (after those that come before them), for the matcher all text before the stop string.
 */
import { R3Error } from '../lib/errors.ts';
import type { Tokenizer } from './tokenizer.ts';

export interface Detokenizer {
  /** The text that this token makes certain; '' while a character is incomplete, and for special tokens. */
  push(id: number): string;
  /** The rest. What is still incomplete comes out as U+FFFD, as `decode` has it. */
  end(): string;
}

const BROKEN = '\uFFFD';
/** One is enough for a space; more, where the last ones have no text of their own. */
const CONTEXT_TOKENS = 8;

/**
 * The last tokens of a prompt, in whose context a text that continues it is decoded: decoders may drop a space at the
 * start of a text, which between prompt and continuation belongs to the text. Without special tokens, and without a
 * character that the prompt leaves incomplete.
 */
export function lastTokens(tokenizer: Tokenizer, prompt: readonly number[]): number[] {
  const last: number[] = [];
  for (let i = prompt.length - 1; i >= 0 && last.length < CONTEXT_TOKENS; i--) {
    const id = prompt[i] as number;
    if (!tokenizer.specialIds.has(id)) last.unshift(id);
  }
  while (last.length > 0 && tokenizer.decode(last).endsWith(BROKEN)) last.pop();
  return last;
}

/**
 * Decodes a short window: the tokens since the last piece and, as context, the tokens of that piece. Their
 * text is the difference of two decodings, so this needs to know nothing of how the tokenizer joins tokens.
 * Text that ends in U+FFFD is held back, because the bytes of a character may still be to come.
 * `before`: tokens whose text comes before and is not given (`lastTokens`); none for a text that stands on its own.
 */
export function makeDetokenizer(tokenizer: Tokenizer, before: readonly number[] = []): Detokenizer {
  /** Tokens of the last piece, whose text was given. */
  let given: readonly number[] = before;
  /** Tokens since then. */
  let open: number[] = [];
  const openText = (): string => tokenizer.decode([...given, ...open]).slice(tokenizer.decode(given).length);

  return {
    push: (id) => {
      if (tokenizer.specialIds.has(id)) return '';
      open.push(id);
      const text = openText();
      if (text === '' || text.endsWith(BROKEN)) return '';
      given = open;
      open = [];
      return text;
    },
    end: () => {
      const text = openText();
      given = [];
      open = [];
      return text;
    },
  };
}

export interface StopMatcher {
  /** The text that can no longer be part of a stop string. After a stop: always '' and true. */
  push(text: string): { text: string; stopped: boolean };
  /** The text that was held back, '' after a stop. */
  end(): string;
}

/**
 * The first stop string to be completed ends the text; of two that are completed by the same character, the
 * longer. How the text is cut into pieces makes no difference. Throws R3Error `bad-option` for ''.
 */
export function makeStopMatcher(stops: readonly string[]): StopMatcher {
  if (stops.includes('')) {
    throw new R3Error(
      'text',
      'bad-option',
      'stop strings: expected at least one character, got an empty string',
    );
  }
  let held = '';
  let stopped = false;

  return {
    push: (piece) => {
      if (stopped) return { text: '', stopped };
      held += piece;
      const stop = findStop(held, stops);
      stopped = stop !== undefined;
      const text = held.slice(0, stop ?? held.length - lengthThatMayStop(held, stops));
      held = stopped ? '' : held.slice(text.length);
      return { text, stopped };
    },
    end: () => {
      const text = held;
      held = '';
      return text;
    },
  };
}

/** Where the stop string begins that ends first. */
function findStop(text: string, stops: readonly string[]): number | undefined {
  let found: { start: number; end: number } | undefined;
  for (const stop of stops) {
    const start = text.indexOf(stop);
    if (start < 0) continue;
    const end = start + stop.length;
    if (!found || end < found.end || (end === found.end && start < found.start)) found = { start, end };
  }
  return found?.start;
}

/** Length of the longest end of the text that begins a stop string. */
function lengthThatMayStop(text: string, stops: readonly string[]): number {
  let longest = 0;
  for (const stop of stops) {
    for (let length = Math.min(stop.length - 1, text.length); length > longest; length--) {
      if (text.endsWith(stop.slice(0, length))) longest = length;
    }
  }
  return longest;
}
