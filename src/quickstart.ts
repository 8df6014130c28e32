/**
 * The quick start: the whole method on the project's own small model, from mining to the table.
 *
 * The same task, chat template, failure set, loop, run folder and evaluation that any other model goes through;
 * only the model, its short prompts and the options are small. Problems are generated; those reported on are in a
 * split of their own, which no setting was chosen on.
 */
import { fileURLToPath } from 'node:url';
import type { Engine } from './engine/engine.ts';
import { openLocalEngine, type LocalEngineOptions } from './engine/local/local-engine.ts';
import {
  addForcedBeginning,
  commonestBeginning,
  crossReadings,
  evaluate,
  type Evaluation,
} from './evaluate.ts';
import { R3Error } from './lib/errors.ts';
import { mine } from './mine.ts';
import { audit, requireAudit, type AuditCheck } from './audit.ts';
import { quickstartSummary, type QuickstartSummary } from './method/controls.ts';
import type { Episode } from './method/episode.ts';
import { makePlayer, type Player } from './player.ts';
import { createRun } from './runs/run.ts';
import { countdown, type CountdownProblem } from './tasks/countdown.ts';
import { generateProblems, type Split } from './tasks/countdown-generator.ts';
import { defaultTrainOptions, train, type StepReport, type TrainOptions } from './train.ts';

/** The start model that ships with the package. */
export const START_MODEL = fileURLToPath(new URL('../models/start', import.meta.url));

const PROBLEMS = 1600;
const HELD_OUT = 2000;
const TEMPERATURE = 0.9;
/** Problems are the same for every seed; the seed is that of training and sampling. */
const PROBLEM_SEED = 7;
const FIXED_TEXT = 'be careful';
const BOOTSTRAP = { draws: 2000, seed: 1 };
/** Above this KL to the start model, in nats per token, the weights have moved far: say so. */
const KL_WARNING = 0.3;

export interface QuickstartOptions {
  seed: number;
  shuffleRewards: boolean;
  runDirectory: string;
  engine: Omit<LocalEngineOptions, 'model'>;
  signal?: AbortSignal | undefined;
  /** For the search of settings: other training options, and problems that no result is reported on. */
  search?: { train: Partial<TrainOptions>; split: Split; heldOut: number; model?: string } | undefined;
}

export interface QuickstartHooks {
  /** A phase begins; `total` is what `progress` counts to. */
  phase(name: string, total: number): void;
  progress(done: number, fields: Record<string, string>): void;
  log(line: string): void;
}

/** How reflections look, on the failed first tries of an evaluation. */
export interface ReflectionProfile {
  /** Share of each kind. */
  kinds: Record<string, number>;
  meanTokens: number;
  /** Share of reflections with a true hint. */
  trueHints: number;
  /** Of the reflections that hint at all. */
  trueOfHints: number;
}

export interface QuickstartResult {
  summary: QuickstartSummary;
  profile: { before: ReflectionProfile; after: ReflectionProfile };
  /** Means over the last ten steps. */
  lastSteps: { kl: number; withoutSignal: number };
  /** What the start model's reflections were forced to begin with. */
  forcedBeginning: string;
  warnings: string[];
  audit: AuditCheck[];
  episodes: Episode<CountdownProblem>[];
  steps: StepReport[];
}

export function quickstartTrainOptions(seed: number, shuffleRewards: boolean): TrainOptions {
  return {
    ...defaultTrainOptions(),
    seed,
    shuffleRewards,
    steps: 100,
    failuresPerStep: 24,
    reflectionsPerFailure: 16,
    learningRate: 5e-4,
    schedule: { kind: 'linear', warmupSteps: 5, flatSteps: 0, floor: 0.1 },
    adam: { beta1: 0.9, beta2: 0.98, epsilon: 1e-8, weightDecay: 0, maxGradNorm: 1 },
    beta: 0.2,
    lossType: 'bnpo',
    checkpointEvery: 50,
  };
}

