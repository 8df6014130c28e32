#!/usr/bin/env node
/**
 * Builds src/kernels/kernels.wasm, which is committed, so that only whoever changes the C source needs clang.
 *
 * clang compiles and wasm-ld links (clang as the driver would look for other tools). Memory is imported and
 * shared. A custom section `r3-inputs` holds the hash of sources and flags.
 *
 *   --check   builds nothing: fails when the committed module was made from other sources or flags; where clang
 *             is present, also builds aside and checks that the module is accepted by WebAssembly
 */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const sources = join(root, 'src/kernels/native');
const module = join(root, 'src/kernels/kernels.wasm');
const SECTION = 'r3-inputs';

const COMPILE = [
  '--target=wasm32',
  '-std=gnu11',
  '-O3',
  '-ffp-contract=off',
  '-fno-math-errno',
  '-fno-trapping-math',
  '-ffreestanding',
  '-nostdlib',
  '-fvisibility=hidden',
  '-msimd128',
  '-matomics',
  '-mbulk-memory',
  '-mmutable-globals',
  // Loop strength reduction moves constant offsets out of the loads: one more instruction for each.
  '-mllvm',
  '-disable-lsr',
  '-Wall',
  '-Wextra',
];
const LINK = [
  '--no-entry',
  '--export=__stack_pointer',
  '--stack-first',
  '--import-memory',
  '--shared-memory',
  '--max-memory=4294967296',
  '--strip-all',
  '-z',
  'stack-size=262144',
];

function findTool(...names) {
  for (const name of names.filter(Boolean)) {
    try {
      execFileSync(name, ['--version'], { stdio: 'ignore' });
      return name;
    } catch {
      // Not this one.
    }
  }
  return undefined;
}

function hashInputs() {
  const hash = createHash('sha256').update(JSON.stringify([COMPILE, LINK]));
  for (const file of readdirSync(sources).toSorted()) {
    if (file === 'napi.c') continue;
    hash.update(file).update(readFileSync(join(sources, file)));
  }
  return hash.digest('hex');
}

/** A custom section: id 0, its size (LEB128), the name's size, the name, the content. */
function customSection(name, content) {
  const body = Buffer.concat([Buffer.from([name.length]), Buffer.from(name), Buffer.from(content)]);
  return Buffer.concat([Buffer.from([0, (body.length & 0x7f) | 0x80, body.length >> 7]), body]);
}

function build(clang, linker) {
  mkdirSync(join(root, 'build'), { recursive: true });
  const work = mkdtempSync(join(root, 'build/wasm-'));
  try {
    const object = join(work, 'kernels.o');
    const linked = join(work, 'kernels.wasm');
    execFileSync(clang, [...COMPILE, '-c', join(sources, 'wasm.c'), '-o', object], { stdio: 'inherit' });
    execFileSync(linker, [...LINK, object, '-o', linked], { stdio: 'inherit' });
    return Buffer.concat([readFileSync(linked), customSection(SECTION, hashInputs())]);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

function committedHash() {
  const [section] = WebAssembly.Module.customSections(new WebAssembly.Module(readFileSync(module)), SECTION);
  return section && Buffer.from(section).toString();
}

const clang = findTool(process.env.WASM_CC, 'clang', 'clang-19', 'clang-18', 'clang-17', 'clang-16');
const linker = findTool(
  process.env.WASM_LD,
  'wasm-ld',
  'wasm-ld-19',
  'wasm-ld-18',
  'wasm-ld-17',
  'wasm-ld-16',
);
if (process.argv.includes('--check')) {
  if (committedHash() !== hashInputs()) {
    console.error('kernels.wasm: made from other sources. Run: npm run build:wasm');
    process.exit(1);
  }
  if (clang && linker && !WebAssembly.validate(build(clang, linker))) {
    console.error('kernels.wasm: the sources give a module that WebAssembly refuses');
    process.exit(1);
  }
  console.log('kernels.wasm: up to date');
} else if (clang && linker) {
  const bytes = build(clang, linker);
  writeFileSync(`${module}.new`, bytes);
  renameSync(`${module}.new`, module);
  console.log(`kernels.wasm: ${bytes.length} bytes, built with ${clang}`);
} else {
  console.error('kernels.wasm: not built: expected clang and wasm-ld (Debian: apt install clang lld)');
  process.exit(1);
}
