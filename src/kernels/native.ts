/**
 * The native build: the ops of the Node-API addon that `npm run build:native` makes (native/napi.c).
 *
 * Memory is ordinary ArrayBuffers with a view that starts at a multiple of 64 bytes. The addon holds several
 * variants (instruction sets); the best that this CPU has is taken unless one is named.
 */
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { messageOf, R3Error } from '../lib/errors.ts';
import { makeCompiledOps } from './compiled.ts';
import type { CompiledFunctions } from './compiled.ts';
import type { Ops } from './ops.ts';

type View = Float32Array | Int32Array;

interface Addon {
  best: string;
  variants: Record<string, CompiledFunctions<View>>;
  open(threads: number): void;
  close(): void;
  /** The address of a buffer, mod 64. */
  misalignment(buffer: ArrayBuffer): number;
  /** Gives a buffer's memory back at once. */
  detach(buffer: ArrayBuffer): void;
}

/** At the package root, seen from src/kernels and from dist/kernels alike. */
export const ADDON_PATH = fileURLToPath(new URL('../../build/native/r3.node', import.meta.url));
const ALIGNMENT = 64;

/** Variants that this CPU can run, the best last. Throws R3Error `not-available` where the addon is missing. */
export function listNativeVariants(path = ADDON_PATH): string[] {
  return Object.keys(loadAddon(path).variants);
}

function loadAddon(path: string): Addon {
  try {
    return createRequire(import.meta.url)(path) as Addon;
  } catch (error) {
    throw new R3Error(
      'kernels',
      'not-available',
      `native kernels: expected ${path}, got: ${messageOf(error)}. Run: npm run build:native`,
      { cause: error },
    );
  }
}

/** Throws R3Error `not-available` where the addon is missing or the CPU cannot run the variant. */
export function makeNativeOps(threads: number, variant?: string, path = ADDON_PATH): Ops {
  const addon = loadAddon(path);
  const name = variant ?? addon.best;
  const functions = addon.variants[name];
  if (functions === undefined) {
    const known = Object.keys(addon.variants).join(', ');
    throw new R3Error('kernels', 'not-available', `native kernels: expected one of ${known}, got ${name}`);
  }
  addon.open(threads);
  let open = true;

  const owned = new WeakSet<ArrayBufferLike>();
  let bytes = 0;
  let peakBytes = 0;

  function allocate(length: number): { buffer: ArrayBuffer; offset: number } {
    const sizeBytes = length * 4 + ALIGNMENT;
    let buffer: ArrayBuffer;
    try {
      buffer = new ArrayBuffer(sizeBytes);
    } catch (error) {
      throw new R3Error('kernels', 'no-memory', `buffer: expected ${sizeBytes} bytes of memory, got none`, {
        cause: error,
      });
    }
    owned.add(buffer);
    bytes += sizeBytes;
    peakBytes = Math.max(peakBytes, bytes);
    return { buffer, offset: (ALIGNMENT - addon.misalignment(buffer)) % ALIGNMENT };
  }

  return {
    build: 'native',
    variant: name,
    threads,
    f32(length) {
      const { buffer, offset } = allocate(length);
      return new Float32Array(buffer, offset, length);
    },
    i32(length) {
      const { buffer, offset } = allocate(length);
      return new Int32Array(buffer, offset, length);
    },
    free(view) {
      const { buffer } = view;
      if (!owned.delete(buffer)) return;
      bytes -= buffer.byteLength;
      addon.detach(buffer as ArrayBuffer);
    },
    memory: () => ({ bytes, peakBytes }),
    ...makeCompiledOps(functions, threads, (view) => view),
    close() {
      if (open) addon.close();
      open = false;
    },
  };
}
