/**
 * The model families: what each reads from its config.json, and how it departs from Llama.
 *
 * The decoder is one; a family is an entry of `FAMILIES`. It says what the fields default to when a config leaves
 * them out (the class defaults of transformers) and returns what differs from a plain Llama decoder. A field that no
 * entry reads is refused (`fields.ts`). Facts: transformers 5.17, models/<family>/configuration_<family>.py and
 * modeling_<family>.py; transformers 4 wrote the same things under older names.
 */
import type { LayerKind, ModelConfig, Rope, RopeScaling, Sizes } from './config.ts';
import type { Fields } from './fields.ts';

interface Family {
  kvHeads?: number;
  headSize?: number;
  contextLength: number;
  rmsEpsilon: number;
  tiedHead: boolean;
  read(fields: Fields, sizes: Sizes): Pick<ModelConfig, 'layerKinds'> & Partial<ModelConfig>;
}

export const FAMILY_NAMES = [
  'llama',
  'mistral',
  'qwen2',
  'qwen3',
  'phi3',
  'smollm3',
  'gemma2',
  'gemma3_text',
  'olmo2',
] as const;

export const FAMILIES: Record<(typeof FAMILY_NAMES)[number], Family> = {
  llama: {
    contextLength: 2048,
    rmsEpsilon: 1e-6,
    tiedHead: false,
    read: (fields, sizes) => {
      silu(fields);
      const attention = fields.flag('attention_bias', false);
      const rope = readRope(fields, sizes, 10_000);
      return {
        bias: { qkv: attention, output: attention, mlp: fields.flag('mlp_bias', false) },
        layerKinds: everyLayer(sizes, { rope, window: 0 }),
      };
    },
  },
  mistral: {
    kvHeads: 8,
    contextLength: 131_072,
    rmsEpsilon: 1e-6,
    tiedHead: false,
    read: (fields, sizes) => {
      silu(fields);
      const rope = readRope(fields, sizes, 10_000);
      return { layerKinds: everyLayer(sizes, { rope, window: readWindow(fields) }) };
    },
  },
  qwen2: {
    kvHeads: 32,
    contextLength: 32_768,
    rmsEpsilon: 1e-6,
    tiedHead: false,
    read: (fields, sizes) => {
      silu(fields);
      // Its bias is not a matter of configuration; some files say so nevertheless.
      fields.fixed('attention_bias', true);
      return { bias: { qkv: true, output: false, mlp: false }, layerKinds: readQwenLayers(fields, sizes) };
    },
  },
  qwen3: {
    kvHeads: 32,
    headSize: 128,
    contextLength: 32_768,
    rmsEpsilon: 1e-6,
    tiedHead: false,
    read: (fields, sizes) => {
      silu(fields);
      const attention = fields.flag('attention_bias', false);
      return {
        qkNorm: 'head',
        bias: { qkv: attention, output: attention, mlp: false },
        layerKinds: readQwenLayers(fields, sizes),
      };
    },
  },
  phi3: {
    contextLength: 4096,
    rmsEpsilon: 1e-5,
    tiedHead: false,
    read: (fields, sizes) => {
      silu(fields);
      fields.fixed('attention_bias', false);
      const rope = readRope(fields, sizes, 10_000);
      fields.has('original_max_position_embeddings');
      const window = fields.has('sliding_window') ? readWindow(fields) : 0;
      return { fused: true, layerKinds: everyLayer(sizes, { rope, window }) };
    },
  },
  smollm3: {
    kvHeads: 4,
    contextLength: 32_768,
    rmsEpsilon: 1e-6,
    tiedHead: true,
    read: (fields, sizes) => {
      silu(fields);
      const attention = fields.flag('attention_bias', false);
      const rope = readRope(fields, sizes, 2_000_000);
      const interval = fields.count('no_rope_layer_interval', 1024, 4);
      const marks = fields.numbers('no_rope_layers');
      if (marks !== undefined && marks.length < sizes.layers) {
        throw fields.refuse('no_rope_layers', `${sizes.layers} numbers, one per layer`);
      }
      const encodes = (l: number): boolean =>
        marks === undefined ? (l + 1) % interval !== 0 : marks[l] !== 0;
      const slides = fields.flag('use_sliding_window', false) && fields.has('sliding_window');
      const window = fields.has('sliding_window') ? readWindow(fields) : 0;
      const types =
        readLayerTypes(fields, sizes) ??
        Array.from({ length: sizes.layers }, (_, l) => (slides && !encodes(l) ? SLIDING : FULL));
      return {
        bias: { qkv: attention, output: attention, mlp: fields.flag('mlp_bias', false) },
        layerKinds: types.map((type, l) => ({
          rope: encodes(l) ? rope : undefined,
          window: type === SLIDING ? window : 0,
        })),
      };
    },
  },
  gemma2: {
    kvHeads: 4,
    headSize: 256,
    contextLength: 8192,
    rmsEpsilon: 1e-6,
    tiedHead: true,
    read: (fields, sizes) => {
      const rope = readRope(fields, sizes, 10_000);
      const types = readLayerTypes(fields, sizes) ?? alternate(sizes, 2);
      const window = readWindow(fields);
      return {
        ...readGemma(fields, sizes),
        attentionSoftcap: readSoftcap(fields, 'attn_logit_softcapping', 50),
        logitSoftcap: readSoftcap(fields, 'final_logit_softcapping', 30),
        layerKinds: types.map((type) => ({ rope, window: type === SLIDING ? window : 0 })),
      };
    },
  },
  gemma3_text: {
    kvHeads: 4,
    headSize: 256,
    contextLength: 131_072,
    rmsEpsilon: 1e-6,
    tiedHead: true,
    read: (fields, sizes) => {
      const pattern = fields.count('sliding_window_pattern', 1024, 6);
      const types = readLayerTypes(fields, sizes) ?? alternate(sizes, pattern);
      const window = readWindow(fields);
      const perType = fields.object('rope_parameters');
      const localTheta = fields.positive('rope_local_base_freq') ?? 10_000;
      const globalTheta = fields.positive('rope_theta') ?? 1_000_000;
      // transformers writes the field and does not compute it.
      if (fields.has('attn_logit_softcapping')) throw fields.refuse('attn_logit_softcapping', 'null');
      const globalRope =
        perType?.object(FULL) ?? (perType === undefined ? fields.object('rope_scaling') : undefined);
      const full = ropeOf(globalRope, fields, sizes, globalTheta);
      const sliding = ropeOf(perType?.object(SLIDING), fields, sizes, localTheta);
      return {
        ...readGemma(fields, sizes),
        qkNorm: 'head',
        logitSoftcap: fields.positive('final_logit_softcapping') ?? 0,
        layerKinds: types.map((type) =>
          type === SLIDING ? { rope: sliding, window } : { rope: full, window: 0 },
        ),
      };
    },
  },
  olmo2: {
    contextLength: 2048,
    rmsEpsilon: 1e-5,
    tiedHead: false,
    read: (fields, sizes) => {
      silu(fields);
      const attention = fields.flag('attention_bias', false);
      const rope = readRope(fields, sizes, 10_000);
      return {
        norms: 'after',
        qkNorm: 'whole',
        bias: { qkv: attention, output: attention, mlp: false },
        layerKinds: everyLayer(sizes, { rope, window: 0 }),
      };
    },
  },
};

