/**
 * What the policy loss reports beside its value: TRL 1.13's metric names with its definitions, and a few of our own.
 *
 * A share over tokens becomes one over sequences where a sequence has one ratio for all its tokens. What cannot be
 * measured (no token, no reference) has no entry. The loss fills the tally as it goes.
 */
import { isClipped, type LossOptions } from './loss-options.ts';

/** Sums over the tokens of one sequence that count. */
export interface RowTally {
  tokens: number;
  /** The sequence has one advantage for all its tokens. */
  oneAdvantage: boolean;
  /** Tokens whose ratio is beyond a bound. */
  low: number;
  high: number;
  /** VESPO's weight: of the sequence, or the sum over tokens where each has its own advantage. */
  phi: number;
  /** Of its tokens, or one for the sequence: the ratio of trainer to sampler before and after the bounds. */
  sampler: { raw: number; used: number }[];
  /** |old - sampler| of the scored tokens. */
  differences: readonly number[];
}

/** Sums over the batch, in its order. */
export interface LossTally {
  loss: number;
  /** Of each token's ratio. */
  ratio: number;
  /** After the bias correction; null without a reference. */
  kl: number | null;
  rows: RowTally[];
}

/**
 * | name | meaning |
 * | --- | --- |
 * | loss, tokens | the value; tokens that count |
 * | ratioMean | mean ratio of policy to old policy, of tokens, before any bound |
 * | kl | mean of the estimator per token, in nats, after the bias correction |
 * | clip_ratio/low_mean, /high_mean, /region_mean | share of ratios (after delta) beyond the bound, against A's sign; either |
 * | clip_ratio/low_min, /high_max | least and largest share in a sequence |
 * | cispo_clip_ratio | share above the cap where A > 0 |
 * | vespo/phi_seq_mean | mean weight of the sequences |
 * | sampling/sampling_logp_difference/mean, /max | of trainer and sampler, nats |
 * | sampling/importance_sampling_ratio/min, /mean, /max | after the bounds |
 * | sampling/importance_sampling_ratio_raw/min, /mean, /max | before them (TRL has only the former) |
 * | sampling/importance_sampling_affected | share that the bounds changed |
 */
export function lossMetrics(
  { loss, ratio, kl, rows }: LossTally,
  { lossType, epsilon, importanceSamplingLevel, importanceSamplingCorrection }: LossOptions,
): Record<string, number> {
  const tokens = total(rows.map((row) => row.tokens));
  const metrics: Record<string, number> = { loss, tokens };
  if (rows.length === 0) return metrics;
  if (tokens > 0) {
    metrics['ratioMean'] = ratio / tokens;
    if (kl !== null) metrics['kl'] = kl / tokens;
  }

  const oneAdvantage = rows.every((row) => row.oneAdvantage);
  const byRow = oneAdvantage && importanceSamplingLevel === 'sequence';
  const share = (of: (row: RowTally) => number): number =>
    byRow
      ? total(rows.map((row) => (of(row) > 0 ? 1 : 0))) / rows.length
      : total(rows.map(of)) / Math.max(tokens, 1);
  if (isClipped(lossType) && epsilon !== null) {
    metrics['clip_ratio/low_mean'] = share((row) => row.low);
    metrics['clip_ratio/high_mean'] = share((row) => row.high);
    metrics['clip_ratio/region_mean'] = share((row) => row.low + row.high);
    const measured = rows.filter((row) => byRow || row.tokens > 0);
    const shares = (of: (row: RowTally) => number): number[] =>
      measured.map((row) => of(row) / Math.max(row.tokens, 1));
    if (measured.length > 0) {
      metrics['clip_ratio/low_min'] = smallest(shares((row) => row.low));
      metrics['clip_ratio/high_max'] = largest(shares((row) => row.high));
    }
  } else if (lossType === 'cispo') {
    metrics['cispo_clip_ratio'] = share((row) => row.high);
  } else if (lossType === 'vespo') {
    metrics['vespo/phi_seq_mean'] =
      total(rows.map((row) => row.phi)) / (oneAdvantage ? rows.length : Math.max(tokens, 1));
  }

  if (importanceSamplingCorrection !== null) {
    const differences = rows.flatMap((row) => row.differences);
    if (differences.length > 0) {
      metrics['sampling/sampling_logp_difference/mean'] = total(differences) / differences.length;
      metrics['sampling/sampling_logp_difference/max'] = largest(differences);
    }
    const ratios = rows.flatMap((row) => row.sampler);
    if (ratios.length > 0) {
      addSpread(
        metrics,
        'sampling/importance_sampling_ratio',
        ratios.map(({ used }) => used),
      );
      addSpread(
        metrics,
        'sampling/importance_sampling_ratio_raw',
        ratios.map(({ raw }) => raw),
      );
      const affected = ratios.filter(({ raw, used }) => raw !== used).length;
      metrics['sampling/importance_sampling_affected'] = affected / ratios.length;
    }
  }
  return metrics;
}

function addSpread(metrics: Record<string, number>, name: string, values: readonly number[]): void {
  metrics[`${name}/min`] = smallest(values);
  metrics[`${name}/mean`] = total(values) / values.length;
  metrics[`${name}/max`] = largest(values);
}

function total(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0);
}

function smallest(values: readonly number[]): number {
  return values.reduce((a, b) => Math.min(a, b));
}

function largest(values: readonly number[]): number {
  return values.reduce((a, b) => Math.max(a, b));
}
