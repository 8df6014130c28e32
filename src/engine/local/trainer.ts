/**
 * Scores and trains sequences: forward over a tree of token runs, backward through the same tree.
 *
 * The two halves of a training call are apart, because the loss in the middle is the caller's: `forward` gives
 * the log-probability of every trained position, `backward` takes the derivative of the loss by each of them.
 * Logits exist only at those positions, a chunk of rows at a time. Where a batch does not fit the memory limit
 * each layer is computed again in the backward pass (Chen et al., arXiv 1604.06174); where that does not
 * suffice the batch is cut into passes, whose gradients add up.
 */
import { assert } from '../../lib/errors.ts';
import { PAGE_SIZE, type Ops } from '../../kernels/ops.ts';
import type { AdamParams, Datum, StepResult } from '../engine.ts';
import type { ModelConfig } from './config.ts';
import {
  forwardLayer,
  layerBufferWidths,
  LOGITS_CHUNK,
  project,
  scratchBufferWidths,
  type LayerBuffers,
  type Pages,
  type Rows,
  type ScratchBuffers,
} from './decoder.ts';
import { foldSequences, type Forest } from './tree.ts';
import type { Layout, Matrix, PackedMatrix, Weights } from './weights.ts';
import { makeWorkspace } from './workspace.ts';

export interface TrainerOptions {
  /** Bytes that activations may take. */
  activationBytes: number;
  /** Compute shared prefixes once. */
  share: boolean;
}

export interface Trainer {
  /** Log-probabilities per datum, at its positions. With `keep`, what `backward` needs is kept. */
  forward(weights: Weights, datums: readonly Datum[], temperature: number, keep: boolean): Float32Array[];
  /** Adds to the gradient; the datums and their order are those of the last `forward` with `keep`. */
  backward(gradients: readonly Float32Array[]): void;
  step(adam: AdamParams): StepResult;
  gradientNorms(): Record<string, number>;
  optimizer(): OptimizerState;
  counts: { trainedTokens: number; unsharedTokens: number };
}

export interface OptimizerState {
  gradient: Float32Array;
  moment1: Float32Array;
  moment2: Float32Array;
  steps: number;
}

/** Some of the datums of a call, folded. */
interface Pass {
  members: number[];
  forest: Forest;
  /** One entry per trained position, datum by datum: the row whose logits predict it, and its token. */
  lossRows_P: Int32Array;
  targets_P: Int32Array;
}

