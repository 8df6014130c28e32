/**
 * The calls of an answer against those that are wanted: any order, each exactly once.
 *
 * | rules   | a call is right when                                                                              |
 * | ------- | ------------------------------------------------------------------------------------------------- |
 * | strict  | name, parameters and values are the same: 1, 1.0 and "1" differ, the order of keys does not matter |
 * | lenient | as strict, but 1, 1.0 and "1" are equal, true and "true" too, lists and tuples; white space around a text is dropped; a parameter may be left out or given where its value is the declared default |
 * | bfcl    | BFCL's AST checker says so (`bfcl.ts`)                                                             |
 *
 * The class of a wrong answer: `format` when no call can be read from it; `tool choice` when the number or the names
 * of the calls are wrong, also a call where none is wanted; `parameter name` when a parameter is missing or not
 * wanted; else `parameter value`. Under bfcl an answer that cannot be read calls nothing, and that is right where no
 * call is wanted, unless it is plainly a call.
 */
import type { Verdict } from '../../method/episode.ts';
import { checkBfcl, missing, unexpected, wrongTool, wrongValue } from './bfcl.ts';
import type { AcceptedCall, CallErrorClass, Mistake } from './bfcl.ts';
import type { Call, ParsedCalls } from './call-styles/call.ts';
import type { Tool } from './tools.ts';
import { isDict, isList, isTuple, sameValue } from './values.ts';
import type { Dict, Value } from './values.ts';

export type { AcceptedCall } from './bfcl.ts';

export const CALL_RULES = ['bfcl', 'strict', 'lenient'] as const;
export type CallRules = (typeof CALL_RULES)[number];

/**
 * What is wanted: exact calls, calls with their accepted values (where a dict holds a list of accepted values for each
 * key, as BFCL writes them), or any call at all. An empty list: no call.
 */
export type Wanted = { gold: readonly Call[] } | { accepted: readonly AcceptedCall[] } | 'any call';

export function judgeCalls(
  parsed: ParsedCalls,
  wanted: Wanted,
  tools: readonly Tool[],
  rules: CallRules,
): Verdict {
  if (wanted === 'any call') {
    if (!parsed.ok) return wrong('format', parsed.why);
    return parsed.calls.length > 0 ? { ok: true } : wrong('tool choice', 'expected a call, got none');
  }
  const isNone = ('gold' in wanted ? wanted.gold : wanted.accepted).length === 0;
  if (!parsed.ok) {
    if (!isNone) return wrong('format', parsed.why);
    if (rules === 'bfcl' && parsed.isCall === true) {
      return wrong('tool choice', `expected no call, got one that cannot be read: ${parsed.why}`);
    }
    return rules === 'bfcl' || !parsed.tried ? { ok: true } : wrong('format', parsed.why);
  }
  const isExact = 'gold' in wanted;
  const accepted = isExact ? wanted.gold.map((call) => asAccepted(call, tools, rules)) : wanted.accepted;
  const toolOf = (name: string): Tool | undefined => tools.find((tool) => tool.name === name);
  const check = (call: Call, expected: AcceptedCall): Mistake | undefined =>
    rules === 'bfcl'
      ? checkBfcl(call, expected, toolOf(expected.name), isExact)
      : checkPlain(call, expected, toolOf(expected.name), rules, isExact);

  const { calls } = parsed;
  const expectedNames = accepted.map(({ name }) => name).toSorted();
  const givenNames = calls.map(({ name }) => name).toSorted();
  if (expectedNames.join('\n') !== givenNames.join('\n')) {
    return wrong('tool choice', `expected ${listNames(expectedNames)}, got ${listNames(givenNames)}`);
  }
  const mistake = rules === 'bfcl' ? matchInOrder(calls, accepted, check) : match(calls, accepted, check);
  return mistake === undefined ? { ok: true } : wrong(mistake.class, mistake.why);
}

function wrong(errorClass: CallErrorClass, why: string): Verdict {
  return { ok: false, class: errorClass, why };
}

function listNames(names: readonly string[]): string {
  return names.length === 0
    ? 'no call'
    : `${names.length === 1 ? 'a call' : `${names.length} calls`} of ${names.join(', ')}`;
}

type Check = (call: Call, expected: AcceptedCall) => Mistake | undefined;

/** As BFCL pairs: each accepted call takes the first call that fits and is left. */
function matchInOrder(
  calls: readonly Call[],
  accepted: readonly AcceptedCall[],
  check: Check,
): Mistake | undefined {
  const left = [...calls];
  for (const expected of accepted) {
    const found = left.findIndex((call) => check(call, expected) === undefined);
    if (found < 0) return nearest(left, expected, check);
    left.splice(found, 1);
  }
  return undefined;
}

/** Pairs all calls where that is possible: augmenting paths (Kuhn 1955), for sets of accepted values may overlap. */
function match(calls: readonly Call[], accepted: readonly AcceptedCall[], check: Check): Mistake | undefined {
  const fits = accepted.map((expected) => calls.map((call) => check(call, expected) === undefined));
  /** For each call the accepted one that it is paired with. */
  const owner: (number | undefined)[] = calls.map(() => undefined);
  const pair = (expected: number, seen: Set<number>): boolean =>
    calls.some((_, call) => {
      if (fits[expected]?.[call] !== true || seen.has(call)) return false;
      seen.add(call);
      const other = owner[call];
      if (other !== undefined && !pair(other, seen)) return false;
      owner[call] = expected;
      return true;
    });
  for (const [index, expected] of accepted.entries()) {
    if (pair(index, new Set())) continue;
    const left = calls.filter((_, call) => owner[call] === undefined);
    return nearest(left, expected, check) ?? wrongTool(expected.name, 'another call');
  }
  return undefined;
}

