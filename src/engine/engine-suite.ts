/**
 * The conformance suite of `Engine`: what the loops rely on, as tests that every engine runs.
 *
 * An engine is described by how it is opened and by what it can promise: how closely its sampler and its trainer agree,
 * whether seeds decide what is sampled, at which temperatures it trains, which calls it has to refuse. What it promises
 * is held to the stated tolerance; what it refuses has to be refused by name. `engine.test.ts` runs it.
 */
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, describe, expect, test } from 'vitest';
import type { AdamParams, Completion, Datum, Engine, Loss, SampleRequest } from './engine.ts';

/** Calls that not every engine has. */
export type OptionalCall = 'gradientNorms' | 'zeroGradients' | 'save';

export interface EngineUnderTest {
  name: string;
  /** A new engine on the start weights, the same ones each time, that trains. Its vocabulary has at least 32 ids. */
  open: () => Promise<Engine>;
  /** The same for sampling only; left out where an engine has no such form. */
  openSampler?: () => Promise<Engine>;
  /** A new engine on what `save` wrote; left out where it cannot be opened here. */
  openSaved?: (directory: string) => Promise<Engine>;
  promises: EnginePromises;
}

export interface EnginePromises {
  /** Largest difference of a log-probability between sampler and trainer, in nats. 0: the same bits. */
  samplerTolerance: number;
  /** Largest difference, in nats, between calls that compute the same thing in another way. 0: the same bits. */
  trainerTolerance: number;
  /** The same request gives the same completions. */
  seeds: boolean;
  /** `onToken` is called while a completion is under way; else it may come with the answer. */
  streams: boolean;
  /** There is a model: it can be greedy, and a loss can fall. */
  learns: boolean;
  /** At which it scores and trains; each above 0. */
  temperatures: readonly number[];
  /** Calls that it refuses as `not-available`. */
  lacks: readonly OptionalCall[];
}

const PROMPT = [3, 1, 4, 1, 5, 9];
const REQUEST: SampleRequest = {
  prompt: PROMPT,
  count: 4,
  params: { temperature: 1, maxTokens: 12, stopIds: [] },
  seed: 7,
};
/** So large that a step shows in f32, and gradients near 0 are not blown up to full steps. */
const ADAM: AdamParams = { learningRate: 0.01, beta1: 0.9, beta2: 0.95, epsilon: 1e-3, weightDecay: 0 };
const DATUMS: readonly Datum[] = [
  { tokens: [...PROMPT, 2, 6, 5, 3], positions: [6, 7, 8, 9] },
  { tokens: [...PROMPT, 5, 8, 9, 7, 9], positions: [6, 8, 10] },
];
/** Everything likelier. A sum, so that calls add up. */
const likelier: Loss = (logprobs) => ({
  loss: -logprobs.flatMap((row) => [...row]).reduce((sum, x) => sum + x, 0),
  gradients: logprobs.map((row) => new Float32Array(row.length).fill(-1)),
  metrics: { rows: logprobs.length },
});
const failing: Loss = () => {
  throw new Error('a loss that fails');
};

