/**
 * `r3 eval`: first and second tries of a model on held-out problems, beside the controls, sampled and greedy.
 *
 * The model is a folder on the embedded engine, or a name on a server of chat completions (`eval-server.ts`).
 * Leaves a folder with everything that was written and a summary. With --against both models are measured on the same
 * problems with the same draws, and reflections by each are read by each: that tells better writing from better
 * reading. Ctrl-C ends the evaluation; `--resume` goes on with it, to the same bytes.
 */
import { join, resolve } from 'node:path';
import type { Command } from 'commander';
import type { Engine } from '../engine/engine.ts';
import { stoppable } from '../engine/stoppable.ts';
import type { TinkerEngine } from '../engine/tinker/tinker-engine.ts';
import {
  commonestBeginning,
  klToStart,
  measureOnce,
  measureTogether,
  type Evaluation,
  type MeasureOptions,
  type RowLog,
  type Watcher,
} from '../evaluate.ts';
import { R3Error } from '../lib/errors.ts';
import { CONTROLS, FIXED_TEXT } from '../method/controls.ts';
import type { Problem } from '../method/episode.ts';
import { summariseEvaluation, type EvaluationFile } from '../method/evaluation-summary.ts';
import type { ChatClient } from '../engine/openai/client.ts';
import { makePlayer, type Actor, type Player } from '../player.ts';
import { readRun } from '../runs/run.ts';
import { createEvaluation, openEvaluation, type EvaluationFolder } from '../runs/evaluation.ts';
import { evaluationTables } from '../runs/evaluation-tables.ts';
import type { Conversation } from '../text/chat.ts';
import {
  contentOf,
  hashProblems,
  parseControls,
  parseEvaluationConfig,
  parseSeeds,
  type EvaluationConfig,
} from './eval-config.ts';
import { printJson, type Io } from './io.ts';
import {
  addEngineOptions,
  addExamples,
  addPlayerOptions,
  givenOptions,
  integer,
  usageError,
  type EngineFlags,
  type PlayerFlags,
} from './options.ts';
import { measuresOwnModel, settingsOf, type RunSettings } from './eval-run.ts';
import {
  addServerOptions,
  chatPlayerAt,
  connect,
  demandOf,
  giveDemand,
  refuseOptions,
  serverUrl,
  stoppableClient,
  tryServer,
  type ServerFlags,
} from './eval-server.ts';
import { giveTables } from './results.ts';
import {
  engineOptions,
  findModel,
  findRecordedTask,
  loadTaskProblems,
  nextFolder,
  openEngine,
  playerOptions,
  promptsOption,
  taskOption,
  textFolder,
} from './session.ts';
import { sameKernels } from './train-config.ts';
import { addTokenizerOption, openTinker, settleTinker, type TinkerFlags } from './tinker.ts';
import { cliProgress, watchedStop } from './watch.ts';
import { withWayOn } from './way-on.ts';

/** Where evaluations go that no run is named for. */
const EVALUATIONS = 'evaluations';
/** What may be given beside --resume: nothing that changes a row. */
const BESIDE_RESUME = [
  '--resume',
  '--threads',
  '--api-key-env',
  '--concurrency',
  '--timeout',
  '--json',
  '--markdown',
  '--debug',
];

interface Flags extends EngineFlags, PlayerFlags, ServerFlags, TinkerFlags {
  task?: string;
  model?: string;
  against?: string;
  problems?: string;
  limit?: number;
  prompts?: string;
  fixedText: string;
  seeds: string;
  controls: string;
  out?: string;
  run?: string;
  resume?: string;
  json?: boolean;
  markdown?: boolean;
}

