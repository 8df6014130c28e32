/**
 * Verifiers that compare texts: an exact match, and a regular expression. And `extract`, which finds the part of an
 * answer that is judged, for these and for JSON Schema.
 *
 * Patterns are JavaScript's, compiled with the flag `u` beside those that are asked for, and run under a time limit.
 * An answer whose match takes longer is not judged: the error says so.
 */
import type { Verdict } from '../../method/episode.ts';
import { showValue } from '../../lib/json.ts';
import { messageOf } from '../../lib/errors.ts';
import { withinTime } from './time-limit.ts';

const FLAGS = /^[imsuv]*$/;

/** Throws an Error that says what is wrong with the pattern or its flags. */
export function parsePattern(what: string, source: string, flags = ''): RegExp {
  if (!FLAGS.test(flags)) {
    throw new Error(`${what}: expected flags among i, m, s, u and v, got ${JSON.stringify(flags)}`);
  }
  const unicode = /[uv]/.test(flags) ? flags : `${flags}u`;
  try {
    return new RegExp(source, unicode);
  } catch (cause) {
    throw new Error(`${what}: expected a regular expression, got ${messageOf(cause)}`, { cause });
  }
}

/** Passes where the pattern matches anywhere in the text; `^` and `$` tie it to the ends. */
export function matchPattern(pattern: RegExp, text: string): Verdict {
  if (withinTime('regex', () => pattern.test(text))) return { ok: true };
  return {
    ok: false,
    class: 'no match',
    why: `expected a match of ${pattern.source}, got ${showValue(text)}`,
  };
}

/** Passes where the texts are equal; `trim` drops white space at both ends of both. */
export function matchExactly(
  expected: string,
  text: string,
  { trim, ignoreCase }: { trim: boolean; ignoreCase: boolean },
): Verdict {
  const form = (raw: string): string => {
    const trimmed = trim ? raw.trim() : raw;
    return ignoreCase ? trimmed.toLowerCase() : trimmed;
  };
  if (form(expected) === form(text)) return { ok: true };
  return {
    ok: false,
    class: 'wrong answer',
    why: `expected ${showValue(expected)}, got ${showValue(text)}`,
  };
}

/**
 * The last match of the pattern: its first group, or all of it where it has none. A verdict where nothing matches.
 */
export function extractLast(pattern: RegExp, answer: string): string | Verdict {
  const every = new RegExp(pattern.source, `${pattern.flags}g`);
  const last = withinTime('extract', () => {
    let found: string | undefined;
    for (const match of answer.matchAll(every)) found = match[1] ?? match[0];
    return found;
  });
  return (
    last ?? {
      ok: false,
      class: 'no answer',
      why: `expected an answer that matches ${pattern.source}, got ${showValue(answer)}`,
    }
  );
}
