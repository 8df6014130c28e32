/** One training step of cross-entropy on 8 sequences of 256 tokens; PyTorch beside it where Python has it. */
import { makeCore } from '../src/engine/local/core.ts';
import type { Datum } from '../src/engine/engine.ts';
import { makeRng } from '../src/lib/rng.ts';
import type { Ops, PackedType } from '../src/kernels/ops.ts';
import { againstPeak, openBuilds, THREADS, type Emit } from './harness.ts';
import { ADAM, BENCH_CONFIG, benchModel, trainingFlops } from './models.ts';
import { runPeer } from './peer.ts';

const [BATCH, LENGTH, ROUNDS] = [8, 256, 7];

export async function benchTrain(emit: Emit): Promise<void> {
  const rng = makeRng(3);
  const datums: Datum[] = Array.from({ length: BATCH }, () => ({
    // One token more than goes in: the last is a target only.
    tokens: Array.from({ length: LENGTH + 1 }, () => rng.below(BENCH_CONFIG.vocabularySize)),
    positions: Array.from({ length: LENGTH }, (_, i) => i + 1),
  }));
  for (const ops of await openBuilds()) {
    for (const type of ['f32', 'bf16'] as const) {
      const before = measure(ops, type, datums);
      const peer =
        ops.build === 'native'
          ? runPeer('train_torch.py', ['--threads', String(THREADS), ...PEER_CASES[type]])
          : [];
      // Once more after the peer, so that a change of the machine's speed does not fall to one side.
      const after = peer.length > 0 ? measure(ops, type, datums) : before;
      const speed = (before.speed + after.speed) / 2;
      emit({
        bench: 'train',
        case: `${ops.build} ${ops.variant} ${type} ${THREADS} threads`,
        value: speed,
        unit: 'tokens/s',
        peakRatio: (before.peakRatio + after.peakRatio) / 2,
      });
      for (const line of peer) emit(line);
      if (peer.length > 0) {
        const fastest = Math.max(...peer.map((line) => line.value));
        emit({
          bench: 'train',
          case: `${ops.build} ${type} over PyTorch at its fastest`,
          value: speed / fastest,
          unit: 'ratio',
        });
      }
    }
    ops.close();
  }
}

/** PyTorch with transformers' model and with a short module, compiled and not. Without bf16 instructions a step takes half a minute. */
const PEER_CASES = {
  f32: ['--cases', 'hf-f32,lean-f32', '--compile'],
  bf16: ['--cases', 'hf-bf16-autocast,lean-bf16-autocast', '--bursts', '1', '--steps', '1'],
};

function measure(ops: Ops, type: PackedType, datums: readonly Datum[]): { speed: number; peakRatio: number } {
  const tokens = BATCH * LENGTH;
  const core = makeCore(ops, benchModel(), { dtype: type, cacheBytes: 0 });
  const step = (): void => {
    const logprobs = core.forward(datums, 1, 'current', true);
    core.backward(logprobs.map((row) => new Float32Array(row.length).fill(-1 / tokens)));
    core.step(ADAM);
  };
  const flops = trainingFlops(tokens, LENGTH);
  const { gflops, peakRatio } = againstPeak(ops, type, flops, step, ROUNDS);
  return { speed: (gflops * 1e9 * tokens) / flops, peakRatio };
}
