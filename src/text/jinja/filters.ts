/**
 * Jinja's filters: what stands after `|`, with `tojson` as transformers defines it.
 *
 * Missing, because no chat template has a use for them: filesizeformat, pprint, random, striptags, urlize, wordwrap
 * and xmlattr. A template that names one is refused.
 *
 * Source: Jinja's documentation (list of built-in filters).
 */
import { bind, intArgument, softText, textArgument } from './arguments.ts';
import { TemplateError } from './errors.ts';
import { formatPercent } from './format.ts';
import { dumpJson } from './json.ts';
import { capitalize, center, replace, splitLines, strip } from './methods.ts';
import { attribute, binary, contains, escape, item, negate, pythonAttribute } from './operators.ts';
import { runTest } from './tests.ts';
import {
  Iterated,
  Markup,
  Tuple,
  Undefined,
  View,
  characters,
  compare,
  failUndefined,
  isEqual,
  isTrue,
  iterate,
  lengthOf,
  listOf,
  textLength,
  toText,
  tryNumber,
  tryText,
  typeName,
  type Arguments,
  type Value,
} from './values.ts';

/** Given the parameters after the input, undefined where none was given. */
type Filter = (input: Value, values: (Value | undefined)[]) => Value;

/** `input | name(given)`. Throws TemplateError for a filter that does not exist. */
export function runFilter(name: string, input: Value, given: Arguments): Value {
  const free = Object.hasOwn(FREE_FILTERS, name) ? FREE_FILTERS[name] : undefined;
  if (free !== undefined) return free(input, given);
  const entry = Object.hasOwn(FILTERS, name) ? FILTERS[name] : undefined;
  if (entry === undefined) throw new TemplateError(`No filter named '${name}'`);
  const [parameters, run] = entry;
  return run(input, bind(name, parameters, given));
}

/** A filter of texts that keeps markup. */
function onText(change: (text: string) => string): Filter {
  return (input) => {
    const text = change(toText(input));
    return input instanceof Markup ? new Markup(text) : text;
  };
}

type Getter = (value: Value) => Value;

/** Reads `a.b.0` from a value; with nothing to read, the value itself. */
function getter(path: Value | undefined, standard: Value = null): Getter {
  const parts = partsOf(path ?? null);
  return (value) =>
    parts.reduce((object, part) => {
      const found = item(object, part);
      return found instanceof Undefined && standard !== null ? standard : found;
    }, value);
}

function partsOf(path: Value): Value[] {
  if (path === null) return [];
  const text = tryText(path);
  if (text === undefined) return [path];
  return text.split('.').map((part) => (/^\d+$/.test(part) ? BigInt(part) : part));
}

const lowered = (value: Value): Value => tryText(value)?.toLowerCase() ?? value;

/** What values are ordered or told apart by. */
function sortKey(path: Value | undefined, caseSensitive: Value | undefined, standard?: Value): Getter {
  const get = getter(path, standard ?? null);
  return caseSensitive !== undefined && isTrue(caseSensitive) ? get : (value) => lowered(get(value));
}

/** Stable, also in reverse. */
function sorted(values: readonly Value[], key: Getter, reversed: Value | undefined): Value[] {
  const sign = reversed !== undefined && isTrue(reversed) ? -1 : 1;
  return values
    .map((value) => ({ value, key: key(value) }))
    .toSorted((a, b) => sign * compare(a.key, b.key))
    .map(({ value }) => value);
}

function extreme(sign: 1 | -1): Filter {
  return (input, [caseSensitive, path]) => {
    const key = sortKey(path, caseSensitive);
    const values = listOf(input);
    const [first] = values;
    if (first === undefined) return new Undefined('No aggregated item, sequence was empty.');
    return values
      .slice(1)
      .reduce((best, value) => (sign * compare(key(value), key(best)) < 0 ? value : best), first);
  };
}

function toInt(input: Value, [standard = 0n, base]: (Value | undefined)[]): Value {
  if (input instanceof Undefined) failUndefined(input);
  const number = tryNumber(input);
  if (typeof number === 'bigint') return number;
  if (typeof number === 'number') {
    if (Number.isFinite(number)) return BigInt(Math.trunc(number));
    if (Number.isNaN(number)) return standard;
    throw new TemplateError('cannot convert float infinity to integer');
  }
  const text = tryText(input);
  if (text === undefined) return standard;
  const parsed = parseInteger(text, intArgument('int', base, 10));
  if (parsed !== undefined) return parsed;
  const float = parseFloatText(text);
  return float !== undefined && Number.isFinite(float) ? BigInt(Math.trunc(float)) : standard;
}

