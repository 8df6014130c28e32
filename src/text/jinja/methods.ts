/**
 * The methods of Python's str, dict, list, tuple, int and float that a sandboxed template can call.
 *
 * Those that change a list or dict are missing on purpose: the sandbox refuses them. So are `encode` and `translate`,
 * which need types that templates do not have. Markup methods give markup.
 *
 * Source: the Python library reference, built-in types.
 */
import { bind, intArgument, textArgument } from './arguments.ts';
import { TemplateError } from './errors.ts';
import { formatBraces } from './format.ts';
import {
  Markup,
  Tuple,
  View,
  characters,
  escapeText,
  isEqual,
  iterate,
  keyOf,
  textLength,
  toText,
  tryText,
  typeName,
  type Arguments,
  type Value,
} from './values.ts';
import { WHITE_SPACE } from './white-space.ts';

type Method = (given: Arguments) => Value;
type TextMethod = (text: string, values: (Value | undefined)[], given: Arguments) => Value;

/** Attributes that Python has and the immutable sandbox hides, by type. */
export const CHANGING: ReadonlyMap<string, ReadonlySet<string>> = new Map([
  ['dict', new Set(['clear', 'pop', 'popitem', 'setdefault', 'update'])],
  ['list', new Set(['append', 'clear', 'extend', 'insert', 'pop', 'remove', 'reverse', 'sort'])],
]);

/** The method of a value with this name, undefined when it has none. */
export function methodOf(value: Value, name: string): Method | undefined {
  const text = tryText(value);
  if (text !== undefined) return textMethod(value, text, name);
  if (value instanceof Map) return dictMethod(value, name);
  if (Array.isArray(value)) return listMethod(value, name);
  if (value instanceof Tuple) {
    return name === 'count' || name === 'index' ? listMethod(value.items, name) : undefined;
  }
  if (typeof value === 'number' && name === 'is_integer') return () => Number.isInteger(value);
  if (typeof value === 'bigint' && name === 'bit_length') {
    return () => (value === 0n ? 0n : BigInt((value < 0n ? -value : value).toString(2).length));
  }
  return undefined;
}

function dictMethod(dict: Map<Value, Value>, name: string): Method | undefined {
  switch (name) {
    case 'keys':
    case 'values':
    case 'items':
      return (given) => {
        bind(name, [], given);
        return new View(name, dict);
      };
    case 'get':
      return (given) => {
        if (given.named.size > 0) throw new TemplateError('dict.get() takes no keyword arguments');
        const [key = null, standard = null] = bind(name, ['key', 'default?'], given);
        const found = dict.get(keyOf(key));
        return found === undefined ? standard : found;
      };
    case 'copy':
      return () => new Map(dict);
    default:
      return undefined;
  }
}

function listMethod(items: readonly Value[], name: string): Method | undefined {
  switch (name) {
    case 'count':
      return (given) => {
        const [item = null] = bind(name, ['value'], given);
        return BigInt(items.filter((other) => isEqual(other, item)).length);
      };
    case 'index':
      return (given) => {
        const [item = null] = bind(name, ['value'], given);
        const at = items.findIndex((other) => isEqual(other, item));
        if (at < 0) throw new TemplateError(`${toText(item)} is not in the list`);
        return BigInt(at);
      };
    case 'copy':
      return () => [...items];
    default:
      return undefined;
  }
}

function textMethod(value: Value, text: string, name: string): Method | undefined {
  if (name === 'format') return (given) => keep(value, formatBraces(text, given));
  if (name === 'format_map') {
    return (given) => {
      const [map = null] = bind(name, ['mapping'], given);
      if (!(map instanceof Map))
        throw new TemplateError(`format_map(): expected a dict, got ${typeName(map)}`);
      const named = new Map(Array.from(map, ([key, item]) => [toText(key), item] as const));
      return keep(value, formatBraces(text, { positional: [], named }));
    };
  }
  const entry = Object.hasOwn(TEXT_METHODS, name) ? TEXT_METHODS[name] : undefined;
  if (entry === undefined) return undefined;
  const [parameters, run] = entry;
  return (given) => {
    const values = bind(name, parameters, given);
    return keep(value, run(text, value instanceof Markup ? escapeGiven(name, values) : values, given));
  };
}

/** What `join` and `replace` put into markup is escaped. */
function escapeGiven(name: string, values: (Value | undefined)[]): (Value | undefined)[] {
  const escaped = (value: Value): Value => (typeof value === 'string' ? escapeText(value) : value);
  const [first = null, second = null, ...rest] = values;
  if (name === 'join') return [Array.from(iterate(first), escaped)];
  return name === 'replace' ? [first, escaped(second), ...rest] : values;
}

