/**
 * JSON as Python's json module writes and reads it.
 *
 * Written: a blank after commas and colons, floats with their point, non-ASCII as it is unless asked otherwise.
 * Read: numbers keep their kind (1.0 is a float, large integers are exact), objects keep the order of their keys even
 * where JavaScript would sort them.
 */
import { TemplateError } from './errors.ts';
import { Float, Markup, Tuple, floatText, compare, tryText, typeName, type Value } from './values.ts';

export interface DumpOptions {
  ensureAscii: boolean;
  /** What one level is indented by; undefined: all on one line. */
  indent: string | undefined;
  itemSeparator: string;
  keySeparator: string;
  sortKeys: boolean;
}

/** Throws TemplateError for a value that JSON does not have. */
export function dumpJson(value: Value, options: DumpOptions, level = 0): string {
  const text = tryText(value);
  if (text !== undefined) return quote(text, options.ensureAscii);
  if (value === null) return 'null';
  if (typeof value === 'boolean' || typeof value === 'bigint') return String(value);
  if (typeof value === 'number') return floatJson(value);
  if (Array.isArray(value)) return wrap('[', value, ']');
  if (value instanceof Tuple) return wrap('[', value.items, ']');
  if (value instanceof Map) {
    const entries = Array.from(value, ([key, item]) => [key, item] as const);
    if (options.sortKeys) entries.sort(([a], [b]) => compare(a, b));
    const parts = entries.map(
      ([key, item]) =>
        quote(keyText(key), options.ensureAscii) + options.keySeparator + dumpJson(item, options, level + 1),
    );
    return enclose('{', parts, '}');
  }
  throw new TemplateError(`Object of type ${typeName(value)} is not JSON serializable`);

  function wrap(open: string, items: readonly Value[], close: string): string {
    return enclose(
      open,
      items.map((item) => dumpJson(item, options, level + 1)),
      close,
    );
  }

  function enclose(open: string, parts: readonly string[], close: string): string {
    const { indent, itemSeparator } = options;
    if (parts.length === 0) return open + close;
    if (indent === undefined) return open + parts.join(itemSeparator) + close;
    const lineEnd = `\n${indent.repeat(level + 1)}`;
    return `${open}${lineEnd}${parts.join(itemSeparator + lineEnd)}\n${indent.repeat(level)}${close}`;
  }
}

function floatJson(value: number): string {
  if (Number.isNaN(value)) return 'NaN';
  return Number.isFinite(value) ? floatText(value) : value > 0 ? 'Infinity' : '-Infinity';
}

function keyText(key: Value): string {
  if (typeof key === 'string') return key;
  if (key instanceof Markup) return key.text;
  if (key === null) return 'null';
  if (typeof key === 'boolean' || typeof key === 'bigint') return String(key);
  if (typeof key === 'number') return floatJson(key);
  throw new TemplateError(`keys must be str, int, float, bool or None, not ${typeName(key)}`);
}

const ESCAPED: Readonly<Record<string, string>> = {
  '"': '\\"',
  '\\': '\\\\',
  '\n': '\\n',
  '\r': '\\r',
  '\t': '\\t',
  '\f': '\\f',
  '\b': '\\b',
};

/** Unlike JSON.stringify, a lone surrogate stays as it is. */
function quote(text: string, ensureAscii: boolean): string {
  // eslint-disable-next-line no-control-regex -- JSON escapes control characters.
  const pattern = ensureAscii ? /["\\]|[^ -~]/g : /["\\\0-\x1f]/g;
  const escaped = text.replace(
    pattern,
    (unit) => ESCAPED[unit] ?? `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
  return `"${escaped}"`;
}

const NUMBER = /-?\d+(\.\d+)?([eE][-+]?\d+)?/y;

/** The value of a text that JSON.parse accepts. Objects are Maps, whole floats `Float`, large integers bigint. */
export function parseExactJson(text: string): unknown {
  let at = 0;
  const skipBlanks = (): void => {
    while (' \t\r\n'.includes(text[at] ?? '.')) at += 1;
  };
  const take = (): string => {
    skipBlanks();
    return text[at++] ?? '';
  };
  const readString = (): string => {
    const start = at - 1;
    for (; text[at] !== '"'; at++) if (text[at] === '\\') at += 1;
    at += 1;
    return JSON.parse(text.slice(start, at)) as string;
  };
  const read = (): unknown => {
    const first = take();
    if (first === '"') return readString();
    if (first === '[') return readItems(']', read);
    if (first === '{') {
      return new Map(
        readItems('}', () => {
          take();
          const key = readString();
          take();
          return [key, read()] as const;
        }),
      );
    }
    at -= 1;
    NUMBER.lastIndex = at;
    const number = NUMBER.exec(text);
    if (number !== null) {
      at = NUMBER.lastIndex;
      return readNumber(number[0], number[1] !== undefined || number[2] !== undefined);
    }
    const word = /^[a-z]+/.exec(text.slice(at, at + 5))?.[0] ?? '';
    at += word.length;
    return JSON.parse(word) as unknown;
  };
  const readItems = <T>(end: string, readOne: () => T): T[] => {
    const items: T[] = [];
    skipBlanks();
    if (text[at] === end) {
      at += 1;
      return items;
    }
    do items.push(readOne());
    while (take() === ',');
    return items;
  };
  return read();
}

function readNumber(text: string, isFloat: boolean): unknown {
  const value = Number(text);
  if (isFloat) return Number.isInteger(value) ? new Float(value) : value;
  return Number.isSafeInteger(value) ? value : BigInt(text);
}
