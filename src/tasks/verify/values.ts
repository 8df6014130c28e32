/**
 * The values that a call's arguments hold, with the distinctions that JSON and Python make and JavaScript loses.
 *
 * An integer is a bigint and a float is a number, so that 1 and 1.0 stay apart; a tuple is not a list; the entries of
 * a dict keep their order and may have any key. Values are read by `json-values.ts` and `python-literals.ts`. Nothing
 * here converts one type into another.
 */

export type Value = null | boolean | bigint | number | string | readonly Value[] | Tuple | Dict;
export type Dict = ReadonlyMap<string, Value>;
export interface Tuple {
  readonly tuple: readonly Value[];
}

export function isList(value: Value | undefined): value is readonly Value[] {
  return Array.isArray(value);
}

export function isDict(value: Value | undefined): value is Dict {
  return value instanceof Map;
}

export function isTuple(value: Value | undefined): value is Tuple {
  return typeof value === 'object' && value !== null && 'tuple' in value;
}

/** Python's name of a value's type. */
export function typeName(
  value: Value,
): 'NoneType' | 'bool' | 'int' | 'float' | 'str' | 'list' | 'tuple' | 'dict' {
  if (value === null) return 'NoneType';
  if (typeof value === 'boolean') return 'bool';
  if (typeof value === 'bigint') return 'int';
  if (typeof value === 'number') return 'float';
  if (typeof value === 'string') return 'str';
  return isList(value) ? 'list' : isDict(value) ? 'dict' : 'tuple';
}

/** The same type and the same value, throughout; the order of a dict's entries does not matter. */
export function sameValue(a: Value, b: Value): boolean {
  return compare(a, b, (x, y) => x === y);
}

/** Python's `==`: numbers and booleans by their value (1 == 1.0 == True), a tuple never equals a list. */
export function pythonEquals(a: Value, b: Value): boolean {
  // For a bigint and a number, == compares the exact values.
  return compare(a, b, (x, y) => x === y || (isNumeric(x) && isNumeric(y) && numeric(x) == numeric(y)));
}

type Scalar = null | boolean | bigint | number | string;

function isNumeric(value: Scalar): value is boolean | bigint | number {
  return value !== null && typeof value !== 'string';
}

function numeric(value: boolean | bigint | number): bigint | number {
  return typeof value === 'boolean' ? BigInt(value) : value;
}

function compare(a: Value, b: Value, equal: (a: Scalar, b: Scalar) => boolean): boolean {
  if (isList(a)) return isList(b) && compareLists(a, b, equal);
  if (isTuple(a)) return isTuple(b) && compareLists(a.tuple, b.tuple, equal);
  if (isDict(a)) {
    if (!isDict(b) || a.size !== b.size) return false;
    return [...a].every(([key, value]) => {
      const other = b.get(key);
      return other !== undefined && compare(value, other, equal);
    });
  }
  if (isList(b) || isTuple(b) || isDict(b)) return false;
  return equal(a, b);
}

function compareLists(
  a: readonly Value[],
  b: readonly Value[],
  equal: (a: Scalar, b: Scalar) => boolean,
): boolean {
  return a.length === b.length && a.every((value, i) => compare(value, b[i] ?? null, equal));
}
