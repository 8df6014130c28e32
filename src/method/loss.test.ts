import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Loss } from '../engine/engine.ts';
import type { LossBatch } from './loss-batch.ts';
import { LOSS_TYPES, defaultLossOptions, type LossOptions } from './loss-options.ts';
import { crossEntropyLoss, policyLoss, preciseLoss } from './loss.ts';
import { policyRatios } from './ratios.ts';

type Compute = (logprobs: number[][]) => { loss: number; gradients: readonly ArrayLike<number>[] };

const f32 = (...values: number[]): Float32Array => Float32Array.from(values);
const options = (chosen: Partial<LossOptions> = {}): LossOptions => ({
  ...defaultLossOptions(),
  beta: 0,
  ...chosen,
});
const lossOf = (batch: LossBatch, chosen: Partial<LossOptions>, ...rows: number[][]): ReturnType<Loss> =>
  policyLoss(batch, options(chosen))(rows.map((row) => f32(...row)));

/** Central differences in f64. What the loss holds fixed must not depend on the log-probabilities that change. */
function expectGradientsOf(compute: Compute, logprobs: number[][]): void {
  const h = 1e-5;
  const { gradients } = compute(logprobs);
  expect(gradients.map((gradient) => gradient.length)).toEqual(logprobs.map((row) => row.length));
  const lossWith = (i: number, t: number, change: number): number =>
    compute(logprobs.map((row, j) => row.map((v, s) => (j === i && s === t ? v + change : v)))).loss;
  logprobs.forEach((row, i) =>
    row.forEach((_, t) => {
      const difference = (lossWith(i, t, h) - lossWith(i, t, -h)) / (2 * h);
      expect(Math.abs(gradients[i]![t]! - difference)).toBeLessThan(2e-8 * (1 + Math.abs(difference)));
    }),
  );
}

const token = fc.record({
  current: fc.double({ min: -6, max: -0.01, noNaN: true }),
  old: fc.double({ min: -1, max: 1, noNaN: true }),
  reference: fc.double({ min: -2, max: 2, noNaN: true }),
  sampler: fc.oneof(fc.constant(Number.NaN), fc.double({ min: -0.5, max: 0.5, noNaN: true })),
  advantage: fc.double({ min: -2, max: 2, noNaN: true }),
  counts: fc.oneof(fc.constant(1), fc.constantFrom(0, 1)),
});
const sequence = fc.record({
  advantage: fc.oneof(fc.constant(0), fc.constant(null), fc.double({ min: -2, max: 2, noNaN: true })),
  truncated: fc.boolean(),
  tokens: fc.array(token, { maxLength: 5 }),
});
const sequences = fc.array(sequence, { minLength: 1, maxLength: 4 });
type Sequences = typeof sequences extends fc.Arbitrary<infer T> ? T : never;

const currentOf = (rows: Sequences): number[][] => rows.map((row) => row.tokens.map((t) => t.current));

/** Advantage null: one per token. */
function batchOf(rows: Sequences): LossBatch {
  const each = (value: (t: Sequences[number]['tokens'][number]) => number): number[][] =>
    rows.map((row) => row.tokens.map(value));
  return {
    advantages: rows.map((row) => row.advantage ?? row.tokens.map((t) => t.advantage)),
    oldLogprobs: each((t) => t.current + t.old),
    samplerLogprobs: each((t) => t.current + t.old + t.sampler),
    referenceLogprobs: each((t) => t.current + t.reference),
    mask: each((t) => t.counts),
    truncated: rows.map((row) => row.truncated),
  };
}

/** What any loss type may have. */
const common = {
  importanceSamplingLevel: fc.constantFrom('token' as const, 'sequence' as const),
  beta: fc.constantFrom(0, 0.04, 1),
  klEstimator: fc.constantFrom('k2' as const, 'k3' as const),
  useBiasCorrectionKl: fc.boolean(),
  trlCompat: fc.constant(true),
  offPolicyMaskThreshold: fc.constantFrom(null, 0.3),
  maxCompletionLength: fc.constant(9),
  maskTruncatedCompletions: fc.boolean(),
  importanceSamplingCorrection: fc.constantFrom(
    null,
    { mode: 'token_mask' as const, clipMin: null, clipMax: 1.3 },
    { mode: 'token_truncate' as const, clipMin: 0.8, clipMax: null },
  ),
};

const bounds = fc.constantFrom(
  { epsilon: null, epsilonHigh: null, delta: null },
  { epsilon: 0.2, epsilonHigh: 0.3, delta: null },
  { epsilon: 0.2, epsilonHigh: null, delta: 1.5 },
);

