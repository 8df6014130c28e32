/**
 * The parameters of a decoder: a table of names and places, and the packed forms that products use.
 *
 * Hugging Face stores a projection as [out, in]. Projections that read the same input (q k v; gate up) lie one
 * after the other, so that each such group is one matrix and one product. Biases and normalisation weights come
 * last: they are the part that weight decay leaves alone.
 *
 * Weights that are trained are held as one flat f32 array beside their packed forms. Frozen ones (sampling, LoRA, the
 * reference of the KL term) exist packed only: they are packed strip by strip while they are read.
 */
import { PACK_COLUMNS, type Ops, type PackedType } from '../../kernels/ops.ts';
import type { ModelConfig } from './config.ts';
import type { Adapters, PackedAdapter } from './lora.ts';

export interface Parameter {
  /** Its Hugging Face name. */
  name: string;
  shape: number[];
  /** In floats, from the start of the flat array. */
  offset: number;
  length: number;
}

/** A part of the flat array. */
export interface Vector {
  offset: number;
  length: number;
}

/** A matrix that multiplies activations: `out` rows of `in` floats, and what is added to the product. */
export interface Matrix {
  offset: number;
  out: number;
  in: number;
  /** The tensors that it is made of, in the order of their outputs. */
  parts: Parameter[];
  bias: Vector | null;
}

/** The names of a layer's matrices. */
export const MATRICES = ['qkv', 'o', 'gateUp', 'down'] as const;
export type MatrixName = (typeof MATRICES)[number];

/** A layer's norms; which of them exist depends on the family. */
export const NORMS = [
  'attentionNorm',
  'attentionAfter',
  'mlpNorm',
  'mlpAfter',
  'queryNorm',
  'keyNorm',
] as const;
export type NormName = (typeof NORMS)[number];

export type LayerLayout = Record<MatrixName, Matrix> & Record<NormName, Vector | null>;

export interface Layout {
  parameters: Parameter[];
  length: number;
  /** Parameters before this offset are decayed. */
  decayedLength: number;
  embedding: Matrix;
  head: Matrix;
  layers: LayerLayout[];
  finalNorm: Vector;
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
  const join = (input: number, parts: readonly (readonly [string, number])[]): Matrix => {
    const offset = length;
    return {
      offset,
      in: input,
      out: parts.reduce((sum, [, out]) => sum + out, 0),
      parts: parts.map(([name, out]) => add(`${name}.weight`, out, input)),
      bias: null,
    };
  };
  const withBias = (matrix: Matrix, has: boolean): Matrix => {
    if (!has) return matrix;
    const offset = length;
    for (const { name, shape } of matrix.parts) add(name.replace(/weight$/, 'bias'), shape[0] as number);
    return { ...matrix, bias: { offset, length: matrix.out } };
  };

  const embedding = join(C, [['model.embed_tokens', V]]);
  const matrices = Array.from({ length: config.layers }, (_, l) => {
    const attention = `model.layers.${l}.self_attn`;
    const mlp = `model.layers.${l}.mlp`;
    const qkv = [['q_proj', H * D] as const, ['k_proj', J * D] as const, ['v_proj', J * D] as const];
    return {
      qkv: join(
        C,
        config.fused
          ? [[`${attention}.qkv_proj`, (H + 2 * J) * D]]
          : qkv.map(([name, out]) => [`${attention}.${name}`, out]),
      ),
      o: join(H * D, [[`${attention}.o_proj`, C]]),
      gateUp: join(
        C,
        config.fused
          ? [[`${mlp}.gate_up_proj`, 2 * F]]
          : [
              [`${mlp}.gate_proj`, F],
              [`${mlp}.up_proj`, F],
            ],
      ),
      down: join(F, [[`${mlp}.down_proj`, C]]),
    };
  });
  const head = config.tiedHead ? embedding : join(C, [['lm_head', V]]);
  const decayedLength = length;
  const names = NORM_NAMES[config.norms];
  const layers = matrices.map((m, l) => {
    const norm = (name: string | undefined, width: number): Parameter | null =>
      name === undefined ? null : add(`model.layers.${l}.${name}.weight`, width);
    const headNorm = (which: 'q' | 'k', heads: number): Parameter | null =>
      config.qkNorm === 'none'
        ? null
        : norm(`self_attn.${which}_norm`, config.qkNorm === 'whole' ? heads * D : D);
    return {
      qkv: withBias(m.qkv, config.bias.qkv),
      o: withBias(m.o, config.bias.output),
      gateUp: withBias(m.gateUp, config.bias.mlp),
      down: withBias(m.down, config.bias.mlp),
      attentionNorm: norm(names.attentionNorm, C),
      attentionAfter: norm(names.attentionAfter, C),
      mlpNorm: norm(names.mlpNorm, C),
      mlpAfter: norm(names.mlpAfter, C),
      queryNorm: headNorm('q', H),
      keyNorm: headNorm('k', J),
    };
  });
  const finalNorm = add('model.norm.weight', C);
  return { parameters, length, decayedLength, embedding, head, layers, finalNorm };
}

