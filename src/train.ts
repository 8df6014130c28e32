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
import type { Engine } from './engine/engine.ts';
import { makeEpisodeSource, type Material } from './episode-source.ts';
import type { SourceState } from './failure-source.ts';
import { requireMost } from './left-out.ts';
import { distil, learn, rewardedSequences, setAdvantages } from './learn.ts';
import { R3Error } from './lib/errors.ts';
import { makeLookahead, type AheadState, type Lookahead } from './lookahead.ts';
import type { Episode, Problem } from './method/episode.ts';
import { groupsOf } from './method/group.ts';
import { firstTryMetrics, stepMetrics } from './method/metrics.ts';
import type { Player } from './player.ts';
import type { Run } from './runs/run.ts';
import { learningRateAt } from './schedule.ts';
import { checkTrainOptions, usesFailures, type TrainOptions } from './train-options.ts';

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

/** What a checkpoint holds of the loop. */
export interface LoopState {
  source: SourceState;
  /** Where steps are sampled ahead. */
  ahead?: AheadState;
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
  material: Material<P>,
  options: TrainOptions,
  controls: TrainControls = {},
): Promise<number> {
  const { engine } = player;
  checkTrainOptions(options, player.options);
  const { checkpoint } = run.latestCheckpoint();
  // A set that is mined anew may be smaller: the model has got better.
  if (checkpoint === null) requireEnough(material, options);
  else await engine.loadState(join(checkpoint.directory, ENGINE_STATE));
  const state = (checkpoint?.state ?? START) as LoopState;
  let step = checkpoint?.step ?? 0;
  const source = makeEpisodeSource(player, material, options, state.source, (mined) =>
    run.appendFailures(mined),
  );
  const lookahead = makeLookahead(engine, source, options, step, state.ahead);

  while (step < options.steps) {
    const report = await trainStep(run, player, lookahead, options, step);
    step++;
    controls.onStep?.(report);
    const stopping = controls.signal?.aborted === true;
    if (step === options.steps || stopping || step % options.checkpointEvery === 0) {
      const ahead = await lookahead.state();
      const now = { source: source.state(), ...(ahead === undefined ? {} : { ahead }) };
      await saveCheckpoint(run, engine, step, now);
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
  const [name, items] = usesFailures(options) ? ['failures', failures] : ['problems', problems];
  if (items.length >= options.failuresPerStep) return;
  throw new R3Error(
    'config',
    'bad-option',
    `${name}: expected at least ${options.failuresPerStep}, one for each group of a step, got ${items.length}. Give more problems${name === 'failures' ? ' or mine more samples' : ''}, or lower the failures per step.`,
  );
}

async function trainStep<P extends Problem>(
  run: Run,
  player: Player<P>,
  lookahead: Lookahead<P>,
  options: TrainOptions,
  step: number,
): Promise<StepReport> {
  const started = performance.now();
  const { played, firstTries, leftOut } = await lookahead.take(step);
  const episodes = played.map(({ episode }) => episode);
  const groups = groupsOf(episodes);
  requireMost(
    `the groups of step ${step}`,
    leftOut.map(({ error }) => error),
    groups.length + leftOut.length,
  );
  setAdvantages(groups, options, step);
  const collected = performance.now();

  const learningRate = learningRateAt(options.schedule, options.learningRate, step, options.steps);
  const trained = rewardedSequences(played);
  const learner = { ...player, engine: lookahead.engine };
  const metrics = await learn(learner, trained, options, learningRate);
  const distilled = await distil(learner, played, options);
  const ended = performance.now();

  const trainedTokens = trained.reduce((sum, { datum }) => sum + datum.positions.length, 0);
  const row = {
    step,
    ...firstTryMetrics(firstTries.map(({ episode }) => episode)),
    ...stepMetrics(options.trainTokens === 'all' ? episodes.filter(isReflected) : episodes),
    ...(leftOut.length === 0 ? {} : { 'groups/leftOut': leftOut.length }),
    trainedTokens,
    ...metrics,
    ...distilled,
    learning_rate: learningRate,
  };
  const seconds = { sample: (collected - started) / 1000, train: (ended - collected) / 1000 };
  for (const group of groups) run.appendGroup(group);
  for (const group of leftOut) run.appendLeftOut(group);
  run.appendMetrics(row);
  run.appendTimings({ step, ...seconds });
  return { step, steps: options.steps, metrics: row, seconds };
}

function isReflected({ reflection }: Episode): boolean {
  return reflection !== null;
}
