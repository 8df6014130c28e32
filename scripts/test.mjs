#!/usr/bin/env node
/**
 * `npm test`: builds what is stale (tests run the command and the engine's thread from dist/), then runs vitest
 * with the same arguments and exit code.
 */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { buildAll } from './build.mjs';

if (!buildAll()) process.exit(1);
const root = fileURLToPath(new URL('..', import.meta.url));
const { status } = spawnSync(
  process.execPath,
  ['node_modules/vitest/vitest.mjs', 'run', ...process.argv.slice(2)],
  { cwd: root, stdio: 'inherit' },
);
process.exit(status ?? 1);
