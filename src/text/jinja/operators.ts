/**
 * Operators, attributes, items and slices of template values, as Python has them under Jinja's sandbox.
 *
 * `a.b` looks for an attribute and then for an item, `a['b']` the other way round; what is missing is undefined.
 * Attributes that begin with an underscore and methods that change a value are hidden, as in the immutable sandbox.
 */
import type { BinaryOperator, CompareOperator } from './ast.ts';
import { TemplateError } from './errors.ts';
import { formatPercent } from './format.ts';
import { CHANGING, methodOf } from './methods.ts';
import {
  Markup,
  PythonObject,
  Range,
  Tuple,
  Undefined,
  View,
  characters,
  escapeText,
  compare,
  failUndefined,
  isEqual,
  iterate,
  keyOf,
  lengthOf,
  listOf,
  toText,
  tryInt,
  tryNumber,
  tryText,
  typeName,
  type Value,
} from './values.ts';

/** A limit on what one operation may build: the largest prompt is far smaller. */
const MAX_LENGTH = 1 << 26;
const MAX_POWER_BITS = 1 << 16;

export function binary(operator: BinaryOperator, left: Value, right: Value): Value {
  const text = operator === '%' ? tryText(left) : undefined;
  if (text !== undefined) {
    return left instanceof Markup
      ? new Markup(formatPercent(text, right, escapeText))
      : formatPercent(text, right);
  }
  for (const value of [left, right]) if (value instanceof Undefined) failUndefined(value);
  const [a, b] = [tryNumber(left), tryNumber(right)];
  if (a !== undefined && b !== undefined) return calculate(operator, a, b);
  switch (operator) {
    case '+':
      return add(left, right);
    case '*':
      if (tryInt(right) !== undefined) return repeat(left, tryInt(right) ?? 0n);
      if (tryInt(left) !== undefined) return repeat(right, tryInt(left) ?? 0n);
      break;
    case '%':
    case '-':
    case '/':
    case '//':
    case '**':
      break;
    default:
      operator satisfies never;
  }
  throw unsupported(operator, left, right);
}

function unsupported(operator: string, left: Value, right: Value): TemplateError {
  return new TemplateError(
    `unsupported operand types for ${operator}: '${typeName(left)}' and '${typeName(right)}'`,
  );
}

function calculate(operator: BinaryOperator, a: bigint | number, b: bigint | number): Value {
  if (typeof a === 'bigint' && typeof b === 'bigint') return calculateInts(operator, a, b);
  const [x, y] = [Number(a), Number(b)];
  switch (operator) {
    case '+':
      return x + y;
    case '-':
      return x - y;
    case '*':
      return x * y;
    case '/':
      if (y === 0) throw new TemplateError('division by zero');
      return x / y;
    case '//':
      if (y === 0) throw new TemplateError('division by zero');
      // Python's way: x / y may round up to a whole number that y times is more than x.
      return Math.round((x - floatModulo(x, y)) / y);
    case '%':
      if (y === 0) throw new TemplateError('division by zero');
      return floatModulo(x, y);
    case '**':
      return x ** y;
    default:
      return operator satisfies never;
  }
}

function calculateInts(operator: BinaryOperator, a: bigint, b: bigint): Value {
  if ((operator === '/' || operator === '//' || operator === '%') && b === 0n) {
    throw new TemplateError('division by zero');
  }
  switch (operator) {
    case '+':
      return a + b;
    case '-':
      return a - b;
    case '*':
      return a * b;
    case '/':
      return Number(a) / Number(b);
    case '//':
      return (a - modulo(a, b)) / b;
    case '%':
      return modulo(a, b);
    case '**':
      if (b < 0n) return Number(a) ** Number(b);
      if (BigInt(a.toString(2).length) * b > MAX_POWER_BITS)
        throw new TemplateError('**: too large a number');
      return a ** b;
    default:
      return operator satisfies never;
  }
}

/** With the sign of the divisor. */
function modulo(a: bigint, b: bigint): bigint {
  const rest = a % b;
  return rest !== 0n && rest < 0n !== b < 0n ? rest + b : rest;
}

