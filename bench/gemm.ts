/** One large product with packed weights, and products of few rows with weights that come from memory, as in decoding. */
import { againstPeak, filled, median, openBuilds, THREADS, timeCalls, type Emit } from './harness.ts';

const TYPES = ['f32', 'bf16'] as const;
const ROUNDS = 15;

export async function benchGemm(emit: Emit): Promise<void> {
  const N = 1024;
  for (const ops of await openBuilds()) {
    const [a, b, c] = [filled(ops, N * N), filled(ops, N * N), ops.f32(N * N)];
    for (const type of TYPES) {
      const packed = ops.f32(ops.packedLength(N, N, type));
      ops.pack(packed, b, N, N, 0, N, N, 1, type);
      const { gflops, peakRatio, peak } = againstPeak(
        ops,
        type,
        2 * N ** 3,
        () => ops.gemm(N, N, N, a, N, 1, packed, c, false, type),
        ROUNDS,
      );
      const name = `${ops.build} ${ops.variant} ${type} ${THREADS} threads`;
      emit({ bench: 'gemm', case: `${name} 1024x1024x1024`, value: gflops, unit: 'GFLOP/s', peakRatio });
      emit({ bench: 'gemm', case: `${name} multiply-add peak`, value: peak, unit: 'GFLOP/s' });
    }
    ops.close();
  }
}

export async function benchDecode(emit: Emit): Promise<void> {
  const [M, K, N, MATRICES] = [8, 896, 4864, 12];
  for (const ops of await openBuilds()) {
    const [a, b, c] = [filled(ops, M * K), filled(ops, K * N), ops.f32(M * N)];
    for (const type of TYPES) {
      // More than any cache holds, taken in turn.
      const matrices = Array.from({ length: MATRICES }, () => {
        const packed = ops.f32(ops.packedLength(K, N, type));
        ops.pack(packed, b, K, N, 0, N, N, 1, type);
        return packed;
      });
      let next = 0;
      const work = (): void =>
        ops.gemm(M, N, K, a, K, 1, matrices[next++ % MATRICES] as Float32Array, c, false, type);
      const { gflops, peakRatio } = againstPeak(ops, type, 2 * M * N * K, work, ROUNDS);
      emit({
        bench: 'decode',
        case: `${ops.build} ${ops.variant} ${type} ${THREADS} threads 8x${K}x${N} cold`,
        value: gflops,
        unit: 'GFLOP/s',
        peakRatio,
      });
    }
    ops.close();
  }
}

/** One row through the matrices of Qwen2.5-0.5B: bytes of weights per second beside what memory gives. */
export async function benchWeights(emit: Emit): Promise<void> {
  const shapes = [
    [896, 1152],
    [896, 896],
    [896, 9728],
    [4864, 896],
  ] as const;
  const LENGTH = 40_000_000; // floats: more than any cache holds
  for (const ops of await openBuilds()) {
    const memory = filled(ops, LENGTH);
    for (const [K, N] of shapes) {
      const [a, b, c] = [filled(ops, K), filled(ops, K * N), ops.f32(N)];
      for (const type of ['f32', 'bf16', 'int8'] as const) {
        const length = Math.ceil(ops.packedLength(K, N, type) / 16) * 16;
        const matrices = Array.from({ length: Math.floor(LENGTH / length) }, (_, i) =>
          memory.subarray(i * length, (i + 1) * length),
        );
        for (const packed of matrices) ops.pack(packed, b, K, N, 0, N, N, 1, type);
        let next = 0;
        const work = (): void =>
          ops.gemm(1, N, K, a, K, 1, matrices[next++ % matrices.length] as Float32Array, c, false, type);
        const bytes = 4 * ops.packedLength(K, N, type);
        const speeds: number[] = [];
        const ratios: number[] = [];
        for (let round = 0; round < ROUNDS; round++) {
          const before = ops.measureBandwidth(memory, 0.03);
          // The best of short bursts, as measureBandwidth takes it.
          const bursts = Array.from({ length: 8 }, () => timeCalls(work, 0.004));
          const speed = bytes / Math.min(...bursts) / 1e9;
          speeds.push(speed);
          ratios.push((2 * speed) / (before + ops.measureBandwidth(memory, 0.03)));
        }
        emit({
          bench: 'weights',
          case: `${ops.build} ${ops.variant} ${type} ${THREADS} threads 1x${K}x${N} cold`,
          value: median(speeds),
          unit: 'GB/s',
          bandwidthRatio: median(ratios),
        });
      }
      for (const view of [a, b, c]) ops.free(view);
    }
    ops.close();
  }
}
