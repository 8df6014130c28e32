/**
 * `r3 forgetting`: what a model still knows, on tasks that it was not trained on; with --against before and after.
 *
 * Tasks with choices are measured by log-probability, others by one attempt at each problem (greedy unless a temperature
 * is given). Both models see the same problems with the same draws, and their difference is taken problem by problem.
 */
import type { Command } from 'commander';
import type { Engine } from '../engine/engine.ts';
import { stoppable } from '../engine/stoppable.ts';
import { compareForgetting, measureForgetting, type SuiteEntry, type TaskResult } from '../forgetting.ts';
import type { Rate } from '../method/statistics.ts';
import { makePlayer, type Player } from '../player.ts';
import { printJson, printLine, type Io } from './io.ts';
import {
  addEngineOptions,
  addExamples,
  choice,
  integer,
  real,
  repeated,
  seed,
  usageError,
  type EngineFlags,
} from './options.ts';
import {
  engineOptions,
  findModel,
  findTask,
  loadTaskProblems,
  openEngine,
  playerOptions,
  textFolder,
} from './session.ts';
import { renderTable } from './table.ts';
import { cliProgress, watchedStop } from './watch.ts';

interface Flags extends EngineFlags {
  model: string;
  against?: string;
  problems: string[];
  limit?: number;
  by?: SuiteEntry['by'];
  temperature: number;
  maxAttemptTokens?: number;
  seed: number;
  json?: boolean;
}

export function define(command: Command, io: Io): void {
  command
    .description(
      'Measures a model on tasks that it was not trained on. With --against, what it forgot: before and after, on the same problems.',
    )
    .requiredOption(
      '--model <dir>',
      'the model to measure: a folder in the Hugging Face layout, or the name of a downloaded model',
    )
    .option('--against <dir>', 'the model before it was trained')
    .addOption(
      repeated(
        '--problems <task=file...>',
        'tasks and their problems, .jsonl or .parquet: gsm8k=test.jsonl mmlu=mmlu.parquet',
      ).makeOptionMandatory(),
    )
    .addOption(integer('--limit <n>', 'use the first n problems of each task (default: all)', { min: 1 }))
    .addOption(
      choice(
        '--by <way>',
        'measure every task this way (default: by log-probability where a task has choices)',
        ['generation', 'log-probability'],
      ),
    )
    .addOption(real('--temperature <t>', 'of attempts; 0 is greedy', { min: 0 }).default(0))
    .addOption(
      integer(
        '--max-attempt-tokens <n>',
        'longest attempt, in tokens (default: a quarter of the context, at most 512)',
        { min: 1 },
      ),
    )
    .addOption(seed('of sampling').default(1));
  addEngineOptions(command).option(
    '--json',
    'one line of JSON for each task: {task, by, accuracy, rows}; with --against {task, by, before, after, change, lost, gained}',
  );
  addExamples(
    command,
    `
  r3 forgetting --model runs/countdown-001/model --against DIR --problems gsm8k=gsm8k.jsonl mmlu=mmlu.jsonl
  r3 forgetting --model DIR --problems hellaswag=validation.jsonl --limit 500 --json`,
  );
  command.action((flags: Flags) => run(flags, io));
}

async function run(flags: Flags, io: Io): Promise<void> {
  const suite: SuiteEntry[] = [];
  for (const named of flags.problems) suite.push(await entryOf(named, flags, io.env));
  const progress = cliProgress(io);
  const signal = watchedStop(io, progress, 'stopping');
  const measure = async (named: string, name: string): Promise<TaskResult[]> => {
    const model = findModel(named, io.env);
    const engine = await openEngine(io, { model, trainable: false, ...engineOptions(flags) });
    try {
      const stopped = stoppable(engine, signal, 'stopped before everything was measured; nothing was kept');
      let task = '';
      return await measureForgetting((entry) => playerOf(entry, stopped, model, flags, io), suite, {
        seed: flags.seed,
        onProgress: (current, done, total) => {
          if (current !== task) progress.phase(`${current}, ${name}`, total);
          task = current;
          progress.update(done);
        },
      });
    } finally {
      await engine.close();
    }
  };
  try {
    const after = await measure(flags.model, 'the model');
    const before = flags.against === undefined ? undefined : await measure(flags.against, 'the model before');
    progress.end();
    if (before === undefined) giveOne(after, flags, io);
    else giveBoth(before, after, flags, io);
  } finally {
    progress.end();
  }
}

async function entryOf(named: string, flags: Flags, env: Io['env']): Promise<SuiteEntry> {
  const split = named.indexOf('=');
  if (split < 1) throw usageError(`--problems: expected task=file, got ${JSON.stringify(named)}`);
  const { task, prompts } = await findTask(named.slice(0, split), env);
  if (flags.by === 'log-probability' && task.choices === undefined) {
    throw usageError(
      `--by: expected generation for the task ${task.name}, which has no choices, got ${flags.by}`,
    );
  }
  const problems = await loadTaskProblems(task, named.slice(split + 1), flags.limit);
  const own = task.choices === undefined ? 'generation' : 'log-probability';
  return { task, prompts, problems, by: flags.by ?? own };
}

function playerOf(
  { task, prompts }: SuiteEntry,
  engine: Engine,
  model: string,
  { temperature, maxAttemptTokens }: Flags,
  io: Io,
): Player {
  const limits = maxAttemptTokens === undefined ? {} : { maxAttemptTokens };
  const options = playerOptions({ temperature, ...limits }, engine.capabilities().contextLength);
  return makePlayer(engine, textFolder(model, io.env), task, prompts, options);
}

function giveOne(results: readonly TaskResult[], flags: Flags, io: Io): void {
  if (flags.json === true) {
    for (const result of results) printJson(io, result);
    return;
  }
  const rows = results.map(({ task, by, rows: all, accuracy }) => [
    task,
    by,
    accuracy.n,
    all.length - accuracy.n,
    rateText(accuracy),
  ]);
  printLine(io, renderTable(['task', 'by', 'problems', 'not judged', 'solved, %'], rows));
}

function giveBoth(before: readonly TaskResult[], after: readonly TaskResult[], flags: Flags, io: Io): void {
  const compared = compareForgetting(before, after);
  if (flags.json === true) {
    for (const each of compared) printJson(io, each);
    return;
  }
  const rows = compared.map(({ task, by, before: was, after: is, change, lost, gained }) => [
    task,
    by,
    change.n,
    rateText(was),
    rateText(is),
    `${points(change.diff)} (${points(change.low)} to ${points(change.high)})`,
    lost,
    gained,
  ]);
  const heads = ['task', 'by', 'problems', 'before, %', 'after, %', 'change, points', 'lost', 'gained'];
  printLine(io, renderTable(heads, rows));
}

function rateText({ rate, low, high, n }: Rate): string {
  return n === 0 ? '–' : `${points(rate)} (${points(low)}–${points(high)})`;
}

function points(share: number): string {
  return Number.isNaN(share) ? '–' : (100 * share).toFixed(1);
}
