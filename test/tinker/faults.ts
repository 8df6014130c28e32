/**
 * Faults on request: what networks, proxies and servers do to a client, one fault for one HTTP request.
 *
 * A script is asked once for each request, before it is read, and says what happens to it. `makeFaultQueue` is for
 * tests that aim ("the third optim_step loses its reply"), `randomFaults` draws from a seed. The order in which requests
 * arrive is the network's, so a seed fixes the draws of each endpoint, not which request meets them.
 */
import { hashText, makeRng, type Rng } from '../../src/lib/rng.ts';

export type Fault =
  /** The connection is cut: before the request is read, after it was done and before its reply, or amid the reply. */
  | { kind: 'reset'; when: 'before' | 'after' | 'during' }
  /** An error status: instead of the work, or (as a proxy does) after it. */
  | { kind: 'status'; status: number; when: 'before' | 'after'; retryAfterMs?: number }
  /** The request is read and then held, so that later ones overtake it. */
  | { kind: 'hold'; ms: number }
  /** The request arrives twice; the second answer is the one that is sent. */
  | { kind: 'duplicate' }
  /** The future that the request opens has its result so much later. */
  | { kind: 'slow'; ms: number }
  /** The future that the request opens, or polls, is forgotten: it answers this status. */
  | { kind: 'lost'; status: 404 | 410; of: 'samples' | 'any' }
  /** The server goes down before the request is read, or after its operation was done, and comes back. Default before. */
  | { kind: 'restart'; when?: 'before' | 'after'; keeps: Keeps; downMs: number }
  /** All sessions end at once, as when heartbeats stay away. */
  | { kind: 'expire' }
  /** A model finds all adapter slots taken. */
  | { kind: 'full' };

/** What a restart keeps: all but the connections, what is on disk (checkpoints), or nothing. */
export type Keeps = 'memory' | 'checkpoints' | 'nothing';

/** `endpoint`: the last part of the path, such as `optim_step`. */
export type FaultScript = (endpoint: string) => Fault | undefined;

export interface FaultQueue {
  /** The request after the next `after` to `endpoint` meets the fault, and so do the `times - 1` that follow. */
  add(endpoint: string, fault: Fault, times?: number, after?: number): void;
  /** How many faults have not met a request. */
  left(): number;
  next: FaultScript;
}

export function makeFaultQueue(): FaultQueue {
  const queues = new Map<string, (Fault | undefined)[]>();
  return {
    add(endpoint, fault, times = 1, after = 0) {
      const queue = queues.get(endpoint) ?? [];
      queues.set(endpoint, queue);
      for (let i = 0; i < after; i++) queue.push(undefined);
      for (let i = 0; i < times; i++) queue.push(fault);
    },
    left: () => [...queues.values()].flat().filter((fault) => fault !== undefined).length,
    next: (endpoint) => queues.get(endpoint)?.shift(),
  };
}

export interface RandomFaultOptions {
  seed: number;
  /** The share of requests that meet a fault. */
  rate: number;
  /** What is drawn from, evenly. Default: PASSING_FAULTS. */
  faults?: readonly Fault[];
  /** So many requests to an endpoint in a row may meet faults; the next does not. Default 3. */
  mostInRow?: number;
  /** Endpoints that meet none. */
  spared?: readonly string[];
}

/** What a client should get over without anyone noticing. */
export const PASSING_FAULTS: readonly Fault[] = [
  { kind: 'reset', when: 'before' },
  { kind: 'reset', when: 'after' },
  { kind: 'reset', when: 'during' },
  { kind: 'status', status: 500, when: 'before' },
  { kind: 'status', status: 502, when: 'after' },
  { kind: 'status', status: 503, when: 'before' },
  { kind: 'status', status: 408, when: 'before' },
  { kind: 'status', status: 429, when: 'before' },
  { kind: 'hold', ms: 5 },
  { kind: 'duplicate' },
  { kind: 'slow', ms: 10 },
  { kind: 'lost', status: 410, of: 'samples' },
  { kind: 'restart', keeps: 'memory', downMs: 0 },
];

/** Where time is virtual, long waits cost nothing: a request arrives when its client has long sent another, a pause lasts. */
export const PATIENT_FAULTS: readonly Fault[] = [
  ...PASSING_FAULTS,
  { kind: 'reset', when: 'after' },
  { kind: 'status', status: 500, when: 'after' },
  { kind: 'status', status: 504, when: 'after' },
  { kind: 'status', status: 425, when: 'before' },
  { kind: 'status', status: 408, when: 'after' },
  { kind: 'status', status: 429, when: 'before', retryAfterMs: 40 },
  { kind: 'status', status: 429, when: 'after', retryAfterMs: 0 },
  { kind: 'status', status: 402, when: 'before' },
  { kind: 'hold', ms: 400 },
  { kind: 'hold', ms: 70_000 },
  { kind: 'slow', ms: 9000 },
  { kind: 'lost', status: 404, of: 'samples' },
  { kind: 'restart', keeps: 'memory', downMs: 3000 },
  { kind: 'restart', when: 'after', keeps: 'memory', downMs: 40 },
];

/** What ends a session, a model or a result for good: a run stops, and goes on from its last checkpoint. */
export const ENDING_FAULTS: readonly Fault[] = [
  { kind: 'expire' },
  { kind: 'full' },
  { kind: 'lost', status: 410, of: 'any' },
  { kind: 'restart', keeps: 'checkpoints', downMs: 0 },
  { kind: 'restart', keeps: 'checkpoints', downMs: 5000 },
  { kind: 'restart', when: 'after', keeps: 'checkpoints', downMs: 0 },
];

export function randomFaults(options: RandomFaultOptions): FaultScript {
  const { seed, rate, faults = PASSING_FAULTS, mostInRow = 3, spared = [] } = options;
  const endpoints = new Map<string, { rng: Rng; inRow: number }>();
  return (endpoint) => {
    if (spared.includes(endpoint) || faults.length === 0) return undefined;
    const own = endpoints.get(endpoint) ?? { rng: makeRng(seed, hashText(endpoint)), inRow: 0 };
    endpoints.set(endpoint, own);
    const isHit = own.rng.next() < rate && own.inRow < mostInRow;
    own.inRow = isHit ? own.inRow + 1 : 0;
    return isHit ? own.rng.pick([...faults]) : undefined;
  };
}
