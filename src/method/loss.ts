/**
 * The losses: pure functions from the log-probabilities of the trained tokens to a loss and its derivative by
 * each of them. The engine does the rest of the gradient.
 *
 * `policyLoss` is the GRPO family, numerically TRL 1.13's; with its default options it is TRL 0.15's, the version at
 * the time of "Reflect, Retry, Reward" (arXiv 2505.24726). `crossEntropyLoss` is for supervised fine-tuning.
 * All sums run in f64, in the order of the batch. Which tokens are trained is decided in datum.ts.
 */
import type { Loss } from '../engine/engine.ts';
import { R3Error } from '../lib/errors.ts';
import { klTerm } from './kl.ts';
import { checkData, checkShapes, type AccumulationWindow, type LossBatch, type Rows } from './loss-batch.ts';
import { lossMetrics, type LossTally, type RowTally } from './loss-metrics.ts';
import { checkLossOptions, type LossOptions } from './loss-options.ts';
import { meanGap, policyRatios, samplerRatios, type SamplerRatios } from './ratios.ts';
import { holdsRatio, tokenLoss, vespoLogWeight, vespoWeight } from './token-loss.ts';

/**
 * Loss of a batch of B sequences i with tokens t, m_it of which count (1 or 0):
 *   l_it = policy_it keep_it rho_it + beta kl_it
 *   L    = Σ_i Σ_t m_it l_it / D_i
 *   D_i: grpo, sapo          B GA max(Σ_t m_it, 1)
 *        bnpo                GA max(Σ_it m_it, 1)
 *        dr_grpo             B GA maxCompletionLength
 *        luspo               B GA
 *        dapo, cispo, vespo  max(N, 1) GA / S
 *   GA, S, N: gradientAccumulationSteps, stepsPerGeneration, itemsInBatch of the window
 *   policy  token-loss.ts, of the ratio to the policy that sampled (ratios.ts)
 *   keep    offPolicyMaskThreshold: 0 where A < 0 and the gap to the sampler is above it, else 1
 *   rho     importanceSamplingCorrection; not for vespo, which has it in its weight
 *   kl      kl.ts; with useBiasCorrectionKl times the token's ratio, with gradient through both
 * TRL 1.13, `GRPOTrainer._compute_loss`, on one process; Dr. GRPO arXiv 2503.20783, DAPO arXiv 2503.14476, LUSPO arXiv
 * 2602.05261, sequence level arXiv 2507.18071, bias correction and keep arXiv 2512.02556. Departure: at sequence level
 * TRL corrects the KL by the sequence's ratio (`trlCompat`), here it is each token's.
 *
 * A sequence without tokens that count adds 0 and is one of the B. Metrics: loss-metrics.ts.
 * Throws R3Error `bad-option`, and `bad-shape` when lengths differ.
 */
export function policyLoss(batch: LossBatch, options: LossOptions): Loss {
  const compute = preciseLoss(batch, options);
  return (logprobs) => {
    const { loss, gradients, metrics } = compute(logprobs);
    return { loss, gradients: gradients.map((gradient_T) => Float32Array.from(gradient_T)), metrics };
  };
}

/** `policyLoss` before its derivatives are rounded to f32. */
export function preciseLoss(batch: LossBatch, options: LossOptions): (logprobs: Rows) => PreciseLoss {
  checkLossOptions(options);
  checkData(batch, options);
  return (logprobs) => {
    checkShapes(batch, logprobs);
    const counted = logprobs.map((logprobs_T, i) => countedTokens(batch, options, i, logprobs_T.length));
    const divisors = makeDivisors(counted, options, batch.window);
    const tally: LossTally = { loss: 0, ratio: 0, kl: null, rows: [] };
    const gradients = logprobs.map((logprobs_T, i) =>
      addSequence(tally, sequenceOf(batch, i, logprobs_T, counted[i]!, divisors[i]!), options),
    );
    return { loss: tally.loss, gradients, metrics: lossMetrics(tally, options) };
  };
}