test.each(['grpo', 'bnpo', 'dr_grpo', 'dapo', 'luspo', 'sapo'] as const)(
  'the gradient of %s is the derivative of the loss, for every option',
  (lossType) => {
    fc.assert(
      fc.property(sequences, fc.record(common), bounds, fc.boolean(), (rows, shared, bound, own) => {
        const chosen = options({
          ...shared,
          lossType,
          trlCompat: own,
          ...(lossType === 'sapo' ? {} : bound),
        });
        const batch = batchOf(rows);
        const current = currentOf(rows);
        // The clipped loss has a kink at each bound; a difference across it is not a derivative.
        const kinks = [1 - 0.2, 1 + 0.2, 1 + 0.3, 1.5];
        const ratios = rows.flatMap((row, i) => {
          const counted = row.tokens.map(
            (t) => t.counts === 1 && !(chosen.maskTruncatedCompletions && row.truncated),
          );
          const level = chosen.importanceSamplingLevel;
          return [...policyRatios(current[i]!, batch.oldLogprobs![i], counted, level).used_T];
        });
        fc.pre(ratios.every((ratio) => kinks.every((kink) => Math.abs(ratio - kink) > 1e-3)));
        expectGradientsOf(preciseLoss(batch, chosen), current);
      }),
      { numRuns: 60 },
    );
  },
);

test.each(['cispo', 'vespo'] as const)(
  '%s holds its weight fixed: without KL the loss is the sum of log-probability times gradient',
  (lossType) => {
    // Differences of the loss would also move the weight. The fixtures of TRL hold the weight itself.
    fc.assert(
      fc.property(sequences, fc.record(common), (rows, shared) => {
        const chosen = options({
          ...shared,
          lossType,
          beta: 0,
          epsilonHigh: lossType === 'cispo' ? 2 : null,
        });
        const logprobs = currentOf(rows);
        const { loss, gradients } = preciseLoss(batchOf(rows), chosen)(logprobs);
        const products = logprobs.flatMap((row, i) => row.map((value, t) => value * gradients[i]![t]!));
        const size = products.reduce((sum, product) => sum + Math.abs(product), 0);
        expect(Math.abs(products.reduce((sum, product) => sum + product, 0) - loss)).toBeLessThanOrEqual(
          1e-12 * size + 1e-300,
        );
      }),
    );
  },
);

test('every loss type agrees on policy: at ratio 1 the gradient of a token is -A / D', () => {
  const batch = { advantages: [1.5, -0.5], window: undefined };
  const divisors = {
    grpo: [2, 6],
    sapo: [2, 6],
    bnpo: [4, 4],
    dr_grpo: [16, 16],
    luspo: [2, 2],
    token: [4, 4],
  };
  for (const lossType of LOSS_TYPES) {
    const [first, second] =
      lossType in divisors ? divisors[lossType as keyof typeof divisors] : divisors.token;
    const chosen = {
      lossType,
      maxCompletionLength: 8,
      epsilonHigh: lossType === 'cispo' ? 5 : null,
    };
    const { gradients } = lossOf(batch, chosen, [-1], [-1, -2, -3]);
    const expected = 0.5 / second!;
    expect(gradients, lossType).toEqual([f32(-1.5 / first!), f32(expected, expected, expected)]);
  }
});

test('without old log-probabilities the gradient is that of ratio 1: (-A + beta (1 - exp(ref - logp))) / (B len)', () => {
  fc.assert(
    fc.property(sequences, (rows) => {
      const logprobs = currentOf(rows);
      const advantages = rows.map((row) => row.advantage ?? 1);
      const { referenceLogprobs } = batchOf(rows);
      const chosen = options({ beta: 0.1 });
      const implicit = preciseLoss({ advantages, referenceLogprobs }, chosen)(logprobs);
      const explicit = preciseLoss(
        { advantages, referenceLogprobs, oldLogprobs: logprobs },
        chosen,
      )(logprobs);
      expect(implicit).toEqual(explicit);
      rows.forEach((row, i) =>
        row.tokens.forEach(({ current }, t) => {
          const k = 0.1 * (1 - Math.exp(referenceLogprobs![i]![t]! - current));
          const expected = (-advantages[i]! + k) / (rows.length * row.tokens.length);
          expect(implicit.gradients[i]![t]!).toBeCloseTo(expected, 12);
        }),
      );
    }),
  );
});

