import { describe, expect, test } from 'vitest';
import { explainKernels, loadKernels } from '../../kernels/load.ts';
import type { Ops } from '../../kernels/ops.ts';
import type { Datum } from '../engine.ts';
import { makeCore, type LocalCore, type LocalEngineOptions } from './core.ts';
import { planActivations } from './passes.ts';
import { randomTokens, sampleAll, tinyConfig, tinyModel, tinyVariants } from './testing.ts';
import type { ReadParameter } from './weights.ts';

const builds = await Promise.all(
  explainKernels()
    .filter((report) => report.available)
    .map(({ build }) => loadKernels({ build, threads: 2 })),
);
const reference = builds.find((ops) => ops.build === 'reference') as Ops;
const CACHE_BYTES = 1 << 20;
const greedy = { temperature: 0, maxTokens: 12, stopIds: [] };
const warm = { temperature: 0.9, maxTokens: 20, stopIds: [3] };

/** Two groups whose members share a long prompt, and one lone sequence. */
function groupedDatums(): Datum[] {
  const prompts = [randomTokens(37, 1), randomTokens(21, 2)];
  const grouped = prompts.flatMap((prompt, g) =>
    [5, 9, 2].map((length, i) => {
      const tokens = [...prompt, ...randomTokens(length, 10 * g + i)];
      return { tokens, positions: Array.from({ length }, (_, k) => prompt.length + k) };
    }),
  );
  return [...grouped, { tokens: randomTokens(9, 77), positions: [1, 4, 8] }];
}

const coefficients = (datums: readonly Datum[]): Float32Array[] =>
  datums.map((d, n) => Float32Array.from(d.positions, (p) => Math.sin(3 * n + p)));

const openOn = (ops: Ops, options: Partial<LocalEngineOptions> = {}, model = tinyModel()): LocalCore =>
  makeCore(ops, model, { cacheBytes: CACHE_BYTES, ...options });

function gradientsOf(
  ops: Ops,
  options: Partial<LocalEngineOptions>,
  datums: readonly Datum[],
): { logprobs: Float32Array[]; gradient: Record<string, number> } {
  const core = openOn(ops, options);
  const logprobs = core.forward(datums, 0.8, 'current', true);
  core.backward(coefficients(datums));
  return { logprobs, gradient: core.gradientNorms() };
}

test.each(Object.entries(tinyVariants))(
  'the gradient of every parameter agrees with central differences: %s',
  (_, variant) => {
    const datums = groupedDatums();
    const weightsOf = coefficients(datums);
    const model = tinyModel(variant);
    /** With `step` times a direction added to one parameter. */
    const objective = (name: string, direction: readonly number[], step: number): number => {
      const read: ReadParameter = (parameter, from, count, into) => {
        model.read(parameter, from, count, into);
        if (parameter.name !== name) return;
        for (let i = 0; i < count; i++) into[i] = into[i]! + step * direction[from + i]!;
      };
      const changed = { ...model, read };
      const logprobs = openOn(reference, {}, changed).forward(datums, 0.8, 'current', false);
      return logprobs.reduce((sum, row, n) => sum + row.reduce((s, x, k) => s + x * weightsOf[n]![k]!, 0), 0);
    };
    const core = openOn(reference, {}, model);
    core.forward(datums, 0.8, 'current', true);
    core.backward(weightsOf);
    const norms = core.gradientNorms();
    for (const { name, offset, length } of model.layout.parameters) {
      // Along a random direction of this parameter: |directional derivative| <= norm, and it is not small by chance for all seeds.
      const direction = randomTokens(length, offset + 5).map(
        (t) => (t % 2 === 0 ? 1 : -1) / Math.sqrt(length),
      );
      const step = 2e-3;
      const measured = (objective(name, direction, step) - objective(name, direction, -step)) / (2 * step);
      const gradient = core.gradientOf(name);
      const exact = direction.reduce((sum, d, i) => sum + d * gradient[i]!, 0);
      expect(Math.abs(measured - exact), `${name}: ${measured} against ${exact}`).toBeLessThan(
        2e-3 * norms[name]! + 2e-3,
      );
    }
  },
);