export function define(command: Command, io: Io): void {
  command
    .description(
      'Measures first and second tries of a model on problems, beside the controls that say what a reflection is worth.',
    )
    .addOption(taskOption().makeOptionMandatory(false))
    .option(
      '--model <dir>',
      'the model to measure: a folder in the Hugging Face layout, or the name of a downloaded model (default: the model of --run); with --engine openai or tinker its name on the server, or a checkpoint tinker://...',
    )
    .option('--against <dir>', 'the start model: adds before and after, and who gains, writer or reader')
    .option('--problems <file>', 'held-out problems, .jsonl or .parquet')
    .addOption(integer('--limit <n>', 'use the first n problems (default: all)', { min: 1 }))
    .addOption(promptsOption())
    .option('--fixed-text <text>', 'the text without content that stands in for a reflection', FIXED_TEXT)
    .option('--seed, --seeds <list>', 'seeds of sampling, with commas between', '1')
    .option(
      '--controls <list>',
      `all, none, or some of ${CONTROLS.map(({ option }) => option).join(', ')}`,
      'all',
    )
    .option('--out <dir>', `folder for rows and summary (default: ${EVALUATIONS}/<task>-NNN)`)
    .option(
      '--run <run>',
      'a training run: measures its model as it was trained (task, prompts, sampling), into RUN/evaluations/NNN; another --model the same way, kept outside the run',
    )
    .option('--resume <dir>', 'go on with an evaluation that was stopped; its options are in its folder');
  addServerOptions(
    addTokenizerOption(addEngineOptions(addPlayerOptions(command), ['local', 'openai', 'tinker'])),
  )
    .option('--json', 'the summary as one line of JSON: rates, intervals and lifts, as shares')
    .option('--markdown', 'the tables in Markdown');
  addExamples(
    command,
    `
  r3 eval --task countdown --model DIR --problems test.parquet --limit 500 --seeds 1,2,3
  r3 eval --run runs/countdown-001 --against DIR --problems test.parquet
  r3 eval --engine openai --url http://localhost:8000/v1 --model NAME --task gsm8k --problems test.jsonl --dry-run
  r3 eval --resume evaluations/countdown-001
  r3 compare evaluations/countdown-001 evaluations/countdown-002

Controls, on the same failed first tries:
${CONTROLS.map(({ option, posed }) => `  ${option.padEnd(17)}${posed}`).join('\n')}`,
  );
  command.action((flags: Flags) => run(flags, command, io));
}

async function run(flags: Flags, command: Command, io: Io): Promise<void> {
  if (flags.json === true && flags.markdown === true) {
    throw usageError('--markdown: expected one form of output, got --json beside it');
  }
  if (flags.resume === undefined) refuseOptions(flags.engine ?? 'local', command);
  const progress = cliProgress(io);
  const signal = watchedStop(io, progress, 'stopping');
  const engines: Engine[] = [];
  let client: ChatClient | undefined;
  const opened: Open = {
    engine: async (model, options) => {
      const engine = await openEngine(io, { model, trainable: false, ...engineOptions(options) });
      engines.push(engine);
      return engine;
    },
    remote: async (model, at) => {
      const place = settleTinker(model, at, io.env);
      const engine = await openTinker(io, place);
      engines.push(engine);
      return { engine, texts: place.texts };
    },
    client: (url, model) => (client = connect({ url, model }, flags, signal, progress, io)),
  };
  let folder: EvaluationFolder | undefined;
  try {
    let config: EvaluationConfig;
    let problems: Problem[];
    if (flags.resume === undefined) {
      const settled = await settle(flags, givenOptions(command), io.env);
      if (flags.dryRun === true) {
        await giveDryRun(settled, flags, io);
        return;
      }
      ({ config, problems } = await begin(settled, opened, io));
      const directory = flags.out ?? nextFolder(...placeOf(flags, config, io));
      folder = createEvaluation(directory, config);
    } else {
      const given = givenOptions(command).find((option) => !BESIDE_RESUME.includes(option));
      if (given !== undefined)
        throw usageError(`${given}: expected nothing that changes a result beside --resume, got ${given}`);
      folder = openEvaluation(flags.resume);
      config = parseEvaluationConfig(folder.config, folder.directory);
      refuseOptions(config.engine, command);
      problems = await goOn(config, folder, flags, opened, io);
    }
    const { directory } = folder;
    const again = `the rows so far are in ${directory}, go on with: r3 eval --resume ${directory}`;
    const stopped = `stopped; ${again}`;
    const { task, prompts } = await findRecordedTask(config, directory, io.env);
    let summary: EvaluationFile;
    if (client === undefined) {
      const playerOf =
        (engine: Engine | undefined, model: string) =>
        (temperature: number): Player => {
          if (engine === undefined) throw new Error('internal error: expected an engine');
          const sampling = { ...config.sampling, temperature };
          const texts = config.texts ?? textFolder(model, io.env);
          return makePlayer(stoppable(engine, signal, stopped), texts, task, prompts, sampling);
        };
      const players = {
        model: playerOf(engines[0], config.model.directory),
        start: config.start === null ? null : playerOf(engines[1], config.start.directory),
      };
      summary = await measureAll(config, folder, players, problems, progress);
    } else {
      const playerAt = chatPlayerAt(stoppableClient(client, stopped), task, prompts, config.sampling);
      try {
        summary = await measureServed(config, folder, playerAt, problems, progress);
      } catch (error) {
        if (error instanceof R3Error && error.boundary === 'engine' && error.code !== 'cancelled')
          progress.log(again);
        throw error;
      }
      const { calls, resent, promptTokens, completionTokens } = client.stats();
      progress.log(
        `${calls} requests, ${resent} sent again; ${promptTokens} prompt tokens, ${completionTokens} sampled`,
      );
    }
    folder.writeSummary(summary);
    progress.end();
    give(summary, directory, flags, io);
  } catch (error) {
    if (folder === undefined) throw error;
    throw withWayOn(error, () => 'The other rows are kept', `r3 eval --resume ${folder.directory}`);
  } finally {
    progress.end();
    folder?.close();
    client?.close();
    for (const engine of engines) await engine.close();
  }
}

