/**
 * What a run was made with: versions and machine, for environment.json and the report.
 *
 * Kernels and threads are not here: the engine describes them, and config.json has that description. Nothing is read
 * that names a person, a host or a folder.
 */
import { arch, cpus, platform, release } from 'node:os';
import { packageVersion } from '../lib/version.ts';

/** Texts by name, in the order of display. */
export type RunEnvironment = Readonly<Record<string, string>>;

export function runEnvironment(): RunEnvironment {
  const cores = cpus();
  return {
    r3: packageVersion(),
    node: process.version,
    platform: `${platform()} ${release()} ${arch()}`,
    cpu: `${cores[0]?.model.trim() ?? 'unknown'}, ${cores.length} cores`,
  };
}