export function makeTrainer(
  ops: Ops,
  config: ModelConfig,
  layout: Layout,
  weights: Weights,
  rope: Float32Array,
  options: TrainerOptions,
): Trainer {
  const {
    hiddenSize: C,
    intermediateSize: F,
    heads: H,
    kvHeads: J,
    headSize: D,
    vocabularySize: V,
    layers: L,
  } = config;
  const work = makeWorkspace(ops);
  let allocated: OptimizerState | undefined;
  /** Allocated when first trained: scoring alone needs none. */
  const optimizer = (): OptimizerState =>
    (allocated ??= {
      gradient: ops.f32(layout.length),
      moment1: ops.f32(layout.length),
      moment2: ops.f32(layout.length),
      steps: 0,
    });
  const counts = { trainedTokens: 0, unsharedTokens: 0 };
  const gradientOf = (p: { offset: number; length: number }): Float32Array =>
    optimizer().gradient.subarray(p.offset, p.offset + p.length);
  const matrixGradient = (m: Matrix): Float32Array =>
    optimizer().gradient.subarray(m.offset, m.offset + m.out * m.in);

  const plan = planActivations(config, options.activationBytes);
  let kept: { datums: readonly Datum[]; passes: Pass[]; temperature: number } | undefined;
  /** The pass whose activations are in the workspace, and how they were kept. */
  let held: { pass: Pass; recompute: boolean } | undefined;

  const layerBuffers = (l: number, R: number): LayerBuffers =>
    named(layerBufferWidths(config), (name, width) => work.floats(`${name}/${l}`, width * R));
  const scratch = (R: number): ScratchBuffers =>
    named(scratchBufferWidths(config), (name, width) => work.floats(name, width * R));
  const pages = (l: number, pageCount: number): Pages => ({
    keys: work.floats(`keys/${l}`, pageCount * J * D * PAGE_SIZE),
    values: work.floats(`values/${l}`, pageCount * J * D * PAGE_SIZE),
  });

  function rowsOf(pass: Pass): Rows & { trees: Int32Array; treeCount: number } {
    const f = pass.forest;
    return {
      count: f.rowCount,
      ids_R: work.ints('ids', f.ids_R),
      positions_R: work.ints('positions', f.positions_R),
      slots_R: work.ints('slots', f.slots_R),
      shape: {
        heads: H,
        kvHeads: J,
        headSize: D,
        scale: D ** -0.5,
        window: 0,
        softcap: 0,
        runs: work.ints('runs', f.runs),
        runCount: f.runCount,
        spans: work.ints('spans', f.spans),
      },
      trees: work.ints('trees', f.trees),
      treeCount: f.treeCount,
    };
  }

  /** Computes a pass up to its log-probabilities. `keep`: what of the layers stays for the backward pass. */
  function forwardPass(
    w: Weights,
    pass: Pass,
    temperature: number,
    keep: 'all' | 'inputs' | 'nothing',
  ): Float32Array {
    held = undefined;
    const rows = rowsOf(pass);
    const R = rows.count;
    const input = (l: number): Float32Array => work.floats(`x/${keep === 'nothing' ? 0 : l}`, C * R);
    ops.gather(R, C, w.embedding, rows.ids_R, input(0));
    for (let l = 0; l < L; l++) {
      const place = keep === 'all' ? l : 0;
      forwardLayer(
        ops,
        config,
        w,
        at(w.layers, l),
        rows,
        rope,
        input(l),
        pages(place, pass.forest.pageCount),
        layerBuffers(place, R),
        scratch(R),
        input(l + 1),
      );
    }
    if (keep !== 'nothing') held = { pass, recompute: keep === 'inputs' };
    return forwardHead(w, pass, temperature, input(L));
  }

  /** Rows of logits that fit a chunk. */
  const chunkRows = (P: number): number => Math.min(P, Math.max(1, Math.floor(LOGITS_CHUNK / V)));

  function forwardHead(w: Weights, pass: Pass, temperature: number, x: Float32Array): Float32Array {
    const P = pass.lossRows_P.length;
    const rows = work.ints('lossRows', pass.lossRows_P);
    const targets = work.ints('targets', pass.targets_P);
    const gathered = work.floats('head/x', P * C);
    const normed = work.floats('head/normed', P * C);
    ops.gather(P, C, x, rows, gathered);
    ops.rmsNorm(P, C, gathered, w.finalNorm, config.rmsEpsilon, normed, work.floats('head/inverse', P));
    const logsumexp = work.floats('head/logsumexp', P);
    const logprob = work.floats('head/logprob', P);
    const step = chunkRows(P);
    for (let p = 0; p < P; p += step) {
      const n = Math.min(step, P - p);
      const logits = work.floats('head/logits', step * V);
      project(ops, w, n, normed.subarray(p * C), w.head, logits);
      ops.logprobs(
        n,
        V,
        logits,
        targets.subarray(p),
        temperature,
        logsumexp.subarray(p),
        logprob.subarray(p),
      );
    }
    return logprob.slice(0, P);
  }

  /** dW += dy^T x, dy [R, out], x [R, in]. */
  function addWeightGradient(R: number, m: Matrix, dy: Float32Array, x: Float32Array): void {
    const packed = work.floats('packed', ops.packedLength(R, m.in, weights.type));
    ops.pack(packed, x, R, m.in, m.in, 1, weights.type);
    ops.gemm(m.out, m.in, R, dy, 1, m.out, packed, matrixGradient(m), true, weights.type);
  }

  /** dx = dy W. */
  function projectBack(R: number, dy: Float32Array, w: PackedMatrix, dx: Float32Array): void {
    assert(w.backward !== null, 'backward through weights that are not trainable');
    ops.gemm(R, w.matrix.in, w.matrix.out, dy, w.matrix.out, 1, w.backward, dx, false, weights.type);
  }

  /** From the derivative by each log-probability to the derivative by the last layer's output. */
  function backwardHead(pass: Pass, temperature: number, coefficients: Float32Array): Float32Array {
    const P = pass.lossRows_P.length;
    const R = pass.forest.rowCount;
    const normed = work.floats('head/normed', P * C);
    const logits = work.floats('head/logits', chunkRows(P) * V);
    const targets = work.ints('targets', pass.targets_P);
    const logsumexp = work.floats('head/logsumexp', P);
    const coefficient = work.floats('head/coefficient', P);
    coefficient.set(coefficients);
    const dNormed = work.floats('head/dNormed', P * C);
    const step = chunkRows(P);
    for (let p = 0; p < P; p += step) {
      const n = Math.min(step, P - p);
      // With one chunk the logits are still there from the forward pass.
      if (step < P) project(ops, weights, n, normed.subarray(p * C), weights.head, logits);
      ops.logprobsBackward(
        n,
        V,
        logits,
        targets.subarray(p),
        temperature,
        0,
        logsumexp.subarray(p),
        coefficient.subarray(p),
      );
      projectBack(n, logits, weights.head, dNormed.subarray(p * C));
      addWeightGradient(n, layout.head, logits, normed.subarray(p * C));
    }
    const dGathered = work.zeros('head/dx', P * C);
    ops.rmsNormBackward(
      P,
      C,
      work.floats('head/x', P * C),
      weights.finalNorm,
      work.floats('head/inverse', P),
      dNormed,
      dGathered,
      gradientOf(layout.finalNorm),
    );
    const dx = work.zeros('dx', R * C);
    ops.scatterAdd(P, C, dGathered, work.ints('lossRows', pass.lossRows_P), dx);
    return dx;
  }

  function backwardPass(pass: Pass, temperature: number, coefficients: Float32Array): void {
    assert(held?.pass === pass, 'backward of a pass whose activations are gone');
    const { recompute } = held;
    const dx = backwardHead(pass, temperature, coefficients);
    const rows = rowsOf(pass);
    for (let l = L - 1; l >= 0; l--) {
      const place = recompute ? 0 : l;
      const x = work.floats(`x/${l}`, C * rows.count);
      const b = layerBuffers(place, rows.count);
      const kv = pages(place, pass.forest.pageCount);
      // The layer's own output is not needed: it goes where the head's input was.
      if (recompute)
        forwardLayer(
          ops,
          config,
          weights,
          at(weights.layers, l),
          rows,
          rope,
          x,
          kv,
          b,
          scratch(rows.count),
          work.floats(`x/${L}`, C * rows.count),
        );
      backwardLayer(l, rows, pass.forest.pageCount, x, b, kv, dx);
    }
    ops.scatterAdd(rows.count, C, dx, rows.ids_R, matrixGradient(layout.embedding));
    held = undefined;
  }

  /** `dx` comes as the derivative by the layer's output and leaves as that by its input. */
  function backwardLayer(
    l: number,
    rows: ReturnType<typeof rowsOf>,
    pageCount: number,
    x: Float32Array,
    b: LayerBuffers,
    kv: Pages,
    dx: Float32Array,
  ): void {
    const R = rows.count;
    const w = at(weights.layers, l);
    const spec = at(layout.layers, l);

    // out = middle + (silu(g) * u) Wdown,  [g u] = norm(middle) Wgateup
    const dHidden = work.floats('dHidden', R * F);
    const hidden = work.floats('hidden_RF', R * F);
    const dGateUp = work.floats('dGateUp', R * 2 * F);
    const dNormed = work.floats('dNormed', R * C);
    projectBack(R, dx, w.down, dHidden);
    ops.gatedUnitBackward(R, F, 'silu', b.gateUp_R2F, dHidden, dGateUp, hidden);
    addWeightGradient(R, spec.down, dx, hidden);
    projectBack(R, dGateUp, w.gateUp, dNormed);
    addWeightGradient(R, spec.gateUp, dGateUp, b.mlpNormed_RC);
    ops.rmsNormBackward(R, C, b.middle_RC, w.mlpNorm, b.mlpInverse_R, dNormed, dx, gradientOf(spec.mlpNorm));

    // middle = x + attention(norm(x) Wqkv) Wo
    const dAttended = work.floats('dAttended', R * H * D);
    const dq = work.floats('dq', R * H * D);
    const dQkv = work.floats('qkv_R', R * (H + 2 * J) * D);
    const pageFloats = pageCount * J * D * PAGE_SIZE;
    const dKeys = work.zeros('dKeys', pageFloats);
    const dValues = work.zeros('dValues', pageFloats);
    projectBack(R, dx, w.o, dAttended);
    addWeightGradient(R, spec.o, dx, b.attended_RHD);
    ops.attentionBackward(
      R,
      rows.shape,
      rows.trees,
      rows.treeCount,
      b.q_RHD,
      kv.keys,
      kv.values,
      b.attended_RHD,
      b.stats_RH2,
      dAttended,
      dq,
      dKeys,
      dValues,
    );
    ops.ropeStoreBackward(R, H, J, D, dq, dKeys, dValues, rows.positions_R, rows.slots_R, rope, dQkv);
    projectBack(R, dQkv, w.qkv, dNormed);
    addWeightGradient(R, spec.qkv, dQkv, b.normed_RC);
    ops.rmsNormBackward(R, C, x, w.attentionNorm, b.inverse_R, dNormed, dx, gradientOf(spec.attentionNorm));
  }

  return {
    optimizer,
    counts,
    forward(w, datums, temperature, keep) {
      const passes = makePasses(datums, options.share, plan.rowsRecomputed);
      const result = datums.map((d) => new Float32Array(d.positions.length));
      for (const pass of passes) {
        const rows = pass.forest.rowCount;
        const logprobs = forwardPass(
          w,
          pass,
          temperature,
          !keep || passes.length > 1 ? 'nothing' : rows <= plan.rowsKept ? 'all' : 'inputs',
        );
        let p = 0;
        for (const n of pass.members) {
          const own = at(result, n);
          own.set(logprobs.subarray(p, p + own.length));
          p += own.length;
        }
      }
      if (keep) kept = { datums, passes, temperature };
      return result;
    },
    backward(gradients) {
      assert(kept !== undefined, 'backward without forward');
      const { datums, passes, temperature } = kept;
      for (const pass of passes) {
        const coefficients = new Float32Array(pass.lossRows_P.length);
        let p = 0;
        for (const n of pass.members) {
          coefficients.set(at(gradients, n), p);
          p += at(datums, n).positions.length;
        }
        if (held?.pass !== pass)
          forwardPass(weights, pass, temperature, pass.forest.rowCount <= plan.rowsKept ? 'all' : 'inputs');
        backwardPass(pass, temperature, coefficients);
        counts.trainedTokens += pass.forest.rowCount;
        for (const n of pass.members) counts.unsharedTokens += inputLength(at(datums, n));
      }
      kept = undefined;
    },
    step(adam) {
      const state = optimizer();
      const gradientNorm = Math.sqrt(ops.sumSquares(layout.length, state.gradient));
      // As torch.nn.utils.clip_grad_norm_.
      const gradientScale =
        adam.maxGradNorm === undefined ? 1 : Math.min(1, adam.maxGradNorm / (gradientNorm + 1e-6));
      state.steps++;
      const scalars = {
        ...adam,
        correction1: 1 - adam.beta1 ** state.steps,
        correction2: 1 - adam.beta2 ** state.steps,
        gradientScale,
      };
      const parts: [number, number, number][] = [
        [0, layout.decayedLength, adam.weightDecay],
        [layout.decayedLength, layout.length, 0],
      ];
      for (const [from, to, weightDecay] of parts) {
        ops.adamW(
          to - from,
          weights.values.subarray(from, to),
          state.gradient.subarray(from, to),
          state.moment1.subarray(from, to),
          state.moment2.subarray(from, to),
          { ...scalars, weightDecay },
        );
      }
      state.gradient.fill(0);
      weights.repack();
      return { gradientNorm, learningRate: adam.learningRate };
    },
    gradientNorms: () =>
      Object.fromEntries(
        layout.parameters.map((p) => [p.name, Math.sqrt(ops.sumSquares(p.length, gradientOf(p)))]),
      ),
  };
}

