/**
 * Advantages: how much better each reflection's reward is than what was to be expected.
 *
 * `advantages` takes the rewards of a step, group by group; a group is the G reflections on one failed attempt. A
 * member without a score (null) is left out of every mean and standard deviation, and stays null. Also here: which
 * groups carry a signal, and the shuffled-reward control. What a reward is, is decided elsewhere.
 */
import { R3Error } from '../lib/errors.ts';
import type { Rng } from '../lib/rng.ts';

export const ADVANTAGE_ESTIMATORS = ['grpo', 'rloo', 'reinforce++', 'reinforce++-baseline'] as const;
export const SCALE_REWARDS = ['group', 'batch', 'none'] as const;
export type ScaleRewards = (typeof SCALE_REWARDS)[number];
export const NEGATIVE_REFLECTIONS = ['centred', 'positives-only'] as const;

export interface AdvantageOptions {
  estimator: (typeof ADVANTAGE_ESTIMATORS)[number];
  /** 'grpo': what divides the centred reward, the standard deviation of the group, of the batch, or nothing. */
  scaleRewards: ScaleRewards;
  /** 'rloo': whether the advantages are normalised over the batch. */
  normalizeAdvantages: boolean;
  /** 'positives-only' sets negative advantages to 0: reflections below the baseline are not pushed away. */
  negativeReflections: (typeof NEGATIVE_REFLECTIONS)[number];
}

/** The paper's: GRPO as TRL had it then and has it now. */
export function defaultAdvantageOptions(): AdvantageOptions {
  return {
    estimator: 'grpo',
    scaleRewards: 'group',
    normalizeAdvantages: false,
    negativeReflections: 'centred',
  };
}

/** Added to a standard deviation. TRL's, large enough to make rounding noise in equal rewards harmless. */
const EPSILON = 1e-4;
/** Rewards whose standard deviation is at most this are equal: `torch.isclose` with 0, as TRL counts them. */
const EQUAL_STD = 1e-8;

/**
 * Advantages of the groups of a step, for rewards r_i of a group and of the batch of all groups:
 *   grpo                  r_i - mean_group, / (std + 1e-4) of the group or the batch where `scaleRewards` says so
 *   rloo                  r_i - mean of the other scored members; normalised: (a_i - mean_batch) / (std_batch + 1e-4)
 *   reinforce++           (r_i - mean_batch) / (std_batch + 1e-4)
 *   reinforce++-baseline  a_i = r_i - mean_group, then (a_i - mean_batch) / (std_batch + 1e-4)
 * std has n - 1. GRPO: DeepSeekMath (arXiv 2402.03300), section 4.1.2, with TRL 1.13's constants (`scale_rewards`).
 * RLOO: arXiv 2402.14740, as TRL's `RLOOTrainer`. REINFORCE++: arXiv 2501.03262; its KL term is the loss's here, not a
 * part of the reward, and 1e-4 stands for its smaller constant.
 * Departure from TRL: it gives an unscored member 0; here it stays null, so that the caller must leave it out by name.
 * A mean or deviation over too few scores to have one gives 0, as in TRL.
 * Throws R3Error `bad-option` for an option that the estimator does not have.
 */
export function advantages(
  rewards_P_G: readonly (readonly (number | null)[])[],
  options: AdvantageOptions = defaultAdvantageOptions(),
): (number | null)[][] {
  checkAdvantageOptions(options);
  const estimated_P_G = estimate(rewards_P_G, options);
  if (options.negativeReflections === 'centred') return estimated_P_G;
  return mapScored(estimated_P_G, (advantage) => Math.max(advantage, 0));
}

