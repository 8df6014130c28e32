import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Loss } from '../engine/engine.ts';
import { crossEntropyLoss, grpoLoss } from './loss.ts';
import type { GrpoBatch, GrpoOptions } from './loss.ts';

const f32 = (...values: number[]): Float32Array => Float32Array.from(values);
/** A loss computes in f64 whatever array it reads; with f64 inputs the differences do not drown in rounding. */
// oxlint-disable-next-line typescript/no-unsafe-type-assertion
const f64 = (values: readonly number[]): Float32Array => Float64Array.from(values) as unknown as Float32Array;

function expectGradientsOf(loss: Loss, logprobs: readonly (readonly number[])[]): void {
  const h = 1e-5;
  const { gradients } = loss(logprobs.map(f64));
  expect(gradients.map((gradient) => gradient.length)).toEqual(logprobs.map((sequence) => sequence.length));
  const lossWith = (i: number, t: number, change: number): number =>
    loss(
      logprobs.map((sequence, row) => f64(sequence.map((v, s) => (row === i && s === t ? v + change : v)))),
    ).loss;
  logprobs.forEach((sequence, i) =>
    sequence.forEach((_, t) => {
      const difference = (lossWith(i, t, h) - lossWith(i, t, -h)) / (2 * h);
      expect(Math.abs(gradients[i]![t]! - difference)).toBeLessThan(2e-7 * (1 + Math.abs(difference)));
    }),
  );
}

const token = fc.record({
  current: fc.double({ min: -6, max: -0.01, noNaN: true }),
  old: fc.double({ min: -1, max: 1, noNaN: true }),
  reference: fc.double({ min: -2, max: 2, noNaN: true }),
});
const sequence = fc.record({
  advantage: fc.oneof(fc.constant(0), fc.double({ min: -2, max: 2, noNaN: true })),
  tokens: fc.array(token, { maxLength: 5 }),
});
const sequences = fc.array(sequence, { minLength: 1, maxLength: 4 });
const lossType = fc.constantFrom('grpo', 'bnpo', 'dapo');

test('the gradient is the derivative of the loss, for every option', () => {
  const options = fc.record({
    beta: fc.constantFrom(0, 0.04, 1),
    epsilon: fc.constantFrom(undefined, 0.2),
    lossType,
    denominator: fc.constantFrom(undefined, 7),
  });
  fc.assert(
    fc.property(sequences, options, (rows, chosen) => {
      // The clipped loss has a kink at the bounds; a difference across it is not a derivative.
      fc.pre(
        rows.every((row) => row.tokens.every(({ old }) => Math.abs(Math.abs(Math.expm1(-old)) - 0.2) > 1e-3)),
      );
      const batch: GrpoBatch = {
        advantages: rows.map((row) => row.advantage),
        oldLogprobs: rows.map((row) => row.tokens.map(({ current, old }) => current + old)),
        referenceLogprobs: rows.map((row) => row.tokens.map(({ current, reference }) => current + reference)),
      };
      expectGradientsOf(
        grpoLoss(batch, chosen),
        rows.map((row) => row.tokens.map(({ current }) => current)),
      );
    }),
  );
});

test('without old log-probabilities the gradient is that of ratio 1: (-A + beta (1 - exp(ref - logp))) / (B len)', () => {
  fc.assert(
    fc.property(sequences, (rows) => {
      const logprobs = rows.map((row) => f64(row.tokens.map(({ current }) => current)));
      const advantages = rows.map((row) => row.advantage);
      const referenceLogprobs = rows.map((row) =>
        row.tokens.map(({ current, reference }) => current + reference),
      );
      const options: GrpoOptions = { beta: 0.1, lossType: 'grpo' };
      const implicit = grpoLoss({ advantages, referenceLogprobs }, options)(logprobs);
      const explicit = grpoLoss({ advantages, referenceLogprobs, oldLogprobs: logprobs }, options)(logprobs);
      expect(implicit).toEqual(explicit);
      rows.forEach((row, i) =>
        row.tokens.forEach(({ current }, t) => {
          const k = 0.1 * (1 - Math.exp(referenceLogprobs[i]![t]! - current));
          const expected = (-row.advantage + k) / (rows.length * row.tokens.length);
          expect(implicit.gradients[i]![t]!).toBeCloseTo(expected, 6);
        }),
      );
    }),
  );
});

test('worked by hand: two sequences of one and three tokens, A = 1.5 and -0.5, beta 0.1', () => {
  const ln2 = Math.log(2);
  const batch = {
    advantages: [1.5, -0.5],
    // ref - logp = ln 2 at the first token, 0 at the rest: k3 = 2 - ln 2 - 1, d k3 = 1 - 2.
    referenceLogprobs: [[-1 + ln2], [-1, -2, -3]],
  };
  const logprobs = [f64([-1]), f64([-1, -2, -3])];
  const k3 = 1 - ln2;
  const mean = grpoLoss(batch, { beta: 0.1, lossType: 'grpo' })(logprobs);
  expect(mean.loss).toBeCloseTo((-1.5 + 0.1 * k3 + 0.5) / 2, 12);
  expect(mean.gradients).toEqual([f32((-1.5 - 0.1) / 2), f32(0.5 / 6, 0.5 / 6, 0.5 / 6)]);
  expect(mean.metrics['kl']).toBeCloseTo(k3 / 4, 12);
  expect(mean.metrics).toMatchObject({ loss: mean.loss, tokens: 4, ratioMean: 1, clipFraction: 0 });
  const byToken = grpoLoss(batch, { beta: 0.1, lossType: 'bnpo' })(logprobs);
  expect(byToken.loss).toBeCloseTo((-1.5 + 0.1 * k3 + 3 * 0.5) / 4, 12);
  expect(byToken.gradients).toEqual([f32((-1.5 - 0.1) / 4), f32(0.125, 0.125, 0.125)]);
  expect(grpoLoss(batch, { beta: 0.1, lossType: 'dapo' })(logprobs)).toEqual(byToken);
});