/** Runs it all and leaves a run folder. Throws R3Error `cancelled` when the signal is raised. */
export async function runQuickstart(
  options: QuickstartOptions,
  hooks: QuickstartHooks,
): Promise<QuickstartResult> {
  const started = performance.now();
  const { seed } = options;
  const { search } = options;
  const trainOptions = { ...quickstartTrainOptions(seed, options.shuffleRewards), ...search?.train };
  const model = search?.model ?? START_MODEL;
  const trainEngine = await openLocalEngine({ ...options.engine, model });
  const startEngine = await openLocalEngine({ ...options.engine, model, trainable: false });
  try {
    const prompts = countdown.prompts('short');
    const player = (engine: Engine, temperature: number): Player<CountdownProblem> =>
      makePlayer(engine, model, countdown, prompts, {
        temperature,
        maxAttemptTokens: 20,
        maxReflectionTokens: 96,
      });
    const problems = generateProblems({ count: PROBLEMS, split: 'rl', numbers: 3, seed: PROBLEM_SEED });
    const heldOut = generateProblems({
      count: search?.heldOut ?? HELD_OUT,
      split: search?.split ?? 'report',
      numbers: 3,
      seed: PROBLEM_SEED,
    });
    const { description, modelHash } = trainEngine.capabilities();
    const run = createRun(options.runDirectory, {
      version: 1,
      command: 'quickstart',
      task: countdown.name,
      prompts,
      model: { directory: 'models/start', hash: modelHash },
      kernels: description,
      sampling: { training: 1, evaluation: TEMPERATURE },
      problems: PROBLEMS,
      heldOut: heldOut.length,
      train: trainOptions,
    });

    const stopIfAsked = (): void => {
      if (options.signal?.aborted === true)
        throw new R3Error('config', 'cancelled', `stopped; what was done is in ${options.runDirectory}`);
    };
    const measure = async (
      engine: Engine,
      temperature: number,
      name: string,
    ): Promise<Evaluation<CountdownProblem>> => {
      stopIfAsked();
      hooks.phase(name, 2 * heldOut.length);
      return evaluate(player(engine, temperature), heldOut, {
        seed,
        fixedText: FIXED_TEXT,
        onProgress: (done) => hooks.progress(done, {}),
      });
    };
    const before = await measure(startEngine, TEMPERATURE, 'measure the start model');
    const greedyBefore = await measure(startEngine, 0, 'measure the start model, greedy');

    hooks.phase('mine failures', PROBLEMS);
    const learner = player(trainEngine, 1);
    const mined = await mine(learner, problems, {
      samples: 1,
      maxPerProblem: 1,
      seed,
      onProgress: (done, failures) => hooks.progress(done, { failures: String(failures) }),
    });
    run.appendFailures(mined.failures);
    hooks.log(`${mined.failures.length} failures mined from ${mined.attempts} attempts`);
    const checks = await audit(learner, mined, trainOptions);
    requireAudit(checks);

    hooks.phase('train', trainOptions.steps);
    const steps: StepReport[] = [];
    await train(run, learner, mined.failures, trainOptions, {
      onStep: (report) => {
        steps.push(report);
        hooks.progress(report.step + 1, stepFields(report));
      },
      ...(options.signal === undefined ? {} : { signal: options.signal }),
    });
    stopIfAsked();
    await trainEngine.save(`${options.runDirectory}/model`);

    const after = await measure(trainEngine, TEMPERATURE, 'measure the trained model');
    const greedyAfter = await measure(trainEngine, 0, 'measure the trained model, greedy');
    hooks.phase('who gains: writer or reader', 1);
    const startPlayer = player(startEngine, TEMPERATURE);
    const readings = await crossReadings(startPlayer, player(trainEngine, TEMPERATURE), before.failed, seed);
    const beginning = commonestBeginning(after.failed.map((f) => f.reflection));
    await addForcedBeginning(startPlayer, before, beginning, seed);
    await addForcedBeginning(player(startEngine, 0), greedyBefore, beginning, seed);
    hooks.progress(1, {});

    const summary = quickstartSummary(
      {
        seed,
        wallSeconds: Math.round((performance.now() - started) / 100) / 10,
        kernels: description,
        temperature: TEMPERATURE,
        before: before.rows,
        after: after.rows,
        greedy: { before: greedyBefore.rows, after: greedyAfter.rows },
        writerByReader: readings,
      },
      BOOTSTRAP,
    );
    const profile = { before: profileOf(before), after: profileOf(after) };
    const last = steps.slice(-10);
    const result: QuickstartResult = {
      summary,
      profile,
      lastSteps: {
        kl: mean(last.map((s) => s.metrics['kl'] ?? 0)),
        withoutSignal: mean(last.map((s) => 1 - (s.metrics['groups/mixed'] ?? 0))),
      },
      forcedBeginning: startPlayer.tokenizer.decode(beginning),
      warnings: [],
      audit: checks,
      episodes: episodesToRead(after),
      steps,
    };
    if (result.lastSteps.kl > KL_WARNING)
      result.warnings.push(
        `KL to the start model is ${result.lastSteps.kl.toFixed(2)} nats per token, above ${KL_WARNING}: the weights have moved far. Raise beta or lower the learning rate.`,
      );
    if (profile.after.trueOfHints < profile.before.trueOfHints)
      result.warnings.push(
        `Hints got less true: ${percent(profile.before.trueOfHints)} of the hints were true before training, ${percent(profile.after.trueOfHints)} after.`,
      );
    run.writeEvaluation(result);
    run.close();
    return result;
  } finally {
    await trainEngine.close();
    await startEngine.close();
  }
}

