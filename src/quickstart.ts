/**
 * The quick start: the whole method on a small model of the project's own, from mining to the table.
 *
 * The same task, chat template, failure set, loop, run folder and evaluation that any other model goes through;
 * only the model, its short prompts and the options are small. Problems are generated; those reported on are in a
 * split of their own, which no setting was chosen on.
 */
import type { Engine } from './engine/engine.ts';
import { openLocalEngine, type LocalEngineOptions } from './engine/local/local-engine.ts';
import { stoppable } from './engine/stoppable.ts';
import {
  measure,
  measureTogether,
  profileOf,
  type Evaluation,
  type Measured,
  type MeasureOptions,
  type RowLog,
  type Watcher,
} from './evaluate.ts';
import { R3Error } from './lib/errors.ts';
import { mine } from './mine.ts';
import { audit, requireAudit, type AuditCheck } from './audit.ts';
import { beforeAfter, FIXED_TEXT, type BeforeAfter } from './method/controls.ts';
import { passed, type Episode, type Problem } from './method/episode.ts';
import { hintWarnings, klWarnings } from './method/metrics.ts';
import { defaultLossOptions } from './method/loss-options.ts';
import type { ReflectionProfile } from './method/profile.ts';
import { EXHIBITS, type Exhibit } from './exhibits.ts';
import { makePlayer, type Player } from './player.ts';
import { createRun, type Run } from './runs/run.ts';
import { stepFields } from './step-fields.ts';
import { train, type StepReport } from './train.ts';
import { defaultTrainOptions, type TrainOptions } from './train-options.ts';

/** The start model for Countdown that ships with the package. */
export const START_MODEL = EXHIBITS.countdown.model;

const PROBLEMS = 1600;
const HELD_OUT = 2000;
const TEMPERATURE = 0.9;
const UNDESCRIBED = { kind: 'other', hint: 'none' } as const;
/** Steps that the last numbers of training are means of. */
const LAST_STEPS = 10;

export interface QuickstartOptions {
  exhibit: Exhibit;
  /** Of training and sampling. */
  seed: number;
  shuffleRewards: boolean;
  runDirectory: string;
  engine: Omit<LocalEngineOptions, 'model'>;
  signal?: AbortSignal | undefined;
  /**
   * For experiments and the search of settings: other training options, other problems, another start model, and where
   * the start model's rows are kept.
   */
  search?:
    | {
        train: Partial<TrainOptions>;
        heldOut: Problem[];
        model?: string;
        startRowsAt?: (temperature: number) => RowLog;
      }
    | undefined;
}

/** What evaluation.json holds. */
export interface QuickstartEvaluation {
  summary: BeforeAfter;
  /** How reflections look, on the failed first tries of an evaluation. */
  profile: { before: ReflectionProfile; after: ReflectionProfile };
  /** Means over the last steps of training. The KL is NaN, null in JSON, where the loss has no such term. */
  lastSteps: { kl: number; withoutSignal: number };
  /** What the start model's reflections were forced to begin with. */
  forcedBeginning: string;
  warnings: string[];
  audit: AuditCheck[];
  /** To read: two in which the reflection helped, one in which it did not. */
  episodes: Episode[];
}

export interface QuickstartResult extends QuickstartEvaluation {
  steps: StepReport[];
}

/** The same for every task. */
export function quickstartTrainOptions(seed: number, shuffleRewards: boolean): TrainOptions {
  return {
    ...defaultTrainOptions(),
    seed,
    shuffleRewards,
    steps: 100,
    failuresPerStep: 24,
    reflectionsPerFailure: 16,
    learningRate: 3e-4,
    schedule: { kind: 'linear', warmupSteps: 5, flatSteps: 0, floor: 0.1 },
    adam: { beta1: 0.9, beta2: 0.98, epsilon: 1e-8, weightDecay: 0, maxGradNorm: 1 },
    loss: { ...defaultLossOptions(), beta: 0.2, lossType: 'bnpo' },
    checkpointEvery: 50,
  };
}