/** Markup from markup, in lists too. */
function keep(source: Value, result: Value): Value {
  if (!(source instanceof Markup)) return result;
  if (typeof result === 'string') return new Markup(result);
  if (Array.isArray(result)) return result.map((item) => keep(source, item));
  return result instanceof Tuple ? new Tuple(result.items.map((item) => keep(source, item))) : result;
}

// eslint-disable-next-line no-control-regex -- Python ends lines at these.
const LINE_END = /\r\n|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]/g;
const CASED = /\p{Cased}/u;

/** Python's str.splitlines. */
export function splitLines(text: string, keepEnds = false): string[] {
  const lines: string[] = [];
  let start = 0;
  for (const match of text.matchAll(LINE_END)) {
    const end = match.index + match[0].length;
    lines.push(text.slice(start, keepEnds ? end : match.index));
    start = end;
  }
  if (start < text.length) lines.push(text.slice(start));
  return lines;
}

/** Python's str.strip and its halves; without `chars`, white space. */
export function strip(text: string, chars: Value | undefined, sides: 'both' | 'left' | 'right'): string {
  const given = chars === undefined || chars === null ? undefined : textArgument('strip', chars);
  const set = new Set(given === undefined ? [] : characters(given));
  const isCut = (character: string | undefined): boolean =>
    character !== undefined && (given === undefined ? SPACE.test(character) : set.has(character));
  const parts = characters(text);
  let [start, end] = [0, parts.length];
  if (sides !== 'right') while (isCut(parts[start])) start += 1;
  if (sides !== 'left') while (end > start && isCut(parts[end - 1])) end -= 1;
  return parts.slice(start, end).join('');
}

const SPACE = new RegExp(`^[${WHITE_SPACE}]$`);
const SPACES = new RegExp(`[${WHITE_SPACE}]+`, 'g');

function split(text: string, separator: Value | undefined, limit: number, fromRight: boolean): string[] {
  const most = limit < 0 ? Infinity : limit;
  if (separator === undefined || separator === null) return splitBlanks(text, most, fromRight);
  const mark = textArgument('split', separator);
  if (mark === '') throw new TemplateError('empty separator');
  const parts = text.split(mark);
  if (parts.length - 1 <= most) return parts;
  return fromRight
    ? [parts.slice(0, parts.length - most).join(mark), ...parts.slice(parts.length - most)]
    : [...parts.slice(0, most), parts.slice(most).join(mark)];
}

function splitBlanks(text: string, most: number, fromRight: boolean): string[] {
  const trimmed = strip(text, undefined, 'both');
  if (trimmed === '') return [];
  const gaps = [...trimmed.matchAll(SPACES)];
  const used = gaps.length <= most ? gaps : fromRight ? gaps.slice(gaps.length - most) : gaps.slice(0, most);
  const parts: string[] = [];
  let start = 0;
  for (const gap of used) {
    parts.push(trimmed.slice(start, gap.index));
    start = gap.index + gap[0].length;
  }
  parts.push(trimmed.slice(start));
  // What was not split keeps the white space at its open end.
  if (gaps.length >= most) {
    const [head, tail] = [strip(text, undefined, 'right'), strip(text, undefined, 'left')];
    if (fromRight) parts[0] = head.slice(0, head.length - trimmed.length) + (parts[0] ?? '');
    else parts.push((parts.pop() ?? '') + tail.slice(trimmed.length));
  }
  return parts;
}

/** Python's str.replace; a negative count means all. */
export function replace(text: string, old: string, by: string, count: number): string {
  if (count < 0) {
    return old === ''
      ? by +
          characters(text)
            .map((character) => character + by)
            .join('')
      : text.split(old).join(by);
  }
  if (old === '') {
    const parts = characters(text);
    const head = parts.slice(0, Math.max(0, count - 1)).map((character) => character + by);
    return count === 0 ? text : by + head.join('') + parts.slice(Math.max(0, count - 1)).join('');
  }
  const parts = text.split(old);
  if (parts.length - 1 <= count) return parts.join(by);
  return [...parts.slice(0, count), parts.slice(count).join(old)].join(by);
}

/** The first letter of each word in title case, the others in lower case. */
function title(text: string): string {
  let inWord = false;
  return characters(text)
    .map((character) => {
      const shown = inWord ? character.toLowerCase() : titleCase(character);
      inWord = CASED.test(character);
      return shown;
    })
    .join('');
}