test('worked by hand: two sequences of one and three tokens, A = 1.5 and -0.5, beta 0.1', () => {
  const ln2 = Math.log(2);
  // ref - logp = ln 2 at the first token, 0 at the rest: k3 = 2 - ln 2 - 1, d k3 = 1 - 2.
  const batch = { advantages: [1.5, -0.5], referenceLogprobs: [[-1 + ln2], [-1, -2, -3]] };
  const logprobs = [[-1], [-1, -2, -3]];
  const k3 = 1 - ln2;
  const mean = lossOf(batch, { beta: 0.1, lossType: 'grpo' }, ...logprobs);
  expect(mean.loss).toBeCloseTo((-1.5 + 0.1 * k3 + 0.5) / 2, 12);
  expect(mean.gradients).toEqual([f32((-1.5 - 0.1) / 2), f32(0.5 / 6, 0.5 / 6, 0.5 / 6)]);
  expect(mean.metrics['kl']).toBeCloseTo(k3 / 4, 12);
  expect(mean.metrics).toMatchObject({ loss: mean.loss, tokens: 4, ratioMean: 1 });
  const byToken = lossOf(batch, { beta: 0.1, lossType: 'bnpo' }, ...logprobs);
  expect(byToken.loss).toBeCloseTo((-1.5 + 0.1 * k3 + 3 * 0.5) / 4, 12);
  expect(byToken.gradients).toEqual([f32((-1.5 - 0.1) / 4), f32(0.125, 0.125, 0.125)]);
  expect(lossOf(batch, { beta: 0.1, lossType: 'dapo' }, ...logprobs)).toEqual(byToken);
});

/** Ratios 1.5, 0.5 and 1.1 with A = 1 and with A = -1. */
const spread = {
  advantages: [1, -1],
  oldLogprobs: [1, -1].map(() => [1.5, 0.5, 1.1].map((ratio) => -1 - Math.log(ratio))),
};
const ones = [
  [-1, -1, -1],
  [-1, -1, -1],
];

test('a ratio beyond the bound in the direction of its advantage is clipped and has no gradient', () => {
  const { loss, gradients, metrics } = lossOf(spread, { epsilon: 0.2, lossType: 'bnpo' }, ...ones);
  expect(loss).toBeCloseTo((-1.2 - 0.5 - 1.1 + 1.5 + 0.8 + 1.1) / 6, 12);
  expect(gradients).toEqual([f32(0, -0.5 / 6, -1.1 / 6), f32(1.5 / 6, 0, 1.1 / 6)]);
  expect(metrics).toMatchObject({
    'clip_ratio/low_mean': 1 / 6,
    'clip_ratio/low_min': 0,
    'clip_ratio/high_mean': 1 / 6,
    'clip_ratio/high_max': 1 / 3,
    'clip_ratio/region_mean': 2 / 6,
  });
  expect(metrics['ratioMean']).toBeCloseTo(3.1 / 3, 12);
  expect('kl' in metrics).toBe(false);
});

test('delta also caps a large ratio of a negative advantage; epsilonHigh widens the other side', () => {
  const { loss, gradients } = lossOf(
    spread,
    { epsilon: 0.2, epsilonHigh: 0.6, delta: 1.3, lossType: 'bnpo' },
    ...ones,
  );
  expect(loss).toBeCloseTo((-1.3 - 0.5 - 1.1 + 1.5 + 0.8 + 1.1) / 6, 12);
  expect(gradients[0]).toEqual(f32(0, -0.5 / 6, -1.1 / 6));
  const lowest = lossOf(spread, { epsilon: 0.2, delta: 1.15, lossType: 'bnpo' }, ...ones);
  expect(lowest.loss).toBeCloseTo((-1.15 - 0.5 - 1.1 + 1.2 + 0.8 + 1.1) / 6, 12);
  const capped = lossOf(spread, { epsilon: 0.2, delta: 1.3, lossType: 'bnpo' }, ...ones);
  expect(capped.loss).toBeCloseTo((-1.2 - 0.5 - 1.1 + 1.3 + 0.8 + 1.1) / 6, 12);
  expect(capped.gradients[1]![0]).toBe(0);
});

test('at sequence level the KL is corrected by the ratio of each token; trlCompat takes that of the sequence', () => {
  const batch = { advantages: [0], oldLogprobs: [[-1 - Math.log(2), -1]], referenceLogprobs: [[-2, -2]] };
  const k3 = Math.expm1(-1) + 1;
  const chosen = { beta: 1, importanceSamplingLevel: 'sequence', useBiasCorrectionKl: true } as const;
  expect(lossOf(batch, chosen, [-1, -1]).loss).toBeCloseTo((k3 * (2 + 1)) / 2, 7);
  expect(lossOf(batch, { ...chosen, trlCompat: true }, [-1, -1]).loss).toBeCloseTo(k3 * Math.sqrt(2), 7);
});