/** Rows per pass that fit the limit, with all activations kept and with each layer computed again. */
export function planActivations(
  config: ModelConfig,
  activationBytes: number,
): { rowsKept: number; rowsRecomputed: number; bytesPerRow: number } {
  const sum = (widths: Record<string, number>): number => Object.values(widths).reduce((a, b) => a + b, 0);
  const { hiddenSize: C, intermediateSize: F, heads: H, headSize: D, kvHeads: J, layers: L } = config;
  const pageFloats = 2 * J * D;
  const layer = sum(layerBufferWidths(config)) + pageFloats;
  /** Scratch, the derivatives of one layer, an activation packed for a weight gradient, and the head. */
  const shared = sum(scratchBufferWidths(config)) + 2 * C + 3 * F + 2 * H * D + pageFloats + F + 5 * C;
  const kept = 4 * (L * (layer + C) + shared);
  const recomputed = 4 * (L * C + layer + shared);
  return {
    rowsKept: Math.floor(activationBytes / kept),
    rowsRecomputed: Math.max(1, Math.floor(activationBytes / recomputed)),
    bytesPerRow: kept,
  };
}

/** Tokens of a datum that go through the network: those before its last trained position. */
function inputLength(datum: Datum): number {
  return at(datum.positions, datum.positions.length - 1);
}

