import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { waitBeforeResend, type Attempts, type ResendLimits } from './retry.ts';

const LIMITS: ResendLimits = {
  maxResends: 30,
  patienceMs: 300_000,
  billingPauseMs: 3_600_000,
  badRequests: 0,
};
const NONE: Attempts = { failures: 0, badRequests: 0, elapsedMs: 0 };
const reply = (status: number, headers: Record<string, string> = {}, body = '{"detail":"x"}') => ({
  reply: { status, headers, body: Buffer.from(body) },
});
const wait = (
  failure: Parameters<typeof waitBeforeResend>[0],
  attempts: Partial<Attempts> = {},
  limits: Partial<ResendLimits> = {},
) => waitBeforeResend(failure, { ...NONE, ...attempts }, { ...LIMITS, ...limits }, 0.5);

describe('waitBeforeResend', () => {
  it('resends what may pass: 408, 425, 429, 5xx, and connections that were lost', () => {
    for (const status of [408, 425, 429, 500, 502, 503, 504])
      expect(wait(reply(status)), String(status)).toBe(375);
    expect(wait({})).toBe(375);
  });

  it('does not resend what a service refuses, a name that is taken among it', () => {
    for (const status of [400, 401, 403, 404, 405, 409, 410, 422]) {
      expect(wait(reply(status)), String(status)).toBeUndefined();
    }
  });

  it('takes an empty 400 for a reset connection, and others as often as it is told', () => {
    expect(wait(reply(400, {}, ''))).toBe(375);
    expect(wait(reply(400), { badRequests: 2 }, { badRequests: 3 })).toBe(375);
    expect(wait(reply(400), { badRequests: 3 }, { badRequests: 3 })).toBeUndefined();
  });

  it('goes by the word of the server: x-should-retry, and retry-after up to a minute', () => {
    expect(wait(reply(500, { 'x-should-retry': 'false' }))).toBeUndefined();
    expect(wait(reply(409, { 'x-should-retry': 'true' }))).toBe(375);
    expect(wait(reply(429, { 'retry-after': '7' }))).toBe(7000);
    expect(wait(reply(429, { 'retry-after': '7', 'retry-after-ms': '20' }))).toBe(20);
    expect(wait(reply(429, { 'retry-after': '3600' }))).toBe(375);
    expect(wait(reply(429, { 'retry-after': 'tomorrow' }))).toBe(375);
  });

  it('sends again at once, once, where the server may have closed an idle connection', () => {
    expect(wait({ isStale: true })).toBe(0);
    expect(wait({ isStale: true }, { failures: 1 })).toBe(750);
  });

  it('asks a service that waits for payment every five seconds, up to its limit', () => {
    expect(wait(reply(402), { failures: 99, elapsedMs: 3_000_000 })).toBe(5000);
    expect(wait(reply(402), { elapsedMs: 3_600_000 })).toBeUndefined();
    expect(wait(reply(402), {}, { billingPauseMs: 0 })).toBeUndefined();
  });

  it('waits grow, are at most 30 s, and end with the limits', () => {
    fc.assert(
      fc.property(
        fc.nat(100),
        fc.nat(400_000),
        fc.double({ min: 0, max: 0.999, noNaN: true }),
        (failures, elapsedMs, random) => {
          const waitMs = waitBeforeResend(
            reply(503),
            { failures, badRequests: 0, elapsedMs },
            LIMITS,
            random,
          );
          if (waitMs === undefined) {
            expect(failures >= LIMITS.maxResends || elapsedMs + 30_000 > LIMITS.patienceMs).toBe(true);
            return;
          }
          expect(failures).toBeLessThan(LIMITS.maxResends);
          expect(elapsedMs + waitMs).toBeLessThanOrEqual(LIMITS.patienceMs);
          expect(waitMs).toBeGreaterThanOrEqual(Math.min(500 * 2 ** failures, 30_000) / 2);
          expect(waitMs).toBeLessThanOrEqual(30_000);
        },
      ),
    );
  });
});
