/**
 * `r3 train`: failures, the audit, the loop, and a run folder that holds all of it.
 *
 * A run starts from failures that were mined before or that it mines itself. Its first checkpoint, at step 0, has
 * them; from then on `--resume` needs the run folder and the model, and goes on to the same bytes. Ctrl-C stops after
 * the step under way, with everything saved.
 */
import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import type { Command } from 'commander';
import { audit, requireAudit } from '../audit.ts';
import { loadModelConfig } from '../engine/local/config.ts';
import type { Engine } from '../engine/engine.ts';
import { R3Error } from '../lib/errors.ts';
import { readJsonl } from '../lib/jsonl.ts';
import type { Failure } from '../method/episode.ts';
import { mine, type Mined } from '../mine.ts';
import { makePlayer, type Player } from '../player.ts';
import { stepFields } from '../quickstart.ts';
import { createRun, openRun, type Run } from '../runs/run.ts';
import { defaultTrainOptions, saveCheckpoint, train } from '../train.ts';
import { loadFailures } from './failures.ts';
import { INTERRUPTED, printLine, type Io } from './io.ts';
import { bytesText, memoryRows, planMemory } from './memory.ts';
import {
  addEngineOptions,
  addExamples,
  addPlayerOptions,
  choice,
  integer,
  real,
  seed,
  usageError,
} from './options.ts';
import type { Progress } from './progress.ts';
import { writeRunReport } from './reading.ts';
import {
  checkModel,
  findTask,
  loadTaskProblems,
  nextRun,
  openEngine,
  playerOptions,
  promptsOption,
  taskOption,
  withEngine,
} from './session.ts';
import { renderTable } from './table.ts';
import {
  failureSourceOf,
  parseTrainConfig,
  trainOptionsOf,
  type FailureSource,
  type TrainConfig,
  type TrainFlags,
} from './train-config.ts';
import { cliProgress } from './watch.ts';

export function define(command: Command, io: Io): void {
  const defaults = defaultTrainOptions();
  command
    .description(
      'Trains a model to write reflections that make its next try pass: it reflects on failed attempts, retries, and the tokens of reflections that helped are rewarded (GRPO).',
    )
    .addOption(taskOption().makeOptionMandatory(false))
    .option('--model <dir>', 'the start model: a folder in the Hugging Face layout')
    .option('--problems <file>', 'problems to mine failures from, .jsonl or .parquet')
    .option('--failures <file>', 'failures of this model that r3 mine wrote, instead of --problems')
    .addOption(integer('--limit <n>', 'mine the first n problems (default: all)', { min: 1 }))
    .addOption(integer('--samples <n>', 'mining: attempts per problem', { min: 1 }).default(1))
    .addOption(integer('--max-per-problem <n>', 'mining: failures kept per problem', { min: 1 }).default(1))
    .addOption(promptsOption())
    .option('--run <dir>', 'run folder to make (default: runs/<task>-<next number>)')
    .option('--resume <run>', 'go on with a run that was stopped or killed, with its own configuration')
    .addOption(integer('--steps <n>', 'optimizer steps', { min: 1 }).default(defaults.steps))
    .addOption(
      integer('--failures-per-step <n>', 'groups of each step', { min: 1 }).default(defaults.failuresPerStep),
    )
    .addOption(
      integer('--reflections <n>', 'reflections on each failure: the group size G', { min: 2 }).default(
        defaults.reflectionsPerFailure,
      ),
    )
    .addOption(real('--learning-rate <x>', 'peak, of AdamW', { above: 0 }).default(defaults.learningRate))
    .addOption(
      choice('--schedule <kind>', 'how the learning rate decays after the warm-up', [
        'cosine',
        'linear',
        'constant',
      ]).default(defaults.schedule.kind),
    )
    .addOption(
      integer('--warmup-steps <n>', 'steps in which the learning rate rises', { min: 0 }).default(
        defaults.schedule.warmupSteps,
      ),
    )
    .addOption(
      real('--beta <x>', 'weight of the KL term to the start model; 0 turns it off', { min: 0 }).default(
        defaults.beta,
      ),
    )
    .addOption(
      choice('--loss-type <type>', 'how token losses are averaged: per reflection, per batch, or by length', [
        'grpo',
        'bnpo',
        'dapo',
      ]).default(defaults.lossType),
    )
    .addOption(real('--epsilon <x>', 'clip range of the probability ratio (default: none)', { above: 0 }))
    .option(
      '--shuffle-rewards',
      'the control: rewards permuted within each group, so that nothing can be learned',
    )
    .addOption(
      integer('--checkpoint-every <n>', 'steps between checkpoints', { min: 1 }).default(
        defaults.checkpointEvery,
      ),
    )
    .addOption(seed('the same seed and options give the same run, to the byte').default(defaults.seed));
  addEngineOptions(addPlayerOptions(command)).option(
    '--dry-run',
    'print what the run needs (memory, tokens per step) and stop',
  );
  addExamples(
    command,
    `
  r3 train --task countdown --model DIR --problems train.parquet --limit 2000
  r3 train --task countdown --model DIR --failures failures.jsonl --steps 50 --reflections 16
  r3 train --resume runs/countdown-001
  r3 eval --task countdown --model runs/countdown-001/model --against DIR --problems test.parquet`,
  );
  command.action(async (flags: TrainFlags) => {
    if (flags.resume !== undefined) {
      refuseOthers(command);
      await resumeRun(flags.resume, io);
    } else if (flags.dryRun === true) await dryRun(flags, io);
    else await startRun(flags, io);
  });
}

