import { describe, expect, test } from 'vitest';
import { explainKernels, loadKernels } from '../../kernels/load.ts';
import type { Ops } from '../../kernels/ops.ts';
import { makeRng } from '../../lib/rng.ts';
import type { Datum } from '../engine.ts';
import type { ModelConfig } from './config.ts';
import { makeCore, type LocalCore, type LocalEngineOptions } from './core.ts';
import type { LoadedModel } from './directory.ts';
import { initialiseLora, makeLoraLayout, mergedWith, type LoraOptions } from './lora.ts';
import { randomTokens, sampleAll, tinyModel, tinyVariants } from './testing.ts';

const builds = await Promise.all(
  explainKernels()
    .filter((report) => report.available)
    .map(({ build }) => loadKernels({ build, threads: 2 })),
);
const reference = builds.find((ops) => ops.build === 'reference') as Ops;
const LORA: LoraOptions = {
  rank: 3,
  alpha: 5,
  dropout: 0,
  rsLora: false,
  targets: 'all-linear',
  layers: null,
};
const ADAM = { learningRate: 0.03, beta1: 0.9, beta2: 0.99, epsilon: 1e-8, weightDecay: 0 };

/** A model whose folder is an adapter with random values. */
function adapted(
  variant: Partial<ModelConfig> = {},
  options: Partial<LoraOptions> = {},
): LoadedModel & {
  adapter: NonNullable<LoadedModel['adapter']>;
} {
  const model = tinyModel(variant);
  const layout = makeLoraLayout(model.layout, { ...LORA, ...options });
  const rng = makeRng(3);
  return {
    ...model,
    adapter: {
      layout,
      values: Float32Array.from({ length: layout.length }, () => 0.4 * (rng.next() - 0.5)),
      base: undefined,
    },
  };
}

const open = (ops: Ops, model: LoadedModel, options: Partial<LocalEngineOptions> = {}): LocalCore =>
  makeCore(ops, model, { cacheBytes: 1 << 20, ...options });

function datums(): Datum[] {
  const prompt = randomTokens(21, 1);
  return [5, 9, 3].map((length, i) => ({
    tokens: [...prompt, ...randomTokens(length, 10 + i)],
    positions: Array.from({ length }, (_, k) => prompt.length + k),
  }));
}

const coefficients = (rows: readonly Float32Array[]): Float32Array[] =>
  rows.map((row, n) => row.map((_, k) => Math.sin(3 * n + k)));

const score = (core: LocalCore, which: 'current' | 'reference' = 'current'): number[][] =>
  core.forward(datums(), 1, which, false).map((row) => [...row]);

function accumulate(core: LocalCore): void {
  core.backward(coefficients(core.forward(datums(), 1, 'current', true)));
}

test.each(Object.entries(tinyVariants))(
  'the gradient of every A and B agrees with central differences: %s',
  (_, variant) => {
    const model = adapted(variant);
    const { layout, values } = model.adapter;
    const core = open(reference, model);
    const weights = coefficients(core.forward(datums(), 1, 'current', true));
    core.backward(weights);
    const norms = core.gradientNorms();
    expect(Object.keys(norms)).toEqual(layout.parameters.map(({ name }) => name));
    for (const [index, { name, offset, length }] of layout.parameters.entries()) {
      const direction = randomTokens(length, index).map((t) => (t % 2 === 0 ? 1 : -1) / Math.sqrt(length));
      const objective = (step: number): number => {
        const changed = values.slice();
        direction.forEach((d, i) => (changed[offset + i] = changed[offset + i]! + step * d));
        return open(reference, { ...model, adapter: { layout, values: changed, base: undefined } })
          .forward(datums(), 1, 'current', false)
          .reduce((sum, row, n) => sum + row.reduce((s, x, k) => s + x * weights[n]![k]!, 0), 0);
      };
      const measured = (objective(4e-3) - objective(-4e-3)) / 8e-3;
      const gradient = core.gradientOf(name);
      const exact = direction.reduce((sum, d, i) => sum + d * gradient[i]!, 0);
      expect(Math.abs(measured - exact), `${name}: ${measured} against ${exact}`).toBeLessThan(
        3e-3 * norms[name]! + 2e-3,
      );
    }
  },
);

