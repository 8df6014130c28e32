/**
 * Where the episodes of a step come from: failures that are reflected on, or problems that the baselines attempt.
 *
 * Groups without a signal are refilled here, with other failures, where that is asked for (dynamic sampling).
 */
import { collect, collectAttempts, type LeaveOut, type Played } from './collect.ts';
import { makeDeck } from './deck.ts';
import { makeFailureSource, type FailureSource, type SourceState } from './failure-source.ts';
import { groupSignal } from './method/advantage.ts';
import type { Episode, Failure, LeftOut, Problem } from './method/episode.ts';
import { groupsOf } from './method/group.ts';
import type { Player } from './player.ts';
import { samplesProblems } from './method/choices.ts';
import type { TrainOptions } from './train-options.ts';

/** What training begins from, or goes on from. */
export interface Material<P extends Problem> {
  /** The failures of the present set. */
  failures: readonly Failure<P>[];
  /** Problems to attempt: needed unless failures are frozen and the method reflects or retries. */
  problems: readonly P[];
}

/** The episodes of a step. */
export interface StepEpisodes<P extends Problem> {
  /** What is trained. */
  played: Played<P>[];
  /** The attempts of the current weights that it came from: none where failures are frozen. */
  firstTries: Played<P>[];
  /** Groups that the engine failed on. */
  leftOut: LeftOut<P>[];
}

/** Where the episodes of a step come from. */
export interface EpisodeSource<P extends Problem> {
  /** Steps are played one after another, in their order. */
  play(step: number): Promise<StepEpisodes<P>>;
  state(): SourceState;
}

/** `keep`: called with each set of failures that is mined anew. */
export function makeEpisodeSource<P extends Problem>(
  player: Player<P>,
  { failures, problems }: Material<P>,
  options: TrainOptions,
  state: SourceState,
  keep: (mined: readonly Failure<P>[]) => void,
): EpisodeSource<P> {
  return samplesProblems(options)
    ? fromProblems(player, problems, options, state)
    : fromFailures(player, makeFailureSource(player, failures, problems, options, state, keep), options);
}

/** How many times its failures a step may draw when groups without a signal are refilled. */
const MOST_REFILLS = 4;

function fromFailures<P extends Problem>(
  player: Player<P>,
  source: FailureSource<P>,
  options: TrainOptions,
): EpisodeSource<P> {
  const { seed, failuresPerStep, zeroVariance, trainTokens } = options;
  return {
    state: source.state,
    async play(step) {
      const played: Played<P>[] = [];
      const firstTries: Played<P>[] = [];
      const leftOut: LeftOut<P>[] = [];
      const leaveOut: LeaveOut<P> = (group) => leftOut.push(group);
      const ids = new Set<string>();
      let signals = 0;
      for (let round = 0; signals < failuresPerStep && round < MOST_REFILLS; round++) {
        const taken = await source.take(step, failuresPerStep - signals, ids.size);
        const place = ids.size;
        // Where a pass ends within a step, the next one may begin with a failure that the step has already.
        const fresh = taken.failures.filter(({ id }) => !ids.has(id) && ids.add(id));
        const more = await collect(player, fresh, options, { seed, step, place }, leaveOut);
        played.push(...more);
        firstTries.push(...taken.attempts);
        leftOut.push(...taken.leftOut);
        if (zeroVariance !== 'refill' || fresh.length === 0) break;
        signals += groupsOf(more.map(({ episode }) => episode)).filter(isMixed).length;
      }
      return { played: trainTokens === 'all' ? [...played, ...firstTries] : played, firstTries, leftOut };
    },
  };
}

function fromProblems<P extends Problem>(
  player: Player<P>,
  problems: readonly P[],
  { seed, failuresPerStep, reflectionsPerFailure }: TrainOptions,
  state: SourceState,
): EpisodeSource<P> {
  const deck = makeDeck(problems, failuresPerStep, seed, state.position);
  return {
    async play(step) {
      const problemsOfStep = deck.deal(failuresPerStep);
      const leftOut: LeftOut<P>[] = [];
      const played = await collectAttempts(
        player,
        problemsOfStep,
        reflectionsPerFailure,
        { seed, step },
        (group) => leftOut.push(group),
      );
      return { played, firstTries: played, leftOut };
    },
    state: () => ({ position: deck.position(), minedAt: 0 }),
  };
}

/** Whether a group's rewards differ. */
export function isMixed(group: readonly Episode[]): boolean {
  return groupSignal(group.map(({ reward }) => reward)) === 'mixed';
}
