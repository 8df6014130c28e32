/**
 * The values of a template, with the meaning that Python gives them.
 *
 * None is null, int is bigint, float is number, str is string, list is an array, dict is a Map; what JavaScript lacks
 * (tuples, dict views, iterators, ranges, objects with attributes, Jinja's undefined and markup) are the small classes
 * here. Texts are counted in Unicode code points. Printing, truth, equality, order and iteration are Python's.
 *
 * Sources: the Python language reference (data model, built-in types), Jinja's documentation (undefined types).
 */
import { TemplateError } from './errors.ts';

export type Value =
  | null
  | boolean
  | bigint
  | number
  | string
  | Value[]
  | Map<Value, Value>
  | Markup
  | Tuple
  | View
  | Iterated
  | Range
  | PythonObject
  | Undefined;

/** A name or attribute that is not there: prints as nothing, is empty and false; most uses of it are errors. */
export class Undefined {
  readonly why: string;
  constructor(why: string) {
    this.why = why;
  }
}

/** Text that `safe` marked as HTML: what is added to it is escaped. */
export class Markup {
  readonly text: string;
  constructor(text: string) {
    this.text = text;
  }
}

export class Tuple {
  readonly items: readonly Value[];
  /** Of a named tuple: the attribute of each item. */
  readonly names: readonly string[];
  constructor(items: readonly Value[], names: readonly string[] = []) {
    this.items = items;
    this.names = names;
  }
}

/** `keys()`, `values()` or `items()` of a dict. */
export class View {
  readonly part: 'keys' | 'values' | 'items';
  readonly dict: ReadonlyMap<Value, Value>;
  constructor(part: 'keys' | 'values' | 'items', dict: ReadonlyMap<Value, Value>) {
    this.part = part;
    this.dict = dict;
  }
}

/** A generator: read once, from front to back; it has no length. */
export class Iterated {
  readonly items: Iterator<Value>;
  constructor(items: Iterable<Value>) {
    this.items = items[Symbol.iterator]();
  }
}

export class Range {
  readonly start: bigint;
  readonly stop: bigint;
  readonly step: bigint;
  constructor(start: bigint, stop: bigint, step: bigint) {
    this.start = start;
    this.stop = stop;
    this.step = step;
  }
  get length(): number {
    const span = this.step > 0n ? this.stop - this.start : this.start - this.stop;
    const stride = this.step > 0n ? this.step : -this.step;
    return span <= 0n ? 0 : Number((span + stride - 1n) / stride);
  }
}

/** What a call was given. */
export interface Arguments {
  positional: readonly Value[];
  named: ReadonlyMap<string, Value>;
}

/** Anything with attributes of its own or that can be called: functions, macros, namespaces, the loop. */
export class PythonObject {
  readonly typeName: string;
  readonly attributes: Map<string, Value>;
  readonly call: ((given: Arguments) => Value) | undefined;
  constructor(type: string, call?: (given: Arguments) => Value, attributes = new Map<string, Value>()) {
    this.typeName = type;
    this.call = call;
    this.attributes = attributes;
  }
}

export const NAMESPACE = 'Namespace';

/** A value of JavaScript that stands for a whole float: 1.0, where the number 1 is an int. */
export class Float {
  readonly value: number;
  constructor(value: number) {
    this.value = value;
  }
}

/** Values of the program as template values: whole numbers become int, objects and Maps dict, missing fields go. */
export function toValue(input: unknown): Value {
  switch (typeof input) {
    case 'string':
    case 'boolean':
    case 'bigint':
      return input;
    case 'number':
      return Number.isInteger(input) ? BigInt(input) : input;
    case 'object':
      return objectToValue(input);
    case 'undefined':
    case 'symbol':
    case 'function':
    default:
      return null;
  }
}

function objectToValue(input: object | null): Value {
  if (input === null) return null;
  if (input instanceof Float) return input.value;
  if (input instanceof PythonObject) return input;
  if (Array.isArray(input)) return input.map(toValue);
  const entries: Iterable<[unknown, unknown]> = input instanceof Map ? input : Object.entries(input);
  const dict = new Map<Value, Value>();
  for (const [key, value] of entries) if (value !== undefined) dict.set(toValue(key), toValue(value));
  return dict;
}

export function typeName(value: Value): string {
  if (value === null) return 'NoneType';
  if (typeof value === 'boolean') return 'bool';
  if (typeof value === 'bigint') return 'int';
  if (typeof value === 'number') return 'float';
  if (typeof value === 'string') return 'str';
  if (Array.isArray(value)) return 'list';
  if (value instanceof Map) return 'dict';
  if (value instanceof Markup) return 'Markup';
  if (value instanceof Tuple) return 'tuple';
  if (value instanceof View) return `dict_${value.part}`;
  if (value instanceof Iterated) return 'generator';
  if (value instanceof Range) return 'range';
  if (value instanceof Undefined) return 'Undefined';
  return value.typeName;
}

