import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { makeRng } from '../../lib/rng.ts';
import type { Call, ParsedCalls } from './call-styles/call.ts';
import { makeValue } from './call-styles/fuzz-testing.ts';
import { python } from './call-styles/python.ts';
import { STYLES } from './call-styles/styles.ts';
import type { StyleName } from './call-styles/styles.ts';
import { judgeCalls } from './calls.ts';
import type { CallRules, Wanted } from './calls.ts';
import { parseJson } from './json-values.ts';
import { readTools } from './tools.ts';
import type { Tool } from './tools.ts';
import { isDict, isList } from './values.ts';
import type { Dict, Value } from './values.ts';

function json(text: string): Value {
  const parsed = parseJson(text);
  if (!parsed.ok) throw new Error(parsed.why);
  return parsed.value;
}

const TOOLS: Tool[] = readTools(
  json(`[
  {"name": "book.table", "parameters": {"type": "dict", "required": ["city", "guests"], "properties": {
    "city": {"type": "string"}, "guests": {"type": "integer"}, "budget": {"type": "float"},
    "outside": {"type": "boolean", "default": false}, "tags": {"type": "array", "items": {"type": "string"}},
    "ratings": {"type": "array", "items": {"type": "float"}}, "at": {"type": "tuple", "items": {"type": "float"}},
    "contact": {"type": "dict"}, "people": {"type": "array", "items": {"type": "dict"}}, "note": {"type": "any"}}}},
  {"name": "ping", "parameters": {"type": "dict", "required": [], "properties": {"n": {"type": "integer", "default": 3}}}}
]`),
);

/** `{"fn": {"arg": [values]}}` for each call. */
function accepted(...texts: string[]): Wanted {
  const dict = (value: Value | undefined): Dict => (isDict(value) ? value : new Map());
  return {
    accepted: texts.map(json).map((each) => {
      const [name = '', parameters] = [...dict(each)][0] ?? [];
      const lists = [...dict(parameters)].map(
        ([key, values]) => [key, isList(values) ? values : []] as const,
      );
      return { name, parameters: new Map(lists) };
    }),
  };
}

function gold(text: string): Wanted {
  return { gold: callsOf(text) };
}

function callsOf(text: string): Call[] {
  const parsed = python.parse(text);
  if (!parsed.ok) throw new Error(parsed.why);
  return parsed.calls;
}

function judge(wanted: Wanted, answer: string, rules: CallRules): string {
  const verdict = judgeCalls(python.parse(answer), wanted, TOOLS, rules);
  if (!verdict.ok) expect(verdict.why).toMatch(/expected .*got|at \d+/s);
  return verdict.ok ? 'ok' : verdict.class;
}

