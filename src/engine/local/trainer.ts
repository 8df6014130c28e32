/**
 * Scores and trains sequences: forward over a tree of token runs, backward through the same tree.
 *
 * The two halves of a training call are apart, because the loss in the middle is the caller's: `forward` gives
 * the log-probability of every trained position, `backward` takes the derivative of the loss by each of them.
 * Logits exist only at those positions, a chunk of rows at a time. Where a batch does not fit the memory limit
 * each layer is computed again in the backward pass (Chen et al., arXiv 1604.06174); where that does not
 * suffice the batch is cut into passes, whose gradients add up.
 *
 * What is trained is a flat array of values: every weight, or the adapters alone. Gradients of frozen weights are not
 * computed, and the backward pass ends at the lowest layer that is trained.
 */
import { assert } from '../../lib/errors.ts';
import { hash32 } from '../../lib/rng.ts';
import { PAGE_SIZE } from '../../kernels/ops.ts';
import type { AdamParams, Datum, StepResult } from '../engine.ts';
import {
  addRows,
  attentionShape,
  computeLogits,
  embed,
  forwardLayer,
  layerBufferWidths,
  scratchBufferWidths,
  type Decoder,
  type Drop,
  type LayerBuffers,
  type Pages,
  type Rows,
  type ScratchBuffers,
} from './decoder.ts';
import { at, inputLength, logitRows, makePasses, planActivations, type Pass } from './passes.ts';
import {
  backwardType,
  MATRICES,
  type Layout,
  type Linear,
  type MatrixName,
  type Parameter,
  type Vector,
  type Weights,
} from './weights.ts';

export interface TrainerOptions {
  /** Bytes that activations may take. */
  activationBytes: number;
  /** Bytes that activations may take where all are kept. Changes no result. */
  keepBytes: number;
  /** Most rows of a pass. */
  passTokens: number;
  /** Compute shared prefixes once. */
  share: boolean;
  /** The widest stack of adapters. */
  adapterWidth: number;
  /** Share of an adapter's inputs that are dropped, and the seed that chooses them. */
  dropout: { rate: number; seed: number };
}

