import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { R3Error } from '../lib/errors.ts';
import { posedText } from '../method/task.ts';
import { functionCalling } from './function-calling.ts';
import type { CallProblem } from './function-calling.ts';
import { loadProblems } from './rows.ts';
import { STYLE_NAMES } from './verify/call-styles/styles.ts';

const XLAM = {
  id: 7,
  query: 'Is it raining in Bern? And in Basel?',
  tools: JSON.stringify([
    {
      name: 'rain',
      description: 'Tells whether it rains.',
      parameters: {
        city: { description: 'The city.', type: 'str' },
        hours: { description: 'How far ahead.', type: 'int, optional', default: '1' },
        type: { description: 'Of forecast.', type: 'List[str]', default: '' },
      },
    },
  ]),
  answers: JSON.stringify([
    { name: 'rain', arguments: { city: 'Bern' } },
    { name: 'rain', arguments: { city: 'Basel', hours: 2 } },
  ]),
};
const HAMMER = {
  query: [
    { role: 'user', content: 'Book a table.' },
    { role: 'agent', content: 'Where?' },
    { role: 'tool', content: '{"free": true}' },
    { role: 'agent', content: 'Making the request:' },
  ],
  tools: [
    {
      name: 'book-table',
      parameters: { from: { type: 'str', required: true }, seats: { type: 'int', required: false } },
    },
  ],
  answers: [{ tool: 'book-table', parameters: { from: 'me' } }],
};
const BFCL =
  '{"id": "simple_3", "question": [[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Mean of 1 and 2?"}]], ' +
  '"function": [{"name": "stats.mean", "description": "Mean.", "parameters": {"type": "dict", "properties": ' +
  '{"values": {"type": "array", "items": {"type": "float"}}, "digits": {"type": "any"}}, "required": ["values"]}}], ' +
  '"ground_truth": [{"stats.mean": {"values": [[1.0, 2.0]], "digits": ["", 2]}}]}';

function verdictOf(problem: CallProblem, answer: string, style: string): string {
  const verdict = functionCalling.verify(problem, answer, functionCalling.prompts(style));
  return verdict.ok ? 'ok' : verdict.class;
}

function refusal(row: unknown): string {
  try {
    functionCalling.parseRow(row, 0);
  } catch (error) {
    expect(error).toBeInstanceOf(R3Error);
    expect((error as R3Error).code).toBe('bad-row');
    return (error as R3Error).message;
  }
  return 'accepted';
}

const problems: [string, CallProblem][] = [
  ['xLAM', functionCalling.parseRow(XLAM, 0)],
  ['Hammer', functionCalling.parseRow(HAMMER, 4)],
  ['BFCL', functionCalling.parseRow(JSON.parse(BFCL), 0, BFCL)],
  [
    'irrelevance',
    functionCalling.parseRow({ id: 'irrelevance_1', question: 'Hi', function: [{ name: 'f' }] }, 0),
  ],
  [
    'relevance',
    functionCalling.parseRow({ id: 'live_relevance_1', question: 'Hi', function: [{ name: 'f' }] }, 0),
  ],
];

describe('rows', () => {
  test('of xLAM, with JSON in texts', () => {
    const problem = functionCalling.parseRow(XLAM, 0);
    expect(problem).toMatchObject({
      id: '7',
      rules: 'strict',
      messages: [{ role: 'user', content: XLAM.query }],
    });
    const right =
      '[{"name": "rain", "arguments": {"hours": 2, "city": "Basel"}}, {"name": "rain", "arguments": {"city": "Bern"}}]';
    expect(verdictOf(problem, right, 'xlam')).toBe('ok');
    expect(verdictOf(problem, right.replace('2', '2.0'), 'xlam')).toBe('parameter value');
    expect(verdictOf({ ...problem, rules: 'lenient' }, right.replace('2', '"2"'), 'xlam')).toBe('ok');
    expect(
      verdictOf({ ...problem, rules: 'lenient' }, right.replace('"Bern"', '"Bern", "hours": 1'), 'xlam'),
    ).toBe('ok');
    expect(verdictOf({ ...problem, rules: 'bfcl' }, right.replace('Bern', 'bern'), 'xlam')).toBe('ok');
  });

  test('of Hammer, whose conversations end in another turn', () => {
    const problem = functionCalling.parseRow(HAMMER, 4);
    expect(problem.id).toBe('row-5');
    expect(problem.messages.map(({ role }) => role)).toEqual([
      'user',
      'assistant',
      'user',
      'assistant',
      'user',
    ]);
    expect(verdictOf(problem, '[book-table(from="me")]', 'python')).toBe('ok');
  });

  test('of BFCL, from the line of the file, where 1 and 1.0 are two things', async () => {
    const file = join(mkdtempSync(join(tmpdir(), 'r3-')), 'rows.jsonl');
    writeFileSync(file, `${BFCL}\n`);
    const [problem] = await loadProblems(functionCalling, file);
    expect(problem).toMatchObject({ id: 'simple_3', rules: 'bfcl' });
    expect(verdictOf(problem!, '[stats.mean(values=[1.0, 2.0])]', 'python')).toBe('ok');
    expect(verdictOf(problem!, '[stats.mean(values=[1, 2])]', 'python')).toBe('parameter value');
    expect(JSON.parse(JSON.stringify(problem))).toEqual(problem);
  });

  test.each(problems)('a problem of %s is read back from the failures that keep it', (_, problem) => {
    const kept: unknown = JSON.parse(JSON.stringify(problem));
    expect(functionCalling.parseRow(kept, 3)).toEqual(problem);
  });

  test.each<[unknown, string]>([
    [[], 'row: expected an object, got []'],
    [{ ...XLAM, tools: '[{' }, 'tools: not JSON'],
    [{ ...XLAM, tools: [{}] }, 'tools: tool 1: expected an object with a name, got none'],
    [{ ...XLAM, answers: '{}' }, 'answers: expected a list, got {}'],
    [{ ...XLAM, answers: [{ name: 'rain' }] }, 'answers: rain: expected "arguments" or "parameters"'],
    [{ ...XLAM, answers: undefined }, 'expected answers, ground_truth or accepted, got none'],
    [{ ...XLAM, query: 5 }, 'query: expected a text or a list of messages, got 5'],
    [{ ...XLAM, query: [{ role: 'boss', content: 'x' }] }, 'query: expected messages with a role'],
    [{ ...XLAM, rules: 'loose' }, 'rules: expected bfcl or strict or lenient, got "loose"'],
    [{ ...XLAM, id: [] }, 'id: expected a text or a whole number, got []'],
    [
      { tools: [], accepted: [{ f: 1 }], query: 'x' },
      'accepted: expected {function: {argument: [accepted values]}}',
    ],
    [{ tools: [], accepted: [], question: [[], []] }, 'question: expected one turn'],
  ])('refused: %j', (row, message) => {
    expect(refusal(row)).toContain(message);
  });
});

