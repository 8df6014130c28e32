/**
 * Builds the failure set: samples attempts with the start model and keeps those that the verifier rejects.
 *
 * Training begins at these frozen failures ("Reflect, Retry, Reward", arXiv 2505.24726, section 4.3). Each is
 * kept with its problem, its place among the samples, the hashes of model and prompt, and the sampling settings.
 */
import { createHash } from 'node:crypto';
import { attempted, requireMost, requireMostSoFar } from './left-out.ts';
import { mapConcurrent } from './lib/concurrent.ts';
import { R3Error } from './lib/errors.ts';
import { hash32 } from './lib/rng.ts';
import { keepsFailures, type MiningChoices } from './method/choices.ts';
import { passed, type Failure, type Problem } from './method/episode.ts';
import type { Prompts, Task } from './method/task.ts';
import { failureId, type Player, type Try } from './player.ts';

/** Problems under way at a time: enough to fill the engine's batch. */
const CONCURRENCY = 512;

export interface MineOptions extends MiningChoices {
  seed: number;
  onProgress?: (done: number, failures: number) => void;
}

export interface Mined<P extends Problem> {
  failures: Failure<P>[];
  attempts: number;
  passed: number;
  /** Attempts that the verifier could not judge: neither passed nor failed. */
  unscored: number;
  /** What the verifier said at the first of them. */
  error: string | null;
  /** Problems that the engine failed on, and what it said: none of their attempts counts. */
  leftOut: { problem: string; error: string }[];
}

/** Throws R3Error `incomplete` when the engine fails on most of the problems. */
export async function mine<P extends Problem>(
  player: Player<P>,
  problems: readonly P[],
  options: MineOptions,
): Promise<Mined<P>> {
  const { seed, onProgress } = options;
  let done = 0;
  let found = 0;
  const mined: Mined<P> = { failures: [], attempts: 0, passed: 0, unscored: 0, error: null, leftOut: [] };
  const failed: string[] = [];
  const perProblem = await mapConcurrent(problems, CONCURRENCY, async (problem, i) => {
    const one = await attempted(() => mineProblem(player, problem, options, hash32(seed, STREAM, i)));
    if (one instanceof R3Error) failed.push(one.message);
    else found += one.failures.length;
    onProgress?.(++done, found);
    requireMostSoFar('mining', failed, done);
    return one;
  });
  requireMost('mining', failed, problems.length);
  for (const [i, one] of perProblem.entries()) {
    if (one instanceof R3Error) {
      mined.leftOut.push({ problem: (problems[i] as P).id, error: one.message });
      continue;
    }
    const { failures, tries } = one;
    mined.failures.push(...failures);
    mined.attempts += tries.length;
    mined.passed += tries.filter(({ score }) => passed(score) === true).length;
    const unscored = tries.filter(({ score }) => passed(score) === null);
    mined.unscored += unscored.length;
    for (const { score } of unscored)
      mined.error ??= score !== null && 'error' in score ? score.error : 'not scored';
  }
  return mined;
}

/** What must be said of problems that were left out; nothing where there are none. */
export function leftOutLines({ leftOut }: Pick<Mined<Problem>, 'leftOut'>): string[] {
  const [first] = leftOut;
  if (first === undefined) return [];
  return [
    `left out: ${leftOut.length} of the problems, on which the engine failed; ${first.problem}: ${first.error}`,
  ];
}

/** Attempts at one problem, and the failures among them that are kept. */
export async function mineProblem<P extends Problem>(
  player: Player<P>,
  problem: P,
  { samples, maxPerProblem, keepFailures }: MiningChoices,
  seed: number,
): Promise<{ failures: Failure<P>[]; tries: Try[] }> {
  const tries = await player.attempt(problem, samples, seed);
  const judged = tries.filter(({ score }) => passed(score) !== null).length;
  const failed = tries.filter(({ score }) => passed(score) === false).length;
  if (!keepsFailures(failed, judged, keepFailures)) return { failures: [], tries };
  const { modelHash } = player.engine.capabilities();
  const { temperature, maxAttemptTokens: maxTokens } = player.options;
  const { task, prompts } = player;
  const posed = { name: prompts.name, sha256: posedHash(task, problem, prompts) };
  const failures = tries.flatMap(({ written, score }, sampleIndex): Failure<P>[] => {
    if (score === null || 'error' in score || score.ok) return [];
    return [
      {
        version: 1,
        id: failureId(problem, sampleIndex),
        problem,
        sampleIndex,
        samples,
        failed,
        attempt: written,
        verdict: score,
        modelHash,
        prompts: posed,
        sampling: { temperature, maxTokens, seed },
      },
    ];
  });
  return { failures: failures.slice(0, maxPerProblem), tries };
}

/** SHA-256 of the messages that pose a problem, as JSON: equal where an attempt is asked for with the same words. */
export function posedHash<P extends Problem>(task: Task<P>, problem: P, prompts: Prompts): string {
  return createHash('sha256')
    .update(JSON.stringify(task.pose(problem, prompts)))
    .digest('hex');
}

/** Which of the seed's streams mining draws from: far above the steps of a run, which are streams too. */
const STREAM = 0x40000001;
