/**
 * What a command may touch of the process around it. Commands get it as an argument, so that tests run them in
 * place with an `Io` of their own.
 *
 * The rule for streams: stdout holds the result and nothing else, stderr what a person watches.
 */

import { setMaxListeners } from 'node:events';
import type { Interface } from 'node:readline';

export interface Io {
  /** Part of the result, on stdout, as it is. Throws OutputLost once stdout takes no more. */
  write(text: string): void;
  /** A line for the person who watches, on stderr. */
  note(line: string): void;
  /** Where progress is drawn: stderr. */
  status: StatusStream;
  /** Lines from stdin. Prompts are shown, on stderr, when a person types them. */
  openInput(): Interface;
  env: Readonly<Record<string, string | undefined>>;
  /** From this call on the first Ctrl-C raises the signal instead of ending the process. */
  stopSignal(): AbortSignal;
  /** What the process ends with unless an error decides otherwise. */
  exitCode: number;
}

/** The part of a writable stream that progress needs. */
export interface StatusStream {
  write(text: string): unknown;
  isTTY?: boolean | undefined;
  columns?: number | undefined;
}

/** What a shell reports for a command that Ctrl-C ended. */
export const INTERRUPTED = 130;

/** Ends a command whose result nobody takes any more. What there is to say of it has been said. */
export class OutputLost extends Error {}

/** The result as one line of JSON. */
export function printJson(io: Io, value: unknown): void {
  io.write(`${JSON.stringify(value)}\n`);
}

export function printLine(io: Io, line: string): void {
  io.write(`${line}\n`);
}

export interface Stopper {
  /** To be called for each SIGINT and SIGTERM. */
  interrupt(): void;
  stopSignal(): AbortSignal;
}

/** `exit` ends the process at once. */
export function makeStopper(exit: (code: number) => void): Stopper {
  let controller: AbortController | undefined;
  return {
    interrupt() {
      if (controller === undefined || controller.signal.aborted) exit(INTERRUPTED);
      else controller.abort();
    },
    stopSignal() {
      if (controller === undefined) {
        controller = new AbortController();
        // Hundreds of requests listen at a time; Node warns from eleven on.
        setMaxListeners(0, controller.signal);
      }
      return controller.signal;
    },
  };
}