/** Throws R3Error `bad-option` for an option that the estimator does not have. */
export function checkAdvantageOptions({
  estimator,
  scaleRewards,
  normalizeAdvantages,
}: AdvantageOptions): void {
  if (estimator !== 'grpo' && scaleRewards !== 'group') {
    throw new R3Error(
      'config',
      'bad-option',
      `scaleRewards: expected no '${scaleRewards}' with estimator '${estimator}', which has its own scale`,
    );
  }
  if (estimator !== 'rloo' && normalizeAdvantages) {
    throw new R3Error(
      'config',
      'bad-option',
      `normalizeAdvantages: expected estimator 'rloo', got '${estimator}'`,
    );
  }
}

type Rewards = readonly (readonly (number | null)[])[];

function estimate(rewards_P_G: Rewards, options: AdvantageOptions): (number | null)[][] {
  switch (options.estimator) {
    case 'grpo': {
      const deviation = standardDeviation(rewards_P_G.flat());
      return rewards_P_G.map((rewards_G) => {
        const mean = meanOf(rewards_G);
        const divisor = {
          group: standardDeviation(rewards_G) + EPSILON,
          batch: deviation + EPSILON,
          none: 1,
        }[options.scaleRewards];
        return rewards_G.map((reward) => (reward === null ? null : (reward - mean) / divisor));
      });
    }
    case 'rloo': {
      const against_P_G = rewards_P_G.map(againstOthers);
      const whole = options.normalizeAdvantages ? normalised(against_P_G) : against_P_G;
      return mapScored(whole, (advantage) => (Number.isNaN(advantage) ? 0 : advantage));
    }
    case 'reinforce++':
      return normalised(rewards_P_G);
    case 'reinforce++-baseline':
      return normalised(
        rewards_P_G.map((rewards_G) => {
          const mean = meanOf(rewards_G);
          return rewards_G.map((reward) => (reward === null ? null : reward - mean));
        }),
      );
    default:
      return options.estimator satisfies never;
  }
}

/** Each reward less the mean of the other scored ones; NaN where there is no other. */
function againstOthers(rewards_G: readonly (number | null)[]): (number | null)[] {
  const scored = rewards_G.filter((reward) => reward !== null);
  const total = sum(scored);
  return rewards_G.map((reward) =>
    reward === null ? null : reward - (total - reward) / (scored.length - 1),
  );
}

/** (x - mean) / (std + 1e-4) over the batch; NaN is left out of both and stays. */
function normalised(values_P_G: Rewards): (number | null)[][] {
  const known = values_P_G.flat().filter((value) => !Number.isNaN(value));
  const mean = meanOf(known);
  const divisor = standardDeviation(known) + EPSILON;
  return mapScored(values_P_G, (value) => (value - mean) / divisor);
}

function mapScored(values_P_G: Rewards, change: (value: number) => number): (number | null)[][] {
  return values_P_G.map((values_G) => values_G.map((value) => (value === null ? null : change(value))));
}

export type GroupSignal = 'mixed' | 'all-pass' | 'all-fail' | 'unscored';

/**
 * Whether a group's rewards differ by more than rounding noise (TRL's `frac_reward_zero_std` counts those that do
 * not). Only a mixed group has a policy gradient. Equal rewards above 0 are 'all-pass', equal rewards of 0 'all-fail';
 * a group without a single score is 'unscored'.
 */
export function groupSignal(rewards_G: readonly (number | null)[]): GroupSignal {
  if (rewards_G.every((reward) => reward === null)) return 'unscored';
  if (standardDeviation(rewards_G) > EQUAL_STD) return 'mixed';
  return meanOf(rewards_G) > EQUAL_STD ? 'all-pass' : 'all-fail';
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

function meanOf(values: readonly (number | null)[]): number {
  const scored = values.filter((value) => value !== null);
  return sum(scored) / scored.length;
}

/** With n - 1; 0 for fewer than two. */
function standardDeviation(values: readonly (number | null)[]): number {
  const scored = values.filter((value) => value !== null);
  if (scored.length < 2) return 0;
  const mean = sum(scored) / scored.length;
  return Math.sqrt(sum(scored.map((value) => (value - mean) ** 2)) / (scored.length - 1));
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