/** What transformers calls the norms of a layer: `post_attention_layernorm` stands before the MLP in Llama. */
const NORM_NAMES: Record<ModelConfig['norms'], Partial<Record<NormName, string>>> = {
  before: { attentionNorm: 'input_layernorm', mlpNorm: 'post_attention_layernorm' },
  after: { attentionAfter: 'post_attention_layernorm', mlpAfter: 'post_feedforward_layernorm' },
  around: {
    attentionNorm: 'input_layernorm',
    attentionAfter: 'post_attention_layernorm',
    mlpNorm: 'pre_feedforward_layernorm',
    mlpAfter: 'post_feedforward_layernorm',
  },
};

/** A matrix that can be computed with: y = x W^T + b, and with an adapter y += scale (x A^T) B^T. */
export interface Linear {
  in: number;
  out: number;
  type: PackedType;
  /** W^T, for y. */
  forward: Float32Array;
  /** W, for dx = dy W. Null: transposed from `forward` when it is needed. */
  backward: Float32Array | null;
  bias: Float32Array | null;
  adapter: PackedAdapter | null;
}

export type LayerWeights = Record<MatrixName, Linear> & Record<NormName, Float32Array | null>;

/** Weights that can be computed with. */
export interface Weights {
  type: PackedType;
  /** All of them in f32, where they are trained. */
  values: Float32Array | null;
  /** Rows of floats, or the packed columns of a matrix [C, V]. */
  embedding: { rows: Float32Array } | { packed: Float32Array };
  layers: LayerWeights[];
  finalNorm: Float32Array;
  head: Linear;
  /** Packs again what depends on values that are trained. */
  repack(): void;
}

/** Where weights come from: `count` floats of a parameter, from its float `from` on. */
export type ReadParameter = (parameter: Parameter, from: number, count: number, into: Float32Array) => void;

/** Floats that are read at a time. */
const STRIP_FLOATS = 1 << 22;

export interface WeightsOptions {
  type: PackedType;
  /** `full`: every weight is trained. `adapters`: those alone. `none`: nothing is. */
  training: 'full' | 'adapters' | 'none';
  adapters?: Adapters | undefined;
}