/** The folder in which a new one is numbered, and what stands before its number: in a run are evaluations of its model. */
function placeOf(
  { run: trained }: Flags,
  config: EvaluationConfig,
  io: Io,
): [parent: string, prefix: string] {
  if (trained !== undefined && measuresOwnModel(config, trained)) return [join(trained, EVALUATIONS), ''];
  if (trained !== undefined)
    io.note(
      `${config.model.directory} is not the model of ${trained}, so its evaluation is kept outside the run`,
    );
  return [EVALUATIONS, `${config.task}-`];
}

/** Opens what is measured; what was opened is closed in the end. */
interface Open {
  engine(model: string, options: EngineFlags): Promise<Engine>;
  /** A model on a Tinker-compatible service, and the folder of its texts. */
  remote(model: string, at: TinkerFlags): Promise<{ engine: TinkerEngine; texts: string }>;
  client(url: string, model: string): ChatClient;
}

/** What is settled of a new evaluation before anything is opened. */
interface Settled {
  settings: RunSettings<Flags>;
  /** As it was named. */
  model: string;
  file: string;
  problems: Problem[];
  seeds: EvaluationConfig['seeds'];
  controls: EvaluationConfig['controls'];
}

async function settle(asked: Flags, given: readonly string[], env: Io['env']): Promise<Settled> {
  const isLocal = asked.engine !== 'openai';
  const ownModel = isLocal && asked.run !== undefined ? join(asked.run, 'model') : undefined;
  const required = {
    task: asked.task ?? asked.run,
    problems: asked.problems,
    model: asked.model ?? ownModel,
  };
  for (const [name, value] of Object.entries(required)) {
    if (value === undefined)
      throw usageError(`--${name}: expected it, or --resume with an evaluation, got neither`);
  }
  const { problems: file = '', model = '' } = required;
  const seeds = parseSeeds(asked.seeds);
  const controls = parseControls(asked.controls, asked.against !== undefined);
  const settings = await settingsOf(asked, given, env);
  const problems = await loadTaskProblems(settings.found.task, file, settings.flags.limit);
  return { settings, model, file, problems, seeds, controls };
}

/** What is measured, as config.json has it. */
interface Measured extends Pick<
  EvaluationConfig,
  'engine' | 'url' | 'texts' | 'model' | 'start' | 'dtype' | 'context' | 'kernels'
