/** How the server says no: a refusal of a request with an HTTP status, or the failure of an operation it had taken. */

/** Refused before a future exists. The body is never empty: clients take an empty 400 for a broken connection. */
export class Refusal extends Error {
  readonly status: number;

  constructor(status: number, detail: string) {
    super(detail);
    this.status = status;
  }
}

/** The answer of a future whose operation did not work: `{error, category}` with status 200. */
export class OperationFailure extends Error {
  readonly category: 'user' | 'server' | 'unknown';

  constructor(category: 'user' | 'server' | 'unknown', message: string) {
    super(message);
    this.category = category;
  }
}
