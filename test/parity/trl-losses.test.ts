/**
 * Losses, their gradients, metrics and advantages against TRL 1.13's own trainers, over random batches and options:
 * test/fixtures/trl/losses.json.gz, made by scripts/fixtures/trl_losses.py. Inputs are drawn here again from the
 * case's seed, to the same bits. Stop-gradients are TRL's: what it holds fixed has no derivative here either.
 *
 * An error is measured against the largest of its kind in the case: the largest derivative, and for the loss the sum
 * of |log-probability x derivative| too, since terms of both signs cancel.
 */
import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { expect, test } from 'vitest';
import { uniform24 } from '../../src/lib/rng.ts';
import { advantages, defaultAdvantageOptions, groupSignal } from '../../src/method/advantage.ts';
import type { AdvantageOptions } from '../../src/method/advantage.ts';
import { LOSS_TYPES, defaultLossOptions, type LossOptions } from '../../src/method/loss-options.ts';
import { preciseLoss } from '../../src/method/loss.ts';
import type { AccumulationWindow } from '../../src/method/loss-batch.ts';

interface Case {
  seed: number;
  dtype: 'float32' | 'float64';
  training: boolean;
  lengths: number[];
  rewards: (number | null)[][];
  truncated: boolean[];
  toolMask: boolean;
  tokenAdvantages: boolean;
  oldGiven: boolean;
  samplerGiven: boolean;
  spread: { old: number; sampler: number; reference: number };
  window: AccumulationWindow;
  options: Omit<LossOptions, 'klEstimator' | 'trlCompat'>;
  /** Per sequence, of the micro-batch. null: one per token, drawn like the other inputs. */
  advantages: number[] | null;
  loss: number;
  gradient: string;
  metrics: Record<string, number>;
}

interface AdvantageCase {
  rewards: (number | null)[][];
  group: number[];
  batch: number[];
  none: number[];
  fracRewardZeroStd: number;
  rloo: number[];
  rlooNormalized: number[];
}

const file = new URL('../fixtures/trl/losses.json.gz', import.meta.url);
const fixture = JSON.parse(gunzipSync(readFileSync(file)).toString()) as {
  versions: Record<string, string>;
  cases: Case[];
  advantages: AdvantageCase[];
};

const ROW = 4096;

/** The rows of the micro-batch, the first of the generation, and its loss. */
function run(one: Case): { logp: number[][]; result: ReturnType<ReturnType<typeof preciseLoss>> } {
  const { options, spread } = one;
  const lengths = one.lengths.slice(0, one.lengths.length / one.window.stepsPerGeneration);
  const round = one.dtype === 'float32' ? Math.fround : (x: number): number => x;
  const rows = (value: (counter: number, i: number, t: number) => number): number[][] =>
    lengths.map((length, i) => Array.from({ length }, (_, t) => value(i * ROW + t, i, t)));
  const draw = (stream: number, counter: number): number => uniform24(one.seed, stream, counter);
  const noise = (stream: number, counter: number, size: number): number =>
    (draw(stream, counter) + draw(stream + 1, counter) + draw(stream + 2, counter) - 1.5) * size;
  const near = (base: number[][], stream: number, size: number): number[][] =>
    rows((c, i, t) => round(base[i]![t]! + noise(stream, c, size)));

  const logp = rows((c) => round(-8 * (draw(0, c) * draw(0, c)) - 2 ** -10));
  const old = one.oldGiven ? near(logp, 1, spread.old) : undefined;
  const sampler = one.samplerGiven
    ? near(old ?? logp, 4, spread.sampler).map((row, i) =>
        row.map((value, t) => (draw(11, i * ROW + t) < 0.05 ? Number.NaN : value)),
      )
    : undefined;
  const { itemsInBatch } = one.window;
  const loss = preciseLoss(
    {
      advantages: one.advantages ?? rows((c) => round(Math.max(noise(12, c, 2), -1))),
      oldLogprobs: old,
      samplerLogprobs: sampler,
      referenceLogprobs: options.beta > 0 ? near(logp, 7, spread.reference) : undefined,
      mask: one.toolMask ? rows((c) => (draw(10, c) >= 0.25 ? 1 : 0)) : undefined,
      truncated: one.truncated.slice(0, logp.length),
      window: one.training
        ? one.window
        : { gradientAccumulationSteps: 1, stepsPerGeneration: 1, itemsInBatch },
    },
    { ...defaultLossOptions(), ...options, trlCompat: true },
  );
  return { logp, result: loss(logp) };
}

