/**
 * The ops that the embedded engine is built from, and the memory they work on.
 *
 * Three builds implement this interface: `native` (a Node-API addon), `wasm` (SIMD, threads over shared
 * memory) and `reference` (plain TypeScript, the definition). Every op writes into buffers that the caller
 * allocated with `f32` / `i32` of the same build, is deterministic, and does not depend on the thread count.
 *
 * The rule behind the engine's exactness: an output row depends on its own inputs only, and every reduction
 * has one fixed order, which depends on sizes and the build, never on how many rows there are beside it.
 *
 * Letters: M N K of a product C[M,N] = A[M,K] B[K,N]; R rows; C width; F hidden; V vocabulary; H query
 * heads; J key/value heads; D head size (a multiple of 16); P pages. All matrices are row-major f32.
 *
 * Keys and values live in pages of PAGE_SIZE = 16 slots. A page belongs to one run of tokens; the token at
 * position t sits in slot t mod 16, so a page may begin or end with unused slots. Per page:
 * keys [J, D, 16] (transposed: the slot is the lane), values [J, 16, D].
 */

export const PAGE_SIZE = 16;

/** Columns of a matrix may be packed strip by strip; each strip begins at a multiple of this. */
export const PACK_COLUMNS = 96;

/**
 * How a packed weight matrix is stored. Accumulation is f32 in all.
 * int8: weights only, symmetric, per column and block of k: scale = max |w| / 127 and q = w / scale (0 where all are
 * 0), both rounded to f32, then q to an integer, ties to even. Blocks: with G = ceil(K / 4) groups of four k, there are
 * ceil(G / 64) blocks of 4 ceil(G / ceil(G / 64)) k, at most 256; the last may be shorter.
 */
export type PackedType = 'f32' | 'bf16' | 'int8';

/** Of a gated unit: x sigmoid(x), or the tanh form of GELU, which is x sigmoid(2 sqrt(2/pi) (x + 0.044715 x^3)). */
export type Activation = 'silu' | 'gelu';

/** Ints per entry of `runs`: first row, row count, position of the first row, first span, span count. */
export const RUN_INTS = 5;
/** Ints per entry of `spans`: page, position of slot 0 (a multiple of 16), first used slot, end of used slots. */
export const SPAN_INTS = 4;
/**
 * Ints per entry of `trees`: first run, run count. A tree's runs are consecutive, and no span of another tree
 * names one of its pages.
 */
export const TREE_INTS = 2;

/** Ints and floats per row of `sample`'s parameters. */
export interface SampleRows {
  /** 0: greedy. */
  temperature: Float32Array;
  /** 0: off. */
  topK: Int32Array;
  /** 1: off. */
  topP: Float32Array;
  /** 0: off. */
  minP: Float32Array;
  /** Uniform in [0, 1). */
  uniform: Float32Array;
}

export interface AdamScalars {
  learningRate: number;
  beta1: number;
  beta2: number;
  epsilon: number;
  weightDecay: number;
  /** 1 - beta1^t and 1 - beta2^t. */
  correction1: number;
  correction2: number;
  /** The gradient is multiplied by this first (clipping). */
  gradientScale: number;
}

/** Where attention finds its keys, and the layout of its rows. */
export interface AttentionShape {
  heads: number;
  kvHeads: number;
  headSize: number;
  /** Usually headSize ** -0.5. */
  scale: number;
  /** 0: off. Else a row at position p sees slots from position p - window + 1 on: `window` of them with its own. */
  window: number;
  /** 0: off. Else a scaled score s becomes softcap tanh(s / softcap). */
  softcap: number;
  /** RUN_INTS per run. Runs cover the rows that are computed; rows in no run are left as they are. */
  runs: Int32Array;
  runCount: number;
  /** SPAN_INTS per span; a run's spans are in order of position. A row sees used slots with position <= its own. */
  spans: Int32Array;
}

export interface Ops {
  readonly build: 'native' | 'wasm' | 'reference';
  /** `avx512bf16`, `avx512`, `avx2`, `neon`, `simd128`, `baseline` or `typescript`. */
  readonly variant: string;
  readonly threads: number;

  /** Zeroed memory that ops may use, 64-byte aligned. Throws R3Error `no-memory`. */
  f32(length: number): Float32Array;
  i32(length: number): Int32Array;
  /** Gives memory back. The view, and views on it, must not be used again. */
  free(view: Float32Array | Int32Array): void;
  /** Bytes handed out now, and the most so far. */
  memory(): { bytes: number; peakBytes: number };

