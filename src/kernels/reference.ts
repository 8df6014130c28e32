/**
 * The ops in plain TypeScript: the definition that the compiled builds are tested against.
 *
 * One function per op, in the order of ops.ts, where behaviour and shapes are documented; here the loops
 * follow the formulas. Storage is f32; every sum is accumulated in f64 (a JavaScript number) and rounded
 * once when it is stored, in the order that ops.ts fixes. A packed matrix is the plain matrix [K, N];
 * bf16 values are rounded and kept as f32, and so are the integers of int8, with their scales behind them.
 *
 * It checks nothing: checked.ts does that for all builds. An index that is in range by shape is read with `!`.
 */
import { R3Error } from '../lib/errors.ts';
import { hash32 } from '../lib/rng.ts';
import { PAGE_SIZE, RUN_INTS, SPAN_INTS, TREE_INTS } from './ops.ts';
import type { Activation, AdamScalars, AttentionShape, Ops, PackedType, SampleRows } from './ops.ts';

/** Partial sums of a long reduction: element i goes to partial i mod 16. */
const PARTIALS = 16;
const SUM_SQUARES_BLOCK = 65536;

const roundingFloat = new Float32Array(1);
const roundingBits = new Uint32Array(roundingFloat.buffer);

/** The bf16 value nearest to the f32 value of x, ties to even. NaN stays NaN. */
export function roundToBf16(x: number): number {
  if (Number.isNaN(x)) return x;
  roundingFloat[0] = x;
  const bits = roundingBits[0]!;
  roundingBits[0] = (bits + 0x7fff + ((bits >>> 16) & 1)) & 0xffff0000;
  return roundingFloat[0];
}

/** Joins the partial sums pairwise: 8, 4, 2, 1. Overwrites them. */
function joinPairwise(partials: Float64Array): number {
  for (let half = PARTIALS / 2; half >= 1; half /= 2) {
    for (let i = 0; i < half; i++) partials[i]! += partials[i + half]!;
  }
  return partials[0]!;
}

/** k per int8 block of a matrix of K rows: ops.ts, PackedType. */
function blockLength(K: number): number {
  const groups = Math.ceil(K / 4);
  return 4 * Math.ceil(groups / Math.max(1, Math.ceil(groups / 64)));
}

/** An int8 matrix is q [K, N], then the scales [block, N]. */
function packedLength(K: number, N: number, type: PackedType): number {
  return K * N + (type === 'int8' && K > 0 ? Math.ceil(K / blockLength(K)) * N : 0);
}

/** To the nearest integer, ties to even. */
function roundHalfEven(x: number): number {
  const floor = Math.floor(x);
  const rest = x - floor;
  return rest > 0.5 || (rest === 0.5 && floor % 2 !== 0) ? floor + 1 : floor;
}

function pack(
  packed: Float32Array,
  source: Float32Array,
  K: number,
  N: number,
  first: number,
  count: number,
  strideK: number,
  strideN: number,
  type: PackedType,
): void {
  for (let n = 0; n < count; n++) {
    const value = (k: number): number => source[k * strideK + n * strideN]!;
    const to = first + n;
    if (type === 'int8') {
      packInt8(packed, K, N, to, value);
      continue;
    }
    for (let k = 0; k < K; k++) packed[k * N + to] = type === 'bf16' ? roundToBf16(value(k)) : value(k);
  }
}

function packInt8(
  packed: Float32Array,
  K: number,
  N: number,
  column: number,
  value: (k: number) => number,
): void {
  const length = blockLength(K);
  for (let start = 0, block = 0; start < K; start += length, block++) {
    const end = Math.min(start + length, K);
    let largest = 0;
    for (let k = start; k < end; k++) largest = Math.max(largest, Math.abs(value(k)));
    const unit = Math.fround(largest / 127);
    packed[(K + block) * N + column] = unit;
    for (let k = start; k < end; k++) {
      const q = unit > 0 ? roundHalfEven(Math.fround(value(k) / unit)) : 0;
      packed[k * N + column] = Math.max(-127, Math.min(127, q));
    }
  }
}

