/**
 * The protocol's built-in losses: plain sums over tokens, nowhere a mean.
 *
 *   lp: log-probability of the target, q = input logprobs, A = advantages, w = weights, r = exp(lp - q)
 *   cross_entropy        Σ -w lp
 *   importance_sampling  Σ -r A
 *   ppo                  Σ -min(r A, clip(r, low, high) A)
 *   cispo                Σ -sg(clip(r, low, high)) lp A        sg: no gradient
 *   dro                  Σ -(lp A - ½ β (lp - q)²)
 *
 * Thresholds are ratios. All are sums of terms of one token each, so a loss is a function of one datum. Defaults:
 * ppo 0.8 and 1.2; servers disagree about cispo and dro, so those want their numbers said.
 */
import type { TrainDatum } from './backend.ts';

export type LossName = 'cross_entropy' | 'importance_sampling' | 'ppo' | 'cispo' | 'dro';

/** The loss of one datum and its derivative by each log-probability, in the order of target_tokens. */
export type DatumLoss = (
  datum: TrainDatum,
  logprobs: Float32Array,
) => { loss: number; gradient: Float32Array };

const RATIO_INPUTS = ['target_tokens', 'logprobs', 'advantages'];
const CLIP = ['clip_low_threshold', 'clip_high_threshold'];

/** What each loss reads, and of its config what it may and what it must have. */
export const LOSS_FIELDS: Record<LossName, { inputs: string[]; config: string[]; required: string[] }> = {
  cross_entropy: { inputs: ['target_tokens', 'weights'], config: [], required: [] },
  importance_sampling: { inputs: RATIO_INPUTS, config: [], required: [] },
  ppo: { inputs: RATIO_INPUTS, config: CLIP, required: [] },
  cispo: { inputs: RATIO_INPUTS, config: CLIP, required: CLIP },
  dro: { inputs: RATIO_INPUTS, config: ['beta'], required: ['beta'] },
};

type Term = (lp: number, q: number, advantage: number) => [loss: number, derivative: number];

/** `config` has been checked. */
export function makeLoss(name: LossName, config: Readonly<Record<string, number>>): DatumLoss {
  if (name === 'cross_entropy') return crossEntropy;
  const term = termOf(name, config);
  return ({ inputs }, logprobs) => {
    const q = inputs['logprobs']?.data ?? [];
    const advantages = inputs['advantages']?.data ?? [];
    // Only the imitation of SkyRL lets weights through here: there they mask the terms.
    const weights = inputs['weights']?.data;
    let loss = 0;
    const gradient = logprobs.map((lp, i) => {
      const weight = weights?.[i] ?? 1;
      const [value, derivative] = term(lp, q[i] ?? 0, advantages[i] ?? 0);
      loss += weight * value;
      return weight * derivative;
    });
    return { loss, gradient };
  };
}

const crossEntropy: DatumLoss = ({ inputs }, logprobs) => {
  const weights = inputs['weights']?.data ?? [];
  let loss = 0;
  const gradient = logprobs.map((lp, i) => {
    const weight = weights[i] ?? 0;
    loss -= weight * lp;
    return -weight;
  });
  return { loss, gradient };
};

function termOf(name: Exclude<LossName, 'cross_entropy'>, config: Readonly<Record<string, number>>): Term {
  const { clip_low_threshold: low = 0.8, clip_high_threshold: high = 1.2, beta = 0 } = config;
  const clip = (r: number): number => Math.min(Math.max(r, low), high);
  switch (name) {
    case 'importance_sampling':
      return (lp, q, a) => {
        const r = Math.exp(lp - q);
        return [-r * a, -r * a];
      };
    case 'ppo':
      return (lp, q, a) => {
        const r = Math.exp(lp - q);
        const whole = r * a;
        const clipped = clip(r) * a;
        // Where the clipped side is the smaller one, r is outside the thresholds, and nothing depends on lp.
        return whole <= clipped ? [-whole, -whole] : [-clipped, 0];
      };
    case 'cispo':
      return (lp, q, a) => {
        const factor = clip(Math.exp(lp - q)) * a;
        return [-factor * lp, -factor];
      };
    case 'dro':
      return (lp, q, a) => [-(lp * a - 0.5 * beta * (lp - q) ** 2), -(a - beta * (lp - q))];
    default:
      return name satisfies never;
  }
}

/** The same loss divided by max(Σ weights, 1e-9), all ones where there are none: how SkyRL's JAX backend reduces. */
export function perWeight(loss: DatumLoss): DatumLoss {
  return (datum, logprobs) => {
    const weights = datum.inputs['weights']?.data;
    const total = weights === undefined ? logprobs.length : Array.from(weights).reduce((a, b) => a + b, 0);
    return scaled(loss, 1 / Math.max(total, 1e-9))(datum, logprobs);
  };
}

export function scaled(loss: DatumLoss, factor: number): DatumLoss {
  return (datum, logprobs) => {
    const result = loss(datum, logprobs);
    return { loss: result.loss * factor, gradient: result.gradient.map((value) => value * factor) };
  };
}
