/**
 * Texts for the parsers of calls: right ones, and right ones that were changed, from a seed.
 *
 * An input is some calls with random values, written in a style, then changed in a few places: characters and tokens of
 * the grammars put in, taken out, doubled or swapped, ends cut off, pieces of another style put in. The parser must
 * not throw, must give a well-formed result, must read an unchanged text as the calls that were written, and must
 * evaluate nothing: some texts would leave a mark on the global object if any part of them ran.
 */
import { makeRng } from '../../../lib/rng.ts';
import type { Rng } from '../../../lib/rng.ts';
import { sameValue } from '../values.ts';
import type { Value } from '../values.ts';
import type { Call, CallStyle, ParsedCalls } from './call.ts';

export interface ParserCounts {
  read: number;
  refused: number;
  /** Of one input, for people; machines differ too much for a limit. */
  slowestMs: number;
}

/** Parses inputs [from, from + count). Throws an Error that names seed, input and text when the parser fails. */
export function fuzzStyle(
  style: CallStyle,
  others: readonly CallStyle[],
  { seed, from, count }: { seed: number; from: number; count: number },
): ParserCounts {
  const counts = { read: 0, refused: 0, slowestMs: 0 };
  for (let input = from; input < from + count; input++) {
    const { text, calls } = makeInput(makeRng(seed, input), style, others);
    const start = performance.now();
    const fault = faultOf(style, text, calls, counts);
    counts.slowestMs = Math.max(counts.slowestMs, performance.now() - start);
    if (fault !== undefined) {
      throw new Error(`seed ${seed}, input ${input}: ${fault}\n${JSON.stringify(text.slice(0, 2000))}`);
    }
  }
  return counts;
}

function faultOf(
  style: CallStyle,
  text: string,
  calls: readonly Call[] | undefined,
  counts: ParserCounts,
): string | undefined {
  let parsed: ParsedCalls;
  try {
    parsed = style.parse(text);
  } catch (error) {
    return `expected a result, got ${String(error)}`;
  }
  if (MARK in globalThis || MARK in {}) return 'a part of the text was evaluated';
  if (!parsed.ok) {
    counts.refused++;
    if (parsed.why === '') return 'expected a reason, got none';
    return calls === undefined || calls.length === 0 ? undefined : `expected the calls, got: ${parsed.why}`;
  }
  counts.read++;
  if (parsed.calls.some(({ name, arguments: given }) => name === '' || !(given instanceof Map))) {
    return 'expected calls with a name and arguments, got others';
  }
  return calls === undefined || sameCalls(calls, parsed.calls)
    ? undefined
    : 'expected the calls as written, got others';
}

export function sameCalls(a: readonly Call[], b: readonly Call[]): boolean {
  return (
    a.length === b.length &&
    a.every((call, i) => {
      const other = b[i];
      return other !== undefined && call.name === other.name && sameValue(call.arguments, other.arguments);
    })
  );
}

const MARK = 'markOfAnEvaluatedCall';
const NAMES = ['add', 'math.add', 'get_weather', 'a.b.c', 'Ünit', 'constructor', 'hasOwnProperty', '_x1'];
const KEYS = ['a', 'unit', 'name', 'arguments', '__proto__', 'constructor', 'with space', 'ключ', 'from', ''];
const TEXTS = [
  '',
  'x',
  'New York, NY',
  'it\'s "so"',
  '\\n\n\t',
  '</tool_call>',
  '```',
  '[{"name": "f"}]',
  '😀\u2028',
  '1.0',
];
const PIECES = [
  '{',
  '}',
  '[',
  ']',
  '(',
  ')',
  ',',
  ':',
  ';',
  '=',
  '**',
  '"',
  "'",
  '"""',
  "'''",
  '\\',
  '\\u12',
  '\\x4',
  '\\N{DASH}',
  '#',
  '\n',
  ' ',
  '\t',
  '\u00a0',
  '\0',
  '\ud800',
  '{"',
  '[{',
  '{}',
  '[]',
  '{"name": "f", "arguments": {}}',
  '"parameters": {',
  '<tool_call>',
  '</tool_call>',
  '<|tool_call|>',
  '<|/tool_call|>',
  '<|python_tag|>',
  '</think>',
  '```json\n',
  '```',
  'f(a=1)',
  'r"',
  'f"',
  'b"',
  'True',
  'None',
  'null',
  'NaN',
  '-',
  '+',
  '~',
  '1e999',
  '1_0',
  '0x',
  '007',
  '1j',
  '.5',
  '5.',
  '9'.repeat(5000),
  '['.repeat(300),
  '('.repeat(300),
  '{"a":'.repeat(300),
  '-'.repeat(200),
  '"\\'.repeat(100),
  `__import__("os").system("x")`,
  `globalThis.${MARK} = 1`,
  `(globalThis.${MARK} = 1)`,
  `\${globalThis.${MARK} = 1}`,
  `{"__proto__": {"${MARK}": 1}}`,
  `eval("globalThis.${MARK} = 1")`,
  'lambda: 1',
  '[x for x in y]',
  'a if b else c',
];

function makeInput(
  rng: Rng,
  style: CallStyle,
  others: readonly CallStyle[],
): { text: string; calls: Call[] | undefined } {
  const calls = Array.from({ length: rng.below(4) }, () => makeCall(rng));
  let text = style.render(calls);
  const changes = rng.below(5);
  if (changes === 0) return { text, calls };
  for (let i = 0; i < changes; i++) {
    const at = rng.below(text.length + 1);
    const length = rng.below(6);
    switch (rng.below(7)) {
      case 0:
        text = text.slice(0, at) + rng.pick(PIECES) + text.slice(at);
        break;
      case 1:
        text = text.slice(0, at) + rng.pick(PIECES) + text.slice(at + length);
        break;
      case 2:
        text = text.slice(0, at) + text.slice(at + length);
        break;
      case 3:
        text = text.slice(0, at);
        break;
      case 4:
        text = text.slice(at);
        break;
      case 5:
        text = text.slice(0, at) + text.slice(Math.max(0, at - 20));
        break;
      default:
        text = text.slice(0, at) + rng.pick(others).render([makeCall(rng)]) + text.slice(at);
    }
  }
  return { text, calls: undefined };
}

function makeCall(rng: Rng): Call {
  const entries = Array.from({ length: rng.below(4) }, (): [string, Value] => [
    rng.pick(KEYS),
    makeValue(rng, 3),
  ]);
  return { name: rng.pick(NAMES), arguments: new Map(entries) };
}

/** A value that JSON can hold, of at most `depth` levels. */
export function makeValue(rng: Rng, depth: number): Value {
  const values = (): Value[] => Array.from({ length: rng.below(4) }, () => makeValue(rng, depth - 1));
  switch (rng.below(depth > 0 ? 8 : 6)) {
    case 0:
      return BigInt(Math.floor(rng.next() * 2000 - 1000));
    case 1:
      return rng.pick([0, 1, -0.5, 1e21, 1.5e-9, 123456.789, -3]);
    case 2:
      return rng.next() < 0.5;
    case 3:
      return rng.pick([null, 10n ** 30n]);
    case 4:
    case 5:
      return rng.pick(TEXTS);
    case 6:
      return values();
    default:
      return new Map(values().map((value) => [rng.pick(KEYS), value]));
  }
}
