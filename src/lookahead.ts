/**
 * Episodes ahead of the step that trains: while step s trains, those of steps up to s + n may be sampled (n is
 * `maxStaleness`).
 *
 * Which weights sample what is a function of the step alone: the episodes of step t, all of them, are sampled from the
 * weights that step t - n begins with, those of the first n steps from the start weights. So an update waits until what
 * is being sampled is there; the forward and backward pass before it does not. With n = 0 a step's episodes are sampled
 * when it begins. What was sampled ahead belongs to a checkpoint: a run that goes on trains on the same episodes.
 */
import type { Engine } from './engine/engine.ts';
import type { EpisodeSource, StepEpisodes } from './episode-source.ts';
import { assert } from './lib/errors.ts';
import type { Problem, Written } from './method/episode.ts';

/** What a checkpoint holds of steps that were sampled and not trained, as plain JSON. */
export interface AheadState {
  /** Updates of the weights so far. */
  updates: number;
  /** In the order of the steps. `sampledAt`: the updates of the weights that sampled. */
  steps: { sampledAt: number; episodes: PackedEpisodes }[];
}

export interface Lookahead<P extends Problem> {
  /** The episodes of the next step, each with its staleness where there can be any. Begins to sample those ahead. */
  take(step: number): Promise<StepEpisodes<P>>;
  /** The engine to train with: its updates wait for what is being sampled. */
  engine: Engine;
  /** What was sampled ahead, when it is there; undefined where nothing ever is. */
  state(): Promise<AheadState | undefined>;
}

interface Sampled<P extends Problem> {
  sampledAt: number;
  episodes: StepEpisodes<P>;
}

/** `from`: the state at the time when `firstStep` is the next to be trained. */
export function makeLookahead<P extends Problem>(
  engine: Engine,
  source: EpisodeSource<P>,
  { maxStaleness, steps }: { maxStaleness: number; steps: number },
  firstStep: number,
  from: AheadState | undefined,
): Lookahead<P> {
  let updates = from?.updates ?? 0;
  const ahead = (from?.steps ?? []).map(async ({ sampledAt, episodes }): Promise<Sampled<P>> => ({
    sampledAt,
    episodes: unpackEpisodes(episodes),
  }));
  let next = firstStep + ahead.length;
  /** Rejected once something could not be sampled: what comes after it is not begun. */
  let sampling: Promise<unknown> = Promise.resolve();

  const begin = (step: number): void => {
    const sampledAt = updates;
    // One after another: each takes its failures from where the one before it ended.
    const sampled = sampling.then(async () => ({ sampledAt, episodes: await source.play(step) }));
    // Whoever takes it learns of the error.
    sampled.catch(() => undefined);
    ahead.push(sampled);
    sampling = sampled;
  };

  return {
    take: async (step) => {
      while (next <= Math.min(step + maxStaleness, steps - 1)) begin(next++);
      const first = ahead.shift();
      assert(first !== undefined, `nothing was sampled for step ${step}`);
      const { sampledAt, episodes } = await first;
      if (maxStaleness > 0) {
        for (const { episode } of [...episodes.played, ...episodes.firstTries])
          episode.staleness = updates - sampledAt;
      }
      return episodes;
    },
    engine: {
      ...engine,
      step: async (adam) => {
        await sampling.catch(() => undefined);
        const result = await engine.step(adam);
        updates++;
        return result;
      },
    },
    state: async () => {
      if (maxStaleness === 0) return undefined;
      const sampled = await Promise.all(ahead);
      return {
        updates,
        steps: sampled.map(({ sampledAt, episodes }) => ({ sampledAt, episodes: packEpisodes(episodes) })),
      };
    },
  };
}

/**
 * Episodes as JSON. What was written is often part of several records, and training notes things beside it
 * (`noteReference`): it stands once, and records have its place, so that they share it again afterwards.
 */
export interface PackedEpisodes {
  written: Written[];
  /** With `{ written: place }` in place of what was written. */
  episodes: string;
}

export function packEpisodes<P extends Problem>(episodes: StepEpisodes<P>): PackedEpisodes {
  const places = new Map<Written, number>();
  const text = JSON.stringify(episodes, (_, value: unknown) => {
    if (!isWritten(value)) return value;
    const place = places.get(value) ?? places.size;
    places.set(value, place);
    return { written: place };
  });
  return { written: [...places.keys()], episodes: text };
}

export function unpackEpisodes<P extends Problem>({ written, episodes }: PackedEpisodes): StepEpisodes<P> {
  return JSON.parse(episodes, (_, value: unknown) => {
    const place = isPlace(value) ? value.written : undefined;
    return place === undefined ? value : written[place];
  }) as StepEpisodes<P>;
}

function isWritten(value: unknown): value is Written {
  return typeof value === 'object' && value !== null && 'tokens' in value && 'logprobs' in value;
}

function isPlace(value: unknown): value is { written: number } {
  return (
    typeof value === 'object' &&
    value !== null &&
    'written' in value &&
    typeof value.written === 'number' &&
    Object.keys(value).length === 1
  );
}