function gemm(
  M: number,
  N: number,
  K: number,
  a: Float32Array,
  strideM: number,
  strideK: number,
  packed: Float32Array,
  c: Float32Array,
  accumulate: boolean,
  type: PackedType,
): void {
  const sums = new Float64Array(N);
  const blockSums = new Float64Array(N);
  const length = type === 'int8' ? blockLength(K) : K;
  for (let m = 0; m < M; m++) {
    sums.fill(0);
    for (let start = 0, block = 0; start < K; start += length, block++) {
      blockSums.fill(0);
      for (let k = start; k < Math.min(start + length, K); k++) {
        const stored = a[m * strideM + k * strideK]!;
        const value = type === 'bf16' ? roundToBf16(stored) : stored;
        const from = k * N;
        for (let n = 0; n < N; n++) blockSums[n]! += value * packed[from + n]!;
      }
      const units = (K + block) * N;
      for (let n = 0; n < N; n++) sums[n]! += blockSums[n]! * (type === 'int8' ? packed[units + n]! : 1);
    }
    const to = m * N;
    for (let n = 0; n < N; n++) c[to + n] = accumulate ? c[to + n]! + sums[n]! : sums[n]!;
  }
}

/** B(k, n) as products see it, in f32. */
function packedValue(
  packed: Float32Array,
  K: number,
  N: number,
  k: number,
  n: number,
  type: PackedType,
): number {
  const stored = packed[k * N + n]!;
  if (type !== 'int8') return stored;
  return Math.fround(stored * packed[(K + Math.floor(k / blockLength(K))) * N + n]!);
}

function gatherPacked(
  R: number,
  K: number,
  N: number,
  packed: Float32Array,
  ids: Int32Array,
  out: Float32Array,
  type: PackedType,
): void {
  for (let r = 0; r < R; r++) {
    for (let k = 0; k < K; k++) out[r * K + k] = packedValue(packed, K, N, k, ids[r]!, type);
  }
}

function transposePacked(
  to: Float32Array,
  from: Float32Array,
  K: number,
  N: number,
  fromType: PackedType,
  toType: 'f32' | 'bf16',
): void {
  for (let n = 0; n < N; n++) {
    for (let k = 0; k < K; k++) {
      const value = packedValue(from, K, N, k, n, fromType);
      to[n * K + k] = toType === 'bf16' ? roundToBf16(value) : value;
    }
  }
}

function gather(R: number, C: number, table: Float32Array, ids: Int32Array, out: Float32Array): void {
  for (let r = 0; r < R; r++) {
    const from = ids[r]! * C;
    for (let i = 0; i < C; i++) out[r * C + i] = table[from + i]!;
  }
}

function scatterAdd(R: number, C: number, source: Float32Array, ids: Int32Array, table: Float32Array): void {
  for (let r = 0; r < R; r++) {
    const to = ids[r]! * C;
    for (let i = 0; i < C; i++) table[to + i]! += source[r * C + i]!;
  }
}

function rmsNorm(
  R: number,
  C: number,
  x: Float32Array,
  weight: Float32Array,
  epsilon: number,
  out: Float32Array,
  inverse: Float32Array,
): void {
  for (let r = 0; r < R; r++) {
    const row = r * C;
    let sum = 0;
    for (let i = 0; i < C; i++) sum += x[row + i]! * x[row + i]!;
    inverse[r] = 1 / Math.sqrt(sum / C + epsilon);
    const scale = inverse[r]!;
    for (let i = 0; i < C; i++) out[row + i] = x[row + i]! * scale * weight[i]!;
  }
}

/**
 * Forward: y_i = x_i s w_i with s = (mean(x^2) + epsilon)^(-1/2), so ds/dx_i = -s^3 x_i / C and
 *   dx_i = s w_i dy_i - x_i (s^3 / C) sum_j w_j dy_j x_j,   dw_i = sum_r x_i s dy_i.
 */
function rmsNormBackward(
  R: number,
  C: number,
  x: Float32Array,
  weight: Float32Array,
  inverse: Float32Array,
  dy: Float32Array,
  dx: Float32Array,
  dWeight: Float32Array,
): void {
  for (let r = 0; r < R; r++) {
    const row = r * C;
    const scale = inverse[r]!;
    let dot = 0;
    for (let i = 0; i < C; i++) dot += weight[i]! * dy[row + i]! * x[row + i]!;
    const pull = (scale * scale * scale * dot) / C;
    for (let i = 0; i < C; i++) {
      dx[row + i]! += scale * weight[i]! * dy[row + i]! - x[row + i]! * pull;
      dWeight[i]! += x[row + i]! * scale * dy[row + i]!;
    }
  }
}

