/**
 * The forward pass of a decoder over a list of rows. One decoder serves all families: `config.ts` says what differs.
 *
 * A row is one token of one sequence, at one position. Rows of any number of sequences go through together;
 * each finds its keys through the runs and spans of its attention shape. Prefill, decoding and training call
 * the same function, so that a token's numbers are the same bits in all three.
 *
 *   x += attention(norm(x)) Wo;  x += (silu(g) * u) Wdown,  [g u] = norm(x) Wgateup      (Llama, arXiv 2302.13971)
 *
 * Families put the norms elsewhere (`norms`), norm queries and keys, cap scores and logits, see a window of positions
 * in some layers, or encode none.
 */
import type { AttentionShape, Ops } from '../../kernels/ops.ts';
import type { ModelConfig } from './config.ts';
import type { LayerWeights, Linear, Weights } from './weights.ts';
import type { Workspace } from './workspace.ts';

/** Logits held at a time, in floats: large enough for fast products, small beside everything else. */
export const LOGITS_CHUNK = 1 << 24;

/** The tokens to compute. R rows. */
export interface Rows {
  count: number;
  ids_R: Int32Array;
  positions_R: Int32Array;
  /** page * PAGE_SIZE + position mod PAGE_SIZE: where the row's key and value go. */
  slots_R: Int32Array;
  runs: RunTable;
}

/** Where rows find their keys (see `kernels/ops.ts`). */
export type RunTable = Pick<AttentionShape, 'runs' | 'runCount' | 'spans'>;

/** The rows whose outcome someone reads. W rows. */
export interface ReadRows {
  count: number;
  /** Their places among the R rows, ascending. */
  rows_W: Int32Array;
  /** As those of all rows, with runs that cover these only. */
  runs: RunTable;
}

/** The keys and values of one layer, in pages. */
export interface Pages {
  keys: Float32Array;
  values: Float32Array;
}

/** What one layer computes on the way; training keeps it for the backward pass. Some are empty in some families. */
export interface LayerBuffers {
  normed_RC: Float32Array;
  inverse_R: Float32Array;
  /** q, k, v before queries and keys are normed. */
  projected_R: Float32Array;
  qkInverse_R: Float32Array;
  q_RHD: Float32Array;
  attended_RHD: Float32Array;
  stats_RH2: Float32Array;
  /** Attention's output before its norm. */
  attention_RC: Float32Array;
  attentionInverse_R: Float32Array;
  middle_RC: Float32Array;
  mlpNormed_RC: Float32Array;
  mlpInverse_R: Float32Array;
  gateUp_R2F: Float32Array;
  /** The MLP's output before its norm. */
  mlp_RC: Float32Array;
  mlpAfterInverse_R: Float32Array;
}

/** What a layer needs only while it runs. */
export interface ScratchBuffers {
  qkv_R: Float32Array;
  hidden_RF: Float32Array;
  afterNorm_RC: Float32Array;
}

/** Floats of each buffer for one row. */
export function layerBufferWidths(c: ModelConfig): Record<keyof LayerBuffers, number> {
  const { hiddenSize: C, heads: H, kvHeads: J, headSize: D } = c;
  const before = c.norms !== 'after' ? 1 : 0;
  const after = c.norms !== 'before' ? 1 : 0;
  const normsQk = c.qkNorm !== 'none' ? 1 : 0;
  return {
    normed_RC: before * C,
    inverse_R: before,
    projected_R: normsQk * (H + 2 * J) * D,
    qkInverse_R: normsQk * (H + J),
    q_RHD: H * D,
    attended_RHD: H * D,
    stats_RH2: H * 2,
    attention_RC: after * C,
    attentionInverse_R: after,
    middle_RC: C,
    mlpNormed_RC: before * C,
    mlpInverse_R: before,
    gateUp_R2F: 2 * c.intermediateSize,
    mlp_RC: after * C,
    mlpAfterInverse_R: after,
  };
}

