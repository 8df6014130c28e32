/** One training step of cross-entropy on 8 sequences of 256 tokens; PyTorch beside it where Python has it. */
import { makeCore } from '../src/engine/local/core.ts';
import type { Datum } from '../src/engine/engine.ts';
import { makeRng } from '../src/lib/rng.ts';
import { againstPeak, median, openBuilds, THREADS, type Emit } from './harness.ts';
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
  const tokens = BATCH * LENGTH;
  const own = new Map<string, number>();
  for (const ops of await openBuilds()) {
    for (const type of ['f32', 'bf16'] as const) {
      const core = makeCore(ops, benchModel(), { dtype: type, cacheBytes: 0 });
      const step = (): void => {
        const logprobs = core.forward(datums, 1, 'current', true);
        core.backward(logprobs.map((row) => new Float32Array(row.length).fill(-1 / tokens)));
        core.step(ADAM);
      };
      const { gflops, peakRatio } = againstPeak(ops, type, trainingFlops(tokens, LENGTH), step, ROUNDS);
      const speed = (gflops * 1e9 * tokens) / trainingFlops(tokens, LENGTH);
      if (ops.build === 'native') own.set(type, speed);
      emit({
        bench: 'train',
        case: `${ops.build} ${ops.variant} ${type} ${THREADS} threads`,
        value: speed,
        unit: 'tokens/s',
        peakRatio,
      });
    }
    ops.close();
  }
  for (const type of ['f32', 'bf16'] as const) {
    const peer = runPeer('train_torch.py', ['--threads', String(THREADS), '--dtype', type]);
    if (peer.length === 0) continue;
    const best = Math.max(...peer.map((line) => line.value));
    for (const line of peer) emit(line);
    const mine = own.get(type);
    if (mine !== undefined)
      emit({
        bench: 'train',
        case: `native ${type} over PyTorch at its fastest`,
        value: mine / median([best]),
        unit: 'ratio',
      });
  }
}