  /** Floats that a packed B[K,N] takes. */
  packedLength(K: number, N: number, type: PackedType): number;
  /**
   * Packs the columns first..first + count of B[K,N]: B(k, first + n) = source[k*strideK + n*strideN]. `packed` is that
   * of the whole B. first is a multiple of PACK_COLUMNS, and so is count unless the strip ends at N. bf16 rounds to
   * nearest even.
   */
  pack(
    packed: Float32Array,
    source: Float32Array,
    K: number,
    N: number,
    first: number,
    count: number,
    strideK: number,
    strideN: number,
    type: PackedType,
  ): void;
  /**
   * C = A B, or C += A B. A(m,k) = a[m*strideM + k*strideK]; c is [M, N], contiguous.
   * Each output element is summed over k in one fixed order that depends on K and the build only.
   * With bf16, A is rounded to nearest even first. With int8, A stays f32: within a block a(k) q(k, n) is summed over k
   * ascending, the sum is multiplied by the block's scale and rounded, and blocks are added to C in order.
   */
  gemm(
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
  ): void;

  /** out[r, k] = B(k, ids[r]) of a packed B[K,N], as products see it: bf16 rounded, int8 scale times q. */
  gatherPacked(
    R: number,
    K: number,
    N: number,
    packed: Float32Array,
    ids: Int32Array,
    out: Float32Array,
    type: PackedType,
  ): void;
  /** to = the packed transpose B'[N,K], B'(n, k) = B(k, n) as products see it, of the packed B[K,N] in `from`. */
  transposePacked(
    to: Float32Array,
    from: Float32Array,
    K: number,
    N: number,
    fromType: PackedType,
    toType: 'f32' | 'bf16',
  ): void;

  /** out[r] = table[ids[r]], rows of C floats. */
  gather(R: number, C: number, table: Float32Array, ids: Int32Array, out: Float32Array): void;
  /** table[ids[r]] += source[r], in order of r. */
  scatterAdd(R: number, C: number, source: Float32Array, ids: Int32Array, table: Float32Array): void;

  /** inverse[r] = 1 / sqrt(mean(x[r]^2) + epsilon); out = x * inverse * weight. */
  rmsNorm(
    R: number,
    C: number,
    x: Float32Array,
    weight: Float32Array,
    epsilon: number,
    out: Float32Array,
    inverse: Float32Array,
  ): void;
  /** dx += d(rmsNorm)/dx . dy; dWeight += d(rmsNorm)/dweight . dy (summed over rows in order). */
  rmsNormBackward(
    R: number,
    C: number,
    x: Float32Array,
    weight: Float32Array,
    inverse: Float32Array,
    dy: Float32Array,
    dx: Float32Array,
    dWeight: Float32Array,
  ): void;

  /**
   * RMSNorm of the queries and keys in qkv [R, (H + 2J) D], to out of the same shape; values are copied. whole false:
   * each head alone, weights [D], inverse [R, H + J]. whole true: all query heads of a row as one and all key heads as
   * one, weightQ [H D], weightK [J D], inverse [R, 2]. Arithmetic and order of sums are those of rmsNorm.
   */
  qkNorm(
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
  ): void;
  /**
   * In place: dOut becomes the derivative by qkv (that of the values stays as it is). dWeightQ and dWeightK are added
   * to, in order of the rows, within a row of the heads.
   */
  qkNormBackward(
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
  ): void;

  /**
   * Splits qkv [R, (H + 2J) D] into queries, keys and values; rotates queries and keys (halves rotated, as in
   * Llama): y1 = x1 cos - x2 sin, y2 = x2 cos + x1 sin with x1, x2 the halves of a head; stores keys and values
   * in slot slots[r] (= page*16 + position mod 16). table [positions, D]: D/2 cosines, then D/2 sines.
   */
  ropeStore(
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
  ): void;
  /** The transpose of ropeStore: dqkv from dq and from gradient pages (dKeyPages, dValuePages: both [page][J, 16, D]). */
  ropeStoreBackward(
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
  ): void;