/** With the sign of the divisor, for zero too. */
function floatModulo(x: number, y: number): number {
  const rest = x % y;
  if (rest === 0) return y < 0 ? -0 : 0;
  return rest < 0 !== y < 0 ? rest + y : rest;
}

function add(left: Value, right: Value): Value {
  const [a, b] = [tryText(left), tryText(right)];
  if (a !== undefined && b !== undefined) {
    if (left instanceof Markup || right instanceof Markup) {
      return new Markup(escape(left).text + escape(right).text);
    }
    return a + b;
  }
  if (Array.isArray(left) && Array.isArray(right)) return [...left, ...right];
  if (left instanceof Tuple && right instanceof Tuple) return new Tuple([...left.items, ...right.items]);
  throw unsupported('+', left, right);
}

function repeat(value: Value, times: bigint): Value {
  const count = times < 0n ? 0 : Number(times);
  const text = tryText(value);
  if (text === undefined && !Array.isArray(value) && !(value instanceof Tuple)) {
    throw unsupported('*', value, times);
  }
  if (lengthOf(value) * count > MAX_LENGTH) throw new TemplateError('*: too long a result');
  if (text !== undefined) {
    return value instanceof Markup ? new Markup(text.repeat(count)) : text.repeat(count);
  }
  const items = Array.from({ length: count }, () => listOf(value)).flat();
  return value instanceof Tuple ? new Tuple(items) : items;
}

export function compareWith(operator: CompareOperator, left: Value, right: Value): boolean {
  switch (operator) {
    case '==':
      return isEqual(left, right);
    case '!=':
      return !isEqual(left, right);
    case '<':
      return compare(left, right) < 0;
    case '<=':
      return compare(left, right) <= 0;
    case '>':
      return compare(left, right) > 0;
    case '>=':
      return compare(left, right) >= 0;
    case 'in':
      return contains(right, left);
    case 'not in':
      return !contains(right, left);
    default:
      return operator satisfies never;
  }
}

/** Python's `wanted in container`. */
export function contains(container: Value, wanted: Value): boolean {
  const text = tryText(container);
  if (text !== undefined) {
    const part = tryText(wanted);
    if (part === undefined) {
      throw new TemplateError(`'in <string>' requires string as left operand, not ${typeName(wanted)}`);
    }
    return text.includes(part);
  }
  if (container instanceof Map) return container.has(keyOf(wanted));
  if (container instanceof View && container.part === 'keys') return container.dict.has(keyOf(wanted));
  for (const other of iterate(container)) if (isEqual(other, wanted)) return true;
  return false;
}

export function negate(value: Value): Value {
  if (value instanceof Undefined) failUndefined(value);
  const number = tryNumber(value);
  if (number === undefined) throw new TemplateError(`bad operand type for unary -: '${typeName(value)}'`);
  return -number;
}

export function keepSign(value: Value): Value {
  if (value instanceof Undefined) failUndefined(value);
  const number = tryNumber(value);
  if (number === undefined) throw new TemplateError(`bad operand type for unary +: '${typeName(value)}'`);
  return number;
}

/** `object.name`. */
export function attribute(object: Value, name: string): Value {
  if (object instanceof Undefined) return failUndefined(object);
  return known(pythonAttribute(object, name), () => known(itemOf(object, name), () => missing(object, name)));
}

/** `object[key]`. */
export function item(object: Value, key: Value): Value {
  if (object instanceof Undefined) return failUndefined(object);
  const name = tryText(key);
  return known(itemOf(object, key), () =>
    known(name === undefined ? undefined : pythonAttribute(object, name), () => missing(object, toText(key))),
  );
}

/** `??` would pass over None. */
function known(value: Value | undefined, otherwise: () => Value): Value {
  return value === undefined ? otherwise() : value;
}

function missing(object: Value, name: string): Undefined {
  return new Undefined(
    object instanceof Undefined || object === null
      ? `'None' has no attribute '${name}'`
      : `'${typeName(object)} object' has no attribute '${name}'`,
  );
}