/** Declares the tests for one engine. */
export function describeEngine({ name, open, openSampler, openSaved, promises }: EngineUnderTest): void {
  const { samplerTolerance, trainerTolerance, seeds, streams, learns, temperatures, lacks } = promises;
  const has = (call: OptionalCall): boolean => !lacks.includes(call);

  describe(`the ${name} engine`, () => {
    const scratch = mkdtempSync(join(tmpdir(), 'engine-'));
    let directories = 0;
    const newDirectory = (): string => join(scratch, String(directories++));
    /** Engines are set back to their start, not opened anew: that `loadState` does so is a test of its own. */
    const start = newDirectory();
    const idle: Engine[] = [];
    const inUse: Engine[] = [];
    const extra: Engine[] = [];
    const started = async (): Promise<Engine> => {
      const engine = idle.pop() ?? (await open());
      inUse.push(engine);
      if (existsSync(start)) await engine.loadState(start);
      else await engine.saveState(start);
      return engine;
    };
    /** One that is closed after the test. */
    const openedBy = async (opening: () => Promise<Engine>): Promise<Engine> => {
      const engine = await opening();
      extra.push(engine);
      return engine;
    };
    afterEach(async () => {
      idle.push(...inUse.splice(0));
      for (const engine of extra.splice(0)) await engine.close();
    });
    afterAll(async () => {
      for (const engine of idle) await engine.close();
      rmSync(scratch, { recursive: true, force: true });
    });

    const expectSame = (
      got: readonly ArrayLike<number>[],
      expected: readonly ArrayLike<number>[],
      tolerance = trainerTolerance,
    ): void => {
      expect(got.map(({ length }) => length)).toEqual(expected.map(({ length }) => length));
      expect(largestDifference(got, expected)).toBeLessThanOrEqual(tolerance);
    };
    const updated = async (engine: Engine, datums = DATUMS): Promise<void> => {
      await engine.forwardBackward(datums, likelier);
      await engine.step(ADAM);
    };

    test('says what it is', async () => {
      const { contextLength, vocabularySize, trainable, modelHash, description } = (
        await started()
      ).capabilities();
      expect(contextLength).toBeGreaterThanOrEqual(PROMPT.length + REQUEST.params.maxTokens);
      expect(vocabularySize).toBeGreaterThanOrEqual(32);
      expect(trainable).toBe(true);
      expect(modelHash).not.toBe('');
      expect(description).not.toBe('');
    });

    test('a request has as many completions as it asks for, each up to its length limit', async () => {
      const engine = await started();
      const before = await engine.stats();
      const completions = await engine.sample(REQUEST);
      expect(completions).toHaveLength(REQUEST.count);
      for (const { tokens, logprobs, stopReason } of completions) {
        expect(tokens).toHaveLength(REQUEST.params.maxTokens);
        expect(logprobs).toHaveLength(tokens.length);
        expect(logprobs.every((logprob) => logprob <= 0 && Number.isFinite(logprob))).toBe(true);
        expect(stopReason).toBe('length');
      }
      const { sampledTokens } = await engine.stats();
      expect(sampledTokens - before.sampledTokens).toBe(REQUEST.count * REQUEST.params.maxTokens);
    });

    test('a stop id ends a completion and is its last token', async () => {
      const engine = await started();
      const { vocabularySize } = engine.capabilities();
      const stopIds = Array.from({ length: Math.floor(vocabularySize / 2) }, (_, i) => 2 * i);
      const params = { ...REQUEST.params, stopIds };
      const completions = await engine.sample({ ...REQUEST, params, count: 8 });
      expect(completions.some(({ stopReason }) => stopReason === 'stop')).toBe(true);
      for (const { tokens, stopReason } of completions) {
        const stopped = tokens.map((token) => stopIds.includes(token));
        expect(stopped.slice(0, -1)).not.toContain(true);
        expect(stopReason).toBe(stopped.at(-1) === true ? 'stop' : 'length');
        if (stopReason === 'length') expect(tokens).toHaveLength(params.maxTokens);
      }
    });

    test('tokens are given as they are sampled, in their order', async () => {
      const engine = await started();
      const given: Completion[] = [];
      const completions = await engine.sample({
        ...REQUEST,
        onToken: (index, token, logprob) => {
          const completion = (given[index] ??= { tokens: [], logprobs: [], stopReason: 'length' });
          completion.tokens.push(token);
          completion.logprobs.push(logprob);
        },
      });
      expect(given).toEqual(completions);
    });

    test('a request that is cancelled before it begins samples nothing', async () => {
      const engine = await started();
      const completions = await engine.sample({ ...REQUEST, signal: AbortSignal.abort() });
      expect(completions.map(({ tokens, stopReason }) => [tokens.length, stopReason])).toEqual(
        Array.from({ length: REQUEST.count }, () => [0, 'cancelled']),
      );
      expect(await engine.sample(REQUEST)).toHaveLength(REQUEST.count);
    });

    if (streams)
      test('a request that is cancelled on its way gives what there is', async () => {
        const engine = await started();
        const stop = new AbortController();
        const params = { ...REQUEST.params, maxTokens: 40 };
        const completions = await engine.sample({
          ...REQUEST,
          params,
          signal: stop.signal,
          onToken: () => stop.abort(),
        });
        expect(completions.some(({ stopReason }) => stopReason === 'cancelled')).toBe(true);
        const whole = seeds ? await engine.sample({ ...REQUEST, params }) : undefined;
        completions.forEach(({ tokens, logprobs, stopReason }, i) => {
          expect(logprobs).toHaveLength(tokens.length);
          if (stopReason === 'cancelled') expect(tokens.length).toBeLessThan(params.maxTokens);
          if (whole !== undefined) expect(whole[i]?.tokens.slice(0, tokens.length)).toEqual(tokens);
        });
      });

    if (seeds)
      test('the same request gives the same completions, alone or beside others', async () => {
        const engine = await started();
        const alone = await engine.sample(REQUEST);
        const [other, again] = await Promise.all([
          engine.sample({ ...REQUEST, seed: 8 }),
          engine.sample(REQUEST),
        ]);
        expect(again).toEqual(alone);
        expect(other).not.toEqual(alone);
        expect(new Set(alone.map(({ tokens }) => tokens.join(' '))).size).toBe(REQUEST.count);
        expect(await engine.sample({ ...REQUEST, count: 2 })).toEqual(alone.slice(0, 2));
      });

    if (learns)
      test('at temperature 0 every completion is the likeliest', async () => {
        const engine = await started();
        const greedy = await engine.sample({ ...REQUEST, params: { ...REQUEST.params, temperature: 0 } });
        expect(new Set(greedy.map(({ tokens }) => tokens.join(' '))).size).toBe(1);
        if (engine.capabilities().ignores?.includes('topK') === true) return;
        const single = await engine.sample({ ...REQUEST, params: { ...REQUEST.params, topK: 1 } });
        expect(single[0]?.tokens).toEqual(greedy[0]?.tokens);
      });

    test.each(temperatures)(
      'sampler and trainer agree on log-probabilities at temperature %d, before and after a step',
      async (temperature) => {
        const engine = await started();
        for (let step = 0; step < 2; step++) {
          const params = { ...REQUEST.params, temperature };
          const completions = await engine.sample({ ...REQUEST, params });
          const datums = completions.map(({ tokens }) => ({
            tokens: [...PROMPT, ...tokens],
            positions: tokens.map((_, i) => PROMPT.length + i),
          }));
          const sampled = completions.map(({ logprobs }) => logprobs);
          expectSame(await engine.logprobs(datums, { temperature }), sampled, samplerTolerance);
          const { logprobs } = await engine.forwardBackward(datums, likelier, { temperature });
          expectSame(logprobs, sampled, samplerTolerance);
          await engine.step(ADAM);
        }
      },
    );

    test('a loss gets one log-probability for each position, and its result is handed on', async () => {
      const engine = await started();
      const before = await engine.stats();
      const { logprobs, loss, gradients, metrics } = await engine.forwardBackward(DATUMS, likelier);
      expect(logprobs.map(({ length }) => length)).toEqual(DATUMS.map(({ positions }) => positions.length));
      expectSame(logprobs, await engine.logprobs(DATUMS));
      expect({ loss, gradients, metrics }).toEqual(likelier(logprobs));
      expect((await engine.stats()).trainedTokens).toBeGreaterThan(before.trainedTokens);
    });

    test('gradients of several calls add up to that of one', async () => {
      const [together, apart] = [await started(), await started()];
      await together.forwardBackward(DATUMS, likelier);
      for (const datum of DATUMS) await apart.forwardBackward([datum], likelier);
      if (has('gradientNorms')) {
        const [one, several] = [await together.gradientNorms(), await apart.gradientNorms()];
        expect(Object.keys(several)).toEqual(Object.keys(one));
        for (const [parameter, norm] of Object.entries(one))
          expect(several[parameter], parameter).toBeCloseTo(norm, 3);
      }
      const [one, several] = [await together.step(ADAM), await apart.step(ADAM)];
      expect(several.gradientNorm).toBeCloseTo(one.gradientNorm, 3);
      expect(one.gradientNorm).toBeGreaterThan(0);
      expectSame(
        await apart.logprobs(DATUMS),
        await together.logprobs(DATUMS),
        Math.max(trainerTolerance, 1e-5),
      );
    });

    test('a step changes the current weights once, and the reference never', async () => {
      const engine = await started();
      const before = await engine.logprobs(DATUMS);
      expectSame(await engine.logprobs(DATUMS, { weights: 'reference' }), before);
      await updated(engine);
      const after = await engine.logprobs(DATUMS);
      expect(largestDifference(after, before)).toBeGreaterThan(trainerTolerance);
      expectSame(await engine.logprobs(DATUMS), after);
      expectSame(await engine.logprobs(DATUMS, { weights: 'reference' }), before);
    });

    if (learns)
      test('steps lower a loss', async () => {
        const engine = await started();
        const { loss: first } = await engine.forwardBackward(DATUMS, likelier);
        await engine.step(ADAM);
        for (let i = 0; i < 3; i++) await updated(engine);
        const { loss: last } = await engine.forwardBackward(DATUMS, likelier);
        expect(last).toBeLessThan(first);
      });

    test('calls that are made without awaiting run in the order in which they were made', async () => {
      const [waiting, calling] = [await started(), await started()];
      const expected: Float32Array[][] = [];
      for (let i = 0; i < 2; i++) {
        await updated(waiting);
        expected.push(await waiting.logprobs(DATUMS));
      }
      const calls = [0, 1].map(() => {
        const training = calling.forwardBackward(DATUMS, likelier);
        const stepping = calling.step(ADAM);
        return Promise.all([calling.logprobs(DATUMS), training, stepping]);
      });
      const got = (await Promise.all(calls)).map(([logprobs]) => logprobs);
      got.forEach((logprobs, i) => expectSame(logprobs, expected[i] ?? []));
    });

    test('a step after a forward-backward that failed is refused, and moves nothing', async () => {
      const engine = await started();
      const before = await engine.logprobs(DATUMS);
      const [, training, stepping] = await Promise.allSettled([
        engine.forwardBackward(DATUMS, likelier),
        engine.forwardBackward(DATUMS, failing),
        engine.step(ADAM),
      ]);
      expect(training).toMatchObject({ reason: { message: 'a loss that fails' } });
      expect(stepping).toMatchObject({ reason: { code: 'incomplete' } });
      await expect(engine.step(ADAM)).rejects.toMatchObject({ code: 'incomplete' });
      expectSame(await engine.logprobs(DATUMS), before);
    });

    if (has('zeroGradients'))
      test('gradients that are forgotten reach no step', async () => {
        const [engine, fresh] = [await started(), await started()];
        await engine.forwardBackward(DATUMS.slice(0, 1), likelier);
        await engine.forwardBackward(DATUMS, failing).catch(() => undefined);
        await engine.zeroGradients();
        for (const one of [engine, fresh]) await updated(one);
        expectSame(await engine.logprobs(DATUMS), await fresh.logprobs(DATUMS));
      });

    test('a saved state goes on as the engine that it came from', async () => {
      const [engine, other] = [await openedBy(open), await openedBy(open)];
      await updated(engine);
      const saved = await engine.logprobs(DATUMS);
      const directory = newDirectory();
      await engine.saveState(directory);
      await updated(engine);
      const expected = await engine.logprobs(DATUMS);
      // In another engine, and in the one that went on, with a gradient that must not count.
      await engine.forwardBackward(DATUMS, likelier);
      for (const one of [other, engine]) {
        await one.loadState(directory);
        expectSame(await one.logprobs(DATUMS), saved);
        await updated(one);
        expectSame(await one.logprobs(DATUMS), expected);
      }
      await expect(engine.saveState(directory)).rejects.toMatchObject({ code: 'bad-file' });
      await expect(engine.loadState(newDirectory())).rejects.toMatchObject({ name: 'R3Error' });
    });

    if (has('save'))
      test('a saved model is what was trained', async () => {
        const engine = await started();
        await updated(engine);
        const directory = newDirectory();
        await engine.save(directory);
        expect(existsSync(directory)).toBe(true);
        await expect(engine.save(directory)).rejects.toMatchObject({ code: 'bad-file' });
        if (openSaved === undefined) return;
        const reopened = await openedBy(() => openSaved(directory));
        expectSame(await reopened.logprobs(DATUMS), await engine.logprobs(DATUMS));
      });

    test('what it cannot do is refused by name', async () => {
      const engine = await started();
      const { contextLength, vocabularySize } = engine.capabilities();
      const sampling = (changed: Partial<SampleRequest['params']>): Promise<unknown> =>
        engine.sample({ ...REQUEST, params: { ...REQUEST.params, ...changed } });
      const long = Array.from({ length: contextLength }, () => 1);
      const refusals: [string, () => Promise<unknown>][] = [
        ['bad-option', () => engine.sample({ ...REQUEST, prompt: [vocabularySize] })],
        ['bad-option', () => sampling({ temperature: -1 })],
        ['bad-option', () => sampling({ maxTokens: 0 })],
        ['too-long', () => engine.sample({ ...REQUEST, prompt: long })],
        ['too-long', () => engine.logprobs([{ tokens: [...long, 1], positions: [1] }])],
        ['bad-option', () => engine.logprobs([{ tokens: [1, -1], positions: [1] }])],
        ['bad-shape', () => engine.logprobs([{ tokens: [1, 2], positions: [0] }])],
        ['bad-shape', () => engine.logprobs([{ tokens: [1, 2], positions: [2] }])],
        ['bad-shape', () => engine.logprobs([{ tokens: [1, 2, 3], positions: [2, 1] }])],
        ...lacks.map((call): [string, () => Promise<unknown>] => [
          'not-available',
          () => (call === 'save' ? engine.save(newDirectory()) : engine[call]()),
        ]),
      ];
      for (const [i, [code, refused]] of refusals.entries())
        await expect(refused(), `refusal ${i}`).rejects.toMatchObject({ name: 'R3Error', code });
      // And is none the worse for it.
      expect(await engine.sample(REQUEST)).toHaveLength(REQUEST.count);
    });

    if (openSampler !== undefined)
      test('an engine for sampling alone refuses to train', async () => {
        const engine = await openedBy(openSampler);
        expect(engine.capabilities().trainable).toBe(false);
        expect(await engine.sample(REQUEST)).toHaveLength(REQUEST.count);
        for (const refused of [
          () => engine.step(ADAM),
          () => engine.forwardBackward(DATUMS, likelier),
          () => engine.saveState(newDirectory()),
        ])
          await expect(refused()).rejects.toMatchObject({ name: 'R3Error', code: 'bad-option' });
      });

    test('an engine that was closed refuses every call, and may be closed again', async () => {
      const engine = await openedBy(open);
      await engine.close();
      await expect(engine.sample(REQUEST)).rejects.toMatchObject({ code: 'cancelled' });
      await expect(engine.logprobs(DATUMS)).rejects.toMatchObject({ code: 'cancelled' });
      await expect(engine.step(ADAM)).rejects.toMatchObject({ code: 'cancelled' });
      await engine.close();
    });
  });
}

function largestDifference(
  got: readonly ArrayLike<number>[],
  expected: readonly ArrayLike<number>[],
): number {
  let largest = 0;
  got.forEach((row, n) => {
    for (let i = 0; i < row.length; i++) {
      const difference = Math.abs((row[i] ?? Number.NaN) - (expected[n]?.[i] ?? Number.NaN));
      // NaN is a difference too.
      if (!(difference <= largest)) largest = difference;
    }
  });
  return largest;
}
