/**
 * Collects the episodes of one step: for each failure a group of reflections, then one retry after each.
 *
 * A group is one request, and its retries start when its last reflection is there, while other groups still reflect.
 * Starting each retry at once would take a completion at a time from the engine. It would gain next to nothing: a
 * step lasts as long as its longest reflection and the retry after it, and until then other groups fill the batch.
 * What each draws depends on (seed, step, place) alone.
 */
import { hash32 } from './lib/rng.ts';
import { passed, type Episode, type Failure, type Problem } from './method/episode.ts';
import type { Player, Try } from './player.ts';

/** An episode and the ids before its reflection. */
export interface Played<P extends Problem> {
  episode: Episode<P>;
  prompt: number[];
}

/** Group by group, in the order of the failures. Advantages are not yet set. */
export async function collect<P extends Problem>(
  player: Player<P>,
  failures: readonly Failure<P>[],
  groupSize: number,
  seed: number,
  step: number,
): Promise<Played<P>[]> {
  const groups = await Promise.all(
    failures.map((failure, place) => playGroup(player, failure, groupSize, hash32(seed, step, place), step)),
  );
  return groups.flat();
}

async function playGroup<P extends Problem>(
  player: Player<P>,
  { id, problem, attempt, verdict }: Failure<P>,
  groupSize: number,
  seed: number,
  step: number,
): Promise<Played<P>[]> {
  const asked = player.askToReflect(problem, attempt);
  const reflections = await player.reflect(asked, groupSize, hash32(seed, 0, 0));
  return Promise.all(
    reflections.map(async (reflection, index) => {
      const retry = await player.retryAfter(problem, asked, reflection, hash32(seed, 1, index));
      const episode: Episode<P> = {
        version: 1,
        step,
        group: id,
        index,
        problem,
        attempt,
        attemptScore: verdict,
        reflection,
        retry: retry?.written ?? null,
        score: retry?.score ?? null,
        reward: rewardOf(retry),
        advantage: null,
        ...player.task.describeReflection?.(problem, attempt.text, reflection.text),
      };
      return { episode, prompt: asked.tokens };
    }),
  );
}

/** A reflection that never ends has earned nothing; one whose retry could not be judged has no reward. */
function rewardOf(retry: Try | null): number | null {
  if (retry === null) return 0;
  const pass = passed(retry.score);
  return pass === null ? null : Number(pass);
}
