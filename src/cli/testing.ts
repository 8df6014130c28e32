/** An `Io` that remembers, for tests that run commands in place. */
import { createInterface } from 'node:readline';
import { Readable } from 'node:stream';
import { runCli } from './program.ts';
import { makeStopSignal } from './io.ts';

export interface Outcome {
  code: number;
  stdout: string;
  stderr: string;
}

/** Runs `r3 ARGS` in this process. Commands that open an engine need dist/ and belong in test/e2e. */
export async function runInPlace(
  args: readonly string[],
  env: Record<string, string> = {},
): Promise<Outcome> {
  const written = { stdout: '', stderr: '' };
  const toStderr = (text: string): void => {
    written.stderr += text;
  };
  const code = await runCli(args, {
    write: (text) => {
      written.stdout += text;
    },
    note: (line) => toStderr(`${line}\n`),
    status: { write: toStderr },
    openInput: () => createInterface({ input: Readable.from([]) }),
    env,
    stopSignal: makeStopSignal(
      () => undefined,
      () => undefined,
    ),
    exitCode: 0,
  });
  return { code, ...written };
}
