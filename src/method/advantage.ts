/**
 * Advantages of a group: how much better each reflection's reward is than that of its siblings.
 *
 * A group is the G reflections on one failed attempt. A member without a score (null) is left out of the mean
 * and the standard deviation, and stays null. Also here: which groups carry a signal, and the
 * shuffled-reward control. What a reward is, is decided elsewhere.
 * GRPO: DeepSeekMath (arXiv 2402.03300), section 4.1.2; the constants are TRL's.
 */
import type { Rng } from '../lib/rng.ts';

export interface AdvantageOptions {
  /** 'group' divides by the group's standard deviation; 'none' only subtracts the mean. */
  scale: 'group' | 'none';
  /** Added to the standard deviation. TRL: 1e-4, which also makes rounding noise in equal rewards harmless. */
  epsilon: number;
}

/**
 *   A_i = (r_i - mean) / (std + epsilon),   std with n - 1
 * as TRL (0.15 to 1.13, `scale_rewards` 'group' or 'none'). Departure: TRL gives an unscored member 0, here it
 * stays null, so that the caller must leave it out by name. A group with one scored member has advantage 0.
 */
export function groupAdvantages(
  rewards_G: readonly (number | null)[],
  options: AdvantageOptions = { scale: 'group', epsilon: 1e-4 },
): (number | null)[] {
  const scored = rewards_G.filter((reward) => reward !== null);
  const mean = sum(scored) / scored.length;
  const variance = scored.length < 2 ? 0 : sum(scored.map((r) => (r - mean) ** 2)) / (scored.length - 1);
  const divisor = options.scale === 'group' ? Math.sqrt(variance) + options.epsilon : 1;
  return rewards_G.map((reward) => (reward === null ? null : (reward - mean) / divisor));
}

export type GroupSignal = 'mixed' | 'all-pass' | 'all-fail' | 'unscored';

/**
 * Whether a group's rewards differ. Only a mixed group has a policy gradient. Equal rewards above 0 are
 * 'all-pass', equal rewards of 0 'all-fail'; a group without a single score is 'unscored'.
 */
export function groupSignal(rewards_G: readonly (number | null)[]): GroupSignal {
  const scored = rewards_G.filter((reward) => reward !== null);
  const [first] = scored;
  if (first === undefined) return 'unscored';
  if (scored.some((reward) => reward !== first)) return 'mixed';
  return first > 0 ? 'all-pass' : 'all-fail';
}

/**
 * The shuffled-reward control: permutes the scored rewards within each group, drawing from `rng` group by group.
 * Each group keeps its mean, its spread and its unscored members, so the size of the advantages is the same;
 * only which reflection earned which reward is lost. What training still gains is not due to the reward.
 */
export function shuffledRewards(
  rewards_P_G: readonly (readonly (number | null)[])[],
  rng: Rng,
): (number | null)[][] {
  return rewards_P_G.map((rewards_G) => {
    const shuffled = rng.shuffle(rewards_G.filter((reward) => reward !== null)).values();
    return rewards_G.map((reward) => (reward === null ? null : shuffled.next().value!));
  });
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
