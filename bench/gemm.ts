/** One large product with packed weights, and the few-row product of decoding with weights that come from memory. */
import { againstPeak, filled, openBuilds, THREADS, type Emit } from './harness.ts';

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
