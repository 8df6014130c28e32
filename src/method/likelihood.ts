/**
 * Multiple choice by log-probability: which continuation of a context a model finds likeliest. Pure.
 *
 * The two ways of lm-evaluation-harness (lm_eval/api/task.py, `process_results` of multiple choice): `acc` compares sums
 * of log-probabilities, `acc_norm` sums divided by the number of characters of the continuation, without the
 * space before it. Of equal ones the first is chosen.
 */
import type { Choices } from './task.ts';

export interface ChosenByLikelihood {
  /** Indexes of continuations. */
  bySum: number;
  byCharacter: number;
}

/** `sums`: the log-probability of each continuation, in nats. */
export function chooseByLikelihood({ continuations }: Choices, sums: readonly number[]): ChosenByLikelihood {
  const perCharacter = sums.map((sum, i) => {
    // Code points, as Python counts them.
    const { length } = Array.from((continuations[i] ?? '').trimStart());
    return sum / Math.max(1, length);
  });
  return { bySum: indexOfLargest(sums), byCharacter: indexOfLargest(perCharacter) };
}

function indexOfLargest(values: readonly number[]): number {
  return values.reduce((best, value, i) => (value > (values[best] ?? -Infinity) ? i : best), 0);
}
