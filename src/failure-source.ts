/**
 * Where the failures of a step come from: a set that was mined once, a set that is mined anew now and then, or attempts
 * of the current weights in each step.
 *
 * The paper's set is frozen ("Reflect, Retry, Reward", arXiv 2505.24726, section 4.3). A refreshed set costs a mining
 * every so many steps; on-policy failures cost attempts in each step, and are never stale. What a source gives follows
 * from its state, a small record that a checkpoint holds; the sets themselves are in the run's failures.jsonl.
 */
import { attemptGroup, type Played } from './collect.ts';
import { makeDeck, type Deck } from './deck.ts';
import { attempted } from './left-out.ts';
import { mapConcurrent } from './lib/concurrent.ts';
import { R3Error } from './lib/errors.ts';
import { hash32 } from './lib/rng.ts';
import type { Choices } from './method/choices.ts';
import type { Failure, LeftOut, Problem } from './method/episode.ts';
import { mine, mineProblem } from './mine.ts';
import type { Player } from './player.ts';

export interface SourceState {
  /** How many items of the deck were dealt: failures, or problems where failures are on-policy. */
  position: number;
  /** The step before which the present set was mined; 0: the start model's. */
  minedAt: number;
}

export interface Taken<P extends Problem> {
  /** Fewer than asked for where there are no more. */
  failures: Failure<P>[];
  /** On-policy: every attempt of the problems that were tried, as groups. */
  attempts: Played<P>[];
  /** On-policy: problems whose attempts the engine failed on. */
  leftOut: LeftOut<P>[];
}

export interface FailureSource<P extends Problem> {
  /** Up to `count` failures for a step that has `taken` so far. */
  take(step: number, count: number, taken: number): Promise<Taken<P>>;
  state(): SourceState;
}

export interface SourceOptions extends Pick<
  Choices,
  'firstAttempts' | 'refreshEvery' | 'mining' | 'failuresPerStep'
> {
  seed: number;
}

/** Streams above the steps of a run. */
const REFRESH_STREAM = 0x40000015;
const ON_POLICY_STREAM = 0x40000016;
/** On-policy: most problems that a step tries for each failure that it wants. */
const TRIES_PER_FAILURE = 16;

/**
 * `failures`: the set of the state, the start model's at first. `problems`: what is attempted; needed unless frozen.
 * `keep`: called with each set that is mined anew.
 */
export function makeFailureSource<P extends Problem>(
  player: Player<P>,
  failures: readonly Failure<P>[],
  problems: readonly P[],
  options: SourceOptions,
  state: SourceState,
  keep: (failures: readonly Failure<P>[]) => void,
): FailureSource<P> {
  switch (options.firstAttempts) {
    case 'on-policy':
      return onPolicy(player, problems, options, state);
    case 'refreshed':
    case 'frozen':
      return fromSet(player, failures, problems, options, state, keep);
    default:
      return options.firstAttempts satisfies never;
  }
}

function fromSet<P extends Problem>(
  player: Player<P>,
  failures: readonly Failure<P>[],
  problems: readonly P[],
  { refreshEvery, mining, failuresPerStep, seed }: SourceOptions,
  state: SourceState,
  keep: (failures: readonly Failure<P>[]) => void,
): FailureSource<P> {
  let { minedAt } = state;
  let set = failures;
  let deck = deckOf(set, failuresPerStep, seed, state.position);
  return {
    async take(step, count, taken) {
      const due = refreshEvery === null ? minedAt : step - (step % refreshEvery);
      if (due !== minedAt) {
        const mined = await mine(player, problems, { ...mining, seed: hash32(seed, REFRESH_STREAM, due) });
        set = mined.failures.map((f) => ({ ...f, id: `${f.id}@${due}`, minedAt: due }));
        minedAt = due;
        deck = deckOf(set, failuresPerStep, seed, 0);
        keep(set);
      }
      const left = Math.max(0, set.length - taken);
      return { failures: deck?.deal(Math.min(count, left)) ?? [], attempts: [], leftOut: [] };
    },
    state: () => ({ position: deck?.position() ?? 0, minedAt }),
  };
}

/** undefined for an empty set: a model that no longer fails has nothing to reflect on. */
function deckOf<T>(items: readonly T[], perStep: number, seed: number, start: number): Deck<T> | undefined {
  return items.length === 0 ? undefined : makeDeck(items, Math.min(perStep, items.length), seed, start);
}

function onPolicy<P extends Problem>(
  player: Player<P>,
  problems: readonly P[],
  { mining, seed }: SourceOptions,
  state: SourceState,
): FailureSource<P> {
  const deck = makeDeck(problems, 1, seed, state.position);
  return {
    async take(step, count) {
      const failures: Failure<P>[] = [];
      const attempts: Played<P>[] = [];
      const leftOut: LeftOut<P>[] = [];
      for (let tried = 0; failures.length < count && tried < TRIES_PER_FAILURE * count;) {
        const from = deck.position();
        const batch = deck.deal(count - failures.length);
        tried += batch.length;
        const mined = await mapConcurrent(batch, batch.length, (problem, i) =>
          attempted(() => mineProblem(player, problem, mining, hash32(seed, ON_POLICY_STREAM, from + i))),
        );
        mined.forEach((one, i) => {
          // A problem comes again in a later pass, with other attempts.
          const problem = batch[i] as P;
          const group = `${problem.id}@${from + i}`;
          if (one instanceof R3Error) {
            leftOut.push({ step, group, problem, error: one.message });
            return;
          }
          failures.push(...one.failures.map((f) => ({ ...f, id: `${f.id}@${from + i}` })));
          attempts.push(...attemptGroup(player, problem, one.tries, step, group));
        });
      }
      return { failures: failures.slice(0, count), attempts, leftOut };
    },
    state: () => ({ position: deck.position(), minedAt: 0 }),
  };
}
