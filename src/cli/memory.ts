/**
 * A plan of memory as rows of a table.
 */
import type { MemoryPlan } from '../engine/local/memory.ts';

/** Rows of a table: what, and how much. */
export function memoryRows(plan: MemoryPlan): [string, string][] {
  return [
    ['parameters', plan.parameters.toLocaleString('en')],
    ['of them trained', plan.trainedParameters.toLocaleString('en')],
    ['weights', bytesText(plan.weightBytes)],
    ['adapters', bytesText(plan.adapterBytes)],
    ['gradient and moments', bytesText(plan.optimizerBytes)],
    ['frozen start model', bytesText(plan.referenceBytes)],
    ['keys and values', bytesText(plan.cacheBytes)],
    ['activations and buffers', bytesText(plan.activationBytes)],
    ['in all', bytesText(plan.totalBytes)],
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
