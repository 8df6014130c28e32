/**
 * Waits of one length for any number of callers, with a single timer.
 *
 * Every wait of a line is equally long, so that waits end in the order in which they began: the line is a queue, and the
 * timer stands for its head. Ten thousand long polls cost ten thousand queue entries and one timer.
 */
import type { Timers } from './timers.ts';

export interface DelayLine {
  /** Calls `run` once, the line's delay from now. */
  add(run: () => void): void;
  /** Forgets what waits. */
  clear(): void;
}

/** Entries that are done are cut off the front when there are this many. */
const TRIM_COUNT = 4096;

export function makeDelayLine(delayMs: number, timers: Timers): DelayLine {
  let queue: { due: number; run: () => void }[] = [];
  let head = 0;
  let disarm: (() => void) | undefined;

  function arm(): void {
    const first = queue[head];
    if (disarm !== undefined || first === undefined) return;
    disarm = timers.after(Math.max(0, first.due - timers.now()), tick);
  }
  function tick(): void {
    disarm = undefined;
    const now = timers.now();
    for (let entry = queue[head]; entry !== undefined && entry.due <= now; entry = queue[head]) {
      head++;
      entry.run();
    }
    if (head === queue.length || head > TRIM_COUNT) {
      queue = queue.slice(head);
      head = 0;
    }
    arm();
  }

  return {
    add(run) {
      queue.push({ due: timers.now() + delayMs, run });
      arm();
    },
    clear() {
      disarm?.();
      disarm = undefined;
      queue = [];
      head = 0;
    },
  };
}
