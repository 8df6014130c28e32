/**
 * Typed errors. A wrong answer is a value, never an error; an error says that a boundary broke.
 * Messages read `what: expected X, got Y`, plus the fix where there is one.
 */

/** The boundary that an error crossed. */
export type Boundary = 'task' | 'engine' | 'store' | 'config' | 'text' | 'kernels' | 'hub';

export type ErrorCode =
  | 'bad-option' // an option that is unknown, malformed or that this engine cannot honour
  | 'bad-row' // a malformed row of a data file
  | 'bad-file' // a file that is missing, truncated or not what it should be
  | 'bad-shape' // lengths or sizes that do not fit together
  | 'bad-template' // a chat template that cannot be rendered or used for training
  | 'bad-task' // a task that does not pass its own audit
  | 'too-long' // more tokens than the model's context
  | 'mismatch' // a run, checkpoint and model that do not belong together
  | 'no-memory' // a limit on memory was reached
  | 'no-space' // the disk is full or not writable
  | 'not-available' // a build, tool or feature that this machine lacks
  | 'not-found' // a repository, revision or file that the hub does not have
  | 'no-access' // a private or gated repository, or a token that is refused
  | 'no-network' // a server that cannot be reached or keeps failing
  | 'incomplete' // work that stands on other work, which failed
  | 'bad-answer' // an answer of a service that does not follow its protocol
  | 'expired' // a session, model or result that a service no longer knows
  | 'failed' // an operation that a service took on and could not carry out
  | 'cancelled';

export class R3Error extends Error {
  readonly code: ErrorCode;
  readonly boundary: Boundary;

  constructor(boundary: Boundary, code: ErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name = 'R3Error';
    this.boundary = boundary;
    this.code = code;
  }
}

/** Our own bug: something that no input can cause. */
export function assert(condition: unknown, message: string): asserts condition {
  if (!condition) throw new Error(`internal error: ${message}`);
}

/** The message of anything that was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
