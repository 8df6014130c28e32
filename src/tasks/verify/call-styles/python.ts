/**
 * Python's syntax, as BFCL asks for it: `[add(a=1, b=2), g.h(c="x")]`.
 *
 * Backticks and a language's name around the list are passed over, and a missing bracket at either end of the list is
 * put there, as BFCL does; any other text around it is an error. `[]` calls nothing. What values may be is said in
 * `../python-literals.ts`.
 */
import { writeFloat } from '../json-values.ts';
import { areCallsInPython, parsePythonCalls } from '../python-literals.ts';
import { isDict, isList, isTuple } from '../values.ts';
import type { Dict, Value } from '../values.ts';
import { noCall, notParsed } from './call.ts';
import type { Call, CallStyle } from './call.ts';
import { afterThinking } from './extract.ts';

const LANGUAGE = /^```(?:python|py|json|tool_code|tool_call)\s*\n/;

/** A list or a call at the beginning, or a name with a bracket and a named argument anywhere. */
const CALL_BEGUN = /^\[|^[\p{L}_][\p{L}\d_.-]*\(|[\p{L}\d_-]\([^()=]*=/u;

export const python: CallStyle = {
  parse: (whole) => {
    const bare = trimFence(afterThinking(whole).trim().replace(LANGUAGE, ''));
    if (bare === '') return noCall('expected a call, got an empty text');
    const opened = bare.startsWith('[') ? bare : `[${bare}`;
    const list = opened.endsWith(']') ? opened : `${opened}]`;
    const read = parsePythonCalls(list);
    if (read.ok) return { ok: true, calls: read.value };
    const isCall = areCallsInPython(list);
    return isCall || CALL_BEGUN.test(bare)
      ? notParsed(`at ${read.at}: ${read.why}`, isCall)
      : noCall('expected a call, got a text without one');
  },
  render: (calls) => `[${calls.map(writePythonCall).join(', ')}]`,
};

/** Without the backticks, spaces and line ends at both ends. */
function trimFence(text: string): string {
  let start = 0;
  let end = text.length;
  while (start < end && '`\n '.includes(text.charAt(start))) start++;
  while (end > start && '`\n '.includes(text.charAt(end - 1))) end--;
  return text.slice(start, end);
}

export function writePythonCall({ name, arguments: given }: Call): string {
  return `${name}(${writeArguments(given)})`;
}

/** Names that are no Python names go into an unpacked dict. */
function writeArguments(given: Dict): string {
  const isName = (key: string): boolean => /^[A-Za-z_]\w*$/.test(key);
  const named = [...given]
    .filter(([key]) => isName(key))
    .map(([key, value]) => `${key}=${writePython(value)}`);
  const others = new Map([...given].filter(([key]) => !isName(key)));
  if (others.size > 0) named.push(`**${writePython(others)}`);
  return named.join(', ');
}

function writePython(value: Value): string {
  if (value === null) return 'None';
  if (typeof value === 'boolean') return value ? 'True' : 'False';
  if (typeof value === 'bigint') return String(value);
  if (typeof value === 'number') return writeFloat(value);
  // A JSON string is a Python string: Python knows its escapes, but for "\/", which is not written.
  if (typeof value === 'string') return JSON.stringify(value);
  if (isList(value)) return `[${value.map(writePython).join(', ')}]`;
  if (isTuple(value))
    return `(${value.tuple
      .map((each) => `${writePython(each)}, `)
      .join('')
      .trimEnd()})`;
  if (isDict(value)) {
    return `{${[...value].map(([key, inner]) => `${JSON.stringify(key)}: ${writePython(inner)}`).join(', ')}}`;
  }
  return value satisfies never;
}
