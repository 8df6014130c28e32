/**
 * Collects the episodes of one step: for each failure a group of reflections, then the retry after each. The baselines'
 * episodes, retries without a reflection and bare attempts, are collected here too.
 *
 * A group is one request, and its retries start when its last reflection is there, while other groups still reflect.
 * Starting each retry at once would take a completion at a time from the engine. It would gain next to nothing: a
 * step lasts as long as its longest reflection and the retry after it, and until then other groups fill the batch.
 * What each draws depends on (seed, step, place) alone.
 */
import { attempted } from './left-out.ts';
import { R3Error } from './lib/errors.ts';
import { hash32 } from './lib/rng.ts';
import { retryReward, type Choices } from './method/choices.ts';
import type { Segment } from './method/datum.ts';
import {
  passed,
  type Episode,
  type Failure,
  type LeftOut,
  type Problem,
  type Round,
  type Score,
} from './method/episode.ts';
import { first, type Player, type Try } from './player.ts';
import type { Conversation } from './text/chat.ts';

/** An episode and what of it is trained. */
export interface Played<P extends Problem> {
  episode: Episode<P>;
  /** The ids before what was sampled first. */
  prompt: number[];
  segments: Segment[];
}

export type CollectChoices = Pick<
  Choices,
  'method' | 'trainTokens' | 'reflectionsPerFailure' | 'retriesPerReflection' | 'retryReward' | 'rounds'
>;

/** Where in a run something is played: its draws follow from this. */
export interface Moment {
  seed: number;
  step: number;
  /** The place in the step of the first of what is played. */
  place?: number;
}

/** Told of each group that the engine failed on. */
export type LeaveOut<P extends Problem> = (group: LeftOut<P>) => void;

/**
 * Group by group, in the order of the failures. Advantages are not yet set. Without `leaveOut` the engine's failure on
 * one group is thrown.
 */
export async function collect<P extends Problem>(
  player: Player<P>,
  failures: readonly Failure<P>[],
  choices: CollectChoices,
  { seed, step, place = 0 }: Moment,
  leaveOut?: LeaveOut<P>,
): Promise<Played<P>[]> {
  const play = choices.method === 'retries' ? playRetries : playGroup;
  const groups = failures.map((failure, i) => ({
    step,
    group: failure.id,
    problem: failure.problem,
    play: () => play(player, failure, choices, hash32(seed, step, place + i), step),
  }));
  return playAll(groups, leaveOut);
}

/** G attempts at each of some problems, as groups: the baselines that reflect on nothing. */
export async function collectAttempts<P extends Problem>(
  player: Player<P>,
  problems: readonly P[],
  count: number,
  { seed, step, place = 0 }: Moment,
  leaveOut?: LeaveOut<P>,
): Promise<Played<P>[]> {
  const groups = problems.map((problem, i) => ({
    step,
    group: problem.id,
    problem,
    play: async () => {
      const tries = await player.attempt(problem, count, hash32(seed, step, place + i));
      return attemptGroup(player, problem, tries, step, problem.id);
    },
  }));
  return playAll(groups, leaveOut);
}

/** All at once; what is played, in the order of the groups. */
async function playAll<P extends Problem>(
  groups: readonly (Omit<LeftOut<P>, 'error'> & { play: () => Promise<Played<P>[]> })[],
  leaveOut: LeaveOut<P> | undefined,
): Promise<Played<P>[]> {
  const results = await Promise.all(groups.map(({ play }) => attempted(play)));
  return groups.flatMap(({ step, group, problem }, i) => {
    const result = results[i] as Played<P>[] | R3Error;
    if (!(result instanceof R3Error)) return result;
    if (leaveOut === undefined) throw result;
    leaveOut({ step, group, problem, error: result.message });
    return [];
  });
}

/** Attempts at one problem as a group of episodes. `group`: its id, which no other group of the step has. */
export function attemptGroup<P extends Problem>(
  player: Player<P>,
  problem: P,
  tries: readonly Try[],
  step: number,
  group: string,
): Played<P>[] {
  const { tokens } = player.pose(problem);
  return tries.map(({ written, score }, index) => ({
    episode: {
      version: 1,
      step,
      group,
      index,
      problem,
      attempt: written,
      attemptScore: score,
      reflection: null,
      retry: null,
      score,
      reward: retryReward([passed(score)], 'mean'),
      advantage: null,
    },
    prompt: tokens,
    segments: [{ prompt: tokens, written }],
  }));
}

