/**
 * The ends of a training run, from one pass over its episodes: how long reflections were and what retries came to, in
 * the first steps and in the last.
 *
 * Episodes stream by: lengths and counts are kept, texts are not. Held-out problems are an evaluation's affair.
 */
import type { Episode, Score } from '../../method/episode.ts';

/** Steps at either end of a run; of a short run at most half. */
const END_STEPS = 10;

export interface EndDigest {
  /** Tokens of each reflection, stop token included. */
  lengths: number[];
  /** How many retries came to each error class; `passed`, `no retry` and `not scored` are among them. */
  classes: Record<string, number>;
}

export interface Digest {
  /** How many steps each end has; 0: the run is too short to have two ends. */
  steps: number;
  before: EndDigest;
  after: EndDigest;
}

export interface Digester {
  add(episode: Episode): void;
  digest: Digest;
}

/** `steps`: those that the run has, ascending. */
export function makeDigester(steps: readonly number[]): Digester {
  const count = Math.min(END_STEPS, Math.floor(steps.length / 2));
  const digest: Digest = {
    steps: count,
    before: { lengths: [], classes: {} },
    after: { lengths: [], classes: {} },
  };
  const first = new Set(steps.slice(0, count));
  const last = new Set(steps.slice(steps.length - count));
  return {
    digest,
    add: ({ step, reflection, retry, score }) => {
      const end = first.has(step) ? digest.before : last.has(step) ? digest.after : undefined;
      if (end === undefined) return;
      if (reflection !== null) end.lengths.push(reflection.tokens.length);
      const name = reflection !== null && retry === null ? 'no retry' : className(score);
      end.classes[name] = (end.classes[name] ?? 0) + 1;
    },
  };
}

function className(score: Score): string {
  if (score === null || 'error' in score) return 'not scored';
  return score.ok ? 'passed' : score.class;
}