/** A resumed run has its options: one that is given would be ignored. */
function refuseOthers(command: Command): void {
  const others = command.options
    .filter((option) => command.getOptionValueSource(option.attributeName()) === 'cli')
    .map((option) => option.long)
    .filter((name) => name !== '--resume' && name !== '--debug');
  if (others.length === 0) return;
  throw usageError(
    `--resume goes on with the run's own configuration: expected no other option, got ${others.join(', ')}`,
  );
}

/** What must be given for a new run. */
function required(flags: TrainFlags): { task: string; model: string; source: FailureSource } {
  const { task, model } = flags;
  if (task === undefined)
    throw usageError('--task: expected the name of a task (or --resume with a run), got none');
  if (model === undefined) throw usageError('--model: expected the folder of the start model, got none');
  return { task, model, source: failureSourceOf(flags) };
}

async function startRun(flags: TrainFlags, io: Io): Promise<void> {
  const { task: taskName, model, source } = required(flags);
  const trainOptions = trainOptionsOf(flags);
  const { task, prompts } = findTask(taskName, flags.prompts);
  const directory = flags.run ?? nextRun(taskName);
  // Said now, not after minutes of mining; `createRun` refuses any other folder with files.
  if (existsSync(join(directory, 'config.json'))) {
    throw usageError(
      `--run: expected a new folder, got ${directory}, which holds a run; go on with r3 train --resume ${directory}, or choose another`,
    );
  }
  const { contextLength } = loadModelConfig(existing(model)).config;
  const opening = openTrainingEngine(model, flags.dtype, flags.threads, io);
  await withEngine(opening, async (engine) => {
    const { modelHash, description } = engine.capabilities();
    const config: TrainConfig = {
      version: 1,
      command: 'train',
      task: taskName,
      prompts: { ...prompts },
      model: { directory: resolve(model), hash: modelHash },
      kernels: description,
      dtype: flags.dtype,
      sampling: playerOptions(flags, contextLength),
      failures: source,
      train: trainOptions,
    };
    const player = makePlayer(engine, model, task, prompts, config.sampling);
    const progress = cliProgress(io);
    let run: Run;
    let failures: readonly Failure[];
    try {
      const mined = await collectFailures(config, player, progress);
      progress.phase('audit');
      const checks = await auditOf(player, mined, config);
      requireAudit(checks);
      progress.end();
      failures = mined.failures;
      run = createRun(directory, config);
      for (const { name, detail } of checks) run.log(`audit, ${name}: ${detail}`);
      await begin(run, failures, engine);
    } finally {
      progress.end();
    }
    await finish(run, player, failures, config, progress, io);
  });
}

async function resumeRun(directory: string, io: Io): Promise<void> {
  const run = openRun(directory);
  const config = parseTrainConfig(run.config, directory);
  const { task, prompts } = findTask(config.task, config.prompts.name);
  const model = config.model.directory;
  await withEngine(openTrainingEngine(existing(model), config.dtype, undefined, io), async (engine) => {
    const { modelHash } = engine.capabilities();
    if (modelHash !== config.model.hash) {
      throw new R3Error(
        'store',
        'mismatch',
        `${model}: expected the model that ${directory} began with (${config.model.hash}), got another (${modelHash})`,
      );
    }
    const player = makePlayer(engine, model, task, prompts, config.sampling);
    const progress = cliProgress(io);
    const { checkpoint, damaged } = run.resume();
    for (const line of damaged) progress.log(`left out: ${line}`);
    let failures: readonly Failure[];
    if (checkpoint === null) {
      failures = (await collectFailures(config, player, progress)).failures;
      progress.end();
      await begin(run, failures, engine);
    } else {
      failures = loadFailures(join(directory, 'failures.jsonl'), task, engine.capabilities());
      progress.log(`resuming ${directory} at step ${checkpoint.step} of ${config.train.steps}`);
    }
    await finish(run, player, failures, config, progress, io);
  });
}