/** The text of a str or Markup, undefined for other values. */
export function tryText(value: Value): string | undefined {
  if (typeof value === 'string') return value;
  return value instanceof Markup ? value.text : undefined;
}

/** A bool, int or float as a number that can be computed with, undefined for other values. */
export function tryNumber(value: Value): bigint | number | undefined {
  if (typeof value === 'boolean') return value ? 1n : 0n;
  return typeof value === 'bigint' || typeof value === 'number' ? value : undefined;
}

/** An int (or bool), undefined for other values. */
export function tryInt(value: Value): bigint | undefined {
  const number = tryNumber(value);
  return typeof number === 'bigint' ? number : undefined;
}

export function failUndefined(value: Undefined): never {
  throw new TemplateError(value.why);
}

const HAS_SURROGATE = /[\ud800-\udfff]/;

/** The code points of a text, each as a text. */
export function characters(text: string): string[] {
  return HAS_SURROGATE.test(text) ? Array.from(text) : text.split('');
}

export function textLength(text: string): number {
  return HAS_SURROGATE.test(text) ? characters(text).length : text.length;
}

export function isTrue(value: Value): boolean {
  if (value === null || value instanceof Undefined) return false;
  if (typeof value === 'object') {
    if (value instanceof Iterated || value instanceof PythonObject) return true;
    return lengthOf(value) > 0;
  }
  return Boolean(value);
}

/** Python's len(). Throws TemplateError for what has none. */
export function lengthOf(value: Value): number {
  const text = tryText(value);
  if (text !== undefined) return textLength(text);
  if (Array.isArray(value)) return value.length;
  if (value instanceof Map) return value.size;
  if (value instanceof Tuple) return value.items.length;
  if (value instanceof View) return value.dict.size;
  if (value instanceof Range) return value.length;
  if (value instanceof Undefined) return 0;
  throw new TemplateError(`object of type '${typeName(value)}' has no len()`);
}

/** Python's iter(). Throws TemplateError for what cannot be iterated. */
export function iterate(value: Value): Iterable<Value> {
  const text = tryText(value);
  if (text !== undefined) return characters(text);
  if (Array.isArray(value)) return value;
  if (value instanceof Map) return value.keys();
  if (value instanceof Tuple) return value.items;
  if (value instanceof View) return viewed(value);
  if (value instanceof Range) return ranged(value);
  if (value instanceof Iterated) return { [Symbol.iterator]: () => ({ next: () => value.items.next() }) };
  if (value instanceof Undefined) return [];
  throw new TemplateError(`'${typeName(value)}' object is not iterable`);
}

export function listOf(value: Value): Value[] {
  return [...iterate(value)];
}

function* viewed({ part, dict }: View): Generator<Value, void, undefined> {
  for (const [key, value] of dict) {
    yield part === 'keys' ? key : part === 'values' ? value : new Tuple([key, value]);
  }
}

function* ranged({ start, step, length }: Range): Generator<Value, void, undefined> {
  for (let i = 0; i < length; i++) yield start + BigInt(i) * step;
}

/** A key of a dict. Throws TemplateError for what Python cannot hash. */
export function keyOf(value: Value): Value {
  if (value instanceof Markup) return value.text;
  if (typeof value === 'number' && Number.isInteger(value)) return BigInt(value);
  if (Array.isArray(value) || value instanceof Map) {
    throw new TemplateError(`unhashable type: '${typeName(value)}'`);
  }
  return value;
}

/** Python's ==. */
export function isEqual(a: Value, b: Value): boolean {
  if (a === b) return true;
  const [left, right] = [tryNumber(a), tryNumber(b)];
  // eslint-disable-next-line eqeqeq -- JavaScript compares an int with a float exactly, but only so.
  if (left !== undefined && right !== undefined) return left == right;
  const text = tryText(a);
  if (text !== undefined) return text === tryText(b);
  if (a instanceof Undefined) return b instanceof Undefined;
  if (Array.isArray(a)) return Array.isArray(b) && areEqual(a, b);
  if (a instanceof Tuple) return b instanceof Tuple && areEqual(a.items, b.items);
  if (a instanceof Range) return b instanceof Range && areEqual(listOf(a), listOf(b));
  if (a instanceof Map && b instanceof Map) {
    if (a.size !== b.size) return false;
    for (const [key, value] of a) {
      const other = b.get(key);
      if (other === undefined || !isEqual(value, other)) return false;
    }
    return true;
  }
  return false;
}

function areEqual(a: readonly Value[], b: readonly Value[]): boolean {
  return a.length === b.length && a.every((item, i) => isEqual(item, b[i] as Value));
}