  /**
   * out[r, h] = sum_j p_j v_j, p = softmax_j(scale q.k_j) over the run's spans, causal, within the window and with
   * scores capped where the shape says so. Query head h reads key/value head floor(h J / H). stats [R, H, 2]: the
   * largest score (scaled, capped) and sum_j exp(score_j - largest). Every row must see a slot.
   * Order: scores sum over d ascending; the sum of exponentials has one partial sum per slot (position mod 16),
   * each over ascending position, then joined pairwise (8, 4, 2, 1); values are added in ascending position
   * and divided at the end.
   */
  attention(
    R: number,
    shape: AttentionShape,
    q: Float32Array,
    keyPages: Float32Array,
    valuePages: Float32Array,
    out: Float32Array,
    stats: Float32Array,
  ): void;
  /**
   * Gradients of attention. dq is overwritten in the rows that runs cover; dKeyPages and dValuePages
   * ([page][J, 16, D]) are added to, in order of query row. Trees are independent of each other.
   */
  attentionBackward(
    R: number,
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
  ): void;

  /** gateUp [R, 2F] (gate, then up); out = activation(gate) * up. */
  gatedUnit(R: number, F: number, activation: Activation, gateUp: Float32Array, out: Float32Array): void;
  /** dGateUp from dOut; also writes out = activation(gate) * up again, which the weight gradient needs. */
  gatedUnitBackward(
    R: number,
    F: number,
    activation: Activation,
    gateUp: Float32Array,
    dOut: Float32Array,
    dGateUp: Float32Array,
    out: Float32Array,
  ): void;

  /**
   * x [R, C]. out[r, c] = 0 where hash32(seed, firstRow + r, c) < rate 2^32, else x[r, c] / (1 - rate), as a product with
   * the f32 nearest to 1 / (1 - rate). hash32 is that of lib/rng.ts; seed is an unsigned 32-bit integer. out may be x.
   */
  dropout(
    R: number,
    C: number,
    x: Float32Array,
    rate: number,
    seed: number,
    firstRow: number,
    out: Float32Array,
  ): void;
  /** In place: x = cap tanh(x / cap). */
  softcap(n: number, cap: number, x: Float32Array): void;
  /** In place: x *= factor, which is rounded to f32 first. */
  scale(n: number, factor: number, x: Float32Array): void;

  /** Temperatures are rounded to f32 first, here and in `sample`. logprob[r] = l[target] - lse[r] with l = logits[r] / temperature, lse = log sum exp l. 16 partial sums by index mod 16, joined pairwise. */
  logprobs(
    R: number,
    V: number,
    logits: Float32Array,
    targets: Int32Array,
    temperature: number,
    logsumexp: Float32Array,
    logprob: Float32Array,
  ): void;
  /**
   * In place: logits[r] becomes coefficient[r] * (onehot(target) - softmax(l)) / temperature. With a softcap (0: off)
   * logits are values y that `softcap` capped, and the derivative is by what they were before: times 1 - (y / softcap)^2.
   */
  logprobsBackward(
    R: number,
    V: number,
    logits: Float32Array,
    targets: Int32Array,
    temperature: number,
    softcap: number,
    logsumexp: Float32Array,
    coefficient: Float32Array,
  ): void;
  /**
   * Draws one token per row: temperature, then top-k, top-p, min-p on the tempered distribution, then inverse
   * transform of `uniform` over the kept tokens (in ascending id where no filter is on, else by falling
   * probability, ties to the lower id). logprob is that of the unfiltered tempered distribution (temperature 1
   * where greedy), bit for bit the value that `logprobs` gives.
   */
  sample(
    R: number,
    V: number,
    logits: Float32Array,
    rows: SampleRows,
    tokens: Int32Array,
    logprob: Float32Array,
  ): void;

  /**
   * AdamW: g' = g gradientScale; m = b1 m + (1-b1) g'; v = b2 v + (1-b2) g'^2;
   * w = w - lr wd w - lr (m / c1) / (sqrt(v / c2) + eps). Loshchilov & Hutter (arXiv 1711.05101), as torch.optim.AdamW.
   */
  adamW(n: number, w: Float32Array, g: Float32Array, m: Float32Array, v: Float32Array, s: AdamScalars): void;
  /** sum x^2 in f64, over blocks of 65536 in order. */
  sumSquares(n: number, x: Float32Array): number;

  /** Multiply-add peak of this build, GFLOP/s, all threads, measured for about `seconds`. `bf16` counts bf16 products where the variant has them; the others f32. */
  measurePeak(type: PackedType, seconds: number): number;
  /** How fast all threads together read `x`, GB/s, measured for about `seconds`. */
  measureBandwidth(x: Float32Array, seconds: number): number;
  /** Stops the threads. */
  close(): void;
}