/** Reads and packs the weights of a layout. */
export function makeWeights(
  ops: Ops,
  config: ModelConfig,
  layout: Layout,
  read: ReadParameter,
  { type, training, adapters }: WeightsOptions,
): Weights {
  const full = training === 'full';
  const vectorsFrom = full ? 0 : layout.decayedLength;
  /** All parameters, or biases and norms alone. */
  const values = ops.f32(layout.length - vectorsFrom);
  for (const parameter of layout.parameters) {
    if (parameter.offset < vectorsFrom) continue;
    const at = parameter.offset - vectorsFrom;
    read(parameter, 0, parameter.length, values.subarray(at, at + parameter.length));
  }
  const view = ({ offset, length }: Vector): Float32Array =>
    values.subarray(offset - vectorsFrom, offset - vectorsFrom + length);

  const repacks: (() => void)[] = [];
  let strip: Float32Array | undefined;
  const packInto = (packed: Float32Array, m: Matrix): void => {
    if (full) {
      ops.pack(
        packed,
        view({ offset: m.offset, length: m.out * m.in }),
        m.in,
        m.out,
        0,
        m.out,
        1,
        m.in,
        type,
      );
      return;
    }
    const rows = Math.max(1, Math.floor(STRIP_FLOATS / m.in / PACK_COLUMNS)) * PACK_COLUMNS;
    strip = growStrip(ops, strip, Math.min(rows, m.out) * m.in);
    for (let first = 0; first < m.out; first += rows) {
      const count = Math.min(rows, m.out - first);
      readRows(read, m, first, count, strip);
      ops.pack(packed, strip, m.in, m.out, first, count, 1, m.in, type);
    }
  };
  const packMatrix = (m: Matrix): Float32Array => {
    const packed = ops.f32(ops.packedLength(m.in, m.out, type));
    packInto(packed, m);
    if (full) repacks.push(() => packInto(packed, m));
    return packed;
  };
  const linear = (m: Matrix, adapter: PackedAdapter | null): Linear => {
    const forward = packMatrix(m);
    let backward: Float32Array | null = null;
    // The head is multiplied a chunk of rows at a time: transposed for each it would cost more than it saves.
    if (full || (training === 'adapters' && m === layout.head)) {
      const packed = ops.f32(ops.packedLength(m.out, m.in, backwardType(type)));
      const pack = full
        ? (): void =>
            ops.pack(
              packed,
              view({ offset: m.offset, length: m.out * m.in }),
              m.out,
              m.in,
              0,
              m.in,
              m.in,
              1,
              type,
            )
        : (): void => ops.transposePacked(packed, forward, m.in, m.out, type, backwardType(type));
      pack();
      if (full) repacks.push(pack);
      backward = packed;
    }
    return {
      in: m.in,
      out: m.out,
      type,
      forward,
      backward,
      bias: m.bias === null ? null : view(m.bias),
      adapter,
    };
  };
  const norm = (vector: Vector | null): Float32Array | null => {
    if (vector === null) return null;
    const stored = view(vector);
    if (!config.normsLessOne) return stored;
    const weight = ops.f32(vector.length);
    const add = (): void => stored.forEach((value, i) => (weight[i] = 1 + value));
    add();
    if (full) repacks.push(add);
    return weight;
  };

  const head = linear(layout.head, null);
  const layers = layout.layers.map((layer, l): LayerWeights => ({
    qkv: linear(layer.qkv, adapters?.of(l, 'qkv') ?? null),
    o: linear(layer.o, adapters?.of(l, 'o') ?? null),
    gateUp: linear(layer.gateUp, adapters?.of(l, 'gateUp') ?? null),
    down: linear(layer.down, adapters?.of(l, 'down') ?? null),
    attentionNorm: norm(layer.attentionNorm),
    attentionAfter: norm(layer.attentionAfter),
    mlpNorm: norm(layer.mlpNorm),
    mlpAfter: norm(layer.mlpAfter),
    queryNorm: norm(layer.queryNorm),
    keyNorm: norm(layer.keyNorm),
  }));
  // The embedding is what products see of it, whatever is trained; in f32 that is the table itself.
  const embedding =
    full && type === 'f32'
      ? {
          rows: view({ offset: layout.embedding.offset, length: layout.embedding.out * layout.embedding.in }),
        }
      : { packed: config.tiedHead ? head.forward : packMatrix(layout.embedding) };
  const finalNorm = norm(layout.finalNorm) as Float32Array;
  if (strip !== undefined) ops.free(strip);
  return {
    type,
    values: full ? values : null,
    embedding,
    layers,
    finalNorm,
    head,
    repack() {
      for (const pack of repacks) pack();
      adapters?.repack();
    },
  };
}

/** The same weights with the adapters off: the reference model of the KL term, without a second copy. */
export function withoutAdapters(weights: Weights): Weights {
  const plain = (linear: Linear): Linear => ({ ...linear, adapter: null });
  return {
    ...weights,
    layers: weights.layers.map((layer) => ({
      ...layer,
      qkv: plain(layer.qkv),
      o: plain(layer.o),
      gateUp: plain(layer.gateUp),
      down: plain(layer.down),
    })),
  };
}

/** How W is packed for dx = dy W: 8-bit weights as what they stand for. */
export function backwardType(type: PackedType): 'f32' | 'bf16' {
  return type === 'bf16' ? 'bf16' : 'f32';
}

function growStrip(ops: Ops, strip: Float32Array | undefined, length: number): Float32Array {
  if (strip !== undefined && strip.length >= length) return strip;
  if (strip !== undefined) ops.free(strip);
  return ops.f32(length);
}

/** Rows [first, first + count) of a matrix, from the tensors that it is made of. */
export function readRows(
  read: ReadParameter,
  matrix: Matrix,
  first: number,
  count: number,
  into: Float32Array,
): void {
  let start = 0;
  for (const part of matrix.parts) {
    const rows = part.shape[0] as number;
    const from = Math.max(first, start);
    const to = Math.min(first + count, start + rows);
    if (from < to) {
      const length = (to - from) * matrix.in;
      const at = (from - first) * matrix.in;
      read(part, (from - start) * matrix.in, length, into.subarray(at, at + length));
    }
    start += rows;
  }
}
