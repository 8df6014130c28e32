/**
 * From an episode to what the trainer reads: the token ids and the positions that are trained.
 *
 * The mask is built here and nowhere else; loss, metrics and display use it. Trained are exactly sampled ids, the stop
 * token included when it was sampled. By default those of the reflection: prompt, failed attempt and reflection request
 * are context only, and the retry is not in the sequence at all, it exists only to earn the reward. "Reflect, Retry,
 * Reward" (arXiv 2505.24726), section 3. Which other segments may be trained is the loop's choice.
 */
import type { Datum } from '../engine/engine.ts';
import { R3Error } from '../lib/errors.ts';
import type { Written } from './episode.ts';

/** A sampled run of tokens, and the ids that it was sampled after. */
export interface Segment {
  prompt: readonly number[];
  written: Pick<Written, 'tokens' | 'logprobs' | 'referenceLogprobs' | 'stopReason'>;
}

/** A sequence with what is known of its trained tokens from the time they were sampled. */
export interface Trained {
  datum: Datum;
  /** What was written at the trained positions, in their order. */
  parts: Segment['written'][];
  /** The sampler's log-probabilities, one per trained position. */
  sampledLogprobs: number[];
  /** Whether its last segment was cut off at the length limit. */
  truncated: boolean;
}

/** The mask, as ascending positions: the `count` tokens that follow `promptLength` prompt tokens. */
export function trainedPositions(promptLength: number, count: number): number[] {
  return Array.from({ length: count }, (_, t) => promptLength + t);
}

/**
 * The sequences that train these segments, in order. A segment whose prompt goes on where the one before it ended is
 * trained in the same sequence. Throws R3Error `bad-shape` when a prompt or a segment is empty: nothing precedes the
 * first token, or nothing is trained.
 */
export function trainedSequences(segments: readonly Segment[]): Trained[] {
  const sequences: Trained[] = [];
  for (const { prompt, written } of segments) {
    requireTokens('prompt', prompt);
    requireTokens('segment', written.tokens);
    const positions = trainedPositions(prompt.length, written.tokens.length);
    const tokens = [...prompt, ...written.tokens];
    const truncated = written.stopReason !== 'stop';
    const last = sequences.at(-1);
    if (last !== undefined && startsWith(prompt, last.datum.tokens)) {
      last.datum = { tokens, positions: [...last.datum.positions, ...positions] };
      last.parts.push(written);
      last.sampledLogprobs.push(...written.logprobs);
      last.truncated = truncated;
    } else {
      const sampledLogprobs = [...written.logprobs];
      sequences.push({ datum: { tokens, positions }, parts: [written], sampledLogprobs, truncated });
    }
  }
  return sequences;
}

/** Notes beside what was written what the start model gives it: one number per trained position. */
export function noteReference({ parts }: Trained, referenceLogprobs: ArrayLike<number>): void {
  let at = 0;
  for (const written of parts) {
    const from = at;
    at += written.tokens.length;
    written.referenceLogprobs = Array.from(
      { length: written.tokens.length },
      (_, t) => referenceLogprobs[from + t]!,
    );
  }
}

/** `prompt`: the ids up to and including the reflection's generation prompt. `reflection`: the ids as sampled. */
export function reflectionDatum(prompt: readonly number[], reflection: readonly number[]): Datum {
  requireTokens('prompt', prompt);
  requireTokens('reflection', reflection);
  return {
    tokens: [...prompt, ...reflection],
    positions: trainedPositions(prompt.length, reflection.length),
  };
}

function requireTokens(name: string, ids: readonly number[]): void {
  if (ids.length > 0) return;
  throw new R3Error('engine', 'bad-shape', `${name}: expected at least one token, got none`);
}

function startsWith(ids: readonly number[], beginning: readonly number[]): boolean {
  return ids.length > beginning.length && beginning.every((id, i) => ids[i] === id);
}
