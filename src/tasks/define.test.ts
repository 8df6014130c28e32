import { expect, test } from 'vitest';
import { R3Error } from '../lib/errors.ts';
import { defineTask, type TaskRow } from './define.ts';

const load = (row: TaskRow): { question: string; gold: number } => {
  const { question, gold } = row;
  if (typeof question !== 'string') throw new Error('question: expected a text');
  return { question, gold: Number(gold) };
};

const task = defineTask({
  name: 'sums',
  load,
  prompt: ({ question }) => `What is ${question}?`,
  verify: ({ gold }, answer) =>
    Number(answer) === gold || { ok: false, class: 'wrong number', why: `got ${answer}` },
  known: ({ gold }) => [{ answer: String(gold), ok: true }],
});
const prompts = task.prompts('default');
const row = { question: '1 + 2', gold: 3 };

test('a misspelt field of the problem is a type error in every function', () => {
  defineTask({
    name: 'typed',
    load: () => ({ question: 'why?', gold: 3 }),
    // @ts-expect-error: the field is `question`.
    prompt: (problem) => problem.qestion,
    // @ts-expect-error: the field is `gold`.
    promptAgain: (problem) => String(problem.glod),
    // @ts-expect-error: the field is `gold`.
    verify: ({ glod }, answer) => answer === String(glod),
    // @ts-expect-error: the field is `gold`.
    known: (problem) => [{ answer: String(problem.golden), ok: true }],
    // @ts-expect-error: the field is `question`.
    answersIn: (problem) => [problem.questions],
  });
  const known = defineTask({
    name: 'typed',
    load: () => ({ gold: 3 }),
    prompt: ({ id, gold }) => `${id satisfies string}: ${gold satisfies number}`,
    verify: () => true,
  });
  // @ts-expect-error: a definition has no such key.
  const unknownKey: Parameters<typeof defineTask>[0] = { ...row, verifi: true };
  expect([known.name, unknownKey.name]).toEqual(['typed', undefined]);
});

test('poses, judges and knows answers by what load makes of a row', async () => {
  const problem = task.parseRow(row, 0);
  expect(task.pose(problem, prompts)).toEqual([{ role: 'user', content: 'What is 1 + 2?' }]);
  expect(task.poseAgain(problem, prompts)).toBe('What is 1 + 2?');
  expect(await task.verify(problem, ' 3', prompts)).toEqual({ ok: true });
  expect(await task.verify(problem, '4', prompts)).toEqual({
    ok: false,
    class: 'wrong number',
    why: 'got 4',
  });
  expect(task.known(problem, prompts)).toEqual([{ answer: '3', ok: true }]);
});

test('the record of a problem is its row and an id, and is read back as it is, also from JSON', async () => {
  const problem = task.parseRow(row, 4);
  expect(problem).toEqual({ id: 'row-5', row });
  const back = task.parseRow(JSON.parse(JSON.stringify({ ...problem, id: 'row-5~2' })), 99);
  expect(back).toEqual({ id: 'row-5~2', row });
  expect(await task.verify(back, '3', prompts)).toEqual({ ok: true });
});

test('the id is what load gives, else the one in the row, else the place in the file', () => {
  const own = defineTask({
    name: 'own',
    load: (r) => ({ id: r['key'] }),
    prompt: ({ id }) => id,
    verify: () => true,
  });
  expect(own.parseRow({ key: 'k', id: 'i' }, 0).id).toBe('k');
  expect(own.parseRow({ id: 7 }, 0).id).toBe('7');
  expect(own.parseRow({}, 6).id).toBe('row-7');
  expect(own.pose(own.parseRow({}, 6), prompts)[0]?.content).toBe('row-7');
});

test('values that JSON lacks become values that it has', () => {
  const values = { question: '', gold: 3n, big: 2n ** 60n, day: new Date(0), bytes: new Uint8Array([1, 2]) };
  expect(task.parseRow(values, 0).row).toEqual({
    question: '',
    gold: 3,
    big: '1152921504606846976',
    day: '1970-01-01T00:00:00.000Z',
    bytes: [1, 2],
  });
});