const results = new Map(fixture.cases.map((one) => [one, run(one)]));

function errorsOf(one: Case): { loss: number; gradient: number } {
  const { logp, result } = results.get(one)!;
  const bytes = Uint8Array.from(Buffer.from(one.gradient, 'base64')).buffer;
  const expected = one.dtype === 'float32' ? new Float32Array(bytes) : new Float64Array(bytes);
  const got = result.gradients.flatMap((gradient) => [...gradient]);
  expect(got).toHaveLength(expected.length);
  const largest = Math.max(0, ...Array.from(expected, Math.abs));
  const turnover = logp.flat().reduce((sum, value, k) => sum + Math.abs(value * expected[k]!), 0);
  const scale = Math.max(Math.abs(one.loss), turnover, 1e-30);
  return {
    loss: Math.abs(result.loss - one.loss) / scale,
    gradient:
      got.reduce((most, g, k) => Math.max(most, Math.abs(g - expected[k]!)), 0) / Math.max(largest, 1e-30),
  };
}

const of = (dtype: Case['dtype']): Case[] => fixture.cases.filter((one) => one.dtype === dtype);
const name = ({ options }: Case): string => `${options.lossType}, ${options.importanceSamplingLevel} level`;
const kinds = LOSS_TYPES.flatMap((type) => [`${type}, token level`, `${type}, sequence level`]);

test('the fixtures are of TRL 1.13.0: at least 2,000 in float32, every loss and level often, and the odd batches', () => {
  expect(fixture.versions['trl']).toBe('1.13.0');
  expect(of('float32').length).toBeGreaterThanOrEqual(2000);
  for (const kind of kinds) {
    expect(of('float32').filter((one) => name(one) === kind).length, kind).toBeGreaterThan(100);
    expect(of('float64').filter((one) => name(one) === kind).length, kind).toBeGreaterThan(30);
  }
  const dropped = (one: Case): boolean[] =>
    one.truncated.map((cut) => cut && one.options.maskTruncatedCompletions);
  const scores = (one: Case): (number | null)[] => one.rewards.flat();
  const odd: Record<string, (one: Case) => boolean> = {
    'a row fully masked': (one) => dropped(one).some(Boolean),
    'all rows masked': (one) => dropped(one).every(Boolean),
    'a reward not scored': (one) => scores(one).includes(null),
    'a group not scored': (one) => one.rewards.some((group) => group.every((reward) => reward === null)),
    'a group of equal rewards': (one) => one.rewards.some((group) => groupSignal(group) !== 'mixed'),
    'a row of one token': (one) => one.lengths.includes(1),
    'a row of several hundred tokens': (one) => Math.max(...one.lengths) > 300,
    'an asymmetric clip range': (one) => one.options.epsilon !== null && one.options.epsilonHigh !== null,
    'no clipping': (one) => one.options.epsilon === null,
    delta: (one) => one.options.delta !== null,
    'bias-corrected KL': (one) => one.options.beta > 0 && one.options.useBiasCorrectionKl,
    'an off-policy mask': (one) => one.options.offPolicyMaskThreshold !== null,
    'a sampler correction': (one) => one.options.importanceSamplingCorrection !== null,
    'a tool mask': (one) => one.toolMask,
    'an advantage per token': (one) => one.tokenAdvantages,
    'no old log-probabilities': (one) => !one.oldGiven,
    'accumulation that differs from the generation': (one) =>
      one.window.gradientAccumulationSteps !== one.window.stepsPerGeneration,
    evaluation: (one) => !one.training,
  };
  for (const [what, is] of Object.entries(odd)) {
    expect(fixture.cases.filter(is).length, what).toBeGreaterThanOrEqual(20);
  }
});

