/**
 * Builds what running from a checkout needs, when it is stale: dist/ by tsc, and the native kernels by
 * `build-native.mjs` (which skips when nothing changed). For `quickstart.mjs` and `test.mjs`; writes to stderr only.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
/** Written after a build that succeeded. */
const stamp = join(root, 'dist/.built');
const inputs = ['src', 'tsconfig.json', 'tsconfig.build.json', 'package-lock.json'];

/** Returns whether dist is there and current. A failed native build is a message: the WASM build serves too. */
export function buildAll() {
  if (isStale()) {
    process.stderr.write('building ...\n');
    if (!node('node_modules/typescript/bin/tsc', '-p', 'tsconfig.build.json')) return false;
    if (!node('scripts/copy-assets.mjs')) return false;
    writeFileSync(stamp, '');
  }
  if (!node('scripts/build-native.mjs')) {
    process.stderr.write('the native kernels could not be built; going on with the WASM build\n');
  }
  return true;
}

/** Runs a script of this checkout with everything it prints on stderr. Returns whether it succeeded. */
function node(...args) {
  const { status } = spawnSync(process.execPath, args, { cwd: root, stdio: ['ignore', 2, 2] });
  return status === 0;
}

function isStale() {
  if (!existsSync(stamp)) return true;
  const built = statSync(stamp).mtimeMs;
  return inputs.some((path) => newest(join(root, path)) > built);
}

/** Time of the last change below a path, of folders too: a removed file changes its folder. */
function newest(path) {
  const stat = statSync(path);
  if (!stat.isDirectory()) return stat.mtimeMs;
  return readdirSync(path).reduce((latest, name) => Math.max(latest, newest(join(path, name))), stat.mtimeMs);
}