test('a conversation may be posed; its last turn is what is posed again', () => {
  const turns = [
    { role: 'system', content: 'Be brief.' },
    { role: 'user', content: 'Hi' },
  ] as const;
  const talk = defineTask({ name: 'talk', load: () => ({}), prompt: () => turns, verify: () => true });
  const problem = talk.parseRow({}, 0);
  expect(talk.pose(problem, prompts)).toEqual(turns);
  expect(talk.poseAgain(problem, prompts)).toBe('Hi');
});

test('rows of --answers lose their completion before they are loaded', () => {
  const strict = defineTask({
    name: 'strict',
    load: (r) => {
      if (Object.keys(r).join() !== 'a') throw new Error(`expected a alone, got ${Object.keys(r).join()}`);
      return {};
    },
    prompt: () => 'p',
    verify: () => true,
  });
  expect(strict.answerRow?.({ a: 1, completion: 'x' }, 0).problem.row).toEqual({ a: 1 });
});

test('generated rows go through load', () => {
  const made = defineTask({
    name: 'made',
    load,
    prompt: ({ question }) => question,
    verify: () => true,
    generate: ({ count }) => Array.from({ length: count }, (_, i) => ({ question: `${i}`, gold: i })),
  });
  expect(made.generate?.({ count: 2, seed: 1 })?.map(({ id }) => id)).toEqual(['row-1', 'row-2']);
});

test('what load throws is a bad row', () => {
  const parse = (bad: unknown): unknown => task.parseRow(bad, 0);
  expect(() => parse({ gold: 3 })).toThrow(
    expect.objectContaining({ boundary: 'task', code: 'bad-row', message: 'question: expected a text' }),
  );
  expect(() => parse([])).toThrow('row: expected an object, got []');
  const empty = defineTask({ name: 'e', load: () => null as never, prompt: () => '', verify: () => true });
  expect(() => empty.parseRow({}, 0)).toThrow('load: expected an object, got null');
});

test('what other functions throw names the task, the problem and the function', async () => {
  const broken = defineTask({
    name: 'broken',
    load: () => ({}),
    prompt: (): string => {
      throw new TypeError('no prompt');
    },
    verify: () => Promise.reject(new Error('service down')),
  });
  const problem = broken.parseRow({ id: 'p1' }, 0);
  expect(() => broken.pose(problem, prompts)).toThrow('prompt of task broken, problem p1: no prompt');
  let error: unknown;
  try {
    await broken.verify(problem, 'a', prompts);
  } catch (thrown) {
    error = thrown;
  }
  expect(error).toBeInstanceOf(R3Error);
  expect(error).toMatchObject({
    boundary: 'task',
    message: 'verify of task broken, problem p1: service down',
    cause: { message: 'service down' },
  });
});

test.each([
  [undefined, 'expected true, false or {ok, class, why}, got nothing'],
  ['yes', 'expected true, false or {ok, class, why}, got "yes"'],
  [{ ok: 1 }, 'expected true, false or {ok, class, why}, got {"ok":1}'],
  [{ ok: false, class: 3 }, 'expected a text, got 3'],
])('verify that gives %j has not judged', async (value, message) => {
  const vague = defineTask({ name: 'v', load: () => ({}), prompt: () => '', verify: () => value as never });
  await expect(vague.verify(vague.parseRow({}, 0), '', prompts)).rejects.toThrow(message);
});

test('a verdict without class or reason gets one', async () => {
  for (const judged of [false, { ok: false } as const]) {
    const no = defineTask({ name: 'no', load: () => ({}), prompt: () => '', verify: () => judged });
    expect(await no.verify(no.parseRow({}, 0), '', prompts)).toEqual({
      ok: false,
      class: 'wrong answer',
      why: 'the task gives no reason',
    });
  }
});

test.each([
  [null, 'defineTask: expected an object, got null'],
  [{ name: 'a/b' }, 'defineTask: name: expected 1 to 64 letters'],
  [{ name: 'a', load }, 'defineTask: prompt: expected a function, got nothing'],
  [{ name: 'a', load, prompt: load, verify: true }, 'defineTask: verify: expected a function, got true'],
  [
    { name: 'a', load, prompt: load, verify: load, known: [] },
    'defineTask: known: expected a function, got []',
  ],
  [
    { name: 'a', load, prompt: load, verify: load, reflect: 3 },
    'defineTask: reflect: expected a text, got 3',
  ],
])('in JavaScript a definition that is not whole is refused: %#', (definition, message) => {
  expect(() => defineTask(definition as never)).toThrow(message);
});
