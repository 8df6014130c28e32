import { expect, test } from 'vitest';
import { makeChatPlayer, type ChatActor } from './chat-player.ts';
import type { ChatAnswer } from './engine/openai/answer.ts';
import type { ChatRequest } from './engine/openai/client.ts';
import { evaluate } from './evaluate.ts';
import type { Score } from './method/episode.ts';
import type { PlayerOptions } from './player.ts';
import { countdown } from './tasks/countdown.ts';

const prompts = countdown.prompts('short');
const problem = { id: 'p0', nums: [3, 2, 1], target: 7 };
const stopped = (text: string, tokenCount = 6): ChatAnswer => ({ text, stopReason: 'stop', tokenCount });
const failure: Score = { ok: false, class: 'missed target', why: 'got 6' };

/** `answer` is given the request and its last message. */
function playerOf(
  answer: (request: ChatRequest, last: string) => ChatAnswer,
  options: Partial<PlayerOptions> = {},
): { player: ChatActor<typeof problem>; requests: ChatRequest[] } {
  const requests: ChatRequest[] = [];
  const complete = async (request: ChatRequest): Promise<ChatAnswer[]> => {
    requests.push(request);
    return Array.from({ length: request.count }, () =>
      answer(request, request.messages.at(-1)?.content ?? ''),
    );
  };
  const limits = { temperature: 0.5, maxAttemptTokens: 20, maxReflectionTokens: 12 };
  return { player: makeChatPlayer({ complete }, countdown, prompts, { ...limits, ...options }), requests };
}

test('a conversation is its messages, turn by turn, each sampled within its own limit', async () => {
  const { player, requests } = playerOf((_, last) => stopped(last === 'why' ? 'too low' : '3 + 2 + 1'));
  const [attempt] = await player.attempt(problem, 1, 4);
  if (attempt === undefined) throw new Error('expected an attempt');
  expect(attempt).toMatchObject({
    written: { text: '3 + 2 + 1', tokens: [], tokenCount: 6 },
    score: { ok: false },
  });
  const asked = player.askToReflect(problem, attempt.written, attempt.score);
  const [reflection] = await player.reflect(asked, 1, 5);
  if (reflection === undefined) throw new Error('expected a reflection');
  await player.retryAfter(problem, asked, reflection, 6);
  expect(requests.map(({ maxTokens, temperature, seed }) => [maxTokens, temperature, seed])).toEqual([
    [20, 0.5, 4],
    [12, 0.5, 5],
    [20, 0.5, 6],
  ]);
  expect(requests.at(-1)?.messages).toEqual([
    ...countdown.pose(problem, prompts),
    { role: 'assistant', content: '3 + 2 + 1' },
    { role: 'user', content: 'why' },
    { role: 'assistant', content: 'too low' },
    { role: 'user', content: countdown.poseAgain(problem, prompts) },
  ]);
});

test('--drop-attempt and --told reason change the conversation as on an engine', () => {
  const { player } = playerOf(() => stopped('x'), { dropAttempt: true, told: 'reason' });
  const attempt = player.asWritten('3 + 2 + 1');
  const asked = player.askToReflect(problem, attempt, failure);
  expect(asked.at(-1)?.content).toBe('why\n\nmissed target: got 6');
  expect(player.askAgain(problem, asked, player.asWritten('hm')).map(({ content }) => content)).toEqual([
    ...countdown.pose(problem, prompts).map(({ content }) => content),
    'hm',
    countdown.poseAgain(problem, prompts),
  ]);
});

test('an attempt that was cut off fails with the count of the server, one that was withheld is not judged', async () => {
  const ends = (stopReason: ChatAnswer['stopReason']): ChatAnswer => ({
    text: '3',
    stopReason,
    tokenCount: 20,
  });
  const cut = await playerOf(() => ends('length')).player.attempt(problem, 1, 0);
  expect(cut[0]?.score).toEqual({
    ok: false,
    class: 'cut off',
    why: 'expected an end of turn within 20 tokens, got none',
  });
  const withheld = await playerOf(() => ends('filtered')).player.attempt(problem, 1, 0);
  expect(withheld[0]?.score).toHaveProperty('error', expect.stringContaining('content filter'));
});

test('a reflection that was withheld leaves its second try unjudged, one that was cut off fails it', async () => {
  const rowOf = async (stopReason: ChatAnswer['stopReason']): Promise<unknown> => {
    const { player } = playerOf((_, last) =>
      last === 'why' ? { text: '', stopReason, tokenCount: 0 } : stopped('3 + 2 + 1'),
    );
    const { rows } = await evaluate(player, [problem], { seed: 1, fixedText: 'x', controls: [] });
    return rows[0]?.secondTry?.passed;
  };
  expect(await rowOf('filtered')).toBeNull();
  expect(await rowOf('length')).toBe(false);
});

test('attempts at equal tokens are counted with the counts of the server', async () => {
  const { player, requests } = playerOf((_, last) =>
    last === 'why' ? stopped('too low', 12) : stopped('3 + 2 + 1', 4),
  );
  const { rows } = await evaluate(player, [problem], {
    seed: 1,
    fixedText: 'x',
    controls: ['independentAtEqualTokens'],
  });
  // First try, reflection and retry have 4 + 12 + 4 tokens: those of five attempts.
  expect(rows[0]).toMatchObject({ firstTry: { tokens: 4 }, secondTry: { tokens: 16 } });
  expect(requests.at(-1)?.count).toBe(4);
});
