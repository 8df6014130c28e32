/** What a person sees of a command while it runs, on its stderr, as the environment wants it. */
import type { Io } from './io.ts';
import { makeProgress, wantsStatusLine, type Progress } from './progress.ts';

export function cliProgress(io: Io): Progress {
  return makeProgress({
    stream: io.status,
    isTty: wantsStatusLine(io.status, io.env),
    now: () => performance.now(),
  });
}

/** The stop signal of a command that says so when it has heard. `how`: how it stops. */
export function watchedStop(io: Io, progress: Progress, how: string): AbortSignal {
  const signal = io.stopSignal();
  signal.addEventListener('abort', () => progress.log(`${how}; Ctrl-C again stops at once`), { once: true });
  return signal;
}
