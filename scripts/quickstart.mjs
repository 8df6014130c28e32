#!/usr/bin/env node
/**
 * `npm run quickstart`: builds what is stale, then runs `r3 quickstart` with the same arguments and exit code.
 * Under --json stdout holds the result and nothing else (with `npm run --silent`, or run this file directly).
 */
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { buildAll } from './build.mjs';

if (!buildAll()) {
  process.stderr.write('quickstart: the build failed, see above\n');
  process.exit(1);
}
const r3 = fileURLToPath(new URL('../dist/cli/main.js', import.meta.url));
const child = spawn(process.execPath, [r3, 'quickstart', ...process.argv.slice(2)], { stdio: 'inherit' });
// Ctrl-C in a terminal reaches the child as well; it decides what to do.
process.on('SIGINT', () => undefined);
process.on('SIGTERM', () => child.kill('SIGTERM'));
child.on('exit', (code, signal) => process.exit(code ?? (signal === null ? 1 : 130)));
