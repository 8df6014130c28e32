/**
 * Futures: what a submitted operation becomes, and the long polls that wait for it.
 *
 * A future has its result when the operation has been done and nothing holds it back (the configured latency, a fault).
 * A result stays readable, since a client asks again when the connection broke. Polls that find nothing wait for
 * one window; all of them wait on one timer.
 */
import type { ForwardBackwardOutput, SampleResponse } from '../../src/engine/tinker/messages.ts';
import { makeDelayLine } from './delay-line.ts';
import type { Timers } from './timers.ts';

export type Outcome =
  | { kind: 'json'; body: Record<string, unknown> }
  | { kind: 'train'; output: ForwardBackwardOutput }
  | { kind: 'sample'; response: SampleResponse }
  | { kind: 'failed'; error: string; category: 'user' | 'server' | 'unknown' };

export type FutureKind = 'train' | 'sample' | 'other';

export interface Future {
  readonly id: string;
  readonly kind: FutureKind;
  readonly sessionId: string;
  outcome: Outcome | undefined;
  /** What still holds the result back. */
  holds: number;
  /** Whether the answer that only tells the result's size was given. */
  metadataGiven: boolean;
  waiters: (() => void)[];
}

export interface FuturesOptions {
  /** A result is there no earlier than so long after its request. */
  latencyMs: number;
  /** A poll without a result is answered after this. */
  pollWindowMs: number;
  /** So many results are kept; beyond, the oldest are forgotten (410). */
  keptResults: number;
  timers: Timers;
}

export interface Futures {
  open(kind: FutureKind, sessionId: string): Future;
  settle(future: Future, outcome: Outcome): void;
  /** A future with its result, one without when the window has passed, or the status of one that is not there. */
  poll(id: string): Promise<Future | 404 | 410>;
  get(id: string): Future | undefined;
  hold(id: string, ms: number): void;
  forget(id: string, status: 404 | 410): void;
  forgetSession(sessionId: string): void;
  /** Forgets everything, as a restart does. */
  clear(): void;
  pendingCount(): number;
  close(): void;
}

export function isReady({ outcome, holds }: Future): boolean {
  return outcome !== undefined && holds === 0;
}

export function makeFutures({ latencyMs, pollWindowMs, keptResults, timers }: FuturesOptions): Futures {
  const futures = new Map<string, Future>();
  const forgotten = new Map<string, 404 | 410>();
  const latency = makeDelayLine(latencyMs, timers);
  const windows = makeDelayLine(pollWindowMs, timers);
  /** Never starts again, so that no id comes twice in the life of a server. */
  let opened = 0;
  let pending = 0;

  function wake(future: Future): void {
    if (!isReady(future)) return;
    pending--;
    const { waiters } = future;
    future.waiters = [];
    for (const waiter of waiters) waiter();
  }
  function drop(future: Future, status: 404 | 410): void {
    if (!isReady(future)) pending--;
    futures.delete(future.id);
    forgotten.set(future.id, status);
    // A poll that waits finds the future gone.
    future.outcome = undefined;
    for (const waiter of future.waiters) waiter();
    future.waiters = [];
  }

  return {
    open(kind, sessionId) {
      const future: Future = {
        id: `future-${opened++}`,
        kind,
        sessionId,
        outcome: undefined,
        holds: 0,
        metadataGiven: false,
        waiters: [],
      };
      futures.set(future.id, future);
      pending++;
      for (const oldest of futures.values()) {
        if (futures.size <= keptResults || !isReady(oldest)) break;
        drop(oldest, 410);
      }
      if (latencyMs > 0) {
        future.holds++;
        latency.add(() => {
          future.holds--;
          wake(future);
        });
      }
      return future;
    },
    settle(future, outcome) {
      if (!futures.has(future.id)) return;
      future.outcome = outcome;
      wake(future);
    },
    async poll(id) {
      const future = futures.get(id);
      if (future === undefined) return forgotten.get(id) ?? 404;
      if (!isReady(future)) {
        await new Promise<void>((resolve) => {
          future.waiters.push(resolve);
          windows.add(() => {
            const place = future.waiters.indexOf(resolve);
            if (place >= 0) future.waiters.splice(place, 1);
            resolve();
          });
        });
      }
      return futures.has(id) ? future : (forgotten.get(id) ?? 404);
    },
    get: (id) => futures.get(id),
    hold(id, ms) {
      const future = futures.get(id);
      if (future === undefined) return;
      if (isReady(future)) pending++;
      future.holds++;
      timers.after(ms, () => {
        future.holds--;
        wake(future);
      });
    },
    forget(id, status) {
      const future = futures.get(id);
      if (future !== undefined) drop(future, status);
    },
    forgetSession(sessionId) {
      for (const future of futures.values()) if (future.sessionId === sessionId) drop(future, 404);
    },
    clear() {
      for (const future of futures.values()) drop(future, 404);
      forgotten.clear();
    },
    pendingCount: () => pending,
    close() {
      latency.clear();
      windows.clear();
    },
  };
}
