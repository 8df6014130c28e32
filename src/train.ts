/**
 * The loop: Reflect, Retry, Reward.
 *
 *   for each step:  failures -> collect (reflect, retry, verdict) -> advantages -> sequences -> forward, loss, backward -> step
 *
 * Failures are mined before; reflections and retries are sampled from the current weights; the tokens of the
 * reflection, and no others, are trained. "Reflect, Retry, Reward" (arXiv 2505.24726), section 3; GRPO as in
 * the TRL of that time (`method/loss.ts`). What departs from this is one of the choices of `method/choices.ts`.
 * Everything random is a function of (seed, step), so that a run that is killed and resumed writes the same bytes as
 * one that is not.
 */
import { join } from 'node:path';
import { collect, collectAttempts, type Played } from './collect.ts';
import { makeDeck } from './deck.ts';
import type { AdamParams, Engine } from './engine/engine.ts';
import { makeFailureSource, type FailureSource, type SourceState } from './failure-source.ts';
import { R3Error } from './lib/errors.ts';
import { hash32, makeRng } from './lib/rng.ts';
import {
  advantages,
  checkAdvantageOptions,
  defaultAdvantageOptions,
  groupSignal,
  shuffledRewards,
  type AdvantageOptions,
} from './method/advantage.ts';
import { checkChoices, PAPER_CHOICES, type Choices } from './method/choices.ts';
import { noteReference, trainedSequences, type Trained } from './method/datum.ts';
import { passed, retriesOf, type Episode, type Failure, type Problem } from './method/episode.ts';
import { groupsOf } from './method/group.ts';
import { crossEntropyLoss, policyLoss } from './method/loss.ts';
import type { LossBatch } from './method/loss-batch.ts';
import {
  checkLossOptions,
  checkLossReads,
  defaultLossOptions,
  type LossOptions,
} from './method/loss-options.ts';
import { firstTryMetrics, stepMetrics } from './method/metrics.ts';
import type { Player, PlayerOptions } from './player.ts';
import type { Run } from './runs/run.ts';
import { learningRateAt, type Schedule } from './schedule.ts';

export interface TrainOptions extends Choices {
  seed: number;
  steps: number;
  learningRate: number;
  schedule: Schedule;
  adam: { beta1: number; beta2: number; epsilon: number; weightDecay: number; maxGradNorm: number };
  /** Updates from one step's episodes (TRL's num_iterations). */
  numIterations: number;
  loss: LossOptions;
  advantages: AdvantageOptions;
  /** The control: rewards permuted within each group. */
  shuffleRewards: boolean;
  /** A checkpoint every so many steps, and how many of them are kept. */
  checkpointEvery: number;
  keepCheckpoints: number;
}

export interface StepReport {
  step: number;
  steps: number;
  metrics: Record<string, number>;
  seconds: { sample: number; train: number };
}

export interface TrainControls {
  onStep?: (report: StepReport) => void;
  /** Stops after the step under way, with everything saved. */
  signal?: AbortSignal;
}

/** What training begins from, or goes on from. */
export interface Material<P extends Problem> {
  /** The failures of the present set. */
  failures: readonly Failure<P>[];
  /** Problems to attempt: needed unless failures are frozen and the method reflects or retries. */
  problems: readonly P[];
}

/** Where a checkpoint's engine state is. */
const ENGINE_STATE = 'engine';

/** What a checkpoint holds of the loop. */
export interface LoopState {
  source: SourceState;
}

const START: LoopState = { source: { position: 0, minedAt: 0 } };

/** Everything that a run needs to go on from `step`. */
export async function saveCheckpoint(
  run: Run,
  engine: Engine,
  step: number,
  state: LoopState = START,
): Promise<void> {
  await run.saveCheckpoint(step, state, (directory) => engine.saveState(join(directory, ENGINE_STATE)));
}

/**
 * Trains from where the run stands: from its latest checkpoint, else from the start. Returns the number of steps
 * that are done; fewer than `steps` when it was stopped.
 */