/** Calls `each` for every normed part of a row: its first column, length, place in `inverse`, and whether it is of keys. */
function eachNormed(
  H: number,
  J: number,
  D: number,
  whole: boolean,
  each: (column: number, length: number, index: number, isKey: boolean) => void,
): void {
  if (whole) {
    each(0, H * D, 0, false);
    each(H * D, J * D, 1, true);
    return;
  }
  for (let h = 0; h < H + J; h++) each(h * D, D, h, h >= H);
}

function qkNorm(
  R: number,
  H: number,
  J: number,
  D: number,
  whole: boolean,
  qkv: Float32Array,
  weightQ: Float32Array,
  weightK: Float32Array,
  epsilon: number,
  out: Float32Array,
  inverse: Float32Array,
): void {
  const width = (H + 2 * J) * D;
  const parts = whole ? 2 : H + J;
  for (let r = 0; r < R; r++) {
    eachNormed(H, J, D, whole, (column, length, index, isKey) => {
      const at = r * width + column;
      const to = out.subarray(at, at + length);
      const weight = isKey ? weightK : weightQ;
      rmsNorm(1, length, qkv.subarray(at), weight, epsilon, to, inverse.subarray(r * parts + index));
    });
    for (let i = (H + J) * D; i < width; i++) out[r * width + i] = qkv[r * width + i]!;
  }
}

function qkNormBackward(
  R: number,
  H: number,
  J: number,
  D: number,
  whole: boolean,
  qkv: Float32Array,
  weightQ: Float32Array,
  weightK: Float32Array,
  inverse: Float32Array,
  dOut: Float32Array,
  dWeightQ: Float32Array,
  dWeightK: Float32Array,
): void {
  const width = (H + 2 * J) * D;
  const parts = whole ? 2 : H + J;
  for (let r = 0; r < R; r++) {
    eachNormed(H, J, D, whole, (column, length, index, isKey) => {
      const at = r * width + column;
      const dx = new Float32Array(length);
      rmsNormBackward(
        1,
        length,
        qkv.subarray(at),
        isKey ? weightK : weightQ,
        inverse.subarray(r * parts + index),
        dOut.subarray(at),
        dx,
        isKey ? dWeightK : dWeightQ,
      );
      dOut.set(dx, at);
    });
  }
}

function ropeStore(
  R: number,
  H: number,
  J: number,
  D: number,
  qkv: Float32Array,
  positions: Int32Array,
  slots: Int32Array,
  table: Float32Array,
  q: Float32Array,
  keyPages: Float32Array,
  valuePages: Float32Array,
): void {
  const half = D / 2;
  const width = (H + 2 * J) * D;
  for (let r = 0; r < R; r++) {
    const cosines = positions[r]! * D;
    const sines = cosines + half;
    const slot = slots[r]! % PAGE_SIZE;
    const page = (slots[r]! - slot) / PAGE_SIZE;
    for (let h = 0; h < H; h++) {
      const from = r * width + h * D;
      const to = (r * H + h) * D;
      for (let i = 0; i < half; i++) {
        const cos = table[cosines + i]!;
        const sin = table[sines + i]!;
        const x1 = qkv[from + i]!;
        const x2 = qkv[from + half + i]!;
        q[to + i] = x1 * cos - x2 * sin;
        q[to + half + i] = x2 * cos + x1 * sin;
      }
    }
    for (let j = 0; j < J; j++) {
      const keyFrom = r * width + (H + j) * D;
      const valueFrom = keyFrom + J * D;
      const keyTo = (page * J + j) * D * PAGE_SIZE + slot;
      const valueTo = ((page * J + j) * PAGE_SIZE + slot) * D;
      for (let i = 0; i < half; i++) {
        const cos = table[cosines + i]!;
        const sin = table[sines + i]!;
        const x1 = qkv[keyFrom + i]!;
        const x2 = qkv[keyFrom + half + i]!;
        keyPages[keyTo + i * PAGE_SIZE] = x1 * cos - x2 * sin;
        keyPages[keyTo + (half + i) * PAGE_SIZE] = x2 * cos + x1 * sin;
      }
      for (let i = 0; i < D; i++) valuePages[valueTo + i] = qkv[valueFrom + i]!;
    }
  }
}

