/**
 * Which failed requests are sent again, when, and how often. Pure: no clock, no network.
 *
 * The one place where this client decides to resend. Waits double from half a second to half a minute, between half
 * and all of it by chance, so that many clients do not come back together. A server's own word goes before that: `retry-after`
 * up to a minute, and `x-should-retry`. Two limits end it: resends, and the time since the first send. A request is
 * resent only as the same bytes, whose sequence id tells the server that it is the same one.
 *
 * Wire facts: 408, 425 (RFC 8470), 429, 5xx and lost connections pass; 402 is a pause for payment, asked again every 5 s up to the time
 * that the server's configuration allows; a 400 on polling may come from a proxy and is asked again three times;
 * an empty 400 is a reset connection. 409 stands for a name that is taken, and stays.
 */
import type { Reply } from '../http.ts';

/** A request that failed: its reply, or undefined for a connection that was lost. */
export interface Failure {
  reply?: Reply | undefined;
  /** The connection was one that the server may have closed before. */
  isStale?: boolean | undefined;
}

export interface ResendLimits {
  /** Sends after the first. */
  maxResends: number;
  /** From the first send to the last resend. */
  patienceMs: number;
  /** The same for a service that waits for payment. */
  billingPauseMs: number;
  /** Statuses 400 that are asked again. */
  badRequests: number;
}

/** What has been tried for one request. */
export interface Attempts {
  failures: number;
  badRequests: number;
  /** Milliseconds since the first failure of a row. */
  elapsedMs: number;
}

const FIRST_WAIT_MS = 500;
const MAX_WAIT_MS = 30_000;
const MAX_ASKED_WAIT_MS = 60_000;
const BILLING_WAIT_MS = 5000;

/** Milliseconds to wait before the resend, or undefined when there is none. `random` is at least 0 and below 1. */
export function waitBeforeResend(
  failure: Failure,
  attempts: Attempts,
  limits: ResendLimits,
  random: number,
): number | undefined {
  const { reply } = failure;
  if (reply?.status === 402) {
    return attempts.elapsedMs + BILLING_WAIT_MS <= limits.billingPauseMs ? BILLING_WAIT_MS : undefined;
  }
  const isStale = failure.isStale === true && attempts.failures === 0;
  const waitMs = isStale ? 0 : (askedWait(reply) ?? growingWait(attempts.failures, random));
  const isOver = attempts.failures >= limits.maxResends || attempts.elapsedMs + waitMs > limits.patienceMs;
  return isOver || !mayPass(reply, attempts, limits) ? undefined : waitMs;
}

function mayPass(reply: Reply | undefined, attempts: Attempts, limits: ResendLimits): boolean {
  if (reply === undefined) return true;
  const { status, headers, body } = reply;
  if (headers['x-should-retry'] === 'true') return true;
  if (headers['x-should-retry'] === 'false') return false;
  if (status === 400) return body.length === 0 || attempts.badRequests < limits.badRequests;
  return status === 408 || status === 425 || status === 429 || status >= 500;
}

function growingWait(failures: number, random: number): number {
  return Math.min(FIRST_WAIT_MS * 2 ** Math.min(failures, 10), MAX_WAIT_MS) * (0.5 + random / 2);
}

/** What `retry-after-ms` or `retry-after` (in seconds) asks for, unless it is too long. */
function askedWait(reply: Reply | undefined): number | undefined {
  if (reply === undefined) return undefined;
  const milliseconds = Number(reply.headers['retry-after-ms'] ?? Number.NaN);
  const seconds = Number(reply.headers['retry-after'] ?? Number.NaN);
  const asked = Number.isNaN(milliseconds) ? seconds * 1000 : milliseconds;
  return asked >= 0 && asked <= MAX_ASKED_WAIT_MS ? asked : undefined;
}
