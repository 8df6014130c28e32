#!/usr/bin/env node
/**
 * The `r3` process: connects the command line to this process's streams, environment, signals and exit code.
 *
 * The first Ctrl-C asks a command that can stop cleanly to do so, and the second ends it at once. Any other command is
 * left to the default action, which ends it whatever it does, also in a loop of a person's code. What a command does
 * is in its own file; which file, `program.ts` says.
 */
import { createInterface } from 'node:readline';
import { printable } from '../lib/printable.ts';
import { makeStopSignal, OutputLost } from './io.ts';
import { runCli } from './program.ts';

let outputLost = false;
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (outputLost) return;
  outputLost = true;
  process.exitCode ||= 1;
  // A reader that has seen enough (`r3 show RUN | head`) closes the pipe: that is nobody's mistake.
  if (error.code === 'EPIPE') return;
  process.stderr.write(
    `r3: standard output: expected room to write, got ${error.code ?? error.message}; the result is not whole\n`,
  );
});
// Nobody watches any more: no reason to end a run.
process.stderr.on('error', () => undefined);

const code = await runCli(process.argv.slice(2), {
  write: (text) => {
    if (outputLost) throw new OutputLost();
    process.stdout.write(text);
  },
  note: (line) => void process.stderr.write(`${printable(line)}\n`),
  status: process.stderr,
  openInput: () =>
    process.stdin.isTTY && process.stderr.isTTY
      ? createInterface({ input: process.stdin, output: process.stderr })
      : createInterface({ input: process.stdin, terminal: false }),
  env: process.env,
  stopSignal: makeStopSignal(
    (interrupt) => {
      process.on('SIGINT', interrupt);
      process.on('SIGTERM', interrupt);
    },
    (exitCode) => process.exit(exitCode),
  ),
  exitCode: 0,
});
// The last write may still fail after this.
process.exitCode = code === 0 && outputLost ? 1 : code;
