/** Jinja's tests: what stands after `is`. Source: Jinja's documentation (list of built-in tests). */
import { bind } from './arguments.ts';
import type { CompareOperator } from './ast.ts';
import { TemplateError } from './errors.ts';
import { isFilter } from './filter-names.ts';
import { isLower, isUpper } from './methods.ts';
import { binary, compareWith } from './operators.ts';
import {
  Iterated,
  Markup,
  PythonObject,
  Undefined,
  isEqual,
  iterate,
  lengthOf,
  toText,
  tryNumber,
  tryText,
  type Arguments,
  type Value,
} from './values.ts';

type Check = (value: Value, other: Value) => boolean;

const leaves =
  (rest: bigint): Check =>
  (value) =>
    isEqual(binary('%', value, 2n), rest);
const by =
  (operator: CompareOperator): Check =>
  (value, other) =>
    compareWith(operator, value, other);

const CHECKS: Readonly<Record<string, Check>> = {
  odd: leaves(1n),
  even: leaves(0n),
  defined: (value) => !(value instanceof Undefined),
  undefined: (value) => value instanceof Undefined,
  filter: (value) => isFilter(toText(value)),
  test: (value) => isTest(toText(value)),
  none: (value) => value === null,
  boolean: (value) => typeof value === 'boolean',
  false: (value) => value === false,
  true: (value) => value === true,
  integer: (value) => typeof value === 'bigint',
  float: (value) => typeof value === 'number',
  lower: (value) => isLower(toText(value)),
  upper: (value) => isUpper(toText(value)),
  string: (value) => tryText(value) !== undefined,
  mapping: (value) => value instanceof Map,
  // A bool is a number in Python.
  number: (value) => tryNumber(value) !== undefined,
  // A dict has a length and items, and so has undefined.
  sequence: (value) => succeeds(() => lengthOf(value)) && !isView(value),
  iterable: (value) => value instanceof Iterated || succeeds(() => iterate(value)),
  callable: (value) =>
    value instanceof Undefined || (value instanceof PythonObject && value.call !== undefined),
  escaped: (value) => value instanceof Markup,
};

const COMPARISONS: Readonly<Record<string, Check>> = {
  divisibleby: (value, other) => isEqual(binary('%', value, other), 0n),
  sameas: (value, other) => Object.is(value, other),
  in: by('in'),
  '==': by('=='),
  eq: by('=='),
  equalto: by('=='),
  '!=': by('!='),
  ne: by('!='),
  '>': by('>'),
  gt: by('>'),
  greaterthan: by('>'),
  '>=': by('>='),
  ge: by('>='),
  '<': by('<'),
  lt: by('<'),
  lessthan: by('<'),
  '<=': by('<='),
  le: by('<='),
};

export function isTest(name: string): boolean {
  return Object.hasOwn(CHECKS, name) || Object.hasOwn(COMPARISONS, name);
}

/** `value is name(given)`. Throws TemplateError for a test that does not exist. */
export function runTest(name: string, value: Value, given: Arguments): boolean {
  if (!isTest(name)) throw new TemplateError(`No test named '${name}'`);
  const check = Object.hasOwn(CHECKS, name) ? CHECKS[name] : undefined;
  const [other = null] = bind(name, check === undefined ? ['other'] : [], given);
  return (check ?? COMPARISONS[name])?.(value, other) === true;
}

function isView(value: Value): boolean {
  return value !== null && typeof value === 'object' && 'part' in value;
}

function succeeds(attempt: () => unknown): boolean {
  try {
    attempt();
    return true;
  } catch (error) {
    if (error instanceof TemplateError) return false;
    throw error;
  }
}
