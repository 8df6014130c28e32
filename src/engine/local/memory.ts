/**
 * What a model needs before it is opened: bytes by purpose, from its config and the options alone.
 *
 * Weights, adapters and optimizer are certain. Keys, values and activations grow with the work: they are given for a
 * stated workload, and never exceed their limits (`cacheBytes`, `activationBytes`).
 */
import { R3Error } from '../../lib/errors.ts';
import { PAGE_SIZE, type PackedType } from '../../kernels/ops.ts';
import type { ModelConfig } from './config.ts';
import { ACTIVATION_BYTES, CACHE_BYTES } from './core.ts';
import { LOGITS_CHUNK } from './decoder.ts';
import { makeLoraLayout, widestAdapter, type LoraOptions } from './lora.ts';
import { countRopeTables } from './rope.ts';
import { ROWS_PER_STEP, cachePages } from './sampler.ts';
import { logitRows, planActivations } from './passes.ts';
import { backwardType, makeLayout, MATRICES, type Matrix } from './weights.ts';

export interface MemoryOptions {
  dtype: PackedType;
  /** All weights, an adapter, or none. */
  training: 'full' | LoraOptions | 'none';
  /** The frozen start model, for the KL term. */
  reference: boolean;
  cacheBytes?: number | undefined;
  activationBytes?: number | undefined;
  /** Default: activationBytes. */
  keepBytes?: number | undefined;
  /** The adapter that is sampled with, where it is not trained. */
  adapter?: LoraOptions | undefined;
  /** What is computed at a time; left out: as much as the limits allow. */
  workload?: Workload | undefined;
}

export interface Workload {
  /** Tokens whose keys and values are held while sampling. */
  sampledTokens: number;
  /** Tokens that go through the network in one training call, shared prefixes once. */
  trainedTokens: number;
  /** Those of them that are scored. */
  scoredTokens: number;
}

export interface MemoryPlan {
  parameters: number;
  trainedParameters: number;
  /** Weights as products use them, and in f32 where they are trained. */
  weightBytes: number;
  /** An adapter's values and their packed copies. */
  adapterBytes: number;
  /** Gradient and both moments. */
  optimizerBytes: number;
  /** The frozen start model; nothing with an adapter, which is turned off instead. */
  referenceBytes: number;
  /** Keys and values while sampling. */
  cacheBytes: number;
  /** Activations while training, and buffers of both. */
  activationBytes: number;
  totalBytes: number;
  /** Tokens in one pass with all activations kept, and with each layer computed again. */
  tokensKept: number;
  tokensRecomputed: number;
}

/**
 * Throws R3Error `no-memory` where what is certain to be needed (weights, adapters, optimizer) is more than the machine
 * has, before any of it is read.
 */
export function requireMemory(config: ModelConfig, options: MemoryOptions, limitBytes: number): void {
  const { weightBytes, adapterBytes, optimizerBytes, trainedParameters, parameters } = planMemory(
    config,
    options,
  );
  const needed = weightBytes + adapterBytes + optimizerBytes;
  if (needed <= limitBytes) return;
  const gib = (bytes: number): string => `${(bytes / 2 ** 30).toPrecision(3)} GiB`;
  const less = [
    ...(trainedParameters === parameters ? ['train an adapter (lora)'] : []),
    ...(options.dtype === 'f32' ? ['bf16 weights'] : []),
    ...(options.dtype !== 'int8' && options.training !== 'full' ? ['int8 weights'] : []),
    'a smaller model',
  ];
  throw new R3Error(
    'engine',
    'no-memory',
    `memory: expected at most ${gib(limitBytes)}, which there is, got a need of ${gib(needed)} for ${parameters.toLocaleString('en')} weights in ${options.dtype}${optimizerBytes > 0 ? ' and their training' : ''}, before any activations. Less: ${less.join(', ')}.`,
  );
}

/** Share of the memory that is free, beyond what is certain to be needed, that activations may take. */
const KEEP_SHARE = 0.6;

/** What activations may take where nothing is computed again, of `freeBytes`. */
export function keepBytesOf(config: ModelConfig, options: MemoryOptions, freeBytes: number): number {
  const { weightBytes, adapterBytes, optimizerBytes, referenceBytes } = planMemory(config, options);
  return KEEP_SHARE * Math.max(0, freeBytes - weightBytes - adapterBytes - optimizerBytes - referenceBytes);
}

