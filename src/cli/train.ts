/**
 * `r3 train`: failures, the audit, the loop, and a run folder that holds all of it.
 *
 * A run starts from failures that were mined before or that it mines itself. Its first checkpoint, at step 0, has
 * them; from then on `--resume` needs the run folder, the model and the same kernels, and goes on to the same bytes.
 * Before that checkpoint a resumed run starts over, audit included. Ctrl-C stops after the step under way, with
 * everything saved.
 */
import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import type { Command } from 'commander';
import { audit, auditLines, requireAudit, type AuditCheck } from '../audit.ts';
import type { Engine } from '../engine/engine.ts';
import { stoppable } from '../engine/stoppable.ts';
import type { TinkerEngine } from '../engine/tinker/tinker-engine.ts';
import { R3Error } from '../lib/errors.ts';
import type { Failure, Problem } from '../method/episode.ts';
import type { Task } from '../method/task.ts';
import { lossWarnings } from '../method/loss-options.ts';
import { leftOutLines, mine, type Mined } from '../mine.ts';
import { makePlayer, type Player } from '../player.ts';
import { createRun, openRun, readRun, type Run } from '../runs/run.ts';
import { openTensorboard } from '../runs/tensorboard.ts';
import { stepFields } from '../step-fields.ts';
import { requireEnough, saveCheckpoint, train, type LoopState } from '../train.ts';
import { samplesProblems } from '../method/choices.ts';
import { defaultTrainOptions, usesFailures, type TrainOptions } from '../train-options.ts';
import { type Material } from '../episode-source.ts';
import { addChoiceOptions } from './choice-options.ts';
import { dryRun } from './dry-run.ts';
import { addAdvantageOptions, addLossOptions } from './loss-options.ts';
import { loadFailures } from './failures.ts';
import { INTERRUPTED, printJson, printLine, type Io } from './io.ts';
import {
  addEngineOptions,
  addExamples,
  addLoraOptions,
  addOptimizerOptions,
  addPlayerOptions,
  givenOptions,
  integer,
  seed,
  usageError,
} from './options.ts';
import { applyPreset, applyStaleness, findPreset, presetOption, sourcesOf } from './preset-options.ts';
import type { Progress } from './progress.ts';
import { warningsOfRun } from './reading.ts';
import { writeRunReport } from './report-data.ts';
import {
  checkRunFolder,
  engineOptions,
  findModel,
  findRecordedTask,
  findTask,
  loadTaskProblems,
  loraOptions,
  modelConfig,
  nextRun,
  openEngine,
  playerOptions,
  promptsOption,
  taskOption,
  textFolder,
  withEngine,
} from './session.ts';
import {
  dataOf,
  kernelsOf,
  parseTrainConfig,
  sameKernels,
  trainOptionsOf,
  withKernels,
  type TrainConfig,
  type TrainFlags,
} from './train-config.ts';
import {
  addTinkerOptions,
  openTinker,
  refuseForEngine,
  refuseTemperature,
  REMOTE_TOLERANCE,
  remoteLora,
  settleTinker,
} from './tinker.ts';
import { cliProgress, watchedStop } from './watch.ts';
import { withWayOn } from './way-on.ts';

