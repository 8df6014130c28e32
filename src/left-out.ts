/**
 * What happens to work that the engine fails on: it is left out by name, and the rest goes on.
 *
 * A remote engine that has tried and tried again may still fail on one request. The group, problem or row that needed it
 * has no score then, which is not a score of 0; who goes on without it says so. An error that would meet every request
 * alike (a wrong option, no access, a cancellation, a fault of ours) ends the work at once, and so does a failure on more
 * than half of it.
 */
import { R3Error, type ErrorCode } from './lib/errors.ts';

/** Not of one request: the next one would fail in the same way, or nobody waits for it. */
const OF_ALL_REQUESTS: readonly ErrorCode[] = [
  'bad-option',
  'bad-shape',
  'mismatch',
  'no-memory',
  'no-space',
  'no-access',
  'cancelled',
];
/** Before so many are done it is too early to say that most of them fail. */
const FIRST_JUDGED = 64;

/** What `work` gives, or the engine's failure on a request of it. Throws every other error. */
export async function attempted<T>(work: () => Promise<T>): Promise<T | R3Error> {
  try {
    return await work();
  } catch (error) {
    const isOfRequest =
      error instanceof R3Error && error.boundary === 'engine' && !OF_ALL_REQUESTS.includes(error.code);
    if (!isOfRequest) throw error;
    return error;
  }
}

/** Throws R3Error `incomplete` when the engine failed on more than half. `failures`: what it said. */
export function requireMost(what: string, failures: readonly string[], of: number): void {
  if (2 * failures.length <= of) return;
  throw new R3Error(
    'engine',
    'incomplete',
    `${what}: expected the engine to answer for at least half of ${of}, got failures on ${failures.length}: ${failures[0]}`,
  );
}

/** The same while `done` of them are done. */
export function requireMostSoFar(what: string, failures: readonly string[], done: number): void {
  requireMost(what, failures, Math.max(done, FIRST_JUDGED));
}