const PREFIXES: Readonly<Record<number, string>> = { 2: '0b', 8: '0o', 16: '0x' };

function parseInteger(text: string, base: number): bigint | undefined {
  const match = /^([-+]?)(\w+)$/.exec(strip(text, undefined, 'both').toLowerCase());
  if (match === null) return undefined;
  const [, sign, word = ''] = match;
  const prefix = PREFIXES[base];
  const digits = prefix !== undefined && word.startsWith(prefix) ? word.slice(2) : word;
  if (!/^[0-9a-z]+(_[0-9a-z]+)*$/.test(digits)) return undefined;
  let value = 0n;
  for (const digit of digits.replaceAll('_', '')) {
    const worth = Number.parseInt(digit, 36);
    if (worth >= base) return undefined;
    value = value * BigInt(base) + BigInt(worth);
  }
  return sign === '-' ? -value : value;
}

function parseFloatText(text: string): number | undefined {
  const trimmed = strip(text, undefined, 'both').toLowerCase();
  const word = /^([-+]?)(inf|infinity|nan)$/.exec(trimmed);
  if (word !== null) return word[2] === 'nan' ? Number.NaN : word[1] === '-' ? -Infinity : Infinity;
  const isNumber = /^[-+]?(\d+(_\d+)*\.?(\d+(_\d+)*)?|\.\d+(_\d+)*)(e[-+]?\d+(_\d+)*)?$/.test(trimmed);
  return isNumber ? Number(trimmed.replaceAll('_', '')) : undefined;
}

function toFloat(input: Value, [standard = 0]: (Value | undefined)[]): Value {
  if (input instanceof Undefined) failUndefined(input);
  const number = tryNumber(input);
  if (number !== undefined) return Number(number);
  const text = tryText(input);
  return (text === undefined ? undefined : parseFloatText(text)) ?? standard;
}

function round(input: Value, [places, method]: (Value | undefined)[]): Value {
  const precision = intArgument('round', places, 0);
  const how = method === undefined ? 'common' : toText(method);
  if (input instanceof Undefined) failUndefined(input);
  const number = tryNumber(input);
  if (number === undefined) throw new TemplateError(`type ${typeName(input)} cannot be rounded`);
  if (how === 'ceil' || how === 'floor') return Math[how](Number(number) * 10 ** precision) / 10 ** precision;
  if (how !== 'common') throw new TemplateError('method must be common, ceil or floor');
  if (typeof number === 'bigint')
    return precision >= 0 ? number : BigInt(roundFloat(Number(number), precision));
  return roundFloat(number, precision);
}

/** To the nearest; a tie goes to the even digit. */
function roundFloat(value: number, precision: number): number {
  if (precision >= 0) return Number(formatPercent(`%.${Math.min(precision, 100)}f`, value));
  const unit = 10 ** -precision;
  const low = Math.floor(value / unit);
  const rest = value / unit - low;
  return (rest > 0.5 || (rest === 0.5 && low % 2 !== 0) ? low + 1 : low) * unit;
}

function indent(input: Value, [width, first, blank]: (Value | undefined)[]): Value {
  if (input instanceof Undefined) failUndefined(input);
  const text = textArgument('indent', input);
  const step =
    width !== undefined && tryText(width) !== undefined
      ? toText(width)
      : ' '.repeat(intArgument('indent', width, 4));
  const lines = splitLines(`${text}\n`);
  const keepsBlank = blank === undefined || !isTrue(blank);
  const [head = '', ...rest] = lines;
  const shown = [head, ...rest.map((line) => (keepsBlank && line === '' ? line : step + line))].join('\n');
  const whole = first !== undefined && isTrue(first) ? step + shown : shown;
  return input instanceof Markup ? new Markup(whole) : whole;
}

