/**
 * A scripted engine for tests of the loops: the whole interface, deterministic, with no model.
 *
 * The script says which ids each completion has. A log-probability is a hash of the tokens up to its own, the
 * number of steps taken and the temperature, so that the sampler and the trainer agree to the bit, every
 * step changes all of them, and the reference never changes. The gradient has one parameter, and its square
 * is the sum of the squares of what the losses returned.
 * Keeps what it was asked in `calls`. Learns nothing: for that there is the local engine.
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { noStats } from './stats.ts';
import { R3Error } from '../lib/errors.ts';
import { hash32 } from '../lib/rng.ts';
import { makeCallOrder } from './call-order.ts';
import type {
  AdamParams,
  Completion,
  Datum,
  Engine,
  LossResult,
  SampleRequest,
  ScoreOptions,
  TokenIds,
} from './engine.ts';

/** The ids of completion `index`. Cut after the first stop id or at maxTokens; otherwise it ends as 'length'. */
export type FakeScript = (prompt: TokenIds, index: number, seed: number) => readonly number[];

export interface FakeCalls {
  samples: SampleRequest[];
  scored: { datums: readonly Datum[]; options: ScoreOptions }[];
  trained: { datums: readonly Datum[]; temperature: number; result: LossResult }[];
  steps: AdamParams[];
  saved: string[];
  closed: boolean;
}

export interface FakeEngine extends Engine {
  readonly calls: FakeCalls;
}

export interface FakeOptions {
  /** Default 1000. */
  vocabularySize?: number;
  /** Default 4096. */
  contextLength?: number;
  /** Default true. */
  trainable?: boolean;
}

const STATE_FILE = 'fake-engine.json';

