/** Records for tests. */
import type { Failure, Problem, Written } from './episode.ts';

/** The first failed attempt at a problem. */
export function failureOf<P extends Problem>(problem: P, attempt: Written): Failure<P> {
  return {
    version: 1,
    id: `${problem.id}#0`,
    problem,
    sampleIndex: 0,
    samples: 1,
    failed: 1,
    attempt,
    verdict: { ok: false, class: 'wrong', why: '' },
    modelHash: '',
    sampling: { temperature: 1, maxTokens: 20, seed: 1 },
  };
}
