/**
 * Rotary position encoding (RoFormer, arXiv 2104.09864): the tables of cosines and sines that the kernels rotate with.
 *
 * Frequencies are rounded to f32 at the steps where transformers rounds them, so that a table is the same numbers as
 * there. Layers that do not encode positions get a table that rotates by nothing: x cos 0 - y sin 0 is x, exactly.
 */
import type { Ops } from '../../kernels/ops.ts';
import type { ModelConfig, Rope } from './config.ts';

/** One table per layer, [contextLength, D]: D/2 cosines, then D/2 sines. Layers with the same encoding share theirs. */
export function makeRopeTables(
  ops: Ops,
  { layerKinds, headSize, contextLength }: ModelConfig,
): Float32Array[] {
  const tables = new Map<string, Float32Array>();
  return layerKinds.map(({ rope }) => {
    const key = JSON.stringify(rope ?? null);
    const table = tables.get(key) ?? makeTable(ops, rope, headSize, contextLength);
    tables.set(key, table);
    return table;
  });
}

/** How many tables the layers need. */
export function countRopeTables({ layerKinds }: ModelConfig): number {
  return new Set(layerKinds.map(({ rope }) => JSON.stringify(rope ?? null))).size;
}

function makeTable(ops: Ops, rope: Rope | undefined, D: number, contextLength: number): Float32Array {
  const half = D / 2;
  const table = ops.f32(contextLength * D);
  const scaling = rope?.scaling;
  const amplitude = scaling?.type === 'longrope' ? Math.fround(scaling.attentionFactor) : 1;
  for (let i = 0; i < half; i++) {
    const frequency = rope === undefined ? 0 : frequencyOf(rope, i, D, contextLength);
    for (let position = 0; position < contextLength; position++) {
      const angle = Math.fround(position * frequency);
      table[position * D + i] = Math.fround(Math.cos(angle)) * amplitude;
      table[position * D + half + i] = Math.fround(Math.sin(angle)) * amplitude;
    }
  }
  return table;
}

/** Frequency i of D/2. `contextLength`: the longest sequence that will be computed. */
function frequencyOf({ theta, scaling }: Rope, i: number, D: number, contextLength: number): number {
  const f = Math.fround;
  const power = f(theta ** f((2 * i) / D));
  const plain = f(1 / power);
  switch (scaling.type) {
    case 'default':
      return plain;
    case 'linear':
      return f(plain / scaling.factor);
    case 'llama3': {
      const { factor, lowFactor, highFactor, originalContext } = scaling;
      const wavelength = f(f(2 * Math.PI) / plain);
      if (wavelength < originalContext / highFactor) return plain;
      const low = f(plain / factor);
      if (wavelength > originalContext / lowFactor) return low;
      const smooth = f(f(f(originalContext / wavelength) - lowFactor) / (highFactor - lowFactor));
      return f(f(f(f(1 - smooth) * plain) / factor) + f(smooth * plain));
    }
    case 'longrope': {
      // transformers chooses by the length that a sequence has so far, which changes what came before when it grows.
      // Here, as in vLLM, one list serves the engine: by the longest sequence that it may see.
      const factors = contextLength > scaling.originalContext ? scaling.longFactors : scaling.shortFactors;
      return f(1 / f(f(factors[i] as number) * power));
    }
    default:
      return scaling satisfies never;
  }
}