/** The values that are trained. */
export interface Trained {
  kind: 'full' | 'adapters';
  parameters: Parameter[];
  length: number;
  /** Parameters before this offset are decayed. */
  decayedLength: number;
  values: Float32Array;
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

/** `trained`: null where the weights are for scoring alone. */
export function makeTrainer(
  decoder: Decoder,
  layout: Layout,
  weights: Weights,
  trained: Trained | null,
  options: TrainerOptions,
): Trainer {
  const { ops, config, work } = decoder;
  const {
    hiddenSize: C,
    intermediateSize: F,
    heads: H,
    kvHeads: J,
    headSize: D,
    vocabularySize: V,
    layers: L,
  } = config;
  const full = trained?.kind === 'full';
  /** The lowest layer with something to train. */
  const lowest = full
    ? 0
    : Math.max(
        0,
        weights.layers.findIndex((layer) => MATRICES.some((name) => layer[name].adapter !== null)),
      );
  let allocated: OptimizerState | undefined;
  /** Allocated when first trained: scoring alone needs none. */
  const optimizer = (): OptimizerState => {
    assert(trained !== null, 'the optimizer of weights that are not trained');
    return (allocated ??= {
      gradient: ops.f32(trained.length),
      moment1: ops.f32(trained.length),
      moment2: ops.f32(trained.length),
      steps: 0,
    });
  };
  const counts = { trainedTokens: 0, unsharedTokens: 0 };
  const gradientOf = ({ offset, length }: Vector): Float32Array =>
    optimizer().gradient.subarray(offset, offset + length);
  /** Where the gradient of a norm goes; a frozen one's is not kept. */
  const normGradient = (vector: Vector | null): Float32Array => {
    assert(vector !== null, 'the gradient of a norm that the family does not have');
    return full ? gradientOf(vector) : work.floats('frozen', vector.length);
  };

  const { rowsRecomputed } = planActivations(config, options.activationBytes, options.adapterWidth);
  const { rowsKept } = planActivations(config, options.keepBytes, options.adapterWidth);
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
      runs: {
        runs: work.ints('runs', f.runs),
        runCount: f.runCount,
        spans: work.ints('spans', f.spans),
      },
      trees: work.ints('trees', f.trees),
      treeCount: f.treeCount,
    };
  }

  /** Dropout of adapters' inputs: the same mask each time that a layer of a pass is computed in one step. */
  function dropOf(pass: Pass, l: number): Drop | undefined {
    const { rate, seed } = options.dropout;
    if (rate === 0) return undefined;
    return (matrix, x, width, R) => {
      const layer = at(weights.layers, l);
      if (layer[matrix].adapter === null) return x;
      const dropped = work.floats(`dropped/${matrix}`, R * width);
      ops.dropout(R, width, x, rate, maskSeed(seed, pass, l, matrix), 0, dropped);
      return dropped;
    };
  }

  function maskSeed(seed: number, pass: Pass, l: number, matrix: MatrixName): number {
    const call = hash32(seed, optimizer().steps, pass.index);
    return hash32(call, l, MATRICES.indexOf(matrix));
  }

  /** Computes a pass up to its log-probabilities. `keep`: what of the layers stays for the backward pass. */
  function forwardPass(
    w: Weights,
    pass: Pass,
    temperature: number,
    keep: 'all' | 'inputs' | 'nothing',
    training: boolean,
  ): Float32Array {
    held = undefined;
    const rows = rowsOf(pass);
    const R = rows.count;
    const input = (l: number): Float32Array => work.floats(`x/${keep === 'nothing' ? 0 : l}`, C * R);
    embed(decoder, w, rows, input(0));
    for (let l = 0; l < L; l++) {
      const place = keep === 'all' ? l : 0;
      forwardLayer(
        decoder,
        l,
        at(w.layers, l),
        rows,
        input(l),
        pages(place, pass.forest.pageCount),
        layerBuffers(place, R),
        scratch(R),
        input(l + 1),
        { drop: training ? dropOf(pass, l) : undefined },
      );
    }
    if (keep !== 'nothing') held = { pass, recompute: keep === 'inputs' };
    return forwardHead(w, pass, temperature, input(L));
  }

  /** Rows of logits that are held at a time. Where all are, the backward pass does not compute them again. */
  const chunkRows = (P: number): number =>
    // The gradient of a trained head is summed chunk by chunk: their size must not depend on what is free.
    Math.min(P, logitRows(config, full ? options.activationBytes : options.keepBytes));

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
      computeLogits(decoder, w, n, normed.subarray(p * C), logits);
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

  /** W packed for dx = dy W. */
  function transposed(w: Linear): Float32Array {
    if (w.backward !== null) return w.backward;
    const type = backwardType(w.type);
    const packed = work.floats('transposed', ops.packedLength(w.out, w.in, type));
    ops.transposePacked(packed, w.forward, w.in, w.out, w.type, type);
    return packed;
  }

  /** dx = dy W, or dx += dy W, with the adapter's part. */
  function projectBack(
    R: number,
    dy: Float32Array,
    w: Linear,
    dx: Float32Array,
    { accumulate = false, mask }: { accumulate?: boolean; mask?: number | undefined } = {},
  ): void {
    ops.gemm(R, w.in, w.out, dy, w.out, 1, transposed(w), dx, accumulate, backwardType(w.type));
    if (w.adapter === null) return;
    const { width } = w.adapter.layout;
    const dHidden = adapterGradient(R, dy, w);
    if (mask === undefined) {
      ops.gemm(R, w.in, width, dHidden, width, 1, w.adapter.downBack, dx, true, 'f32');
      return;
    }
    const own = work.floats('dDropped', R * w.in);
    ops.gemm(R, w.in, width, dHidden, width, 1, w.adapter.downBack, own, false, 'f32');
    ops.dropout(R, w.in, own, options.dropout.rate, mask, 0, own);
    addRows(ops, work, R, w.in, own, dx);
  }

  /** dh = scale dy B, the derivative by what lies between the adapter's matrices. [R, width] */
  function adapterGradient(R: number, dy: Float32Array, w: Linear): Float32Array {
    assert(w.adapter !== null, 'the adapter of a matrix that has none');
    const { width } = w.adapter.layout;
    const dHidden = work.floats('dAdapter', R * width);
    ops.gemm(R, width, w.out, dy, w.out, 1, w.adapter.upBack, dHidden, false, 'f32');
    return dHidden;
  }

  /** Adds to the gradients of y = x W^T + b. dy [R, out], x [R, in]. */
  function addGradients(l: number, name: MatrixName, R: number, dy: Float32Array, x: Float32Array): void {
    const w = at(weights.layers, l)[name];
    if (full) {
      const spec = at(layout.layers, l)[name];
      addProduct(
        spec.out,
        spec.in,
        R,
        dy,
        spec.out,
        x,
        spec.in,
        gradientOf({ ...spec, length: spec.out * spec.in }),
        weights.type,
      );
      if (spec.bias !== null) {
        const first = work.ints('project/first', new Int32Array(R));
        ops.scatterAdd(R, spec.out, dy, first, gradientOf(spec.bias));
      }
      return;
    }
    if (w.adapter === null) return;
    // h = x A^T,  y += scale h B^T:  dB += scale dy^T h,  dA += (scale dy B)^T x
    const { layout: adapter, down, scale, rank } = w.adapter;
    const { width, modules } = adapter;
    const dHidden = adapterGradient(R, dy, w);
    const [first] = modules;
    const as = { offset: first?.a.offset ?? 0, length: width * w.in };
    addProduct(width, w.in, R, dHidden, width, x, w.in, gradientOf(as), 'f32');
    const hidden = work.floats('project/adapter', R * width);
    ops.gemm(R, width, w.in, x, w.in, 1, down, hidden, false, 'f32');
    ops.scale(R * width, scale, hidden);
    modules.forEach(({ b, firstOut, out }, m) =>
      addProduct(
        out,
        rank,
        R,
        dy.subarray(firstOut),
        w.out,
        hidden.subarray(m * rank),
        width,
        gradientOf(b),
        'f32',
      ),
    );
  }

  /** sum [M, N] += a^T b, over R rows of a (stride strideA) and b (stride strideB). */
  function addProduct(
    M: number,
    N: number,
    R: number,
    a: Float32Array,
    strideA: number,
    b: Float32Array,
    strideB: number,
    sum: Float32Array,
    type: Weights['type'],
  ): void {
    const packed = work.floats('packed', ops.packedLength(R, N, type));
    ops.pack(packed, b, R, N, 0, N, strideB, 1, type);
    ops.gemm(M, N, R, a, 1, strideA, packed, sum, true, type);
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
      if (step < P) computeLogits(decoder, weights, n, normed.subarray(p * C), logits);
      ops.logprobsBackward(
        n,
        V,
        logits,
        targets.subarray(p),
        temperature,
        config.logitSoftcap,
        logsumexp.subarray(p),
        coefficient.subarray(p),
      );
      projectBack(n, logits, weights.head, dNormed.subarray(p * C));
      if (!full) continue;
      const { out, in: width } = layout.head;
      const gradient = gradientOf({ ...layout.head, length: out * width });
      addProduct(out, width, n, logits, out, normed.subarray(p * C), width, gradient, weights.type);
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
      normGradient(layout.finalNorm),
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
    for (let l = L - 1; l >= lowest; l--) {
      const place = recompute ? 0 : l;
      const x = work.floats(`x/${l}`, C * rows.count);
      const b = layerBuffers(place, rows.count);
      const kv = pages(place, pass.forest.pageCount);
      // The layer's own output is not needed: it goes where the head's input was.
      const out = work.floats(`x/${L}`, C * rows.count);
      if (recompute)
        forwardLayer(decoder, l, at(weights.layers, l), rows, x, kv, b, scratch(rows.count), out, {
          drop: dropOf(pass, l),
        });
      backwardLayer(l, pass, rows, x, b, kv, dx);
    }
    if (full) {
      if (config.embeddingScale !== 1) ops.scale(rows.count * C, config.embeddingScale, dx);
      const { offset } = layout.embedding;
      ops.scatterAdd(rows.count, C, dx, rows.ids_R, gradientOf({ offset, length: V * C }));
    }
    held = undefined;
  }

  /** `dx` comes as the derivative by the layer's output and leaves as that by its input. */
  function backwardLayer(
    l: number,
    pass: Pass,
    rows: ReturnType<typeof rowsOf>,
    x: Float32Array,
    b: LayerBuffers,
    kv: Pages,
    dx: Float32Array,
  ): void {
    const R = rows.count;
    const w = at(weights.layers, l);
    const spec = at(layout.layers, l);
    const drop = dropOf(pass, l);
    const mask = (name: MatrixName): number | undefined =>
      drop === undefined || w[name].adapter === null
        ? undefined
        : maskSeed(options.dropout.seed, pass, l, name);
    const seen = (name: MatrixName, input: Float32Array): Float32Array =>
      drop === undefined ? input : drop(name, input, w[name].in, R);
    /** Through the norm after a block: the derivative by what came in. */
    const throughAfter = (
      weight: Float32Array | null,
      vector: Vector | null,
      input: Float32Array,
      inverse: Float32Array,
    ): Float32Array => {
      if (weight === null) return dx;
      const dInput = work.zeros('dAfter', R * C);
      ops.rmsNormBackward(R, C, input, weight, inverse, dx, dInput, normGradient(vector));
      return dInput;
    };
    /** dx += the derivative through a block's first product and the norm before it. */
    const throughBefore = (
      name: MatrixName,
      dy: Float32Array,
      weight: Float32Array | null,
      vector: Vector | null,
      input: Float32Array,
      inverse: Float32Array,
    ): void => {
      if (weight === null) {
        projectBack(R, dy, w[name], dx, { accumulate: true, mask: mask(name) });
        return;
      }
      const dNormed = work.floats('dNormed', R * C);
      projectBack(R, dy, w[name], dNormed, { mask: mask(name) });
      ops.rmsNormBackward(R, C, input, weight, inverse, dNormed, dx, normGradient(vector));
    };

    // out = middle + after((silu(g) * u) Wdown),  [g u] = norm(middle) Wgateup
    const dHidden = work.floats('dHidden', R * F);
    const hidden = work.floats('hidden_RF', R * F);
    const dGateUp = work.floats('dGateUp', R * 2 * F);
    const dMlp = throughAfter(w.mlpAfter, spec.mlpAfter, b.mlp_RC, b.mlpAfterInverse_R);
    projectBack(R, dMlp, w.down, dHidden, { mask: mask('down') });
    ops.gatedUnitBackward(R, F, config.activation, b.gateUp_R2F, dHidden, dGateUp, hidden);
    addGradients(l, 'down', R, dMlp, seen('down', hidden));
    const mlpInput = w.mlpNorm === null ? b.middle_RC : b.mlpNormed_RC;
    addGradients(l, 'gateUp', R, dGateUp, seen('gateUp', mlpInput));
    throughBefore('gateUp', dGateUp, w.mlpNorm, spec.mlpNorm, b.middle_RC, b.mlpInverse_R);

    // middle = x + after(attention(norm(x) Wqkv) Wo)
    const dAttended = work.floats('dAttended', R * H * D);
    const dq = work.floats('dq', R * H * D);
    const dQkv = work.floats('qkv_R', R * (H + 2 * J) * D);
    const pageFloats = pass.forest.pageCount * J * D * PAGE_SIZE;
    const dKeys = work.zeros('dKeys', pageFloats);
    const dValues = work.zeros('dValues', pageFloats);
    const dAttention = throughAfter(
      w.attentionAfter,
      spec.attentionAfter,
      b.attention_RC,
      b.attentionInverse_R,
    );
    projectBack(R, dAttention, w.o, dAttended, { mask: mask('o') });
    addGradients(l, 'o', R, dAttention, seen('o', b.attended_RHD));
    ops.attentionBackward(
      R,
      attentionShape(config, l, rows.runs),
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
    const rope = at(decoder.ropes, l);
    ops.ropeStoreBackward(R, H, J, D, dq, dKeys, dValues, rows.positions_R, rows.slots_R, rope, dQkv);
    if (w.queryNorm !== null && w.keyNorm !== null)
      ops.qkNormBackward(
        R,
        H,
        J,
        D,
        config.qkNorm === 'whole',
        b.projected_R,
        w.queryNorm,
        w.keyNorm,
        b.qkInverse_R,
        dQkv,
        normGradient(spec.queryNorm),
        normGradient(spec.keyNorm),
      );
    const attentionInput = w.attentionNorm === null ? x : b.normed_RC;
    addGradients(l, 'qkv', R, dQkv, seen('qkv', attentionInput));
    // Below the lowest layer that is trained nobody reads dx.
    if (l === lowest && !full) return;
    throughBefore('qkv', dQkv, w.attentionNorm, spec.attentionNorm, x, b.inverse_R);
  }

  return {
    optimizer,
    counts,
    forward(w, datums, temperature, keep) {
      const passes = makePasses(datums, options.share, Math.min(rowsRecomputed, options.passTokens));
      const result = datums.map((d) => new Float32Array(d.positions.length));
      for (const pass of passes) {
        const rows = pass.forest.rowCount;
        const logprobs = forwardPass(
          w,
          pass,
          temperature,
          !keep || passes.length > 1 ? 'nothing' : rows <= rowsKept ? 'all' : 'inputs',
          keep,
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
          forwardPass(weights, pass, temperature, pass.forest.rowCount <= rowsKept ? 'all' : 'inputs', true);
        backwardPass(pass, temperature, coefficients);
        counts.trainedTokens += pass.forest.rowCount;
        for (const n of pass.members) counts.unsharedTokens += inputLength(at(datums, n));
      }
      kept = undefined;
    },
    step(adam) {
      assert(trained !== null, 'a step of weights that are not trained');
      const state = optimizer();
      const gradientNorm = Math.sqrt(ops.sumSquares(trained.length, state.gradient));
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
        [0, trained.decayedLength, adam.weightDecay],
        [trained.decayedLength, trained.length, 0],
      ];
      for (const [from, to, weightDecay] of parts) {
        ops.adamW(
          to - from,
          trained.values.subarray(from, to),
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
        (trained?.parameters ?? []).map((p) => [p.name, Math.sqrt(ops.sumSquares(p.length, gradientOf(p)))]),
      ),
  };
}

function named<Name extends string>(
  widths: Record<Name, number>,
  make: (name: Name, width: number) => Float32Array,
): Record<Name, Float32Array> {
  return Object.fromEntries(
    Object.entries<number>(widths).map(([name, width]) => [name, make(name as Name, width)]),
  ) as Record<Name, Float32Array>;
}
