/**
 * The losses: pure functions from the log-probabilities of the trained tokens to a loss and its derivative by
 * each of them. The engine does the rest of the gradient.
 *
 * `grpoLoss` is TRL 0.15's, the version at the time of "Reflect, Retry, Reward" (arXiv 2505.24726), with TRL's
 * later clipping and aggregations as options. `crossEntropyLoss` is for supervised fine-tuning.
 * All sums run in f64, in the order of the batch. Which tokens are trained is decided in datum.ts.
 */
import type { Loss } from '../engine/engine.ts';
import { R3Error } from '../lib/errors.ts';

/** What is known of each sequence beforehand, in the order of the datums. */
export interface GrpoBatch {
  /** One per sequence. */
  advantages: readonly number[];
  /** Of the policy that sampled, one per trained token. Default: the current ones, without gradient (ratio 1). */
  oldLogprobs?: readonly ArrayLike<number>[] | undefined;
  /** Of the frozen start model, one per trained token. Needed when beta > 0. */
  referenceLogprobs?: readonly ArrayLike<number>[] | undefined;
}

/**
 * How token losses become one number.
 * 'grpo': mean over a sequence's tokens, then over sequences. Every reflection weighs the same.
 * 'bnpo', 'dapo': mean over all tokens. Every token weighs the same. One formula: they differ, as in TRL, in the
 * denominator over several calls (the call's tokens times the number of calls, or the tokens of the whole step).
 */
export type LossType = 'grpo' | 'bnpo' | 'dapo';

export interface GrpoOptions {
  /** Weight of the KL term. 0: none. */
  beta: number;
  /** The ratio is clipped to [1 - epsilon, 1 + epsilon]. Left out: no clipping, as in TRL 0.15. */
  epsilon?: number | undefined;
  lossType: LossType;
  /**
   * What the sum over sequences ('grpo') or tokens ('bnpo', 'dapo') is divided by. Default: their number in this
   * call. A step that is accumulated over several calls gives each of them the number in the whole step.
   */
  denominator?: number | undefined;
}

/**
 * GRPO loss of a batch of sequences i with tokens t:
 *   ratio = exp(logp - old)
 *   k3    = exp(ref - logp) - (ref - logp) - 1
 *   l_it  = -min(ratio A_i, clip(ratio, 1 - epsilon, 1 + epsilon) A_i) + beta k3
 *   L     = Σ_i (1/len_i) Σ_t l_it / denominator   or   Σ_i Σ_t l_it / denominator
 *   dl/dlogp = -ratio A_i (0 where clipped) + beta (1 - exp(ref - logp))
 * TRL 0.15.2, `GRPOTrainer.compute_loss`; k3: http://joschu.net/blog/kl-approx.html. Departures: none in the
 * formula; an empty sequence adds 0 and is counted, as in later TRL.
 *
 * Metrics: `loss`; `tokens`; `ratioMean`; `clipFraction`, of tokens whose ratio is clipped; `kl`, the mean k3 per
 * token in nats, where a reference is given. The means are over this call's tokens.
 * Throws R3Error `bad-option`, and `bad-shape` when lengths differ.
 */
