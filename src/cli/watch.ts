/** Progress on the command's stderr, as the environment wants it. */
import type { Io } from './io.ts';
import { makeProgress, wantsStatusLine, type Progress } from './progress.ts';

export function cliProgress(io: Io): Progress {
  return makeProgress({
    stream: io.status,
    isTty: wantsStatusLine(io.status, io.env),
    now: () => performance.now(),
  });
}
