#!/usr/bin/env node
/**
 * Runs the conformance tests of the native ops (all that stand on ops-suite.ts) under AddressSanitizer and
 * UndefinedBehaviorSanitizer.
 *
 * Builds the addon with both (scripts/build-native.mjs --sanitize) and preloads the sanitizer's runtime into Node.
 * Leaks are not looked for: Node itself frees little at exit. An allocation too large fails, as without it. Says so
 * and exits 0 where there is no compiler or no runtime; Linux only.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const addon = `${root}build/native/sanitize/r3.node`;

function runtime() {
  try {
    const path = execFileSync(process.env.CC ?? 'cc', ['-print-file-name=libasan.so'], {
      encoding: 'utf8',
    }).trim();
    return existsSync(path) ? path : undefined;
  } catch {
    return undefined;
  }
}

const preload = process.platform === 'linux' ? runtime() : undefined;
if (preload === undefined) {
  console.log('sanitize: no compiler with AddressSanitizer here; nothing was run');
  process.exit(0);
}
const tests = readdirSync(`${root}src/kernels`)
  .filter((file) => file.endsWith('.test.ts'))
  .map((file) => `src/kernels/${file}`)
  .filter((path) => readFileSync(root + path, 'utf8').includes("from './ops-suite.ts'"));
execFileSync(process.execPath, ['scripts/build-native.mjs', '--sanitize'], { cwd: root, stdio: 'inherit' });
const { status } = spawnSync(
  process.execPath,
  ['node_modules/vitest/vitest.mjs', 'run', ...tests, '-t', 'native'],
  {
    cwd: root,
    stdio: 'inherit',
    env: {
      ...process.env,
      LD_PRELOAD: preload,
      ASAN_OPTIONS: 'detect_leaks=0:allocator_may_return_null=1',
      UBSAN_OPTIONS: 'print_stacktrace=1',
      R3_TEST_ADDON: addon,
    },
  },
);
process.exit(status ?? 1);
