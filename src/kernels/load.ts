/**
 * Chooses and loads a build of the kernels: native where the addon is built and loads, else WASM, else the
 * TypeScript reference. A build that is named is loaded or refused, never replaced.
 * Arguments of the ops are checked (checked.ts) in every build.
 */
import { existsSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { messageOf, R3Error } from '../lib/errors.ts';
import { checkedOps } from './checked.ts';
import { ADDON_PATH, listNativeVariants, makeNativeOps } from './native.ts';
import type { Ops } from './ops.ts';
import { makeWasmOps } from './wasm.ts';

export type KernelBuild = Ops['build'];

export interface KernelOptions {
  /** Default: the first of native, wasm and reference that loads. */
  build?: KernelBuild;
  /** The caller's among them. Default: all cores, less one where there are four or more. */
  threads?: number;
  /** An instruction set of the native build, for tests of the lesser ones. Default: the best that the CPU has. */
  variant?: string;
}

/** A build, and whether it can be used here. */
export interface KernelReport {
  build: KernelBuild;
  available: boolean;
  /** Variants, or why it cannot be used and what to do. */
  detail: string;
}

const ORDER = ['native', 'wasm', 'reference'] as const satisfies readonly KernelBuild[];
/** The pool's limit (native/pool.c). */
const MAX_THREADS = 64;

/** Threads that `loadKernels` uses when none are asked for: other processes need a core too. */
export function defaultThreads(): number {
  const cores = availableParallelism();
  return Math.min(MAX_THREADS, cores >= 4 ? cores - 1 : cores);
}

/** Throws R3Error `not-available` where the named build or variant cannot be used, `bad-option` for threads. */
export async function loadKernels(options: KernelOptions = {}): Promise<Ops> {
  const threads = options.threads ?? defaultThreads();
  if (!Number.isInteger(threads) || threads < 1 || threads > MAX_THREADS) {
    throw new R3Error(
      'kernels',
      'bad-option',
      `threads: expected an integer from 1 to ${MAX_THREADS}, got ${threads}`,
    );
  }
  const builds = options.build === undefined ? ORDER : [options.build];
  let refusal: unknown;
  for (const build of builds) {
    try {
      return checkedOps(await openBuild(build, threads, options.variant));
    } catch (error) {
      if (!(error instanceof R3Error && error.code === 'not-available')) throw error;
      refusal = error;
    }
  }
  throw refusal;
}

async function openBuild(build: KernelBuild, threads: number, variant?: string): Promise<Ops> {
  switch (build) {
    case 'native':
      return makeNativeOps(threads, variant);
    case 'wasm':
      return makeWasmOps(threads);
    case 'reference': {
      const { makeReferenceOps } = await import('./reference.ts');
      return makeReferenceOps(threads);
    }
    default:
      return build satisfies never;
  }
}

/** Which builds exist, in order of preference; the first that is available is what `loadKernels` takes. */
export function explainKernels(): KernelReport[] {
  return ORDER.map((build) => {
    try {
      return { build, available: true, detail: describe(build) };
    } catch (error) {
      return { build, available: false, detail: messageOf(error) };
    }
  });
}

function describe(build: KernelBuild): string {
  switch (build) {
    case 'native': {
      if (!existsSync(ADDON_PATH)) {
        throw new R3Error('kernels', 'not-available', 'native addon not built: run npm run build:native');
      }
      const variants = listNativeVariants();
      return `uses ${variants.at(-1)}; this CPU runs ${variants.join(', ')}`;
    }
    case 'wasm':
      makeWasmOps(1).close();
      return 'simd128, up to 4 GiB';
    case 'reference':
      return 'plain TypeScript, very slow';
    default:
      return build satisfies never;
  }
}
