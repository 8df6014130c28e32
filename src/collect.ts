/**
 * Collects the episodes of one step: for each failure of the batch a group of reflections, then one retry after each.
 *
 * Nothing waits for anything it does not need: a group's retries start when its reflections are there, while other
 * groups still reflect. What each draws depends on (seed, step, place) alone.
 */
import { hash32 } from './lib/rng.ts';
import type { Episode, Failure, Problem } from './method/episode.ts';
import { hasEnded, type Player } from './player.ts';
import type { Conversation } from './text/chat.ts';

export interface Collected<P extends Problem> {
  /** Group by group, in the order of the failures. Advantages are not yet set. */
  episodes: Episode<P>[];
  /** The ids before each episode's reflection, in the same order. */
  prompts: number[][];
  hints: ('true' | 'false' | 'none')[];
}

export async function collect<P extends Problem>(
  player: Player<P>,
  failures: readonly Failure<P>[],
  groupSize: number,
  seed: number,
  step: number,
): Promise<Collected<P>> {
  const groups = await Promise.all(
    failures.map((failure, place) => runGroup(player, failure, groupSize, hash32(seed, step, place), step)),
  );
  return {
    episodes: groups.flatMap((g) => g.map((e) => e.episode)),
    prompts: groups.flatMap((g) => g.map((e) => e.asked.tokens)),
    hints: groups.flatMap((g) => g.map((e) => e.hint)),
  };
}

async function runGroup<P extends Problem>(
  player: Player<P>,
  failure: Failure<P>,
  groupSize: number,
  seed: number,
  step: number,
): Promise<{ episode: Episode<P>; asked: Conversation; hint: 'true' | 'false' | 'none' }[]> {
  const { problem, attempt } = failure;
  const asked = player.askToReflect(problem, attempt);
  const reflections = await player.reflect(asked, groupSize, hash32(seed, 0, 0));
  return Promise.all(
    reflections.map(async (reflection, index) => {
      const described = player.task.describeReflection?.(problem, attempt.text, reflection.text);
      const base = {
        version: 1 as const,
        step,
        group: failure.id,
        index,
        problem,
        attempt,
        reflection,
        advantage: null,
        ...(described === undefined ? {} : { kind: described.kind }),
      };
      const hint = described?.hint ?? 'none';
      // A reflection that never ends has earned nothing: there is nothing to retry after.
      if (!hasEnded(reflection))
        return { episode: { ...base, retry: null, score: null, reward: 0 }, asked, hint };
      const { written, verdict } = await player.retry(
        problem,
        player.askAgain(problem, asked, reflection),
        hash32(seed, 1, index),
      );
      return {
        episode: { ...base, retry: written, score: verdict, reward: verdict.ok ? 1 : 0 },
        asked,
        hint,
      };
    }),
  );
}
