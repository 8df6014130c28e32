/** The probe on imitations of services: a model whose log-probabilities are linear in its weights. */
import { expect, test } from 'vitest';
import type { Sampler, TrainingModel, WireAdam } from './client.ts';
import type { WireDatum } from './chunks.ts';
import { probeSampling, probeTraining } from './probe.ts';

const WEIGHTS = 6;

interface Imitation {
  /** What the gradient of a datum is multiplied by, given the sum of its weights (or its tokens) and the datums of the step. */
  scale?: (weights: number, datums: number) => number;
  givesNorm?: boolean;
  ignoresClip?: boolean;
  ignoresEpsilon?: boolean;
}

/** lp_t = -2 + c_t w, where c_t is a fixed direction of each position. */
function imitate({
  scale = () => 1,
  givesNorm = true,
  ignoresClip,
  ignoresEpsilon,
}: Imitation): TrainingModel {
  const w = new Float64Array(WEIGHTS);
  const direction = (t: number): number[] =>
    Array.from({ length: WEIGHTS }, (_, k) => Math.sin(1 + t * 3 + k));
  let waiting: { datum: WireDatum; gradient: number[] }[] = [];
  const score = ({ tokens }: WireDatum): Float32Array =>
    Float32Array.from(tokens, (_, t) => -2 + direction(t).reduce((sum, c, k) => sum + c * (w[k] ?? 0), 0));
  const output = (data: readonly WireDatum[]) => ({
    outputs: data.map((datum) => ({ logprobs: score(datum) })),
    metrics: {},
  });
  const unused = (): never => {
    throw new Error('not asked for');
  };
  return {
    modelId: 'm',
    info: unused,
    saveWeights: unused,
    saveForSampler: unused,
    saveForSamplerAs: unused,
    loadWeights: unused,
    unload: unused,
    forward: async (data) => output(data),
    forwardBackward: async (data, lossName) => {
      for (const datum of data) {
        const { weights, advantages } = datum.inputs;
        const values = Array.from((lossName === 'cispo' ? advantages : weights)?.data ?? []);
        const gradient = Array.from({ length: WEIGHTS }, (_, k) =>
          values.reduce((sum, value, t) => sum - value * (direction(t)[k] ?? 0), 0),
        );
        waiting.push({ datum, gradient });
      }
      return output(data);
    },
    optimStep: async ({ learningRate, epsilon, gradClipNorm }: WireAdam) => {
      const g = new Float64Array(WEIGHTS);
      for (const { datum, gradient } of waiting) {
        const given = datum.inputs['weights']?.data;
        const total =
          given === undefined ? datum.tokens.length : Array.from(given).reduce((a, b) => a + b, 0);
        gradient.forEach((x, k) => (g[k] = (g[k] ?? 0) + x * scale(total, waiting.length)));
      }
      waiting = [];
      const norm = Math.hypot(...g);
      const clip = gradClipNorm > 0 && ignoresClip !== true ? Math.min(1, gradClipNorm / norm) : 1;
      for (let k = 0; k < WEIGHTS; k++) {
        const x = clip * (g[k] ?? 0);
        w[k] = (w[k] ?? 0) - (learningRate * x) / (Math.abs(x) + (ignoresEpsilon === true ? 1e-8 : epsilon));
      }
      return { metrics: givesNorm ? { 'optim/grad_norm': norm } : {} };
    },
  };
}

const meanOfSequences = (weights: number, datums: number): number => 1 / Math.max(weights, 1e-9) / datums;

test.each<[string, Imitation, object]>([
  ['sums', {}, { reduction: 'sum', ignores: [] }],
  ['means of sequences', { scale: meanOfSequences }, { reduction: 'sequence-mean', ignores: [] }],
  ['no norms', { givesNorm: false }, { reduction: 'sum', ignores: [] }],
  ['no clipping', { ignoresClip: true }, { reduction: 'sum', ignores: ['maxGradNorm'] }],
  ['neither norms nor clipping', { givesNorm: false, ignoresClip: true }, { ignores: ['maxGradNorm'] }],
  ['an epsilon of its own', { ignoresEpsilon: true }, { ignores: expect.arrayContaining(['epsilon']) }],
])('a service with %s is found out', async (_, service, found) => {
  expect(await probeTraining(imitate(service), 100)).toMatchObject(found);
});

test.each<[string, Imitation, string]>([
  ['means over datums alone', { scale: (_, datums) => 1 / datums }, 'losses of the service'],
  ['sums that are halved', { scale: () => 0.5 }, 'steps of the service'],
  ['neither norms nor epsilon', { givesNorm: false, ignoresEpsilon: true }, 'losses of the service'],
])('a service with %s is refused', async (_, service, message) => {
  const refused = probeTraining(imitate(service), 100);
  await expect(refused).rejects.toMatchObject({ code: 'not-available' });
  await expect(refused).rejects.toThrow(message);
});

test('options of sampling that change nothing are found', async () => {
  let calls = 0;
  const sampler = (heeds: boolean): Sampler => ({
    samplerId: 's',
    sample: async ({ count, topK, topP = 1 }) => {
      calls += heeds ? 0 : 1;
      const isOne = heeds && (topK === 1 || topP < 0.5);
      const sequences = Array.from({ length: count }, (__, i) => ({
        tokens: [isOne ? 0 : calls + i],
        logprobs: [-1],
        stopReason: 'length' as const,
      }));
      return { sequences, promptLogprobs: null };
    },
  });
  const asked = ['seed', 'topK', 'topP'] as const;
  expect(await probeSampling(sampler(false), asked, 100)).toEqual(asked);
  expect(await probeSampling(sampler(true), asked, 100)).toEqual([]);
});
