/**
 * Generation with stop strings on a scripted engine, with the word-level and the byte-level fixture.
 * A word is one token there, so positions can be counted.
 */
import { fileURLToPath } from 'node:url';
import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Engine, SamplingParams } from './engine/engine.ts';
import { makeFakeEngine } from './engine/fake.ts';
import { generateText, type GenerateOptions } from './generate.ts';
import { loadTokenizer } from './text/tokenizer.ts';
import type { Tokenizer } from './text/tokenizer.ts';

const load = (kind: string): Tokenizer =>
  loadTokenizer(fileURLToPath(new URL(`../test/fixtures/tokenizers/${kind}`, import.meta.url)));
const words = load('word-level');
const bytes = load('byte-level');

const prompt = words.encode('<|user|> make 12 <|end|> <|assistant|>');
const params: SamplingParams = { temperature: 1, maxTokens: 20, stopIds: words.eosIds };
/** Completion i is the i-th text. */
const engineOf = (tokenizer: Tokenizer, ...texts: string[]): ReturnType<typeof makeFakeEngine> =>
  makeFakeEngine((_, index) => tokenizer.encode(texts[index] ?? ''));

test('without stop strings the text is without the stop token and the tokens are those of the engine', async () => {
  const engine = engineOf(words, 'try again <|end|>', 'use the numbers');
  const [first, second] = await generateText(engine, words, prompt, { params, seed: 1, count: 2 });
  expect(first).toMatchObject({
    tokens: words.encode('try again <|end|>'),
    text: 'try again',
    stopReason: 'stop',
  });
  expect(second).toMatchObject({ text: 'use the numbers', stopReason: 'length' });
  expect(first?.logprobs).toHaveLength(3);
});

test('a text that continues its prompt begins with the space between them, any other without', async () => {
  const engine = engineOf(words, '5 . 3', '5 <|end|>');
  const own = { params, seed: 1, count: 2, stopStrings: ['.'] };
  const texts = async (options: GenerateOptions): Promise<string[]> =>
    (await generateText(engine, words, words.encode('make 12'), options)).map(({ text }) => text);
  expect(await texts({ ...own, continuesPrompt: true })).toEqual([' 5 ', ' 5']);
  expect(await texts(own)).toEqual(['5 ', '5']);
});

test('a stop id that is an ordinary token is left out of the text', async () => {
  const engine = engineOf(words, 'try again . use');
  const options = { params: { ...params, stopIds: words.encode('.') }, seed: 1, count: 1 };
  const [written] = await generateText(engine, words, prompt, options);
  expect(written).toMatchObject({
    tokens: words.encode('try again .'),
    text: 'try again',
    stopReason: 'stop',
  });
});

test('a stop string ends a completion at the token that completes it', async () => {
  const engine = engineOf(words, '3 + 9 = 12 again again <|end|>');
  const options = { params, seed: 1, count: 1, stopStrings: ['= 12'] };
  const [written] = await generateText(engine, words, prompt, options);
  expect(written).toMatchObject({ tokens: words.encode('3 + 9 = 12'), text: '3 + 9 ', stopReason: 'stop' });
  expect(written?.logprobs).toHaveLength(5);
});

test('the engine is cancelled when every completion has ended, and not before', async () => {
  const engine = engineOf(words, 'try . again again again again', '1 2 3 . 5 6 7 8', '1 <|end|>');
  const options = { params, seed: 1, count: 3, stopStrings: ['.'] };
  const written = await generateText(engine, words, prompt, options);
  expect(written.map(({ text, stopReason }) => [text, stopReason])).toEqual([
    ['try ', 'stop'],
    ['1 2 3 ', 'stop'],
    ['1', 'stop'],
  ]);
  expect((await engine.stats()).sampledTokens).toBe(4 + 4 + 2);
});

test('an engine that does not stream gives the same result', async () => {
  const engine = engineOf(words, 'try . again', '1 2');
  const silent: Engine = {
    ...engine,
    sample: async ({ prompt: ids, count, params: sampling, seed }) =>
      await engine.sample({ prompt: ids, count, params: sampling, seed }),
  };
  const options = { params, seed: 1, count: 2, stopStrings: ['.'] };
  expect(await generateText(silent, words, prompt, options)).toEqual(
    await generateText(engine, words, prompt, options),
  );
});

test('a completion that reached the length limit is never called cancelled', async () => {
  const engine = engineOf(words, '1 2 3', 'try .');
  const late: Engine = {
    ...engine,
    sample: async (request) =>
      (await engine.sample(request)).map((completion) => ({
        ...completion,
        stopReason: 'cancelled' as const,
      })),
  };
  const options = { params: { ...params, maxTokens: 3 }, seed: 1, count: 2, stopStrings: ['.'] };
  const written = await generateText(late, words, prompt, options);
  expect(written.map(({ stopReason }) => stopReason)).toEqual(['length', 'stop']);
});

test('a cancellation from outside reaches the engine, and the text so far is kept', async () => {
  const controller = new AbortController();
  const engine = engineOf(words, 'try again use the numbers');
  const onText = (_: number, text: string): void => {
    if (text === ' again') controller.abort();
  };
  const options = { params, seed: 1, count: 1, onText, signal: controller.signal };
  const [written] = await generateText(engine, words, prompt, options);
  expect(written).toMatchObject({ text: 'try again', stopReason: 'cancelled' });
});

test('a stop string between tokens of a character-splitting tokenizer is found', async () => {
  const engine = engineOf(bytes, 'x🦀</answer>more');
  const options = { params, seed: 1, count: 1, stopStrings: ['</answer>'] };
  const [written] = await generateText(engine, bytes, [1], options);
  expect(written).toMatchObject({ text: 'x🦀', stopReason: 'stop' });
  expect(bytes.decode(written?.tokens ?? [])).toBe('x🦀</answer>');
});

test('streamed text, tokens and log-probabilities are those of the result, completion by completion', async () => {
  const text = fc.string({ unit: fc.constantFrom('a', 'b', '.', ' ', '🦀'), maxLength: 8 });
  await fc.assert(
    fc.asyncProperty(text, text, async (first, second) => {
      const streamed = ['', ''];
      const onText = (index: number, piece: string): void => {
        streamed[index] += piece;
      };
      const ids: number[][] = [[], []];
      const onToken = (index: number, token: number, logprob: number): void => {
        ids[index]?.push(token, logprob);
      };
      const options = { params, seed: 1, count: 2, stopStrings: ['ab', '..'], onText, onToken };
      const written = await generateText(engineOf(bytes, first, second), bytes, [1], options);
      expect(written.map((one) => one.text)).toEqual(streamed);
      const flat = written.map((one) => one.tokens.flatMap((token, i) => [token, one.logprobs[i]]));
      expect(flat).toEqual(ids);
    }),
  );
});