/** Forward: y1 = x1 cos - x2 sin, y2 = x2 cos + x1 sin; so dx1 = dy1 cos + dy2 sin, dx2 = dy2 cos - dy1 sin. */
function ropeStoreBackward(
  R: number,
  H: number,
  J: number,
  D: number,
  dq: Float32Array,
  dKeyPages: Float32Array,
  dValuePages: Float32Array,
  positions: Int32Array,
  slots: Int32Array,
  table: Float32Array,
  dqkv: Float32Array,
): void {
  const half = D / 2;
  const width = (H + 2 * J) * D;
  for (let r = 0; r < R; r++) {
    const cosines = positions[r]! * D;
    const sines = cosines + half;
    const slot = slots[r]! % PAGE_SIZE;
    const page = (slots[r]! - slot) / PAGE_SIZE;
    // Gradient pages are [J, 16, D], so a key's gradient is contiguous, as a query's is.
    for (let h = 0; h < H + J; h++) {
      const source = h < H ? dq : dKeyPages;
      const from = h < H ? (r * H + h) * D : ((page * J + h - H) * PAGE_SIZE + slot) * D;
      const to = r * width + h * D;
      for (let i = 0; i < half; i++) {
        const cos = table[cosines + i]!;
        const sin = table[sines + i]!;
        const dy1 = source[from + i]!;
        const dy2 = source[from + half + i]!;
        dqkv[to + i] = dy1 * cos + dy2 * sin;
        dqkv[to + half + i] = dy2 * cos - dy1 * sin;
      }
    }
    for (let j = 0; j < J; j++) {
      const from = ((page * J + j) * PAGE_SIZE + slot) * D;
      const to = r * width + (H + J + j) * D;
      for (let i = 0; i < D; i++) dqkv[to + i] = dValuePages[from + i]!;
    }
  }
}

/** The most slots that a row of any run can see. */
function slotLimit(shape: AttentionShape): number {
  let most = 0;
  for (let run = 0; run < shape.runCount; run++) most = Math.max(most, shape.runs[run * RUN_INTS + 4]!);
  return most * PAGE_SIZE;
}

/** Lists the used slots (page*16 + slot) that a row at `position` sees, ascending; returns how many. */
function listVisible(shape: AttentionShape, run: number, position: number, visible: Int32Array): number {
  const firstSpan = shape.runs[run * RUN_INTS + 3]!;
  const spanCount = shape.runs[run * RUN_INTS + 4]!;
  let count = 0;
  for (let span = firstSpan; span < firstSpan + spanCount; span++) {
    const page = shape.spans[span * SPAN_INTS]!;
    const start = shape.spans[span * SPAN_INTS + 1]!;
    const unseen = shape.window === 0 ? 0 : position - shape.window + 1 - start;
    const first = Math.max(shape.spans[span * SPAN_INTS + 2]!, unseen);
    const end = Math.min(shape.spans[span * SPAN_INTS + 3]!, position - start + 1);
    for (let slot = first; slot < end; slot++) visible[count++] = page * PAGE_SIZE + slot;
  }
  return count;
}

/** scores_j = scale q.k_j, capped where the shape says so, for the visible slots; returns the largest. */
function scoreKeys(
  shape: AttentionShape,
  kvHead: number,
  q: Float32Array,
  query: number,
  keyPages: Float32Array,
  visible: Int32Array,
  count: number,
  scores: Float64Array,
): number {
  const { kvHeads, headSize, scale, softcap: cap } = shape;
  let largest = -Infinity;
  for (let j = 0; j < count; j++) {
    const slot = visible[j]! % PAGE_SIZE;
    const page = (visible[j]! - slot) / PAGE_SIZE;
    const key = (page * kvHeads + kvHead) * headSize * PAGE_SIZE + slot;
    let dot = 0;
    for (let d = 0; d < headSize; d++) dot += q[query + d]! * keyPages[key + d * PAGE_SIZE]!;
    const score = cap === 0 ? scale * dot : cap * Math.tanh((scale * dot) / cap);
    scores[j] = score;
    if (score > largest) largest = score;
  }
  return largest;
}