export function grpoLoss(batch: GrpoBatch, options: GrpoOptions): Loss {
  const { advantages, oldLogprobs, referenceLogprobs } = batch;
  const { beta, epsilon, lossType } = options;
  if (!(beta >= 0)) throw badOption('beta', 'a number of at least 0', beta);
  if (epsilon !== undefined && !(epsilon > 0))
    throw badOption('epsilon', 'a number above 0, or none', epsilon);
  checkDenominator(options.denominator);
  if (beta > 0 && referenceLogprobs === undefined) {
    throw new R3Error(
      'config',
      'bad-option',
      `beta: expected 0 without reference log-probabilities, got ${beta}; give them, or set beta to 0`,
    );
  }

  return (logprobs) => {
    checkLength('advantages', advantages.length, logprobs.length);
    checkShape('oldLogprobs', oldLogprobs, logprobs);
    checkShape('referenceLogprobs', referenceLogprobs, logprobs);
    const tokens = countTokens(logprobs);
    const denominator = options.denominator ?? Math.max(lossType === 'grpo' ? logprobs.length : tokens, 1);
    let loss = 0;
    let klSum = 0;
    let ratioSum = 0;
    let clippedCount = 0;

    const gradients = logprobs.map((sequence, i) => {
      const advantage = advantages[i]!;
      const old = oldLogprobs?.[i];
      const reference = referenceLogprobs?.[i];
      const weight = 1 / (lossType === 'grpo' ? Math.max(sequence.length, 1) * denominator : denominator);
      return Float32Array.from(sequence, (logprob, t) => {
        const ratio = old === undefined ? 1 : Math.exp(logprob - old[t]!);
        const bound = clipBound(ratio, advantage, epsilon);
        let value = -(bound ?? ratio) * advantage;
        let derivative = bound === undefined ? -ratio * advantage : 0;
        ratioSum += ratio;
        if (bound !== undefined) clippedCount += 1;
        if (reference !== undefined) {
          // k3 = exp(d) - d - 1, d = ref - logp. expm1 keeps its digits where d is small.
          const d = reference[t]! - logprob;
          const k3 = Math.expm1(d) - d;
          value += beta * k3;
          derivative -= beta * Math.expm1(d);
          klSum += k3;
        }
        loss += weight * value;
        return weight * derivative;
      });
    });

    const metrics: Record<string, number> = { loss, tokens };
    if (tokens > 0) {
      metrics['ratioMean'] = ratioSum / tokens;
      metrics['clipFraction'] = clippedCount / tokens;
      if (referenceLogprobs !== undefined) metrics['kl'] = klSum / tokens;
    }
    return { loss, gradients, metrics };
  };
}

/** The bound that min(ratio A, clip(ratio) A) picks, or undefined where it picks the ratio itself. */
function clipBound(ratio: number, advantage: number, epsilon: number | undefined): number | undefined {
  if (epsilon === undefined) return undefined;
  if (advantage > 0 && ratio > 1 + epsilon) return 1 + epsilon;
  if (advantage < 0 && ratio < 1 - epsilon) return 1 - epsilon;
  return undefined;
}

/**
 * Cross-entropy for supervised fine-tuning: L = -Σ logp / denominator, over every trained token.
 * The default denominator is the number of trained tokens in this call. A constant one gives every token the same
 * weight in every batch, however long its sequences are.
 * Metrics: `loss`; `tokens`; `nll`, the mean negative log-probability per token in nats.
 */
export function crossEntropyLoss(options: { denominator?: number | undefined } = {}): Loss {
  checkDenominator(options.denominator);
  return (logprobs) => {
    const tokens = countTokens(logprobs);
    const denominator = options.denominator ?? Math.max(tokens, 1);
    let sum = 0;
    for (const sequence of logprobs) for (const logprob of sequence) sum -= logprob;
    const loss = sum / denominator;
    const metrics: Record<string, number> = { loss, tokens };
    if (tokens > 0) metrics['nll'] = sum / tokens;
    return {
      loss,
      gradients: logprobs.map((sequence) => new Float32Array(sequence.length).fill(-1 / denominator)),
      metrics,
    };
  };
}

function countTokens(logprobs: readonly ArrayLike<number>[]): number {
  return logprobs.reduce((count, sequence) => count + sequence.length, 0);
}

function checkDenominator(denominator: number | undefined): void {
  if (denominator !== undefined && !(denominator > 0 && denominator < Infinity)) {
    throw badOption('denominator', 'a finite number above 0, or none', denominator);
  }
}

function badOption(name: string, expected: string, got: number): R3Error {
  return new R3Error('config', 'bad-option', `${name}: expected ${expected}, got ${got}`);
}

function checkShape(
  name: string,
  given: readonly ArrayLike<number>[] | undefined,
  logprobs: readonly ArrayLike<number>[],
): void {
  if (given === undefined) return;
  checkLength(name, given.length, logprobs.length);
  given.forEach((sequence, i) => checkLength(`${name}[${i}]`, sequence.length, logprobs[i]?.length ?? 0));
}

function checkLength(name: string, got: number, expected: number): void {
  if (got !== expected) {
    throw new R3Error(
      'engine',
      'bad-shape',
      `${name}: expected length ${expected}, as the log-probabilities, got ${got}`,
    );
  }
}