function makePasses(datums: readonly Datum[], share: boolean, maxRows: number): Pass[] {
  const members = datums.flatMap((d, n) => (d.positions.length > 0 ? [n] : []));
  const split = (part: number[]): Pass[] => {
    if (part.length === 0) return [];
    const forest = foldSequences(
      part.map((n) => at(datums, n).tokens.slice(0, inputLength(at(datums, n)))),
      share,
    );
    if (forest.rowCount > maxRows && part.length > 1) {
      const half = part.length >> 1;
      return [...split(part.slice(0, half)), ...split(part.slice(half))];
    }
    return [
      {
        members: part,
        forest,
        lossRows_P: Int32Array.from(
          part.flatMap((n, i) => at(datums, n).positions.map((position) => forest.rowOf(i, position - 1))),
        ),
        targets_P: Int32Array.from(
          part.flatMap((n) => at(datums, n).positions.map((position) => at(at(datums, n).tokens, position))),
        ),
      },
    ];
  };
  return split(members);
}

function named<Name extends string>(
  widths: Record<Name, number>,
  make: (name: Name, width: number) => Float32Array,
): Record<Name, Float32Array> {
  return Object.fromEntries(
    Object.entries<number>(widths).map(([name, width]) => [name, make(name as Name, width)]),
  ) as Record<Name, Float32Array>;
}

function at<T>(list: ArrayLike<T>, index: number): T {
  assert(index >= 0 && index < list.length, `index ${index} of ${list.length}`);
  return list[index] as T;
}
