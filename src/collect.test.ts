import { expect, test } from 'vitest';
import { collect, type Played } from './collect.ts';
import { makeFakeEngine } from './engine/fake.ts';
import { hash32 } from './lib/rng.ts';
import { PAPER_CHOICES } from './method/choices.ts';
import { failureOf } from './method/testing.ts';
import { makePlayer } from './player.ts';
import { START_MODEL } from './quickstart.ts';
import { countdown, type CountdownProblem } from './tasks/countdown.ts';
import { loadChatFormat } from './text/chat.ts';
import { loadTokenizer } from './text/tokenizer.ts';

const tokenizer = loadTokenizer(START_MODEL);
const [stop = 0] = loadChatFormat(START_MODEL, tokenizer).stopIds;
const REFLECTIONS = ['be careful', 'first 3 * 2 = 6', 'too big'].map((text) => [
  ...tokenizer.encode(text),
  stop,
]);
const ANSWERS = ['3 * 2 + 1', '3 + 2 + 1'].map((text) => [...tokenizer.encode(text), stop]);
const MAX_REFLECTION = 20;

/** Reflections and retries by their seed; every third reflection of a request never ends. */
function play(places: readonly number[], step = 5): Promise<Played<CountdownProblem>[]> {
  const player = makePlayer(
    makeFakeEngine((prompt, index, seed) => {
      const draw = hash32(seed, index, prompt.length);
      if (index % 3 === 2)
        return Array.from({ length: MAX_REFLECTION }, () => tokenizer.encode('try')[0] ?? 0);
      const asksForRetry = tokenizer.decode([...prompt]).includes('again');
      return (asksForRetry ? ANSWERS[draw % 2] : REFLECTIONS[draw % 3]) ?? [];
    }),
    START_MODEL,
    countdown,
    countdown.prompts('short'),
    { temperature: 1, maxAttemptTokens: 20, maxReflectionTokens: MAX_REFLECTION },
  );
  const attempt = {
    tokens: [...tokenizer.encode('3 + 2'), stop],
    logprobs: [],
    text: '3 + 2',
    stopReason: 'stop' as const,
  };
  const failures = places.map((place) => failureOf({ id: `p${place}`, nums: [3, 2, 1], target: 7 }, attempt));
  return collect(player, failures, { ...PAPER_CHOICES, reflectionsPerFailure: 4 }, { seed: 11, step });
}

test('episodes come group by group, with reward 1 exactly where the retry passes', async () => {
  const played = await play([0, 1, 2, 3]);
  expect(played.map(({ episode }) => [episode.group, episode.index])).toEqual(
    [0, 1, 2, 3].flatMap((place) => [0, 1, 2, 3].map((index) => [`p${place}#0`, index])),
  );
  const passes = played.map(({ episode }) => episode.retry?.text === '3 * 2 + 1');
  expect(played.map(({ episode }) => episode.reward)).toEqual(passes.map(Number));
  expect(new Set(passes).size).toBe(2);
});

test('a reflection that does not end has no retry, no score and earns 0', async () => {
  const cut = (await play([0, 1])).filter(({ episode }) => episode.reflection?.stopReason === 'length');
  expect(cut.map(({ episode }) => episode.index)).toEqual([2, 2]);
  for (const { episode } of cut) expect(episode).toMatchObject({ retry: null, score: null, reward: 0 });
});

test('what is drawn depends on seed, step and place, not on what else is played', async () => {
  const texts = (played: readonly Played<CountdownProblem>[]): string[] =>
    played.map(({ episode }) => `${episode.reflection?.text}, ${episode.retry?.text}`);
  const alone = texts(await play([0]));
  const all = texts(await play([0, 1, 2, 3]));
  expect(all.slice(0, 4)).toEqual(alone);
  expect(texts(await play([0, 1, 2, 3], 6))).not.toEqual(all);
});

test('kind and truth of the hint are those that the task tells', async () => {
  for (const { episode } of await play([0, 1, 2])) {
    const { kind, hint, reflection } = episode;
    if (reflection?.text === 'first 3 * 2 = 6')
      expect({ kind, hint }).toEqual({ kind: 'step', hint: 'true' });
    if (reflection?.text === 'be careful') expect({ kind, hint }).toEqual({ kind: 'vague', hint: 'none' });
  }
});
