/**
 * What a model needs before it is opened: bytes by purpose, from its config alone.
 *
 * Activations and the prefix cache are limits, taken as far as they are needed; the rest is certain, but for the
 * padding of packed matrices. The limits are those that the commands open engines with.
 */
import type { ModelConfig } from '../engine/local/config.ts';
import { ACTIVATION_BYTES, CACHE_BYTES } from '../engine/local/core.ts';
import { cachePages } from '../engine/local/sampler.ts';
import { planActivations } from '../engine/local/trainer.ts';
import { makeLayout, type Matrix } from '../engine/local/weights.ts';

export interface MemoryOptions {
  dtype: 'f32' | 'bf16';
  trainable: boolean;
  /** The frozen start model, for the KL term. */
  reference: boolean;
}

export interface MemoryPlan {
  parameters: number;
  /** Master weights, and their packed forms for products. */
  weightBytes: number;
  /** Gradient and both moments. */
  optimizerBytes: number;
  referenceBytes: number;
  /** Most that sampling holds of keys and values. */
  cacheBytes: number;
  /** Most that training holds of activations. */
  activationBytes: number;
  totalBytes: number;
  /** Tokens in one pass with all activations kept, and with each layer computed again. */
  tokensKept: number;
  tokensRecomputed: number;
}

export function planMemory(config: ModelConfig, { dtype, trainable, reference }: MemoryOptions): MemoryPlan {
  const layout = makeLayout(config);
  const matrices: Matrix[] = [
    ...layout.layers.flatMap(({ qkv, o, gateUp, down }) => [qkv, o, gateUp, down]),
    layout.head,
  ];
  const packed =
    matrices.reduce((sum, matrix) => sum + matrix.in * matrix.out, 0) * (dtype === 'f32' ? 4 : 2);
  const master = 4 * layout.length;
  const weightBytes = master + packed * (trainable ? 2 : 1);
  const optimizerBytes = trainable ? 3 * master : 0;
  const referenceBytes = reference ? master + packed : 0;
  const activationBytes = trainable ? ACTIVATION_BYTES : 0;
  const { rowsKept, rowsRecomputed } = planActivations(config, ACTIVATION_BYTES);
  const cacheBytes = cachePages(config, CACHE_BYTES).bytes;
  return {
    parameters: layout.length,
    weightBytes,
    optimizerBytes,
    referenceBytes,
    cacheBytes,
    activationBytes,
    totalBytes: weightBytes + optimizerBytes + referenceBytes + cacheBytes + activationBytes,
    tokensKept: rowsKept,
    tokensRecomputed: rowsRecomputed,
  };
}

/** Rows of a table: what, and how much. */
export function memoryRows(plan: MemoryPlan): [string, string][] {
  return [
    ['parameters', plan.parameters.toLocaleString('en')],
    ['weights', bytesText(plan.weightBytes)],
    ['gradient and moments', bytesText(plan.optimizerBytes)],
    ['frozen start model', bytesText(plan.referenceBytes)],
    ['prefix cache, at most', bytesText(plan.cacheBytes)],
    ['activations, at most', bytesText(plan.activationBytes)],
    ['in all, at most', bytesText(plan.totalBytes)],
  ];
}

/** Binary units, three digits. */
export function bytesText(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let value = bytes;
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 ? value : value.toPrecision(3)} ${units[unit]}`;
}
