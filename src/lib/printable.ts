/**
 * Text from outside, made safe to show: nothing that a model, a task or a file wrote steers a terminal or hides
 * in a page. Does not escape markup.
 */

/**
 * Control characters other than newline and tab become visible signs (U+2400 on for C0, else U+FFFD), as do lone
 * surrogates. The characters that turn the order of the text around them become their name: `<U+202E>`.
 */
export function printable(text: string): string {
  return text.replaceAll(/\p{Cs}|[^\P{Cc}\n\t]|[\u202a-\u202e\u2066-\u2069]/gu, (c) => {
    if (c >= '\u202a' && c <= '\u2069') return `<U+${c.charCodeAt(0).toString(16).toUpperCase()}>`;
    return c < ' ' ? String.fromCharCode(0x2400 + c.charCodeAt(0)) : '\ufffd';
  });
}

/** `printable`, on one line. */
export function oneLine(text: string): string {
  return printable(text.replaceAll(/\r\n|[\n\r\t\u2028\u2029]/g, ' '));
}
