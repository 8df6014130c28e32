/**
 * What the two compiled builds share: the ops as calls of C functions, and the measurement of the peak.
 *
 * Both builds compile one C source (native/kernels.h lists the functions), so the order of arguments is the
 * same; they differ in how a buffer is named: the addon takes the view itself, WASM takes its address.
 * Lengths are not checked here (checked.ts).
 */
import type { Activation, Ops, PackedType } from './ops.ts';

const TYPES = { f32: 0, bf16: 1, int8: 2 } as const satisfies Record<PackedType, number>;
const ACTIVATIONS = { silu: 0, gelu: 1 } as const satisfies Record<Activation, number>;

/** The C functions, by name. Each returns a number, 0 where the op has no result. */
export type CompiledFunctions<Address> = Record<OpName, (...values: (number | Address)[]) => number>;
type OpName =
  | Exclude<
      keyof Ops,
      | 'build'
      | 'variant'
      | 'threads'
      | 'f32'
      | 'i32'
      | 'free'
      | 'memory'
      | 'measurePeak'
      | 'measureBandwidth'
      | 'close'
    >
  | 'peak'
  | 'read';
type CompiledOps = Pick<Ops, Exclude<OpName, 'peak' | 'read'> | 'measurePeak' | 'measureBandwidth'>;

