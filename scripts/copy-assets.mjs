#!/usr/bin/env node
/** Copies what tsc leaves behind from src/ to dist/: the WASM kernels. Runs after tsc in `npm run build`. */
import { copyFileSync, mkdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const root = new URL('../', import.meta.url);
for (const asset of ['kernels/kernels.wasm']) {
  const to = fileURLToPath(new URL(`dist/${asset}`, root));
  mkdirSync(fileURLToPath(new URL('.', new URL(`dist/${asset}`, root))), { recursive: true });
  copyFileSync(fileURLToPath(new URL(`src/${asset}`, root)), to);
}
