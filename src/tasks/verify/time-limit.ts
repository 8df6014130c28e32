/**
 * Work that an answer can make arbitrarily long, such as a regular expression that backtracks, under a time limit.
 *
 * V8 looks for a request to stop also inside a regular expression; `node:vm` makes that request. This is a limit on
 * time alone: it isolates nothing, and it holds this thread for as long as the work lasts.
 */
import { createContext, Script } from 'node:vm';

/** A verdict takes microseconds; an expression that needs this long does so because it backtracks. */
export const TIME_LIMIT_MS = 500;

/** One context for all work, because making one takes a millisecond. */
const scope: { work: () => unknown; result: unknown } = { work: () => undefined, result: undefined };
const context = createContext(scope);
const script = new Script('result = work()');

/** What `work` gives. Throws what it throws, and an Error when it takes longer than the limit. */
export function withinTime<T>(what: string, work: () => T, limitMs = TIME_LIMIT_MS): T {
  scope.work = work;
  try {
    script.runInContext(context, { timeout: limitMs });
    return scope.result as T;
  } catch (error) {
    // Not `instanceof Error`: this one may belong to the other context.
    if ((error as { code?: unknown } | undefined)?.code === 'ERR_SCRIPT_EXECUTION_TIMEOUT') {
      throw new Error(`${what}: expected a verdict within ${limitMs} ms, got none; simplify its patterns`, {
        cause: error,
      });
    }
    throw error;
  }
}
