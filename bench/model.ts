/**
 * A whole model of a published shape: loading, memory, prefill, decoding and LoRA training, in f32, bf16 and int8.
 *
 * Random weights of the shape are written once, in bf16; each precision is then measured in a process of its own
 * (`model-case.ts`), so that resident memory is its own. Every speed stands beside its roofline of the same minute:
 * the weights' bytes over the measured bandwidth, or the multiply-adds over the measured peak, whichever is slower.
 * transformers and PEFT on the same shape are beside it where Python has them.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { saveModel } from '../src/engine/local/directory.ts';
import type { BenchLine, BenchOptions, Emit } from './harness.ts';
import { randomModel } from './models.ts';
import { runPeer } from './peer.ts';
import { DEFAULT_SHAPE, shapeOf } from './shapes.ts';

const DTYPES = ['f32', 'bf16', 'int8'];
/** What both sides measure. */
const COMPARED = ['prefill', 'decode 1', 'decode 8', 'decode 64', 'lora'];

export async function benchModelShape(
  emit: Emit,
  { shape: name = DEFAULT_SHAPE }: BenchOptions,
): Promise<void> {
  const shape = shapeOf(name);
  const folder = mkdtempSync(join(tmpdir(), 'r3-bench-'));
  try {
    const directory = join(folder, 'model');
    const model = { ...randomModel(shape.config), configText: shape.configText };
    await saveModel(model, model.read, directory, 'BF16');
    const own = new Map<string, BenchLine[]>();
    for (const dtype of (process.env['R3_BENCH_DTYPES'] ?? DTYPES.join()).split(',')) {
      const lines = runCase(directory, dtype);
      own.set(dtype, lines);
      for (const line of lines) emit({ ...line, case: `${name} ${line.case}` });
    }
    const peers = ['f32', 'bf16'].flatMap((dtype) =>
      runPeer('model_transformers.py', ['--model', directory, '--dtype', dtype, '--threads', '2']),
    );
    for (const line of peers) emit(line);
    if (peers.length > 0) for (const line of besidePeers(own, peers)) emit(line);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Ours over the faster precision of the peer's, for each of ours. */
function besidePeers(
  own: ReadonlyMap<string, readonly BenchLine[]>,
  peers: readonly BenchLine[],
): BenchLine[] {
  const speed = (lines: readonly BenchLine[], what: string): number =>
    Math.max(0, ...lines.filter(({ case: name }) => name.includes(`, ${what},`)).map(({ value }) => value));
  return COMPARED.flatMap((what) =>
    [...own].map(([dtype, lines]) => ({
      bench: 'model',
      case: `${what}, ${dtype} over the faster of transformers' precisions`,
      value: speed(lines, what) / speed(peers, what),
      unit: 'ratio',
    })),
  );
}

function runCase(directory: string, dtype: string): BenchLine[] {
  const runner = fileURLToPath(new URL('../scripts/run-ts.mjs', import.meta.url));
  const script = fileURLToPath(new URL('model-case.ts', import.meta.url));
  const { stdout, status } = spawnSync(process.execPath, [runner, script, directory, dtype], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  if (status !== 0) throw new Error(`bench: model in ${dtype} ended with ${status}`);
  return stdout
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line) as BenchLine);
}
