import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { audit } from './audit.ts';
import { makeFakeEngine } from './engine/fake.ts';
import { failureOf } from './method/testing.ts';
import { makePlayer, type Player, type Told } from './player.ts';
import { START_MODEL } from './quickstart.ts';
import { countdown, type CountdownProblem } from './tasks/countdown.ts';
import { defaultTrainOptions } from './train-options.ts';

const problem: CountdownProblem = { id: 'p', nums: [3, 2, 1], target: 7 };
const BYTE_LEVEL = fileURLToPath(new URL('../test/fixtures/tokenizers/byte-level', import.meta.url));
const playerWith = (prompts: string, maxReflectionTokens = 20): Player<CountdownProblem> =>
  makePlayer(
    makeFakeEngine(() => []),
    START_MODEL,
    countdown,
    countdown.prompts(prompts),
    {
      temperature: 1,
      maxAttemptTokens: 20,
      maxReflectionTokens,
    },
  );

test('a problem in words that the tokenizer does not know is refused', async () => {
  await expect(playerWith('paper').attempt(problem, 1, 1)).rejects.toThrow(
    /problem p: expected words that the model's tokenizer knows, got some that it does not in ".*--prompts/,
  );
  const foreign = { ...problem, nums: [3, 2, 1000] };
  await expect(playerWith('short').attempt(foreign, 1, 1)).rejects.toThrow(/problem p: expected words/);
});

test('the audit refuses a failure whose longest reflection and retry do not fit the context', async () => {
  const player = playerWith('short', 100_000);
  const failure = failureOf(problem, player.asWritten('3 + 2'));
  const mined = { failures: [failure], attempts: 1, passed: 0, unscored: 0, error: null, leftOut: [] };
  await expect(audit(player, mined, defaultTrainOptions())).rejects.toThrow(
    /failure p#0: expected at most \d+ tokens .* 100000 of reflection, 20 of retry\. Lower --max-reflection-tokens/,
  );
});

test('the model is told the reason of its failure only where that is asked for', () => {
  const failed = { ok: false, class: 'missed target', why: 'expected 7, got 5' } as const;
  const asks = (model: string, prompts: string, told?: Told): string | undefined => {
    const player = makePlayer(
      makeFakeEngine(() => []),
      model,
      countdown,
      countdown.prompts(prompts),
      {
        temperature: 1,
        maxAttemptTokens: 20,
        maxReflectionTokens: 20,
        told,
      },
    );
    return player.askToReflect(problem, player.asWritten('3 + 2'), failed).messages.at(-1)?.content;
  };
  const request = countdown.prompts('paper').reflect;
  expect(asks(BYTE_LEVEL, 'paper')).toBe(request);
  expect(asks(BYTE_LEVEL, 'paper', 'reason')).toBe(`${request}\n\nmissed target: expected 7, got 5`);
  expect(() => asks(START_MODEL, 'short', 'reason')).toThrow(
    /the reason of a failure: expected words that the model's tokenizer knows, .* \(--told failed\)/,
  );
});

test('a turn that does not fit the context is refused with the options to lower', async () => {
  await expect(
    playerWith('short', 100_000).reflect({ messages: [], text: '', tokens: [7] }, 1, 1),
  ).rejects.toThrow(
    /a turn of 100000 tokens after 1: expected at most \d+ in all .* Lower --max-attempt-tokens/,
  );
});