/** Python's getattr in the sandbox; undefined when there is no such attribute. */
export function pythonAttribute(object: Value, name: string): Value | undefined {
  if (object instanceof PythonObject) {
    if (name.startsWith('_')) return undefined;
    return object.attributes.get(name);
  }
  if (object instanceof Tuple && object.names.includes(name)) return object.items[object.names.indexOf(name)];
  if (CHANGING.get(typeName(object))?.has(name) === true) {
    return new Undefined(`access to attribute '${name}' of '${typeName(object)}' object is unsafe.`);
  }
  const method = methodOf(object, name);
  return method && new PythonObject(`method ${name}`, (given) => method(given));
}

/** Python's `object[key]`; undefined where it raises a TypeError or LookupError. */
function itemOf(object: Value, key: Value): Value | undefined {
  if (object instanceof Map) {
    if (Array.isArray(key) || key instanceof Map) return undefined;
    return object.get(keyOf(key));
  }
  const index = tryInt(key);
  if (index === undefined) return undefined;
  const at = Number(index);
  const text = tryText(object);
  if (text !== undefined) {
    const character = characters(text).at(at);
    return object instanceof Markup && character !== undefined ? new Markup(character) : character;
  }
  if (Array.isArray(object)) return object.at(at);
  if (object instanceof Tuple) return object.items.at(at);
  if (object instanceof Range) return listOf(object).at(at);
  return undefined;
}

/** `object[start:stop:step]`; unlike an item, it is an error where Python's is. */
export function slice(
  object: Value,
  start: Value | undefined,
  stop: Value | undefined,
  step: Value | undefined,
): Value {
  if (object instanceof Undefined) return failUndefined(object);
  const text = tryText(object);
  const isList = Array.isArray(object) || object instanceof Tuple || object instanceof Range;
  if (text === undefined && !isList) {
    throw new TemplateError(`'${typeName(object)}' object cannot be sliced`);
  }
  const bounds = [bound(start), bound(stop), bound(step)] as const;
  if (text !== undefined) {
    const cut = sliced(characters(text), ...bounds).join('');
    return object instanceof Markup ? new Markup(cut) : cut;
  }
  const chosen = sliced(listOf(object), ...bounds);
  const [first] = chosen;
  if (object instanceof Range && first !== undefined) {
    const stride = object.step * BigInt(bounds[2] ?? 1);
    return new Range(tryInt(first) ?? 0n, (tryInt(chosen.at(-1) ?? null) ?? 0n) + stride, stride);
  }
  return object instanceof Tuple ? new Tuple(chosen) : chosen;
}

function bound(value: Value | undefined): number | undefined {
  if (value === undefined || value === null) return undefined;
  const int = tryInt(value);
  if (int === undefined) throw new TemplateError('slice indices must be integers or None');
  return Number(int);
}

function sliced<T>(items: readonly T[], start?: number, stop?: number, step = 1): T[] {
  if (step === 0) throw new TemplateError('slice step cannot be zero');
  const { length } = items;
  const [lowest, highest] = step > 0 ? [0, length] : [-1, length - 1];
  const place = (value: number): number =>
    Math.min(Math.max(value < 0 ? value + length : value, lowest), highest);
  const from = start === undefined ? (step > 0 ? lowest : highest) : place(start);
  const to = stop === undefined ? (step > 0 ? highest : lowest) : place(stop);
  const chosen: T[] = [];
  for (let i = from; step > 0 ? i < to : i > to; i += step) chosen.push(items[i] as T);
  return chosen;
}

/** HTML escaped, unless it is markup. */
export function escape(value: Value): Markup {
  return value instanceof Markup ? value : new Markup(escapeText(toText(value)));
}

/** Calls a function, a macro or another value that can be called. */
export function call(callee: Value, positional: readonly Value[], named: ReadonlyMap<string, Value>): Value {
  if (callee instanceof Undefined) return failUndefined(callee);
  if (callee instanceof PythonObject && callee.call) return callee.call({ positional, named });
  throw new TemplateError(`'${typeName(callee)}' object is not callable`);
}