const BASE = '"city": ["New York, NY"], "guests": [4]';
/** The verdicts are those of BFCL's own checker: test/fixtures/bfcl holds many more. */
const BFCL: [string, string, string][] = [
  ['', "book.table(city='New York, NY', guests=4)", 'ok'],
  ['', "book.table(guests=4, city='new-york ny')", 'ok'],
  ['', "book.table(city='New York', guests=4)", 'parameter value'],
  ['', "book.table(city='New York, NY', guests=4.0)", 'parameter value'],
  ['', "book.table(city='New York, NY', guests='4')", 'parameter value'],
  ['', "book.table(city='New York, NY')", 'parameter name'],
  ['', "book.table(city='New York, NY', guests=4, outside=False)", 'parameter name'],
  ['', "book.table(city='New York, NY', guests=4, size=1)", 'parameter name'],
  ['', "book_table(city='New York, NY', guests=4)", 'tool choice'],
  ['', "[book.table(city='New York, NY', guests=4), ping()]", 'tool choice'],
  ['"budget": ["", 50.0]', "book.table(city='New York, NY', guests=4)", 'ok'],
  ['"budget": [50.0]', "book.table(city='New York, NY', guests=4, budget=50)", 'ok'],
  ['"budget": [50.0]', "book.table(city='New York, NY', guests=4)", 'parameter name'],
  ['"budget": [50.0]', "book.table(city='New York, NY', guests=4, budget='50.0')", 'parameter value'],
  ['"budget": ["cap"]', "book.table(city='New York, NY', guests=4, budget='cap')", 'ok'],
  ['"budget": ["cap"]', "book.table(city='New York, NY', guests=4, budget='Cap')", 'parameter value'],
  ['"outside": [true]', "book.table(city='New York, NY', guests=4, outside=True)", 'ok'],
  ['"outside": [true]', "book.table(city='New York, NY', guests=4, outside=1)", 'parameter value'],
  ['"outside": [true]', "book.table(city='New York, NY', guests=4, outside=true)", 'parameter value'],
  [
    '"tags": [["Wine Bar", "a.b"]]',
    "book.table(city='New York, NY', guests=4, tags=['winebar', 'AB'])",
    'ok',
  ],
  ['"tags": [["x", "y"]]', "book.table(city='New York, NY', guests=4, tags=['y', 'x'])", 'parameter value'],
  ['"tags": [["x", "y"]]', "book.table(city='New York, NY', guests=4, tags=('x', 'y'))", 'parameter value'],
  ['"tags": [""]', "book.table(city='New York, NY', guests=4, tags=[])", 'ok'],
  ['"ratings": [[1.0, 2.0]]', "book.table(city='New York, NY', guests=4, ratings=[1.0, 2.0])", 'ok'],
  ['"ratings": [[1.0, 2.0]]', "book.table(city='New York, NY', guests=4, ratings=[1, 2])", 'parameter value'],
  ['"ratings": [[1, 2]]', "book.table(city='New York, NY', guests=4, ratings=[1, 2])", 'ok'],
  ['"at": [[1.5, 2.5]]', "book.table(city='New York, NY', guests=4, at=(1.5, 2.5))", 'ok'],
  ['"at": [[1.5, 2.5]]', "book.table(city='New York, NY', guests=4, at=[1.5, 2.5])", 'ok'],
  [
    '"contact": [{"name": ["Ann", "A."], "age": ["", 3]}]',
    "book.table(city='New York, NY', guests=4, contact={'name': 'ann'})",
    'ok',
  ],
  [
    '"contact": [{"name": ["Ann"], "age": ["", 3]}]',
    "book.table(city='New York, NY', guests=4, contact={'name': 'Ann', 'age': 3.0})",
    'ok',
  ],
  [
    '"contact": [{"name": ["Ann"]}]',
    "book.table(city='New York, NY', guests=4, contact={'Name': 'Ann'})",
    'parameter value',
  ],
  [
    '"contact": [{"name": ["Ann"]}]',
    "book.table(city='New York, NY', guests=4, contact={})",
    'parameter value',
  ],
  [
    '"people": [[{"n": [1]}, {"n": [2]}]]',
    "book.table(city='New York, NY', guests=4, people=[{'n': 1}, {'n': 2}])",
    'ok',
  ],
  [
    '"people": [[{"n": [1]}, {"n": [2]}]]',
    "book.table(city='New York, NY', guests=4, people=[{'n': 2}, {'n': 1}])",
    'parameter value',
  ],
  ['"people": [[{"n": [1]}]]', "book.table(city='New York, NY', guests=4, people=[])", 'parameter value'],
  ['"note": [5]', "book.table(city='New York, NY', guests=4, note=5)", 'ok'],
  ['"note": [null]', "book.table(city='New York, NY', guests=4, note=None)", 'ok'],
];

describe("BFCL's rules", () => {
  test.each(BFCL)('%s: %s: %s', (extra, answer, expected) => {
    const wanted = accepted(`{"book.table": {${BASE}${extra === '' ? '' : `, ${extra}`}}}`);
    expect(judge(wanted, answer, 'bfcl')).toBe(expected);
  });

  test('several calls in any order, each once, paired as BFCL pairs them', () => {
    const two = accepted('{"ping": {"n": [1]}}', '{"ping": {"n": [2]}}');
    expect(judge(two, '[ping(n=2), ping(n=1)]', 'bfcl')).toBe('ok');
    expect(judge(two, '[ping(n=1), ping(n=1)]', 'bfcl')).toBe('parameter value');
    expect(judge(two, '[ping(n=1)]', 'bfcl')).toBe('tool choice');
    // The first accepted call takes the first call that fits, though the second could have taken it.
    const greedy = accepted('{"ping": {"n": [1, 2]}}', '{"ping": {"n": [1]}}');
    expect(judge(greedy, '[ping(n=1), ping(n=2)]', 'bfcl')).toBe('parameter value');
    expect(judge(greedy, '[ping(n=1), ping(n=2)]', 'strict')).toBe('ok');
  });

  test('no call is wanted: a call is wrong, what cannot be read is right', () => {
    expect(judge(accepted(), '[]', 'bfcl')).toBe('ok');
    expect(judge(accepted(), 'I cannot.', 'bfcl')).toBe('ok');
    expect(judge(accepted(), '[ping(', 'bfcl')).toBe('ok');
    expect(judge(accepted(), '[ping()]', 'bfcl')).toBe('tool choice');
  });
});

