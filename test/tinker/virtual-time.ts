/**
 * Time that passes only when nothing else is left to do, for client and server in one process without sockets.
 *
 * `run` lets everything run that can, then moves the clock to the next timer, and so on until a promise has settled.
 * So an hour of waiting takes milliseconds, and the same seed gives the same order of events. Work that leaves the
 * process (sockets, files, threads) is not waited for.
 */
import { onCancel, throwIfCancelled, type Clock } from '../../src/engine/clock.ts';
import { makeRng } from '../../src/lib/rng.ts';
import type { Timers } from './timers.ts';

export interface VirtualTime {
  /** For the client. */
  clock: Clock;
  /** For the server. */
  timers: Timers;
  /** What the promise gives. Throws when it has not settled after so much virtual time, or nothing could settle it. */
  run<T>(work: Promise<T>, limitMs: number): Promise<T>;
}

/** `seed`: of the clock's chance. */
export function makeVirtualTime(seed: number): VirtualTime {
  const rng = makeRng(seed);
  let now = 0;
  /** By when they are due, those of one time in the order in which they were set. */
  const pending: { due: number; run: () => void }[] = [];

  const after: Timers['after'] = (milliseconds, run) => {
    const timer = { due: now + Math.max(0, milliseconds), run };
    let at = pending.length;
    while (at > 0 && (pending[at - 1]?.due ?? 0) > timer.due) at--;
    pending.splice(at, 0, timer);
    return () => {
      const place = pending.indexOf(timer);
      if (place >= 0) pending.splice(place, 1);
    };
  };
  const clock: Clock = {
    now: () => now,
    random: () => rng.next(),
    sleep: async (milliseconds, cancel) => {
      throwIfCancelled(cancel);
      await new Promise<void>((resolve, reject) => {
        const stop = after(milliseconds, () => {
          leave();
          resolve();
        });
        const leave = onCancel(cancel, (error) => {
          stop();
          reject(error);
        });
      });
    },
    every: (milliseconds, work) => {
      let stop = (): void => undefined;
      const arm = (): void => {
        stop = after(milliseconds, () => {
          arm();
          work();
        });
      };
      arm();
      return () => stop();
    },
  };

  return {
    clock,
    timers: { now: () => now, after },
    run: async (work, limitMs) => {
      let isSettled = false;
      const settle = (): void => {
        isSettled = true;
      };
      work.then(settle, settle);
      const deadline = now + limitMs;
      for (;;) {
        // All that can run without time passing runs before this.
        await new Promise(setImmediate);
        if (isSettled) return work;
        const next = pending.shift();
        if (next === undefined)
          throw new Error('expected a promise to settle, got one that waits for nothing');
        if (next.due > deadline) {
          throw new Error(`expected a promise to settle within ${limitMs} ms, got one that did not`);
        }
        now = Math.max(now, next.due);
        next.run();
      }
    },
  };
}
