/**
 * Probability ratios of one sequence: of the policy to the one that sampled, and of the trainer to the sampler.
 *
 * The first is what the losses clip. The second corrects a sampler that computes other log-probabilities than the
 * trainer for the same weights. Positions that do not count have ratio 1 here and are passed over by the loss.
 * TRL 1.13, `GRPOTrainer._compute_loss`, `_generate_and_score_completions` and `get_off_policy_mask`.
 */
import type { LossOptions, SamplerCorrection } from './loss-options.ts';

export interface PolicyRatios {
  /** log p - log p_old; 0 where it does not count. */
  logRatio_T: Float64Array;
  /** exp of it: the ratio of each token. */
  token_T: Float64Array;
  /** What the loss takes: each token's own ratio, or the sequence's at every token. */
  used_T: Float64Array;
}

/**
 *   token:     ratio_t = exp(logp_t - old_t)
 *   sequence:  ratio = exp(Σ_t (logp_t - old_t) / max(tokens, 1)), over the tokens that count (GSPO, arXiv 2507.18071)
 * Without `old` the ratio is 1.
 */
export function policyRatios(
  logprobs_T: ArrayLike<number>,
  old_T: ArrayLike<number> | undefined,
  counted_T: readonly boolean[],
  level: LossOptions['importanceSamplingLevel'],
): PolicyRatios {
  const logRatio_T = Float64Array.from(logprobs_T, (logprob, t) =>
    counted_T[t] === true && old_T !== undefined ? logprob - old_T[t]! : 0,
  );
  const token_T = logRatio_T.map((d) => Math.exp(d));
  if (level === 'token') return { logRatio_T, token_T, used_T: token_T };
  const count = counted_T.filter(Boolean).length;
  const ratio = Math.exp(sum(logRatio_T) / Math.max(count, 1));
  return { logRatio_T, token_T, used_T: new Float64Array(logRatio_T.length).fill(ratio) };
}

export interface SamplerRatios {
  /** |old - sampler| of the tokens that count and that the sampler scored. */
  differences: number[];
  /** Before and after the bounds: one per token, the sequence's at every token where the mode is one of sequences. */
  raw_T: Float64Array;
  used_T: Float64Array;
}

/**
 *   d = old - sampler; 0 where the sampler has no log-probability (NaN)
 *   token_*     ratio_t = exp(d_t)
 *   sequence_*  ratio = exp(Σ_t d_t): a sum, not a mean
 *   *_truncate  clamp(ratio, clipMin, clipMax);   *_mask  0 where the ratio is outside of [clipMin, clipMax]
 */
export function samplerRatios(
  old_T: ArrayLike<number>,
  sampler_T: ArrayLike<number>,
  counted_T: readonly boolean[],
  { mode, clipMin, clipMax }: SamplerCorrection,
): SamplerRatios {
  const differences: number[] = [];
  const gap_T = Float64Array.from(old_T, (old, t) => {
    const d = old - sampler_T[t]!;
    if (counted_T[t] !== true || Number.isNaN(d)) return 0;
    differences.push(Math.abs(d));
    return d;
  });
  const total = sum(gap_T);
  const raw_T = gap_T.map((d) => Math.exp(mode.startsWith('sequence') ? total : d));
  const min = clipMin ?? -Infinity;
  const max = clipMax ?? Infinity;
  const used_T = raw_T.map((ratio) => {
    const bounded = Math.min(Math.max(ratio, min), max);
    return mode.endsWith('truncate') || bounded === ratio ? bounded : 0;
  });
  return { differences, raw_T, used_T };
}

/**
 * How far the policy has moved from the one that sampled, in nats per token: mean_t (behaviour_t - logp_t) over the
 * tokens that count, an unscored one (NaN) as 0. DeepSeek-V3.2 (arXiv 2512.02556) drops sequences by it.
 */
export function meanGap(
  behaviour_T: ArrayLike<number>,
  logprobs_T: ArrayLike<number>,
  counted_T: readonly boolean[],
): number {
  const gap_T = Float64Array.from(behaviour_T, (behaviour, t) => {
    const d = behaviour - logprobs_T[t]!;
    return counted_T[t] === true && !Number.isNaN(d) ? d : 0;
  });
  return sum(gap_T) / Math.max(counted_T.filter(Boolean).length, 1);
}

function sum(values: Float64Array): number {
  return values.reduce((total, value) => total + value, 0);
}