function attention(
  _R: number,
  shape: AttentionShape,
  q: Float32Array,
  keyPages: Float32Array,
  valuePages: Float32Array,
  out: Float32Array,
  stats: Float32Array,
): void {
  const { heads, kvHeads, headSize, runs } = shape;
  const visible = new Int32Array(slotLimit(shape));
  const scores = new Float64Array(visible.length);
  const partials = new Float64Array(PARTIALS);
  const sums = new Float64Array(headSize);
  for (let run = 0; run < shape.runCount; run++) {
    const firstRow = runs[run * RUN_INTS]!;
    const rowCount = runs[run * RUN_INTS + 1]!;
    const firstPosition = runs[run * RUN_INTS + 2]!;
    for (let i = 0; i < rowCount; i++) {
      const row = firstRow + i;
      const count = listVisible(shape, run, firstPosition + i, visible);
      for (let h = 0; h < heads; h++) {
        const query = (row * heads + h) * headSize;
        const kvHead = Math.floor((h * kvHeads) / heads);
        const largest = scoreKeys(shape, kvHead, q, query, keyPages, visible, count, scores);
        partials.fill(0);
        sums.fill(0);
        for (let j = 0; j < count; j++) {
          const weight = Math.exp(scores[j]! - largest);
          const slot = visible[j]! % PAGE_SIZE;
          const page = (visible[j]! - slot) / PAGE_SIZE;
          const value = ((page * kvHeads + kvHead) * PAGE_SIZE + slot) * headSize;
          partials[slot]! += weight;
          for (let d = 0; d < headSize; d++) sums[d]! += weight * valuePages[value + d]!;
        }
        const total = joinPairwise(partials);
        for (let d = 0; d < headSize; d++) out[query + d] = sums[d]! / total;
        stats[(row * heads + h) * 2] = largest;
        stats[(row * heads + h) * 2 + 1] = total;
      }
    }
  }
}

/**
 * Forward: o = sum_j p_j v_j, p = softmax(s), s_j = scale q.k_j. With g = dOut:
 *   dv_j = p_j g,  ds_j = p_j (g.v_j - g.o),  dq = scale sum_j ds_j k_j,  dk_j = scale ds_j q.
 * g.o stands for sum_j p_j g.v_j (FlashAttention, arXiv 2205.14135, appendix B.4). A capped score
 * s = c tanh(z / c) has ds/dz = 1 - (s / c)^2.
 */
function attentionBackward(
  _R: number,
  shape: AttentionShape,
  trees: Int32Array,
  treeCount: number,
  q: Float32Array,
  keyPages: Float32Array,
  valuePages: Float32Array,
  out: Float32Array,
  stats: Float32Array,
  dOut: Float32Array,
  dq: Float32Array,
  dKeyPages: Float32Array,
  dValuePages: Float32Array,
): void {
  const { heads, kvHeads, headSize, scale, softcap: cap, runs } = shape;
  const visible = new Int32Array(slotLimit(shape));
  const scores = new Float64Array(visible.length);
  const sums = new Float64Array(headSize);
  for (let tree = 0; tree < treeCount; tree++) {
    const firstRun = trees[tree * TREE_INTS]!;
    const endRun = firstRun + trees[tree * TREE_INTS + 1]!;
    for (let run = firstRun; run < endRun; run++) {
      const firstRow = runs[run * RUN_INTS]!;
      const rowCount = runs[run * RUN_INTS + 1]!;
      const firstPosition = runs[run * RUN_INTS + 2]!;
      for (let i = 0; i < rowCount; i++) {
        const row = firstRow + i;
        const count = listVisible(shape, run, firstPosition + i, visible);
        for (let h = 0; h < heads; h++) {
          const query = (row * heads + h) * headSize;
          const kvHead = Math.floor((h * kvHeads) / heads);
          const largest = stats[(row * heads + h) * 2]!;
          const total = stats[(row * heads + h) * 2 + 1]!;
          scoreKeys(shape, kvHead, q, query, keyPages, visible, count, scores);
          let mean = 0;
          for (let d = 0; d < headSize; d++) mean += dOut[query + d]! * out[query + d]!;
          sums.fill(0);
          for (let j = 0; j < count; j++) {
            const slot = visible[j]! % PAGE_SIZE;
            const page = (visible[j]! - slot) / PAGE_SIZE;
            const head = (page * kvHeads + kvHead) * headSize * PAGE_SIZE;
            const key = head + slot;
            const value = head + slot * headSize;
            const p = Math.exp(scores[j]! - largest) / total;
            let dot = 0;
            for (let d = 0; d < headSize; d++) dot += dOut[query + d]! * valuePages[value + d]!;
            const slope = cap === 0 ? 1 : 1 - (scores[j]! / cap) ** 2;
            const dScore = scale * p * (dot - mean) * slope;
            for (let d = 0; d < headSize; d++) {
              sums[d]! += dScore * keyPages[key + d * PAGE_SIZE]!;
              dKeyPages[value + d]! += dScore * q[query + d]!;
              dValuePages[value + d]! += p * dOut[query + d]!;
            }
          }
          for (let d = 0; d < headSize; d++) dq[query + d] = sums[d]!;
        }
      }
    }
  }
}