describe.each(STYLE_NAMES)('the style %s', (style) => {
  const prompts = functionCalling.prompts(style);

  test.each(problems)('tells right from junk on a row of %s', (_, problem) => {
    const known = functionCalling.known(problem, prompts);
    expect(known.some(({ ok }) => ok)).toBe(true);
    expect(known.some(({ ok }) => !ok)).toBe(true);
    for (const { answer, ok } of known) {
      expect(functionCalling.verify(problem, answer, prompts).ok, answer).toBe(ok);
    }
  });

  test('poses tools as JSON Schema and the request last', () => {
    const [, problem] = problems[0]!;
    const posed = functionCalling.pose(problem, prompts);
    const all = posed.map(({ content }) => content).join('\n');
    expect(posed.at(-1)?.role).toBe('user');
    expect(posedText(functionCalling, problem, prompts)).toContain(XLAM.query);
    expect(all).toContain('"hours": {"description": "How far ahead.", "type": "integer", "default": "1"}');
    expect(all).toContain('"type": "array", "items": {"type": "string"}');
    expect(all).toContain('"required": ["city"]');
    expect(functionCalling.poseAgain(problem)).toBe(XLAM.query);
    const system = functionCalling.pose(problems[2]![1], prompts)[0];
    expect(system).toMatchObject({ role: 'system' });
    expect(system?.content).toMatch(/^Be brief\./);
  });
});

test('a row that no call can satisfy has junk answers only', () => {
  const row = JSON.parse(BFCL.replace('[[1.0, 2.0]]', '[]')) as unknown;
  const known = functionCalling.known(functionCalling.parseRow(row, 0), functionCalling.prompts('json'));
  expect(known.length).toBeGreaterThan(2);
  expect(known.every(({ ok }) => !ok)).toBe(true);
});

test('an answer in a reflection is found, whatever its style', () => {
  const [, problem] = problems[0]!;
  const prompts = functionCalling.prompts('hermes');
  const leaks = (text: string): boolean =>
    functionCalling
      .answersIn(problem, text, prompts)
      .some((answer) => functionCalling.verify(problem, answer, prompts).ok);
  expect(leaks('I should have called rain(city="Bern") and then rain(city="Basel", hours=2).')).toBe(true);
  expect(
    leaks(
      'Use {"name": "rain", "arguments": {"city": "Bern"}} and {"name": "rain", "parameters": {"city": "Basel", "hours": 2}}.',
    ),
  ).toBe(true);
  expect(leaks('I should have called rain(city="Bern") alone.')).toBe(false);
  expect(leaks('Read both cities.')).toBe(false);
  const [, noCall] = problems[3]!;
  expect(functionCalling.answersIn(noCall, 'No tool fits.', prompts)).toEqual([]);
});

describe('a row of given answers', () => {
  const tools = [
    { name: 'f', parameters: { type: 'object', properties: { n: { type: 'number' } }, required: ['n'] } },
  ];
  const row = { tools, accepted: [{ f: { n: [1.5] } }], completion: '', style: 'Qwen2.5' };

  test('names its style and takes the rules that were asked for', () => {
    const { problem, prompts } = functionCalling.answerRow(row, 0, 'strict');
    expect(prompts.name).toBe('hermes');
    expect(problem.rules).toBe('strict');
    expect(
      verdictOf(problem, '<tool_call>{"name": "f", "arguments": {"n": 1.5}}</tool_call>', prompts.name),
    ).toBe('ok');
    expect(functionCalling.answerRow({ ...row, style: undefined }, 0).prompts.name).toBe('json');
    expect(functionCalling.answerRow({ ...row, style: 'phi-4-mini' }, 0).prompts.name).toBe('phi');
    const asked = functionCalling.prompts('python');
    expect(
      functionCalling.answerRow({ ...row, style: undefined }, 0, 'strict', undefined, asked).prompts,
    ).toBe(asked);
    expect(
      functionCalling.answerRow({ ...row, style: 'xlam' }, 0, 'strict', undefined, asked).prompts.name,
    ).toBe('xlam');
    expect(functionCalling.answerRow({ ...row, accepted: [] }, 0).problem).toMatchObject({
      wanted: { accepted: '[]' },
      rules: 'bfcl',
    });
    expect(functionCalling.answerRow({ ...row, accepted: 'any call' }, 0).problem.wanted).toBe('any call');
  });

  test('is refused with an unknown style', () => {
    expect(() => functionCalling.answerRow({ ...row, style: 'xml' }, 0)).toThrow(
      'style: expected hermes or llama or phi or xlam or json or python, got "xml"',
    );
  });
});