> {
  contextLength: number;
}

async function openLocal(
  { settings: { flags }, model: modelName }: Settled,
  open: Open,
  env: Io['env'],
): Promise<Measured> {
  const models: EvaluationConfig['model'][] = [];
  let kernels = '';
  let contextLength = Number.POSITIVE_INFINITY;
  for (const name of [modelName, ...(flags.against === undefined ? [] : [flags.against])]) {
    const directory = findModel(name, env);
    const capabilities = (await open.engine(directory, flags)).capabilities();
    models.push({ directory: resolve(directory), hash: capabilities.modelHash });
    kernels = capabilities.description;
    contextLength = Math.min(contextLength, capabilities.contextLength);
  }
  const [model, start = null] = models;
  if (model === undefined) throw new Error('internal error: expected a model');
  const { dtype, context = null } = flags;
  return { engine: 'local', url: null, texts: null, model, start, dtype, context, kernels, contextLength };
}

async function openRemote({ settings: { flags }, model: modelName }: Settled, open: Open): Promise<Measured> {
  const models: EvaluationConfig['model'][] = [];
  let kernels = '';
  let contextLength = Number.POSITIVE_INFINITY;
  let texts = '';
  let url = '';
  for (const name of [modelName, ...(flags.against === undefined ? [] : [flags.against])]) {
    // Both models speak the texts of the one that is measured.
    const at = models.length === 0 ? flags : { ...flags, tokenizer: texts };
    const opened = await open.remote(name, at);
    const capabilities = opened.engine.capabilities();
    models.push({ directory: name, hash: capabilities.modelHash });
    ({ texts } = opened);
    ({ url } = opened.engine.service());
    kernels = capabilities.description;
    contextLength = Math.min(contextLength, capabilities.contextLength);
  }
  const [model, start = null] = models;
  if (model === undefined) throw new Error('internal error: expected a model');
  const context = flags.context ?? null;
  return { engine: 'tinker', url, texts, model, start, dtype: null, context, kernels, contextLength };
}

async function openServed(
  { settings: { flags, found }, model, problems }: Settled,
  open: Open,
): Promise<Measured> {
  const url = serverUrl(flags);
  const client = open.client(url, model);
  const { contextLength } = await tryServer(client, found.task, found.prompts, problems[0]);
  const named = { directory: model, hash: null };
  const kernels = `a server of chat completions, ${url}`;
  const none = { start: null, texts: null, dtype: null, context: null };
  return { engine: 'openai', url, model: named, ...none, kernels, contextLength };
}

/** A new evaluation: its configuration, from what is settled and what the engines say. */
async function begin(
  settled: Settled,
  open: Open,
  io: Io,
): Promise<{ config: EvaluationConfig; problems: Problem[] }> {
  const { settings, file, problems, seeds, controls } = settled;
  const { found, flags } = settings;
  const taken = flags.engine === 'openai' ? withoutContext(settings.run) : settings.run;
  const { contextLength, ...measured } =
    flags.engine === 'openai'
      ? await openServed(settled, open)
      : flags.engine === 'tinker'
        ? await openRemote(settled, open)
        : await openLocal(settled, open, io.env);
  const config: EvaluationConfig = {
    version: 1,
    command: 'eval',
    task: found.task.name,
    taskFile: found.file,
    prompts: { ...found.prompts },
    ...measured,
    problems: {
      file: resolve(file),
      limit: flags.limit ?? null,
      count: problems.length,
      hash: hashProblems(problems),
      trained: taken === null ? 0 : countTrained(problems, taken.directory),
    },
    sampling: playerOptions(flags, contextLength),
    seeds,
    controls,
    fixedText: flags.fixedText,
    run: taken === null ? null : { ...taken, directory: resolve(taken.directory) },
  };
  if (taken !== null) io.note(takenNote(taken.options, config));
  return { config, problems };
}

/** How many of the problems a run has episodes of, by what they ask: another file may have the same ids. */
export function countTrained(problems: readonly Problem[], directory: string): number {
  const trained = new Set<string>();
  for (const { problem } of readRun(directory).episodes()) trained.add(contentOf(problem));
  return problems.filter((problem) => trained.has(contentOf(problem))).length;
}

