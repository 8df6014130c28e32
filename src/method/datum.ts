/**
 * From an episode to what the trainer reads: the token ids and the positions that are trained.
 *
 * The mask is built here and nowhere else; loss, metrics and display use it. Trained are exactly the sampled
 * reflection ids, the stop token included when it was sampled. Prompt, failed attempt and reflection request are
 * context only, and the retry is not in the sequence at all: it exists only to earn the reward.
 * "Reflect, Retry, Reward" (arXiv 2505.24726), section 3.
 */
import type { Datum } from '../engine/engine.ts';
import { R3Error } from '../lib/errors.ts';
import type { Episode } from './episode.ts';

/** The mask, as ascending positions: the `count` reflection tokens that follow `promptLength` prompt tokens. */
export function trainedPositions(promptLength: number, count: number): number[] {
  return Array.from({ length: count }, (_, t) => promptLength + t);
}

/**
 * `prompt`: the ids up to and including the reflection's generation prompt. `reflection`: the ids as sampled.
 * Throws R3Error `bad-shape` when either is empty: nothing precedes the first token, or nothing is trained.
 */
export function reflectionDatum(prompt: readonly number[], reflection: readonly number[]): Datum {
  for (const [name, ids] of Object.entries({ prompt, reflection })) {
    if (ids.length === 0)
      throw new R3Error('engine', 'bad-shape', `${name}: expected at least one token, got none`);
  }
  return {
    tokens: [...prompt, ...reflection],
    positions: trainedPositions(prompt.length, reflection.length),
  };
}

/** How many tokens of an episode are trained: 0 when it is left out (its advantage is null). */
export function trainedCount({ advantage, reflection }: Episode): number {
  return advantage === null || reflection === null ? 0 : reflection.tokens.length;
}