function truncate(input: Value, [length, killWords, end, leeway]: (Value | undefined)[]): Value {
  const most = intArgument('truncate', length, 255);
  const mark = end === undefined ? '...' : textArgument('truncate', end);
  const slack = leeway === null ? 5 : intArgument('truncate', leeway, 5);
  if (most < textLength(mark) || slack < 0)
    throw new TemplateError('truncate: expected a length of at least that of the end');
  if (lengthOf(input) <= most + slack) return input;
  const kept = characters(textArgument('truncate', input))
    .slice(0, most - textLength(mark))
    .join('');
  if (killWords !== undefined && isTrue(killWords)) return kept + mark;
  const space = kept.lastIndexOf(' ');
  return (space < 0 ? kept : kept.slice(0, space)) + mark;
}

function join(input: Value, [separator, path]: (Value | undefined)[]): Value {
  const get = getter(path);
  return Array.from(iterate(input), (value) => toText(get(value))).join(
    separator === undefined ? '' : toText(separator),
  );
}

function reverse(input: Value): Value {
  const text = tryText(input);
  if (text !== undefined) return characters(text).toReversed().join('');
  return new Iterated(listOf(input).toReversed());
}

function last(input: Value): Value {
  if (input instanceof Iterated) throw new TemplateError("'generator' object is not reversible");
  const value = listOf(input).at(-1);
  return value === undefined ? new Undefined('No last item, sequence was empty.') : value;
}

function groupBy(input: Value, [path, standard, caseSensitive]: (Value | undefined)[]): Value {
  const key = sortKey(path, caseSensitive, standard);
  const real = getter(path, standard ?? null);
  const groups: Value[][] = [];
  for (const value of sorted(listOf(input), key, undefined)) {
    const [head] = groups.at(-1) ?? [];
    if (head !== undefined && isEqual(key(head), key(value))) groups.at(-1)?.push(value);
    else groups.push([value]);
  }
  return groups.map((values) => new Tuple([real(values[0] ?? null), values], ['grouper', 'list']));
}

function dictSort(input: Value, [caseSensitive, by, reversed]: (Value | undefined)[]): Value {
  if (!(input instanceof Map)) {
    return input instanceof Undefined
      ? failUndefined(input)
      : failType(`'${typeName(input)}' object has no attribute 'items'`);
  }
  const part = by === undefined ? 'key' : toText(by);
  if (part !== 'key' && part !== 'value') failType('You can only sort by either "key" or "value"');
  const at = part === 'key' ? 0n : 1n;
  return sorted(listOf(new View('items', input)), sortKey(at, caseSensitive), reversed);
}

function failType(why: string): never {
  throw new TemplateError(why);
}

/** The attributes of a comma separated list; one key for all of them. */
function sort(input: Value, [reversed, caseSensitive, paths]: (Value | undefined)[]): Value {
  const text = paths === undefined ? undefined : tryText(paths);
  const keys = (text === undefined ? [paths ?? null] : text.split(',')).map((path) =>
    sortKey(path, caseSensitive),
  );
  return sorted(listOf(input), (value) => keys.map((key) => key(value)), reversed);
}

function* unique(
  input: Value,
  [caseSensitive, path]: (Value | undefined)[],
): Generator<Value, void, undefined> {
  const key = sortKey(path, caseSensitive);
  const seen: Value[] = [];
  for (const value of iterate(input)) {
    const own = key(value);
    if (Array.isArray(own) || own instanceof Map) failType(`unhashable type: '${typeName(own)}'`);
    if (contains(seen, own)) continue;
    seen.push(own);
    yield value;
  }
}

function* slices(input: Value, [count, fill]: (Value | undefined)[]): Generator<Value, void, undefined> {
  const values = listOf(input);
  const wanted = intArgument('slice', count, 0);
  if (wanted === 0) failType('integer division or modulo by zero');
  const extra = values.length % wanted;
  let start = 0;
  for (let i = 0; i < wanted; i++) {
    const end = start + Math.floor(values.length / wanted) + (i < extra ? 1 : 0);
    const isShort = fill !== undefined && fill !== null && i >= extra;
    yield [...values.slice(start, end), ...(isShort ? [fill] : [])];
    start = end;
  }
}

function* batches(input: Value, [size, fill]: (Value | undefined)[]): Generator<Value, void, undefined> {
  const wanted = intArgument('batch', size, 0);
  let batch: Value[] = [];
  for (const value of iterate(input)) {
    if (batch.length === wanted) {
      yield batch;
      batch = [];
    }
    batch.push(value);
  }
  if (batch.length === 0) return;
  while (fill !== undefined && fill !== null && batch.length < wanted) batch.push(fill);
  yield batch;
}

