/**
 * Every call that a free text holds in full, as JSON or in Python's syntax: for reflections, which are no answers but
 * may hold one. What cannot be read is passed over. Only the first MAX_LENGTH characters and the first MAX_READS places
 * where a call may begin are looked at, so that the time is bounded.
 */
import { readJson } from '../json-values.ts';
import { readPythonCall } from '../python-literals.ts';
import type { Call } from './call.ts';
import { readCalls } from './extract.ts';

/** Longer than any reflection that a run asks for. */
const MAX_LENGTH = 20_000;
const MAX_READS = 200;
const ANY_FORM = {
  nameKeys: ['name', 'function', 'tool'],
  argumentKeys: ['arguments', 'parameters'],
  several: true,
};

/** The lists of calls in the order of the text; a call outside a list is a list of one. */
export function findCalls(whole: string, toolNames: readonly string[]): Call[][] {
  const text = whole.slice(0, MAX_LENGTH);
  const found: Call[][] = [];
  let end = 0;
  for (const start of placesOf(text, toolNames).slice(0, MAX_READS)) {
    // Within a call that was read, nothing is a call of its own.
    if (start < end) continue;
    const read = readAt(text, start);
    if (read === undefined) continue;
    found.push(read.calls);
    end = read.end;
  }
  return found;
}

/** Where `{"`, `[{` or the name of a tool with its bracket begins. */
function placesOf(text: string, toolNames: readonly string[]): number[] {
  const places = new Set([...text.matchAll(/\{\s*"|\[\s*\{/g)].map(({ index }) => index));
  for (const name of toolNames) {
    const opening = `${name}(`;
    for (let at = text.indexOf(opening); at >= 0; at = text.indexOf(opening, at + 1)) {
      if (!/[\p{L}\p{N}_.]/u.test(text.charAt(at - 1))) places.add(at);
    }
  }
  return [...places].toSorted((a, b) => a - b);
}

function readAt(text: string, start: number): { calls: Call[]; end: number } | undefined {
  if (!'{['.includes(text.charAt(start))) {
    const read = readPythonCall(text, start);
    return read.ok ? { calls: [read.value], end: read.end } : undefined;
  }
  const read = readJson(text, start);
  const calls = read.ok ? readCalls(read.value, ANY_FORM) : undefined;
  return read.ok && Array.isArray(calls) && calls.length > 0 ? { calls, end: read.end } : undefined;
}