test('a ratio beyond the bound in the direction of its advantage is clipped and has no gradient', () => {
  const ratios = [1.5, 0.5, 1.1];
  const old = [ratios.map((ratio) => -1 - Math.log(ratio)), ratios.map((ratio) => -1 - Math.log(ratio))];
  const batch = { advantages: [1, -1], oldLogprobs: old };
  const { loss, gradients, metrics } = grpoLoss(batch, { beta: 0, epsilon: 0.2, lossType: 'bnpo' })([
    f64([-1, -1, -1]),
    f64([-1, -1, -1]),
  ]);
  expect(loss).toBeCloseTo((-1.2 - 0.5 - 1.1 + 1.5 + 0.8 + 1.1) / 6, 12);
  expect(gradients).toEqual([f32(0, -0.5 / 6, -1.1 / 6), f32(1.5 / 6, 0, 1.1 / 6)]);
  expect(metrics['clipFraction']).toBeCloseTo(2 / 6, 12);
  expect(metrics['ratioMean']).toBeCloseTo(3.1 / 3, 12);
  expect('kl' in metrics).toBe(false);
});

test('calls with the denominator of the whole step add up to one call', () => {
  fc.assert(
    fc.property(sequences, lossType, (rows, type) => {
      const logprobs = rows.map((row) => f64(row.tokens.map(({ current }) => current)));
      const referenceLogprobs = rows.map((row) =>
        row.tokens.map(({ current, reference }) => current + reference),
      );
      const advantages = rows.map((row) => row.advantage);
      const whole = grpoLoss({ advantages, referenceLogprobs }, { beta: 0.1, lossType: type })(logprobs);
      const tokens = logprobs.reduce((count, values) => count + values.length, 0);
      const denominator = type === 'grpo' ? rows.length : Math.max(tokens, 1);
      const parts = rows.map((row, i) =>
        grpoLoss(
          { advantages: [row.advantage], referenceLogprobs: [referenceLogprobs[i]!] },
          { beta: 0.1, lossType: type, denominator },
        )([logprobs[i]!]),
      );
      expect(parts.reduce((sum, part) => sum + part.loss, 0)).toBeCloseTo(whole.loss, 12);
      expect(parts.flatMap((part) => part.gradients)).toEqual(whole.gradients);
    }),
  );
});

/** A loss that is only k3, at ref - logp = d. */
const k3At = (d: number): ReturnType<Loss> =>
  grpoLoss({ advantages: [0], referenceLogprobs: [[-1 + d]] }, { beta: 1, lossType: 'grpo' })([f64([-1])]);

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
  const loss = grpoLoss({ advantages: [3, -1] }, { beta: 0, lossType: 'grpo' });
  expect(loss([f32(), f32(-1)])).toMatchObject({ loss: 0.5, gradients: [f32(), f32(0.5)] });
  const none = grpoLoss({ advantages: [] }, { beta: 0, lossType: 'dapo' })([]);
  expect(none).toEqual({ loss: 0, gradients: [], metrics: { loss: 0, tokens: 0 } });
});

const make = (options: Partial<GrpoOptions>) => () =>
  grpoLoss({ advantages: [1] }, { beta: 0, lossType: 'grpo', ...options });

test('a bad option or a length that does not fit is refused by name', () => {
  expect(make({ beta: -1 })).toThrow(/^beta: expected a number of at least 0, got -1/);
  expect(make({ beta: 0.1 })).toThrow(/^beta: expected 0 without reference/);
  expect(make({ epsilon: 0 })).toThrow(/^epsilon: /);
  expect(make({ denominator: 0 })).toThrow(/^denominator: /);
  expect(() => crossEntropyLoss({ denominator: Number.NaN })).toThrow(/^denominator: /);
  const options: GrpoOptions = { beta: 0, lossType: 'grpo' };
  expect(() => grpoLoss({ advantages: [1] }, options)([])).toThrow(
    /^advantages: expected length 0, .* got 1/,
  );
  expect(() => grpoLoss({ advantages: [1], oldLogprobs: [[-1, -2]] }, options)([f32(-1)])).toThrow(
    /^oldLogprobs\[0\]: expected length 1, .* got 2/,
  );
});

test('cross-entropy is the mean negative log-probability, or the sum over a given constant', () => {
  const logprobs = [f32(-1, -2), f32(), f32(-3)];
  expect(crossEntropyLoss()(logprobs)).toMatchObject({ loss: 2, metrics: { loss: 2, tokens: 3, nll: 2 } });
  const divided = crossEntropyLoss({ denominator: 8 })(logprobs);
  expect(divided.loss).toBe(0.75);
  expect(divided.gradients).toEqual([f32(-0.125, -0.125), f32(), f32(-0.125)]);
  expect(divided.metrics['nll']).toBe(2);
  expectGradientsOf(crossEntropyLoss(), [[-1, -2], [], [-3]]);
});
