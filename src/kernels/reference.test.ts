/**
 * That the reference is right, since the compiled builds are only compared with it.
 *
 * Backward ops are checked with directional derivatives: for a loss L = sum(g * forward(x)), the central
 * difference of L along a random direction equals the gradient's dot product with that direction. Ops that
 * are linear are checked as transposes. AdamW is compared with a transcription that keeps its state in f64.
 */
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { checkedOps } from './checked.ts';
import {
  dot,
  expectClose,
  layOut,
  makeNodes,
  makeRopeTable,
  randomFloats,
  randomInts,
  randomTokenRows,
  runAttention,
  runAttentionBackward,
} from './ops-testing.ts';
import { makeReferenceOps, roundToBf16 } from './reference.ts';

const ops = checkedOps(makeReferenceOps());

/** Large enough for outputs that are rounded to f32, small enough for the third derivative. */
const STEP = 1e-2;

/**
 * Compares a gradient with central differences along three random directions. `loss` is called with x
 * changed in place; x is restored.
 */
function expectGradient(label: string, x: Float32Array, gradient: Float32Array, loss: () => number): void {
  const start = x.slice();
  for (let seed = 1; seed <= 3; seed++) {
    const direction = randomFloats(x.length, seed);
    const move = (step: number): number => {
      for (let i = 0; i < x.length; i++) x[i] = start[i]! + step * direction[i]!;
      return loss();
    };
    const difference = (move(STEP) - move(-STEP)) / (2 * STEP);
    x.set(start);
    const expected = dot(gradient, direction);
    // Relative to what the terms of the sum may cancel to.
    const scale = Math.sqrt(dot(gradient, gradient));
    expect(scale, label).toBeGreaterThan(0.01);
    expectClose(`${label}, direction ${seed}`, [difference], [expected], {
      absolute: 1e-3 * scale,
      relative: 1e-3,
    });
  }
}

