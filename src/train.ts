/**
 * The loop: Reflect, Retry, Reward.
 *
 *   for each step:  failures -> collect (reflect, retry, verdict) -> advantages -> datums -> forward, loss, backward -> step
 *
 * Failures are frozen (mined before); reflections and retries are sampled from the current weights; the tokens of
 * the reflection, and no others, are trained. "Reflect, Retry, Reward" (arXiv 2505.24726), section 3; GRPO as in
 * the TRL of that time (`method/loss.ts`). Everything random is a function of (seed, step), so that a run that is
 * killed and resumed writes the same bytes as one that is not.
 */
import { join } from 'node:path';
import { collect } from './collect.ts';
import type { Engine } from './engine/engine.ts';
import { R3Error } from './lib/errors.ts';
import { hash32, makeRng } from './lib/rng.ts';
import { groupAdvantages, shuffledRewards } from './method/advantage.ts';
import { reflectionDatum } from './method/datum.ts';
import type { Episode, Failure, Problem } from './method/episode.ts';
import { groupsOf } from './method/group.ts';
import { grpoLoss, type LossType } from './method/loss.ts';
import { stepMetrics } from './method/metrics.ts';
import type { Player } from './player.ts';
import type { Run } from './runs/run.ts';
import { learningRateAt, type Schedule } from './schedule.ts';