interface PreciseLoss {
  loss: number;
  gradients: Float64Array[];
  metrics: Record<string, number>;
}

interface Sequence {
  logprobs_T: ArrayLike<number>;
  advantage: number | ArrayLike<number>;
  counted_T: readonly boolean[];
  old_T: ArrayLike<number> | undefined;
  sampler_T: ArrayLike<number> | undefined;
  reference_T: ArrayLike<number> | undefined;
  divisor: number;
}

function sequenceOf(
  batch: LossBatch,
  i: number,
  logprobs_T: ArrayLike<number>,
  counted_T: readonly boolean[],
  divisor: number,
): Sequence {
  return {
    logprobs_T,
    advantage: batch.advantages[i]!,
    counted_T,
    old_T: batch.oldLogprobs?.[i],
    sampler_T: batch.samplerLogprobs?.[i],
    reference_T: batch.referenceLogprobs?.[i],
    divisor,
  };
}

/** Adds a sequence to the tally; returns the derivative by each of its log-probabilities. */
function addSequence(tally: LossTally, sequence: Sequence, options: LossOptions): Float64Array {
  const { logprobs_T, advantage, counted_T, old_T, sampler_T, reference_T } = sequence;
  const { beta, klEstimator, lossType, offPolicyMaskThreshold, useBiasCorrectionKl } = options;
  const perSequence = options.importanceSamplingLevel === 'sequence';
  const correctedBySequence = perSequence && options.trlCompat;
  const throughRatio = !holdsRatio(lossType);
  const weight = 1 / sequence.divisor;
  const ratios = policyRatios(logprobs_T, old_T, counted_T, options.importanceSamplingLevel);
  const sampler = correctionOf(sequence, options);
  const gap =
    offPolicyMaskThreshold === null ? 0 : meanGap(sampler_T ?? old_T ?? logprobs_T, logprobs_T, counted_T);
  const logWeight = lossType === 'vespo' ? vespoLogWeight(ratios.logRatio_T, sampler?.used_T) : 0;
  const row = emptyTally(sequence, options, sampler);
  const gradient_T = new Float64Array(logprobs_T.length);
  /** Derivative by the log of the sequence's one ratio, where there is one. */
  let byLogRatio = 0;

  for (let t = 0; t < logprobs_T.length; t++) {
    if (counted_T[t] !== true) continue;
    const a = typeof advantage === 'number' ? advantage : advantage[t]!;
    const logprob = logprobs_T[t]!;
    const ratio = ratios.used_T[t]!;
    const phi = lossType === 'vespo' ? vespoWeight(logWeight, a, options) : 0;
    const token = tokenLoss(ratio, a, logprob, phi, options);
    const kept = a >= 0 || offPolicyMaskThreshold === null || gap <= offPolicyMaskThreshold ? 1 : 0;
    const scale = lossType === 'vespo' ? kept : kept * (sampler?.used_T[t] ?? 1);
    let value = token.value * scale;
    let derivative = token.derivative * scale * (throughRatio ? ratio : 1);
    if (throughRatio && perSequence) {
      byLogRatio += weight * derivative;
      derivative = 0;
    }
    if (reference_T !== undefined) {
      const kl = klTerm(klEstimator, reference_T[t]! - logprob);
      if (useBiasCorrectionKl) {
        const correction = correctedBySequence ? ratio : ratios.token_T[t]!;
        kl.value *= correction;
        kl.derivative *= correction;
        if (correctedBySequence) byLogRatio += weight * beta * kl.value;
        else kl.derivative += kl.value;
      }
      value += beta * kl.value;
      derivative += beta * kl.derivative;
      tally.kl = (tally.kl ?? 0) + kl.value;
    }
    gradient_T[t] = weight * derivative;
    tally.loss += weight * value;
    tally.ratio += ratios.token_T[t]!;
    row.tokens += 1;
    row.phi += phi;
    if (token.clipped === 'low') row.low += 1;
    if (token.clipped === 'high') row.high += 1;
  }
  if (lossType === 'vespo' && typeof advantage === 'number') {
    row.phi = vespoWeight(logWeight, advantage, options);
  }
  tally.rows.push(row);
  if (byLogRatio === 0) return gradient_T;
  // d log ratio / d logp_t = 1 / tokens: the sequence's ratio is a mean of logs.
  return gradient_T.map((own, t) => (counted_T[t] === true ? own + byLogRatio / row.tokens : 0));
}

