/**
 * Errors as OpenAI's clients expect them: a status and a body `{error: {message, type, param, code}}`.
 *
 * Whatever was thrown becomes one here. What the engine, the tokenizer or the template refuse of a request is the
 * client's mistake and keeps its message; of anything else the client learns no more than that it happened.
 */
import { R3Error } from '../lib/errors.ts';
import { showValue } from '../lib/json.ts';

type Status = 400 | 401 | 403 | 404 | 405 | 413 | 415 | 429 | 499 | 500 | 503;

export interface ErrorDetails {
  /** The field of the body that is at fault, such as `messages[2].role`. */
  param?: string;
  /** What programs tell errors apart by. */
  code?: string;
  headers?: Record<string, string>;
  cause?: unknown;
}

export class ApiError extends Error {
  readonly status: Status;
  readonly param: string | null;
  readonly code: string | null;
  readonly headers: Record<string, string>;

  constructor(status: Status, message: string, details: ErrorDetails = {}) {
    super(message, { cause: details.cause });
    this.name = 'ApiError';
    this.status = status;
    this.param = details.param ?? null;
    this.code = details.code ?? null;
    this.headers = details.headers ?? {};
  }
}

/** A field that is not what it should be: status 400. */
export function badField(param: string, expected: string, got: unknown, fix = ''): ApiError {
  const what = `${param}: expected ${expected}, got ${showValue(got)}`;
  return new ApiError(400, fix === '' ? what : `${what}; ${fix}`, { param });
}

/** More tokens than the model's context: status 400 with the code that clients look for. */
export function tooLong(message: string, param: string): ApiError {
  return new ApiError(400, message, { param, code: 'context_length_exceeded' });
}

export function toApiError(error: unknown): ApiError {
  if (error instanceof ApiError) return error;
  if (error instanceof R3Error) {
    const { code, message, boundary } = error;
    if (code === 'cancelled') return new ApiError(503, message, { cause: error });
    if (code === 'too-long') {
      return new ApiError(400, message, { code: 'context_length_exceeded', cause: error });
    }
    // A word without an id is said as a fault of the tokenizer's file, but it is the request that has the word.
    const isRefused = ['bad-option', 'bad-template', 'no-memory'].includes(code) || boundary === 'text';
    if (isRefused) return new ApiError(400, message, { cause: error });
  }
  return new ApiError(500, "internal error; the server's log says more", { cause: error });
}

/** The body of an error, also for an error in the middle of a stream. */
export function errorBody({ status, message, param, code }: ApiError): object {
  const type = status === 429 ? 'rate_limit_error' : status >= 500 ? 'server_error' : 'invalid_request_error';
  return { error: { message, type, param, code } };
}
