/**
 * What all calls of one client share, its limits, and a call that is sent until it is answered.
 *
 * `call` is the only loop of resends (retry.ts decides); polling for results has its own in futures.ts, since there a
 * late answer is no failure.
 */
import { R3Error } from '../../lib/errors.ts';
import { oneLine } from '../../lib/printable.ts';
import { throwIfCancelled, type Cancel, type Clock } from '../clock.ts';
import { Lost, type Reply } from '../http.ts';
import { badAnswer, errorOfReply, type Named, type Redact } from './errors.ts';
import type { Requests, Send } from './requests.ts';
import { readJson } from './json.ts';
import { waitBeforeResend, type Attempts, type Failure } from './retry.ts';

export interface Limits {
  /** An answer to a plain call. The protocol's own client waits as long. */
  callTimeoutMs: number;
  /** An answer to a poll: servers hold polls open for 5 to 30 s. */
  pollTimeoutMs: number;
  /** One call with all its resends. */
  patienceMs: number;
  maxResends: number;
  /** From the first poll for a result to the last. A large model's step may queue for long. */
  operationMs: number;
  /** How long a service may wait for payment; a lower limit of the server holds. */
  billingPauseMs: number;
  /** Samples in flight; a lower limit of the server holds. Each may hold a connection. */
  maxInFlight: number;
  /** Samples whose request is on its way and not yet accepted. */
  maxDispatches: number;
  /** Samples whose results the server lost are asked for anew so often. */
  maxResubmits: number;
}

export const LIMITS: Limits = {
  callTimeoutMs: 60_000,
  pollTimeoutMs: 45_000,
  patienceMs: 300_000,
  maxResends: 30,
  operationMs: 3_600_000,
  billingPauseMs: 3_600_000,
  maxInFlight: 2000,
  maxDispatches: 400,
  maxResubmits: 3,
};

/** What a request to take something away is answered where an earlier send of it has done so. */
export const GONE: readonly number[] = [404, 410];

/** The same notice is given so often at most. */
const NOTICE_INTERVAL_MS = 60_000;
/** Failures in a row of which nobody is told. */
const QUIET_FAILURES = 2;

export interface Context {
  http: Requests;
  clock: Clock;
  limits: Limits;
  redact: Redact;
  /** Ends every call of the client. */
  ended: AbortSignal;
  /** Tells the person who watches; the same kind at most once a minute. */
  notice(kind: string, text: string): void;
  counts: { calls: number; resent: number; polls: number };
  /** Whether anything has ever answered. */
  wasReached: boolean;
}

/** A notice for each kind, not more often than once a minute. */
export function makeNotice(clock: Clock, redact: Redact, tell: (text: string) => void): Context['notice'] {
  const last = new Map<string, number>();
  return (kind, text) => {
    const now = clock.now();
    if (now - (last.get(kind) ?? -Infinity) < NOTICE_INTERVAL_MS) return;
    last.set(kind, now);
    tell(oneLine(redact(text)));
  };
}

export interface Call extends Named, Send {
  /** Statuses that are answers to the caller, beside 2xx. */
  accepted?: readonly number[];
}

/** The reply to a call. What may pass is sent again, as the same bytes. Throws R3Error. */
export async function call(context: Context, asked: Call): Promise<Reply> {
  const retries = startRetries(context, asked.what, asked.cancel);
  context.counts.calls += 1;
  for (;;) {
    let failure: Failure;
    let error: R3Error;
    try {
      const reply = await context.http.send(asked, context.limits.callTimeoutMs);
      context.wasReached = true;
      const { status } = reply;
      if ((status >= 200 && status < 300) || asked.accepted?.includes(status) === true) return reply;
      failure = { reply };
      error = errorOfReply(asked, reply, context.redact);
    } catch (cause) {
      if (!(cause instanceof Lost)) throw cause;
      failure = { isStale: cause.why === 'stale' };
      error = errorOfLoss(asked.what, cause);
      // Nobody has ever answered at this address: it is wrong sooner than busy.
      if (cause.why === 'unreachable' && !context.wasReached) throw error;
    }
    throwIfCancelled(asked.cancel);
    await retries.wait(failure, error);
    context.counts.resent += 1;
  }
}

/** The JSON of a reply, which must be an object. */
export function objectOf(what: string, reply: Reply): Record<string, unknown> {
  const value = readJson(reply.body.toString('utf8'), what);
  if (typeof value === 'object' && value !== null && !Array.isArray(value))
    return value as Record<string, unknown>;
  throw badAnswer(what, 'a JSON object', 'another value');
}

export function errorOfLoss(what: string, lost: Lost): R3Error {
  const message = `${what}: expected an answer, got none (${oneLine(lost.message)}); is the service running?`;
  return new R3Error('engine', 'no-network', message, { cause: lost });
}

/** Failures in a row, and the waits between them. */
export interface Retries {
  /** Waits before a resend, or throws the error when there is to be none. */
  wait(failure: Failure, error: R3Error): Promise<void>;
  /** After an answer: the next failure is a first one. */
  reset(): void;
}

/** `badRequests`: statuses 400 that are asked again. */
export function startRetries(context: Context, what: string, cancel: Cancel, badRequests = 0): Retries {
  const { clock, limits } = context;
  let attempts: Attempts = { failures: 0, badRequests: 0, elapsedMs: 0 };
  let started = 0;
  /** A pause for payment and other trouble have each their own time. */
  let kind: 'none' | 'billing' | 'trouble' = 'none';
  return {
    wait: async (failure, error) => {
      const status = failure.reply?.status;
      const found = status === 402 ? 'billing' : 'trouble';
      if (kind !== found) started = clock.now();
      kind = found;
      attempts.elapsedMs = clock.now() - started;
      const waitMs = waitBeforeResend(failure, attempts, { ...limits, badRequests }, clock.random());
      if (waitMs === undefined) throw error;
      if (found === 'billing') {
        context.notice(
          'billing',
          `${what}: the service waits for payment, and this run waits too; ${error.message}`,
        );
      } else {
        attempts.failures += 1;
        if (attempts.failures > QUIET_FAILURES) context.notice('resend', `${error.message}; asked again`);
      }
      if (status === 400) attempts.badRequests += 1;
      await clock.sleep(waitMs, cancel);
    },
    reset: () => {
      attempts = { failures: 0, badRequests: 0, elapsedMs: 0 };
      kind = 'none';
    },
  };
}
