/**
 * What an evaluation takes from the run that it is about: task, prompts, sampling and context, where the command line
 * does not give them; and whether it measured that run's model.
 *
 * A model is measured under what it was trained with. The options belong to the run's task: of another task (--task)
 * nothing is taken, and neither is `--dtype`, nor what says how training went.
 */
import { existsSync, realpathSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { z } from 'zod';
import { R3Error } from '../lib/errors.ts';
import { explainIssue } from '../lib/json.ts';
import { readRun } from '../runs/run.ts';
import type { EvaluationConfig } from './eval-config.ts';
import type { Io } from './io.ts';
import type { PlayerFlags } from './options.ts';
import { findRecordedTask, findTask, type FoundTask } from './session.ts';
import { originOf } from './tinker.ts';
import { samplingSchema } from './train-config.ts';

const schema = z.looseObject({
  command: z.string(),
  task: z.string(),
  taskFile: z.strictObject({ path: z.string(), sha256: z.string() }).nullable().default(null),
  prompts: z.looseObject({ name: z.string() }),
});
/** Of runs that `r3 train` made. The quick start samples as its own loop does. */
const sampledSchema = z.looseObject({
  sampling: samplingSchema,
  context: z.int().positive().nullable().default(null),
});

/** The options of a command line that a run can stand in for. */
export interface RunFlags extends PlayerFlags {
  run?: string;
  task?: string;
  prompts?: string;
  context?: number;
}

export interface RunSettings<F extends RunFlags> {
  found: FoundTask;
  /** With the run's values in place of those that were not given. */
  flags: F;
  /** The run, and the names of the options that were taken from it; null without a run. */
  run: { directory: string; options: string[] } | null;
}

/**
 * `given`: the options that the command line gave a value (`--temperature`). Throws R3Error `bad-file` where --run is
 * no run, `mismatch` where its task file has changed, and as `findTask`.
 */
export async function settingsOf<F extends RunFlags>(
  flags: F,
  given: readonly string[],
  env: Io['env'],
): Promise<RunSettings<F>> {
  const { run: directory, task, prompts } = flags;
  if (directory === undefined) {
    return { found: await findTask(task ?? '', env, prompts), flags, run: null };
  }
  const recorded = readSettings(directory);
  if (task !== undefined) {
    const found = await findTask(task, env, prompts);
    if (found.task.name !== recorded.task) return { found, flags, run: { directory, options: [] } };
  }
  const name = prompts ?? recorded.prompts.name;
  const found =
    task === undefined
      ? await findRecordedTask({ ...recorded, prompts: { name } }, directory, env)
      : await findTask(task, env, name);
  const values = Object.entries(recorded.sampled).filter(
    ([option, value]) => value !== undefined && value !== null && !given.includes(flagOf(option)),
  );
  const options = [
    ...(task === undefined ? ['task'] : []),
    ...(prompts === undefined ? ['prompts'] : []),
    ...values.map(([option]) => option),
  ];
  return { found, flags: { ...flags, ...Object.fromEntries(values) }, run: { directory, options } };
}

/**
 * Whether an evaluation measured the run's own model: the folder RUN/model, or the checkpoint on a service that it was
 * saved from. A server of chat completions does not tell its weights: its model is taken for the run's.
 */
export function measuresOwnModel(
  { engine, model, run }: Pick<EvaluationConfig, 'engine' | 'model' | 'run'>,
  directory: string,
): boolean {
  if (engine === 'openai') return true;
  // As it was named when it was measured: a run may be moved.
  const own = join(run?.directory ?? directory, 'model');
  if (placeOf(model.directory) === placeOf(own)) return true;
  const { path, statePath } = originOf(join(directory, 'model')) ?? {};
  return model.directory === path || model.directory === statePath;
}

function placeOf(path: string): string {
  return existsSync(path) ? realpathSync(path) : resolve(path);
}

function readSettings(directory: string): z.infer<typeof schema> & { sampled: object } {
  const { config } = readRun(directory);
  const parse = <T>(shape: z.ZodType<T>): T => {
    const parsed = shape.safeParse(config);
    if (parsed.success) return parsed.data;
    const why = explainIssue(parsed.error.issues, config);
    throw new R3Error('store', 'mismatch', `${join(directory, 'config.json')}: ${why}`);
  };
  const recorded = parse(schema);
  if (recorded.command !== 'train') return { ...recorded, sampled: {} };
  const { sampling, context } = parse(sampledSchema);
  return { ...recorded, sampled: { ...sampling, context } };
}

function flagOf(option: string): string {
  return `--${option.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
}
