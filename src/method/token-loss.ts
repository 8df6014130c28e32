/**
 * The loss of one token, for each loss type: from ratio, advantage and log-probability to a value and a derivative.
 *
 * The derivative is by the ratio, or by the log-probability for the types that hold the ratio fixed. How token losses
 * are summed is in loss.ts. TRL 1.13, `GRPOTrainer._compute_loss` and `get_gamma_weights`; departures: none.
 */
import { isClipped, type LossOptions, type LossType } from './loss-options.ts';

export interface TokenLoss {
  value: number;
  /** By the ratio, or by the log-probability where `holdsRatio(lossType)`. */
  derivative: number;
  /** Which bound of the ratio is passed in the direction of the advantage. */
  clipped: 'low' | 'high' | null;
}

/** Whether the ratio is a weight without gradient, and the gradient is that of log p. */
export function holdsRatio(lossType: LossType): boolean {
  return lossType === 'cispo' || lossType === 'vespo';
}

/** One token's loss. `phi`: the weight of its sequence, for 'vespo' (`vespoWeight`). */
export function tokenLoss(
  ratio: number,
  advantage: number,
  logprob: number,
  phi: number,
  options: LossOptions,
): TokenLoss {
  if (isClipped(options.lossType)) return clippedLoss(ratio, advantage, options);
  if (options.lossType === 'cispo') return cispoLoss(ratio, advantage, logprob, options);
  if (options.lossType === 'sapo') return sapoLoss(ratio, advantage, options);
  return { value: -phi * advantage * logprob, derivative: -phi * advantage, clipped: null };
}

/**
 *   l = -min(min(ratio, delta) A, clip(ratio, 1 - epsilon, 1 + epsilonHigh) A)
 * without epsilon -ratio A. PPO's clipped objective (arXiv 1707.06347); two bounds: DAPO (arXiv 2503.14476); delta:
 * INTELLECT-2 (arXiv 2505.07291). The derivative is -A where the ratio itself is picked, 0 where a bound is.
 */
function clippedLoss(ratio: number, advantage: number, options: LossOptions): TokenLoss {
  const { epsilon, delta } = options;
  if (epsilon === null) return { value: -ratio * advantage, derivative: -advantage, clipped: null };
  const low = 1 - epsilon;
  const high = 1 + (options.epsilonHigh ?? epsilon);
  const capped = Math.min(ratio, delta ?? Infinity);
  const bounded = Math.min(Math.max(ratio, low), high);
  const picked = capped * advantage <= bounded * advantage ? capped : bounded;
  return {
    value: -picked * advantage,
    derivative: picked === ratio ? -advantage : 0,
    clipped: passedBound(capped, advantage, low, high),
  };
}

function passedBound(ratio: number, advantage: number, low: number, high: number): TokenLoss['clipped'] {
  if (advantage < 0 && ratio < low) return 'low';
  return advantage > 0 && ratio > high ? 'high' : null;
}

/**
 *   l = -min(ratio, epsilonHigh) A logp,   no gradient through the ratio
 * MiniMax-M1 (arXiv 2506.13585). Every token keeps a gradient.
 */
function cispoLoss(
  ratio: number,
  advantage: number,
  logprob: number,
  { epsilonHigh }: LossOptions,
): TokenLoss {
  const cap = epsilonHigh ?? Infinity;
  const weight = Math.min(ratio, cap) * advantage;
  return {
    value: -weight * logprob,
    derivative: -weight,
    clipped: passedBound(ratio, advantage, -Infinity, cap),
  };
}

/**
 *   l = -(4 / tau) sigmoid(tau (ratio - 1)) A,   tau by the sign of A
 * SAPO (arXiv 2511.20347): a soft gate in place of the clip; its derivative at ratio 1 is -A.
 */
function sapoLoss(ratio: number, advantage: number, options: LossOptions): TokenLoss {
  const tau = advantage > 0 ? options.sapoTemperaturePos : options.sapoTemperatureNeg;
  const gate = 1 / (1 + Math.exp(-tau * (ratio - 1)));
  return {
    value: -((gate * 4) / tau) * advantage,
    derivative: -4 * gate * (1 - gate) * advantage,
    clipped: null,
  };
}

/** Natural logarithms between which VESPO keeps a sequence's ratio, and the largest that one token adds. */
const LOWEST_LOG_WEIGHT = Math.log(1e-8);
const LARGEST_LOG_WEIGHT = 20;

/**
 * log of a sequence's ratio to the policy that sampled it, for VESPO:
 *   clamp( Σ_t clamp(log ratio_t, -20, 20) + Σ_t clamp(log sampler ratio_t, log 1e-8, 20), log 1e-8, 20 )
 */
export function vespoLogWeight(logRatio_T: Float64Array, sampler_T: Float64Array | undefined): number {
  let sum = 0;
  for (const d of logRatio_T) sum += clamp(d, -LARGEST_LOG_WEIGHT, LARGEST_LOG_WEIGHT);
  for (const ratio of sampler_T ?? []) sum += clamp(Math.log(ratio), LOWEST_LOG_WEIGHT, LARGEST_LOG_WEIGHT);
  return clamp(sum, LOWEST_LOG_WEIGHT, LARGEST_LOG_WEIGHT);
}

/**
 *   phi(w) = exp(lambda + k log w - lambda w),   lambda and k by the sign of A (0 is positive), phi(1) = 1
 * VESPO's weight of a sequence, without gradient; 0 where it is not finite.
 */
export function vespoWeight(logWeight: number, advantage: number, options: LossOptions): number {
  const positive = advantage >= 0;
  const k = positive ? options.vespoKPos : options.vespoKNeg;
  const lambda = Math.max(positive ? options.vespoLambdaPos : options.vespoLambdaNeg, 1e-4);
  const phi = Math.exp(lambda + k * logWeight - lambda * Math.exp(logWeight));
  return Number.isFinite(phi) ? phi : 0;
}

function clamp(value: number, min: number, max: number): number {
  return Math.min(Math.max(value, min), max);
}
