import { describe, expect, test } from 'vitest';
import { makeRng } from '../../../lib/rng.ts';
import { writeJson } from '../json-values.ts';
import type { Value } from '../values.ts';
import { findCalls } from './find-calls.ts';
import { fuzzStyle } from './fuzz-testing.ts';
import { STYLES, STYLE_NAMES, tryStyle } from './styles.ts';
import type { StyleName } from './styles.ts';

/** `f({"a": 1})` for each call; else `no call` or `malformed`. */
function read(style: StyleName, text: string): string {
  const parsed = STYLES[style].parse(text);
  if (!parsed.ok) {
    expect(parsed.why).not.toBe('');
    return parsed.tried ? 'malformed' : 'no call';
  }
  return parsed.calls
    .map(({ name, arguments: given, positional }) => {
      const without = positional === undefined || positional === 0 ? '' : ` and ${positional} without a name`;
      return `${name}(${writeJson(given)}${without})`;
    })
    .join(' ');
}

const HERMES = '<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>';
const ONE = '{"name": "f", "arguments": {"a": 1}}';

describe('hermes', () => {
  test.each([
    [HERMES, 'f({"a": 1})'],
    [`Let me see.\n${HERMES}\n${HERMES} Done.`, 'f({"a": 1}) f({"a": 1})'],
    [`<tool_call>${ONE}</tool_call>`, 'f({"a": 1})'],
    ['<tool_call>{"name": "f", "arguments": {"t": "</tool_call>"}}</tool_call>', 'f({"t": "</tool_call>"})'],
    [`<think>maybe <tool_call> x</think>${HERMES}`, 'f({"a": 1})'],
    ['I cannot help with that.', 'no call'],
    ['', 'no call'],
    [ONE, 'no call'],
    [`<tool_call>\n${ONE}`, 'malformed'],
    [`${ONE}\n</tool_call>`, 'malformed'],
    [`${HERMES}<tool_call>{"name": "g", "argum`, 'malformed'],
    [`<tool_call>${ONE} ${ONE}</tool_call>`, 'malformed'],
    ['<tool_call>{"name": "f", "parameters": {}}</tool_call>', 'malformed'],
    ['<tool_call>{"name": "f", "arguments": "{}"}</tool_call>', 'malformed'],
    ['<tool_call>["f"]</tool_call>', 'malformed'],
  ])('%s', (text, expected) => {
    expect(read('hermes', text)).toBe(expected);
  });
});

describe('llama', () => {
  const call = '{"name": "f", "parameters": {"a": 1}}';
  test.each([
    [call, 'f({"a": 1})'],
    [`<|python_tag|>${call}<|eom_id|>`, 'f({"a": 1})'],
    [`${call}; ${call}`, 'f({"a": 1}) f({"a": 1})'],
    [`[${call}, ${call}]`, 'f({"a": 1}) f({"a": 1})'],
    ['{"name": "f", "parameters": {"a": "x; {\\"y"}}', 'f({"a": "x; {\\"y"})'],
    [`${call} and also ${call}`, 'malformed'],
    [ONE, 'malformed'],
    ['None of them fits.', 'no call'],
  ])('%s', (text, expected) => {
    expect(read('llama', text)).toBe(expected);
  });
});

describe('phi', () => {
  test.each([
    [`<|tool_call|>[${ONE}]<|/tool_call|>`, 'f({"a": 1})'],
    [`<|tool_call|>[${ONE}]`, 'f({"a": 1})'],
    [`<|tool_call|>${ONE}, ${ONE}<|/tool_call|>`, 'f({"a": 1}) f({"a": 1})'],
    [`\`\`\`json\n${ONE}\n\`\`\``, 'f({"a": 1})'],
    ['{"name": "f", "parameters": {"a": 1}}', 'f({"a": 1})'],
    ['<|tool_call|>[]<|/tool_call|>', ''],
    ['<|tool_call|>f(a=1)<|/tool_call|>', 'malformed'],
    ['I do not know', 'no call'],
  ])('%s', (text, expected) => {
    expect(read('phi', text)).toBe(expected);
  });
});

describe('xlam and plain JSON', () => {
  test.each<[StyleName, string, string]>([
    ['xlam', `[${ONE}]`, 'f({"a": 1})'],
    ['xlam', `{"tool_calls": [${ONE}, ${ONE}]}`, 'f({"a": 1}) f({"a": 1})'],
    ['xlam', `${ONE}; ${ONE}`, 'f({"a": 1}) f({"a": 1})'],
    ['xlam', '[]', ''],
    ['xlam', '{"tool_calls": []}', ''],
    ['xlam', '[{"name": "f", "parameters": {}}]', 'malformed'],
    ['json', ONE, 'f({"a": 1})'],
    ['json', `The call is:\n\`\`\`json\n[${ONE}]\n\`\`\`\nsee [1] and {x}.`, 'f({"a": 1})'],
    ['json', '[{"function": "f", "parameters": {"a": 1.0}}]', 'f({"a": 1.0})'],
    ['json', `${ONE} ${ONE}`, 'malformed'],
    ['json', `[${ONE}, {"name": "g"`, 'malformed'],
    ['json', `[${ONE}]]`, 'malformed'],
    ['json', '{"answer": 42}', 'malformed'],
    ['json', '{"name": "", "arguments": {}}', 'malformed'],
    ['json', "[{'name': 'f', 'arguments': {}}]", 'malformed'],
    ['json', 'no braces at all', 'no call'],
    ['json', '[ ]', ''],
  ])('%s: %s', (style, text, expected) => {
    expect(read(style, text)).toBe(expected);
  });
});

