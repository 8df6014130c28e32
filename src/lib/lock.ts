/**
 * Who writes a folder: one process at a time. Its id is in the name of a file in the folder, `lock.<pid>`.
 *
 * A process makes its own file first, and looks for those of others after that. So of two that come at once, at least
 * one sees the other, and two never go on: a file that is read, judged and then replaced could not promise that. Who
 * sees another process withdraws; the one with the lower id waits a moment, in case the other withdraws from it.
 * A file whose process is gone was left by a kill. Processes of other machines are not seen.
 */
import { readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { R3Error } from './errors.ts';
import { removeQuietly, storeError } from './files.ts';

const NAME = /^lock\.(\d+)$/;
const WAITS = 25;
const WAIT_MS = 20;

/** Whether a name in such a folder is that of a lock, also of one that a kill left. */
export function isLock(name: string): boolean {
  return NAME.test(name);
}

/**
 * Makes this process the writer of a folder; what comes back ends that. Throws R3Error `mismatch` when another process
 * is at work there, `no-space`, `bad-file`. A process that takes the lock twice has it. `what`: what the folder holds,
 * for the message.
 */
export function takeLock(directory: string, what: string): () => void {
  const path = join(directory, `lock.${process.pid}`);
  try {
    writeFileSync(path, '');
    for (let waits = 0; ; waits++) {
      const other = findWriter(directory);
      if (other === undefined) break;
      if (other < process.pid || waits === WAITS) throw writtenBy(directory, what, other);
      pause(WAIT_MS);
    }
    for (const [name, pid] of locksOf(directory))
      if (pid !== process.pid) {
        rmSync(join(directory, name), { force: true });
      }
  } catch (error) {
    removeQuietly(path);
    throw storeError(directory, error);
  }
  return () => rmSync(path, { force: true });
}

/** Throws what `takeLock` would throw, and changes nothing. */
export function checkUnlocked(directory: string, what: string): void {
  const other = findWriter(directory);
  if (other !== undefined) throw writtenBy(directory, what, other);
}

/** The living process that writes a folder, this one apart; of several the lowest. */
function findWriter(directory: string): number | undefined {
  const pids = locksOf(directory).map(([, pid]) => pid);
  return pids.toSorted((a, b) => a - b).find((pid) => pid !== process.pid && isAlive(pid));
}

function locksOf(directory: string): [name: string, pid: number][] {
  return readdirSync(directory).flatMap((name) => {
    const match = NAME.exec(name);
    return match === null ? [] : [[name, Number(match[1])] as [string, number]];
  });
}

function writtenBy(directory: string, what: string, pid: number): R3Error {
  return new R3Error(
    'store',
    'mismatch',
    `${directory}: expected a ${what} that nobody writes, got one that process ${pid} writes; stop it, or remove ${join(directory, `lock.${pid}`)} if it is another program`,
  );
}

function isAlive(pid: number): boolean {
  if (!Number.isSafeInteger(pid) || pid <= 0) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    // Not permitted: it is there, and somebody else's.
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

function pause(milliseconds: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, milliseconds);
}