export async function train<P extends Problem>(
  run: Run,
  player: Player<P>,
  { failures, problems }: Material<P>,
  options: TrainOptions,
  controls: TrainControls = {},
): Promise<number> {
  const { engine } = player;
  checkTrainOptions(options, player.options);
  const { checkpoint } = run.latestCheckpoint();
  // A set that is mined anew may be smaller: the model has got better.
  if (checkpoint === null) requireEnough({ failures, problems }, options);
  else await engine.loadState(join(checkpoint.directory, ENGINE_STATE));
  const { source: state } = (checkpoint?.state ?? START) as LoopState;
  const source = samplesProblems(options)
    ? fromProblems(player, problems, options, state)
    : fromFailures(
        player,
        makeFailureSource(player, failures, problems, options, state, (mined) => run.appendFailures(mined)),
        options,
      );

  let step = checkpoint?.step ?? 0;
  while (step < options.steps) {
    const report = await trainStep(run, player, source, options, step);
    step++;
    controls.onStep?.(report);
    const stopping = controls.signal?.aborted === true;
    if (step === options.steps || stopping || step % options.checkpointEvery === 0) {
      await saveCheckpoint(run, engine, step, { source: source.state() });
      run.pruneCheckpoints(options.keepCheckpoints);
    }
    if (stopping) break;
  }
  return step;
}

