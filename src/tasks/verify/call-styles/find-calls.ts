/**
 * Every call that a free text mentions in full, as JSON or in Python's syntax: for reflections, which are no answers
 * but may hold one. What cannot be read is passed over. A text holds at most MAX_FOUND lists, and MAX_READS places
 * are looked at, so that the time is bounded.
 */
import { readJson } from '../json-values.ts';
import { readPythonCall } from '../python-literals.ts';
import type { Call } from './call.ts';
import { readCalls } from './extract.ts';

const MAX_FOUND = 50;
const MAX_READS = 1000;
const ANY_FORM = {
  nameKeys: ['name', 'function', 'tool'],
  argumentKeys: ['arguments', 'parameters'],
  several: true,
};

/** The lists of calls in the order of the text; a call outside a list is a list of one. */
export function findCalls(text: string, toolNames: readonly string[]): Call[][] {
  const found: Call[][] = [];
  const opening = /\{\s*"|\[\s*\{|[\p{L}_][\p{L}\p{N}_.-]*\(/gu;
  for (let reads = 0; reads < MAX_READS && found.length < MAX_FOUND; reads++) {
    const match = opening.exec(text);
    if (match === null) break;
    const { calls, end } = readAt(text, match, toolNames);
    if (calls === undefined) {
      opening.lastIndex = match.index + (match[0].endsWith('(') ? match[0].length : 1);
      continue;
    }
    found.push(calls);
    opening.lastIndex = end;
  }
  return found;
}

function readAt(
  text: string,
  match: RegExpExecArray,
  toolNames: readonly string[],
): { calls: Call[] | undefined; end: number } {
  const none = { calls: undefined, end: match.index };
  if (match[0].endsWith('(')) {
    if (!toolNames.includes(match[0].slice(0, -1))) return none;
    const read = readPythonCall(text, match.index);
    return read.ok ? { calls: [read.value], end: read.end } : none;
  }
  const read = readJson(text, match.index);
  const calls = read.ok ? readCalls(read.value, ANY_FORM) : undefined;
  return read.ok && Array.isArray(calls) && calls.length > 0 ? { calls, end: read.end } : none;
}
