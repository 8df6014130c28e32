/**
 * The forward pass of a Llama-family decoder over a list of rows.
 *
 * A row is one token of one sequence, at one position. Rows of any number of sequences go through together;
 * each finds its keys through the runs and spans of its attention shape. Prefill, decoding and training call
 * the same function, so that a token's numbers are the same bits in all three.
 *
 *   x += attention(norm(x)) Wo;  x += (silu(g) * u) Wdown,  [g u] = norm(x) Wgateup      (Llama, arXiv 2302.13971)
 */
import type { AttentionShape, Ops } from '../../kernels/ops.ts';
import type { ModelConfig } from './config.ts';
import type { LayerWeights, PackedMatrix, Weights } from './weights.ts';

/** Logits held at a time, in floats: large enough for fast products, small beside everything else. */
export const LOGITS_CHUNK = 1 << 24;

/** The tokens to compute. R rows. */
export interface Rows {
  count: number;
  ids_R: Int32Array;
  positions_R: Int32Array;
  /** page * PAGE_SIZE + position mod PAGE_SIZE: where the row's key and value go. */
  slots_R: Int32Array;
  shape: AttentionShape;
}

/** The rows whose outcome someone reads. W rows. */
export interface ReadRows {
  count: number;
  /** Their places among the R rows, ascending. */
  rows_W: Int32Array;
  /** As that of all rows, with runs that cover these only. */
  shape: AttentionShape;
}

/** The keys and values of one layer, in pages. */
export interface Pages {
  keys: Float32Array;
  values: Float32Array;
}

/** What one layer computes on the way; training keeps it for the backward pass. */
export interface LayerBuffers {
  normed_RC: Float32Array;
  inverse_R: Float32Array;
  q_RHD: Float32Array;
  attended_RHD: Float32Array;
  stats_RH2: Float32Array;
  middle_RC: Float32Array;
  mlpNormed_RC: Float32Array;
  mlpInverse_R: Float32Array;
  gateUp_R2F: Float32Array;
}

/** What a layer needs only while it runs. */
export interface ScratchBuffers {
  qkv_R: Float32Array;
  hidden_RF: Float32Array;
}

/** Floats of each buffer for one row. */
export function layerBufferWidths(c: ModelConfig): Record<keyof LayerBuffers, number> {
  return {
    normed_RC: c.hiddenSize,
    inverse_R: 1,
    q_RHD: c.heads * c.headSize,
    attended_RHD: c.heads * c.headSize,
    stats_RH2: c.heads * 2,
    middle_RC: c.hiddenSize,
    mlpNormed_RC: c.hiddenSize,
    mlpInverse_R: 1,
    gateUp_R2F: 2 * c.intermediateSize,
  };
}

export function scratchBufferWidths(c: ModelConfig): Record<keyof ScratchBuffers, number> {
  return { qkv_R: (c.heads + 2 * c.kvHeads) * c.headSize, hidden_RF: c.intermediateSize };
}

/** Cosines and sines for every position, rounded to f32 at the steps where transformers does. [positions, D]. */
export function makeRopeTable(ops: Ops, config: ModelConfig): Float32Array {
  const { headSize: D, contextLength, ropeTheta } = config;
  const half = D / 2;
  const table = ops.f32(contextLength * D);
  for (let i = 0; i < half; i++) {
    const frequency = Math.fround(1 / Math.fround(ropeTheta ** Math.fround((2 * i) / D)));
    for (let position = 0; position < contextLength; position++) {
      const angle = Math.fround(position * frequency);
      table[position * D + i] = Math.cos(angle);
      table[position * D + half + i] = Math.sin(angle);
    }
  }
  return table;
}

/** y = x W^T, or y += x W^T. */
export function project(
  ops: Ops,
  weights: Weights,
  R: number,
  x: Float32Array,
  w: PackedMatrix,
  y: Float32Array,
  accumulate = false,
): void {
  ops.gemm(R, w.matrix.out, w.matrix.in, x, w.matrix.in, 1, w.forward, y, accumulate, weights.type);
}

/**
 * One layer: reads `x`, writes the layer's output to `out`, which may be `x` itself. With `read`, of which the last
 * layer alone can make use, only those rows go further than their keys and values, and `out` is [W, C].
 */
export function forwardLayer(
  ops: Ops,
  c: ModelConfig,
  weights: Weights,
  layer: LayerWeights,
  rows: Rows,
  rope: Float32Array,
  x_RC: Float32Array,
  pages: Pages,
  b: LayerBuffers,
  s: ScratchBuffers,
  out_RC: Float32Array,
  read?: ReadRows,
): void {
  const R = rows.count;
  const { hiddenSize: C, intermediateSize: F, heads: H, kvHeads: J, headSize: D } = c;

  ops.rmsNorm(R, C, x_RC, layer.attentionNorm, c.rmsEpsilon, b.normed_RC, b.inverse_R);
  project(ops, weights, R, b.normed_RC, layer.qkv, s.qkv_R);
  ops.ropeStore(R, H, J, D, s.qkv_R, rows.positions_R, rows.slots_R, rope, b.q_RHD, pages.keys, pages.values);
  ops.attention(R, (read ?? rows).shape, b.q_RHD, pages.keys, pages.values, b.attended_RHD, b.stats_RH2);
  const W = read?.count ?? R;
  let attended = b.attended_RHD;
  if (read === undefined) copyRows(R * C, x_RC, b.middle_RC);
  else {
    // Queries, keys and values are stored by now: their place is free.
    attended = s.qkv_R;
    ops.gather(W, H * D, b.attended_RHD, read.rows_W, attended);
    ops.gather(W, C, x_RC, read.rows_W, b.middle_RC);
  }
  project(ops, weights, W, attended, layer.o, b.middle_RC, true);

  ops.rmsNorm(W, C, b.middle_RC, layer.mlpNorm, c.rmsEpsilon, b.mlpNormed_RC, b.mlpInverse_R);
  project(ops, weights, W, b.mlpNormed_RC, layer.gateUp, b.gateUp_R2F);
  ops.gatedUnit(W, F, 'silu', b.gateUp_R2F, s.hidden_RF);
  copyRows(W * C, b.middle_RC, out_RC);
  project(ops, weights, W, s.hidden_RF, layer.down, out_RC, true);
}

export function copyRows(length: number, from: Float32Array, to: Float32Array): void {
  to.set(from.subarray(0, length));
}
