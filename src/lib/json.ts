/**
 * JSON that people wrote: read strictly, and shown in error messages.
 *
 * Reading takes UTF-8 with or without a byte order mark. It refuses what JSON.parse changes in silence: a key that
 * occurs twice (the first is lost) and a number too large for a double (it becomes Infinity). It refuses deep nesting.
 * The errors are plain and have no place; the caller knows the file and the line.
 */
import { messageOf } from './errors.ts';
import { oneLine } from './printable.ts';

/** What a schema found: the part of a zod issue that is read here. */
export interface Issue {
  code?: string | undefined;
  path: readonly PropertyKey[];
  message: string;
  expected?: unknown;
  values?: readonly unknown[];
  origin?: unknown;
  minimum?: unknown;
  maximum?: unknown;
  inclusive?: unknown;
  keys?: readonly string[];
}

const EXCERPT_LENGTH = 60;
/** Schemas of tools, the deepest that people write, stay under 50; thousands exhaust the stack. */
const MAX_DEPTH = 500;

/** The text of UTF-8 bytes, without a byte order mark. Throws an Error for bytes of another encoding. */
export function decodeUtf8(bytes: Uint8Array): string {
  checkNotUtf16(bytes);
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new Error('expected text in UTF-8, got bytes that are not; save the file as UTF-8', { cause });
  }
}

/** Throws an Error when bytes begin as JSON in UTF-16 does: with its byte order mark, or with half of a character. */
export function checkNotUtf16(bytes: Uint8Array): void {
  const [first, second] = bytes;
  if (first === undefined || second === undefined) return;
  const isMarked = (first === 0xff && second === 0xfe) || (first === 0xfe && second === 0xff);
  if (isMarked || (first === 0) !== (second === 0)) {
    throw new Error('expected text in UTF-8, got UTF-16; save the file as UTF-8');
  }
}

/** Whether a value is what JSON calls an object. */
export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** The object that a JSON text is. Throws an Error `expected a JSON object, got X`, or one that names a key or number. */
export function parseJsonObject(text: string): Record<string, unknown> {
  const value = parseJson(text, 'a JSON object');
  if (!isObject(value)) {
    throw new Error(`expected a JSON object, got ${showValue(value)}`);
  }
  return value;
}

/** The value that a JSON text is. Throws an Error `expected JSON, got X`, or one that names a key or number. */
export function parseJson(text: string, expected = 'JSON'): unknown {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new Error(`expected ${expected}, got ${excerpt(text)} (${oneLine(messageOf(cause))})`, { cause });
  }
  // Before anything else looks at the value: what does calls itself at each level.
  checkStructure(text);
  checkNumbers(value);
  return value;
}

/** Throws an Error that names the first number that is not finite: JSON.parse reads 1e400 as Infinity. */
export function checkNumbers(value: unknown): void {
  const path = findInfinite(value);
  if (path === undefined) return;
  throw new Error(`${cut(renderPath(path))}: expected a number of at most 1.8e308, got a larger one`);
}

function findInfinite(value: unknown): PropertyKey[] | undefined {
  if (typeof value === 'number') return Number.isFinite(value) ? undefined : [];
  if (typeof value !== 'object' || value === null) return undefined;
  if (Array.isArray(value)) {
    for (let i = 0; i < value.length; i++) {
      const path = findInfinite(value[i]);
      if (path !== undefined) return [i, ...path];
    }
    return undefined;
  }
  for (const [key, field] of Object.entries(value)) {
    const path = findInfinite(field);
    if (path !== undefined) return [key, ...path];
  }
  return undefined;
}

/** Throws an Error when an object of a valid JSON text holds a key twice, or when its nesting is too deep. */
function checkStructure(text: string): void {
  /** The keys of each object that is open; of a list, none. */
  const open: Set<string>[] = [];
  for (let i = 0; i < text.length; i++) {
    const character = text[i];
    if (character === '{' || character === '[') {
      open.push(new Set());
      if (open.length > MAX_DEPTH)
        throw new Error(`expected at most ${MAX_DEPTH} levels of objects and lists, got more`);
    } else if (character === '}' || character === ']') open.pop();
    else if (character === '"') {
      const start = i;
      for (i++; text[i] !== '"'; i++) if (text[i] === '\\') i++;
      let next = i + 1;
      while (' \t\r\n'.includes(text[next] ?? '.')) next++;
      if (text[next] !== ':') continue;
      const key = JSON.parse(text.slice(start, i + 1)) as string;
      const keys = open.at(-1);
      if (keys?.has(key) === true)
        throw new Error(`${cut(key)}: expected each key once in an object, got it twice; remove one`);
      keys?.add(key);
    }
  }
}

/** `path: expected X, got Y` for the first thing that a schema found in `value`. */
export function explainIssue(issues: readonly Issue[], value: unknown): string {
  const [issue] = issues;
  if (issue === undefined) return `expected another value, got ${showValue(value)}`;
  let got = value;
  for (const key of issue.path) got = (got as Record<PropertyKey, unknown> | null | undefined)?.[key];
  const found = issue.code === 'unrecognized_keys' ? (issue.keys ?? []).join(', ') : showValue(got);
  const path = renderPath(issue.path);
  return `${path === '' ? '' : `${path}: `}expected ${expectedBy(issue)}, got ${found}`;
}

const NOUNS: Readonly<Record<string, string>> = {
  int: 'a whole number',
  number: 'a number',
  string: 'a text',
  boolean: 'true or false',
  array: 'a list',
  object: 'an object',
  record: 'an object',
};

function expectedBy(issue: Issue): string {
  const unit = issue.origin === 'array' ? ' entries' : issue.origin === 'string' ? ' characters' : '';
  switch (issue.code) {
    case 'invalid_type':
      return NOUNS[String(issue.expected)] ?? String(issue.expected);
    case 'invalid_value':
      return (issue.values ?? []).map((each) => JSON.stringify(each)).join(' or ');
    case 'too_small':
      return `${issue.inclusive === false ? 'more than' : 'at least'} ${String(issue.minimum)}${unit}`;
    case 'too_big':
      return `${issue.inclusive === false ? 'less than' : 'at most'} ${String(issue.maximum)}${unit}`;
    case 'unrecognized_keys':
      return 'no other keys';
    case undefined:
    default:
      return 'another value';
  }
}

/** `a.b[2]`. */
function renderPath(path: readonly PropertyKey[]): string {
  return path
    .map((key, i) => (typeof key === 'number' ? `[${key}]` : `${i === 0 ? '' : '.'}${String(key)}`))
    .join('');
}

/** A value as an error message shows it: `null`, `[1, 2]`, `nothing`, cut where it is long. */
export function showValue(value: unknown): string {
  if (value === undefined) return 'nothing';
  if (typeof value === 'number') return String(value);
  return cut(JSON.stringify(value));
}

/** A text as an error message shows it: quoted, cut where it is long. */
function excerpt(text: string): string {
  return text.trim() === ''
    ? 'an empty text'
    : cut(JSON.stringify(text.slice(0, EXCERPT_LENGTH)), text.length);
}

function cut(text: string, length = text.length): string {
  const isCut = Math.max(length, text.length) > EXCERPT_LENGTH;
  return isCut ? `${text.slice(0, EXCERPT_LENGTH)}...` : text;
}
