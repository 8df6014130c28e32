/**
 * The order of an engine's calls: one at a time, as they were made, and no step on a gradient that is not whole.
 *
 * A caller may make a forward-backward and the step on it without awaiting between. Where the first fails, the second
 * must move nothing: steps are refused until the gradient was set to zero.
 */
import { messageOf, R3Error } from '../lib/errors.ts';

export interface CallOrder {
  /** Runs `work` when every call before it has ended, however it ended. */
  inOrder<T>(work: () => Promise<T>): Promise<T>;
  /** The same for what adds to the gradient. */
  adding<T>(work: () => Promise<T>): Promise<T>;
  /** The same for a step. Throws R3Error `incomplete` where something that adds to its gradient failed. */
  stepping<T>(work: () => Promise<T>): Promise<T>;
  /** The same for what sets the gradient to zero. */
  clearing<T>(work: () => Promise<T>): Promise<T>;
}

export function makeCallOrder(): CallOrder {
  let last: Promise<unknown> = Promise.resolve();
  let failed: { error: unknown } | undefined;
  const inOrder = <T>(work: () => Promise<T>): Promise<T> => {
    const result = last.then(work);
    last = result.catch(() => undefined);
    return result;
  };
  return {
    inOrder,
    adding: (work) =>
      inOrder(async () => {
        try {
          return await work();
        } catch (error) {
          failed ??= { error };
          throw error;
        }
      }),
    stepping: (work) =>
      inOrder(async () => {
        if (failed === undefined) return work();
        throw new R3Error(
          'engine',
          'incomplete',
          `step: expected the gradient of every forwardBackward before it, got one that failed (${messageOf(failed.error)}); call zeroGradients and begin the step anew`,
          { cause: failed.error },
        );
      }),
    clearing: (work) =>
      inOrder(async () => {
        const result = await work();
        failed = undefined;
        return result;
      }),
  };
}