/** Both activations are g sigmoid(v(g)): v = g for silu, v = 2 sqrt(2/pi) (g + 0.044715 g^3) for gelu. */
const GELU_LINEAR = 2 * Math.sqrt(2 / Math.PI);
const GELU_CUBIC = GELU_LINEAR * 0.044715;

function sigmoidOf(activation: Activation, gate: number): number {
  const v = activation === 'silu' ? gate : GELU_LINEAR * gate + GELU_CUBIC * gate ** 3;
  return 1 / (1 + Math.exp(-v));
}

function gatedUnit(
  R: number,
  F: number,
  activation: Activation,
  gateUp: Float32Array,
  out: Float32Array,
): void {
  for (let r = 0; r < R; r++) {
    for (let i = 0; i < F; i++) {
      const gate = gateUp[r * 2 * F + i]!;
      const up = gateUp[r * 2 * F + F + i]!;
      out[r * F + i] = gate * sigmoidOf(activation, gate) * up;
    }
  }
}

/** Forward: y = a(g) u with a(g) = g s, s = sigmoid(v(g)); so a'(g) = s (1 + g (1 - s) v'(g)). */
function gatedUnitBackward(
  R: number,
  F: number,
  activation: Activation,
  gateUp: Float32Array,
  dOut: Float32Array,
  dGateUp: Float32Array,
  out: Float32Array,
): void {
  for (let r = 0; r < R; r++) {
    const gates = r * 2 * F;
    const ups = gates + F;
    for (let i = 0; i < F; i++) {
      const gate = gateUp[gates + i]!;
      const up = gateUp[ups + i]!;
      const dy = dOut[r * F + i]!;
      const sigmoid = sigmoidOf(activation, gate);
      const slope = activation === 'silu' ? 1 : GELU_LINEAR + 3 * GELU_CUBIC * gate ** 2;
      dGateUp[gates + i] = dy * up * sigmoid * (1 + gate * (1 - sigmoid) * slope);
      dGateUp[ups + i] = dy * gate * sigmoid;
      out[r * F + i] = gate * sigmoid * up;
    }
  }
}

function dropout(
  R: number,
  C: number,
  x: Float32Array,
  rate: number,
  seed: number,
  firstRow: number,
  out: Float32Array,
): void {
  const factor = Math.fround(1 / (1 - rate));
  for (let r = 0; r < R; r++) {
    for (let c = 0; c < C; c++) {
      const dropped = hash32(seed, firstRow + r, c) < rate * 2 ** 32;
      out[r * C + c] = dropped ? 0 : x[r * C + c]! * factor;
    }
  }
}

function softcap(n: number, cap: number, x: Float32Array): void {
  for (let i = 0; i < n; i++) x[i] = cap * Math.tanh(x[i]! / cap);
}

function multiply(n: number, factor: number, x: Float32Array): void {
  const rounded = Math.fround(factor);
  for (let i = 0; i < n; i++) x[i] = x[i]! * rounded;
}

/** log sum exp of one row of logits / temperature, rounded to f32. */
function rowLogsumexp(logits: Float32Array, row: number, V: number, temperature: number): number {
  const partials = new Float64Array(PARTIALS);
  let largest = -Infinity;
  for (let v = 0; v < V; v++) largest = Math.max(largest, logits[row + v]!);
  largest /= temperature;
  for (let v = 0; v < V; v++) partials[v % PARTIALS]! += Math.exp(logits[row + v]! / temperature - largest);
  return Math.fround(largest + Math.log(joinPairwise(partials)));
}