export function define(command: Command, io: Io): void {
  const defaults = defaultTrainOptions();
  command
    .description(
      'Trains a model to write reflections that make its next try pass: it reflects on failed attempts, retries, and the tokens of reflections that helped are rewarded (GRPO).',
    )
    .addOption(taskOption().makeOptionMandatory(false))
    .option(
      '--model <dir>',
      'the start model: a folder in the Hugging Face layout, or the name of a downloaded model',
    )
    .option('--problems <file>', 'problems to mine failures from, .jsonl or .parquet')
    .option('--failures <file>', 'failures of this model that r3 mine wrote, instead of --problems')
    .addOption(integer('--limit <n>', 'mine the first n problems (default: all)', { min: 1 }))
    .addOption(promptsOption())
    .option('--run <dir>', 'run folder to make (default: runs/<task>-<next number>)')
    .option('--resume <run>', 'go on with a run that was stopped or killed, with its own configuration')
    .option(
      '--accept-kernels',
      "with --resume: go on although the kernels are not the run's; config.json says so, and results are no longer the same bytes",
    )
    .addOption(
      integer('--steps <n>', 'steps, each with episodes of its own', { min: 1 }).default(defaults.steps),
    )
    .addOption(presetOption())
    .option('--no-audit', 'train although nothing was checked; the run records it')
    .option('--tensorboard', 'also writes each step to RUN/tensorboard, as event files of TensorBoard')
    .option('--dry-run', 'print the resolved plan with memory and time, and stop')
    .option('--json', 'one line of JSON at the end: {run, stopped, steps, of, metrics, model, report}')
    .addOption(
      integer('--checkpoint-every <n>', 'steps between checkpoints', { min: 1 }).default(
        defaults.checkpointEvery,
      ),
    )
    .addOption(seed('the same seed and options give the same run, to the byte').default(defaults.seed));
  addChoiceOptions(command.optionsGroup('The method (docs/training.md):'))
    .addOption(
      integer('--num-iterations <n>', "updates from each step's episodes", { min: 1 }).default(
        defaults.numIterations,
      ),
    )
    .addOption(
      integer(
        '--max-staleness <n>',
        'steps that are sampled ahead while others train, from older weights; their ratio is corrected for (--importance-sampling-mode)',
        { min: 0 },
      ).default(defaults.maxStaleness),
    );
  command.option(
    '--shuffle-rewards',
    'the control: rewards permuted within each group, so that nothing can be learned',
  );
  addPlayerOptions(command.optionsGroup('Sampling:'));
  addLossOptions(command.optionsGroup('Loss and advantages (docs/losses.md):'), defaults.loss);
  addAdvantageOptions(command, defaults.advantages);
  addOptimizerOptions(command.optionsGroup('Optimizer:'), defaults);
  addTinkerOptions(
    addEngineOptions(addLoraOptions(command.optionsGroup('Engine and adapters (docs/models.md):')), [
      'local',
      'tinker',
    ]),
  );
  command.optionsGroup('Options:');
  addExamples(
    command,
    `
  r3 train --task countdown --model DIR --problems train.parquet --limit 2000
  r3 train --task countdown --model DIR --failures failures.jsonl --steps 50 --num-generations 16
  r3 train --resume runs/countdown-001
  r3 eval --task countdown --model runs/countdown-001/model --against DIR --problems test.parquet`,
  );
  command.action(async (given: TrainFlags) => {
    if (given.resume !== undefined) {
      refuseOthers(command);
      await resumeRun(given.resume, given, io);
      return;
    }
    const preset = given.preset === undefined ? undefined : findPreset(given.preset);
    if (preset !== undefined) applyPreset(command, preset);
    applyStaleness(command);
    const flags = command.opts<TrainFlags>();
    refuseForEngine(command, flags.engine);
    if (flags.engine === 'tinker') refuseTemperature(flags);
    const sources = sourcesOf(command, preset);
    refuseIdle(command, flags);
    if (flags.dryRun === true) await dryRun(flags, sources, io);
    else await startRun(flags, sources, io);
  });
}

/** What may be said with --resume: nothing that a run's results depend on, but for --accept-kernels. */
const WITH_RESUME = [
  '--resume',
  '--accept-kernels',
  '--threads',
  '--url',
  '--tensorboard',
  '--json',
  '--debug',
];

/** A resumed run has its options: one that is given would be ignored. */
function refuseOthers(command: Command): void {
  const others = givenOptions(command).filter((name) => !WITH_RESUME.includes(name));
  if (others.length === 0) return;
  throw usageError(
    `--resume goes on with the run's own configuration: expected no option that sets it, got ${others.join(', ')}`,
  );
}

/** What says how failures are mined. */
const MINING = ['--limit', '--samples', '--max-per-problem', '--keep-failures'];