describe('reference', () => {
  it('rounds to bf16 with ties to even', () => {
    const step = 2 ** -7;
    expect(roundToBf16(1 + step / 2)).toBe(1);
    expect(roundToBf16(1 + (3 * step) / 2)).toBe(1 + 2 * step);
    expect(roundToBf16(1 + step * 0.51)).toBe(1 + step);
    expect(roundToBf16(-1 - step * 0.51)).toBe(-1 - step);
    expect(roundToBf16(Infinity)).toBe(Infinity);
    expect(roundToBf16(NaN)).toBeNaN();
  });

  it('multiplies bf16 matrices as the product of rounded matrices', () => {
    const [M, N, K] = [3, 5, 7];
    const a = randomFloats(M * K, 1);
    const b = randomFloats(K * N, 2);
    const c = new Float32Array(M * N);
    const packed = ops.f32(ops.packedLength(K, N, 'bf16'));
    ops.pack(packed, b, K, N, 0, N, N, 1, 'bf16');
    ops.gemm(M, N, K, a, K, 1, packed, c, false, 'bf16');
    const expected = c.map((_, i) => {
      const [m, n] = [Math.floor(i / N), i % N];
      let sum = 0;
      for (let k = 0; k < K; k++) sum += roundToBf16(a[m * K + k]!) * roundToBf16(b[k * N + n]!);
      return sum;
    });
    expectClose('gemm bf16', c, expected, { absolute: 0, relative: 1e-7 });
  });

  it('packs int8 per column and block, in steps of the largest value over 127', () => {
    const [K, N] = [3, 2];
    const packed = ops.f32(ops.packedLength(K, N, 'int8'));
    ops.pack(packed, Float32Array.from([254, 0, -3, 0, 2.9, 0]), K, N, 0, N, N, 1, 'int8');
    const seen = new Float32Array(K * N);
    ops.gatherPacked(N, K, N, packed, Int32Array.from([0, 1]), seen, 'int8');
    // In steps of 2; -1.5 is halfway and goes to -2, the even one.
    expect([...seen]).toEqual([254, -4, 2, 0, 0, 0]);
    // 300 rows are two blocks, of 152 and 148: a large value in one leaves the other's steps alone.
    const column = Float32Array.from({ length: 300 }, (_, k) => (k === 0 ? 1270 : 1));
    const long = ops.f32(ops.packedLength(300, 1, 'int8'));
    ops.pack(long, column, 300, 1, 0, 1, 1, 1, 'int8');
    const read = new Float32Array(300);
    ops.gatherPacked(1, 300, 1, long, Int32Array.from([0]), read, 'int8');
    expect(read.indexOf(1)).toBe(152);
    expect(read.slice(152).every((value) => value === 1)).toBe(true);
  });

  it('scatterAdd is the transpose of gather', () => {
    const [R, C, tableRows] = [9, 5, 4];
    const ids = randomInts(R, 1, tableRows);
    const table = randomFloats(tableRows * C, 2);
    const source = randomFloats(R * C, 3);
    const out = new Float32Array(R * C);
    const gradient = new Float32Array(tableRows * C);
    ops.gather(R, C, table, ids, out);
    ops.scatterAdd(R, C, source, ids, gradient);
    expect(dot(out, source)).toBeCloseTo(dot(table, gradient), 5);
  });

  it('rmsNorm makes rows of mean square 1, and its backward is its derivative', () => {
    const [R, C] = [3, 17];
    const x = randomFloats(R * C, 1, 2);
    const weight = randomFloats(C, 2);
    const g = randomFloats(R * C, 3);
    const out = new Float32Array(R * C);
    const inverse = new Float32Array(R);
    ops.rmsNorm(R, C, x, new Float32Array(C).fill(1), 0, out, inverse);
    for (let r = 0; r < R; r++) {
      const row = out.slice(r * C, (r + 1) * C);
      expect(dot(row, row) / C).toBeCloseTo(1, 5);
    }
    const loss = (): number => {
      ops.rmsNorm(R, C, x, weight, 1e-3, out, inverse);
      return dot(out, g);
    };
    loss();
    const dx = new Float32Array(R * C);
    const dWeight = new Float32Array(C);
    ops.rmsNormBackward(R, C, x, weight, inverse, g, dx, dWeight);
    expectGradient('rmsNorm x', x, dx, loss);
    expectGradient('rmsNorm weight', weight, dWeight, loss);
  });

  it('ropeStore keeps lengths, and scores depend on the distance of positions only', () => {
    const D = 32;
    const table = makeRopeTable(64, D);
    const qkv = randomFloats(3 * D, 1);
    const score = (queryPosition: number, keyPosition: number): number => {
      const q = new Float32Array(2 * D);
      const keys = new Float32Array(2 * D * 16);
      const slots = Int32Array.from([queryPosition % 16, 16 + (keyPosition % 16)]);
      const positions = Int32Array.from([queryPosition, keyPosition]);
      const rows = Float32Array.from([...qkv, ...qkv]);
      ops.ropeStore(2, 1, 1, D, rows, positions, slots, table, q, keys, new Float32Array(2 * D * 16));
      const key = Float32Array.from({ length: D }, (_, d) => keys[D * 16 + d * 16 + (keyPosition % 16)]!);
      const query = qkv.slice(0, D);
      expect(dot(q.slice(0, D), q.slice(0, D))).toBeCloseTo(dot(query, query), 4);
      return dot(q.slice(0, D), key);
    };
    expect(score(9, 4)).toBeCloseTo(score(42, 37), 4);
    expect(score(0, 0)).toBeCloseTo(dot(qkv.slice(0, D), qkv.slice(D, 2 * D)), 4);
    expect(Math.abs(score(9, 4) - score(9, 8))).toBeGreaterThan(1e-3);
  });

  it('ropeStoreBackward is the transpose of ropeStore', () => {
    const [R, H, J, D] = [5, 4, 2, 32];
    const table = makeRopeTable(40, D);
    const positions = Int32Array.from([0, 7, 16, 31, 39]);
    const slots = positions.map((position, r) => (4 - r) * 16 + (position % 16));
    const qkv = randomFloats(R * (H + 2 * J) * D, 1);
    const q = new Float32Array(R * H * D);
    const keyPages = new Float32Array(5 * J * D * 16);
    const valuePages = new Float32Array(5 * J * D * 16);
    ops.ropeStore(R, H, J, D, qkv, positions, slots, table, q, keyPages, valuePages);

    const dq = randomFloats(q.length, 2);
    const dKeys = randomFloats(keyPages.length, 3); // [page][J, 16, D]
    const dValues = randomFloats(valuePages.length, 4);
    const dqkv = new Float32Array(qkv.length);
    ops.ropeStoreBackward(R, H, J, D, dq, dKeys, dValues, positions, slots, table, dqkv);
    // Slots without a token hold zeros in keyPages and valuePages, so they add nothing here.
    const dKeysTransposed = keyPages.map((_, i) => {
      const [head, d, slot] = [Math.floor(i / (16 * D)), Math.floor(i / 16) % D, i % 16];
      return dKeys[(head * 16 + slot) * D + d]!;
    });
    const forward = dot(q, dq) + dot(keyPages, dKeysTransposed) + dot(valuePages, dValues);
    expect(Math.abs(forward)).toBeGreaterThan(0.1);
    expect(forward).toBeCloseTo(dot(qkv, dqkv), 4);
  });

  it('attention equals softmax attention over the whole sequence, written directly', () => {
    const [T, H, J, D] = [21, 4, 2, 16];
    const rows = randomTokenRows(T, H, J, D, 1);
    const c = layOut(makeNodes([[T, -1]]), rows);
    const { out } = runAttention(ops, c);
    const [window, cap] = [5, 3];
    const limited = runAttention(ops, { ...c, shape: { ...c.shape, window, softcap: cap } });
    for (let t = 0; t < T; t++) {
      for (let h = 0; h < H; h++) {
        const j = Math.floor(h / 2);
        const row = (values: Float32Array, at: number): Float32Array => values.subarray(at * D, (at + 1) * D);
        const scores = Array.from(
          { length: t + 1 },
          (_, s) => dot(row(rows.queries, t * H + h), row(rows.keys, s * J + j)) / Math.sqrt(D),
        );
        const attend = (weights: number[]): number[] => {
          const total = weights.reduce((sum, weight) => sum + weight, 0);
          return Array.from({ length: D }, (_, d) =>
            weights.reduce((sum, weight, s) => sum + (weight / total) * row(rows.values, s * J + j)[d]!, 0),
          );
        };
        const tolerance = { absolute: 1e-6, relative: 1e-5 };
        expectClose(`token ${t} head ${h}`, row(out, t * H + h), attend(scores.map(Math.exp)), tolerance);
        const seen = scores.map((s, at) => (at > t - window ? Math.exp(cap * Math.tanh(s / cap)) : 0));
        expectClose(`token ${t} head ${h}, limited`, row(limited.out, t * H + h), attend(seen), tolerance);
      }
    }
  });

  it('attentionBackward is the derivative of attention over a token tree', () => {
    const nodes = makeNodes([
      [6, -1],
      [3, 0],
      [14, 0],
      [4, -1],
    ]);
    for (const [window, softcap] of [
      [0, 0],
      [5, 2],
    ] as const) {
      const c = layOut(nodes, randomTokenRows(27, 4, 2, 16, 1));
      Object.assign(c.shape, { window, softcap });
      const g = randomFloats(c.q.length, 2);
      const loss = (): number => dot(runAttention(ops, c).out, g);
      const { dq, dKeyPages, dValuePages } = runAttentionBackward(ops, c, runAttention(ops, c), g);
      expectGradient('attention q', c.q, dq, loss);
      expectGradient('attention values', c.valuePages, dValuePages, loss);
      // Keys are [J, 16 D] with the slot as the lane; their gradients are [J, 16, D].
      const dKeys = dKeyPages.map((_, i) => {
        const [head, d, slot] = [Math.floor(i / 256), Math.floor(i / 16) % 16, i % 16];
        return dKeyPages[head * 256 + slot * 16 + d]!;
      });
      expectGradient('attention keys', c.keyPages, dKeys, loss);
    }
  });

  it('gatedUnitBackward is the derivative of gatedUnit', () => {
    const [R, F] = [3, 11];
    for (const activation of ['silu', 'gelu'] as const) {
      const gateUp = randomFloats(R * 2 * F, 1, 3);
      const g = randomFloats(R * F, 2);
      const out = new Float32Array(R * F);
      const dGateUp = new Float32Array(R * 2 * F);
      ops.gatedUnitBackward(R, F, activation, gateUp, g, dGateUp, out);
      expectGradient(activation, gateUp, dGateUp, () => {
        ops.gatedUnit(R, F, activation, gateUp, out);
        return dot(out, g);
      });
    }
  });

  it('gelu is the tanh form', () => {
    const gates = [-3, -1, -0.1, 0, 0.5, 2];
    const out = new Float32Array(6);
    ops.gatedUnit(1, 6, 'gelu', Float32Array.from([...gates, 1, 1, 1, 1, 1, 1]), out);
    const expected = gates.map(
      (x) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3))),
    );
    expectClose('gelu', out, expected, { absolute: 1e-7, relative: 1e-6 });
  });

  it('qkNormBackward is the derivative of qkNorm', () => {
    const [R, H, J, D] = [3, 4, 2, 16];
    for (const whole of [false, true]) {
      const qkv = randomFloats(R * (H + 2 * J) * D, 1, 2);
      const weightQ = randomFloats(whole ? H * D : D, 2);
      const weightK = randomFloats(whole ? J * D : D, 3);
      const g = randomFloats(qkv.length, 4);
      const out = new Float32Array(qkv.length);
      const inverse = new Float32Array(R * (whole ? 2 : H + J));
      const loss = (): number => {
        ops.qkNorm(R, H, J, D, whole, qkv, weightQ, weightK, 1e-3, out, inverse);
        return dot(out, g);
      };
      loss();
      const dqkv = g.slice();
      const dWeightQ = new Float32Array(weightQ.length);
      const dWeightK = new Float32Array(weightK.length);
      ops.qkNormBackward(R, H, J, D, whole, qkv, weightQ, weightK, inverse, dqkv, dWeightQ, dWeightK);
      expectGradient('qkNorm qkv', qkv, dqkv, loss);
      expectGradient('qkNorm weightQ', weightQ, dWeightQ, loss);
      expectGradient('qkNorm weightK', weightK, dWeightK, loss);
    }
  });

  it('logprobs are the logarithm of a distribution, and their backward is the derivative', () => {
    const V = 23;
    const temperature = 0.8;
    const row = randomFloats(V, 1, 3);
    const everyTarget = Int32Array.from({ length: V }, (_, v) => v);
    const logits = Float32Array.from({ length: V * V }, (_, i) => row[i % V]!);
    const logsumexp = new Float32Array(V);
    const logprob = new Float32Array(V);
    ops.logprobs(V, V, logits, everyTarget, temperature, logsumexp, logprob);
    expect(logprob.reduce((sum, value) => sum + Math.exp(value), 0)).toBeCloseTo(1, 5);
    expect(logprob[3]! - logprob[5]!).toBeCloseTo((row[3]! - row[5]!) / temperature, 5);

    const coefficient = randomFloats(V, 2);
    const gradient = logits.slice();
    ops.logprobsBackward(V, V, gradient, everyTarget, temperature, 0, logsumexp, coefficient);
    expectGradient('logprobs', logits, gradient, () => {
      ops.logprobs(V, V, logits, everyTarget, temperature, logsumexp, logprob);
      return dot(logprob, coefficient);
    });

    const cappedLoss = (capped: Float32Array): number => {
      ops.softcap(V * V, 2, capped);
      ops.logprobs(V, V, capped, everyTarget, temperature, logsumexp, logprob);
      return dot(logprob, coefficient);
    };
    const capped = logits.slice();
    cappedLoss(capped);
    ops.logprobsBackward(V, V, capped, everyTarget, temperature, 2, logsumexp, coefficient);
    expectGradient('logprobs of capped logits', logits, capped, () => cappedLoss(logits.slice()));
  });

  it('adamW follows a transcription in f64 for ten steps', () => {
    const n = 50;
    const { learningRate, beta1, beta2, epsilon, weightDecay, gradientScale } = {
      learningRate: 0.02,
      beta1: 0.9,
      beta2: 0.99,
      epsilon: 1e-8,
      weightDecay: 0.1,
      gradientScale: 0.7,
    };
    const w = randomFloats(n, 1);
    const m = new Float32Array(n);
    const v = new Float32Array(n);
    const exact = Array.from(w, (value) => ({ w: value, m: 0, v: 0 }));
    for (let t = 1; t <= 10; t++) {
      const g = randomFloats(n, 100 + t);
      const [correction1, correction2] = [1 - beta1 ** t, 1 - beta2 ** t];
      ops.adamW(n, w, g, m, v, {
        learningRate,
        beta1,
        beta2,
        epsilon,
        weightDecay,
        correction1,
        correction2,
        gradientScale,
      });
      exact.forEach((p, i) => {
        // The order of torch.optim.AdamW: decay, moments, update.
        const gradient = g[i]! * gradientScale;
        p.w *= 1 - learningRate * weightDecay;
        p.m += (gradient - p.m) * (1 - beta1);
        p.v = beta2 * p.v + (1 - beta2) * gradient ** 2;
        p.w -= ((learningRate / correction1) * p.m) / (Math.sqrt(p.v) / Math.sqrt(correction2) + epsilon);
      });
    }
    const tolerance = { absolute: 2e-7, relative: 2e-6 };
    expectClose(
      'adamW w',
      w,
      exact.map((p) => p.w),
      tolerance,
    );
    expectClose(
      'adamW m',
      m,
      exact.map((p) => p.m),
      tolerance,
    );
    expectClose(
      'adamW v',
      v,
      exact.map((p) => p.v),
      tolerance,
    );
  });

  it('sumSquares adds the squares', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 200 }), (n) => {
        const x = Float32Array.from({ length: n }, (_, i) => i);
        expect(ops.sumSquares(n, x)).toBe(((n - 1) * n * (2 * n - 1)) / 6 || 0);
      }),
    );
  });
});