function* pairs(input: Value): Generator<Value, void, undefined> {
  if (input instanceof Undefined) return;
  if (!(input instanceof Map)) failType('Can only get item pairs from a mapping.');
  yield* iterate(new View('items', input));
}

function toJson(input: Value, [ascii, step, separators, sortKeys]: (Value | undefined)[]): Value {
  const indentation =
    step === undefined || step === null
      ? undefined
      : (tryText(step) ?? ' '.repeat(Math.max(0, intArgument('tojson', step, 0))));
  const given = separators === undefined || separators === null ? undefined : listOf(separators);
  const [comma, colon] = given ?? [indentation === undefined ? ', ' : ',', ': '];
  return dumpJson(input, {
    ensureAscii: ascii !== undefined && isTrue(ascii),
    indent: indentation,
    itemSeparator: textArgument('separators', comma),
    keySeparator: textArgument('separators', colon),
    sortKeys: sortKeys !== undefined && isTrue(sortKeys),
  });
}

function urlEncode(input: Value): Value {
  const text =
    tryText(input) ?? (tryNumber(input) !== undefined || input === null ? toText(input) : undefined);
  if (text !== undefined) return urlQuote(text).replaceAll('%2F', '/');
  const entries = listOf(input instanceof Map ? new View('items', input) : input);
  return entries
    .map((entry) => {
      const pair = listOf(entry);
      if (pair.length !== 2) failType('urlencode: expected pairs of a name and a value');
      return pair.map((part) => urlQuote(toText(part)).replaceAll('%20', '+')).join('=');
    })
    .join('&');
}

