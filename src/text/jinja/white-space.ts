/**
 * White space as Python's `str.isspace` has it. JavaScript's `trim` and `\s` differ: they take U+FEFF, and leave
 * U+001C to U+001F and U+0085.
 */

/** The inside of a character class. */
export const WHITE_SPACE =
  '\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000';

const LEADING = new RegExp(`^[${WHITE_SPACE}]+`);
const ONE = new RegExp(`[${WHITE_SPACE}]`);

export function trimStart(text: string): string {
  return text.replace(LEADING, '');
}

export function trimEnd(text: string): string {
  let end = text.length;
  while (end > 0 && ONE.test(text[end - 1] ?? '')) end -= 1;
  return text.slice(0, end);
}

export function trim(text: string): string {
  return trimEnd(trimStart(text));
}
