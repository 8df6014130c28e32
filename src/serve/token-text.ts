/**
 * Tokens as log-probabilities name them: the text that a token adds after the one before it, special tokens as they
 * are written. A token that is a part of a character shows as U+FFFD and has no bytes.
 */
import type { Tokenizer } from '../text/tokenizer.ts';

const BROKEN = '\uFFFD';

/** `before`: the ids that precede the first one, as many as are needed; none where it begins a text. */
export function tokenTexts(
  tokenizer: Tokenizer,
  tokens: readonly number[],
  before: readonly number[],
): string[] {
  const decode = (...ids: number[]): string => tokenizer.decodeWithSpecials(ids);
  return tokens.map((token, i) => {
    // Not alone: decoders differ in what they do at the start of a text, such as to drop a space.
    const context = i === 0 ? before : tokens.slice(i - 1, i);
    const previous = decode(...context);
    const both = decode(...context, token);
    const isWhole = !previous.endsWith(BROKEN) && both.startsWith(previous);
    return isWhole ? both.slice(previous.length) : decode(token);
  });
}

/** The UTF-8 bytes of a token's text, null where they are not known. */
export function bytesOf(text: string): number[] | null {
  return text.includes(BROKEN) ? null : [...new TextEncoder().encode(text)];
}