/** `ǆ` becomes `ǅ`, `ß` becomes `Ss`: upper case for the first letter only. */
function titleCase(character: string): string {
  const single: Readonly<Record<string, string>> = {
    ǆ: 'ǅ',
    Ǆ: 'ǅ',
    ǉ: 'ǈ',
    Ǉ: 'ǈ',
    ǌ: 'ǋ',
    Ǌ: 'ǋ',
    ǳ: 'ǲ',
    Ǳ: 'ǲ',
  };
  const known = single[character];
  if (known !== undefined) return known;
  const [first = '', ...rest] = characters(character.toUpperCase());
  return first + rest.join('').toLowerCase();
}

export function capitalize(text: string): string {
  const [first = '', ...rest] = characters(text);
  // The whole is lowered, because a final sigma depends on what is before it.
  return titleCase(first) + (first + rest.join('')).toLowerCase().slice(first.toLowerCase().length);
}

/** Start and end of a part of a text in code points, as slices have them. */
function partOf(
  text: string,
  start: Value | undefined,
  end: Value | undefined,
): { part: string; offset: number } | undefined {
  const parts = characters(text);
  const place = (value: Value | undefined, standard: number): number => {
    const at = value === null ? standard : intArgument('index', value, standard);
    return at < 0 ? Math.max(0, at + parts.length) : at;
  };
  const from = place(start, 0);
  const to = Math.min(place(end, parts.length), parts.length);
  return from > parts.length || from > to
    ? undefined
    : { part: parts.slice(from, to).join(''), offset: from };
}

function find(last: boolean): TextMethod {
  return (text, [part, start, end]) => {
    const wanted = textArgument('find', part);
    const within = partOf(text, start, end);
    if (within === undefined) return -1n;
    const at = last ? within.part.lastIndexOf(wanted) : within.part.indexOf(wanted);
    return at < 0 ? -1n : BigInt(within.offset + textLength(within.part.slice(0, at)));
  };
}

function index(last: boolean): TextMethod {
  return (text, values, given) => {
    const at = find(last)(text, values, given);
    if (at === -1n) throw new TemplateError('substring not found');
    return at;
  };
}

function hasEnd(test: (text: string, part: string) => boolean): TextMethod {
  return (text, [parts, start, end]) => {
    const within = partOf(text, start, end);
    const wanted = parts instanceof Tuple ? parts.items : [parts];
    // All are checked for their type only up to the first that fits, as in Python.
    return wanted.some((part) => {
      const affix = textArgument('startswith', part);
      return within !== undefined && test(within.part, affix);
    });
  };
}

function pad(place: (missing: number, width: number) => [number, number]): TextMethod {
  return (text, [width, fill]) => {
    const wanted = intArgument('width', width ?? null, 0);
    const character = fill === undefined ? ' ' : textArgument('fill', fill);
    if (textLength(character) !== 1)
      throw new TemplateError('the fill character must be exactly one character long');
    const missing = wanted - textLength(text);
    if (missing <= 0) return text;
    const [left, right] = place(missing, wanted);
    return character.repeat(left) + text + character.repeat(right);
  };
}

/** Python gives the odd blank to the right, or to the left where the width is odd. */
export function center(text: string, width: number): string {
  const missing = Math.max(0, width - textLength(text));
  const left = Math.floor(missing / 2) + (missing & width & 1);
  return ' '.repeat(left) + text + ' '.repeat(missing - left);
}

function every(pattern: RegExp): TextMethod {
  return (text) => text !== '' && characters(text).every((character) => pattern.test(character));
}

/** Whether the cased letters of a text are all of the case, and there is one. */
function isCase(text: string, other: RegExp): boolean {
  return CASED.test(text) && !other.test(text);
}

export const isLower = (text: string): boolean => isCase(text, /[\p{Lu}\p{Lt}]/u);
export const isUpper = (text: string): boolean => isCase(text, /[\p{Ll}\p{Lt}]/u);

function cut(fromRight: boolean): TextMethod {
  return (text, [separator]) => {
    const mark = textArgument('partition', separator);
    if (mark === '') throw new TemplateError('empty separator');
    const at = fromRight ? text.lastIndexOf(mark) : text.indexOf(mark);
    if (at < 0) return new Tuple(fromRight ? ['', '', text] : [text, '', '']);
    return new Tuple([text.slice(0, at), mark, text.slice(at + mark.length)]);
  };
}

const AFFIX = ['affix', 'start?', 'end?'];

