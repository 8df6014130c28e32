/**
 * Tokens as log-probabilities name them: the text that a token adds after the one before it, special tokens as they
 * are written. A token that is a part of a character shows as U+FFFD and has no bytes.
 */
import type { Tokenizer } from '../text/tokenizer.ts';

/** `before`: the id that precedes the first one. */
export function tokenTexts(tokenizer: Tokenizer, tokens: readonly number[], before: number): string[] {
  return tokens.map((token, i) => {
    const previous = tokenizer.decodeWithSpecials([tokens[i - 1] ?? before]);
    // Decoders differ in what they do at the start of a text, such as to drop a space.
    const both = tokenizer.decodeWithSpecials([tokens[i - 1] ?? before, token]);
    return both.startsWith(previous) ? both.slice(previous.length) : tokenizer.decodeWithSpecials([token]);
  });
}

/** The UTF-8 bytes of a token's text, null where they are not known. */
export function bytesOf(text: string): number[] | null {
  return text.includes('\uFFFD') ? null : [...new TextEncoder().encode(text)];
}