/** Options that would do nothing: of mining where nothing is mined, of reflections where none is written. */
function refuseIdle(command: Command, flags: TrainFlags): void {
  const { failures, problems, method, samples, maxPerProblem } = flags;
  const given = givenOptions(command);
  const mining = given.filter((name) => MINING.includes(name));
  if (failures !== undefined && problems === undefined && mining.length > 0) {
    throw usageError(
      `--failures takes all failures of a file: expected no option of mining, got ${mining.join(', ')}`,
    );
  }
  const idle = [
    ...(samplesProblems(flags) ? mining.filter((name) => name !== '--limit') : []),
    ...given.filter((name) => method !== 'reflect' && name === '--max-reflection-tokens'),
  ];
  if (idle.length > 0) {
    const why = samplesProblems(flags) ? 'mines nothing and reflects on nothing' : 'asks for no reflection';
    throw usageError(`${idle.join(', ')}: expected none with the method ${method}, which ${why}, got it`);
  }
  if (given.includes('--max-per-problem') && maxPerProblem > samples) {
    throw usageError(
      `--max-per-problem: expected at most the ${samples} attempts at each problem (--samples), got ${maxPerProblem}`,
    );
  }
}

/** Sources of what a run with failures from a file uses. */
function withoutMining(sources: TrainConfig['sources']): TrainConfig['sources'] {
  return Object.fromEntries(Object.entries(sources).filter(([name]) => !MINING.includes(`--${name}`)));
}

/** What must be given for a new run. */
function required(flags: TrainFlags): { task: string; model: string } {
  const { task, model } = flags;
  if (task === undefined)
    throw usageError('--task: expected the name or the file of a task (or --resume with a run), got none');
  if (model === undefined) throw usageError('--model: expected the folder of the start model, got none');
  return { task, model };
}

async function startRun(flags: TrainFlags, sources: TrainConfig['sources'], io: Io): Promise<void> {
  const { task: taskName, model: named } = required(flags);
  if (flags.acceptKernels === true) {
    throw usageError('--accept-kernels: expected --resume with a run, got a new run');
  }
  const trainOptions = trainOptionsOf(flags);
  const data = dataOf(flags, trainOptions);
  for (const warning of lossWarnings(trainOptions.loss)) io.note(`warning: ${warning}`);
  const { task, prompts, file: taskFile } = await findTask(taskName, io.env, flags.prompts);
  const directory = flags.run ?? nextRun(task.name);
  // Said now, not after minutes of mining.
  if (existsSync(join(directory, 'config.json'))) {
    throw usageError(
      `--run: expected a new folder, got ${directory}, which holds a run; go on with r3 train --resume ${directory}, or choose another`,
    );
  }
  checkRunFolder(directory);
  const place = flags.engine === 'tinker' ? settleTinker(named, flags, io.env) : undefined;
  const model = place?.texts ?? findModel(named, io.env);
  const { contextLength } = place ?? modelConfig(model, io.env, flags.context);
  const lora = place === undefined ? loraOptions(flags) : {};
  const remote = place === undefined ? undefined : await openTinker(io, place, remoteLora(flags));
  const opening = remote ?? openEngine(io, { model, trainable: true, ...engineOptions(flags), ...lora });
  await withEngine(opening, async (engine) => {
    const { modelHash, description } = engine.capabilities();
    const config: TrainConfig = {
      version: 1,
      command: 'train',
      task: task.name,
      taskFile,
      prompts: { ...prompts },
      model: { directory: resolve(model), hash: modelHash },
      engine: place === undefined ? 'local' : 'tinker',
      service: remote?.service() ?? null,
      kernels: description,
      kernelChanges: [],
      dtype: flags.dtype,
      lora: lora.lora ?? null,
      passTokens: flags.passTokens ?? null,
      context: flags.context ?? null,
      sampling: playerOptions(flags, contextLength),
      ...data,
      audited: flags.audit,
      sources: data.problems === null ? withoutMining(sources) : sources,
      train: trainOptions,
    };
    const playerOn = (on: Engine): Player =>
      makePlayer(on, textFolder(model, io.env), task, prompts, config.sampling);
    const progress = cliProgress(io);
    const stopping = stoppable(engine, io.stopSignal(), 'stopped before training began; nothing was kept');
    const audited = await prepare(config, playerOn(stopping), progress);
    await withRun(createRun(directory, config), async (run) => {
      await begin(run, audited, engine, config.train);
      await finish(run, playerOn(engine), audited, config, progress, flags, io);
    });
  });
}

