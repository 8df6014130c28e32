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
  /**
   * From this call on the first Ctrl-C raises the signal instead of ending the process. It needs a process that is not
   * busy: code of a person's that never returns is ended by the default action alone, which is lost by this call.
   */
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

/**
 * `Io.stopSignal`: the first interrupt raises the signal, the second ends the process. `listen` is called once, when the
 * signal is first asked for, with what is to be called for each SIGINT and SIGTERM; `exit` ends the process at once.
 */
export function makeStopSignal(
  listen: (interrupt: () => void) => void,
  exit: (code: number) => void,
): Io['stopSignal'] {
  let controller: AbortController | undefined;
  return () => {
    if (controller !== undefined) return controller.signal;
    const made = (controller = new AbortController());
    // Hundreds of requests listen at a time; Node warns from eleven on.
    setMaxListeners(0, made.signal);
    listen(() => {
      if (made.signal.aborted) exit(INTERRUPTED);
      else made.abort();
    });
    return made.signal;
  };
}