export function scratchBufferWidths(c: ModelConfig): Record<keyof ScratchBuffers, number> {
  return {
    qkv_R: (c.heads + 2 * c.kvHeads) * c.headSize,
    hidden_RF: c.intermediateSize,
    afterNorm_RC: c.norms === 'before' ? 0 : c.hiddenSize,
  };
}

/** What the layers of a model compute with. */
export interface Decoder {
  ops: Ops;
  config: ModelConfig;
  /** Per layer, [contextLength, D]. */
  ropes: readonly Float32Array[];
  work: Workspace;
}

/** Layer l's attention over these runs. */
export function attentionShape(config: ModelConfig, l: number, runs: RunTable): AttentionShape {
  const { heads, kvHeads, headSize, attentionScale, attentionSoftcap, contextLength } = config;
  const window = config.layerKinds[l]?.window ?? 0;
  return {
    ...runs,
    heads,
    kvHeads,
    headSize,
    scale: attentionScale,
    softcap: attentionSoftcap,
    window: window >= contextLength ? 0 : window,
  };
}

/** x = the embeddings of the rows' tokens. */
export function embed({ ops, config }: Decoder, weights: Weights, rows: Rows, x_RC: Float32Array): void {
  const { hiddenSize: C, vocabularySize: V, embeddingScale } = config;
  const { embedding } = weights;
  if ('rows' in embedding) ops.gather(rows.count, C, embedding.rows, rows.ids_R, x_RC);
  else ops.gatherPacked(rows.count, C, V, embedding.packed, rows.ids_R, x_RC, weights.type);
  if (embeddingScale !== 1) ops.scale(rows.count * C, embeddingScale, x_RC);
}

/** The logits of R rows that have gone through the final norm. */
export function computeLogits(
  d: Decoder,
  weights: Weights,
  R: number,
  normed: Float32Array,
  logits: Float32Array,
): void {
  const { vocabularySize: V, logitSoftcap } = d.config;
  project(d, R, normed, weights.head, logits);
  if (logitSoftcap > 0) d.ops.softcap(R * V, logitSoftcap, logits);
}

/** y = x W^T + b, or y += x W^T + b, with the adapter's product where there is one. `dropped`: what the adapter reads. */
export function project(
  { ops, work }: Decoder,
  R: number,
  x: Float32Array,
  w: Linear,
  y: Float32Array,
  accumulate = false,
  dropped = x,
): void {
  if (w.bias !== null) {
    const first = work.ints('project/first', new Int32Array(R));
    if (accumulate) {
      const bias = work.floats('project/bias', R * w.out);
      ops.gather(R, w.out, w.bias, first, bias);
      addRows(ops, work, R, w.out, bias, y);
    } else ops.gather(R, w.out, w.bias, first, y);
  }
  ops.gemm(R, w.out, w.in, x, w.in, 1, w.forward, y, accumulate || w.bias !== null, w.type);
  if (w.adapter === null) return;
  const { down, up, layout } = w.adapter;
  const hidden = work.floats('project/adapter', R * layout.width);
  ops.gemm(R, layout.width, w.in, dropped, w.in, 1, down, hidden, false, 'f32');
  ops.gemm(R, w.out, layout.width, hidden, layout.width, 1, up, y, true, 'f32');
}

/** y += x, row by row. */
export function addRows(
  ops: Ops,
  work: Workspace,
  R: number,
  C: number,
  x: Float32Array,
  y: Float32Array,
): void {
  const own = work.ints(
    'add/own',
    Int32Array.from({ length: R }, (_, r) => r),
  );
  ops.scatterAdd(R, C, x, own, y);
}

/** What an adapter reads in place of its input, in training with dropout. */
export type Drop = (
  matrix: 'qkv' | 'o' | 'gateUp' | 'down',
  x: Float32Array,
  width: number,
  R: number,
) => Float32Array;

/**
 * Layer l: reads `x`, writes the layer's output to `out`, which may be `x` itself. With `read`, of which the last
 * layer alone can make use, only those rows go further than their keys and values, and `out` is [W, C].
 */
