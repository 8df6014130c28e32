/**
 * `r3 forgetting`: what a model still knows, on tasks that it was not trained on; with --against before and after.
 *
 * Tasks with choices are measured by log-probability, others by one attempt at each problem (greedy unless a temperature
 * is given). Both models see the same problems with the same draws, and their difference is taken problem by problem.
 * With --out the rows of each task are kept as soon as it is measured, and the same command goes on where it stopped.
 */
import { resolve } from 'node:path';
import type { Command } from 'commander';
import type { Engine } from '../engine/engine.ts';
import { stoppable } from '../engine/stoppable.ts';
import { compareForgetting, measureForgetting, type SuiteEntry, type TaskResult } from '../forgetting.ts';
import type { Rate } from '../method/statistics.ts';
import { makePlayer, type Player } from '../player.ts';
import { hashProblems } from './eval-config.ts';
import { openResults } from './forgetting-results.ts';
import { printJson, printLine, type Io } from './io.ts';
import {
  addEngineOptions,
  addExamples,
  choice,
  integer,
  orList,
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
  prompts?: string[];
  out?: string;
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
      repeated(
        '--prompts <set...>',
        "the texts around a problem: each task takes the first of these sets that it has (default: the task's first set)",
      ),
    )
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
    .addOption(seed('of sampling').default(1))
    .option(
      '--out <dir>',
      'folder for the rows, a file for each model and task; the same command again goes on where it was stopped',
    );
  addEngineOptions(command).option(
    '--json',
    'one line of JSON for each task: {task, by, accuracy, notJudged, rows}; with --against {task, by, before, after, change, lost, gained, notJudged, rows: {before, after}}',
  );
  addExamples(
    command,
    `
  r3 forgetting --model runs/countdown-001/model --against DIR --problems gsm8k=gsm8k.jsonl mmlu=mmlu.jsonl
  r3 forgetting --model DIR --problems hellaswag=validation.jsonl --limit 500 --json`,
  );
  command.action((flags: Flags) => run(flags, io));
}

/** An entry of the suite, and where it came from. */
interface Entry extends SuiteEntry {
  /** As a result that is kept names it. */
  facts: object;
}

async function run(flags: Flags, io: Io): Promise<void> {
  const suite: Entry[] = [];
  for (const named of flags.problems) suite.push(await entryOf(named, flags, io.env));
  checkPrompts(suite, flags);
  const kept = flags.out === undefined ? undefined : openResults(flags.out);
  const progress = cliProgress(io);
  const signal = watchedStop(io, progress, 'stopping');
  const stoppedNote =
    flags.out === undefined
      ? 'stopped before everything was measured; nothing was kept (--out keeps rows)'
      : `stopped; the tasks that were measured are in ${flags.out}, the same command goes on with the rest`;
  const measure = async (which: 'model' | 'before', named: string, name: string): Promise<TaskResult[]> => {
    const model = findModel(named, io.env);
    const engine = await openEngine(io, { model, trainable: false, ...engineOptions(flags) });
    const results: TaskResult[] = [];
    try {
      const stopped = stoppable(engine, signal, stoppedNote);
      const { modelHash, description, contextLength } = engine.capabilities();
      for (const [place, entry] of suite.entries()) {
        const player = playerOf(entry, stopped, model, flags, io);
        const facts = {
          model: { directory: resolve(model), hash: modelHash },
          kernels: description.replace(/, \d+ threads?/, ''),
          contextLength,
          by: entry.by,
          ...entry.facts,
          seed: flags.seed,
          sampling: player.options,
        };
        const make = async (): Promise<TaskResult> => {
          progress.phase(`${entry.task.name}, ${name}`, entry.problems.length);
          const onProgress = (_: string, done: number): void => progress.update(done);
          const [made] = await measureForgetting(() => player, [entry], { seed: flags.seed, onProgress });
          if (made === undefined) throw new Error('internal error: expected a result');
          return made;
        };
        const file = { which, place, task: entry.task.name };
        results.push(await (kept === undefined ? make() : kept.findOrMake(file, facts, make)));
      }
      return results;
    } finally {
      await engine.close();
    }
  };
  try {
    const after = await measure('model', flags.model, 'the model');
    const before =
      flags.against === undefined ? undefined : await measure('before', flags.against, 'the model before');
    progress.end();
    if (before === undefined) giveOne(after, flags, io);
    else giveBoth(before, after, flags, io);
  } finally {
    progress.end();
  }
}

async function entryOf(named: string, flags: Flags, env: Io['env']): Promise<Entry> {
  const split = named.indexOf('=');
  if (split < 1) throw usageError(`--problems: expected task=file, got ${JSON.stringify(named)}`);
  const name = named.slice(0, split);
  const { task, prompts: own, file: taskFile } = await findTask(name, env);
  const set = flags.prompts?.find((asked) => task.promptSets.includes(asked));
  const prompts = set === undefined ? own : task.prompts(set);
  if (flags.by === 'log-probability' && task.choices === undefined) {
    throw usageError(
      `--by: expected generation for the task ${task.name}, which has no choices, got ${flags.by}`,
    );
  }
  const path = named.slice(split + 1);
  const problems = await loadTaskProblems(task, path, flags.limit);
  const by = flags.by ?? (task.choices === undefined ? 'generation' : 'log-probability');
  const facts = {
    taskFile,
    prompts,
    problems: { file: resolve(path), count: problems.length, hash: hashProblems(problems) },
  };
  return { task, prompts, problems, by, facts };
}

/** Throws a usage error for prompts that no task of the suite takes. */
function checkPrompts(suite: readonly Entry[], { prompts = [] }: Flags): void {
  const unused = prompts.find((set) => !suite.some((entry) => entry.prompts.name === set));
  if (unused === undefined) return;
  const sets = [...new Set(suite.flatMap(({ task }) => task.promptSets))];
  throw usageError(
    `--prompts: expected ${orList(sets)}, of which each task takes the first that is given and that it has, got ${JSON.stringify(unused)}, which none takes`,
  );
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
    for (const result of results)
      printJson(io, { ...result, notJudged: result.rows.length - result.accuracy.n });
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
    compared.forEach((each, place) => {
      const rows = { before: before[place]?.rows, after: after[place]?.rows };
      printJson(io, { ...each, rows });
    });
    return;
  }
  const rows = compared.map(({ task, by, before: was, after: is, change, lost, gained, notJudged }) => [
    task,
    by,
    change.n,
    notJudged,
    rateText(was),
    rateText(is),
    `${points(change.diff)} (${points(change.low)} to ${points(change.high)})`,
    lost,
    gained,
  ]);
  const heads = [
    'task',
    'by',
    'problems',
    'not judged',
    'before, %',
    'after, %',
    'change, points',
    'lost',
    'gained',
  ];
  printLine(io, renderTable(heads, rows));
}

function rateText({ rate, low, high, n }: Rate): string {
  return n === 0 ? '–' : `${points(rate)} (${points(low)}–${points(high)})`;
}

function points(share: number): string {
  return Number.isNaN(share) ? '–' : (100 * share).toFixed(1);
}