export interface TrainOptions {
  seed: number;
  steps: number;
  /** Groups per step, and reflections per group (G; TRL's num_generations). */
  failuresPerStep: number;
  reflectionsPerFailure: number;
  learningRate: number;
  schedule: Schedule;
  adam: { beta1: number; beta2: number; epsilon: number; weightDecay: number; maxGradNorm: number };
  /** Weight of the KL term to the start model, estimator k3. */
  beta: number;
  lossType: LossType;
  /** Clip range of the ratio; it is 1 with one update per batch. */
  epsilon: number | null;
  scaleRewards: 'group' | 'none';
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

/** Where a checkpoint's engine state is. */
const ENGINE_STATE = 'engine';

/** Everything that a run needs to go on from `step`. */
export async function saveCheckpoint(run: Run, engine: Engine, step: number): Promise<void> {
  await run.saveCheckpoint(step, {}, (directory) => engine.saveState(join(directory, ENGINE_STATE)));
}

/**
 * Trains from where the run stands: from its latest checkpoint, else from the start. Returns the number of steps
 * that are done; fewer than `steps` when it was stopped.
 */
export async function train<P extends Problem>(
  run: Run,
  player: Player<P>,
  failures: readonly Failure<P>[],
  options: TrainOptions,
  controls: TrainControls = {},
): Promise<number> {
  const { engine } = player;
  requireEnough(failures, options);
  const { checkpoint } = run.latestCheckpoint();
  if (checkpoint !== null) await engine.loadState(join(checkpoint.directory, ENGINE_STATE));

  let step = checkpoint?.step ?? 0;
  while (step < options.steps) {
    const report = await trainStep(run, player, failures, options, step);
    step++;
    controls.onStep?.(report);
    const stopping = controls.signal?.aborted === true;
    if (step === options.steps || stopping || step % options.checkpointEvery === 0) {
      await saveCheckpoint(run, engine, step);
      run.pruneCheckpoints(options.keepCheckpoints);
    }
    if (stopping) break;
  }
  return step;
}

/** Throws R3Error `bad-option` where there are fewer failures than one step takes. */
export function requireEnough(failures: readonly unknown[], options: TrainOptions): void {
  if (failures.length >= options.failuresPerStep) return;
  throw new R3Error(
    'config',
    'bad-option',
    `failures: expected at least ${options.failuresPerStep}, one for each group of a step, got ${failures.length}. Give more problems or mine more samples, or lower the failures per step.`,
  );
}

async function trainStep<P extends Problem>(
  run: Run,
  player: Player<P>,
  failures: readonly Failure<P>[],
  options: TrainOptions,
  step: number,
): Promise<StepReport> {
  const { engine } = player;
  const started = performance.now();
  const batch = failuresOfStep(failures, options, step);
  const played = await collect(player, batch, options.reflectionsPerFailure, options.seed, step);
  const episodes = played.map(({ episode }) => episode);
  const groups = groupsOf(episodes);
  setAdvantages(groups, options, step);
  const collected = performance.now();

  const trained = played.flatMap(({ episode: { advantage, reflection }, prompt }) =>
    advantage === null || reflection === null
      ? []
      : [{ advantage, datum: reflectionDatum(prompt, reflection.tokens) }],
  );
  const datums = trained.map((t) => t.datum);
  const { temperature } = player.options;
  const referenceLogprobs =
    options.beta > 0 ? await engine.logprobs(datums, { temperature, weights: 'reference' }) : undefined;
  const loss = grpoLoss(
    { advantages: trained.map((t) => t.advantage), referenceLogprobs },
    { beta: options.beta, lossType: options.lossType, epsilon: options.epsilon ?? undefined },
  );
  const { metrics } = await engine.forwardBackward(datums, loss, { temperature });
  const learningRate = learningRateAt(options.schedule, options.learningRate, step, options.steps);
  const { gradientNorm } = await engine.step({ learningRate, ...options.adam });
  const ended = performance.now();

  const row = {
    step,
    ...stepMetrics(episodes, { failures: batch.length }),
    ...metrics,
    gradientNorm,
    learningRate,
  };
  const seconds = { sample: (collected - started) / 1000, train: (ended - collected) / 1000 };
  for (const group of groups) run.appendGroup(group);
  run.appendMetrics(row);
  run.appendTimings({ step, ...seconds });
  return { step, steps: options.steps, metrics: row, seconds };
}

/** Failures come in passes over the set, each in an order of its own; no step has a failure twice. */
function failuresOfStep<P extends Problem>(
  failures: readonly Failure<P>[],
  options: TrainOptions,
  step: number,
): Failure<P>[] {
  const stepsPerPass = Math.floor(failures.length / options.failuresPerStep);
  const order = makeRng(hash32(options.seed, ORDER_STREAM, Math.floor(step / stepsPerPass))).shuffle([
    ...failures.keys(),
  ]);
  const from = (step % stepsPerPass) * options.failuresPerStep;
  return order.slice(from, from + options.failuresPerStep).map((index) => failures[index] as Failure<P>);
}

/** Group by group; with the control, from permuted rewards. */
function setAdvantages(groups: readonly Episode[][], options: TrainOptions, step: number): void {
  let rewards = groups.map((group) => group.map((episode) => episode.reward));
  if (options.shuffleRewards)
    rewards = shuffledRewards(rewards, makeRng(hash32(options.seed, SHUFFLE_STREAM, step)));
  groups.forEach((group, g) => {
    const advantages = groupAdvantages(rewards[g] as (number | null)[], {
      scale: options.scaleRewards,
      epsilon: 1e-4,
    });
    group.forEach((episode, i) => (episode.advantage = advantages[i] as number | null));
  });
}

/** Above the steps of a run, which are streams too. */
const SHUFFLE_STREAM = 0x40000002;
const ORDER_STREAM = 0x40000003;

/** The paper's values where it states them (`learningRate`, `beta`, schedule, 256 episodes a step), TRL's elsewhere. */
export function defaultTrainOptions(): TrainOptions {
  return {
    seed: 1,
    steps: 100,
    failuresPerStep: 32,
    reflectionsPerFailure: 8,
    learningRate: 5e-7,
    schedule: { kind: 'cosine', warmupSteps: 3, flatSteps: 0, floor: 0 },
    adam: { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0, maxGradNorm: 1 },
    beta: 0.001,
    lossType: 'grpo',
    epsilon: null,
    scaleRewards: 'group',
    shuffleRewards: false,
    checkpointEvery: 50,
    keepCheckpoints: 2,
  };
}
