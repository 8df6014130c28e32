#!/usr/bin/env node
/**
 * The `r3` process: connects the command line to this process's streams, environment, signals and exit code.
 *
 * The first Ctrl-C asks a command that can stop cleanly to do so, and ends any other at once; the second always
 * ends at once. What a command does is in its own file; which file, `program.ts` says.
 */
import { makeStopper } from './io.ts';
import { runCli } from './program.ts';

// A reader that has seen enough (`r3 show RUN | head`) closes the pipe: nobody is left to write to.
for (const stream of [process.stdout, process.stderr]) {
  stream.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') process.exit(0);
    throw error;
  });
}

const stopper = makeStopper((code) => process.exit(code));
process.on('SIGINT', () => stopper.interrupt());
process.on('SIGTERM', () => stopper.interrupt());

process.exitCode = await runCli(process.argv.slice(2), {
  write: (text) => void process.stdout.write(text),
  note: (line) => void process.stderr.write(`${line}\n`),
  status: process.stderr,
  env: process.env,
  stopSignal: () => stopper.stopSignal(),
  exitCode: 0,
});
