/**
 * One call against BFCL's accepted answers, by the rules of its AST checker for Python (single-turn categories).
 *
 * `accepted` holds for each parameter a list of values; "" among them means that it may be left out. In this order:
 * the function's name; required parameters; then for each given one that it is declared and listed, its type, its
 * value; last, listed parameters that may not be left out. Strings are compared without case and without spaces and
 * `,./-_*^`, also in lists and dicts. An int is a float where a float is declared, a tuple is a list where a tuple is.
 * Where the accepted values are of another type than the declared one (BFCL: a variable), that type is right too, and
 * the value is compared as it is. Values are equal as in Python. A dict of accepted values holds a list for each key.
 * Source: ShishirPatil/gorilla, berkeley-function-call-leaderboard, eval_checker/ast_eval/ast_checker.py. What makes
 * that checker stop with an exception is a wrong value here.
 */
import type { Call } from './call-styles/call.ts';
import { writeJson } from './json-values.ts';
import type { ParameterType, Tool } from './tools.ts';
import { isDict, isList, isTuple, pythonEquals, typeName } from './values.ts';
import type { Dict, Value } from './values.ts';

export type CallErrorClass = 'tool choice' | 'parameter name' | 'parameter value' | 'format';
export interface Mistake {
  class: CallErrorClass;
  why: string;
}

/** The accepted calls: for each parameter the accepted values. */
export interface AcceptedCall {
  name: string;
  parameters: ReadonlyMap<string, readonly Value[]>;
}

type TypeName = ReturnType<typeof typeName>;

const TYPE_NAMES: Readonly<Record<ParameterType, TypeName>> = {
  string: 'str',
  integer: 'int',
  float: 'float',
  boolean: 'bool',
  array: 'list',
  tuple: 'list',
  dict: 'dict',
  any: 'str',
};

/**
 * The first mistake of a call, undefined where it is right. `isExact`: the accepted values are those of a gold call, in
 * which "" is a text like any other.
 */
export function checkBfcl(
  call: Call,
  accepted: AcceptedCall,
  tool: Tool | undefined,
  isExact: boolean,
): Mistake | undefined {
  if (call.name !== accepted.name) return wrongTool(accepted.name, call.name);
  for (const name of tool?.required ?? []) {
    if (!call.arguments.has(name)) return missing(name);
  }
  for (const [name, value] of call.arguments) {
    const values = accepted.parameters.get(name);
    if (values === undefined || tool?.parameters.has(name) === false) {
      return unexpected(name, [...accepted.parameters.keys()]);
    }
    if (!isAccepted(value, values, tool, name)) return wrongValue(name, values, value);
  }
  for (const [name, values] of accepted.parameters) {
    if (!call.arguments.has(name) && (isExact || !values.includes(''))) return missing(name);
  }
  return undefined;
}

export function wrongTool(expected: string, got: string): Mistake {
  return { class: 'tool choice', why: `expected ${expected}, got ${got}` };
}

export function missing(name: string): Mistake {
  return { class: 'parameter name', why: `${name}: expected a value, got none` };
}

export function unexpected(name: string, expected: readonly string[]): Mistake {
  const known = expected.length === 0 ? 'no parameter' : `only ${expected.join(', ')}`;
  return { class: 'parameter name', why: `expected ${known}, got ${name}` };
}

export function wrongValue(name: string, accepted: readonly Value[], got: Value): Mistake {
  const values = accepted.map((each) => (each === '' ? 'nothing' : writeJson(each))).join(' or ');
  return { class: 'parameter value', why: `${name}: expected ${values || 'nothing'}, got ${typed(got)}` };
}

function typed(value: Value): string {
  return isTuple(value) ? `the tuple ${writeJson(value)}` : writeJson(value);
}

function isAccepted(given: Value, accepted: readonly Value[], tool: Tool | undefined, name: string): boolean {
  const { type, itemType } = tool?.parameters.get(name) ?? {};
  let value = given;
  if (type === 'tuple' && isTuple(value)) value = value.tuple;
  if (type === 'float' && typeof value === 'bigint') value = Number(value);

  const expected = type === undefined ? (acceptedType(accepted) ?? typeName(value)) : TYPE_NAMES[type];
  const ofItems = type === 'array' || type === 'tuple' ? itemType : undefined;
  const itemsExpected = ofItems === undefined ? undefined : TYPE_NAMES[ofItems];
  const { isValid, isVariable } = checkType(value, accepted, expected, itemsExpected);
  if (!isValid) return false;
  if (!isVariable) {
    if (isDict(value) && expected === 'dict') return acceptsDict(value, accepted);
    if (isList(value) && expected === 'list') {
      const items = value;
      return itemsExpected === 'dict'
        ? accepted.some((each) => acceptsDicts(items, each))
        : includes(accepted.map(standardizeItems), standardizeItems(items));
    }
    if (typeof value === 'string' && expected === 'str')
      return includes(accepted.map(standardize), standardize(value));
  }
  return includes(accepted, value);
}

/** A value is of the declared type, or of that of the accepted values, which are then compared as they are. */
function checkType(
  value: Value,
  accepted: readonly Value[],
  expected: TypeName,
  itemsExpected?: TypeName,
): { isValid: boolean; isVariable: boolean } {
  const other = acceptedType(accepted);
  const isVariable = other !== undefined && other !== expected;
  if (typeName(value) !== expected) return { isValid: typeName(value) === other, isVariable: true };
  if (itemsExpected === undefined || !isList(value)) return { isValid: true, isVariable };
  const isValid = accepted.some(
    (each) => !isList(each) || value.every((item) => checkType(item, each, itemsExpected).isValid),
  );
  return { isValid, isVariable };
}

/** The type of the first accepted value that is not "". */
function acceptedType(accepted: readonly Value[]): TypeName | undefined {
  const first = accepted.find((each) => each !== '');
  return first === undefined ? undefined : typeName(first);
}

function acceptsDict(value: Dict, accepted: readonly Value[]): boolean {
  return accepted.some((each) => {
    if (!isDict(each)) return false;
    for (const [key, inner] of value) {
      const values = itemsOf(each.get(key));
      if (values === undefined || !includes(values.map(standardize), standardize(inner))) return false;
    }
    return [...each].every(([key, values]) => value.has(key) || itemsOf(values)?.includes('') === true);
  });
}

/** A list of dicts against one of the accepted ones, in order. */
function acceptsDicts(items: readonly Value[], accepted: Value): boolean {
  const expected = itemsOf(accepted);
  if (expected?.length !== items.length) return false;
  return items.every((item, i) => isDict(item) && acceptsDict(item, [expected[i] ?? null]));
}

/** As Python walks a list, and a text by its characters; "" is a list of none. */
function itemsOf(value: Value | undefined): readonly Value[] | undefined {
  return isList(value) ? value : typeof value === 'string' ? Array.from(value) : undefined;
}

function standardizeItems(value: Value): Value {
  return itemsOf(value)?.map(standardize) ?? value;
}

function standardize(value: Value): Value {
  return typeof value === 'string'
    ? value
        .replaceAll(/[ ,./\-_*^]/g, '')
        .toLowerCase()
        .replaceAll("'", '"')
    : value;
}

function includes(values: readonly Value[], value: Value): boolean {
  return values.some((each) => pythonEquals(each, value));
}
