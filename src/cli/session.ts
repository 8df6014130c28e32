/**
 * From flags to the things that commands work with: a task and its prompts, an engine, a model's player.
 *
 * The only reader of R3_KERNELS. Anything that a person can mistype is a usage error here, before a model is loaded.
 */
import { existsSync, readdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { TASKS } from '../tasks/all.ts';
import { loadTask, TASK_ENDINGS, type TaskFile } from '../tasks/load-task.ts';
import { loadProblems } from '../tasks/rows.ts';
import type { Engine } from '../engine/engine.ts';
import { isAdapterFolder, loadAdapterConfig } from '../engine/local/adapter-files.ts';
import type { LoraOptions } from '../engine/local/lora.ts';
import { loadModelConfig, originalContext, withContext, type ModelConfig } from '../engine/local/config.ts';
import { configFolder } from '../engine/local/directory.ts';
import { openLocalEngine, type LocalEngineOptions } from '../engine/local/local-engine.ts';
import { findSnapshot, repositoryOf } from '../hub/cache.ts';
import { missingFiles } from '../hub/model-files.ts';
import { tryModelName } from '../hub/name.ts';
import { hubCache } from '../hub/settings.ts';
import type { KernelBuild } from '../kernels/load.ts';
import { closest } from '../lib/closest.ts';
import { messageOf, R3Error } from '../lib/errors.ts';
import type { Problem } from '../method/episode.ts';
import type { Prompts, Task } from '../method/task.ts';
import type { PlayerOptions } from '../player.ts';
import { checkNewRun } from '../runs/run.ts';
import type { Io } from './io.ts';
import { loraOf, orList, usageError, type EngineFlags, type LoraFlags, type PlayerFlags } from './options.ts';
import { Option } from 'commander';

const KERNELS = ['native', 'wasm', 'reference'] as const satisfies readonly KernelBuild[];
const RUNS = 'runs';
/** Room for the conversation: prompts, attempt, reflection and retry share the context. */
const CONTEXT_SHARE = 4;
const LONGEST_TURN = 512;

/** For help: what names a task. */
export const TASK_FORMS = `${TASKS.map(({ name }) => name).join(', ')}, or the path of a task file (.ts, .mts, .js, .mjs, .json)`;

export function taskOption(): Option {
  return new Option('--task <task>', `the task: ${TASK_FORMS}`).makeOptionMandatory();
}

export function promptsOption(): Option {
  return new Option('--prompts <set>', "the texts around a problem (default: the task's first set)");
}

/** A task and its prompts, and the file that it came from, where it did not come with r3. */
export interface FoundTask {
  task: Task;
  prompts: Prompts;
  file: TaskFile | null;
}

/**
 * The task of this name, or of this file, and its prompts. Throws a usage error for a name that does not exist, and as
 * `loadTask` for a file. `env`: as `loadTask` has it.
 */
export async function findTask(
  name: string,
  env: Io['env'] | undefined,
  promptSet?: string,
): Promise<FoundTask> {
  const builtIn = TASKS.find((known) => known.name === name);
  if (builtIn === undefined && !TASK_ENDINGS.some((ending) => name.endsWith(ending))) {
    const near = closest(
      name,
      TASKS.map((known) => known.name),
    );
    throw usageError(
      `task: expected ${orList(taskForms())}, got ${JSON.stringify(name)}${near === undefined ? '' : `; did you mean ${near}?`}`,
    );
  }
  const { task, file } = builtIn === undefined ? await loadTask(name, env) : { task: builtIn, file: null };
  const set = promptSet ?? task.promptSets[0];
  if (set === undefined || !task.promptSets.includes(set)) {
    throw usageError(
      `--prompts: expected ${orList(task.promptSets)}, which the task ${task.name} has, got ${JSON.stringify(set)}`,
    );
  }
  return { task, prompts: task.prompts(set), file };
}

/** What a run's configuration says of its task. */
export interface RecordedTask {
  task: string;
  prompts: { name: string };
  taskFile?: TaskFile | null;
}

/**
 * The task that a run was made with. Throws R3Error `mismatch` where its file is not what it was: numbers and episodes
 * of a run belong to one verifier. `env`: as `loadTask` has it; needed only to judge.
 */
export async function findRecordedTask(
  { task: name, prompts, taskFile = null }: RecordedTask,
  directory: string,
  env?: Io['env'],
): Promise<FoundTask> {
  if (taskFile === null) return findTask(name, env, prompts.name);
  const found = await findTask(taskFile.path, env, prompts.name);
  if (found.file?.sha256 === taskFile.sha256) return found;
  throw new R3Error(
    'store',
    'mismatch',
    `${directory}: expected the task ${name} as it was when the run began, got a changed ${taskFile.path}; put its files back, or begin a new run`,
  );
}

function taskForms(): string[] {
  return [...TASKS.map((known) => known.name), `a file that ends in ${orList(TASK_ENDINGS)}`];
}

export function loadTaskProblems(task: Task, path: string, limit: number | undefined): Promise<Problem[]> {
  return loadProblems(task, path, limit === undefined ? {} : { limit });
}

/** The kernel build that the environment asks for; undefined leaves the choice to the loader. */
export function kernelBuild(env: Io['env']): KernelBuild | undefined {
  const value = env['R3_KERNELS'];
  if (value === undefined || value === '') return undefined;
  const build = KERNELS.find((known) => known === value);
  if (build !== undefined) return build;
  throw usageError(`R3_KERNELS: expected ${orList(KERNELS)}, got ${JSON.stringify(value)}`);
}

/** How the engine is opened, from the flags that ask for it. */
export function engineOptions({
  dtype,
  threads,
  context,
}: EngineFlags): Pick<LocalEngineOptions, 'dtype' | 'threads' | 'contextLength'> {
  return {
    dtype,
    ...(threads === undefined ? {} : { threads }),
    ...(context === undefined ? {} : { contextLength: context }),
  };
}

/** The adapter that training is to make, from the flags that ask for it. */
export function loraOptions(
  flags: LoraFlags & { seed?: number },
): Pick<LocalEngineOptions, 'lora' | 'seed' | 'passTokens'> {
  const lora = loraOf(flags);
  const { seed = 0, passTokens } = flags;
  return {
    seed,
    ...(passTokens === undefined ? {} : { passTokens }),
    ...(lora === undefined ? {} : { lora }),
  };
}

/** The adapter that a model folder holds, where it is one. */
export function adapterOf(directory: string): LoraOptions | undefined {
  return isAdapterFolder(directory) ? loadAdapterConfig(directory).options : undefined;
}

/** What the engine will compute of a model, before it is opened. */
export function modelConfig(directory: string, env: Io['env'], context?: number): ModelConfig {
  return withContext(wholeConfig(directory, env), context);
}

/** A model's config with the longest context that it was made for. */
export function wholeConfig(directory: string, env: Io['env']): ModelConfig {
  checkModel(directory);
  return loadModelConfig(configFolder(directory, baseOf(directory, env))).config;
}

/** The folder with a model's tokenizer and chat template: of PEFT's bare adapter folders, that of the base model. */
export function textFolder(directory: string, env: Io['env']): string {
  const isWhole = !isAdapterFolder(directory) || existsSync(join(directory, 'config.json'));
  return isWhole ? directory : configFolder(directory, baseOf(directory, env));
}

/**
 * The engines that sequences of these lengths need: one, but two for a LongRoPE model where some of them are longer
 * than its original context. `asked`: the context that a person asked for, for all.
 */
export function contextGroups(
  config: ModelConfig,
  lengths: readonly number[],
  asked?: number,
): { contextLength: number; members: number[] }[] {
  const all = lengths.map((_, i) => i);
  if (asked !== undefined) return [{ contextLength: asked, members: all }];
  const original = originalContext(config);
  const fits = (i: number): boolean => (lengths[i] ?? 0) <= original;
  return [all.filter(fits), all.filter((i) => !fits(i))]
    .filter((members) => members.length > 0)
    .map((members) => {
      const longest = Math.max(...members.map((i) => lengths[i] ?? 0));
      const { contextLength } = withContext(config);
      return { contextLength: Math.min(config.contextLength, Math.max(longest, contextLength)), members };
    });
}

/** The cached folder of an adapter's base model, where the adapter names it as on the hub. */
export function baseOf(directory: string, env: Io['env']): string | undefined {
  const base = isAdapterFolder(directory) ? loadAdapterConfig(directory).base : undefined;
  const name = base === undefined || existsSync(base) ? undefined : tryModelName(base);
  return name === undefined ? undefined : findSnapshot(hubCache(env), name)?.directory;
}

/** Opens a model directory with the kernels that the environment asks for. */
export function openEngine(io: Io, options: Omit<LocalEngineOptions, 'kernels'>): Promise<Engine> {
  checkModel(options.model);
  const kernels = kernelBuild(io.env);
  const base = options.base ?? baseOf(options.model, io.env);
  const baseName = repositoryOf(resolve(options.model));
  return openLocalEngine({
    ...options,
    ...(base === undefined ? {} : { base }),
    ...(baseName === undefined ? {} : { baseName }),
    ...(kernels === undefined ? {} : { kernels }),
  });
}

/**
 * The folder of the model that a person names: a folder, or `org/name[@revision]` in the cache of the Hugging Face
 * tools. Throws R3Error `bad-file`, which says how to get a model that is not there.
 */
export function findModel(name: string, env: Io['env']): string {
  const parsed = existsSync(name) ? undefined : tryModelName(name);
  const found = parsed === undefined ? undefined : findSnapshot(hubCache(env), parsed);
  if (found === undefined && parsed?.repository.includes('/') === true) {
    throw new R3Error(
      'engine',
      'bad-file',
      `${name}: expected a model folder or a model that is downloaded, got neither; check the path, or download it: r3 pull ${name}`,
    );
  }
  if (found === undefined) {
    checkModel(name);
    return name;
  }
  const [missing] = missingFiles(found.directory);
  if (missing === undefined) return found.directory;
  throw new R3Error(
    'engine',
    'bad-file',
    `${name}: expected a whole model in the cache, got one without ${missing}; download the rest: r3 pull ${name}`,
  );
}

/** What a person names that holds texts alone: a path, or the snapshot of a name in the cache. */
export function findTexts(name: string, env: Io['env']): string {
  const parsed = existsSync(name) ? undefined : tryModelName(name);
  const found = parsed === undefined ? undefined : findSnapshot(hubCache(env), parsed);
  return found === undefined ? name : textFolder(found.directory, env);
}

/** A model folder that is not one is said so before kernels are built or data is read. */
export function checkModel(directory: string): void {
  if (existsSync(join(directory, 'config.json')) || isAdapterFolder(directory)) return;
  throw new R3Error(
    'engine',
    'bad-file',
    `${directory}: expected a model folder in the Hugging Face layout, got no config.json in it; check the path`,
  );
}

/** Sampling options with the limits that depend on the model filled in. */
export function playerOptions(flags: PlayerFlags, contextLength: number): PlayerOptions {
  const limit = Math.min(LONGEST_TURN, Math.floor(contextLength / CONTEXT_SHARE));
  const { temperature, topK, topP, minP, told, dropAttempt } = flags;
  return {
    temperature,
    topK,
    topP,
    minP,
    told,
    dropAttempt,
    maxAttemptTokens: flags.maxAttemptTokens ?? limit,
    maxReflectionTokens: flags.maxReflectionTokens ?? limit,
  };
}

/** Throws where a run cannot be made, before the work that comes first: a usage error when the folder is taken. */
export function checkRunFolder(directory: string): void {
  try {
    checkNewRun(directory);
  } catch (error) {
    if (error instanceof R3Error && error.code === 'bad-file') throw usageError(`--run: ${error.message}`);
    throw error;
  }
}

/** Calls `work` with the engine and closes it whatever happens. */
export async function withEngine<T>(
  opening: Engine | Promise<Engine>,
  work: (engine: Engine) => Promise<T>,
): Promise<T> {
  const engine = await opening;
  try {
    return await work(engine);
  } finally {
    await engine.close();
  }
}

/** An error in a row of a file, with its place before it. */
export function rowError(place: string, error: unknown): R3Error {
  return new R3Error('task', 'bad-row', `${place}: ${messageOf(error)}`, { cause: error });
}

/** The first number above those taken: runs/<name>-001, -002, ... */
export function nextRun(name: string): string {
  return nextFolder(RUNS, `${name}-`);
}

/** The first number above those taken, in a folder that may not be there yet. */
export function nextFolder(parent: string, prefix: string): string {
  const taken = existsSync(parent) ? readdirSync(parent) : [];
  const numbers = taken.map((name) => (name.startsWith(prefix) ? Number(name.slice(prefix.length)) : 0));
  const next = Math.max(0, ...numbers.filter((number) => Number.isSafeInteger(number))) + 1;
  return join(parent, `${prefix}${String(next).padStart(3, '0')}`);
}