describe('strict and lenient rules', () => {
  test.each<[string, string, string, string]>([
    ['[ping(n=1)]', 'ping(n=1)', 'ok', 'ok'],
    ['[ping(n=1)]', 'ping(n=1.0)', 'parameter value', 'ok'],
    ['[ping(n=1)]', "ping(n='1')", 'parameter value', 'ok'],
    ['[ping(n=1)]', "ping(n=' 1.0 ')", 'parameter value', 'ok'],
    ['[ping(n=1)]', 'ping(n=True)', 'parameter value', 'parameter value'],
    ['[ping(n=True)]', "ping(n='true')", 'parameter value', 'ok'],
    ['[ping(n="x")]', "ping(n='X')", 'parameter value', 'parameter value'],
    ['[ping(n=[1, 2])]', 'ping(n=(1, 2.0))', 'parameter value', 'ok'],
    ['[ping(n={"a": 1, "b": 2})]', 'ping(n={"b": 2, "a": 1})', 'ok', 'ok'],
    ['[ping(n={"a": [1]})]', 'ping(n={"a": 1})', 'parameter value', 'parameter value'],
    ['[ping(n=3)]', 'ping()', 'parameter name', 'ok'],
    ['[ping()]', 'ping(n=3)', 'parameter name', 'ok'],
    ['[ping()]', 'ping(n=4)', 'parameter name', 'parameter name'],
    ['[ping(n=1)]', 'ping(5, n=1)', 'parameter name', 'parameter name'],
    ['[ping(n=1)]', 'ping(m=1)', 'parameter name', 'parameter name'],
    ['[ping(n=1), ping(n=1)]', '[ping(n=1)]', 'tool choice', 'tool choice'],
    ['[ping(n=1), ping(n=2)]', '[ping(n=2), ping(n=1)]', 'ok', 'ok'],
    ['[ping(n=1)]', '[]', 'tool choice', 'tool choice'],
    ['[ping(n=1)]', 'no', 'format', 'format'],
    ['[]', 'no', 'ok', 'ok'],
    ['[]', '[ping(', 'format', 'format'],
  ])('gold %s, answer %s: %s, %s', (wanted, answer, strict, lenient) => {
    expect(judge(gold(wanted), answer, 'strict')).toBe(strict);
    expect(judge(gold(wanted), answer, 'lenient')).toBe(lenient);
  });

  test('take accepted values as BFCL writes them', () => {
    const wanted = accepted('{"ping": {"n": [{"a": [1, 2], "b": ["", 3]}], "m": ["", 5]}}');
    expect(judge(wanted, 'ping(n={"a": 2})', 'strict')).toBe('ok');
    expect(judge(wanted, 'ping(n={"a": 2, "b": 3}, m=5)', 'strict')).toBe('ok');
    expect(judge(wanted, 'ping(n={"a": 2.0})', 'strict')).toBe('parameter value');
    expect(judge(wanted, 'ping(n={"a": 2.0})', 'lenient')).toBe('ok');
    expect(judge(wanted, 'ping(n={"b": 3})', 'strict')).toBe('parameter value');
  });
});

test('any call will do, but prose and an empty list will not', () => {
  expect(judge('any call', 'ping(n=9)', 'bfcl')).toBe('ok');
  expect(judge('any call', '[]', 'bfcl')).toBe('tool choice');
  expect(judge('any call', 'no', 'bfcl')).toBe('format');
});