/** Below 0, 0 or above 0 as a < b, a == b or a > b; NaN for numbers without order. Throws TemplateError for unlike types. */
export function compare(a: Value, b: Value): number {
  const [left, right] = [tryNumber(a), tryNumber(b)];
  if (left !== undefined && right !== undefined) {
    return left < right ? -1 : left > right ? 1 : isEqual(a, b) ? 0 : Number.NaN;
  }
  const [leftText, rightText] = [tryText(a), tryText(b)];
  if (leftText !== undefined && rightText !== undefined) return compareTexts(leftText, rightText);
  if (Array.isArray(a) && Array.isArray(b)) return compareLists(a, b);
  if (a instanceof Tuple && b instanceof Tuple) return compareLists(a.items, b.items);
  for (const value of [a, b]) if (value instanceof Undefined) failUndefined(value);
  throw new TemplateError(
    `expected values with an order, got instances of '${typeName(a)}' and '${typeName(b)}'`,
  );
}

function compareTexts(a: string, b: string): number {
  if (!HAS_SURROGATE.test(a) && !HAS_SURROGATE.test(b)) return a < b ? -1 : a > b ? 1 : 0;
  return compareLists(
    characters(a).map((character) => BigInt(character.codePointAt(0) ?? 0)),
    characters(b).map((character) => BigInt(character.codePointAt(0) ?? 0)),
  );
}

function compareLists(a: readonly Value[], b: readonly Value[]): number {
  for (let i = 0; i < Math.min(a.length, b.length); i++) {
    const [left, right] = [a[i] as Value, b[i] as Value];
    if (!isEqual(left, right)) return compare(left, right);
  }
  return a.length - b.length;
}

/** Python's str(): what `{{ value }}` writes. */
export function toText(value: Value): string {
  if (value instanceof Undefined) return '';
  return tryText(value) ?? represent(value);
}

/** Python's repr(). */
export function represent(value: Value): string {
  if (value === null) return 'None';
  if (typeof value === 'boolean') return value ? 'True' : 'False';
  if (typeof value === 'bigint') return String(value);
  if (typeof value === 'number') return floatText(value);
  if (typeof value === 'string') return quoted(value);
  if (Array.isArray(value)) return `[${value.map(represent).join(', ')}]`;
  if (value instanceof Map) {
    return `{${Array.from(value, ([key, item]) => `${represent(key)}: ${represent(item)}`).join(', ')}}`;
  }
  if (value instanceof Markup) return `Markup(${quoted(value.text)})`;
  if (value instanceof Tuple) {
    const items = value.items.map(represent);
    return items.length === 1 ? `(${items[0]},)` : `(${items.join(', ')})`;
  }
  if (value instanceof View) return `dict_${value.part}(${represent(listOf(value))})`;
  if (value instanceof Range) {
    return `range(${value.start}, ${value.stop}${value.step === 1n ? '' : `, ${value.step}`})`;
  }
  if (value instanceof Undefined) return 'Undefined';
  if (value instanceof Iterated) return '<generator object>';
  if (value.typeName === NAMESPACE) return `<Namespace ${represent(new Map(value.attributes))}>`;
  return `<${value.typeName}>`;
}

/** A float in the shortest form that reads back, with Python's choice of exponents. */
export function floatText(value: number): string {
  if (Number.isNaN(value)) return 'nan';
  if (!Number.isFinite(value)) return value > 0 ? 'inf' : '-inf';
  if (value === 0) return Object.is(value, -0) ? '-0.0' : '0.0';
  const [mantissa = '', power = '0'] = value.toExponential().split('e');
  const exponent = Number(power);
  if (exponent < -4 || exponent >= 16) {
    const sign = exponent < 0 ? '-' : '+';
    return `${mantissa}e${sign}${String(Math.abs(exponent)).padStart(2, '0')}`;
  }
  const digits = Math.max(0, mantissa.replace(/[-.]/g, '').length - 1 - exponent);
  return digits === 0 ? `${BigInt(value)}.0` : value.toFixed(digits);
}

const UNPRINTABLE = /[\p{C}\p{Z}\\]/gu;
const NAMED_ESCAPES: Readonly<Record<string, string>> = {
  '\n': '\\n',
  '\r': '\\r',
  '\t': '\\t',
  '\\': '\\\\',
  ' ': ' ',
};

function quoted(text: string): string {
  const quote = text.includes("'") && !text.includes('"') ? '"' : "'";
  const escaped = text.replace(UNPRINTABLE, (character) => {
    const named = NAMED_ESCAPES[character];
    if (named !== undefined) return named;
    const code = character.codePointAt(0) ?? 0;
    if (code < 0x100) return `\\x${hex(code, 2)}`;
    return code < 0x10000 ? `\\u${hex(code, 4)}` : `\\U${hex(code, 8)}`;
  });
  return quote + (quote === "'" ? escaped.replaceAll("'", "\\'") : escaped) + quote;
}

function hex(code: number, length: number): string {
  return code.toString(16).padStart(length, '0');
}

const ENTITIES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  "'": '&#39;',
  '"': '&#34;',
};

/** HTML's special characters as entities. */
export function escapeText(text: string): string {
  return text.replace(/[&<>'"]/g, (character) => ENTITIES[character] ?? character);
}
