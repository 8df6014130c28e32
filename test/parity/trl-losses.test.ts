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
import { preciseLoss, type AccumulationWindow } from '../../src/method/loss.ts';

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

/** The rows of the micro-batch: the first of the generation. */
function inputsOf(one: Case): Record<'logp' | 'old' | 'sampler' | 'reference' | 'tool' | 'token', number[][]> {
  const lengths = one.lengths.slice(0, one.lengths.length / one.window.stepsPerGeneration);
  const round = one.dtype === 'float32' ? Math.fround : (x: number): number => x;
  const rows = (value: (counter: number, i: number, t: number) => number): number[][] =>
    lengths.map((length, i) => Array.from({ length }, (_, t) => value(i * ROW + t, i, t)));
  const draw = (stream: number, counter: number): number => uniform24(one.seed, stream, counter);
  const noise = (stream: number, counter: number, size: number): number =>
    (draw(stream, counter) + draw(stream + 1, counter) + draw(stream + 2, counter) - 1.5) * size;
  const logp = rows((c) => round(-8 * (draw(0, c) * draw(0, c)) - 2 ** -10));
  const old = rows((c, i, t) => round(logp[i]![t]! + noise(1, c, one.spread.old)));
  const behaviour = one.oldGiven ? old : logp;
  return {
    logp,
    old,
    sampler: rows((c, i, t) =>
      draw(11, c) < 0.05 ? Number.NaN : round(behaviour[i]![t]! + noise(4, c, one.spread.sampler)),
    ),
    reference: rows((c, i, t) => round(logp[i]![t]! + noise(7, c, one.spread.reference))),
    tool: rows((c) => (draw(10, c) >= 0.25 ? 1 : 0)),
    token: rows((c) => round(Math.max(noise(12, c, 2), -1))),
  };
}

function run(one: Case): { logp: number[][]; result: ReturnType<ReturnType<typeof preciseLoss>> } {
  const { logp, old, sampler, reference, tool, token } = inputsOf(one);
  const loss = preciseLoss(
    {
      advantages: one.advantages ?? token,
      oldLogprobs: one.oldGiven ? old : undefined,
      samplerLogprobs: one.samplerGiven ? sampler : undefined,
      referenceLogprobs: one.options.beta > 0 ? reference : undefined,
      mask: one.toolMask ? tool : undefined,
      truncated: one.truncated.slice(0, logp.length),
      window: one.training
        ? one.window
        : { gradientAccumulationSteps: 1, stepsPerGeneration: 1, itemsInBatch: one.window.itemsInBatch },
    },
    { ...defaultLossOptions(), ...one.options, trlCompat: true },
  );
  return { logp, result: loss(logp) };
}

function errorsOf(one: Case): { loss: number; gradient: number } {
  const { logp, result } = run(one);
  const bytes = Uint8Array.from(Buffer.from(one.gradient, 'base64')).buffer;
  const expected = one.dtype === 'float32' ? new Float32Array(bytes) : new Float64Array(bytes);
  const got = result.gradients.flatMap((gradient) => [...gradient]);
  expect(got).toHaveLength(expected.length);
  const largest = expected.reduce((most, g) => Math.max(most, Math.abs(g)), 0);
  const turnover = logp.flat().reduce((sum, value, k) => sum + Math.abs(value * expected[k]!), 0);
  const scale = Math.max(Math.abs(one.loss), turnover, 1e-30);
  return {
    loss: Math.abs(result.loss - one.loss) / scale,
    gradient: got.reduce((most, g, k) => Math.max(most, Math.abs(g - expected[k]!)), 0) / Math.max(largest, 1e-30),
  };
}

const of = (dtype: Case['dtype']): Case[] => fixture.cases.filter((one) => one.dtype === dtype);
test('explore', () => {
  for (const dtype of ['float32', 'float64'] as const) {
    const all = of(dtype).map((one, i) => ({ i, e: errorsOf(one), one }));
    for (const k of ['loss', 'gradient'] as const) {
      all.sort((a, b) => b.e[k] - a.e[k]);
      console.log(dtype, k, all.filter((x) => x.e[k] > 1e-6).length);
      for (const x of all.slice(0, 25)) console.log(x.i, String(x.e[k]), x.one.options.lossType, x.one.options.importanceSamplingLevel, JSON.stringify(x.one.options.importanceSamplingCorrection), String(x.one.options.beta), x.one.options.useBiasCorrectionKl, JSON.stringify(x.one.spread), 'len', Math.max(...x.one.lengths), x.one.tokenAdvantages,  x.one.options.epsilon, x.one.options.offPolicyMaskThreshold, String(x.one.loss));
    }
  }
});
