/**
 * The parameters of a decoder: one flat f32 array with a table of names, and the packed forms that products use.
 *
 * Hugging Face stores a projection as [out, in]. Projections that read the same input (q k v; gate up) lie one
 * after the other, so that each such group is one matrix and one product. Normalisation weights come last:
 * they are the part that weight decay leaves alone.
 */
import type { Ops, PackedType } from '../../kernels/ops.ts';
import type { ModelConfig } from './config.ts';

export interface Parameter {
  /** Its Hugging Face name. */
  name: string;
  shape: number[];
  /** In floats, from the start of the flat array. */
  offset: number;
  length: number;
}

/** A matrix that multiplies activations: `out` rows of `in` floats. */
export interface Matrix {
  offset: number;
  out: number;
  in: number;
}

export interface LayerLayout {
  qkv: Matrix;
  o: Matrix;
  gateUp: Matrix;
  down: Matrix;
  attentionNorm: Parameter;
  mlpNorm: Parameter;
}

export interface Layout {
  parameters: Parameter[];
  length: number;
  /** Parameters before this offset are decayed. */
  decayedLength: number;
  embedding: Matrix;
  head: Matrix;
  layers: LayerLayout[];
  finalNorm: Parameter;
}

export function makeLayout(config: ModelConfig): Layout {
  const { hiddenSize: C, intermediateSize: F, vocabularySize: V, heads: H, kvHeads: J, headSize: D } = config;
  const parameters: Parameter[] = [];
  let length = 0;
  const add = (name: string, ...shape: number[]): Parameter => {
    const parameter = { name, shape, offset: length, length: shape.reduce((a, b) => a * b, 1) };
    parameters.push(parameter);
    length += parameter.length;
    return parameter;
  };
  /** Matrices with a common input, joined along their outputs. */
  const join = (input: number, parts: [string, number][]): Matrix => {
    const offset = length;
    for (const [name, out] of parts) add(name, out, input);
    return { offset, in: input, out: parts.reduce((sum, [, out]) => sum + out, 0) };
  };

  const embedding = join(C, [['model.embed_tokens.weight', V]]);
  const matrices = Array.from({ length: config.layers }, (_, l) => ({
    qkv: join(C, [
      [`model.layers.${l}.self_attn.q_proj.weight`, H * D],
      [`model.layers.${l}.self_attn.k_proj.weight`, J * D],
      [`model.layers.${l}.self_attn.v_proj.weight`, J * D],
    ]),
    o: join(H * D, [[`model.layers.${l}.self_attn.o_proj.weight`, C]]),
    gateUp: join(C, [
      [`model.layers.${l}.mlp.gate_proj.weight`, F],
      [`model.layers.${l}.mlp.up_proj.weight`, F],
    ]),
    down: join(F, [[`model.layers.${l}.mlp.down_proj.weight`, C]]),
  }));
  const head = config.tiedHead ? embedding : join(C, [['lm_head.weight', V]]);
  const decayedLength = length;
  const layers = matrices.map((m, l) => ({
    ...m,
    attentionNorm: add(`model.layers.${l}.input_layernorm.weight`, C),
    mlpNorm: add(`model.layers.${l}.post_attention_layernorm.weight`, C),
  }));
  const finalNorm = add('model.norm.weight', C);
  return { parameters, length, decayedLength, embedding, head, layers, finalNorm };
}

/** A matrix packed for y = x W^T (forward) and, where it is trained through, dx = dy W (backward). */
export interface PackedMatrix {
  matrix: Matrix;
  forward: Float32Array;
  backward: Float32Array | null;
}

export interface LayerWeights {
  qkv: PackedMatrix;
  o: PackedMatrix;
  gateUp: PackedMatrix;
  down: PackedMatrix;
  attentionNorm: Float32Array;
  mlpNorm: Float32Array;
}

/** Weights that can be computed with. */
export interface Weights {
  values: Float32Array;
  embedding: Float32Array;
  layers: LayerWeights[];
  finalNorm: Float32Array;
  head: PackedMatrix;
  type: PackedType;
  /** Packs again after `values` changed. */
  repack(): void;
}

/** `values` holds `layout.length` floats in memory of `ops`; the result keeps and reads it. */
export function makeWeights(
  ops: Ops,
  layout: Layout,
  values: Float32Array,
  type: PackedType,
  trainable: boolean,
): Weights {
  const packed: PackedMatrix[] = [];
  const allocate = (matrix: Matrix): PackedMatrix => {
    const entry = {
      matrix,
      forward: ops.f32(ops.packedLength(matrix.in, matrix.out, type)),
      backward: trainable ? ops.f32(ops.packedLength(matrix.out, matrix.in, type)) : null,
    };
    packed.push(entry);
    return entry;
  };
  const view = (p: Parameter): Float32Array => values.subarray(p.offset, p.offset + p.length);
  const layers = layout.layers.map((l) => ({
    qkv: allocate(l.qkv),
    o: allocate(l.o),
    gateUp: allocate(l.gateUp),
    down: allocate(l.down),
    attentionNorm: view(l.attentionNorm),
    mlpNorm: view(l.mlpNorm),
  }));
  const { embedding } = layout;
  const weights: Weights = {
    values,
    embedding: values.subarray(embedding.offset, embedding.offset + embedding.out * embedding.in),
    layers,
    finalNorm: view(layout.finalNorm),
    head: allocate(layout.head),
    type,
    repack() {
      for (const { matrix: m, forward, backward } of packed) {
        const source = values.subarray(m.offset, m.offset + m.out * m.in);
        ops.pack(forward, source, m.in, m.out, 1, m.in, type);
        if (backward !== null) ops.pack(backward, source, m.out, m.in, m.in, 1, type);
      }
    },
  };
  weights.repack();
  return weights;
}
