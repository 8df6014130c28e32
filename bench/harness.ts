/**
 * Measuring on a noisy machine: every figure is the median of bursts, interleaved with bursts of what it is
 * compared with, in one process.
 *
 * A ratio is the median of the ratios of neighbouring bursts, so that a slow minute slows both sides.
 */
import { loadKernels } from '../src/kernels/load.ts';
import type { Ops, PackedType } from '../src/kernels/ops.ts';

export interface BenchLine {
  bench: string;
  case: string;
  value: number;
  unit: string;
  /** The value over the machine's own multiply-add peak, measured between the bursts. */
  peakRatio?: number;
  /** The value over the rate at which a loop of loads reads memory, measured between the bursts. */
  bandwidthRatio?: number;
}

export type Emit = (line: BenchLine) => void;

/** What the command line asks for; each benchmark takes what concerns it. */
export interface BenchOptions {
  /** A published shape (shapes.ts). */
  shape?: string | undefined;
  /** Groups of an r3-step of that shape. */
  groups?: number | undefined;
  /** Run TRL beside that step: it takes minutes. */
  peers?: boolean | undefined;
}

export const THREADS = 2;

export async function openOps(build: 'native' | 'wasm'): Promise<Ops | undefined> {
  try {
    return await loadKernels({ build, threads: THREADS });
  } catch {
    return undefined;
  }
}

/** The compiled builds that this machine has; of them the one that R3_KERNELS names, where it names one. */
export async function openBuilds(): Promise<Ops[]> {
  const wanted = (['native', 'wasm'] as const).filter(
    (build) => (process.env['R3_KERNELS'] ?? build) === build,
  );
  const builds = await Promise.all(wanted.map(openOps));
  return builds.filter((ops) => ops !== undefined);
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1
    ? (sorted[middle] as number)
    : ((sorted[middle - 1] as number) + (sorted[middle] as number)) / 2;
}

/** Seconds per call of `work`, over calls that together take at least `seconds`. */
export function timeCalls(work: () => void, seconds: number): number {
  const start = performance.now();
  let calls = 0;
  let elapsed: number;
  do {
    work();
    calls++;
    elapsed = (performance.now() - start) / 1000;
  } while (elapsed < seconds);
  return elapsed / calls;
}

/** GFLOP/s of `work` against the peak, `rounds` times in turn. */
export function againstPeak(
  ops: Ops,
  type: PackedType,
  flops: number,
  work: () => void,
  rounds: number,
): { gflops: number; peakRatio: number; peak: number } {
  work();
  ops.measurePeak(type, 0.02);
  const speeds: number[] = [];
  const ratios: number[] = [];
  const peaks: number[] = [];
  for (let round = 0; round < rounds; round++) {
    const before = ops.measurePeak(type, 0.05);
    const speed = flops / timeCalls(work, 0.1) / 1e9;
    const peak = (before + ops.measurePeak(type, 0.05)) / 2;
    speeds.push(speed);
    peaks.push(peak);
    ratios.push(speed / peak);
  }
  return { gflops: median(speeds), peakRatio: median(ratios), peak: median(peaks) };
}

export function filled(ops: Ops, length: number, scale = 1): Float32Array {
  const array = ops.f32(length);
  for (let i = 0; i < length; i++) array[i] = scale * (((i * 7919) % 1013) / 1013 - 0.5);
  return array;
}
