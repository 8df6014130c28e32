/**
 * Time, chance and cancellation, as clients of services use them.
 *
 * All three are passed in, so that tests run without waiting and always the same. One signal may belong to
 * ten thousand calls: it gets one listener, however many wait for it.
 */
import { R3Error } from '../lib/errors.ts';

export interface Clock {
  /** Milliseconds from some beginning; never goes back. */
  now(): number;
  /** At least 0, below 1. */
  random(): number;
  /** Throws the R3Error of the cancellation, at once, when one of the signals is raised. */
  sleep(milliseconds: number, cancel: Cancel): Promise<void>;
  /** Does something again and again, without keeping the process alive. Returns what ends it. */
  every(milliseconds: number, work: () => void): () => void;
}

/** Whichever signal is raised first ends the call. */
export type Cancel = readonly AbortSignal[];

export const systemClock: Clock = {
  now: () => performance.now(),
  random: Math.random,
  sleep: async (milliseconds, cancel) => {
    throwIfCancelled(cancel);
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(() => {
        leave();
        resolve();
      }, milliseconds);
      const leave = onCancel(cancel, (error) => {
        clearTimeout(timer);
        reject(error);
      });
    });
  },
  every: (milliseconds, work) => {
    const timer = setInterval(work, milliseconds);
    timer.unref();
    return () => clearInterval(timer);
  },
};

export function throwIfCancelled(cancel: Cancel): void {
  for (const signal of cancel) if (signal.aborted) throw cancelError(signal);
}

const waiting = new WeakMap<AbortSignal, Set<(error: R3Error) => void>>();

/** Calls `run` once when a signal is raised from now on. Returns what takes it back. */
export function onCancel(cancel: Cancel, run: (error: R3Error) => void): () => void {
  for (const signal of cancel) {
    let set = waiting.get(signal);
    if (set === undefined) {
      const fresh = new Set<(error: R3Error) => void>();
      waiting.set(signal, fresh);
      const tell = (): void => {
        for (const each of fresh) each(cancelError(signal));
      };
      signal.addEventListener('abort', tell, { once: true });
      set = fresh;
    }
    set.add(run);
  }
  return () => {
    for (const signal of cancel) waiting.get(signal)?.delete(run);
  };
}

/** The reason of the signal where it is one of our errors, else that something was cancelled. */
function cancelError({ reason }: AbortSignal): R3Error {
  if (reason instanceof R3Error) return reason;
  return new R3Error('engine', 'cancelled', 'the call to the service was cancelled', { cause: reason });
}