function logprobs(
  R: number,
  V: number,
  logits: Float32Array,
  targets: Int32Array,
  temperature: number,
  logsumexp: Float32Array,
  logprob: Float32Array,
): void {
  const divisor = Math.fround(temperature); // As stored in SampleRows.
  for (let r = 0; r < R; r++) {
    logsumexp[r] = rowLogsumexp(logits, r * V, V, divisor);
    logprob[r] = logits[r * V + targets[r]!]! / divisor - logsumexp[r]!;
  }
}

function logprobsBackward(
  R: number,
  V: number,
  logits: Float32Array,
  targets: Int32Array,
  temperature: number,
  cap: number,
  logsumexp: Float32Array,
  coefficient: Float32Array,
): void {
  const divisor = Math.fround(temperature);
  for (let r = 0; r < R; r++) {
    const row = r * V;
    const factor = coefficient[r]! / divisor;
    for (let v = 0; v < V; v++) {
      const logit = logits[row + v]!;
      const p = Math.exp(logit / divisor - logsumexp[r]!);
      const slope = cap === 0 ? 1 : 1 - (logit / cap) ** 2;
      logits[row + v] = factor * ((v === targets[r] ? 1 : 0) - p) * slope;
    }
  }
}

/** The id of the largest logit, the lowest id where two are equal. */
function likeliest(logits: Float32Array, row: number, V: number): number {
  let best = 0;
  for (let v = 1; v < V; v++) if (logits[row + v]! > logits[row + best]!) best = v;
  return best;
}

/**
 * Candidates of one row in the order of the draw, with their weights. Every filter is measured on the whole
 * tempered distribution (probabilities are not made to sum to 1 between filters): top-k keeps the first k
 * by falling probability, top-p the shortest head whose probabilities sum to at least p, min-p those with
 * at least minP times the largest probability.
 */
function candidates(
  logits: Float32Array,
  row: number,
  V: number,
  rows: SampleRows,
  r: number,
  weights: Float64Array,
): Int32Array {
  const temperature = rows.temperature[r]!;
  const topK = rows.topK[r]!;
  const topP = rows.topP[r]!;
  const minP = rows.minP[r]!;
  const logsumexp = rowLogsumexp(logits, row, V, temperature);
  const ids = Int32Array.from({ length: V }, (_, v) => v);
  const filtered = (topK > 0 && topK < V) || topP < 1 || minP > 0;
  if (filtered) ids.sort((a, b) => logits[row + b]! - logits[row + a]! || a - b);
  for (let i = 0; i < V; i++) weights[i] = Math.exp(logits[row + ids[i]!]! / temperature - logsumexp);
  if (!filtered) return ids;

  let kept = topK > 0 ? Math.min(topK, V) : V;
  if (topP < 1) {
    let sum = 0;
    let head = 0;
    while (head < kept && sum < topP) sum += weights[head++]!;
    kept = Math.max(1, head);
  }
  while (kept > 1 && weights[kept - 1]! < minP * weights[0]!) kept--;
  return ids.subarray(0, kept);
}

/** Inverse transform: the first candidate whose cumulative weight is more than uniform times the total. */
function draw(ids: Int32Array, weights: Float64Array, uniform: number): number {
  let total = 0;
  for (let i = 0; i < ids.length; i++) total += weights[i]!;
  const threshold = uniform * total;
  let sum = 0;
  let last = 0;
  for (let i = 0; i < ids.length; i++) {
    if (weights[i]! > 0) last = i;
    sum += weights[i]!;
    if (sum > threshold) return ids[i]!;
  }
  return ids[last]!;
}

function sample(
  R: number,
  V: number,
  logits: Float32Array,
  rows: SampleRows,
  tokens: Int32Array,
  logprob: Float32Array,
): void {
  const weights = new Float64Array(V);
  for (let r = 0; r < R; r++) {
    const row = r * V;
    const greedy = rows.temperature[r] === 0;
    const temperature = greedy ? 1 : rows.temperature[r]!;
    const token = greedy
      ? likeliest(logits, row, V)
      : draw(candidates(logits, row, V, rows, r, weights), weights, rows.uniform[r]!);
    tokens[r] = token;
    logprob[r] = logits[row + token]! / temperature - rowLogsumexp(logits, row, V, temperature);
  }
}

