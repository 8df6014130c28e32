/**
 * The embedded engine against transformers' LlamaForCausalLM: the fixtures and the reason for each tolerance are in
 * test/fixtures/llama/README.md. Runs over every build of the kernels that this machine has.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, test } from 'vitest';
import type { Datum } from '../../src/engine/engine.ts';
import { makeCore, type LocalCore } from '../../src/engine/local/core.ts';
import { openModel } from '../../src/engine/local/directory.ts';
import { openSafetensors } from '../../src/engine/local/safetensors.ts';
import { sampleAll } from '../../src/engine/local/testing.ts';
import { explainKernels, loadKernels } from '../../src/kernels/load.ts';

interface Trajectory {
  maxGradNorm: number | null;
  losses: number[];
  gradientNorms: number[];
  finalLoss: number;
  finalSums: Record<string, number>;
  finalL2: Record<string, number>;
}

interface Expected {
  sequences: number[][];
  loss: number;
  gradientNorm: number;
  adam: Record<string, unknown>;
  adamw: Trajectory;
  adamwClipped: Trajectory;
  greedy: { prompt: number[]; tokens: number[] };
}

const FIXTURES = fileURLToPath(new URL('../fixtures/llama', import.meta.url));
const builds = explainKernels().filter((report) => report.available);
const ADAM = { learningRate: 1e-3, beta1: 0.9, beta2: 0.98, epsilon: 1e-8, weightDecay: 0.01 };

describe.each(builds.map((b) => b.build))('%s kernels', async (build) => {
  const ops = await loadKernels({ build, threads: 2 });

  describe.each(['tiny-gqa', 'tiny-tied'])('%s', (name) => {
    const directory = join(FIXTURES, name);
    const expected = JSON.parse(readFileSync(join(directory, 'expected.json'), 'utf8')) as Expected;
    const tensors = openSafetensors(join(directory, 'expected.safetensors'));
    afterAll(() => tensors.close());
    const tensor = (key: string): Float32Array => tensors.readF32(key);
    const model = openModel(directory);
    const open = (): LocalCore => makeCore(ops, model, { cacheBytes: 1 << 20 });
    const datums: Datum[] = expected.sequences.map((tokens) => ({
      tokens,
      positions: tokens.slice(1).map((_, i) => i + 1),
    }));
    const count = datums.reduce((sum, d) => sum + d.positions.length, 0);

    /** One forward and backward of the mean negative log-probability; returns it. */
    const accumulate = (core: LocalCore): number => {
      const logprobs = core.forward(datums, 1, 'current', true);
      core.backward(logprobs.map((row) => new Float32Array(row.length).fill(-1 / count)));
      return -logprobs.reduce((sum, row) => row.reduce((s, x) => s + x, sum), 0) / count;
    };

    test('log-probabilities of the sequences', () => {
      open()
        .forward(datums, 1, 'current', false)
        .forEach((row, n) => expectNear(row, tensor(`logprobs.${n}`), 2e-5, `sequence ${n}`));
    });

    test('the distribution at every position, over the whole vocabulary', () => {
      const V = model.config.vocabularySize;
      const [sequence] = expected.sequences as [number[]];
      const logits = tensor('logits.0');
      const questions: Datum[] = sequence.flatMap((_, t) =>
        Array.from({ length: V }, (__, v) => ({
          tokens: [...sequence.slice(0, t + 1), v],
          positions: [t + 1],
        })),
      );
      const scored = Float32Array.from(open().forward(questions, 1, 'current', false), (row) => row[0]!);
      const wanted = Float32Array.from(logits, (logit, i) => {
        const row = logits.subarray(Math.floor(i / V) * V, (Math.floor(i / V) + 1) * V);
        const top = Math.max(...row);
        return logit - top - Math.log(row.reduce((sum, x) => sum + Math.exp(x - top), 0));
      });
      expectNear(scored, wanted, 3e-5, 'log-softmax of the logits');
    });

    test('the gradient of every parameter', () => {
      const core = open();
      expect(accumulate(core)).toBeCloseTo(expected.loss, 5);
      for (const { name: parameter } of model.layout.parameters) {
        const wanted = tensor(`grad.${parameter}`);
        const largest = wanted.reduce((max, x) => Math.max(max, Math.abs(x)), 0);
        expectNear(core.gradientOf(parameter), wanted, 1e-5 * largest, parameter);
      }
    });

    test.each(['adamw', 'adamwClipped'] as const)('ten steps: %s', (kind) => {
      const core = open();
      const trajectory = expected[kind];
      const adam = trajectory.maxGradNorm === null ? ADAM : { ...ADAM, maxGradNorm: trajectory.maxGradNorm };
      for (let step = 0; step < 10; step++) {
        expect(accumulate(core), `loss of step ${step}`).toBeCloseTo(trajectory.losses[step]!, 4);
        const { gradientNorm } = core.step(adam);
        expect(Math.abs(gradientNorm - trajectory.gradientNorms[step]!), `norm of step ${step}`).toBeLessThan(
          2e-5 * Math.max(1, gradientNorm),
        );
      }
      expect(accumulate(core)).toBeCloseTo(trajectory.finalLoss, 4);
      for (const { name: parameter, length } of model.layout.parameters) {
        const values = core.valuesOf(parameter);
        const wanted = tensor(`${kind}.${parameter}`);
        const slice = Float32Array.from({ length: 16 }, (_, j) => values[Math.floor((j * length) / 16)]!);
        expectNear(slice, wanted, 1e-4, parameter);
        expect(Math.sqrt(values.reduce((sum, x) => sum + x * x, 0))).toBeCloseTo(
          trajectory.finalL2[parameter]!,
          3,
        );
      }
    });

    test('32 greedy tokens', () => {
      const { prompt, tokens } = expected.greedy;
      const sampled = sampleAll(open(), [
        { prompt, count: 1, params: { temperature: 0, maxTokens: tokens.length, stopIds: [] }, seed: 0 },
      ]);
      expect(sampled[0]?.[0]?.tokens).toEqual(tokens);
    });
  });
});

function expectNear(
  got: ArrayLike<number>,
  wanted: ArrayLike<number>,
  tolerance: number,
  what: string,
): void {
  expect(got.length, what).toBe(wanted.length);
  let worst = 0;
  for (let i = 0; i < wanted.length; i++) worst = Math.max(worst, Math.abs(got[i]! - wanted[i]!));
  expect(worst, `${what}: largest difference`).toBeLessThanOrEqual(tolerance);
}
