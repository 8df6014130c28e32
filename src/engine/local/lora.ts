/**
 * LoRA adapters (Hu et al., arXiv 2106.09685), as PEFT has them.
 *
 *   y = x W^T + scale (x A^T) B^T,  A [r, in], B [out, r],  scale = alpha / r, or alpha / sqrt(r) with rsLoRA
 *
 * A module is one of the model's linear layers. Modules that read the same input (q k v; gate up) are computed
 * together, as their weights are: their A's are stacked, and their B's form one block-diagonal matrix, whose zeros
 * cost little beside W. The trained values are one flat f32 array; products use packed copies.
 */
import { assert, R3Error } from '../../lib/errors.ts';
import { hash32 } from '../../lib/rng.ts';
import type { Ops } from '../../kernels/ops.ts';
import {
  MATRICES,
  type Layout,
  type Matrix,
  type MatrixName,
  type Parameter,
  type ReadParameter,
} from './weights.ts';

export interface LoraOptions {
  rank: number;
  /** The adapter's product is multiplied by alpha / rank. */
  alpha: number;
  /** Share of the adapters' inputs that are set to 0 in training. Sampling and scoring have none. */
  dropout: number;
  /** Divide by the square root of the rank instead (Kalajdzievski, arXiv 2312.03732). */
  rsLora: boolean;
  /** Names of modules such as `q_proj`, or all linear layers but the output head. */
  targets: 'all-linear' | string[];
  /** Which layers have adapters; null: all. */
  layers: number[] | null;
}

/** Far above any use, and what keeps a folder's config from asking for all memory. */
export const MAX_RANK = 1 << 16;

/** One adapted module of a matrix. */
interface Module {
  /** As in the base model: `model.layers.0.self_attn.q_proj`. */
  name: string;
  a: Parameter;
  b: Parameter;
  /** Its first output among the matrix's. */
  firstOut: number;
  out: number;
}

/** The adapted modules of a matrix. Their A's follow one another in the flat array. */
interface AdapterLayout {
  modules: Module[];
  in: number;
  out: number;
  /** Rows of the stacked A's: rank times modules. */
  width: number;
}

export interface LoraLayout {
  options: LoraOptions;
  parameters: Parameter[];
  length: number;
  scale: number;
  /** What PEFT's target_modules says of the adapted modules: their leaf names where these say it all, else full names. */
  targets: string[];
  /** Per layer. */
  layers: Partial<Record<MatrixName, AdapterLayout>>[];
}

/** The adapter of a matrix, packed for products. All f32. */
export interface PackedAdapter {
  layout: AdapterLayout;
  rank: number;
  scale: number;
  /** A^T [in, width], scale B^T [width, out]; for gradients scale B [out, width], A [width, in]. */
  down: Float32Array;
  up: Float32Array;
  upBack: Float32Array;
  downBack: Float32Array;
}

export interface Adapters {
  layout: LoraLayout;
  values: Float32Array;
  of(layer: number, matrix: MatrixName): PackedAdapter | null;
  repack(): void;
}

/** Throws R3Error `bad-option` for a target or layer that the model does not have. */
export function makeLoraLayout(layout: Layout, options: LoraOptions): LoraLayout {
  const { rank, targets, layers } = options;
  if (rank > MAX_RANK) throw refusal('rank', `at most ${MAX_RANK}`, String(rank));
  const outside = layers?.find((l) => !(Number.isInteger(l) && l >= 0 && l < layout.layers.length));
  if (outside !== undefined)
    throw refusal('layers', `numbers from 0 to ${layout.layers.length - 1}`, String(outside));
  const parameters: Parameter[] = [];
  let length = 0;
  const add = (name: string, rows: number, columns: number): Parameter => {
    const parameter = { name, shape: [rows, columns], offset: length, length: rows * columns };
    parameters.push(parameter);
    length += parameter.length;
    return parameter;
  };
  const matched = new Set<string>();
  const adaptedNames: string[] = [];
  const otherLeaves = new Set<string>();
  const isTarget = (module: string): boolean => {
    if (targets === 'all-linear') return true;
    const found = targets.filter((target) => module === target || module.endsWith(`.${target}`));
    for (const target of found) matched.add(target);
    return found.length > 0;
  };
  const adaptersOf = (matrix: Matrix): AdapterLayout | undefined => {
    let firstOut = 0;
    const chosen: { name: string; firstOut: number; out: number }[] = [];
    for (const { name: weight, shape } of matrix.parts) {
      const name = weight.replace(/\.weight$/, '');
      const out = shape[0] as number;
      if (isTarget(name)) chosen.push({ name, firstOut, out });
      else otherLeaves.add(lastName(name));
      firstOut += out;
    }
    if (chosen.length === 0) return undefined;
    adaptedNames.push(...chosen.map(({ name }) => name));
    const as = chosen.map(({ name }) => add(peftName(name, 'A'), rank, matrix.in));
    const modules = chosen.map((module, i) => ({
      ...module,
      a: as[i] as Parameter,
      b: add(peftName(module.name, 'B'), module.out, rank),
    }));
    return { modules, in: matrix.in, out: matrix.out, width: rank * modules.length };
  };
  const adapted = layout.layers.map((layer, l) => {
    if (layers !== null && !layers.includes(l)) return {};
    const result: Partial<Record<MatrixName, AdapterLayout>> = {};
    for (const name of MATRICES) {
      const adapter = adaptersOf(layer[name]);
      if (adapter !== undefined) result[name] = adapter;
    }
    return result;
  });
  const unknown = targets === 'all-linear' ? undefined : targets.find((target) => !matched.has(target));
  if (unknown !== undefined || adaptedNames.length === 0) {
    const [first] = layout.layers;
    const known = MATRICES.flatMap((name) => first?.[name].parts ?? []).map(({ name }) =>
      lastName(name.replace(/\.weight$/, '')),
    );
    throw refusal('target modules', `"all-linear" or some of ${known.join(', ')}`, unknown ?? 'none');
  }
  const leaves = [...new Set(adaptedNames.map(lastName))].sort();
  return {
    options,
    parameters,
    length,
    scale: options.alpha / (options.rsLora ? Math.sqrt(rank) : rank),
    targets: leaves.some((leaf) => otherLeaves.has(leaf)) ? adaptedNames : leaves,
    layers: adapted,
  };
}

