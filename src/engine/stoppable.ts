/**
 * An engine whose sampling ends when a signal is raised, for work that nothing is kept of when it is stopped.
 *
 * Completions under way are cancelled, and the caller gets an error, never a completion that was cut off. Training
 * and scoring go on as they were: loops that train stop between two steps, with everything saved.
 */
import { R3Error } from '../lib/errors.ts';
import type { Engine } from './engine.ts';

/** `sample` throws R3Error `cancelled` with this message once the signal is raised. */
export function stoppable(engine: Engine, signal: AbortSignal, message: string): Engine {
  const stopIfAsked = (): void => {
    if (signal.aborted) throw new R3Error('engine', 'cancelled', message);
  };
  return {
    ...engine,
    sample: async (request) => {
      stopIfAsked();
      const both = request.signal === undefined ? signal : AbortSignal.any([signal, request.signal]);
      const completions = await engine.sample({ ...request, signal: both });
      stopIfAsked();
      return completions;
    },
  };
}
