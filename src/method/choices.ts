/**
 * The choices that make one training recipe out of the method: where failures come from, what is trained, what earns a
 * reward. Values only; the loop (`train.ts`), the failure source and `collect.ts` act on them.
 *
 * The first value of each is that of "Reflect, Retry, Reward" (arXiv 2505.24726); the others are its ablations and the
 * baselines that it is compared with. `checkChoices` refuses what contradicts itself.
 */
import { R3Error } from '../lib/errors.ts';

/**
 * 'reflect': the paper's. 'retries': GRPO on retries right after the failed attempt, without a reflection.
 * 'attempts': GRPO on attempts at the bare problem. 'rejection-sampling': supervised training on attempts that passed.
 */
export const METHODS = ['reflect', 'retries', 'attempts', 'rejection-sampling'] as const;
/** The tokens that are rewarded under 'reflect'. 'all': reflection and retry, and attempts in groups of their own. */
export const TRAINED_TOKENS = ['reflection', 'retry', 'both', 'all'] as const;
/** 'frozen': mined once from the start model. 'refreshed': mined anew every so many steps. 'on-policy': in each step. */
export const FIRST_ATTEMPTS = ['frozen', 'refreshed', 'on-policy'] as const;
/** Of a problem whose attempts partly failed: its failures are kept when any, most or all of them failed. */
export const KEPT_FAILURES = ['any', 'majority', 'all'] as const;
/** What several retries after one reflection earn it. */
export const RETRY_REWARDS = ['mean', 'any'] as const;
/**
 * Groups whose rewards are all equal. 'keep': trained with advantage 0, and counted in denominators, as TRL does.
 * 'drop': left out. 'refill': left out, and other failures drawn in their place (dynamic sampling, arXiv 2503.14476).
 */
export const ZERO_VARIANCE = ['keep', 'drop', 'refill'] as const;

export type Method = (typeof METHODS)[number];
export type TrainedTokens = (typeof TRAINED_TOKENS)[number];
export type FirstAttempts = (typeof FIRST_ATTEMPTS)[number];
export type KeptFailures = (typeof KEPT_FAILURES)[number];
export type RetryRewards = (typeof RETRY_REWARDS)[number];
export type ZeroVariance = (typeof ZERO_VARIANCE)[number];

export interface MiningChoices {
  /** Attempts per problem. */
  samples: number;
  /** Failures kept per problem, the first ones. */
  maxPerProblem: number;
  keepFailures: KeptFailures;
}

export interface Choices {
  method: Method;
  trainTokens: TrainedTokens;
  firstAttempts: FirstAttempts;
  /** With 'refreshed': the steps between two minings; null otherwise. */
  refreshEvery: number | null;
  mining: MiningChoices;
  /** Groups per step. */
  failuresPerStep: number;
  /** The group size G (TRL's num_generations): reflections per failure; of the baselines, samples per group. */
  reflectionsPerFailure: number;
  retriesPerReflection: number;
  retryReward: RetryRewards;
  /** Reflections and retries in turn, until one passes. 1: two attempts in all. */
  rounds: number;
  zeroVariance: ZeroVariance;
  /**
   * The learning rate of a supervised update after each step, from the bare problem to retries that passed (the
   * distillation of Experiential Reinforcement Learning, arXiv 2602.13949). null: none.
   */
  distillationRate: number | null;
}

export const PAPER_CHOICES: Choices = {
  method: 'reflect',
  trainTokens: 'reflection',
  firstAttempts: 'frozen',
  refreshEvery: null,
  mining: { samples: 1, maxPerProblem: 1, keepFailures: 'any' },
  failuresPerStep: 32,
  reflectionsPerFailure: 8,
  retriesPerReflection: 1,
  retryReward: 'mean',
  rounds: 1,
  zeroVariance: 'keep',
  distillationRate: null,
};

/** Throws R3Error `bad-option` that names two choices of which one would be ignored. */
export function checkChoices(choices: Choices): void {
  const { method, trainTokens, firstAttempts, refreshEvery, retriesPerReflection, rounds, mining } = choices;
  const refuse = (option: string, expected: string, got: string): never => {
    throw new R3Error('config', 'bad-option', `${option}: expected ${expected}, got ${got}`);
  };
  if ((firstAttempts === 'refreshed') !== (refreshEvery !== null)) {
    refuse(
      'refresh-every',
      'a number of steps with first attempts that are refreshed, and none otherwise',
      `${refreshEvery ?? 'none'} with ${firstAttempts} ones`,
    );
  }
  if (method !== 'reflect') {
    const baseline = `its default with the method ${method}, which writes no reflection`;
    if (trainTokens !== 'reflection') refuse('train-tokens', baseline, trainTokens);
    if (retriesPerReflection !== 1) refuse('retries-per-reflection', baseline, String(retriesPerReflection));
    if (rounds !== 1) refuse('rounds', baseline, String(rounds));
  }
  const startsFromProblems = samplesProblems(choices);
  if (startsFromProblems && firstAttempts !== 'frozen')
    refuse('first-attempts', `frozen with the method ${method}, which starts from problems`, firstAttempts);
  if (startsFromProblems && choices.zeroVariance === 'refill')
    refuse('zero-variance', `keep or drop with the method ${method}`, 'refill');
  if (method === 'rejection-sampling' && choices.zeroVariance !== 'keep')
    refuse('zero-variance', `keep with the method ${method}, which compares nothing`, choices.zeroVariance);
  if (method !== 'reflect' && method !== 'retries' && choices.distillationRate !== null)
    refuse('distillation-rate', `none with the method ${method}, which has no retries`, 'one');
  const severalSegments = trainTokens !== 'reflection';
  if (severalSegments && retriesPerReflection > 1)
    refuse('retries-per-reflection', `1 where ${trainTokens} is trained`, String(retriesPerReflection));
  if (rounds > 1 && retriesPerReflection > 1)
    refuse('rounds', '1 with several retries per reflection', String(rounds));
  if (retriesPerReflection === 1 && choices.retryReward !== 'mean')
    refuse('retry-reward', 'mean with one retry per reflection', choices.retryReward);
  if (trainTokens === 'all' && (firstAttempts !== 'on-policy' || mining.samples < 2))
    refuse(
      'train-tokens',
      'on-policy first attempts, at least 2 per problem, where attempts are trained too (all)',
      `${firstAttempts} ones, ${mining.samples} per problem`,
    );
}

/** What a reflection earns by its retries: null where none of them was judged. */
export function retryReward(passes: readonly (boolean | null)[], rule: RetryRewards): number | null {
  const judged = passes.filter((pass) => pass !== null);
  if (judged.length === 0) return null;
  const count = judged.filter(Boolean).length;
  return rule === 'mean' ? count / judged.length : Number(count > 0);
}

/** Whether a problem's failures are kept. */
export function keepsFailures(failed: number, judged: number, rule: KeptFailures): boolean {
  switch (rule) {
    case 'any':
      return failed > 0;
    case 'majority':
      return 2 * failed > judged;
    case 'all':
      return failed === judged && failed > 0;
    default:
      return rule satisfies never;
  }
}

/** Whether a step starts from problems instead of failures. */
export function samplesProblems({ method }: Pick<Choices, 'method'>): boolean {
  return method === 'attempts' || method === 'rejection-sampling';
}