describe.each(builds.map((ops) => ({ name: `${ops.build} ${ops.variant}`, ops })))('$name', ({ ops }) => {
  test.each(['f32', 'bf16', 'int8'] as const)(
    'in %s the log-probabilities that sampling reports are those that training computes, to the bit',
    (dtype) => {
      const core = open(ops, adapted(), { dtype });
      const prompt = randomTokens(29, 5);
      const params = { temperature: 1, maxTokens: 12, stopIds: [] };
      const [completions] = sampleAll(core, [{ prompt, count: 5, params, seed: 4 }]);
      const scored = core.forward(
        completions!.map((c) => ({
          tokens: [...prompt, ...c.tokens],
          positions: c.tokens.map((_, k) => prompt.length + k),
        })),
        1,
        'current',
        true,
      );
      expect(scored.map((row) => [...row])).toEqual(completions!.map((c) => c.logprobs));
    },
  );

  test('a fresh adapter changes nothing; the reference is the model without it, before and after training', () => {
    const plain = score(open(ops, tinyModel(), { trainable: false }));
    const core = open(ops, tinyModel(), { lora: LORA, seed: 2 });
    expect(score(core)).toEqual(plain);
    accumulate(core);
    core.step(ADAM);
    accumulate(core);
    core.step(ADAM);
    expect(score(core)).not.toEqual(plain);
    expect(score(core, 'reference')).toEqual(plain);
  });

  test('merged weights give what the adapter gives', () => {
    for (const options of [{}, { rsLora: true, targets: ['q_proj', 'down_proj'] }, { layers: [1] }]) {
      const model = adapted({}, options);
      const { layout, values } = model.adapter;
      const merged = { ...model, adapter: null, read: mergedWith(model.read, layout, values) };
      const scores = score(open(ops, merged, { trainable: false }));
      score(open(ops, model)).forEach((row, n) =>
        row.forEach((value, k) => expect(Math.abs(value - scores[n]![k]!)).toBeLessThan(1e-4)),
      );
    }
  });

  test('steps lower a loss, and only those of the chosen layers and modules move', () => {
    const core = open(ops, tinyModel(), { lora: { ...LORA, targets: ['v_proj', 'gate_proj'], layers: [1] } });
    expect(Object.keys(core.gradientNorms())).toEqual(
      ['self_attn.v_proj', 'mlp.gate_proj'].flatMap((module) =>
        ['A', 'B'].map((which) => `base_model.model.model.layers.1.${module}.lora_${which}.weight`),
      ),
    );
    const loss = (): number =>
      -score(core)
        .flat()
        .reduce((a, b) => a + b, 0);
    const before = loss();
    for (let step = 0; step < 5; step++) {
      core.backward(core.forward(datums(), 1, 'current', true).map((row) => row.map(() => -1)));
      core.step(ADAM);
    }
    expect(loss()).toBeLessThan(before);
  });

  test('dropout leaves scores as they are, changes with every step, and is the same for the same seed', () => {
    const trained = (seed: number): number[][][] => {
      const core = open(ops, adapted({}, { dropout: 0.5 }), { seed, activationBytes: 60_000 });
      expect(score(core)).toEqual(score(open(ops, adapted())));
      return [0, 1].map(() => {
        const rows = core.forward(datums(), 1, 'current', true);
        core.backward(rows.map((row) => new Float32Array(row.length)));
        core.step({ ...ADAM, learningRate: 1e-30 });
        return rows.map((row) => [...row]);
      });
    };
    const [first, second] = trained(1);
    expect(first).not.toEqual(second);
    expect(trained(1)).toEqual([first, second]);
    expect(trained(2)[0]).not.toEqual(first);
  });
});

test.each<[LoraOptions['targets'], string[]]>([
  [
    ['q_proj', 'down_proj'],
    ['down_proj', 'q_proj'],
  ],
  [['layers.1.self_attn.q_proj'], ['model.layers.1.self_attn.q_proj']],
])('the adapter of %j says by its targets which modules it has, and no others', (targets, said) => {
  const { layout } = tinyModel();
  const lora = makeLoraLayout(layout, { ...LORA, targets });
  expect(lora.targets).toEqual(said);
  const again = makeLoraLayout(layout, { ...LORA, targets: lora.targets });
  expect(again.parameters).toEqual(lora.parameters);
});

test('a fresh adapter has uniform A within its bound and B of zeros', () => {
  const layout = makeLoraLayout(tinyModel().layout, LORA);
  const values = initialiseLora(layout, 7);
  for (const { name, shape, offset, length } of layout.parameters) {
    const own = values.subarray(offset, offset + length);
    const bound = shape[1]! ** -0.5;
    if (name.includes('lora_B')) expect(own.every((value) => value === 0)).toBe(true);
    else {
      expect(own.every((value) => Math.abs(value) <= bound)).toBe(true);
      expect(own.reduce((sum, value) => sum + value * value, 0) / length).toBeCloseTo(bound ** 2 / 3, 2);
    }
  }
});

test.each<[Partial<LoraOptions>, string]>([
  [
    { targets: ['q_proj', 'nothing'] },
    'LoRA target modules: expected "all-linear" or some of q_proj, k_proj',
  ],
  [{ targets: ['lm_head'] }, 'got lm_head'],
  [{ rank: 100_000 }, 'LoRA rank: expected at most 65536, got 100000'],
  [{ layers: [2] }, 'LoRA layers: expected numbers from 0 to 1, got 2'],
])('the adapter %j is refused', (options, message) => {
  expect(() => makeLoraLayout(tinyModel().layout, { ...LORA, ...options })).toThrow(message);
});

test('all weights cannot be trained in int8', () => {
  expect(() => open(reference, tinyModel(), { dtype: 'int8' })).toThrow(
    'dtype int8: expected weights that stay as they are',
  );
});
