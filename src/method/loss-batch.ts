/**
 * What the policy loss is given beside the log-probabilities, and the checks that it fits.
 *
 * Lists are in the order of the datums; lists within them have one entry per trained token.
 */
import { R3Error } from '../lib/errors.ts';
import type { LossOptions } from './loss-options.ts';

/** Ragged: one array per sequence, one number per token. */
export type Rows = readonly ArrayLike<number>[];

/** What is known of each sequence beforehand, in the order of the datums. */
export interface LossBatch {
  /** One number per sequence, or one per token of it. */
  advantages: readonly (number | ArrayLike<number>)[];
  /** Of the policy that sampled, as the trainer computes them. Default: the current ones, without gradient (ratio 1). */
  oldLogprobs?: Rows | undefined;
  /** As the sampler reported them; NaN where it did not. Needed for `importanceSamplingCorrection`. */
  samplerLogprobs?: Rows | undefined;
  /** Of the frozen start model. Needed when beta > 0. */
  referenceLogprobs?: Rows | undefined;
  /** 0: a trained position that does not count, such as a token that a tool wrote. Default: all count. */
  mask?: Rows | undefined;
  /** Which sequences were cut off. Needed for `maskTruncatedCompletions`. */
  truncated?: readonly boolean[] | undefined;
  /** Default: this call is the whole step. */
  window?: AccumulationWindow | undefined;
}

/** How a call stands in a step that is accumulated over several calls, in TRL's terms. */
export interface AccumulationWindow {
  /** Calls in this step. */
  gradientAccumulationSteps: number;
  /** Calls that one generation of samples is cut into. */
  stepsPerGeneration: number;
  /** Tokens that count in that generation: TRL's num_items_in_batch. */
  itemsInBatch: number;
}

/** Throws R3Error `bad-option` where the batch lacks what the options need. */
export function checkData(batch: LossBatch, options: LossOptions): void {
  const needs = (name: string, value: string, data: string): R3Error =>
    new R3Error(
      'config',
      'bad-option',
      `${name}: expected ${value} without ${data}; give them, or turn it off`,
    );
  if (options.beta > 0 && batch.referenceLogprobs === undefined) {
    throw needs('beta', `0, got ${options.beta},`, 'reference log-probabilities');
  }
  if (options.importanceSamplingCorrection !== null && batch.samplerLogprobs === undefined) {
    throw needs('importanceSamplingCorrection', 'none', "the sampler's log-probabilities");
  }
  if (options.maskTruncatedCompletions && batch.truncated === undefined) {
    throw needs('maskTruncatedCompletions', 'false', 'a list of the completions that were cut off');
  }
  if (batch.window === undefined) return;
  const { gradientAccumulationSteps, stepsPerGeneration, itemsInBatch } = batch.window;
  for (const [name, value] of Object.entries({ gradientAccumulationSteps, stepsPerGeneration })) {
    if (!(Number.isInteger(value) && value >= 1))
      throw badOption(name, 'a whole number of at least 1', value);
  }
  if (!(Number.isInteger(itemsInBatch) && itemsInBatch >= 0)) {
    throw badOption('itemsInBatch', 'a whole number of at least 0', itemsInBatch);
  }
}

/** Throws R3Error `bad-shape` where a list is not as long as the log-probabilities. */
export function checkShapes(batch: LossBatch, logprobs: Rows): void {
  checkLength('advantages', batch.advantages.length, logprobs.length);
  batch.advantages.forEach((advantage, i) => {
    if (typeof advantage !== 'number') checkLength(`advantages[${i}]`, advantage.length, logprobs[i]!.length);
  });
  for (const name of ['oldLogprobs', 'samplerLogprobs', 'referenceLogprobs', 'mask'] as const) {
    const given = batch[name];
    if (given === undefined) continue;
    checkLength(name, given.length, logprobs.length);
    given.forEach((row, i) => checkLength(`${name}[${i}]`, row.length, logprobs[i]!.length));
  }
  if (batch.truncated !== undefined) checkLength('truncated', batch.truncated.length, logprobs.length);
}

function badOption(name: string, expected: string, got: number): R3Error {
  return new R3Error('config', 'bad-option', `${name}: expected ${expected}, got ${got}`);
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