describe('python', () => {
  test.each([
    ['[f(a=1, b=2.0), g.h()]', 'f({"a": 1, "b": 2.0}) g.h({})'],
    ['f(a=1)', 'f({"a": 1})'],
    ['[f(a=1)', 'f({"a": 1})'],
    ['`f(a=1)`', 'f({"a": 1})'],
    ['```python\n[f(a=1)]\n```', 'f({"a": 1})'],
    ['[f(a=1),]', 'f({"a": 1})'],
    ['[f(a=[True, False, None], b={"k": [1, -2]},)]', 'f({"a": [true, false, null], "b": {"k": [1, -2]}})'],
    [
      `[f(a='it\\'s', b="x" 'y', c=r"\\n", d="""l\n"m" """)]`,
      'f({"a": "it\'s", "b": "xy", "c": "\\\\n", "d": "l\\n\\"m\\" "})',
    ],
    ['[f(a="\\x41\\u00e9\\U0001F600\\101\\q\\\nz")]', 'f({"a": "AéAA\\\\qz"})'.replace('éA', 'é😀')],
    [
      '[f(a=1_000, b=0x1F, c=.5, d=1e3, e=5., f=00)]',
      'f({"a": 1000, "b": 31, "c": 0.5, "d": 1000.0, "e": 5.0, "f": 0})',
    ],
    ['[f(a=(1), b=(1,), c=(1, 2), d=())]', 'f({"a": 1, "b": [1], "c": [1, 2], "d": []})'],
    ['[f(a=(1, (2,)), b=((1, 2)))]', 'f({"a": [1, [2]], "b": [1, 2]})'],
    ['[f(a=name, b=true)]', 'f({"a": "name", "b": "true"})'],
    ['[f(a=datetime.now(), b=g(x=1))]', 'f({"a": "datetime.now()", "b": {"g": {"x": 1}}})'],
    ['[f("x", 2, a=1)]', 'f({"a": 1} and 2 without a name)'],
    ['[f(**{"not a name": 1})]', 'f({"not a name": 1})'],
    ['[f(a=1, a=2)]', 'f({"a": 2})'],
    ['[f( # first\n a=1)]', 'f({"a": 1})'],
    ['[]', ''],
    ['I cannot.', 'no call'],
    ['I cannot do this (no function fits the date).', 'no call'],
    ['I would call f(a=1, b=', 'malformed'],
    ['', 'no call'],
    ['Sure: [f(a=1)]', 'malformed'],
    ['[f(a=1)] done', 'malformed'],
    ['[f(a=1), g(b=2', 'malformed'],
    ['[f(a=1, "x")]', 'malformed'],
    ['[f(a=2 * 3)]', 'malformed'],
    ['[f(a=x[0])]', 'malformed'],
    ['[f(a=f"{x}")]', 'malformed'],
    ['[f(a=b"x")]', 'malformed'],
    ['[f(a=1j)]', 'malformed'],
    ['[f(a=007)]', 'malformed'],
    ['[f(a=1__0)]', 'malformed'],
    ['[f(a="\\xZZ")]', 'malformed'],
    ['[f(a=lambda: 1)]', 'malformed'],
    ['[f(a={1, 2})]', 'malformed'],
    ['[f(a={1: 2})]', 'malformed'],
    ['[f(a="x\ny")]', 'malformed'],
    ['[f(a==1)]', 'malformed'],
    ['[f(a=1) g()]', 'malformed'],
    ['[[f(a=1)]]', 'malformed'],
    ['__import__("os").system("x")', 'malformed'],
  ])('%s', (text, expected) => {
    expect(read('python', text)).toBe(expected);
  });

  test('a tuple is kept apart from a list', () => {
    const parsed = STYLES.python.parse('[f(a=(1, 2))]');
    const value: Value | undefined = parsed.ok ? parsed.calls[0]?.arguments.get('a') : undefined;
    expect(value).toEqual({ tuple: [1n, 2n] });
  });
});

test.each(STYLE_NAMES)('%s: right texts are read as written, changed ones without a throw', (name) => {
  const others = STYLE_NAMES.map((each) => STYLES[each]);
  const { read: count, refused } = fuzzStyle(STYLES[name], others, { seed: 5, from: 0, count: 1500 });
  expect(count).toBeGreaterThan(200);
  expect(refused).toBeGreaterThan(200);
});

test('a parser that reads otherwise than it writes is found by the fuzz', () => {
  const deaf = { ...STYLES.json, parse: () => ({ ok: true as const, calls: [] }) };
  expect(() => fuzzStyle(deaf, [STYLES.json], { seed: 1, from: 0, count: 50 })).toThrow(
    'expected the calls as written',
  );
});

test('styles are known by the names of their models', () => {
  const names = ['Hermes', 'qwen2.5', 'llama-3.1', 'Llama3', 'phi_4', 'xLAM', 'apigen', 'plain JSON', 'bfcl'];
  expect(names.map(tryStyle).join(' ')).toBe('hermes hermes llama llama phi xlam xlam json python');
  expect(tryStyle('constructor')).toBeUndefined();
  expect(tryStyle('')).toBeUndefined();
});

test('calls are found in prose, of either syntax', () => {
  const text = `I wrote g(x=1) for ${ONE}; better [${ONE}, ${ONE}] or add.f(x=2), not {"k": 1} or {"name": "f", `;
  const found = findCalls(text, ['g', 'add.f', 'f']).map((calls) => calls.map(({ name }) => name).join('+'));
  expect(found).toEqual(['g', 'f', 'f+f', 'add.f']);
  expect(findCalls('['.repeat(100_000) + '{"'.repeat(makeRng(1).below(9) + 50_000), ['f'])).toEqual([]);
});