/** Bytes of one weight in a packed matrix. An 8-bit one has its share of a scale for 256. */
const BYTES: Record<PackedType, number> = { f32: 4, bf16: 2, int8: 1 + 4 / 256 };

export function planMemory(config: ModelConfig, options: MemoryOptions): MemoryPlan {
  const { dtype, training, reference, workload } = options;
  const { cacheBytes: cacheLimit = CACHE_BYTES, activationBytes: activationLimit = ACTIVATION_BYTES } =
    options;
  const { keepBytes = activationLimit } = options;
  const layout = makeLayout(config);
  const lora = typeof training === 'object' ? makeLoraLayout(layout, training) : undefined;
  const held = options.adapter === undefined ? lora : makeLoraLayout(layout, options.adapter);
  const inLayers = layout.layers.flatMap((layer) => MATRICES.map((name) => layer[name]));
  const bytesOf = (matrices: readonly Matrix[], type: PackedType): number =>
    matrices.reduce((sum, matrix) => sum + matrix.in * matrix.out, 0) * BYTES[type];
  const embedded = config.tiedHead || (training === 'full' && dtype === 'f32') ? [] : [layout.embedding];
  const packed = bytesOf([...inLayers, layout.head, ...embedded], dtype);
  const frozen = bytesOf([...inLayers, layout.head, ...(config.tiedHead ? [] : [layout.embedding])], dtype);
  const vectors = 4 * (layout.length - layout.decayedLength);
  const back = backwardType(dtype);
  const weightBytes =
    packed +
    (training === 'full' ? 4 * layout.length + bytesOf([...inLayers, layout.head], back) : vectors) +
    (lora === undefined ? 0 : bytesOf([layout.head], back));

  const adapters = (held?.layers ?? []).flatMap((layer) => Object.values(layer));
  const adapterBytes =
    4 * (held?.length ?? 0) +
    4 * adapters.reduce((sum, { in: K, out: N, width }) => sum + 2 * width * (K + N), 0) +
    4 * Math.max(0, ...adapters.map(({ out, width }) => out * width));
  const trainedParameters = training === 'full' ? layout.length : (lora?.length ?? 0);

  const pageBytes = config.layers * 2 * config.kvHeads * config.headSize * PAGE_SIZE * 4;
  const { bytes: cacheMost } = cachePages(config, cacheLimit);
  const cached =
    workload === undefined ? cacheMost : Math.ceil(workload.sampledTokens / PAGE_SIZE) * pageBytes;
  const width = widestAdapter(held);
  const { rowsRecomputed, bytesKept, bytesRecomputed, bytesPerSampledRow } = planActivations(
    config,
    activationLimit,
    width,
  );
  const { rowsKept } = planActivations(config, keepBytes, width);
  const ropeBytes = 4 * countRopeTables(config) * config.contextLength * config.headSize;
  const logits = (most: number): number =>
    4 * config.vocabularySize * Math.min(most, workload?.scoredTokens ?? most);
  const sampledLogits = logits(Math.max(1, Math.floor(LOGITS_CHUNK / config.vocabularySize)));
  const sampling = ROWS_PER_STEP * bytesPerSampledRow + sampledLogits + ropeBytes;
  /** A frozen matrix is transposed into a buffer for the largest. */
  const turned = lora === undefined ? 0 : Math.max(...inLayers.map((m) => m.in * m.out)) * BYTES[back];
  const activationBytes =
    sampling +
    (trainedParameters === 0
      ? 0
      : logits(logitRows(config, training === 'full' ? activationLimit : keepBytes)) +
        turned +
        activationsOf(workload?.trainedTokens ?? Infinity));

  function activationsOf(rows: number): number {
    if (rows <= rowsKept) return rows * bytesKept;
    if (rows <= rowsRecomputed) return rows * bytesRecomputed;
    return Math.max(activationLimit, bytesRecomputed);
  }

  const optimizerBytes = 12 * trainedParameters;
  const referenceBytes = reference && training === 'full' ? frozen + vectors : 0;
  const cacheBytes = Math.min(cached, cacheMost);
  return {
    parameters: layout.length,
    trainedParameters,
    weightBytes,
    adapterBytes,
    optimizerBytes,
    referenceBytes,
    cacheBytes,
    activationBytes,
    totalBytes: weightBytes + adapterBytes + optimizerBytes + referenceBytes + cacheBytes + activationBytes,
    tokensKept: rowsKept,
    tokensRecomputed: rowsRecomputed,
  };
}