function openTrainingEngine(
  model: string,
  dtype: TrainConfig['dtype'],
  threads: number | undefined,
  io: Io,
): Promise<Engine> {
  return openEngine(io, {
    model,
    dtype,
    trainable: true,
    ...(threads === undefined ? {} : { threads }),
  });
}

function existing(model: string): string {
  checkModel(model);
  return model;
}

/** The failures in the run's folder, and a checkpoint that holds them: from here on a kill loses at most some steps. */
async function begin(run: Run, failures: readonly Failure[], engine: Engine): Promise<void> {
  run.appendFailures(failures);
  await saveCheckpoint(run, engine, 0);
}

interface CollectedFailures extends Mined<Failure['problem']> {
  /** Whether passes and attempts were counted: a file of failures does not say. */
  counted: boolean;
}

async function collectFailures(
  config: TrainConfig,
  player: Player,
  progress: Progress,
): Promise<CollectedFailures> {
  const source = config.failures;
  if ('file' in source) {
    const failures = loadFailures(source.file, player.task, player.engine.capabilities());
    return { failures, attempts: 0, passed: 0, counted: false };
  }
  const problems = await loadTaskProblems(player.task, source.problems, source.limit ?? undefined);
  progress.phase('mine failures', problems.length);
  const mined = await mine(player, problems, {
    samples: source.samples,
    maxPerProblem: source.maxPerProblem,
    seed: config.train.seed,
    onProgress: (done, failures) => progress.update(done, { failures }),
  });
  progress.end();
  return { ...mined, counted: true };
}

async function auditOf(
  player: Player,
  mined: CollectedFailures,
  config: TrainConfig,
): ReturnType<typeof audit> {
  const checks = await audit(player, mined, config.train);
  return mined.counted ? checks : checks.filter(({ name }) => name !== 'start rate');
}

/** Trains to the end or to a stop, and leaves model and report. */
async function finish(
  run: Run,
  player: Player,
  failures: readonly Failure[],
  config: TrainConfig,
  progress: Progress,
  io: Io,
): Promise<void> {
  const { directory } = run;
  const { steps } = config.train;
  const signal = io.stopSignal();
  signal.addEventListener('abort', () =>
    progress.log('stopping after this step; Ctrl-C again stops at once'),
  );
  run.log(`${player.engine.capabilities().description}, ${failures.length} failures`);
  let done: number;
  try {
    progress.phase('train', steps, run.latestCheckpoint().checkpoint?.step ?? 0);
    done = await train(run, player, failures, config.train, {
      signal,
      onStep: (report) => progress.update(report.step + 1, stepFields(report)),
    });
  } finally {
    progress.end();
    run.close();
  }
  const report = writeRunReport(directory);
  if (done < steps) {
    io.note(
      `stopped after step ${done} of ${steps}, everything is saved; go on with: r3 train --resume ${directory}`,
    );
    io.exitCode = INTERRUPTED;
    return;
  }
  const model = join(directory, 'model');
  if (!existsSync(model)) await player.engine.save(model);
  printLine(io, `run     ${directory}`);
  printLine(io, `model   ${model}`);
  printLine(io, `report  ${report}`);
}

/** What the run will need, from the model's config and the flags alone. */
async function dryRun(flags: TrainFlags, io: Io): Promise<void> {
  const { task: taskName, model, source } = required(flags);
  const options = trainOptionsOf(flags);
  const { task } = findTask(taskName, flags.prompts);
  const { config } = loadModelConfig(existing(model));
  const sampling = playerOptions(flags, config.contextLength);
  const groups = options.failuresPerStep;
  const episodes = groups * options.reflectionsPerFailure;
  const plan = planMemory(config, { dtype: flags.dtype, trainable: true, reference: options.beta > 0 });
  const data =
    'file' in source
      ? [...readJsonl(source.file)].length
      : (await loadTaskProblems(task, source.problems, flags.limit)).length;
  const most = config.contextLength;
  const trained = groups * most + (episodes - groups) * sampling.maxReflectionTokens;
  const rows: [string, string][] = [
    ['file' in source ? 'failures' : 'problems to mine', String(data)],
    [
      'episodes per step',
      `${episodes} (${groups} failures, ${options.reflectionsPerFailure} reflections each)`,
    ],
    [
      'tokens sampled per step, at most',
      String(episodes * (sampling.maxReflectionTokens + sampling.maxAttemptTokens)),
    ],
    ['tokens trained through per step, at most', `${trained}, with shared prefixes once`],
    ['tokens in one pass', `${plan.tokensKept}, or ${plan.tokensRecomputed} with layers computed again`],
    ['checkpoint, two are kept', bytesText(12 * plan.parameters)],
    ...memoryRows(plan),
  ];
  printLine(io, renderTable(['', 'needed'], rows));
}
