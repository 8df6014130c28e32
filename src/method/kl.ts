/**
 * Estimators of the KL divergence from the policy to the reference, one token at a time.
 *
 * Each is a function of d = log p_ref - log p of a token that the policy sampled. Their values and their gradients
 * estimate different things, so both are said here. Definitions: J. Schulman, http://joschu.net/blog/kl-approx.html.
 * Gradients of estimators as losses: arXiv 2506.09477.
 */
import type { KlEstimator } from './loss-options.ts';

export interface KlTerm {
  /** Nats. */
  value: number;
  /** By log p. */
  derivative: number;
}

/**
 *   k1 = -d                 dk1/dlogp = 1
 *   k2 = d^2 / 2            dk2/dlogp = -d
 *   k3 = exp(d) - d - 1     dk3/dlogp = 1 - exp(d)
 * k1 and k3 have the KL divergence KL(p, p_ref) as their mean; k2 is near it where d is small. Averaged over tokens of
 * the policy, the derivative of k2 is that of KL(p, p_ref), of k3 that of KL(p_ref, p), of k1 zero; times the ratio
 * (`useBiasCorrectionKl`), with the gradient through both, k1 and k3 have that of KL(p, p_ref).
 * k3 is TRL's (`GRPOTrainer`). Departure: expm1, which keeps its digits where d is small.
 */
export function klTerm(estimator: KlEstimator, d: number): KlTerm {
  switch (estimator) {
    case 'k1':
      return { value: -d, derivative: 1 };
    case 'k2':
      return { value: (d * d) / 2, derivative: -d };
    case 'k3': {
      const e = Math.expm1(d);
      return { value: e - d, derivative: -e };
    }
    default:
      return estimator satisfies never;
  }
}