async function resumeRun(directory: string, flags: TrainFlags, io: Io): Promise<void> {
  // A run that is not r3 train's is refused before anything is written into it.
  parseTrainConfig(readRun(directory).config, directory);
  await withRun(openRun(directory), async (run) => {
    const started = parseTrainConfig(run.config, directory);
    const { dtype, lora, passTokens, context, train: options } = started;
    const { task, prompts } = await findRecordedTask(started, directory, io.env);
    const { service } = started;
    if (service === null && flags.url !== undefined)
      throw usageError('--url: expected a run on a service, got one on the embedded engine');
    const model = service === null ? findModel(started.model.directory, io.env) : started.model.directory;
    const opening =
      service === null
        ? openEngine(io, {
            model,
            trainable: true,
            ...engineOptions({ ...flags, dtype, ...(context === null ? {} : { context }) }),
            ...(lora === null ? {} : { lora }),
            ...(passTokens === null ? {} : { passTokens }),
            seed: options.seed,
          })
        : resumeService(service, started, flags, io);
    await withEngine(opening, async (engine) => {
      const { modelHash } = engine.capabilities();
      if (modelHash !== started.model.hash) {
        throw new R3Error(
          'store',
          'mismatch',
          `${model}: expected the model that ${directory} began with (${started.model.hash}), got another (${modelHash})`,
        );
      }
      const config = onTheseKernels(run, started, engine, flags.acceptKernels === true);
      const playerOn = (on: Engine): Player =>
        makePlayer(on, textFolder(model, io.env), task, prompts, config.sampling);
      const progress = cliProgress(io);
      const { checkpoint, damaged } = run.resume();
      for (const line of damaged) progress.log(`left out: ${line}`);
      let material: Material<Problem>;
      if (checkpoint === null) {
        const message = `stopped before training began; to start over: r3 train --resume ${directory}`;
        const stopping = stoppable(engine, io.stopSignal(), message);
        const audited = await prepare(config, playerOn(stopping), progress);
        material = audited;
        await begin(run, audited, engine, config.train);
      } else {
        const { source, ahead } = checkpoint.state as LoopState;
        const by = { task, prompts, options: config.sampling };
        const all = usesFailures(config.train)
          ? loadFailures(join(directory, 'failures.jsonl'), by, engine.capabilities())
          : [];
        const failures = all.filter((failure) => (failure.minedAt ?? 0) === source.minedAt);
        material = { failures, problems: await problemsOf(config, task) };
        const replayed =
          ahead === undefined || ahead.steps.length === 0
            ? ''
            : `; the episodes of ${ahead.steps.length} steps were sampled before the stop and are trained on as they are`;
        progress.log(`resuming ${directory} at step ${checkpoint.step} of ${config.train.steps}${replayed}`);
      }
      await finish(run, playerOn(engine), material, config, progress, flags, io);
    });
  });
}

/** The service that a run was on, at the address that it has now. */
function resumeService(
  { url, baseModel, rank }: NonNullable<TrainConfig['service']>,
  { model, context, train: options }: TrainConfig,
  flags: TrainFlags,
  io: Io,
): Promise<TinkerEngine> {
  const at = { url: flags.url ?? url, tokenizer: model.directory, ...(context === null ? {} : { context }) };
  const place = settleTinker(baseModel, at, io.env);
  return openTinker(io, place, remoteLora({ ...(rank === null ? {} : { lora: rank }), seed: options.seed }));
}

