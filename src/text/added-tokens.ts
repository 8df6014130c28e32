/**
 * Added tokens in a text: found before the tokenizer's model sees it, each becomes its one id.
 *
 * Of two that begin at the same place the longer is taken. `lstrip` and `rstrip` ones swallow the white space on that
 * side, `single_word` ones count only between characters that belong to no word. White space and words are those of
 * Unicode, as in Hugging Face tokenizers, where JavaScript's `trim` differs (U+FEFF, U+0085).
 * Source: the added vocabulary of tokenizers 0.23 (documentation of AddedToken, and its behaviour).
 */

export interface AddedToken {
  id: number;
  content: string;
  single_word?: boolean;
  lstrip?: boolean;
  rstrip?: boolean;
  /** Whether it is looked for in the normalized text. */
  normalized?: boolean;
  special?: boolean;
}

export type Piece = { text: string } | { token: AddedToken };

const SPACE_BEFORE = /\p{White_Space}+$/u;
const SPACE_AFTER = /\p{White_Space}*/uy;
const WORD = '[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\p{Join_Control}]';
const WORD_BEFORE = new RegExp(`${WORD}$`, 'u');
const WORD_AFTER = new RegExp(WORD, 'uy');

/** `contentOf`: the form in which a token stands in the text, where that is normalized. */
export function makeSplitter(
  tokens: readonly AddedToken[],
  contentOf: (token: AddedToken) => string = ({ content }) => content,
): (text: string) => Piece[] {
  const byContent = new Map(tokens.map((token) => [contentOf(token), token]));
  byContent.delete('');
  if (byContent.size === 0) return (text) => [{ text }];
  const longestFirst = [...byContent.keys()].toSorted((a, b) => b.length - a.length);
  const pattern = new RegExp(
    longestFirst.map((content) => content.replace(/[\\^$.*+?()[\]{}|/-]/g, '\\$&')).join('|'),
    'g',
  );

  return (text) => {
    const pieces: Piece[] = [];
    let done = 0;
    for (const match of text.matchAll(pattern)) {
      const token = byContent.get(match[0]);
      let start = match.index;
      let end = start + match[0].length;
      if (token === undefined || start < done) continue;
      if (token.single_word === true && touchesWord(text, start, end)) continue;
      if (token.lstrip === true) {
        const space = SPACE_BEFORE.exec(text.slice(done, start));
        start -= space?.[0].length ?? 0;
      }
      if (token.rstrip === true) {
        SPACE_AFTER.lastIndex = end;
        end += SPACE_AFTER.exec(text)?.[0].length ?? 0;
      }
      if (start > done) pieces.push({ text: text.slice(done, start) });
      pieces.push({ token });
      done = end;
    }
    if (done < text.length) pieces.push({ text: text.slice(done) });
    return pieces;
  };
}

function touchesWord(text: string, start: number, end: number): boolean {
  WORD_AFTER.lastIndex = end;
  // Two units, for a character outside of the basic plane.
  return WORD_BEFORE.test(text.slice(Math.max(0, start - 2), start)) || WORD_AFTER.test(text);
}