/** A server has its own context. */
function withoutContext(taken: RunSettings<Flags>['run']): RunSettings<Flags>['run'] {
  return taken && { ...taken, options: taken.options.filter((name) => name !== 'context') };
}

async function giveDryRun(
  { settings, problems, seeds, controls }: Settled,
  flags: Flags,
  io: Io,
): Promise<void> {
  serverUrl(flags);
  const { found, flags: settled } = settings;
  const sampling = playerOptions(settled, Number.POSITIVE_INFINITY);
  const { fixedText } = flags;
  const demand = await demandOf(found.task, found.prompts, problems, {
    sampling,
    seeds,
    controls,
    fixedText,
  });
  giveDemand(demand, { problems: problems.length, seeds, controls }, flags.json === true, io);
}

/** What of its options an evaluation has from the run, with their values. */
function takenNote(
  options: readonly string[],
  { task, prompts, sampling, context }: EvaluationConfig,
): string {
  const values: Record<string, unknown> = { ...sampling, task, prompts: prompts.name, context };
  const texts = options.map((name) => `${name} ${String(values[name])}`);
  return `from the run: ${texts.length === 0 ? 'nothing but its place' : texts.join(', ')}`;
}

/** Opens what an evaluation began with, and throws R3Error `mismatch` where it has changed. */
async function goOn(
  config: EvaluationConfig,
  { directory }: EvaluationFolder,
  flags: Flags,
  open: Open,
  io: Io,
): Promise<Problem[]> {
  const refuse = (what: string, expected: string, got: string): never => {
    throw new R3Error(
      'store',
      'mismatch',
      `${what}: expected ${expected}, which ${directory} began with, got ${got}; evaluate anew`,
    );
  };
  const { task } = await findRecordedTask(config, directory, io.env);
  const { file, limit, hash } = config.problems;
  const problems = await loadTaskProblems(task, file, limit ?? undefined);
  if (hashProblems(problems) !== hash) refuse(file, 'the problems', 'others');
  if (config.engine === 'openai' && config.url !== null) {
    await open.client(config.url, config.model.directory).describe();
    return problems;
  }
  for (const model of config.start === null ? [config.model] : [config.model, config.start]) {
    const { context } = config;
    const { threads } = flags;
    const within = context === null ? {} : { context };
    const engine =
      config.engine === 'tinker' && config.url !== null && config.texts !== null
        ? (await open.remote(model.directory, { url: config.url, tokenizer: config.texts, ...within })).engine
        : await open.engine(findModel(model.directory, io.env), {
            dtype: config.dtype ?? flags.dtype,
            ...(threads === undefined ? {} : { threads }),
            ...within,
          });
    const { modelHash, description } = engine.capabilities();
    if (modelHash !== model.hash) refuse(model.directory, `the weights ${model.hash}`, modelHash);
    if (!sameKernels(description, config.kernels)) refuse('kernels', config.kernels, description);
  }
  return problems;
}

export interface Players {
  model: (temperature: number) => Player;
  start: ((temperature: number) => Player) | null;
}

/**
 * Both models at the temperature with each seed and once greedy, then what only the two together can tell. Rows that
 * the folder holds already are not made again.
 */
export async function measureAll(
  config: EvaluationConfig,
  folder: EvaluationFolder,
  players: Players,
  problems: readonly Problem[],
  progress: Watcher,
): Promise<EvaluationFile> {
  const measure = (
    which: Which,
    name: string,
    playerAt: (temperature: number) => Player,
  ): Promise<MeasuredSeeds<Player>> =>
    measureModel(config, folder, { which, name, playerAt }, problems, progress);
  const after = await measure('model', 'the model', players.model);
  const kl: number[] = [];
  const forcedBeginning: string[] = [];
  if (players.start !== null) {
    const before = await measure('start', 'the start model', players.start);
    for (const [i, seed] of config.seeds.entries()) {
      const [trained, start] = [after.sampled[i], before.sampled[i]];
      if (trained === undefined || start === undefined) continue;
      // Greedy tries are kept once, with the first seed.
      const both = i === 0 ? { sampled: start, greedy: before.greedy } : { sampled: start };
      await measureTogether(both, { sampled: trained }, seed, progress, config.controls);
      kl.push(await klToStart(trained, start.player, progress));
      const beginning = commonestBeginning(trained.failed.map(({ reflection }) => reflection));
      forcedBeginning.push(start.player.tokenizer.decode(beginning));
    }
  }
  return summarise(config, folder, { kl, forcedBeginning }, progress);
}

