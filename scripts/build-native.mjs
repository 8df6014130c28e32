#!/usr/bin/env node
/**
 * Builds the native addon: build/native/r3.node. No node-gyp, no download.
 *
 * The kernels are compiled once per instruction set, the pool and the glue once, and all are linked into one
 * file, which is written aside and renamed. Skips when sources and flags are unchanged. Uses $CC, else the
 * first of cc, gcc (12 or newer) and clang that is found; without one it says so and exits 0, because the WASM
 * build serves too. On Windows nothing is built.
 *
 *   --force      build even when up to date
 *   --sanitize   with AddressSanitizer and UndefinedBehaviorSanitizer, into build/native/sanitize/
 */
import { execFile, execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const run = promisify(execFile);
const root = fileURLToPath(new URL('..', import.meta.url));
const sources = join(root, 'src/kernels/native');
const headers = join(root, 'node_modules/node-api-headers/include');
const sanitize = process.argv.includes('--sanitize');
const output = join(root, sanitize ? 'build/native/sanitize' : 'build/native');
const addon = join(output, 'r3.node');

const COMMON = [
  '-std=gnu11',
  sanitize ? '-O1' : '-O3', // the checks of the sanitizers make -O3 take minutes to compile
  // Products and sums may fuse; nothing may be reordered. Never fast-math, least of all when linking: it makes
  // the start-up code set flush-to-zero for the whole process.
  '-ffp-contract=fast',
  '-fno-math-errno',
  '-fno-trapping-math',
  '-fPIC',
  '-fvisibility=hidden',
  '-Wall',
  '-Wextra',
  ...(sanitize ? ['-g', '-fsanitize=address,undefined', '-fno-sanitize-recover=undefined'] : []),
];
const VARIANTS = {
  x64: {
    baseline: ['-march=x86-64'],
    avx2: ['-march=x86-64-v3'],
    avx512: ['-march=x86-64-v4', '-mprefer-vector-width=512'],
    avx512bf16: ['-march=x86-64-v4', '-mavx512bf16', '-mprefer-vector-width=512'],
  },
  arm64: { neon: [] },
};
const variants = VARIANTS[process.arch] ?? { baseline: [] };
const LINK =
  process.platform === 'darwin'
    ? ['-bundle', '-undefined', 'dynamic_lookup']
    : ['-shared', '-pthread', '-ldl'];

function findCompiler() {
  for (const name of [process.env.CC, 'cc', 'gcc', 'clang'].filter(Boolean)) {
    try {
      return { name, version: execFileSync(name, ['--version'], { encoding: 'utf8' }).split('\n')[0] };
    } catch {
      // Not this one.
    }
  }
  return undefined;
}

function hashInputs(compiler) {
  const hash = createHash('sha256').update(JSON.stringify([compiler.version, COMMON, variants, LINK]));
  for (const file of readdirSync(sources).toSorted())
    hash.update(file).update(readFileSync(join(sources, file)));
  return hash.digest('hex');
}

async function build(compiler) {
  const work = join(output, `work-${process.pid}`);
  mkdirSync(work, { recursive: true });
  try {
    const compile = async (source, name, flags) => {
      const object = join(work, `${name}.o`);
      await run(compiler.name, [...COMMON, ...flags, '-c', join(sources, source), '-o', object]);
      return object;
    };
    const objects = await Promise.all([
      ...Object.entries(variants).map(([name, flags]) =>
        compile('kernels.c', name, [...flags, `-DR3_SUFFIX=${name}`]),
      ),
      compile('pool.c', 'pool', []),
      compile('napi.c', 'napi', [`-I${headers}`]),
    ]);
    const aside = join(work, 'r3.node');
    const sanitizers = sanitize ? ['-fsanitize=address,undefined'] : [];
    await run(compiler.name, [...objects, ...sanitizers, ...LINK, '-o', aside]);
    renameSync(aside, addon);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

if (process.platform === 'win32') {
  console.log('native kernels: not built on Windows, where the WASM build is used.');
  process.exit(0);
}
const compiler = findCompiler();
if (!compiler) {
  console.log(
    'native kernels: not built (no C compiler found; install gcc or clang). The WASM build will be used.',
  );
  process.exit(0);
}
const hash = hashInputs(compiler);
const stamp = join(output, 'inputs.sha256');
const upToDate = existsSync(addon) && existsSync(stamp) && readFileSync(stamp, 'utf8') === hash;
if (upToDate && !process.argv.includes('--force')) {
  console.log('native kernels: up to date');
} else {
  try {
    await build(compiler);
    writeFileSync(stamp, hash);
    console.log(`native kernels: built ${Object.keys(variants).join(', ')} with ${compiler.version}`);
  } catch (error) {
    console.error(
      `native kernels: ${compiler.name} failed; the WASM build will be used.\n${error.stderr ?? error}`,
    );
    process.exit(1);
  }
}