function refusal(what: string, expected: string, got: string): R3Error {
  return new R3Error('engine', 'bad-option', `LoRA ${what}: expected ${expected}, got ${got}`);
}

function peftName(module: string, which: 'A' | 'B'): string {
  return `base_model.model.${module}.lora_${which}.weight`;
}

function lastName(module: string): string {
  return module.slice(module.lastIndexOf('.') + 1);
}

/** Fresh values: A uniform in +-1/sqrt(in) (PEFT's Kaiming initialisation), B zero, so that y is unchanged. */
export function initialiseLora({ parameters, length }: LoraLayout, seed: number): Float32Array {
  const values = new Float32Array(length);
  parameters.forEach(({ name, shape, offset, length: count }, index) => {
    if (!name.endsWith('lora_A.weight')) return;
    const bound = (shape[1] as number) ** -0.5;
    for (let i = 0; i < count; i++) {
      values[offset + i] = bound * (hash32(seed, index, i) / 2 ** 31 - 1);
    }
  });
  return values;
}

/** Keeps and reads `values`, `layout.length` floats in memory of `ops`. */
export function makeAdapters(ops: Ops, layout: LoraLayout, values: Float32Array): Adapters {
  const { scale, options } = layout;
  const packed = layout.layers.map((layer) => {
    const result: Partial<Record<MatrixName, PackedAdapter>> = {};
    for (const name of MATRICES) {
      const adapter = layer[name];
      if (adapter === undefined) continue;
      const { in: K, out: N, width } = adapter;
      const buffer = (rows: number, columns: number): Float32Array =>
        ops.f32(ops.packedLength(rows, columns, 'f32'));
      result[name] = {
        layout: adapter,
        rank: options.rank,
        scale,
        down: buffer(K, width),
        up: buffer(width, N),
        upBack: buffer(N, width),
        downBack: buffer(width, K),
      };
    }
    return result;
  });
  const widest = Math.max(
    ...packed.flatMap((layer) => Object.values(layer).map(({ layout: { out, width } }) => out * width)),
  );
  const blocks = ops.f32(widest);
  const repack = (): void => {
    for (const layer of packed)
      for (const { layout: adapter, down, up, upBack, downBack } of Object.values(layer)) {
        const { in: K, out: N, width, modules } = adapter;
        const [first] = modules;
        const a = values.subarray(first?.a.offset ?? 0);
        ops.pack(down, a, K, width, 0, width, 1, K, 'f32');
        ops.pack(downBack, a, width, K, 0, K, K, 1, 'f32');
        blocks.fill(0, 0, N * width);
        modules.forEach(({ b, firstOut, out }, m) => {
          for (let o = 0; o < out; o++)
            for (let r = 0; r < options.rank; r++)
              blocks[(firstOut + o) * width + m * options.rank + r] =
                scale * values[b.offset + o * options.rank + r]!;
        });
        ops.pack(up, blocks, width, N, 0, N, 1, width, 'f32');
        ops.pack(upBack, blocks, N, width, 0, width, width, 1, 'f32');
      }
  };
  repack();
  return { layout, values, of: (layer, matrix) => packed[layer]?.[matrix] ?? null, repack };
}

/** The widest stack of A's: floats per row that a product with an adapter needs on the way. */
export function widestAdapter(layout: LoraLayout | undefined): number {
  return Math.max(
    0,
    ...(layout?.layers ?? []).flatMap((layer) => Object.values(layer).map(({ width }) => width)),
  );
}

/** Reads a model's weights with an adapter added: W + scale B A. Whole rows at a time. */
export function mergedWith(read: ReadParameter, layout: LoraLayout, values: Float32Array): ReadParameter {
  const modules = new Map<string, Module & { in: number }>(
    layout.layers.flatMap((layer) =>
      Object.values(layer).flatMap((adapter) =>
        adapter.modules.map((module) => [`${module.name}.weight`, { ...module, in: adapter.in }] as const),
      ),
    ),
  );
  const { rank } = layout.options;
  return (parameter, from, count, into) => {
    read(parameter, from, count, into);
    const module = modules.get(parameter.name);
    if (module === undefined) return;
    const { a, b, in: width } = module;
    assert(from % width === 0 && count % width === 0, 'a merged weight is read by whole rows');
    for (let row = 0; row * width < count; row++) {
      for (let r = 0; r < rank; r++) {
        const factor = layout.scale * values[b.offset + (from / width + row) * rank + r]!;
        const start = a.offset + r * width;
        for (let k = 0; k < width; k++)
          into[row * width + k] = into[row * width + k]! + factor * values[start + k]!;
      }
    }
  };
}