test.each(kinds)('%s: loss and gradient equal TRL, 1e-6 in float32 and 1e-12 in float64', (kind) => {
  const wrong = fixture.cases
    .filter((one) => name(one) === kind)
    .flatMap((one) => {
      const { loss, gradient } = errorsOf(one);
      return Math.max(loss, gradient) <= (one.dtype === 'float32' ? 1e-6 : 1e-12)
        ? []
        : [{ loss, gradient, one }];
    });
  expect(wrong).toEqual([]);
});

test('metrics have the names and values of TRL', () => {
  const seen = new Map<string, number>();
  const wrong: string[] = [];
  for (const one of fixture.cases) {
    const { metrics } = results.get(one)!.result;
    for (const [metric, expected] of Object.entries(one.metrics)) {
      // TRL gives a row without tokens ratio 1, which is above a cap below 1.
      if (metric === 'cispo_clip_ratio' && (one.options.epsilonHigh ?? 0) < 1) continue;
      // TRL's flags are float32 in either. Where nothing was measured TRL reports 0, and here there is no entry.
      const got = metrics[metric] ?? 0;
      const limit = (one.dtype === 'float32' ? 1e-5 : 1e-7) * Math.max(1, Math.abs(expected));
      if (!(Math.abs(got - expected) <= limit))
        wrong.push(`${metric}: got ${got}, expected ${expected}, ${JSON.stringify(one)}`);
      if (metric in metrics) seen.set(metric, (seen.get(metric) ?? 0) + 1);
    }
  }
  expect(wrong).toEqual([]);
  expect([...seen.keys()].toSorted()).toEqual([
    'cispo_clip_ratio',
    'clip_ratio/high_max',
    'clip_ratio/high_mean',
    'clip_ratio/low_mean',
    'clip_ratio/low_min',
    'clip_ratio/region_mean',
    'kl',
    'sampling/importance_sampling_ratio/max',
    'sampling/importance_sampling_ratio/mean',
    'sampling/importance_sampling_ratio/min',
    'sampling/sampling_logp_difference/max',
    'sampling/sampling_logp_difference/mean',
    'vespo/phi_seq_mean',
  ]);
  expect(Math.min(...seen.values())).toBeGreaterThan(100);
});

test('advantages equal those of GRPOTrainer and RLOOTrainer under every option', () => {
  expect(fixture.advantages.length).toBeGreaterThanOrEqual(300);
  for (const one of fixture.advantages) {
    const largestDifference = (expected: number[], options: Partial<AdvantageOptions>): number => {
      const got = advantages(one.rewards, { ...defaultAdvantageOptions(), ...options }).flat();
      // TRL gives what was not scored an advantage of 0.
      return Math.max(...got.map((advantage, k) => Math.abs((advantage ?? 0) - expected[k]!)));
    };
    const differences = [
      largestDifference(one.group, { scaleRewards: 'group' }),
      largestDifference(one.batch, { scaleRewards: 'batch' }),
      largestDifference(one.none, { scaleRewards: 'none' }),
      largestDifference(one.rloo, { estimator: 'rloo' }),
      largestDifference(one.rlooNormalized, { estimator: 'rloo', normalizeAdvantages: true }),
    ];
    expect(Math.max(...differences), JSON.stringify(one.rewards)).toBeLessThanOrEqual(1e-11);
  }
});

test('groups that TRL counts as having no spread are those without a signal', () => {
  for (const one of fixture.advantages) {
    // TRL has no spread, and no verdict, for a group with fewer than two scores.
    const flat = one.rewards.filter(
      (group) => groupSignal(group) !== 'mixed' && group.filter((reward) => reward !== null).length > 1,
    );
    expect(flat.length / one.rewards.length).toBeCloseTo(one.fracRewardZeroStd, 6);
  }
});