/** What a person watching wants to see of a step. */
export function stepFields({ metrics, seconds }: StepReport): Record<string, string> {
  const kinds = Object.entries(metrics).filter(([name]) => name.startsWith('kind/'));
  const commonest = kinds.toSorted(([, a], [, b]) => b - a)[0];
  return {
    reward: (metrics['reward'] ?? 0).toFixed(2),
    signal: percent(metrics['groups/mixed'] ?? 0),
    kl: (metrics['kl'] ?? 0).toFixed(2),
    tokens: (metrics['reflection/meanLength'] ?? 0).toFixed(0),
    ...(commonest === undefined ? {} : { kind: `${commonest[0].slice(5)} ${percent(commonest[1])}` }),
    s: (seconds.sample + seconds.train).toFixed(1),
  };
}

function profileOf({ failed }: Evaluation<CountdownProblem>): ReflectionProfile {
  const described = failed.map(
    (f) =>
      countdown.describeReflection?.(f.problem, f.attempt.text, f.reflection.text) ?? {
        kind: 'other',
        hint: 'none' as const,
      },
  );
  const kinds: Record<string, number> = {};
  for (const { kind } of described) kinds[kind] = (kinds[kind] ?? 0) + 1 / described.length;
  const hinted = described.filter((d) => d.hint !== 'none');
  const trueCount = hinted.filter((d) => d.hint === 'true').length;
  return {
    kinds,
    meanTokens: mean(failed.map((f) => f.reflection.tokens.length)),
    trueHints: trueCount / Math.max(1, described.length),
    trueOfHints: trueCount / Math.max(1, hinted.length),
  };
}

/** Two rescues and one failure: what a reader should see of both. */
function episodesToRead({ failed }: Evaluation<CountdownProblem>): Episode<CountdownProblem>[] {
  const asEpisode = (f: (typeof failed)[number]): Episode<CountdownProblem> => ({
    version: 1,
    step: -1,
    group: f.problem.id,
    index: 0,
    problem: f.problem,
    attempt: f.attempt,
    reflection: f.reflection,
    retry: f.retry?.written ?? null,
    score: f.retry?.verdict ?? null,
    reward: f.retry?.verdict.ok === true ? 1 : 0,
    advantage: null,
    kind: countdown.describeReflection?.(f.problem, f.attempt.text, f.reflection.text).kind ?? 'other',
  });
  const helped = failed.filter((f) => f.retry?.verdict.ok === true).slice(0, 2);
  const not = failed.filter((f) => f.retry !== null && !f.retry.verdict.ok).slice(0, 1);
  return [...helped, ...not].map(asEpisode);
}

function mean(values: readonly number[]): number {
  return values.length === 0 ? 0 : values.reduce((a, b) => a + b, 0) / values.length;
}

function percent(share: number): string {
  return `${(100 * share).toFixed(0)}%`;
}
