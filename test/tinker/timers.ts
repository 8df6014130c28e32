/** The time of the server: that of the machine, or what a test puts in its place (virtual-time.ts). */

export interface Timers {
  /** Milliseconds; never goes back. */
  now(): number;
  /** Calls `run` once, so much later. Returns what takes it back. */
  after(milliseconds: number, run: () => void): () => void;
}

export const systemTimers: Timers = {
  now: () => performance.now(),
  after: (milliseconds, run) => {
    const timer = setTimeout(run, milliseconds);
    return () => clearTimeout(timer);
  },
};

export function wait(timers: Timers, milliseconds: number): Promise<void> {
  return new Promise((resolve) => {
    timers.after(milliseconds, resolve);
  });
}