describe.each(builds.map((ops) => ({ name: `${ops.build} ${ops.variant}`, ops })))('$name', ({ ops }) => {
  const open = (options: Partial<LocalEngineOptions> = {}): LocalCore => openOn(ops, options);

  test('sharing prefixes, computing layers again and cutting a batch into passes change no log-probability and no gradient', () => {
    const datums = groupedDatums();
    const plain = gradientsOf(ops, {}, datums);
    const rowBytes = planActivations(tinyConfig, 0).bytesKept;
    for (const options of [
      { share: false },
      { activationBytes: rowBytes * 60 },
      { activationBytes: rowBytes * 25 },
      { passTokens: 40 },
    ]) {
      const other = gradientsOf(ops, options, datums);
      expect(other.logprobs).toEqual(plain.logprobs);
      for (const [name, norm] of Object.entries(plain.gradient))
        expect(other.gradient[name]! / norm, name).toBeCloseTo(1, 5);
    }
  });

  test('the log-probabilities that sampling reports are those that training computes, to the bit', () => {
    for (const temperature of [0, 0.7, 1]) {
      const core = open();
      const prompt = randomTokens(29, 5);
      const [completions] = sampleAll(core, [
        { prompt, count: 6, params: { ...warm, temperature }, seed: 4 },
      ]);
      const datums = completions!.map((c) => ({
        tokens: [...prompt, ...c.tokens],
        positions: c.tokens.map((_, k) => prompt.length + k),
      }));
      const scored = core.forward(datums, temperature === 0 ? 1 : temperature, 'current', false);
      expect(scored.map((row) => [...row])).toEqual(completions!.map((c) => c.logprobs));
    }
  });

  test('the same after a prompt that takes several steps', () => {
    const core = openOn(ops, {}, tinyModel({ contextLength: 1200 }));
    const prompt = randomTokens(1100, 5);
    const [completions] = sampleAll(core, [{ prompt, count: 2, params: greedy, seed: 4 }]);
    const datums = completions!.map((c) => ({
      tokens: [...prompt, ...c.tokens],
      positions: c.tokens.map((_, k) => prompt.length + k),
    }));
    const scored = core.forward(datums, 1, 'current', false);
    expect(scored.map((row) => [...row])).toEqual(completions!.map((c) => c.logprobs));
  });

  test('a completion does not depend on what else is sampled, on the cache, or on the order of requests', () => {
    const long = randomTokens(40, 6);
    const requests = [
      { prompt: randomTokens(3, 1), count: 2, params: warm, seed: 1 },
      { prompt: long, count: 3, params: warm, seed: 2 },
      {
        prompt: [...long.slice(0, 30), ...randomTokens(25, 7)],
        count: 1,
        params: { ...warm, topK: 8, topP: 0.9, minP: 0.01 },
        seed: 3,
      },
      { prompt: long.slice(0, 33), count: 1, params: greedy, seed: 9 },
    ];
    const alone = requests.map((request) => sampleAll(open(), [request])[0]);
    expect(sampleAll(open(), requests)).toEqual(alone);
    expect(sampleAll(open(), requests.toReversed()).toReversed()).toEqual(alone);
    const used = open();
    for (let round = 0; round < 3; round++) expect(sampleAll(used, requests)).toEqual(alone);
    expect(used.stats().cachedTokens).toBeGreaterThan(2 * 39);
  });

  test('a cache with room for one request at a time gives the same completions', () => {
    const requests = Array.from({ length: 6 }, (_, i) => ({
      prompt: randomTokens(30 + i, i),
      count: 2,
      params: warm,
      seed: i,
    }));
    const pageBytes = tinyConfig.layers * 2 * tinyConfig.kvHeads * tinyConfig.headSize * 16 * 4;
    expect(sampleAll(open({ cacheBytes: 12 * pageBytes }), requests)).toEqual(sampleAll(open(), requests));
  });

  test('a retry that continues a reflection finds its keys in the cache', () => {
    const core = open();
    const prompt = randomTokens(40, 3);
    const reflection = sampleAll(core, [
      { prompt, count: 1, params: { ...warm, stopIds: [] }, seed: 5 },
    ])[0]![0]!;
    const before = core.stats().cachedTokens;
    sampleAll(core, [{ prompt: [...prompt, ...reflection.tokens, 1, 2], count: 1, params: warm, seed: 6 }]);
    // All but the last sampled token, whose keys were never needed.
    expect(core.stats().cachedTokens - before).toBe(prompt.length + reflection.tokens.length - 1);
  });

  test('a stop id ends a completion and is its last token; the length limit ends it otherwise', () => {
    const core = open();
    const [completions] = sampleAll(core, [{ prompt: [1, 2], count: 40, params: warm, seed: 8 }]);
    const reasons = new Set(completions!.map((c) => c.stopReason));
    expect(reasons).toEqual(new Set(['stop', 'length']));
    for (const c of completions!) {
      expect(c.tokens.indexOf(3)).toBe(c.stopReason === 'stop' ? c.tokens.length - 1 : -1);
      expect(c.tokens.length).toBeLessThanOrEqual(warm.maxTokens);
      expect(c.logprobs.length).toBe(c.tokens.length);
    }
  });

  test('a step lowers the loss, and only then do samples change', () => {
    const core = open();
    const datum = { tokens: randomTokens(20, 4), positions: Array.from({ length: 19 }, (_, i) => i + 1) };
    const request = { prompt: datum.tokens.slice(0, 18), count: 1, params: greedy, seed: 1 };
    const loss = () => -core.forward([datum], 1, 'current', true)[0]!.reduce((a, b) => a + b, 0);
    const before = loss();
    const sampled = sampleAll(core, [request]);
    for (let i = 0; i < 20; i++) {
      loss();
      core.backward([new Float32Array(19).fill(-1)]);
      core.step({
        learningRate: 3e-3,
        beta1: 0.9,
        beta2: 0.98,
        epsilon: 1e-8,
        weightDecay: 0,
        maxGradNorm: 1,
      });
    }
    expect(loss()).toBeLessThan(before / 4);
    expect(sampleAll(core, [request])).not.toEqual(sampled);
    expect(core.forward([datum], 1, 'reference', false)[0]!.reduce((a, b) => a - b, 0)).toBeCloseTo(
      before,
      5,
    );
  });

  test('a prompt that shares a prefix with a run that fills the smallest cache is computed without it', () => {
    const core = open({ cacheBytes: 0 });
    const request = { count: 1, params: { ...greedy, maxTokens: 4 }, seed: 1 };
    const first = { ...request, prompt: randomTokens(120, 1) };
    const second = { ...request, prompt: [...first.prompt.slice(0, 20), ...randomTokens(100, 2)] };
    expect([sampleAll(core, [first])[0], sampleAll(core, [second])[0]]).toEqual(
      sampleAll(open(), [first, second]),
    );
  });

  test('a request that fits the context fits the smallest cache', () => {
    const core = open({ cacheBytes: 0 });
    for (let prompt = 1; prompt < 128; prompt += 9) {
      const [[completion]] = sampleAll(core, [
        {
          prompt: randomTokens(prompt, prompt),
          count: 1,
          params: { ...greedy, maxTokens: 128 - prompt },
          seed: 1,
        },
      ]) as unknown as [[{ tokens: number[] }]];
      expect(completion.tokens.length).toBe(128 - prompt);
    }
  });

  test('bad requests are refused by name', () => {
    const core = open();
    const request = { prompt: [1, 2, 3], count: 1, params: greedy, seed: 1 };
    expect(() => sampleAll(core, [{ ...request, prompt: randomTokens(120, 1) }])).toThrow(
      'expected at most 128 in all',
    );
    for (const params of [
      { temperature: -1 },
      { temperature: NaN },
      { maxTokens: 0 },
      { maxTokens: 1.5 },
      { topP: 2 },
    ]) {
      expect(() => sampleAll(core, [{ ...request, params: { ...greedy, ...params } }])).toThrow(
        `${Object.keys(params)[0]}: expected`,
      );
    }
    expect(() => sampleAll(core, [{ ...request, prompt: [] }])).toThrow(
      'prompt: expected at least one token',
    );
    expect(sampleAll(core, [request])[0]).toHaveLength(1);
    expect(() => sampleAll(core, [{ ...request, prompt: [31] }])).toThrow(
      'expected token ids from 0 to 30, got 31',
    );
    expect(() => core.forward([{ tokens: [1, 2], positions: [0] }], 1, 'current', false)).toThrow(
      'expected an integer from 1 to 1, got 0',
    );
    expect(() =>
      open({ trainable: false }).forward([{ tokens: [1, 2], positions: [1] }], 1, 'current', true),
    ).toThrow('opened for sampling only');
  });
});