/** Ratio of the trainer to the sampler, where it is asked for. */
function correctionOf(sequence: Sequence, options: LossOptions): SamplerRatios | undefined {
  const { logprobs_T, counted_T, old_T, sampler_T } = sequence;
  const correction = options.importanceSamplingCorrection;
  if (correction === null || sampler_T === undefined) return undefined;
  return samplerRatios(old_T ?? logprobs_T, sampler_T, counted_T, correction);
}

function emptyTally(
  { advantage, counted_T }: Sequence,
  options: LossOptions,
  sampler: SamplerRatios | undefined,
): RowTally {
  const ratios = [...(sampler?.raw_T ?? [])].map((raw, t) => ({ raw, used: sampler!.used_T[t]! }));
  const bySequence = options.importanceSamplingCorrection?.mode.startsWith('sequence') === true;
  return {
    oneAdvantage: typeof advantage === 'number',
    tokens: 0,
    low: 0,
    high: 0,
    phi: 0,
    sampler: bySequence ? ratios.slice(0, 1) : ratios.filter((_, t) => counted_T[t] === true),
    differences: sampler?.differences ?? [],
  };
}

function countedTokens(
  { mask, truncated }: LossBatch,
  options: LossOptions,
  i: number,
  length: number,
): boolean[] {
  const dropped = options.maskTruncatedCompletions && truncated?.[i] === true;
  return Array.from({ length }, (_, t) => !dropped && mask?.[i]?.[t] !== 0);
}

/** What each sequence's sum of token losses is divided by: D_i of `policyLoss`. */
function makeDivisors(
  counted: readonly (readonly boolean[])[],
  { lossType, maxCompletionLength }: LossOptions,
  window: AccumulationWindow | undefined,
): number[] {
  const counts = counted.map((counted_T) => counted_T.filter(Boolean).length);
  const tokens = counts.reduce((sum, count) => sum + count, 0);
  const {
    gradientAccumulationSteps: calls,
    stepsPerGeneration,
    itemsInBatch,
  } = window ?? { gradientAccumulationSteps: 1, stepsPerGeneration: 1, itemsInBatch: tokens };
  const rows = counted.length * calls;
  switch (lossType) {
    case 'grpo':
    case 'sapo':
      return counts.map((count) => Math.max(count, 1) * rows);
    case 'bnpo':
      return counts.map(() => Math.max(tokens, 1) * calls);
    case 'dr_grpo':
      return counts.map(() => rows * (maxCompletionLength ?? Number.NaN));
    case 'luspo':
      return counts.map(() => rows);
    case 'dapo':
    case 'cispo':
    case 'vespo':
      return counts.map(() => (Math.max(itemsInBatch, 1) * calls) / stepsPerGeneration);
    default:
      return lossType satisfies never;
  }
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
    const tokens = logprobs.reduce((count, sequence) => count + sequence.length, 0);
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

function checkDenominator(denominator: number | undefined): void {
  if (denominator !== undefined && !(denominator > 0 && denominator < Infinity)) {
    throw badOption('denominator', 'a finite number above 0, or none', denominator);
  }
}

function badOption(name: string, expected: string, got: number): R3Error {
  return new R3Error('config', 'bad-option', `${name}: expected ${expected}, got ${got}`);
}
