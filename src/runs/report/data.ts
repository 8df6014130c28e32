/**
 * What the report is made from: plain values, gathered by the caller from run folders.
 *
 * Pages and Markdown read nothing else. What a run does not hold is empty or null, and is then left out or named.
 */
import type { Score } from '../../method/episode.ts';
import type { StepRow } from '../run.ts';
import type { Digest } from './digest.ts';
import type { Results } from './results.ts';

/** The turns of an episode whose tokens can be trained. */
export type Turn = 'attempt' | 'reflection' | 'retry';

/** The tokens of a turn, for the view that shows them one by one. */
export interface TokenTurn {
  turn: Turn;
  trained: boolean;
  /** One for each token, the stop token included. */
  texts: readonly string[];
  /** Of the sampler, natural logarithm. */
  logprobs: readonly number[];
  /** Of the start model, where the run holds them. */
  referenceLogprobs?: readonly number[] | undefined;
}

/** One episode, with the task's own words for its problem. */
export interface ReportEpisode {
  id: string;
  /** Why it is shown: `helped`, `did not help`, `leaked`; none where a person chose it. */
  label?: string | undefined;
  /** As it was posed. */
  problem: string;
  attempt: string;
  attemptScore: Score;
  /** null in the baselines that do without. */
  reflection: string | null;
  /** The kind of reflection, where the task has one. */
  kind?: string | undefined;
  retry: string | null;
  retryScore: Score;
  /** null when it was not trained. */
  advantage: number | null;
  /** Empty where the episode was not trained; `why` says what is missing where tokens cannot be shown. */
  tokens: { turns: readonly TokenTurn[]; why?: string | undefined };
}

export interface ReportRun {
  /** The run's name. */
  name: string;
  config: Readonly<Record<string, unknown>>;
  /** Where the value of an option comes from, by its path in `config`: stated, inferred, default, preset, flag. */
  sources: Readonly<Record<string, string>>;
  /** What the run was made with: kernels, threads, node, platform, versions. */
  environment: readonly (readonly [label: string, value: string])[];
  /** metrics.jsonl. */
  rows: readonly StepRow[];
  /** null before there is an evaluation. A rate without data may be null or NaN. */
  results: Results | null;
  digest: Digest;
  /** What a reader of the numbers must not miss. */
  warnings: readonly string[];
  /** Shown in this order. */
  episodes: readonly ReportEpisode[];
}
