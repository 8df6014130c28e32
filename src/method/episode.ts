/**
 * The records of the method, as plain data: what a run folder holds and what a page shows.
 *
 * problem -> attempt -> verdict -> reflection -> retry -> reward. A *group* is the G reflections on one
 * failed attempt; its id is the failure's id, never derived from prompt text.
 * "Reflect, Retry, Reward" (arXiv 2505.24726), section 3.
 */
import type { Message, Written } from '../text/message.ts';

export type { Message, Written };

/** A score has three states: a verdict, not scored (null), or an error record. No failure becomes 0. */
export type Verdict = { ok: true } | { ok: false; class: string; why: string };
export interface ScoreError {
  error: string;
}
export type Score = Verdict | ScoreError | null;

/** Whether an answer passed; null where it was not judged. */
export function passed(score: Score): boolean | null {
  return score === null || 'error' in score ? null : score.ok;
}

/** Whether what a reflection hints at is true; `none` when it hints at nothing. */
export type Hint = 'true' | 'false' | 'none';

/** A task's own row plus an id that is unique in its data set. */
export interface Problem {
  id: string;
}

/** One failed attempt, frozen: what training starts from. */
export interface Failure<P extends Problem = Problem> {
  version: 1;
  /** Also the id of its group: `<problem id>#<sample index>`. */
  id: string;
  problem: P;
  /** Which of the problem's sampled attempts this is. */
  sampleIndex: number;
  /** Samples of this problem that were taken, and how many of them failed. */
  samples: number;
  failed: number;
  attempt: Written;
  verdict: Verdict;
  /** Of the start model, whose training this is part of. */
  modelHash: string;
  /**
   * What the attempt was sampled from: the prompt set's name, and the hash of the messages that pose the problem
   * (`posedHash`). Files of versions that did not keep it leave it out.
   */
  prompts?: { name: string; sha256: string } | undefined;
  sampling: { temperature: number; maxTokens: number; seed: number };
  /** The step before which it was mined from the weights of that time; left out: from the start model. */
  minedAt?: number | undefined;
}

/** A reflection and the retry after it, where an episode has several. */
export interface Round {
  reflection: Written;
  /** null when the reflection did not end. */
  retry: Written | null;
  score: Score;
}

/** One reflection on a failure and the retry that follows it. */
export interface Episode<P extends Problem = Problem> {
  version: 1;
  step: number;
  /** The failure's id. */
  group: string;
  /** 0 <= index < G. */
  index: number;
  problem: P;
  attempt: Written;
  attemptScore: Score;
  /** null in the baselines that do without: a retry right after the attempt, and attempts alone. */
  reflection: Written | null;
  /** null when the reflection did not end: there is then nothing to retry after. */
  retry: Written | null;
  /** Of the retry; of the attempt where attempts alone are trained. */
  score: Score;
  /** Further retries after the same reflection. */
  otherRetries?: { retry: Written; score: Score }[];
  /** What followed a retry that failed, where there are several rounds. */
  laterRounds?: Round[];
  /**
   * 1 when the (last) retry passes, else 0; of several retries the share that passes, or whether any does. null when
   * nothing was scored: such an episode is left out by name.
   */
  reward: number | null;
  /** null when the episode is not trained. */
  advantage: number | null;
  /** Updates of the weights between those that sampled it and its training, where steps are sampled ahead. */
  staleness?: number;
  /** The task's own name for the kind of reflection, and whether its hint is true, where the task can tell. */
  kind?: string;
  hint?: Hint;
}

/** A group without episodes: the engine failed on one of its requests. It has no score, and nobody counts it as failed. */
export interface LeftOut<P extends Problem = Problem> {
  step: number;
  /** As of an episode. */
  group: string;
  problem: P;
  /** What the engine said. */
  error: string;
}

/** Every retry of an episode: after the same reflection, and of later rounds. */
export function retriesOf({ retry, score, otherRetries = [], laterRounds = [] }: Episode): {
  retry: Written;
  score: Score;
}[] {
  return [{ retry, score }, ...otherRetries, ...laterRounds].flatMap((one) =>
    one.retry === null ? [] : [{ retry: one.retry, score: one.score }],
  );
}
