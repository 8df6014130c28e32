/**
 * A service, what meets its requests, and who plays on it: in virtual time without sockets, or on loopback with hurried clocks.
 *
 * In virtual time a seed fixes everything. On loopback the order in which requests arrive is the network's.
 */
import type { Requests } from '../../src/engine/tinker/requests.ts';
import { systemClock, type Clock } from '../../src/engine/clock.ts';
import type { Limits } from '../../src/engine/tinker/context.ts';
import { httpTo } from './in-process.ts';
import { startTinkerServer, type TinkerServer, type TinkerServerOptions } from './server.ts';
import { systemTimers, type Timers } from './timers.ts';
import { makeVirtualTime } from './virtual-time.ts';

/** How a client gets to the service. */
export interface Connection {
  url: string;
  clock: Clock;
  limits: Partial<Limits>;
  http?: Requests;
}

export interface Stage {
  server: TinkerServer;
  connection: Connection;
}

const HOUR_MS = 3_600_000;
/** No draw of faults shall outlast a client's patience. */
const LIMITS: Partial<Limits> = { patienceMs: 100 * HOUR_MS, operationMs: 100 * HOUR_MS, maxResubmits: 50 };
/** Longer than any fault holds a request. */
const LAST_ARRIVAL_MS = 100_000;
const POLL_WINDOW_MS = 10_000;

/** Plays in virtual time, until the last request that was held on its way has arrived. */
export async function playInVirtualTime<T>(
  seed: number,
  service: TinkerServerOptions,
  play: (stage: Stage) => Promise<T>,
): Promise<{ result: T; server: TinkerServer }> {
  const { clock, timers, run } = makeVirtualTime(seed);
  const options = { pollWindowMs: POLL_WINDOW_MS, ...service, timers, now: timers.now, listens: false };
  const server = await startTinkerServer(options);
  const connection = { url: server.url, clock, limits: LIMITS, http: httpTo(server, timers) };
  const whole = async (): Promise<T> => {
    const result = await play({ server, connection });
    await clock.sleep(LAST_ARRIVAL_MS, []);
    return result;
  };
  return { result: await run(whole(), 1000 * HOUR_MS), server };
}

/** How many times as fast as the machine's the clocks go. */
const HURRY = 100;

/** Plays on loopback. */
export async function playOnSockets<T>(
  service: TinkerServerOptions,
  play: (stage: Stage) => Promise<T>,
): Promise<{ result: T; server: TinkerServer }> {
  const timers: Timers = {
    now: () => HURRY * systemTimers.now(),
    after: (milliseconds, run) => systemTimers.after(milliseconds / HURRY, run),
  };
  const clock: Clock = {
    now: timers.now,
    random: () => 0.5,
    sleep: (milliseconds, cancel) => systemClock.sleep(milliseconds / HURRY, cancel),
    every: (milliseconds, work) => systemClock.every(milliseconds / HURRY, work),
  };
  // On a busy machine an answer may take a second, and nobody is gone for that.
  const options = { pollWindowMs: POLL_WINDOW_MS, ...service, timers, sessionTimeoutMs: Infinity };
  const server = await startTinkerServer(options);
  const limits = { ...LIMITS, callTimeoutMs: HOUR_MS, pollTimeoutMs: HOUR_MS };
  const connection = { url: server.url, clock, limits };
  return { result: await play({ server, connection }), server };
}