/** Other kernels round differently: a run goes on with the ones that it had, or says in its folder that it did not. */
function onTheseKernels(run: Run, config: TrainConfig, engine: Engine, accept: boolean): TrainConfig {
  const { description } = engine.capabilities();
  const used = kernelsOf(config);
  if (sameKernels(used, description)) return config;
  if (!accept) {
    const [build] = used.split(' ');
    const elsewhere = description.startsWith(`${build} `)
      ? 'Resume on a CPU that has them'
      : `Set R3_KERNELS=${build}`;
    throw new R3Error(
      'store',
      'mismatch',
      `${run.directory}: expected the kernels that the run was trained with (${used}), got ${description}, whose results are not the same bytes. ${elsewhere}, or go on with these and --accept-kernels, which config.json will say.`,
    );
  }
  const changed = withKernels(config, run.latestCheckpoint().checkpoint?.step ?? 0, description);
  run.writeConfig(changed);
  return changed;
}

/** Closes the run whatever happens. Where the error can be mended, says how to go on. */
async function withRun(run: Run, work: (run: Run) => Promise<void>): Promise<void> {
  try {
    await work(run);
  } catch (error) {
    const kept = (): string => {
      const { checkpoint } = run.latestCheckpoint();
      return checkpoint === null
        ? 'The run has no checkpoint yet and will start over'
        : `The run is kept up to step ${checkpoint.step}`;
    };
    throw withWayOn(error, kept, `r3 train --resume ${run.directory}`);
  } finally {
    run.close();
  }
}

/** What training begins from. */
interface Audited extends Material<Problem> {
  /** What was checked; empty where the audit was left out. */
  checks: readonly AuditCheck[];
}

/** Failures, and an audit that they passed: no weight moves before. */
async function prepare(config: TrainConfig, player: Player, progress: Progress): Promise<Audited> {
  try {
    const problems = await problemsOf(config, player.task);
    const mined = await collectFailures(config, problems, player, progress);
    const { failures } = mined;
    requireEnough({ failures, problems }, config.train);
    if (config.audited && failures.length === 0) {
      throw new R3Error(
        'task',
        'bad-task',
        `the audit before training: expected at least one failed attempt to look at, got none of ${mined.attempts}; give other problems, or keep more failures (--keep-failures any)`,
      );
    }
    if (!config.audited) return { failures, problems, checks: [] };
    progress.phase('audit');
    const checks = await auditOf(player, mined, config);
    requireAudit(checks);
    for (const { name, detail } of checks.filter(({ state }) => state === 'warning'))
      progress.log(`audit: warning, ${name}: ${detail}`);
    return { failures, problems, checks };
  } finally {
    progress.end();
  }
}

/** The problems that a run attempts; none where its failures are frozen and came from a file. */
async function problemsOf({ problems }: TrainConfig, task: Task): Promise<Problem[]> {
  return problems === null ? [] : loadTaskProblems(task, problems.file, problems.limit ?? undefined);
}

/** The failures in the run's folder, and a checkpoint that holds them: from here on a kill loses at most some steps. */
async function begin(
  run: Run,
  { failures, checks }: Audited,
  engine: Engine,
  options: TrainOptions,
): Promise<void> {
  for (const line of auditLines(checks)) run.log(`audit: ${line}`);
  if (checks.length === 0) run.log('audit: left out (--no-audit); nothing was checked before training');
  if (usesFailures(options)) run.appendFailures(failures);
  await saveCheckpoint(run, engine, 0);
}

/** Most problems that are attempted for the audit alone. */
const AUDIT_PROBLEMS = 256;

interface CollectedFailures extends Mined<Failure['problem']> {
  /** Whether passes and attempts were counted: a file of failures does not say. */
  counted: boolean;
}