/** The ops over the C functions; `at` turns a buffer into what they take. */
export function makeCompiledOps<Address>(
  c: CompiledFunctions<Address>,
  threads: number,
  at: (view: Float32Array | Int32Array) => Address,
): CompiledOps {
  return {
    packedLength: (K, N, type) => c.packedLength(K, N, TYPES[type]),
    pack: (packed, source, K, N, first, count, strideK, strideN, type) =>
      void c.pack(threads, at(packed), at(source), K, N, first, count, strideK, strideN, TYPES[type]),
    gatherPacked: (R, K, N, packed, ids, out, type) =>
      void c.gatherPacked(threads, R, K, N, at(packed), at(ids), at(out), TYPES[type]),
    transposePacked: (to, from, K, N, fromType, toType) =>
      void c.transposePacked(threads, at(to), at(from), K, N, TYPES[fromType], TYPES[toType]),
    gemm: (M, N, K, a, strideM, strideK, packed, out, accumulate, type) =>
      void c.gemm(
        threads,
        M,
        N,
        K,
        at(a),
        strideM,
        strideK,
        at(packed),
        at(out),
        accumulate ? 1 : 0,
        TYPES[type],
      ),
    gather: (R, C, table, ids, out) => void c.gather(threads, R, C, at(table), at(ids), at(out)),
    scatterAdd: (R, C, source, ids, table) =>
      void c.scatterAdd(threads, R, C, at(source), at(ids), at(table)),
    rmsNorm: (R, C, x, weight, epsilon, out, inverse) =>
      void c.rmsNorm(threads, R, C, at(x), at(weight), epsilon, at(out), at(inverse)),
    rmsNormBackward: (R, C, x, weight, inverse, dy, dx, dWeight) =>
      void c.rmsNormBackward(threads, R, C, at(x), at(weight), at(inverse), at(dy), at(dx), at(dWeight)),
    qkNorm: (R, H, J, D, whole, qkv, weightQ, weightK, epsilon, out, inverse) =>
      void c.qkNorm(
        threads,
        R,
        H,
        J,
        D,
        whole ? 1 : 0,
        at(qkv),
        at(weightQ),
        at(weightK),
        epsilon,
        at(out),
        at(inverse),
      ),
    qkNormBackward: (R, H, J, D, whole, qkv, weightQ, weightK, inverse, dOut, dWeightQ, dWeightK) =>
      void c.qkNormBackward(
        threads,
        R,
        H,
        J,
        D,
        whole ? 1 : 0,
        at(qkv),
        at(weightQ),
        at(weightK),
        at(inverse),
        at(dOut),
        at(dWeightQ),
        at(dWeightK),
      ),
    ropeStore: (R, H, J, D, qkv, positions, slots, table, q, keyPages, valuePages) =>
      void c.ropeStore(
        threads,
        R,
        H,
        J,
        D,
        at(qkv),
        at(positions),
        at(slots),
        at(table),
        at(q),
        at(keyPages),
        at(valuePages),
      ),
    ropeStoreBackward: (R, H, J, D, dq, dKeyPages, dValuePages, positions, slots, table, dqkv) =>
      void c.ropeStoreBackward(
        threads,
        R,
        H,
        J,
        D,
        at(dq),
        at(dKeyPages),
        at(dValuePages),
        at(positions),
        at(slots),
        at(table),
        at(dqkv),
      ),
    attention: (_R, s, q, keyPages, valuePages, out, stats) =>
      void c.attention(
        threads,
        s.heads,
        s.kvHeads,
        s.headSize,
        s.scale,
        Math.min(s.window, 0x7fffffff), // An int in WASM.
        s.softcap,
        at(s.runs),
        s.runCount,
        at(s.spans),
        at(q),
        at(keyPages),
        at(valuePages),
        at(out),
        at(stats),
      ),
    attentionBackward: (
      _R,
      s,
      trees,
      treeCount,
      q,
      keyPages,
      valuePages,
      out,
      stats,
      dOut,
      dq,
      dKeyPages,
      dValuePages,
    ) =>
      void c.attentionBackward(
        threads,
        s.heads,
        s.kvHeads,
        s.headSize,
        s.scale,
        Math.min(s.window, 0x7fffffff), // An int in WASM.
        s.softcap,
        at(s.runs),
        at(s.spans),
        at(trees),
        treeCount,
        at(q),
        at(keyPages),
        at(valuePages),
        at(out),
        at(stats),
        at(dOut),
        at(dq),
        at(dKeyPages),
        at(dValuePages),
      ),
    gatedUnit: (R, F, activation, gateUp, out) =>
      void c.gatedUnit(threads, R, F, ACTIVATIONS[activation], at(gateUp), at(out)),
    gatedUnitBackward: (R, F, activation, gateUp, dOut, dGateUp, out) =>
      void c.gatedUnitBackward(
        threads,
        R,
        F,
        ACTIVATIONS[activation],
        at(gateUp),
        at(dOut),
        at(dGateUp),
        at(out),
      ),
    dropout: (R, C, x, rate, seed, firstRow, out) =>
      void c.dropout(threads, R, C, at(x), rate, seed >>> 0, firstRow >>> 0, at(out)),
    softcap: (n, cap, x) => void c.softcap(threads, n, cap, at(x)),
    scale: (n, factor, x) => void c.scale(threads, n, factor, at(x)),
    logprobs: (R, V, logits, targets, temperature, logsumexp, logprob) =>
      void c.logprobs(threads, R, V, at(logits), at(targets), temperature, at(logsumexp), at(logprob)),
    logprobsBackward: (R, V, logits, targets, temperature, softcap, logsumexp, coefficient) =>
      void c.logprobsBackward(
        threads,
        R,
        V,
        at(logits),
        at(targets),
        temperature,
        softcap,
        at(logsumexp),
        at(coefficient),
      ),
    sample: (R, V, logits, rows, tokens, logprob) =>
      void c.sample(
        threads,
        R,
        V,
        at(logits),
        at(rows.temperature),
        at(rows.topK),
        at(rows.topP),
        at(rows.minP),
        at(rows.uniform),
        at(tokens),
        at(logprob),
      ),
    adamW: (n, w, g, m, v, s) =>
      void c.adamW(
        threads,
        n,
        at(w),
        at(g),
        at(m),
        at(v),
        s.learningRate,
        s.beta1,
        s.beta2,
        s.epsilon,
        s.weightDecay,
        s.correction1,
        s.correction2,
        s.gradientScale,
      ),
    sumSquares: (n, x) => c.sumSquares(threads, n, at(x)),
    measurePeak: (type, seconds) => bestRate((rounds) => c.peak(threads, rounds, TYPES[type]), 1000, seconds),
    measureBandwidth: (x, seconds) =>
      bestRate((rounds) => c.read(threads, rounds, x.length, at(x)), 1, seconds),
  };
}

/**
 * Billions per second of what `burst` counts: the best of short bursts, because one during which another process took a
 * core says nothing about this one.
 */
function bestRate(burst: (rounds: number) => number, firstRounds: number, seconds: number): number {
  const targetMs = 4;
  const start = performance.now();
  let rounds = firstRounds;
  let best = 0;
  do {
    const from = performance.now();
    const operations = burst(rounds);
    const elapsedMs = performance.now() - from;
    if (elapsedMs < targetMs) rounds *= 2;
    else best = Math.max(best, operations / elapsedMs / 1e6);
  } while (best === 0 || performance.now() - start < seconds * 1000);
  return best;
}