export function makeFakeEngine(script: FakeScript, options: FakeOptions = {}): FakeEngine {
  const { vocabularySize = 1000, contextLength = 4096, trainable = true } = options;
  const calls: FakeCalls = { samples: [], scored: [], trained: [], steps: [], saved: [], closed: false };
  const stats = noStats();
  let stepCount = 0;
  let squaredGradient = 0;
  const { inOrder, adding, stepping, clearing } = makeCallOrder();

  const checkOpen = (): void => {
    if (calls.closed) throw new R3Error('engine', 'cancelled', 'the engine was closed');
  };
  const checkTokens = (tokens: TokenIds): void => {
    const bad = tokens.find((id) => !Number.isInteger(id) || id < 0 || id >= vocabularySize);
    if (bad !== undefined) {
      throw new R3Error(
        'engine',
        'bad-option',
        `tokens: expected ids from 0 to ${vocabularySize - 1}, got ${bad}`,
      );
    }
  };
  const checkLength = (length: number): void => {
    if (length > contextLength) {
      throw new R3Error(
        'engine',
        'too-long',
        `sequence: expected at most ${contextLength} tokens, got ${length}`,
      );
    }
  };
  const checkTrainable = (): void => {
    checkOpen();
    if (!trainable)
      throw new R3Error('engine', 'bad-option', 'training: expected a trainable engine, got a sampler');
  };
  const score = (datums: readonly Datum[], temperature: number, steps: number): Float32Array[] =>
    datums.map(({ tokens, positions }) => {
      checkTokens(tokens);
      checkLength(tokens.length);
      const scored = fakeLogprobs(tokens, temperature, steps);
      return Float32Array.from(positions, (position, i) => {
        const logprob = position > (positions[i - 1] ?? 0) ? scored[position] : undefined;
        if (logprob !== undefined) return logprob;
        throw new R3Error(
          'engine',
          'bad-shape',
          `positions: expected ascending ones from 1 to ${tokens.length - 1} in a sequence of ${tokens.length} tokens, got ${position}`,
        );
      });
    });
  const makeDirectory = (directory: string): void => {
    if (existsSync(directory)) {
      throw new R3Error(
        'engine',
        'bad-file',
        `${directory}: expected a directory that does not exist, got one that does`,
      );
    }
    mkdirSync(directory, { recursive: true });
    writeFileSync(join(directory, STATE_FILE), JSON.stringify({ stepCount }));
    calls.saved.push(directory);
  };

  return {
    calls,
    capabilities: () => ({
      name: 'fake',
      trainable,
      contextLength,
      vocabularySize,
      description: 'scripted, no model',
      modelHash: 'fa'.repeat(32),
    }),

    sample: async (request) => {
      const { prompt, count, params, seed, signal, onToken } = request;
      checkOpen();
      checkParams(params);
      checkTokens(prompt);
      checkLength(prompt.length + params.maxTokens);
      calls.samples.push(request);
      stats.prefilledTokens += prompt.length;

      const scripts = Array.from({ length: count }, (_, index) => {
        const ids = script(prompt, index, seed).slice(0, params.maxTokens);
        checkTokens(ids);
        const stop = ids.findIndex((id) => params.stopIds.includes(id));
        return stop < 0 ? ids : ids.slice(0, stop + 1);
      });
      const temperature = params.temperature === 0 ? 1 : params.temperature;
      const scored = scripts.map((ids) =>
        Array.from(fakeLogprobs([...prompt, ...ids], temperature, stepCount)).slice(prompt.length),
      );
      // One token of each completion in turn, as a batch does it, so that a cancellation meets them half done.
      const done: number[][] = scripts.map(() => []);
      for (let position = 0; scripts.some((ids) => position < ids.length); position++) {
        await Promise.resolve();
        if (signal?.aborted) break;
        for (const [index, ids] of scripts.entries()) {
          const token = ids[position];
          if (token === undefined) continue;
          done[index]?.push(token);
          stats.sampledTokens++;
          onToken?.(index, token, scored[index]?.[position] ?? 0);
        }
      }

      return done.map((tokens, index): Completion => {
        const logprobs = scored[index]?.slice(0, tokens.length) ?? [];
        const cut = tokens.length < (scripts[index]?.length ?? 0);
        const stop = params.stopIds.includes(tokens.at(-1) ?? -1);
        return { tokens, logprobs, stopReason: cut ? 'cancelled' : stop ? 'stop' : 'length' };
      });
    },

    logprobs: (datums, scoreOptions = {}) =>
      inOrder(async () => {
        checkOpen();
        calls.scored.push({ datums, options: scoreOptions });
        const { temperature = 1, weights = 'current' } = scoreOptions;
        return score(datums, temperature, weights === 'reference' ? 0 : stepCount);
      }),

    forwardBackward: (datums, loss, { temperature = 1 } = {}) =>
      adding(async () => {
        checkTrainable();
        const logprobs = score(datums, temperature, stepCount);
        const result = loss(logprobs);
        calls.trained.push({ datums, temperature, result });
        for (const gradient of result.gradients)
          for (const value of gradient) squaredGradient += value * value;
        for (const { tokens } of datums) {
          stats.trainedTokens += tokens.length;
          stats.unsharedTokens += tokens.length;
        }
        return { ...result, logprobs };
      }),

    step: (adam) =>
      stepping(async () => {
        checkTrainable();
        calls.steps.push(adam);
        const gradientNorm = Math.sqrt(squaredGradient);
        squaredGradient = 0;
        stepCount++;
        return { gradientNorm, learningRate: adam.learningRate };
      }),

    gradientNorms: () => inOrder(async () => ({ 'fake.weight': Math.sqrt(squaredGradient) })),
    zeroGradients: () =>
      clearing(async () => {
        squaredGradient = 0;
      }),
    save: (directory) => inOrder(async () => makeDirectory(directory)),
    saveState: (directory) =>
      inOrder(async () => {
        checkTrainable();
        makeDirectory(directory);
      }),
    loadState: (directory) =>
      clearing(async () => {
        const path = join(directory, STATE_FILE);
        if (!existsSync(path))
          throw new R3Error('engine', 'bad-file', `${path}: expected a state, got no file`);
        ({ stepCount } = JSON.parse(readFileSync(path, 'utf8')) as { stepCount: number });
        squaredGradient = 0;
      }),
    stats: async () => ({ ...stats }),
    close: async () => {
      calls.closed = true;
    },
  };
}

function checkParams({ temperature, maxTokens }: SampleRequest['params']): void {
  if (temperature >= 0 && maxTokens > 0) return;
  throw new R3Error(
    'engine',
    'bad-option',
    `sampling: expected a temperature of at least 0 and maxTokens above 0, got ${temperature} and ${maxTokens}`,
  );
}

/** One value for each token, between -4 and 0 at temperature 1. The first has no meaning. */
function fakeLogprobs(tokens: TokenIds, temperature: number, steps: number): Float32Array {
  let hash = hash32(steps, 0, 0);
  return Float32Array.from(tokens, (token, position) => {
    hash = hash32(hash, token, position);
    return (-4 * (hash + 1)) / 0x100000000 / temperature;
  });
}
