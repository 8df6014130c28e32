/**
 * The forgetting suite: how a model does on tasks that it was not trained on, and how that differs from another model.
 *
 * Each entry of a suite is measured by log-probability, where its task has choices and it says so, else by one attempt
 * at each problem. Attempts are a function of the seed and the problem's place, so that two models are compared on
 * the same problems with the same draws. "Reflect, Retry, Reward" (arXiv 2505.24726), table 3, compares before and after
 * on MMLU-Pro, GSM8K, HellaSwag and MATH.
 */
import { scoreChoices } from './choices.ts';
import { mapConcurrent } from './lib/concurrent.ts';
import { R3Error } from './lib/errors.ts';
import { hash32 } from './lib/rng.ts';
import { passed, type Problem, type Score } from './method/episode.ts';
import { pairedBootstrap, wilson, type Difference, type Rate } from './method/statistics.ts';
import type { Prompts, Task } from './method/task.ts';
import { first, type Player } from './player.ts';

/** Problems under way at a time. */
const CONCURRENCY = 1024;
/** The stream of a seed that attempts draw from, apart from those of training and evaluation. */
const STREAM = 0x40000020;
const BOOTSTRAP = { draws: 2000, seed: 1 } as const;

export interface SuiteEntry<P extends Problem = Problem> {
  task: Task<P>;
  prompts: Prompts;
  problems: readonly P[];
  by: 'generation' | 'log-probability';
}

/**
 * `passed` is null where the task could not judge, and where the problem does not fit the model's context. By
 * log-probability it is `acc_norm`, and `bySum` is `acc` (`method/likelihood.ts`).
 */
export interface ForgettingRow {
  problem: string;
  passed: boolean | null;
  bySum?: boolean | null;
}

export interface TaskResult {
  task: string;
  by: SuiteEntry['by'];
  rows: ForgettingRow[];
  /** Over the rows that were judged. */
  accuracy: Rate;
}

export interface ForgettingOptions {
  seed: number;
  onProgress?: (task: string, done: number, total: number) => void;
}

/** `playerOf` gives the model as a player of a task. */
export async function measureForgetting(
  playerOf: (entry: SuiteEntry) => Player,
  suite: readonly SuiteEntry[],
  options: ForgettingOptions,
): Promise<TaskResult[]> {
  const results: TaskResult[] = [];
  for (const entry of suite) {
    const { task, by, problems } = entry;
    const onProgress = (done: number): void => options.onProgress?.(task.name, done, problems.length);
    const player = playerOf(entry);
    const rows =
      by === 'log-probability'
        ? await byLogProbability(player, entry, onProgress)
        : await byGeneration(player, entry, options.seed, onProgress);
    results.push({ task: task.name, by, rows, accuracy: accuracyOf(rows) });
  }
  return results;
}

async function byLogProbability(
  player: Player,
  { task, prompts, problems }: SuiteEntry,
  onProgress: (done: number) => void,
): Promise<ForgettingRow[]> {
  const rows = await scoreChoices(player, task, prompts, problems, onProgress);
  return rows.map(({ problem, bySum, byCharacter }) => ({ problem, passed: byCharacter, bySum }));
}

async function byGeneration(
  player: Player,
  { problems }: SuiteEntry,
  seed: number,
  onProgress: (done: number) => void,
): Promise<ForgettingRow[]> {
  let done = 0;
  return mapConcurrent(problems, CONCURRENCY, async (problem, place) => {
    const score = await scoreOfAttempt(player, problem, hash32(seed, STREAM, place));
    onProgress(++done);
    return { problem: problem.id, passed: passed(score) };
  });
}

async function scoreOfAttempt(player: Player, problem: Problem, seed: number): Promise<Score> {
  try {
    return first(await player.attempt(problem, 1, seed)).score;
  } catch (error) {
    if (error instanceof R3Error && error.code === 'too-long') return { error: error.message };
    throw error;
  }
}

function accuracyOf(rows: readonly ForgettingRow[]): Rate {
  const judged = rows.filter((row) => row.passed !== null);
  return wilson(judged.filter((row) => row.passed === true).length, judged.length);
}

export interface Forgetting {
  task: string;
  by: SuiteEntry['by'];
  before: Rate;
  after: Rate;
  /** After minus before, over the problems that both models were judged on. */
  change: Difference;
  /** Of these, how many passed before and no longer do, and the other way round. */
  lost: number;
  gained: number;
  /** Problems that one of the models, or both, could not be judged on. */
  notJudged: number;
}

/** Results of one suite for two models, entry by entry in its order, and within an entry problem by problem. */
export function compareForgetting(before: readonly TaskResult[], after: readonly TaskResult[]): Forgetting[] {
  return before.flatMap((was, place) => {
    // A task may stand in a suite twice, with other problems.
    const is = after[place];
    if (is === undefined) return [];
    const later = new Map(is.rows.map((row) => [row.problem, row.passed]));
    const pairs = was.rows.flatMap(({ problem, passed: earlier }) => {
      const now = later.get(problem) ?? null;
      return earlier === null || now === null ? [] : [{ earlier, now }];
    });
    return {
      task: was.task,
      by: was.by,
      before: was.accuracy,
      after: is.accuracy,
      change: pairedBootstrap(
        pairs.map(({ now }) => now),
        pairs.map(({ earlier }) => earlier),
        BOOTSTRAP,
      ),
      lost: pairs.filter(({ earlier, now }) => earlier && !now).length,
      gained: pairs.filter(({ earlier, now }) => !earlier && now).length,
      notJudged: was.rows.length - pairs.length,
    };
  });
}
