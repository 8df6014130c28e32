/**
 * Any loss through the losses that a Tinker-compatible service has built in. Pure.
 *
 * The loss is computed here, from log-probabilities of a forward pass: its value and its derivative g by each of them.
 * A surrogate with the same derivative then goes through the backward pass, for which a loss that is linear in the
 * log-probabilities serves. Which one, and with which factor, depends on how the service reduces:
 *
 *   sum           L = Σ_i Σ_t -w_it lp_it                        cross_entropy, w = -g
 *   sequence-mean L = 1/N Σ_i 1/n_i Σ_t -clip(r_it, 1, 1) lp_it A_it   cispo, A = -g n_i N
 *
 * i: datums, N of them since the last optimizer step; t: tokens, n_i of them in a datum; r_it has no gradient.
 * The first is the protocol's own reduction and the custom loss of its official client. The second is that of SkyRL's
 * JAX backend, which divides by the sum of the weights: without weights by n_i, whereas those of cross_entropy cannot
 * be used, since they may sum to zero or less.
 */
import type { TokenIds } from '../engine.ts';
import type { WireDatum } from './chunks.ts';

export type Reduction = 'sum' | 'sequence-mean';

/** A sequence, and the derivative of the loss by the log-probability of some of its tokens. */
export interface Derivative {
  tokens: TokenIds;
  /** Ascending, each at least 1. */
  positions: readonly number[];
  gradient: ArrayLike<number>;
}

/** A loss by its name on the wire, and the datums that it is computed of. */
export interface Surrogate {
  data: WireDatum[];
  lossName: string;
  config: Record<string, number>;
}

/** For a pass that is only to give log-probabilities: token t of the input is followed by target t. */
export function scoringDatum(tokens: TokenIds): WireDatum {
  const weights = new Float32Array(tokens.length - 1).fill(1);
  return { tokens: tokens.slice(0, -1), inputs: { ...targets(tokens), weights: floats(weights) } };
}

/** `derivatives`: of all datums that the next optimizer step learns from. */
export function surrogateOf(derivatives: readonly Derivative[], reduction: Reduction): Surrogate {
  const data = derivatives.map(({ tokens, positions, gradient }): WireDatum => {
    const length = tokens.length - 1;
    const factor = reduction === 'sum' ? -1 : -length * derivatives.length;
    const values = new Float32Array(length);
    positions.forEach((position, i) => (values[position - 1] = factor * (gradient[i] ?? 0)));
    return {
      tokens: tokens.slice(0, -1),
      inputs: {
        ...targets(tokens),
        ...(reduction === 'sum'
          ? { weights: floats(values) }
          : { logprobs: floats(new Float32Array(length)), advantages: floats(values) }),
      },
    };
  });
  switch (reduction) {
    case 'sum':
      return { data, lossName: 'cross_entropy', config: {} };
    case 'sequence-mean':
      return { data, lossName: 'cispo', config: { clip_low_threshold: 1, clip_high_threshold: 1 } };
    default:
      return reduction satisfies never;
  }
}

/** The log-probabilities of a datum's positions, from those of all its targets. */
export function atPositions(logprobs: Float32Array, positions: readonly number[]): Float32Array {
  return Float32Array.from(positions, (position) => logprobs[position - 1] ?? Number.NaN);
}

function targets(tokens: TokenIds): WireDatum['inputs'] {
  const data = tokens.slice(1);
  return { target_tokens: { dtype: 'int64', data, shape: [data.length] } };
}

function floats(data: Float32Array): WireDatum['inputs'][string] {
  return { dtype: 'float32', data, shape: [data.length] };
}