/** Throws R3Error `bad-option` where there are fewer failures, or problems, than one step takes. */
export function requireEnough(
  { failures, problems }: { failures: readonly unknown[]; problems: readonly unknown[] },
  options: TrainOptions,
): void {
  const [name, items] =
    samplesProblems(options) || options.firstAttempts === 'on-policy'
      ? ['problems', problems]
      : ['failures', failures];
  if (items.length >= options.failuresPerStep) return;
  throw new R3Error(
    'config',
    'bad-option',
    `${name}: expected at least ${options.failuresPerStep}, one for each group of a step, got ${items.length}. Give more problems${name === 'failures' ? ' or mine more samples' : ''}, or lower the failures per step.`,
  );
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

/** The options whose values differ. */
function changedNames<T extends object>(options: T, defaults: T): string[] {
  return Object.entries(options).flatMap(([name, value]) =>
    JSON.stringify(value) === JSON.stringify(defaults[name as keyof T]) ? [] : [name],
  );
}

/** Whether a step starts from problems instead of failures. */
export function samplesProblems({ method }: Pick<Choices, 'method'>): boolean {
  return method === 'attempts' || method === 'rejection-sampling';
}

async function trainStep<P extends Problem>(
  run: Run,
  player: Player<P>,
  source: EpisodeSource<P>,
  options: TrainOptions,
  step: number,
): Promise<StepReport> {
  const started = performance.now();
  const { played, firstTries } = await source.play(step);
  const episodes = played.map(({ episode }) => episode);
  const groups = groupsOf(episodes);
  if (options.method === 'rejection-sampling') chooseExamples(groups);
  else setAdvantages(groups, options, step);
  const collected = performance.now();

  const learningRate = learningRateAt(options.schedule, options.learningRate, step, options.steps);
  const trained = played.flatMap(({ episode: { advantage }, segments }) =>
    advantage === null ? [] : trainedSequences(segments).map((sequence) => ({ ...sequence, advantage })),
  );
  const metrics = await learn(player, trained, options, learningRate);
  const distilled = await distil(player, played, options);
  const ended = performance.now();

  const trainedTokens = trained.reduce((sum, { datum }) => sum + datum.positions.length, 0);
  const row = {
    step,
    ...firstTryMetrics(firstTries.map(({ episode }) => episode)),
    ...stepMetrics(options.trainTokens === 'all' ? episodes.filter(isReflected) : episodes),
    trainedTokens,
    ...metrics,
    ...distilled,
    learning_rate: learningRate,
  };
  const seconds = { sample: (collected - started) / 1000, train: (ended - collected) / 1000 };
  for (const group of groups) run.appendGroup(group);
  run.appendMetrics(row);
  run.appendTimings({ step, ...seconds });
  return { step, steps: options.steps, metrics: row, seconds };
}

/** Where the episodes of a step come from. */
interface EpisodeSource<P extends Problem> {
  /** What is trained, and the attempts of the current weights that it came from: none where failures are frozen. */
  play(step: number): Promise<{ played: Played<P>[]; firstTries: Played<P>[] }>;
  state(): SourceState;
}

/** How many times its failures a step may draw when groups without a signal are refilled. */
const MOST_REFILLS = 4;

function fromFailures<P extends Problem>(
  player: Player<P>,
  source: FailureSource<P>,
  options: TrainOptions,
): EpisodeSource<P> {
  const { seed, failuresPerStep, zeroVariance, trainTokens } = options;
  return {
    state: source.state,
    async play(step) {
      const played: Played<P>[] = [];
      const firstTries: Played<P>[] = [];
      const ids = new Set<string>();
      let signals = 0;
      for (let round = 0; signals < failuresPerStep && round < MOST_REFILLS; round++) {
        const taken = await source.take(step, failuresPerStep - signals, ids.size);
        const place = ids.size;
        // Where a pass ends within a step, the next one may begin with a failure that the step has already.
        const fresh = taken.failures.filter(({ id }) => !ids.has(id) && ids.add(id));
        const more = await collect(player, fresh, options, { seed, step, place });
        played.push(...more);
        firstTries.push(...taken.attempts);
        if (zeroVariance !== 'refill' || fresh.length === 0) break;
        signals += groupsOf(more.map(({ episode }) => episode)).filter(isMixed).length;
      }
      return { played: trainTokens === 'all' ? [...played, ...firstTries] : played, firstTries };
    },
  };
}

function fromProblems<P extends Problem>(
  player: Player<P>,
  problems: readonly P[],
  { seed, failuresPerStep, reflectionsPerFailure }: TrainOptions,
  state: SourceState,
): EpisodeSource<P> {
  const deck = makeDeck(problems, failuresPerStep, seed, state.position);
  return {
    async play(step) {
      const problemsOfStep = deck.deal(failuresPerStep);
      const played = await collectAttempts(player, problemsOfStep, reflectionsPerFailure, { seed, step });
      return { played, firstTries: played };
    },
    state: () => ({ position: deck.position(), minedAt: 0 }),
  };
}

/** Group by group; with the control, from permuted rewards. */
function setAdvantages(groups: readonly Episode[][], options: TrainOptions, step: number): void {
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

function isReflected({ reflection }: Episode): boolean {
  return reflection !== null;
}

function isMixed(group: readonly Episode[]): boolean {
  return groupSignal(group.map(({ reward }) => reward)) === 'mixed';
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
interface Rewarded extends Trained {
  advantage: number;
}

/** The updates of a step. Without anything to train, none: a step whose groups were all left out moves nothing. */
async function learn(
  { engine, options: { temperature } }: Player,
  trained: readonly Rewarded[],
  options: TrainOptions,
  learningRate: number,
): Promise<Record<string, number>> {
  if (trained.length === 0) return {};
  const datums = trained.map(({ datum }) => datum);
  const isSupervised = options.method === 'rejection-sampling';
  const referenceLogprobs =
    options.loss.beta > 0 && !isSupervised
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
    // Supervised training is of the model as it is, not as it is sampled.
    const result = await engine.forwardBackward(datums, loss, {
      temperature: isSupervised ? 1 : temperature,
    });
    oldLogprobs ??= result.logprobs;
    const { gradientNorm } = await engine.step({ learningRate, ...options.adam });
    metrics = { ...result.metrics, grad_norm: gradientNorm };
  }
  return metrics;
}

/** Supervised training from the bare problem to the retries that passed, where it is asked for. */
async function distil<P extends Problem>(
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
  const { metrics } = await player.engine.forwardBackward(datums, crossEntropyLoss());
  const adamParams: AdamParams = { learningRate: distillationRate, ...adam };
  await player.engine.step(adamParams);
  return {
    'distillation/examples': datums.length,
    ...(metrics['nll'] === undefined ? {} : { 'distillation/nll': metrics['nll'] }),
  };
}

/** Above the steps of a run, which are streams too. */
const SHUFFLE_STREAM = 0x40000002;

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
    loss: defaultLossOptions(),
    advantages: defaultAdvantageOptions(),
    shuffleRewards: false,
    checkpointEvery: 50,
    keepCheckpoints: 2,
  };
}