async function collectFailures(
  { failures: file, audited, train: options }: TrainConfig,
  problems: readonly Problem[],
  player: Player,
  progress: Progress,
): Promise<CollectedFailures> {
  if (file !== null) {
    // Whenever they were mined: here they are what training begins from.
    const failures = loadFailures(file, player, player.engine.capabilities());
    if (failures.some(({ prompts }) => prompts === undefined))
      progress.log(
        `${file}: does not say which prompts its failures were mined with; they are taken as they are`,
      );
    for (const failure of failures) delete failure.minedAt;
    return { failures, attempts: 0, passed: 0, unscored: 0, error: null, leftOut: [], counted: false };
  }
  // Where failures are only looked at by the audit, some do.
  const needed = usesFailures(options) ? problems : problems.slice(0, audited ? AUDIT_PROBLEMS : 0);
  if (needed.length > 0) progress.phase('mine failures', needed.length);
  const mined = await mine(player, needed, {
    ...options.mining,
    seed: options.seed,
    onProgress: (done, failures) => progress.update(done, { failures }),
  });
  for (const line of leftOutLines(mined)) progress.log(line);
  progress.end();
  explainFew(mined, options);
  return { ...mined, counted: true };
}

/** Throws R3Error where mining says better than their number why there are too few failures. */
function explainFew(
  { failures, attempts, passed, unscored, error }: Mined<Problem>,
  options: TrainOptions,
): void {
  if (!usesFailures(options) || failures.length >= options.failuresPerStep) return;
  if (unscored > 0 && unscored * 2 >= attempts) {
    throw new R3Error(
      'task',
      'bad-task',
      `the verifier: expected a verdict on every attempt, got none on ${unscored} of ${attempts}: ${error}`,
    );
  }
  if (passed === attempts) {
    throw new R3Error(
      'task',
      'bad-task',
      `failures: expected attempts that fail, got none among ${attempts}: the model passes all of them; give harder problems`,
    );
  }
}

async function auditOf(
  player: Player,
  mined: CollectedFailures,
  config: TrainConfig,
): ReturnType<typeof audit> {
  const checks = await audit(player, mined, config.train, config.engine === 'tinker' ? REMOTE_TOLERANCE : 0);
  return mined.counted ? checks : checks.filter(({ name }) => name !== 'start rate');
}

/** Trains to the end or to a stop, and leaves model and report. */
async function finish(
  run: Run,
  player: Player,
  material: Material<Problem>,
  config: TrainConfig,
  progress: Progress,
  { json, tensorboard }: TrainFlags,
  io: Io,
): Promise<void> {
  const { directory } = run;
  const { steps } = config.train;
  const signal = watchedStop(io, progress, 'stopping after this step');
  run.log(`${player.engine.capabilities().description}, ${material.failures.length} failures`);
  const events = tensorboard === true ? openTensorboard(join(directory, 'tensorboard')) : undefined;
  let done: number;
  try {
    progress.phase('train', steps, run.latestCheckpoint().checkpoint?.step ?? 0);
    done = await train(run, player, material, config.train, {
      signal,
      onStep: (report) => {
        events?.append(report.step, report.metrics, Date.now() / 1000);
        progress.update(report.step + 1, stepFields(report));
      },
    });
  } finally {
    events?.close();
    progress.end();
  }
  const stopped = done < steps;
  const model = stopped ? null : join(directory, 'model');
  if (model === null) {
    io.note(
      `stopped after step ${done} of ${steps}, everything is saved; go on with: r3 train --resume ${directory}`,
    );
    io.exitCode = INTERRUPTED;
  } else if (!existsSync(model)) await player.engine.save(model);
  // Last: a report can be written again.
  const report = await writeRunReport(directory);
  for (const warning of warningsOfRun(readRun(directory))) io.note(`warning: ${warning}`);
  if (json === true) {
    const metrics = readRun(directory).metrics.at(-1) ?? null;
    printJson(io, { run: directory, stopped, steps: done, of: steps, metrics, model, report });
  } else if (model !== null) {
    printLine(io, `run     ${directory}`);
    printLine(io, `model   ${model}`);
    printLine(io, `report  ${report}`);
  }
}
