import { expect, test } from 'vitest';
import { scoreChoices, type Scorer } from './choices.ts';
import { makeFakeEngine } from './engine/fake.ts';
import { chooseByLikelihood } from './method/likelihood.ts';
import type { Problem } from './method/episode.ts';
import type { Choices, Task } from './method/task.ts';
import { START_MODEL } from './quickstart.ts';
import { countdown } from './tasks/countdown.ts';
import { loadChatFormat } from './text/chat.ts';
import { loadTokenizer } from './text/tokenizer.ts';

const tokenizer = loadTokenizer(START_MODEL);
const format = loadChatFormat(START_MODEL, tokenizer);
const prompts = countdown.prompts('short');

interface Choice extends Problem {
  choices: Choices;
}

const task = { ...countdown, choices: ({ choices }: Choice) => choices } as unknown as Task<Choice>;

function scorerWith(contextLength = 4096): { scorer: Scorer; scored: () => (readonly number[])[] } {
  const engine = makeFakeEngine(() => [], { contextLength });
  return {
    scorer: { engine, tokenizer, format },
    scored: () => engine.calls.scored.flatMap(({ datums }) => datums.map(({ tokens }) => tokens)),
  };
}

const choose = (context: Choices['context'], answer = 0): Choice => ({
  id: 'p',
  choices: { context, continuations: [' 1', ' 2 + 3', ' 3'], answer },
});

test('the largest sum wins, and the largest mean per character without the space before', () => {
  const choices: Choices = { context: '', continuations: [' a', ' 😀😀😀', ' abcdef'], answer: 0 };
  expect(chooseByLikelihood(choices, [-2, -3, -5])).toEqual({ bySum: 0, byCharacter: 2 });
  expect(chooseByLikelihood(choices, [-2, -2, -12])).toEqual({ bySum: 0, byCharacter: 1 });
});

test('of each continuation its own tokens are scored, after the context', async () => {
  const { scorer } = scorerWith();
  const engine = makeFakeEngine(() => []);
  await scoreChoices({ ...scorer, engine }, task, prompts, [choose('3 2 1 to 7')]);
  const [call] = engine.calls.scored;
  const context = tokenizer.encode('3 2 1 to 7');
  expect(call?.datums.map(({ tokens, positions }) => positions.map((at) => tokens[at]))).toEqual(
    [' 1', ' 2 + 3', ' 3'].map((text) => tokenizer.encode(`3 2 1 to 7${text}`).slice(context.length)),
  );
  for (const datum of call?.datums ?? []) expect(datum.positions[0]).toBe(context.length);
});

test('messages stand in the chat format before the continuation', async () => {
  const { scorer, scored } = scorerWith();
  const messages = [{ role: 'user', content: '3 2 1 to 7' }] as const;
  await scoreChoices(scorer, task, prompts, [choose(messages)]);
  const context = format.begin(messages).tokens;
  for (const tokens of scored()) expect(tokens.slice(0, context.length)).toEqual(context);
});

test('exactly one answer of a problem is right, in each way of comparing', async () => {
  const { scorer } = scorerWith();
  const rows = await scoreChoices(
    scorer,
    task,
    prompts,
    [0, 1, 2].map((answer) => choose('3 2 1', answer)),
  );
  expect(rows.filter(({ bySum }) => bySum === true)).toHaveLength(1);
  expect(rows.filter(({ byCharacter }) => byCharacter === true)).toHaveLength(1);
});

test('a problem longer than the context has no verdict, and the others of its call have theirs', async () => {
  const { scorer } = scorerWith(8);
  const rows = await scoreChoices(scorer, task, prompts, [choose('1 2 3 1 2 3 1 2 3'), choose('1 2')]);
  expect(rows.map(({ bySum }) => bySum === null)).toEqual([true, false]);
});

test('a task without choices is refused by name', async () => {
  const { scorer } = scorerWith();
  const problem = { id: 'p', nums: [1, 2], target: 3 };
  await expect(scoreChoices(scorer, countdown as Task<typeof problem>, prompts, [problem])).rejects.toThrow(
    'countdown: expected a task with choices',
  );
});
