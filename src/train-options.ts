/**
 * Everything that training is told beside its data, with the paper's values as defaults, and what contradicts what.
 */
import { R3Error } from './lib/errors.ts';
import { checkAdvantageOptions, defaultAdvantageOptions, type AdvantageOptions } from './method/advantage.ts';
import { checkChoices, PAPER_CHOICES, samplesProblems, type Choices } from './method/choices.ts';
import {
  checkLossOptions,
  checkLossReads,
  defaultLossOptions,
  type LossOptions,
} from './method/loss-options.ts';
import type { PlayerOptions } from './player.ts';
import type { Schedule } from './schedule.ts';

export interface TrainOptions extends Choices {
  seed: number;
  steps: number;
  learningRate: number;
  schedule: Schedule;
  adam: {
    beta1: number;
    beta2: number;
    epsilon: number;
    weightDecay: number;
    maxGradNorm?: number | undefined;
  };
  /** Updates from one step's episodes (TRL's num_iterations). */
  numIterations: number;
  /** How many steps ahead episodes are sampled, from older weights than those that they train. 0: none. */
  maxStaleness: number;
  loss: LossOptions;
  advantages: AdvantageOptions;
  /** The control: rewards permuted within each group. */
  shuffleRewards: boolean;
  /** A checkpoint every so many steps, and how many of them are kept. */
  checkpointEvery: number;
  keepCheckpoints: number;
}

/** How stale episodes are corrected where nothing else is asked for: each token's ratio, up to 2. */
export const STALE_CORRECTION = { mode: 'token_truncate', clipMin: null, clipMax: 2 } as const;

/** The paper's values where it states them (`learningRate`, `beta`, schedule, 256 episodes a step), TRL's elsewhere. */
export function defaultTrainOptions(): TrainOptions {
  return {
    ...PAPER_CHOICES,
    seed: 1,
    steps: 100,
    learningRate: 5e-7,
    schedule: { kind: 'cosine', warmupSteps: 3, flatSteps: 0, floor: 0 },
    adam: { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0, maxGradNorm: 1 },
    numIterations: 1,
    maxStaleness: 0,
    loss: defaultLossOptions(),
    advantages: defaultAdvantageOptions(),
    shuffleRewards: false,
    checkpointEvery: 50,
    keepCheckpoints: 2,
  };
}

/** Throws R3Error `bad-option` for options that contradict each other: one of them would be ignored. */
export function checkTrainOptions(
  options: TrainOptions,
  { told, dropAttempt }: Pick<PlayerOptions, 'told' | 'dropAttempt'>,
): void {
  checkChoices(options);
  checkLossOptions(options.loss);
  checkLossReads(options.loss);
  checkAdvantageOptions(options.advantages);
  const { method } = options;
  const refuse = (option: string, expected: string, got: string): never => {
    throw new R3Error('config', 'bad-option', `${option}: expected ${expected}, got ${got}`);
  };
  if (method !== 'reflect') {
    if (told === 'reason')
      refuse('told', `failed with the method ${method}, which asks for no reflection`, told);
    if (dropAttempt === true) refuse('drop-attempt', `none with the method ${method}`, 'it');
  }
  checkStaleness(options);
  const { loss, advantages: estimator } = defaultTrainOptions();
  if (method === 'rejection-sampling') {
    const ignored = [...changedNames(options.loss, loss), ...changedNames(options.advantages, estimator)][0];
    if (ignored !== undefined)
      refuse(ignored, `its default with the method ${method}, whose loss is supervised`, 'another');
  }
  if (method === 'rejection-sampling' && options.shuffleRewards)
    refuse('shuffle-rewards', 'none with the method rejection-sampling, which takes what passed', 'it');
  // What passed is what is distilled: the control would learn from true rewards after all.
  if (options.distillationRate !== null && options.shuffleRewards)
    refuse('shuffle-rewards', 'none with a distillation-rate, which takes what passed', 'it');
}

/** Stale episodes are trained on with the ratio of the current weights to those that sampled, or not at all. */
function checkStaleness({ maxStaleness, loss, method, distillationRate }: TrainOptions): void {
  const why =
    method === 'rejection-sampling'
      ? `with the method ${method}, whose loss knows no ratio to the weights that sampled`
      : distillationRate !== null
        ? 'with a distillation-rate, whose loss knows no ratio to the weights that sampled'
        : loss.importanceSamplingCorrection === null
          ? 'without an importance-sampling-mode, which corrects for the weights that sampled'
          : undefined;
  if (maxStaleness === 0 || why === undefined) return;
  throw new R3Error('config', 'bad-option', `max-staleness: expected 0 ${why}, got ${maxStaleness}`);
}

/** The options whose values differ. */
function changedNames<T extends object>(options: T, defaults: T): string[] {
  return Object.entries(options).flatMap(([name, value]) =>
    JSON.stringify(value) === JSON.stringify(defaults[name as keyof T]) ? [] : [name],
  );
}

/** Whether the loss compares with the start model. */
export function usesReference({ method, loss }: Pick<TrainOptions, 'method' | 'loss'>): boolean {
  return loss.beta > 0 && method !== 'rejection-sampling';
}

/** Whether steps take failures from a set that was mined before them. */
export function usesFailures(options: Pick<Choices, 'method' | 'firstAttempts'>): boolean {
  return !samplesProblems(options) && options.firstAttempts !== 'on-policy';
}
