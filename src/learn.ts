/**
 * From the episodes of a step to its updates: rewards to advantages, trained tokens to sequences, loss, backward, step.
 *
 * Also the supervised updates: rejection sampling, which is a baseline, and distillation, which may follow each step.
 */
import type { Played } from './collect.ts';
import type { AdamParams } from './engine/engine.ts';
import { updateWeights } from './engine/update.ts';
import { isMixed } from './episode-source.ts';
import { hash32, makeRng } from './lib/rng.ts';
import { advantages, shuffledRewards } from './method/advantage.ts';
import { noteReference, trainedSequences, type Trained } from './method/datum.ts';
import { passed, retriesOf, type Episode, type Problem } from './method/episode.ts';
import { crossEntropyLoss, policyLoss } from './method/loss.ts';
import type { LossBatch } from './method/loss-batch.ts';
import type { Player } from './player.ts';
import { usesReference, type TrainOptions } from './train-options.ts';

/** Above the steps of a run, which are streams too. */
const SHUFFLE_STREAM = 0x40000002;

/** Sets the advantage of every episode: null where it is not trained. */
export function setAdvantages(groups: readonly Episode[][], options: TrainOptions, step: number): void {
  if (options.method === 'rejection-sampling') chooseExamples(groups);
  else compareInGroups(groups, options, step);
}

/** Group by group; with the control, from permuted rewards. */
function compareInGroups(groups: readonly Episode[][], options: TrainOptions, step: number): void {
  // A group that is left out counts in no mean of the step either.
  const isKept = (group: readonly Episode[]): boolean => options.zeroVariance === 'keep' || isMixed(group);
  let rewards = groups.map((group) => group.map(({ reward }) => (isKept(group) ? reward : null)));
  if (options.shuffleRewards)
    rewards = shuffledRewards(rewards, makeRng(hash32(options.seed, SHUFFLE_STREAM, step)));
  const advantages_P_G = advantages(rewards, options.advantages);
  groups.forEach((group, g) =>
    group.forEach((episode, i) => (episode.advantage = advantages_P_G[g]?.[i] ?? null)),
  );
}

/** Rejection sampling: the different attempts of a group that passed, each with the same weight. */
function chooseExamples(groups: readonly Episode[][]): void {
  for (const group of groups) {
    const seen = new Set<string>();
    for (const episode of group) {
      const key = episode.attempt.tokens.join(' ');
      if (episode.reward !== 1 || seen.has(key)) continue;
      seen.add(key);
      episode.advantage = 1;
    }
  }
}

/** One sequence, and how much better than its siblings' it was. */
export interface Rewarded extends Trained {
  advantage: number;
}

/** What the advantages of a step's episodes train. */
export function rewardedSequences<P extends Problem>(played: readonly Played<P>[]): Rewarded[] {
  return played.flatMap(({ episode: { advantage }, segments }) =>
    advantage === null ? [] : trainedSequences(segments).map((sequence) => ({ ...sequence, advantage })),
  );
}

/** The updates of a step. Without anything to train, none: a step whose groups were all left out moves nothing. */
export async function learn(
  { engine, options: { temperature } }: Player,
  trained: readonly Rewarded[],
  options: TrainOptions,
  learningRate: number,
): Promise<Record<string, number>> {
  if (trained.length === 0) return {};
  const datums = trained.map(({ datum }) => datum);
  const isSupervised = options.method === 'rejection-sampling';
  const referenceLogprobs = usesReference(options)
    ? await engine.logprobs(datums, { temperature, weights: 'reference' })
    : undefined;
  referenceLogprobs?.forEach((logprobs, i) => noteReference(trained[i] as Rewarded, logprobs));
  const batch: LossBatch = {
    advantages: trained.map((t) => t.advantage),
    samplerLogprobs: trained.map((t) => t.sampledLogprobs),
    referenceLogprobs,
    truncated: trained.map((t) => t.truncated),
  };
  let oldLogprobs: readonly Float32Array[] | undefined;
  let metrics: Record<string, number> = {};
  for (let iteration = 0; iteration < options.numIterations; iteration++) {
    const loss = isSupervised ? crossEntropyLoss() : policyLoss({ ...batch, oldLogprobs }, options.loss);
    const adam: AdamParams = { learningRate, ...options.adam };
    const result = await updateWeights(engine, datums, loss, adam, {
      // Supervised training is of the model as it is, not as it is sampled.
      temperature: isSupervised ? 1 : temperature,
    });
    oldLogprobs ??= result.logprobs;
    const { gradientNorm } = result;
    metrics = { ...result.metrics, ...(Number.isNaN(gradientNorm) ? {} : { grad_norm: gradientNorm }) };
  }
  return metrics;
}

/** Supervised training from the bare problem to the retries that passed, where it is asked for. */
export async function distil<P extends Problem>(
  player: Player<P>,
  played: readonly Played<P>[],
  { distillationRate, adam }: TrainOptions,
): Promise<Record<string, number>> {
  if (distillationRate === null) return {};
  const datums = played.flatMap(({ episode }) =>
    retriesOf(episode)
      .filter(({ score }) => passed(score) === true)
      .flatMap(({ retry: written }) =>
        trainedSequences([{ prompt: player.pose(episode.problem).tokens, written }]).map((t) => t.datum),
      ),
  );
  if (datums.length === 0) return { 'distillation/examples': 0 };
  const adamParams: AdamParams = { learningRate: distillationRate, ...adam };
  const { metrics } = await updateWeights(player.engine, datums, crossEntropyLoss(), adamParams);
  return {
    'distillation/examples': datums.length,
    ...(metrics['nll'] === undefined ? {} : { 'distillation/nll': metrics['nll'] }),
  };
}