const FULL = 'full_attention';
const SLIDING = 'sliding_attention';
type LayerType = typeof FULL | typeof SLIDING;

function silu(fields: Fields): void {
  fields.choice('hidden_act', ['silu'], 'silu');
}

function everyLayer({ layers }: Sizes, kind: LayerKind): LayerKind[] {
  return Array.from({ length: layers }, () => kind);
}

/** Sliding layers, with a full one after each `period` - 1 of them. */
function alternate({ layers }: Sizes, period: number): LayerType[] {
  return Array.from({ length: layers }, (_, l) => ((l + 1) % period === 0 ? FULL : SLIDING));
}

/** `layer_types`, as transformers 5 writes it. */
function readLayerTypes(fields: Fields, { layers }: Sizes): LayerType[] | undefined {
  const types = fields.strings('layer_types');
  if (types === undefined) return undefined;
  const known = types.filter((type) => type === FULL || type === SLIDING);
  if (known.length !== layers || types.length !== layers) {
    throw fields.refuse('layer_types', `${layers} entries, each "${FULL}" or "${SLIDING}"`);
  }
  return known;
}

/** Positions that a sliding layer sees. Classes that have the field default to 4096; null means no window. */
function readWindow(fields: Fields): number {
  return fields.count('sliding_window', Number.MAX_SAFE_INTEGER, fields.isNull('sliding_window') ? 0 : 4096);
}