function adamW(
  n: number,
  w: Float32Array,
  g: Float32Array,
  m: Float32Array,
  v: Float32Array,
  s: AdamScalars,
): void {
  for (let i = 0; i < n; i++) {
    const gradient = g[i]! * s.gradientScale;
    const mean = s.beta1 * m[i]! + (1 - s.beta1) * gradient;
    const square = s.beta2 * v[i]! + (1 - s.beta2) * gradient * gradient;
    const update = mean / s.correction1 / (Math.sqrt(square / s.correction2) + s.epsilon);
    w[i] = w[i]! - s.learningRate * s.weightDecay * w[i]! - s.learningRate * update;
    m[i] = mean;
    v[i] = square;
  }
}

function sumSquares(n: number, x: Float32Array): number {
  let total = 0;
  for (let from = 0; from < n; from += SUM_SQUARES_BLOCK) {
    const end = Math.min(n, from + SUM_SQUARES_BLOCK);
    let sum = 0;
    for (let i = from; i < end; i++) sum += x[i]! * x[i]!;
    total += sum;
  }
  return total;
}

/** Four independent chains of multiply-adds, in f64, until the time is over. */
function measurePeak(_type: PackedType, seconds: number): number {
  const rounds = 100_000;
  const start = performance.now();
  let operations = 0;
  let elapsed = 0;
  let a = 1;
  let b = 2;
  let c = 3;
  let d = 4;
  do {
    for (let i = 0; i < rounds; i++) {
      a = a * 0.999 + 0.001;
      b = b * 0.999 + 0.001;
      c = c * 0.999 + 0.001;
      d = d * 0.999 + 0.001;
    }
    operations += rounds * 8;
    elapsed = (performance.now() - start) / 1000;
  } while (elapsed < seconds);
  // The sum is read so that the loop cannot be dropped; it is never NaN.
  return Number.isNaN(a + b + c + d) ? 0 : operations / elapsed / 1e9;
}

/** A sum over x, again and again until the time is over. */
function measureBandwidth(x: Float32Array, seconds: number): number {
  const start = performance.now();
  let bytes = 0;
  let elapsed = 0;
  let sum = 0;
  do {
    for (let i = 0; i < x.length; i++) sum += x[i]!;
    bytes += x.byteLength;
    elapsed = (performance.now() - start) / 1000;
  } while (elapsed < seconds);
  // The sum is read so that the loop cannot be dropped.
  return Number.isNaN(sum) ? 0 : bytes / elapsed / 1e9;
}

/** The reference build. It runs on the calling thread; `threads` is only reported. */
export function makeReferenceOps(threads = 1): Ops {
  // Buffers that are handed out now: what `free` gives back is known to be ours, and is given back once.
  const owned = new WeakSet<ArrayBufferLike>();
  let bytes = 0;
  let peakBytes = 0;

  function allocate<View extends Float32Array | Int32Array>(
    make: new (length: number) => View,
    length: number,
  ): View {
    let view: View;
    try {
      view = new make(length);
    } catch (error) {
      throw new R3Error('kernels', 'no-memory', `buffer: expected ${length * 4} bytes of memory, got none`, {
        cause: error,
      });
    }
    owned.add(view.buffer);
    bytes += view.byteLength;
    peakBytes = Math.max(peakBytes, bytes);
    return view;
  }

  return {
    build: 'reference',
    variant: 'typescript',
    threads,
    f32: (length) => allocate(Float32Array, length),
    i32: (length) => allocate(Int32Array, length),
    free(view) {
      if (owned.delete(view.buffer)) bytes -= view.buffer.byteLength;
    },
    memory: () => ({ bytes, peakBytes }),
    packedLength,
    pack,
    gemm,
    gatherPacked,
    transposePacked,
    gather,
    scatterAdd,
    rmsNorm,
    rmsNormBackward,
    qkNorm,
    qkNormBackward,
    ropeStore,
    ropeStoreBackward,
    attention,
    attentionBackward,
    gatedUnit,
    gatedUnitBackward,
    dropout,
    softcap,
    scale: multiply,
    logprobs,
    logprobsBackward,
    sample,
    adamW,
    sumSquares,
    measurePeak,
    measureBandwidth,
    close() {},
  };
}