test('the gradient of each KL estimator at ratio 1, and of k1 and k3 times the ratio, which is log p - log ref', () => {
  const gradientOf = (klEstimator: LossOptions['klEstimator'], useBiasCorrectionKl: boolean): number =>
    preciseLoss(
      { advantages: [0], referenceLogprobs: [[-1.5]] },
      options({ beta: 1, klEstimator, useBiasCorrectionKl }),
    )([[-1]]).gradients[0]![0]!;
  expect(gradientOf('k2', false)).toBeCloseTo(0.5, 12);
  expect(gradientOf('k3', false)).toBeCloseTo(1 - Math.exp(-0.5), 12);
  expect(gradientOf('k3', true)).toBeCloseTo(0.5, 12);
  // One more than the divergence, which is 0 on average.
  expect(gradientOf('k1', true)).toBeCloseTo(0.5 + 1, 12);
});

test('the sampler correction reports ratios before and after its bounds, and the share that they changed', () => {
  const batch = { advantages: [1, 1], samplerLogprobs: [[-1 - Math.log(4), Number.NaN], [-1]] };
  const chosen = {
    importanceSamplingCorrection: { mode: 'token_truncate', clipMin: null, clipMax: 2 },
    lossType: 'bnpo',
  } as const;
  const { loss, gradients, metrics } = lossOf(batch, chosen, [-1, -1], [-1]);
  expect(loss).toBeCloseTo(-(2 + 1 + 1) / 3, 7);
  expect(gradients).toEqual([f32(-2 / 3, -1 / 3), f32(-1 / 3)]);
  expect(metrics['sampling/importance_sampling_ratio/max']).toBe(2);
  expect(metrics['sampling/importance_sampling_ratio_raw/max']).toBeCloseTo(4, 7);
  expect(metrics['sampling/importance_sampling_affected']).toBeCloseTo(1 / 3, 12);
  expect(metrics['sampling/sampling_logp_difference/mean']).toBeCloseTo(Math.log(4) / 2, 7);
});

test('a sequence of negative advantage that drifted too far has no policy loss, and keeps its KL', () => {
  const batch = {
    advantages: [-1, 1],
    oldLogprobs: [[-1], [-1]],
    referenceLogprobs: [[-3], [-3]],
  };
  const chosen = { offPolicyMaskThreshold: 0.5, beta: 1 };
  const { gradients } = lossOf(batch, chosen, [-2], [-2]);
  const kl = 1 - Math.exp(-1);
  expect(gradients[0]![0]).toBeCloseTo(kl / 2, 7);
  expect(gradients[1]![0]).toBeCloseTo((-Math.exp(-1) + kl) / 2, 7);
});

test('calls of one step add up to it when each knows the window', () => {
  fc.assert(
    fc.property(sequences, fc.constantFrom('dapo' as const, 'vespo' as const), (rows, lossType) => {
      const batch = batchOf(rows);
      const chosen = options({ beta: 0.1, lossType });
      const whole = preciseLoss(batch, chosen)(currentOf(rows));
      const window = {
        gradientAccumulationSteps: rows.length,
        stepsPerGeneration: rows.length,
        itemsInBatch: whole.metrics['tokens']!,
      };
      const parts = rows.map((row) => preciseLoss({ ...batchOf([row]), window }, chosen)(currentOf([row])));
      expect(parts.reduce((sum, part) => sum + part.loss, 0)).toBeCloseTo(whole.loss, 10);
      expect(parts.flatMap((part) => part.gradients)).toEqual(whole.gradients);
    }),
  );
});

test('a masked token is as if it were not there, and a cut-off sequence still counts among the sequences', () => {
  fc.assert(
    fc.property(sequences, fc.constantFrom(...LOSS_TYPES), fc.boolean(), (rows, lossType, perSequence) => {
      const chosen = options({
        lossType,
        beta: 0.1,
        maxCompletionLength: 9,
        maskTruncatedCompletions: true,
        trlCompat: true,
        importanceSamplingLevel: perSequence ? 'sequence' : 'token',
        epsilonHigh: lossType === 'cispo' ? 2 : null,
      });
      const kept = rows.map((row) => ({
        ...row,
        truncated: false,
        tokens: row.truncated ? [] : row.tokens.filter((t) => t.counts === 1),
      }));
      const masked = preciseLoss(batchOf(rows), chosen)(currentOf(rows));
      const without = preciseLoss(batchOf(kept), chosen)(currentOf(kept));
      expect(masked.loss).toBe(without.loss);
      const trained = masked.gradients.map((gradient, i) =>
        gradient.filter((_, t) => !rows[i]!.truncated && rows[i]!.tokens[t]!.counts === 1),
      );
      expect(trained).toEqual(without.gradients);
      expect(masked.gradients.flatMap((g) => [...g]).filter((g) => g !== 0).length).toBeLessThanOrEqual(
        without.gradients.flatMap((g) => [...g]).length,
      );
    }),
  );
});