async function playGroup<P extends Problem>(
  player: Player<P>,
  failure: Failure<P>,
  choices: CollectChoices,
  seed: number,
  step: number,
): Promise<Played<P>[]> {
  const { problem, attempt, verdict } = failure;
  const asked = player.askToReflect(problem, attempt, verdict);
  const reflections = await player.reflect(asked, choices.reflectionsPerFailure, hash32(seed, 0, 0));
  return Promise.all(
    reflections.map(async (reflection, index): Promise<Played<P>> => {
      const turn = await retryAfter(player, problem, asked, reflection, choices, hash32(seed, 1, index));
      const turns = [turn, ...(await laterTurns(player, problem, turn, choices, hash32(seed, 2, index)))];
      const [, ...others] = turn.tries;
      const later = turns.slice(1).map(roundOf);
      return {
        episode: {
          ...episodeOf(failure, step, index),
          reflection,
          retry: turn.tries[0]?.written ?? null,
          score: turn.tries[0]?.score ?? null,
          ...(others.length === 0
            ? {}
            : { otherRetries: others.map(({ written, score }) => ({ retry: written, score })) }),
          ...(later.length === 0 ? {} : { laterRounds: later }),
          reward: rewardOf(turns, choices),
          ...player.task.describeReflection?.(problem, attempt.text, reflection.text),
        },
        prompt: asked.tokens,
        segments: turns.flatMap((t) => trainedSegments(t, choices)),
      };
    }),
  );
}

/** A reflection and the retries after it: none where it did not end. */
interface Turn {
  asked: Conversation;
  reflection: Episode['reflection'] & object;
  /** The conversation that the retries are sampled in. */
  again: Conversation | null;
  tries: Try[];
}

async function retryAfter<P extends Problem>(
  player: Player<P>,
  problem: P,
  asked: Conversation,
  reflection: Turn['reflection'],
  { retriesPerReflection }: CollectChoices,
  seed: number,
): Promise<Turn> {
  if (reflection.stopReason !== 'stop') return { asked, reflection, again: null, tries: [] };
  const again = player.askAgain(problem, asked, reflection);
  const tries = await player.retries(problem, again, retriesPerReflection, seed);
  return { asked, reflection, again, tries };
}

/** Further rounds, while the last retry ended and failed. */
async function laterTurns<P extends Problem>(
  player: Player<P>,
  problem: P,
  firstTurn: Turn,
  choices: CollectChoices,
  seed: number,
): Promise<Turn[]> {
  const turns: Turn[] = [];
  let last = firstTurn;
  for (let round = 1; round < choices.rounds; round++) {
    const [retry] = last.tries;
    if (last.again === null || retry === undefined || passed(retry.score) !== false) break;
    const asked = player.askToReflectAgain(last.again, retry.written, retry.score);
    const reflection = first(await player.reflect(asked, 1, hash32(seed, round, 0)));
    last = await retryAfter(player, problem, asked, reflection, choices, hash32(seed, round, 1));
    turns.push(last);
  }
  return turns;
}

function trainedSegments(turn: Turn, { trainTokens }: CollectChoices): Segment[] {
  const { asked, reflection, again, tries } = turn;
  const reflected: Segment[] = trainTokens === 'retry' ? [] : [{ prompt: asked.tokens, written: reflection }];
  if (trainTokens === 'reflection' || again === null) return reflected;
  return [...reflected, ...tries.map(({ written }) => ({ prompt: again.tokens, written }))];
}

/** A reflection that never ends has earned nothing; one whose retry could not be judged has no reward. */
function rewardOf(turns: readonly Turn[], { retryReward: rule }: CollectChoices): number | null {
  const last = turns.at(-1);
  if (last === undefined || last.again === null) return 0;
  return retryReward(
    last.tries.map(({ score }) => passed(score)),
    rule,
  );
}

function roundOf({ reflection, tries }: Turn): Round {
  return { reflection, retry: tries[0]?.written ?? null, score: tries[0]?.score ?? null };
}

/** The baseline without a reflection: a group of retries right after the failed attempt. */
async function playRetries<P extends Problem>(
  player: Player<P>,
  failure: Failure<P>,
  { reflectionsPerFailure }: CollectChoices,
  seed: number,
  step: number,
): Promise<Played<P>[]> {
  const { problem, attempt } = failure;
  const { tokens, ...asked } = player.askAgainPlainly(problem, attempt);
  const tries = await player.retries(
    problem,
    { ...asked, tokens },
    reflectionsPerFailure,
    hash32(seed, 1, 0),
  );
  return tries.map(({ written, score }, index) => ({
    episode: {
      ...episodeOf(failure, step, index),
      retry: written,
      score,
      reward: retryReward([passed(score)], 'mean'),
    },
    prompt: tokens,
    segments: [{ prompt: tokens, written }],
  }));
}

/** What an episode has from its failure. */
function episodeOf<P extends Problem>(
  { id, problem, attempt, verdict }: Failure<P>,
  step: number,
  index: number,
): Episode<P> {
  const score: Score = null;
  return {
    version: 1,
    step,
    group: id,
    index,
    problem,
    attempt,
    attemptScore: verdict,
    reflection: null,
    retry: null,
    score,
    reward: null,
    advantage: null,
  };
}
