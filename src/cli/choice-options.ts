/**
 * The choices of the method (`method/choices.ts`) as options of the command line and as part of config.json.
 */
import type { Command } from 'commander';
import { z } from 'zod';
import {
  FIRST_ATTEMPTS,
  KEPT_FAILURES,
  METHODS,
  PAPER_CHOICES,
  RETRY_REWARDS,
  TRAINED_TOKENS,
  ZERO_VARIANCE,
  type Choices,
  type MiningChoices,
} from '../method/choices.ts';
import { choice, integer, real } from './options.ts';

export interface MiningFlags {
  samples: number;
  maxPerProblem: number;
  keepFailures: MiningChoices['keepFailures'];
}

export interface ChoiceFlags extends MiningFlags {
  method: Choices['method'];
  trainTokens: Choices['trainTokens'];
  firstAttempts?: Choices['firstAttempts'];
  refreshEvery?: number;
  failuresPerStep: number;
  numGenerations: number;
  retriesPerReflection: number;
  retryReward: Choices['retryReward'];
  rounds: number;
  zeroVariance: Choices['zeroVariance'];
  distillationRate?: number;
}

export function addMiningOptions(command: Command): Command {
  const { samples, maxPerProblem, keepFailures } = PAPER_CHOICES.mining;
  return command
    .addOption(integer('--samples <n>', 'mining: attempts per problem', { min: 1 }).default(samples))
    .addOption(
      integer('--max-per-problem <n>', 'mining: failures kept per problem, the first ones', {
        min: 1,
      }).default(maxPerProblem),
    )
    .addOption(
      choice(
        '--keep-failures <which>',
        'mining: keep the failures of a problem when any, most or all of its attempts failed',
        KEPT_FAILURES,
      ).default(keepFailures),
    );
}

export function addChoiceOptions(command: Command): Command {
  const paper = PAPER_CHOICES;
  return addMiningOptions(command)
    .addOption(
      choice(
        '--method <name>',
        'reflect, or a baseline: GRPO on retries without a reflection, GRPO on attempts, or supervised training on attempts that passed',
        METHODS,
      ).default(paper.method),
    )
    .addOption(
      choice(
        '--train-tokens <which>',
        'what is rewarded: the reflection, the retry after it, both, or all of it with the attempts in groups of their own',
        TRAINED_TOKENS,
      ).default(paper.trainTokens),
    )
    .addOption(
      choice(
        '--first-attempts <which>',
        'whose failures are reflected on: mined once from the start model, mined anew (--refresh-every), or sampled in each step (default: frozen)',
        FIRST_ATTEMPTS,
      ),
    )
    .addOption(
      integer('--refresh-every <n>', 'steps between two minings with the current weights', { min: 1 }),
    )
    .addOption(
      integer('--failures-per-step <n>', 'groups of each step', { min: 1 }).default(paper.failuresPerStep),
    )
    .addOption(
      integer('--num-generations <n>', 'reflections on each failure: the group size G', { min: 2 }).default(
        paper.reflectionsPerFailure,
      ),
    )
    .addOption(
      integer('--retries-per-reflection <n>', 'retries after each reflection', { min: 1 }).default(
        paper.retriesPerReflection,
      ),
    )
    .addOption(
      choice(
        '--retry-reward <rule>',
        'what several retries earn a reflection: the share that passes, or whether any does',
        RETRY_REWARDS,
      ).default(paper.retryReward),
    )
    .addOption(
      integer('--rounds <n>', 'reflections and retries in turn, until a retry passes', { min: 1 }).default(
        paper.rounds,
      ),
    )
    .addOption(
      choice(
        '--zero-variance <what>',
        'groups whose rewards are all equal: kept with advantage 0, left out, or left out and replaced (dynamic sampling)',
        ZERO_VARIANCE,
      ).default(paper.zeroVariance),
    )
    .addOption(
      real(
        '--distillation-rate <x>',
        'learning rate of a supervised update after each step, from the bare problem to retries that passed (default: none)',
        { above: 0 },
      ),
    );
}

export function miningOf({ samples, maxPerProblem, keepFailures }: MiningFlags): MiningChoices {
  return { samples, maxPerProblem, keepFailures };
}

export function choicesOf(flags: ChoiceFlags): Choices {
  const refreshEvery = flags.refreshEvery ?? null;
  return {
    method: flags.method,
    trainTokens: flags.trainTokens,
    firstAttempts: flags.firstAttempts ?? (refreshEvery === null ? 'frozen' : 'refreshed'),
    refreshEvery,
    mining: miningOf(flags),
    failuresPerStep: flags.failuresPerStep,
    reflectionsPerFailure: flags.numGenerations,
    retriesPerReflection: flags.retriesPerReflection,
    retryReward: flags.retryReward,
    rounds: flags.rounds,
    zeroVariance: flags.zeroVariance,
    distillationRate: flags.distillationRate ?? null,
  };
}

const count = z.int().positive();

/** The fields of `Choices`, for a schema that holds them among others. */
export const choiceFields = {
  method: z.enum(METHODS),
  trainTokens: z.enum(TRAINED_TOKENS),
  firstAttempts: z.enum(FIRST_ATTEMPTS),
  refreshEvery: count.nullable(),
  mining: z.strictObject({ samples: count, maxPerProblem: count, keepFailures: z.enum(KEPT_FAILURES) }),
  failuresPerStep: count,
  reflectionsPerFailure: count,
  retriesPerReflection: count,
  retryReward: z.enum(RETRY_REWARDS),
  rounds: count,
  zeroVariance: z.enum(ZERO_VARIANCE),
  distillationRate: z.number().nullable(),
} as const;
