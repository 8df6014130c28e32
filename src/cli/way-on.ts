/** What a command says when it ends for a reason that can be mended: what is kept, and how to go on. */
import { R3Error, type ErrorCode } from '../lib/errors.ts';

/**
 * A full disk, or a service that did not answer, was restarted, has no place for the model, failed at it, or waits for
 * payment.
 */
const MENDABLE: readonly ErrorCode[] = [
  'no-space',
  'no-network',
  'no-access',
  'expired',
  'failed',
  'incomplete',
];

/** The error to throw. `kept`: a sentence; called only where the error can be mended. */
export function withWayOn(error: unknown, kept: () => string, command: string): unknown {
  if (!(error instanceof R3Error && MENDABLE.includes(error.code))) return error;
  const { message, boundary, code } = error;
  return new R3Error(boundary, code, `${message}. ${kept()}; when that is mended, go on with: ${command}`, {
    cause: error,
  });
}
