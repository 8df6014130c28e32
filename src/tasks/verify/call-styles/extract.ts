/**
 * Calls written as JSON, found in a text that may hold prose and code fences around them.
 *
 * A candidate begins where a bracket opens as a call or a list of calls would: `{"`, `{}`, `[{` or `[]`, white space
 * between allowed. From there the text must be JSON, and the JSON must be a call or a list of calls: half a call is
 * an error, not prose, and so is a bracket that closes after it. Of the candidates exactly one counts; a style may let several stand side by side, with nothing
 * but a comma or semicolon between. What a model wrote before `</think>` is not part of its answer.
 */
import { readJson, writeJson } from '../json-values.ts';
import { isDict, isList } from '../values.ts';
import type { Value } from '../values.ts';
import { noCall, notParsed } from './call.ts';
import type { Call, ParsedCalls } from './call.ts';

export interface JsonForm {
  /** The keys of a call that may hold its name and its arguments. */
  nameKeys: readonly string[];
  argumentKeys: readonly string[];
  /** Several calls may stand side by side, outside a list. */
  several: boolean;
}

const THINKING_END = '</think>';

export function afterThinking(text: string): string {
  const end = text.lastIndexOf(THINKING_END);
  return end < 0 ? text : text.slice(end + THINKING_END.length);
}

/** The calls of the one candidate in a text, or of several side by side where the form allows it. */
export function parseJsonCalls(text: string, form: JsonForm): ParsedCalls {
  const parsed = readJsonCalls(text, form);
  return parsed.ok ? parsed : { ...parsed, isCall: areCalls(text, form) };
}

/** Numbers that JSON readers of other languages know. */
export const OTHER_NUMBER = /-?\b(?:NaN|Infinity)\b|(?<=\d)[eE]\+?\d{3,}/g;

/** Whether all the JSON in a text is calls, be they several, as OpenAI's interface has them, or with NaN in them. */
function areCalls(text: string, form: JsonForm): boolean {
  const plain = text.replaceAll(OTHER_NUMBER, '0');
  const found = findJson(plain);
  return (
    found.ok &&
    found.values.length > 0 &&
    found.values.every(
      ({ value }) => itemsOf(value).length > 0 && itemsOf(value).every((item) => isCall(item, form)),
    ) &&
    !closesAfter(plain, found.values.at(-1)?.end ?? 0)
  );
}

/** A call, or `{"type": "function", "function": {"name": ..., "arguments": ...}}`. */
export function isCall(value: Value, form: Omit<JsonForm, 'several'>): boolean {
  if (typeof readCall(value, form) !== 'string') return true;
  const inner = isDict(value) ? value.get('function') : undefined;
  return isDict(inner) && typeof inner.get('name') === 'string' && inner.has('arguments');
}

const closesAfter = (text: string, end: number): boolean => /^\s*[\]}]/.test(text.slice(end));

function readJsonCalls(text: string, form: JsonForm): ParsedCalls {
  const found = findJson(text);
  if (!found.ok) return notParsed(found.why);
  const [first] = found.values;
  if (first === undefined) return noCall('expected a call, got a text without JSON');

  const calls: Call[] = [];
  let end = first.start;
  for (const [i, candidate] of found.values.entries()) {
    const between = text.slice(end, candidate.start).trim();
    const isBeside = form.several && ['', ',', ';'].includes(between);
    if (i > 0 && !isBeside) return notParsed(`expected one candidate, got ${found.values.length}`);
    const read = readCalls(candidate.value, form);
    if (typeof read === 'string') return notParsed(read);
    calls.push(...read);
    end = candidate.end;
  }
  if (closesAfter(text, end)) return notParsed(`at ${end}: expected no more brackets, got one that closes`);
  return { ok: true, calls };
}

const CANDIDATE = /\{\s*["}]|\[\s*[{\]]/g;

/** The JSON values in a text that begin as a call or a list of calls does. */
export function findJson(
  text: string,
): { ok: true; values: { value: Value; start: number; end: number }[] } | { ok: false; why: string } {
  const values: { value: Value; start: number; end: number }[] = [];
  CANDIDATE.lastIndex = 0;
  for (let match = CANDIDATE.exec(text); match !== null; match = CANDIDATE.exec(text)) {
    const read = readJson(text, match.index);
    if (!read.ok) return { ok: false, why: `at ${read.at}: ${read.why}` };
    values.push({ value: read.value, start: match.index, end: read.end });
    CANDIDATE.lastIndex = read.end;
  }
  return { ok: true, values };
}

/** The calls that a value is: a call, a list of calls, or {"tool_calls": list of calls}; else why it is none. */
export function readCalls(value: Value, form: JsonForm): Call[] | string {
  const calls: Call[] = [];
  for (const item of itemsOf(value)) {
    const call = readCall(item, form);
    if (typeof call === 'string') return call;
    calls.push(call);
  }
  return calls;
}

function itemsOf(value: Value): readonly Value[] {
  const inner = isDict(value) && value.size === 1 ? value.get('tool_calls') : undefined;
  return isList(inner) ? inner : isList(value) ? value : [value];
}

/** Keys beside the name and the arguments are passed over. */
export function readCall(value: Value, form: Omit<JsonForm, 'several'>): Call | string {
  const expected = `{"${form.nameKeys[0]}": ..., "${form.argumentKeys[0]}": {...}}`;
  if (!isDict(value)) return `expected a call ${expected}, got ${cut(writeJson(value))}`;
  const name = form.nameKeys.map((key) => value.get(key)).find((each) => each !== undefined);
  if (typeof name !== 'string' || name === '') {
    return `expected a call ${expected}, got ${cut(writeJson(value))}`;
  }
  const given = form.argumentKeys.map((key) => value.get(key)).find((each) => each !== undefined);
  if (!isDict(given)) {
    const got = given === undefined ? `the keys ${[...value.keys()].join(', ')}` : cut(writeJson(given));
    return `${name}: expected ${form.argumentKeys.map((key) => `"${key}"`).join(' or ')}, an object, got ${cut(got)}`;
  }
  return { name, arguments: given };
}

/** One line of JSON for each call, `{"name": ..., "arguments": ...}` with the form's first keys. */
export function writeCall(call: Call, form: Omit<JsonForm, 'several'>): string {
  const [nameKey = 'name'] = form.nameKeys;
  const [argumentsKey = 'arguments'] = form.argumentKeys;
  return `{"${nameKey}": ${JSON.stringify(call.name)}, "${argumentsKey}": ${writeJson(call.arguments)}}`;
}

export function cut(text: string): string {
  return text.length > 80 ? `${text.slice(0, 80)}...` : text;
}