export function forwardLayer(
  d: Decoder,
  l: number,
  layer: LayerWeights,
  rows: Rows,
  x_RC: Float32Array,
  pages: Pages,
  b: LayerBuffers,
  s: ScratchBuffers,
  out_RC: Float32Array,
  { read, drop }: { read?: ReadRows | undefined; drop?: Drop | undefined } = {},
): void {
  const { ops, config: c, work } = d;
  const R = rows.count;
  const { hiddenSize: C, intermediateSize: F, heads: H, kvHeads: J, headSize: D, rmsEpsilon } = c;
  const dropped = (
    matrix: Parameters<Drop>[0],
    input: Float32Array,
    width: number,
    count: number,
  ): Float32Array => (drop === undefined ? input : drop(matrix, input, width, count));

  let input = x_RC;
  if (layer.attentionNorm !== null) {
    input = b.normed_RC;
    ops.rmsNorm(R, C, x_RC, layer.attentionNorm, rmsEpsilon, input, b.inverse_R);
  }
  const normsQk = layer.queryNorm !== null && layer.keyNorm !== null;
  const projected = normsQk ? b.projected_R : s.qkv_R;
  project(d, R, input, layer.qkv, projected, false, dropped('qkv', input, C, R));
  if (layer.queryNorm !== null && layer.keyNorm !== null)
    ops.qkNorm(
      R,
      H,
      J,
      D,
      c.qkNorm === 'whole',
      projected,
      layer.queryNorm,
      layer.keyNorm,
      rmsEpsilon,
      s.qkv_R,
      b.qkInverse_R,
    );
  const rope = d.ropes[l] as Float32Array;
  ops.ropeStore(R, H, J, D, s.qkv_R, rows.positions_R, rows.slots_R, rope, b.q_RHD, pages.keys, pages.values);
  const shape = attentionShape(c, l, (read ?? rows).runs);
  ops.attention(R, shape, b.q_RHD, pages.keys, pages.values, b.attended_RHD, b.stats_RH2);
  const W = read?.count ?? R;
  let attended = b.attended_RHD;
  if (read === undefined) copyRows(R * C, x_RC, b.middle_RC);
  else {
    // Queries, keys and values are stored by now: their place is free.
    attended = s.qkv_R;
    ops.gather(W, H * D, b.attended_RHD, read.rows_W, attended);
    ops.gather(W, C, x_RC, read.rows_W, b.middle_RC);
  }
  const attendedDropped = dropped('o', attended, H * D, W);
  if (layer.attentionAfter === null) project(d, W, attended, layer.o, b.middle_RC, true, attendedDropped);
  else {
    project(d, W, attended, layer.o, b.attention_RC, false, attendedDropped);
    ops.rmsNorm(W, C, b.attention_RC, layer.attentionAfter, rmsEpsilon, s.afterNorm_RC, b.attentionInverse_R);
    addRows(ops, work, W, C, s.afterNorm_RC, b.middle_RC);
  }

  let mlpInput = b.middle_RC;
  if (layer.mlpNorm !== null) {
    mlpInput = b.mlpNormed_RC;
    ops.rmsNorm(W, C, b.middle_RC, layer.mlpNorm, rmsEpsilon, mlpInput, b.mlpInverse_R);
  }
  project(d, W, mlpInput, layer.gateUp, b.gateUp_R2F, false, dropped('gateUp', mlpInput, C, W));
  ops.gatedUnit(W, F, c.activation, b.gateUp_R2F, s.hidden_RF);
  const hiddenDropped = dropped('down', s.hidden_RF, F, W);
  copyRows(W * C, b.middle_RC, out_RC);
  if (layer.mlpAfter === null) project(d, W, s.hidden_RF, layer.down, out_RC, true, hiddenDropped);
  else {
    project(d, W, s.hidden_RF, layer.down, b.mlp_RC, false, hiddenDropped);
    ops.rmsNorm(W, C, b.mlp_RC, layer.mlpAfter, rmsEpsilon, s.afterNorm_RC, b.mlpAfterInverse_R);
    addRows(ops, work, W, C, s.afterNorm_RC, out_RC);
  }
}

export function copyRows(length: number, from: Float32Array, to: Float32Array): void {
  to.set(from.subarray(0, length));
}
