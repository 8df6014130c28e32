/**
 * Python's two ways to format values into a text: `'%.2f' % x` and `'{:>8}'.format(x)`.
 *
 * Source: the Python library reference (printf-style string formatting; format specification mini-language). What a
 * chat template has no use for is refused: `%a`, locale numbers, attributes with underscores.
 */
import { intArgument } from './arguments.ts';
import { TemplateError } from './errors.ts';
import {
  Markup,
  Range,
  Tuple,
  Undefined,
  failUndefined,
  floatText,
  keyOf,
  represent,
  textLength,
  toText,
  tryNumber,
  tryText,
  typeName,
  type Arguments,
  type Value,
} from './values.ts';

const PERCENT = /%(?:\(([^)]*)\))?([-+ #0]*)(\*|\d+)?(?:\.(\*|\d+))?[hlL]?([\s\S]?)/g;
/** Wider than any line. */
const MAX_WIDTH = 1 << 16;

/** `format % given`. `escape` is applied to texts that are put into markup. */
export function formatPercent(format: string, given: Value, escape = (text: string): string => text): string {
  const values = given instanceof Tuple ? given.items : [given];
  let used = 0;
  const next = (): Value => {
    const value = values[used];
    if (value === undefined) throw new TemplateError('not enough arguments for format string');
    used += 1;
    return value;
  };
  const size = (text: string | undefined): number | undefined =>
    text === undefined ? undefined : text === '*' ? intArgument('%', next(), 0) : Number(text);
  const shown = format.replace(
    PERCENT,
    (_, key?: string, flags = '', width?: string, digits?: string, type = '') => {
      if (type === '%') return '%';
      let value: Value;
      const wide = size(width);
      const precision = size(digits);
      if (key === undefined) value = next();
      else {
        if (!(given instanceof Map)) throw new TemplateError('format requires a mapping');
        const found = given.get(keyOf(key));
        if (found === undefined) throw new TemplateError(`the key ${represent(key)} is missing`);
        value = found;
      }
      const sign = flags.includes('+') ? '+' : flags.includes(' ') ? ' ' : '-';
      const isLeft = flags.includes('-');
      const fill = flags.includes('0') && !isLeft && !'sr'.includes(type) ? '0' : ' ';
      const spec = {
        fill,
        align: isLeft ? '<' : fill === '0' ? '=' : '>',
        sign,
        width: wide ?? 0,
        comma: '',
      };
      if (type === 's' || type === 'r') {
        const text = type === 's' ? toText(value) : represent(value);
        const cut = precision === undefined ? text : Array.from(text).slice(0, precision).join('');
        return align(value instanceof Markup ? cut : escape(cut), spec, '');
      }
      return formatNumber(value, type, precision, spec, flags.includes('#'), true);
    },
  );
  // What can be indexed might have been meant for its keys.
  const isUsed =
    used >= values.length ||
    given instanceof Map ||
    given instanceof Range ||
    given instanceof Undefined ||
    Array.isArray(given);
  if (!isUsed) throw new TemplateError('not all arguments converted during string formatting');
  return shown;
}

interface Spec {
  fill: string;
  align: string;
  sign: string;
  width: number;
  comma: string;
}

/** A value as `format(value, spec)` shows it. */
function formatValue(value: Value, spec: string): string {
  if (spec === '') return toText(value);
  if (value instanceof Undefined) failUndefined(value);
  const match = /^(?:([\s\S])?([<>=^]))?([-+ ])?(#)?(0)?(\d+)?([_,])?(?:\.(\d+))?([a-zA-Z%])?$/u.exec(spec);
  const number = tryNumber(value);
  if (match === null || (number === undefined && tryText(value) === undefined)) {
    throw new TemplateError(`invalid format ${represent(spec)} for an object of type '${typeName(value)}'`);
  }
  const [, fill, side, sign = '-', alternate, zero, width, comma = '', digits, type = ''] = match;
  const layout = {
    fill: fill ?? (zero === undefined ? ' ' : '0'),
    align: side ?? (zero === undefined ? (number === undefined ? '<' : '>') : '='),
    sign,
    width: Number(width ?? 0),
    comma,
  };
  const precision = digits === undefined ? undefined : Number(digits);
  if (number === undefined) {
    if (type !== '' && type !== 's') throw new TemplateError(`unknown format code '${type}' for a text`);
    const text = toText(value);
    return align(precision === undefined ? text : Array.from(text).slice(0, precision).join(''), layout, '');
  }
  if (typeof value === 'boolean' && type === '') return align(toText(value), layout, '');
  return formatNumber(value, type, precision, layout, alternate !== undefined, false);
}

function formatNumber(
  value: Value,
  type: string,
  precision: number | undefined,
  spec: Spec,
  alternate: boolean,
  isPercent: boolean,
): string {
  const number = tryNumber(value);
  if (number === undefined)
    throw new TemplateError(`%${type} format: a number is required, not ${typeName(value)}`);
  const isNegative = number < 0 || Object.is(number, -0);
  let digits: string;
  let prefix = '';
  switch (type) {
    case 'd':
    case 'i':
    case 'u':
    case 'n':
      if (typeof number === 'number' && !isPercent)
        throw new TemplateError(`unknown format code '${type}' for a float`);
      digits = String(magnitude(typeof number === 'number' ? BigInt(Math.trunc(number)) : number));
      break;
    case 'x':
    case 'X':
    case 'o':
    case 'b': {
      if (typeof number === 'number')
        throw new TemplateError(`%${type} format: an integer is required, not float`);
      digits = magnitude(number).toString(type === 'o' ? 8 : type === 'b' ? 2 : 16);
      if (alternate) prefix = `0${type}`;
      if (type === 'X') digits = digits.toUpperCase();
      break;
    }
    case 'c':
      if (typeof number === 'number') throw new TemplateError('%c requires int or char');
      return align(String.fromCodePoint(Number(number)), spec, '');
    case '':
      if (isPercent) throw new TemplateError('incomplete format');
      if (typeof number === 'bigint') digits = String(magnitude(number));
      else
        digits = precision === undefined ? floatText(Math.abs(number)) : general(Math.abs(number), precision);
      break;
    case '%':
      digits = `${fixed(Math.abs(Number(number)) * 100, precision ?? 6)}%`;
      break;
    case 'f':
    case 'F':
      digits = fixed(Math.abs(Number(number)), precision ?? 6);
      break;
    case 'e':
    case 'E':
      digits = exponential(Math.abs(Number(number)), precision ?? 6);
      break;
    case 'g':
    case 'G':
      digits = general(Math.abs(Number(number)), precision ?? 6);
      break;
    default:
      throw new TemplateError(`unsupported format character '${type}'`);
  }
  if (type === 'E' || type === 'G' || type === 'F') digits = digits.toUpperCase();
  if (spec.comma !== '')
    digits = digits.replace(/^\d+/, (whole) => whole.replace(/\B(?=(\d{3})+$)/g, spec.comma));
  const sign = isNegative ? '-' : spec.sign === '-' ? '' : spec.sign;
  return align(digits, spec, sign + prefix);
}

const magnitude = (value: bigint): bigint => (value < 0n ? -value : value);

/** Not finite: `inf` or `nan`, as Python has them; undefined for other numbers. */
function special(value: number): string | undefined {
  return Number.isFinite(value) ? undefined : floatText(value);
}

function fixed(value: number, digits: number): string {
  if (special(value) !== undefined) return floatText(value);
  if (digits > 100) throw new TemplateError('expected a precision of at most 100');
  // toFixed rounds a tie up and stops at 1e21; Python rounds it to the even digit.
  if (value >= 1e21) return `${BigInt(value)}${digits > 0 ? `.${'0'.repeat(digits)}` : ''}`;
  const shown = value.toFixed(digits);
  const isTie = digits < 15 && (value * 10 ** digits) % 1 === 0.5 && isExactTie(value, digits);
  if (!isTie || !/[13579]$/.test(shown)) return shown;
  return (Math.floor(value * 10 ** digits) / 10 ** digits).toFixed(digits);
}

/** Whether a float lies exactly between two numbers of so many digits: only multiples of a power of two do. */
function isExactTie(value: number, digits: number): boolean {
  return /^50*$/.test(
    value
      .toFixed(Math.min(100, digits + 40))
      .split('.')[1]
      ?.slice(digits) ?? '',
  );
}

function exponential(value: number, digits: number): string {
  const [mantissa = '', power = '0'] = value.toExponential(Math.min(digits, 100)).split('e');
  const exponent = Number(power);
  return (
    special(value) ?? `${mantissa}e${exponent < 0 ? '-' : '+'}${String(Math.abs(exponent)).padStart(2, '0')}`
  );
}

function general(value: number, digits: number): string {
  const places = Math.max(1, digits);
  const [mantissa = '', power = '0'] = value.toExponential(Math.min(places - 1, 100)).split('e');
  const exponent = Number(power);
  const trimmed = (text: string): string => (text.includes('.') ? text.replace(/\.?0+$/, '') : text);
  if (exponent < -4 || exponent >= places) {
    return (
      special(value) ??
      `${trimmed(mantissa)}e${exponent < 0 ? '-' : '+'}${String(Math.abs(exponent)).padStart(2, '0')}`
    );
  }
  return special(value) ?? trimmed(value.toFixed(places - 1 - exponent));
}

function align(text: string, spec: Spec, sign: string): string {
  if (spec.width > MAX_WIDTH)
    throw new TemplateError(`expected a width of at most ${MAX_WIDTH}, got ${spec.width}`);
  const missing = Math.max(0, spec.width - textLength(sign + text));
  switch (spec.align) {
    case '<':
      return sign + text + spec.fill.repeat(missing);
    case '=':
      return sign + spec.fill.repeat(missing) + text;
    case '^':
      return (
        spec.fill.repeat(Math.floor(missing / 2)) + sign + text + spec.fill.repeat(Math.ceil(missing / 2))
      );
    default:
      return spec.fill.repeat(missing) + sign + text;
  }
}

const FIELD = /\{\{|\}\}|\{([^{}!:]*)(?:!([rsa]))?(?::((?:[^{}]|\{[^{}]*\})*))?\}|[{}]/g;

/** `format.format(...)`. */
export function formatBraces(format: string, given: Arguments): string {
  let automatic = 0;
  const lookUp = (field: string): Value => {
    const [head = '', ...path] = field.split(/(?=[.[])/);
    const isNumbered = /^\d+$/.test(head);
    if ((head === '' && automatic < 0) || (isNumbered && automatic > 0)) {
      throw new TemplateError('format(): cannot switch between {} and {0}');
    }
    if (isNumbered) automatic = -1;
    const number = head === '' ? automatic++ : isNumbered ? Number(head) : undefined;
    let value = number === undefined ? given.named.get(head) : given.positional[number];
    if (value === undefined) throw new TemplateError(`format(): expected a value for {${field}}, got none`);
    for (const step of path) value = follow(value, step);
    return value;
  };
  return format.replace(FIELD, (whole, field?: string, conversion?: string, spec = '') => {
    if (whole === '{{' || whole === '}}') return whole.slice(1);
    if (field === undefined) throw new TemplateError(`format(): a single '${whole}' in the format`);
    const value = lookUp(field);
    const inner = spec.replace(/\{([^{}]*)\}/g, (_: string, name: string) => toText(lookUp(name)));
    return conversion === 'r'
      ? formatValue(represent(value), inner)
      : formatValue(conversion ? toText(value) : value, inner);
  });
}

/** `[key]` of a field name. Attributes of values have no use in a template. */
function follow(value: Value, step: string): Value {
  const key = /^\[(.*)\]$/.exec(step)?.[1];
  const index = key !== undefined && /^\d+$/.test(key) ? BigInt(key) : key;
  const found =
    index === undefined
      ? undefined
      : value instanceof Map
        ? value.get(index)
        : Array.isArray(value) && typeof index === 'bigint'
          ? value[Number(index)]
          : undefined;
  if (found === undefined) throw new TemplateError(`format(): '${typeName(value)}' has no ${step}`);
  return found;
}