const STAGES: readonly CallErrorClass[] = ['format', 'tool choice', 'parameter name', 'parameter value'];

/** The mistake of the call that comes nearest to the expected one. */
function nearest(calls: readonly Call[], expected: AcceptedCall, check: Check): Mistake | undefined {
  return calls
    .map((call) => check(call, expected))
    .filter((mistake) => mistake !== undefined)
    .toSorted((a, b) => STAGES.indexOf(b.class) - STAGES.indexOf(a.class))[0];
}

/** A gold call as accepted values; under bfcl with dicts as BFCL writes them, where one is declared. */
function asAccepted(call: Call, tools: readonly Tool[], rules: CallRules): AcceptedCall {
  const tool = tools.find(({ name }) => name === call.name);
  const wrap = (dict: Dict): Dict => new Map([...dict].map(([key, value]) => [key, [value]]));
  const parameters = [...call.arguments].map(([name, value]): [string, Value[]] => {
    const { type, itemType } = tool?.parameters.get(name) ?? {};
    if (rules !== 'bfcl') return [name, [value]];
    if ((type === 'dict' || type === undefined) && isDict(value)) return [name, [wrap(value)]];
    if (itemType === 'dict' && isList(value)) {
      return [name, [value.map((each) => (isDict(each) ? wrap(each) : each))]];
    }
    return [name, [value]];
  });
  return { name: call.name, parameters: new Map(parameters) };
}

function checkPlain(
  call: Call,
  expected: AcceptedCall,
  tool: Tool | undefined,
  rules: 'strict' | 'lenient',
  isExact: boolean,
): Mistake | undefined {
  if (call.name !== expected.name) return wrongTool(expected.name, call.name);
  const equal = rules === 'strict' ? sameValue : (a: Value, b: Value) => sameValue(loosen(a), loosen(b));
  const defaultOf = (name: string): Value | undefined =>
    rules === 'lenient' ? tool?.parameters.get(name)?.default : undefined;

  if ((call.positional ?? 0) > 0)
    return unexpected('an argument without a name', [...expected.parameters.keys()]);
  let mistake: Mistake | undefined;
  for (const [name, value] of call.arguments) {
    const usual = defaultOf(name);
    const isUsual = usual !== undefined && equal(value, usual);
    const values = expected.parameters.get(name);
    const mayBeOmitted = values === undefined || (!isExact && values.includes(''));
    if (isUsual && mayBeOmitted) continue;
    if (values === undefined) return unexpected(name, [...expected.parameters.keys()]);
    if (!accepts(value, values, equal, isExact)) mistake ??= wrongValue(name, values, value);
  }
  for (const [name, values] of expected.parameters) {
    if (call.arguments.has(name) || (!isExact && values.includes(''))) continue;
    const usual = defaultOf(name);
    if (usual === undefined || !accepts(usual, values, equal, isExact)) return missing(name);
  }
  return mistake;
}

type Equal = (a: Value, b: Value) => boolean;

function accepts(value: Value, accepted: readonly Value[], equal: Equal, isExact: boolean): boolean {
  return accepted.some((each) => equal(value, each) || (!isExact && acceptsWrapped(value, each, equal)));
}

/** A dict whose accepted form holds a list of values for each key; a list of such dicts. */
function acceptsWrapped(value: Value, accepted: Value, equal: Equal): boolean {
  if (isList(value) && isList(accepted)) {
    return (
      value.length === accepted.length &&
      value.every((item, i) => isDict(item) && acceptsWrapped(item, accepted[i] ?? null, equal))
    );
  }
  if (!isDict(value) || !isDict(accepted)) return false;
  for (const [key, inner] of value) {
    const values = accepted.get(key);
    if (!isList(values) || !accepts(inner, values, equal, false)) return false;
  }
  return [...accepted].every(([key, values]) => value.has(key) || (isList(values) && values.includes('')));
}

const INTEGER = /^[+-]?\d{1,300}$/;
const NUMBER = /^[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?$/;

/** One form for what lenient rules hold equal: a number of either type or as a text, a boolean or its name, a tuple. */
function loosen(value: Value): Value {
  if (isTuple(value)) return value.tuple.map(loosen);
  if (isList(value)) return value.map(loosen);
  if (isDict(value)) return new Map([...value].map(([key, inner]) => [key, loosen(inner)]));
  if (typeof value === 'number') return Number.isInteger(value) ? BigInt(value) : value;
  if (typeof value !== 'string') return value;
  const text = value.trim();
  if (/^(?:true|false)$/i.test(text)) return text.toLowerCase() === 'true';
  if (INTEGER.test(text)) return BigInt(text.replace('+', ''));
  if (!NUMBER.test(text)) return text;
  const number = Number(text);
  return Number.isInteger(number) ? BigInt(number) : number;
}