function urlQuote(text: string): string {
  try {
    return encodeURIComponent(text).replace(
      /[!'()*]/g,
      (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`,
    );
  } catch {
    return failType('urlencode: expected whole characters, got half of one');
  }
}

const DEFAULT: readonly [readonly string[], Filter] = [
  ['default_value?', 'boolean?'],
  (input, [standard = '', boolean]) =>
    input instanceof Undefined || (boolean !== undefined && isTrue(boolean) && !isTrue(input))
      ? standard
      : input,
];
const LENGTH: readonly [readonly string[], Filter] = [[], (input) => BigInt(lengthOf(input))];
const ESCAPE: readonly [readonly string[], Filter] = [[], (input) => escape(input)];

const FILTERS: Readonly<Record<string, readonly [readonly string[], Filter]>> = {
  abs: [[], (input) => (compare(input, 0n) < 0 ? negate(input) : (tryNumber(input) ?? input))],
  attr: [
    ['name'],
    (input, [name]) => {
      const wanted = textArgument('attr', name);
      const missing = new Undefined(`'${typeName(input)} object' has no attribute '${wanted}'`);
      return input instanceof Undefined
        ? attribute(input, wanted)
        : (pythonAttribute(input, wanted) ?? missing);
    },
  ],
  batch: [['linecount', 'fill_with?'], (input, values) => new Iterated(batches(input, values))],
  capitalize: [[], onText(capitalize)],
  center: [
    ['width?'],
    (input, [width]) => onText((text) => center(text, intArgument('center', width, 80)))(input, []),
  ],
  count: LENGTH,
  d: DEFAULT,
  default: DEFAULT,
  dictsort: [['case_sensitive?', 'by?', 'reverse?'], dictSort],
  e: ESCAPE,
  escape: ESCAPE,
  first: [
    [],
    (input) => {
      const { done, value } = iterate(input)[Symbol.iterator]().next();
      return done === true ? new Undefined('No first item, sequence was empty.') : value;
    },
  ],
  float: [['default?'], toFloat],
  forceescape: [[], (input) => escape(toText(input))],
  groupby: [['attribute', 'default?', 'case_sensitive?'], groupBy],
  indent: [['width?', 'first?', 'blank?'], indent],
  int: [['default?', 'base?'], toInt],
  items: [[], (input) => new Iterated(pairs(input))],
  join: [['d?', 'attribute?'], join],
  last: [[], last],
  length: LENGTH,
  list: [[], listOf],
  lower: [[], onText((text) => text.toLowerCase())],
  max: [['case_sensitive?', 'attribute?'], extreme(-1)],
  min: [['case_sensitive?', 'attribute?'], extreme(1)],
  replace: [
    ['old', 'new', 'count?'],
    (input, [old = '', by = '', count]) =>
      replace(
        toText(input),
        toText(old),
        toText(by),
        count === null ? -1 : intArgument('replace', count, -1),
      ),
  ],
  reverse: [[], reverse],
  round: [['precision?', 'method?'], round],
  safe: [[], (input) => new Markup(toText(input))],
  slice: [['slices', 'fill_with?'], (input, values) => new Iterated(slices(input, values))],
  sort: [['reverse?', 'case_sensitive?', 'attribute?'], sort],
  string: [[], softText],
  sum: [
    ['attribute?', 'start?'],
    (input, [path, start = 0n]) => {
      if (tryText(start) !== undefined) failType("sum() can't sum strings");
      const get = getter(path);
      return listOf(input).reduce((total, value) => binary('+', total, get(value)), start);
    },
  ],
  title: [
    [],
    (input) =>
      toText(input)
        .split(/([-\s({[<]+)/)
        .map((part) => {
          const [first = '', ...rest] = characters(part);
          return first.toUpperCase() + rest.join('').toLowerCase();
        })
        .join(''),
  ],
  tojson: [['ensure_ascii?', 'indent?', 'separators?', 'sort_keys?'], toJson],
  trim: [['chars?'], (input, [chars]) => onText((text) => strip(text, chars, 'both'))(input, [])],
  truncate: [['length?', 'killwords?', 'end?', 'leeway?'], truncate],
  unique: [['case_sensitive?', 'attribute?'], (input, values) => new Iterated(unique(input, values))],
  upper: [[], onText((text) => text.toUpperCase())],
  urlencode: [[], urlEncode],
  wordcount: [[], (input) => BigInt(toText(input).match(/[\p{L}\p{N}_]+/gu)?.length ?? 0)],
};

/** Filters that take any arguments, some to pass them on. They give generators: nothing happens before they are read. */
const FREE_FILTERS: Readonly<Record<string, (input: Value, given: Arguments) => Value>> = {
  format: (input, given) => {
    if (given.positional.length > 0 && given.named.size > 0) {
      failType("can't handle positional and keyword arguments at the same time");
    }
    const values = given.named.size > 0 ? new Map<Value, Value>(given.named) : new Tuple(given.positional);
    return binary('%', softText(input), values);
  },
  map: (input, given) => new Iterated(mapped(input, given)),
  reject: (input, given) => new Iterated(chosen(input, given, false, false)),
  rejectattr: (input, given) => new Iterated(chosen(input, given, false, true)),
  select: (input, given) => new Iterated(chosen(input, given, true, false)),
  selectattr: (input, given) => new Iterated(chosen(input, given, true, true)),
};

function* mapped(input: Value, given: Arguments): Generator<Value, void, undefined> {
  if (!isTrue(input)) return;
  const [name, ...positional] = given.positional;
  const path = given.named.get('attribute');
  let change: Getter;
  if (name === undefined && path !== undefined) {
    const unknown = [...given.named.keys()].find((key) => key !== 'attribute' && key !== 'default');
    if (unknown !== undefined) failType(`Unexpected keyword argument '${unknown}'`);
    change = getter(path, given.named.get('default') ?? null);
  } else {
    const filter = name === undefined ? failType('map requires a filter argument') : toText(name);
    change = (value) => runFilter(filter, value, { positional, named: given.named });
  }
  for (const value of iterate(input)) yield change(value);
}

function* chosen(
  input: Value,
  given: Arguments,
  wanted: boolean,
  byAttribute: boolean,
): Generator<Value, void, undefined> {
  if (!isTrue(input)) return;
  const [path] = given.positional;
  if (byAttribute && path === undefined) failType('Missing parameter for attribute name');
  const get = byAttribute ? getter(path) : (value: Value): Value => value;
  const [name, ...positional] = byAttribute ? given.positional.slice(1) : given.positional;
  for (const value of iterate(input)) {
    const own = get(value);
    const fits =
      name === undefined ? isTrue(own) : runTest(toText(name), own, { positional, named: given.named });
    if (fits === wanted) yield value;
  }
}
