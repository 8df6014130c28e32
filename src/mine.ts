/**
 * Builds the failure set: samples attempts with the start model and keeps those that the verifier rejects.
 *
 * Training begins at these frozen failures ("Reflect, Retry, Reward", arXiv 2505.24726, section 4.3). Each is
 * kept with its problem, its place among the samples, the model's hash and the sampling settings.
 */
import { mapConcurrent } from './lib/concurrent.ts';
import { hash32 } from './lib/rng.ts';
import { passed, type Failure, type Problem } from './method/episode.ts';
import { failureId, type Player } from './player.ts';

/** Problems under way at a time: enough to fill the engine's batch. */
const CONCURRENCY = 512;

export interface MineOptions {
  /** Attempts per problem. */
  samples: number;
  /** Kept per problem, the first ones. */
  maxPerProblem: number;
  seed: number;
  onProgress?: (done: number, failures: number) => void;
}

export interface Mined<P extends Problem> {
  failures: Failure<P>[];
  attempts: number;
  passed: number;
  /** Attempts that the verifier could not judge: neither passed nor failed. */
  unscored: number;
}

export async function mine<P extends Problem>(
  player: Player<P>,
  problems: readonly P[],
  options: MineOptions,
): Promise<Mined<P>> {
  const { samples, maxPerProblem, seed, onProgress } = options;
  const { modelHash } = player.engine.capabilities();
  let done = 0;
  let found = 0;
  const perProblem = await mapConcurrent(problems, CONCURRENCY, async (problem, i) => {
    const requestSeed = hash32(seed, STREAM, i);
    const tries = await player.attempt(problem, samples, requestSeed);
    const failed = tries.filter(({ score }) => passed(score) === false).length;
    const unscored = tries.filter(({ score }) => passed(score) === null).length;
    const failures = tries
      .flatMap(({ written, score }, sampleIndex): Failure<P>[] =>
        score === null || 'error' in score || score.ok
          ? []
          : [
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
                sampling: {
                  temperature: player.options.temperature,
                  maxTokens: player.options.maxAttemptTokens,
                  seed: requestSeed,
                },
              },
            ],
      )
      .slice(0, maxPerProblem);
    found += failures.length;
    onProgress?.(++done, found);
    return { failures, failed, unscored };
  });
  const attempts = problems.length * samples;
  const sum = (count: 'failed' | 'unscored'): number => perProblem.reduce((total, p) => total + p[count], 0);
  return {
    failures: perProblem.flatMap((p) => p.failures),
    attempts,
    passed: attempts - sum('failed') - sum('unscored'),
    unscored: sum('unscored'),
  };
}

/** Which of the seed's streams mining draws from: far above the steps of a run, which are streams too. */
const STREAM = 0x40000001;