const TEXT_METHODS: Readonly<Record<string, readonly [readonly string[], TextMethod]>> = {
  capitalize: [[], (text) => capitalize(text)],
  casefold: [[], (text) => text.replaceAll('ß', 'ss').toLowerCase()],
  center: [
    ['width', 'fillchar?'],
    pad((missing, width) => {
      const left = Math.floor(missing / 2) + (missing & width & 1);
      return [left, missing - left];
    }),
  ],
  count: [
    ['sub', 'start?', 'end?'],
    (text, [part, start, end]) => {
      const wanted = textArgument('count', part);
      const within = partOf(text, start, end);
      if (within === undefined) return 0n;
      return BigInt(wanted === '' ? textLength(within.part) + 1 : within.part.split(wanted).length - 1);
    },
  ],
  endswith: [AFFIX, hasEnd((text, part) => text.endsWith(part))],
  expandtabs: [
    ['tabsize?'],
    (text, [size]) => {
      const width = intArgument('tabsize', size, 8);
      let column = 0;
      return characters(text)
        .map((character) => {
          if (character === '\n' || character === '\r') column = -1;
          const shown = character === '\t' ? ' '.repeat(width > 0 ? width - (column % width) : 0) : character;
          column += textLength(shown);
          return shown;
        })
        .join('');
    },
  ],
  find: [AFFIX, find(false)],
  index: [AFFIX, index(false)],
  isalnum: [[], every(/[\p{L}\p{N}]/u)],
  isalpha: [[], every(/\p{L}/u)],
  isascii: [[], (text) => !/[^\0-\x7f]/.test(text)],
  isdecimal: [[], every(/\p{Nd}/u)],
  isdigit: [[], every(/[\p{Nd}²³¹⁰-⁹₀-₉]/u)],
  isidentifier: [[], (text) => /^[\p{XID_Start}_]\p{XID_Continue}*$/u.test(text)],
  islower: [[], (text) => isLower(text)],
  isnumeric: [[], every(/\p{N}/u)],
  isprintable: [
    [],
    (text) => characters(text).every((character) => character === ' ' || !/[\p{C}\p{Z}]/u.test(character)),
  ],
  isspace: [[], every(SPACE)],
  istitle: [[], (text) => CASED.test(text) && title(text) === text],
  isupper: [[], (text) => isUpper(text)],
  join: [
    ['iterable'],
    (text, [items = null]) =>
      Array.from(iterate(items), (item, i) => {
        const part = tryText(item);
        if (part !== undefined) return part;
        throw new TemplateError(`sequence item ${i}: expected str instance, ${typeName(item)} found`);
      }).join(text),
  ],
  ljust: [['width', 'fillchar?'], pad((missing) => [0, missing])],
  lower: [[], (text) => text.toLowerCase()],
  lstrip: [['chars?'], (text, [chars]) => strip(text, chars, 'left')],
  partition: [['sep'], cut(false)],
  removeprefix: [
    ['prefix'],
    (text, [prefix]) => {
      const part = textArgument('removeprefix', prefix);
      return text.startsWith(part) ? text.slice(part.length) : text;
    },
  ],
  removesuffix: [
    ['suffix'],
    (text, [suffix]) => {
      const part = textArgument('removesuffix', suffix);
      return part !== '' && text.endsWith(part) ? text.slice(0, -part.length) : text;
    },
  ],
  replace: [
    ['old', 'new', 'count?'],
    (text, [old, by, count], given) => {
      if (given.named.size > 0) throw new TemplateError('str.replace() takes no keyword arguments');
      return replace(
        text,
        textArgument('replace', old),
        textArgument('replace', by),
        intArgument('count', count, -1),
      );
    },
  ],
  rfind: [AFFIX, find(true)],
  rindex: [AFFIX, index(true)],
  rjust: [['width', 'fillchar?'], pad((missing) => [missing, 0])],
  rpartition: [['sep'], cut(true)],
  rsplit: [
    ['sep?', 'maxsplit?'],
    (text, [mark, limit]) => split(text, mark, intArgument('maxsplit', limit, -1), true),
  ],
  rstrip: [['chars?'], (text, [chars]) => strip(text, chars, 'right')],
  split: [
    ['sep?', 'maxsplit?'],
    (text, [mark, limit]) => split(text, mark, intArgument('maxsplit', limit, -1), false),
  ],
  splitlines: [['keepends?'], (text, [keepEnds]) => splitLines(text, Boolean(keepEnds))],
  startswith: [AFFIX, hasEnd((text, part) => text.startsWith(part))],
  strip: [['chars?'], (text, [chars]) => strip(text, chars, 'both')],
  swapcase: [
    [],
    (text) =>
      characters(text)
        .map((character) => (/\p{Lu}/u.test(character) ? character.toLowerCase() : character.toUpperCase()))
        .join(''),
  ],
  title: [[], (text) => title(text)],
  upper: [[], (text) => text.toUpperCase()],
  zfill: [
    ['width'],
    (text, [width]) => {
      const sign = /^[-+]/.exec(text)?.[0] ?? '';
      const missing = intArgument('width', width ?? null, 0) - textLength(text);
      return sign + '0'.repeat(Math.max(0, missing)) + text.slice(sign.length);
    },
  ],
};
