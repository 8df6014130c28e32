/** Runs a peer's benchmark where Python and its packages are there; says so on standard error where not. */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { BenchLine } from './harness.ts';

/** `R3_PYTHON` names the interpreter; default python3. Returns the peer's lines, none where it cannot run. */
export function runPeer(script: string, args: readonly string[]): BenchLine[] {
  const path = fileURLToPath(new URL(`peers/${script}`, import.meta.url));
  const { stdout, stderr, status } = spawnSync(process.env['R3_PYTHON'] ?? 'python3', [path, ...args], {
    encoding: 'utf8',
  });
  if (status !== 0) {
    process.stderr.write(
      `bench: ${script} did not run (${(stderr ?? '').trim().split('\n').at(-1) ?? 'no Python'}); see bench/peers/README.md\n`,
    );
    return [];
  }
  return stdout
    .split('\n')
    .filter((line) => line.startsWith('{"')) // TRL prints Python's dictionaries beside
    .map((line) => JSON.parse(line) as BenchLine);
}