/** A loss that is only k3, at ref - logp = d. */
const k3At = (d: number): { loss: number; gradients: Float64Array[] } =>
  preciseLoss({ advantages: [0], referenceLogprobs: [[-1 + d]] }, options({ beta: 1 }))([[-1]]);

test('k3 and its gradient are 0 where policy and reference agree, and k3 is never negative', () => {
  expect(k3At(0).loss).toBe(0);
  expect(Math.abs(k3At(0).gradients[0]![0]!)).toBe(0);
  fc.assert(
    fc.property(fc.double({ min: -20, max: 20, noNaN: true }), (d) => {
      expect(k3At(d).loss).toBeGreaterThanOrEqual(0);
    }),
  );
  // exp(d) - d - 1 would lose this to rounding.
  expect(k3At(2 ** -30).loss).toBeCloseTo(2 ** -61, 30);
});

test('an empty sequence adds nothing and counts among the sequences', () => {
  expect(lossOf({ advantages: [3, -1] }, {}, [], [-1])).toMatchObject({
    loss: 0.5,
    gradients: [f32(), f32(0.5)],
  });
  expect(lossOf({ advantages: [] }, { lossType: 'dapo' })).toEqual({
    loss: 0,
    gradients: [],
    metrics: { loss: 0, tokens: 0 },
  });
});

test('lists that do not fit the log-probabilities are refused by name', () => {
  expect(() => lossOf({ advantages: [1] }, {})).toThrow(/^advantages: expected length 0, .* got 1/);
  expect(() => lossOf({ advantages: [[1, 1]] }, {}, [-1])).toThrow(/^advantages\[0\]: expected length 1/);
  for (const name of ['oldLogprobs', 'samplerLogprobs', 'referenceLogprobs', 'mask'] as const) {
    const batch = { advantages: [1], [name]: [[-1, -2]] };
    expect(() => lossOf(batch, {}, [-1])).toThrow(new RegExp(`^${name}\\[0\\]: expected length 1, .* got 2`));
  }
  expect(() => lossOf({ advantages: [1], truncated: [] }, {}, [-1])).toThrow(/^truncated: expected length 1/);
});

test('data that an option needs and the batch lacks is asked for', () => {
  const needs = (chosen: Partial<LossOptions>) => () => policyLoss({ advantages: [1] }, options(chosen));
  expect(needs({ beta: 0.1 })).toThrow(/^beta: expected 0, got 0.1, without reference log-probabilities/);
  expect(needs({ importanceSamplingCorrection: { mode: 'token_mask', clipMin: null, clipMax: 2 } })).toThrow(
    /^importanceSamplingCorrection: expected none without the sampler's/,
  );
  expect(needs({ maskTruncatedCompletions: true })).toThrow(
    /^maskTruncatedCompletions: expected false without/,
  );
  const window = { gradientAccumulationSteps: 1, stepsPerGeneration: 1, itemsInBatch: 1 };
  for (const name of ['gradientAccumulationSteps', 'stepsPerGeneration', 'itemsInBatch'] as const) {
    const batch = { advantages: [], window: { ...window, [name]: -1 } };
    expect(() => policyLoss(batch, options())).toThrow(new RegExp(`^${name}: expected a whole number`));
  }
});

test('cross-entropy is the mean negative log-probability, or the sum over a given constant', () => {
  const logprobs = [f32(-1, -2), f32(), f32(-3)];
  expect(crossEntropyLoss()(logprobs)).toMatchObject({ loss: 2, metrics: { loss: 2, tokens: 3, nll: 2 } });
  const divided = crossEntropyLoss({ denominator: 8 })(logprobs);
  expect(divided.loss).toBe(0.75);
  expect(divided.gradients).toEqual([f32(-0.125, -0.125), f32(), f32(-0.125)]);
  expect(divided.metrics['nll']).toBe(2);
  expect(crossEntropyLoss()(logprobs).gradients).toEqual([f32(-1 / 3, -1 / 3), f32(), f32(-1 / 3)]);
  expect(() => crossEntropyLoss({ denominator: Number.NaN })).toThrow(/^denominator: /);
});