function readSoftcap(fields: Fields, name: string, otherwise: number): number {
  return fields.positive(name) ?? (fields.isNull(name) ? 0 : otherwise);
}

/** Qwen: the first `max_window_layers` layers see everything; without `use_sliding_window` all do. */
function readQwenLayers(fields: Fields, sizes: Sizes): LayerKind[] {
  const rope = readRope(fields, sizes, 10_000);
  const slides = fields.flag('use_sliding_window', false);
  const window = slides ? readWindow(fields) : 0;
  if (!slides) fields.has('sliding_window');
  const first = fields.countFrom0('max_window_layers', 28);
  const types =
    readLayerTypes(fields, sizes) ??
    Array.from({ length: sizes.layers }, (_, l) => (window > 0 && l >= first ? SLIDING : FULL));
  return types.map((type) => ({ rope, window: type === SLIDING ? window : 0 }));
}

/** What Gemma 2 and 3 share. */
function readGemma(fields: Fields, { hiddenSize }: Sizes): Partial<ModelConfig> {
  // Files of Gemma 2 hold a `hidden_act` too, which transformers does not read.
  fields.choice('hidden_activation', ['gelu_pytorch_tanh'], 'gelu_pytorch_tanh');
  fields.has('hidden_act');
  fields.fixed('use_bidirectional_attention', false);
  const attention = fields.flag('attention_bias', false);
  return {
    activation: 'gelu',
    norms: 'around',
    normsLessOne: true,
    bias: { qkv: attention, output: attention, mlp: false },
    embeddingScale: Math.fround(Math.sqrt(hiddenSize)),
    attentionScale: (fields.positive('query_pre_attn_scalar') ?? 256) ** -0.5,
  };
}

/** One rotary encoding for all layers: `rope_parameters` of transformers 5, or `rope_theta` and `rope_scaling` of 4. */
function readRope(fields: Fields, sizes: Sizes, otherwise: number): Rope {
  const theta = fields.positive('rope_theta') ?? otherwise;
  return ropeOf(fields.object('rope_parameters') ?? fields.object('rope_scaling'), fields, sizes, theta);
}

function ropeOf(rope: Fields | undefined, fields: Fields, sizes: Sizes, theta: number): Rope {
  if (rope === undefined) return { theta, scaling: { type: 'default' } };
  rope.fixed('partial_rotary_factor', 1);
  return { theta: rope.positive('rope_theta') ?? theta, scaling: readScaling(rope, fields, sizes) };
}

function readScaling(rope: Fields, fields: Fields, { headSize, contextLength }: Sizes): RopeScaling {
  const names = ['default', 'linear', 'llama3', 'longrope', 'su'] as const;
  // transformers 4.45 and later wrote both names of the field.
  const type = rope.choice(rope.has('rope_type') ? 'rope_type' : 'type', names, 'default');
  rope.has('type');
  const needed = (name: string): number => {
    const value = rope.positive(name);
    if (value === undefined) throw rope.refuse(name, 'a number');
    return value;
  };
  switch (type) {
    case 'default':
      return { type };
    case 'linear':
      return { type, factor: needed('factor') };
    case 'llama3':
      return {
        type,
        factor: needed('factor'),
        lowFactor: needed('low_freq_factor'),
        highFactor: needed('high_freq_factor'),
        originalContext: rope.positive('original_max_position_embeddings') ?? contextLength,
      };
    case 'su':
    case 'longrope': {
      const factors = (name: string): number[] => {
        const values = rope.numbers(name);
        if (values?.length !== headSize / 2)
          throw rope.refuse(name, `${headSize / 2} numbers, half of head_dim`);
        return values;
      };
      const inner = rope.positive('original_max_position_embeddings');
      const originalContext = fields.positive('original_max_position_embeddings') ?? inner ?? 4096;
      const factor = rope.positive('factor') ?? contextLength / originalContext;
      return {
        type: 'longrope',
        shortFactors: factors('short_factor'),
        longFactors: factors('long_factor'),
        originalContext,
        attentionFactor:
          rope.positive('attention_factor') ??
          (factor <= 1 ? 1 : Math.sqrt(1 + Math.log(factor) / Math.log(originalContext))),
      };
    }
    default:
      return type satisfies never;
  }
}
