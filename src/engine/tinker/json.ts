/**
 * JSON of the Tinker protocol, in and out, with integers of 64 bits.
 *
 * Sequence ids and seeds go beyond 2^53, where JSON.parse rounds. Integers that a double cannot hold are read as
 * bigint, all others as number; bigint is written as an integer. Nearly no text has such an integer, so a search
 * with one pattern decides between JSON.parse alone and the slower way. Typed arrays are written as lists. A field
 * that is undefined is left out. Non-finite numbers are refused: JSON has none.
 */
import { R3Error, messageOf } from '../../lib/errors.ts';
import { oneLine } from '../../lib/printable.ts';

/** An integer of 16 digits or more that stands as a value; inside of a text too, which only costs time. */
const LONG_INTEGER = /(?:^|[[:,\s])-?\d{16,}(?![\d.eE])/;
/** A text with the colon that makes it a key, or a number. */
const TEXT_OR_NUMBER = /("[^"\\]*(?:\\.[^"\\]*)*")(\s*:)?|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;
const EXCERPT_LENGTH = 80;

/** The value of a JSON text. Throws R3Error `bad-answer`, naming `what` the text was expected to be. */
export function readJson(text: string, what: string): unknown {
  try {
    const plain: unknown = JSON.parse(text);
    return LONG_INTEGER.test(text) ? JSON.parse(markLongIntegers(text), unmark) : plain;
  } catch (cause) {
    const got = text.trim() === '' ? 'an empty body' : oneLine(text.slice(0, EXCERPT_LENGTH));
    throw new R3Error(
      'engine',
      'bad-answer',
      `${what}: expected JSON, got ${got} (${oneLine(messageOf(cause))})`,
      {
        cause,
      },
    );
  }
}

/** Every text that is a value gets the prefix `t`, every long integer becomes a text with the prefix `n`. */
function markLongIntegers(text: string): string {
  return text.replace(TEXT_OR_NUMBER, (found, quoted: string | undefined, colon: string | undefined) => {
    if (quoted !== undefined) return colon === undefined ? `"t${quoted.slice(1)}` : found;
    return /^-?\d+$/.test(found) && !Number.isSafeInteger(Number(found)) ? `"n${found}"` : found;
  });
}

function unmark(_: string, value: unknown): unknown {
  if (typeof value !== 'string') return value;
  return value.startsWith('n') ? BigInt(value.slice(1)) : value.slice(1);
}

/** A JSON text. Throws R3Error `bad-option` for a number that is not finite. */
export function writeJson(value: unknown): string {
  return write(value) ?? 'null';
}

function write(value: unknown): string | undefined {
  if (typeof value === 'bigint') return String(value);
  if (typeof value === 'number') {
    if (Number.isFinite(value)) return String(value);
    throw new R3Error('engine', 'bad-option', `JSON: expected finite numbers, got ${value}`);
  }
  if (typeof value !== 'object' || value === null) return JSON.stringify(value);
  const isList = Array.isArray(value) || ArrayBuffer.isView(value);
  return isList
    ? writeList(value as unknown as ArrayLike<unknown>)
    : writeObject(value as Record<string, unknown>);
}

function writeList(values: ArrayLike<unknown>): string {
  let text = '[';
  for (let i = 0; i < values.length; i++) text += `${i === 0 ? '' : ','}${write(values[i]) ?? 'null'}`;
  return `${text}]`;
}

function writeObject(fields: Record<string, unknown>): string {
  let text = '{';
  for (const [key, value] of Object.entries(fields)) {
    const written = write(value);
    if (written !== undefined) text += `${text === '{' ? '' : ','}${JSON.stringify(key)}:${written}`;
  }
  return `${text}}`;
}