describe('a change to right calls has its class', () => {
  const calls = fc.integer({ min: 0, max: 1e6 }).map((seed) => {
    const rng = makeRng(seed);
    return Array.from({ length: 1 + rng.below(3) }, (_, i): Call => {
      const entries = Array.from({ length: 1 + rng.below(3) }, (__, k): [string, Value] => [
        `p${k}`,
        makeValue(rng, 2),
      ]);
      return { name: `tool${i}`, arguments: new Map(entries) };
    });
  });
  const classOf = (wanted: readonly Call[], changed: readonly Call[], rules: CallRules): string => {
    const verdict = judgeCalls(
      { ok: true, calls: [...changed] } satisfies ParsedCalls,
      { gold: wanted },
      [],
      rules,
    );
    return verdict.ok ? 'ok' : verdict.class;
  };
  /** Changes the last call; the others stay. */
  const changeLast = (of: readonly Call[], change: (call: Call) => Call): Call[] =>
    of.map((call, i) => (i === of.length - 1 ? change(call) : call));

  const rename = (of: readonly Call[]): Call[] =>
    changeLast(of, (call) => ({ ...call, name: `${call.name}x` }));
  const withArguments =
    (change: (entries: [string, Value][]) => [string, Value][]) => (of: readonly Call[]) =>
      changeLast(of, (call) => ({ ...call, arguments: new Map(change([...call.arguments])) }));

  test.each<[string, string, (of: readonly Call[]) => Call[]]>([
    ['another order', 'ok', (of) => of.toReversed()],
    ['a call left out', 'tool choice', (of) => of.slice(1)],
    ['a call twice', 'tool choice', (of) => [...of, ...of.slice(0, 1)]],
    ['another name', 'tool choice', rename],
    ['a parameter left out', 'parameter name', withArguments((entries) => entries.slice(1))],
    ['a parameter more', 'parameter name', withArguments((entries) => [...entries, ['q', 1n]])],
    [
      'a parameter renamed',
      'parameter name',
      withArguments((entries) => entries.map(([key, value]) => [`${key}x`, value])),
    ],
    [
      'another value',
      'parameter value',
      withArguments((entries) => entries.map(([key]) => [key, 'quite another'])),
    ],
    [
      'another type',
      'parameter value',
      withArguments((entries) => entries.map(([key, value]) => [key, [value, 'more']])),
    ],
  ])('%s: %s', (_, expected, change) => {
    fc.assert(
      fc.property(calls, (of) => {
        for (const rules of ['bfcl', 'strict', 'lenient'] as const)
          expect(classOf(of, change(of), rules)).toBe(expected);
      }),
    );
  });
});

describe('under bfcl, where nothing is wanted, a call that cannot be read is one', () => {
  const verdict = (style: StyleName, answer: string): string => {
    const parsed = STYLES[style].parse(answer);
    expect(parsed.ok, answer).toBe(false);
    const judged = judgeCalls(parsed, accepted(), TOOLS, 'bfcl');
    return judged.ok ? 'ok' : judged.class;
  };

  test.each([
    '[f(a=1+2)]',
    '(f(a=3))',
    '[(f(a=3)), g()]',
    '[g .h()]',
    '[f(a=not 3)]',
    '(F())',
    'g. h()',
    '[f(a="\\N{BULLET}")]',
    '[f(a=~3)]',
    '[f(a=-(3))]',
    '[f(a=3j)]',
    '[f(a={1: "v"})]',
    '[f(a=...)]',
    '[f(a=b"x")]',
    '[f(*x, a=1)]',
    '[f(**x)]',
    '[f(a=x[0])]',
    'f(a=2 * 3, b=1e999)',
  ])('in Python, %s', (answer) => {
    expect(verdict('python', answer)).toBe('tool choice');
  });

  test.each([
    '[f(a=1 2)]',
    '[f(a=--3)]',
    '[f(a=not x)]',
    '[f(a=-"x")]',
    '[f(a=1',
    'I call f(a=1+2)',
    '[f(a=1+)]',
    '[f(a=05+1)]',
    '[f(a=1+2)] and more',
    '(f(a=1+1), g())',
    '[f(a=1+1)](b=2)',
  ])('but %s is none', (answer) => {
    expect(verdict('python', answer)).toBe('ok');
  });

  const CALL = '{"name": "f", "arguments": {"a": 1}}';
  test.each<[StyleName, string]>([
    ['json', `${CALL}\n${CALL}`],
    ['json', '{"type": "function", "function": {"name": "f", "arguments": {"a": 1}}}'],
    ['xlam', '{"tool_calls": [{"type": "function", "function": {"name": "f", "arguments": "{}"}}]}'],
    ['json', '{"name": "f", "arguments": {"a": NaN, "b": [-Infinity, 1e999]}}'],
    ['hermes', '<tool_call>{"name": "f", "arguments": {"a": NaN}}</tool_call>'],
    ['hermes', `<tool_call>{"name": </tool_call><tool_call>${CALL}</tool_call>`],
  ])('in the style %s, %s', (style, answer) => {
    expect(verdict(style, answer)).toBe('tool choice');
  });

  test.each<[StyleName, string]>([
    ['json', `${CALL}\n{"name": "f"`],
    ['json', `${CALL}]`],
    ['xlam', '{"name": "f", "parameters": {"a": 1}}'],
    ['json', '{"type": "function", "function": {"name": "f"}}'],
    ['hermes', '<tool_call>{"name": "f"}</tool_call>'],
  ])('but in the style %s, %s is none', (style, answer) => {
    expect(verdict(style, answer)).toBe('ok');
  });
});