/** Runs it all and leaves a run folder. Throws R3Error `cancelled` when the signal is raised. */
export async function runQuickstart(options: QuickstartOptions, watcher: Watcher): Promise<QuickstartResult> {
  const started = performance.now();
  const { exhibit, seed, search, signal, runDirectory } = options;
  const { task } = exhibit;
  const trainOptions = { ...quickstartTrainOptions(seed, options.shuffleRewards), ...search?.train };
  const model = search?.model ?? exhibit.model;
  const trainEngine = await openLocalEngine({ ...options.engine, model });
  const startEngine = await openLocalEngine({ ...options.engine, model, trainable: false });
  let opened: Run | undefined;
  try {
    const prompts = task.prompts('short');
    const playerAt =
      (engine: Engine) =>
      (temperature: number): Player =>
        makePlayer(engine, model, task, prompts, { temperature, ...exhibit.limits });
    const problems = exhibit.problems('rl', PROBLEMS);
    const heldOut = search?.heldOut ?? exhibit.problems('report', HELD_OUT);
    const { description, modelHash } = trainEngine.capabilities();
    const run = (opened = createRun(runDirectory, {
      version: 1,
      command: 'quickstart',
      task: task.name,
      prompts,
      model: { directory: exhibit.folder, hash: modelHash },
      kernels: description,
      sampling: { training: 1, evaluation: TEMPERATURE },
      problems: problems.length,
      heldOut: heldOut.length,
      train: trainOptions,
    }));

    const stopped = `stopped; what was done is in ${runDirectory}`;
    const stopIfAsked = (): void => {
      if (signal?.aborted === true) throw new R3Error('config', 'cancelled', stopped);
    };
    /** Outside training a stop that is asked for ends the sampling; training stops between two steps. */
    const stopping = (engine: Engine): Engine =>
      signal === undefined ? engine : stoppable(engine, signal, stopped);
    const phases: Watcher = {
      phase: (name, total) => {
        stopIfAsked();
        watcher.phase(name, total);
      },
      update: (done, fields) => watcher.update(done, fields),
    };
    const measured = (
      engine: Engine,
      name: string,
      logAt?: MeasureOptions['logAt'],
    ): Promise<Measured<Problem>> =>
      measure(
        name,
        playerAt(stopping(engine)),
        TEMPERATURE,
        heldOut,
        { seed, fixedText: FIXED_TEXT, ...(logAt === undefined ? {} : { logAt }) },
        phases,
      );

    const before = await measured(startEngine, 'the start model', search?.startRowsAt);

    phases.phase('mine failures', problems.length);
    const learner = playerAt(trainEngine)(1);
    const miner = playerAt(stopping(trainEngine))(1);
    const mined = await mine(miner, problems, {
      ...trainOptions.mining,
      seed,
      onProgress: (done, failures) => phases.update(done, { failures }),
    });
    run.appendFailures(mined.failures);
    phases.phase('audit');
    const checks = await audit(miner, mined, trainOptions);
    requireAudit(checks);

    phases.phase('train', trainOptions.steps);
    const steps: StepReport[] = [];
    await train(run, learner, { failures: mined.failures, problems }, trainOptions, {
      onStep: (report) => {
        steps.push(report);
        phases.update(report.step + 1, stepFields(report));
      },
      ...(signal === undefined ? {} : { signal }),
    });
    stopIfAsked();
    await trainEngine.save(`${runDirectory}/model`);

    const after = await measured(trainEngine, 'the trained model');
    const { writerByReader, forcedBeginning } = await measureTogether(before, after, seed, phases);

    const profile = { before: profileOf(before.sampled), after: profileOf(after.sampled) };
    const last = steps.slice(-LAST_STEPS);
    const lastSteps = {
      kl: mean(last.map((s) => s.metrics['kl'] ?? Number.NaN)),
      withoutSignal: mean(last.map((s) => 1 - (s.metrics['groups/mixed'] ?? 0))),
    };
    const evaluation: QuickstartEvaluation = {
      summary: beforeAfter({
        seed,
        wallSeconds: Math.round((performance.now() - started) / 100) / 10,
        kernels: description,
        temperature: TEMPERATURE,
        before: before.sampled.rows,
        after: after.sampled.rows,
        greedy: { before: before.greedy.rows, after: after.greedy.rows },
        writerByReader,
      }),
      profile,
      lastSteps,
      forcedBeginning: learner.tokenizer.decode(forcedBeginning),
      warnings: [
        ...klWarnings(lastSteps.kl),
        ...hintWarnings(profile.before.trueOfHints, profile.after.trueOfHints),
      ],
      audit: checks,
      episodes: episodesToRead(after.sampled),
    };
    run.writeEvaluation(evaluation);
    return { ...evaluation, steps };
  } finally {
    opened?.close();
    await trainEngine.close();
    await startEngine.close();
  }
}

/** Two rescues and one failure: what a reader should see of both. */
function episodesToRead({ player, failed }: Evaluation<Problem>): Episode[] {
  const helped = failed.filter((f) => f.retry !== null && passed(f.retry.score) === true).slice(0, 2);
  const not = failed.filter((f) => f.retry !== null && passed(f.retry.score) === false).slice(0, 1);
  return [...helped, ...not].map((f) => ({
    version: 1,
    step: -1,
    group: f.problem.id,
    index: 0,
    problem: f.problem,
    attempt: f.attempt,
    attemptScore: f.attemptScore,
    reflection: f.reflection,
    retry: f.retry?.written ?? null,
    score: f.retry?.score ?? null,
    reward: f.retry !== null && passed(f.retry.score) === true ? 1 : 0,
    advantage: null,
    ...(player.task.describeReflection?.(f.problem, f.attempt.text, f.reflection.text) ?? UNDESCRIBED),
  }));
}

function mean(values: readonly number[]): number {
  return values.length === 0 ? 0 : values.reduce((a, b) => a + b, 0) / values.length;
}