/** The same of a model behind a server, alone. */
export async function measureServed<C>(
  config: EvaluationConfig,
  folder: EvaluationFolder,
  playerAt: (temperature: number) => Actor<Problem, C>,
  problems: readonly Problem[],
  progress: Watcher,
): Promise<EvaluationFile> {
  const model = { which: 'model', name: 'the model', playerAt } as const;
  await measureModel(config, folder, model, problems, progress);
  return summarise(config, folder, { kl: [], forcedBeginning: [] }, progress);
}

type Which = 'model' | 'start';

interface MeasuredSeeds<A, C = Conversation> {
  sampled: Evaluation<Problem, A, C>[];
  greedy: Evaluation<Problem, A, C>;
}

async function measureModel<A, C>(
  { seeds, controls, fixedText, sampling: { temperature } }: EvaluationConfig,
  folder: EvaluationFolder,
  { which, name, playerAt }: { which: Which; name: string; playerAt: (t: number) => A & Actor<Problem, C> },
  problems: readonly Problem[],
  progress: Watcher,
): Promise<MeasuredSeeds<A, C>> {
  const measure = (phase: string, at: number, seed: number): Promise<Evaluation<Problem, A, C>> => {
    const logAt: MeasureOptions['logAt'] = (t) => logOf(folder, { model: which, seed, temperature: t });
    const options = { seed, fixedText, controls, logAt };
    return measureOnce<Problem, A, C>(phase, playerAt(at), problems, options, progress);
  };
  const sampled: Evaluation<Problem, A, C>[] = [];
  for (const seed of seeds) {
    const phase = `measure ${name}${seeds.length === 1 ? '' : `, seed ${seed}`}`;
    sampled.push(await measure(phase, temperature, seed));
  }
  // Sampling without chance is the same for every seed.
  return { sampled, greedy: await measure(`measure ${name}, greedy`, 0, seeds[0] ?? 0) };
}

function summarise(
  { task, prompts, model, start, kernels, seeds, controls, sampling, problems }: EvaluationConfig,
  folder: EvaluationFolder,
  compared: { kl: number[]; forcedBeginning: string[] },
  progress: Watcher,
): EvaluationFile {
  progress.phase('summarise');
  const facts = { task, prompts: prompts.name, n: problems.count, temperature: sampling.temperature };
  return summariseEvaluation(
    { ...facts, trained: problems.trained, seeds, controls, kernels, model, start, ...compared },
    folder.partsOf,
  );
}

/** The rows of one measurement in a folder. */
function logOf(folder: EvaluationFolder, key: Parameters<EvaluationFolder['partsOf']>[0]): RowLog {
  return {
    kept: (part) => folder.partsOf(key)[part],
    keep: (part, row) => folder.keep(part, key, row),
  };
}

function give(summary: EvaluationFile, directory: string, flags: Flags, io: Io): void {
  for (const warning of summary.warnings) io.note(`warning: ${warning}`);
  if (flags.json === true) {
    printJson(io, { directory, ...summary });
    return;
  }
  const seeds = `seed${summary.seeds.length === 1 ? '' : 's'} ${summary.seeds.join(', ')}`;
  const lines = [
    `${summary.n} problems, temperature ${summary.temperature} and greedy, ${seeds}, 95% intervals`,
    `Rows and summary: ${directory}`,
  ];
  giveTables(lines, evaluationTables(summary), flags.markdown === true, io);
}
