/**
 * Waits of one length for any number of callers, with a single timer.
 *
 * Every wait of a line is equally long, so that waits end in the order in which they began: the line is a queue, and the
 * timer stands for its head. Ten thousand long polls cost ten thousand queue entries and one timer.
 */

export interface DelayLine {
  /** Calls `run` once, the line's delay from now. */
  add(run: () => void): void;
  /** Forgets what waits. */
  clear(): void;
}

/** Entries that are done are cut off the front when there are this many. */
const TRIM_COUNT = 4096;

export function makeDelayLine(delayMs: number): DelayLine {
  let queue: { due: number; run: () => void }[] = [];
  let head = 0;
  let timer: NodeJS.Timeout | undefined;

  function arm(): void {
    const first = queue[head];
    if (timer !== undefined || first === undefined) return;
    timer = setTimeout(tick, Math.max(0, first.due - performance.now()));
  }
  function tick(): void {
    timer = undefined;
    const now = performance.now();
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
      queue.push({ due: performance.now() + delayMs, run });
      arm();
    },
    clear() {
      clearTimeout(timer);
      timer = undefined;
      queue = [];
      head = 0;
    },
  };
}
