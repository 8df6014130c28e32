/** What tests ask of processes that a command started. */
import { existsSync, readFileSync } from 'node:fs';

/** A killed process whose parent has not asked for its end yet (a zombie) counts as dead. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
  } catch {
    return false;
  }
  return !existsSync(`/proc/${pid}/stat`) || !/\) Z /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'));
}
