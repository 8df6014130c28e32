/**
 * The order of one model's operations: they run one at a time by their seq_id, not by their arrival.
 *
 * Chunks of a call arrive in any order, and a number may be missing for good, because a refused request has used it up.
 * So a gap is waited for during a short grace time and then passed over. An operation that comes after its turn was
 * passed over still runs, next, and is counted as late.
 */
import type { Timers } from './timers.ts';

export interface Sequence {
  add(seqId: number, run: () => Promise<void>): void;
  /** This number will not come: a refused request has used it up. */
  giveUp(seqId: number): void;
  isIdle(): boolean;
  /** How many operations came after their turn had been passed over. */
  lateCount(): number;
  /** Nothing more runs. */
  close(): void;
}

export function makeSequence(first: number, graceMs: number, timers: Timers): Sequence {
  const waiting = new Map<number, () => Promise<void>>();
  const skipped = new Set<number>();
  let next = first;
  let late = 0;
  let isBusy = false;
  let isClosed = false;
  let stopWaiting: (() => void) | undefined;

  function passOver(): void {
    stopWaiting = undefined;
    if (waiting.size > 0) next = Math.min(...waiting.keys());
    pump();
  }
  /** The number whose turn it is, of those that have come. */
  function turn(): number | undefined {
    if (late > 0) {
      const lowest = Math.min(...waiting.keys());
      if (lowest < next) return lowest;
    }
    while (skipped.delete(next)) next++;
    return waiting.has(next) ? next : undefined;
  }
  function pump(): void {
    if (isBusy || isClosed || waiting.size === 0) return;
    const seqId = turn();
    const run = seqId === undefined ? undefined : waiting.get(seqId);
    if (seqId === undefined || run === undefined) {
      stopWaiting ??= timers.after(graceMs, passOver);
      return;
    }
    stopWaiting?.();
    stopWaiting = undefined;
    waiting.delete(seqId);
    next = Math.max(next, seqId + 1);
    isBusy = true;
    void run().finally(() => {
      isBusy = false;
      pump();
    });
  }

  return {
    add(seqId, run) {
      if (seqId < next) late++;
      waiting.set(seqId, run);
      pump();
    },
    giveUp(seqId) {
      if (seqId >= next) skipped.add(seqId);
      pump();
    },
    isIdle: () => !isBusy && waiting.size === 0,
    lateCount: () => late,
    close() {
      isClosed = true;
      stopWaiting?.();
      waiting.clear();
    },
  };
}
