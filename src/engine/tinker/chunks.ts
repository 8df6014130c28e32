/**
 * Large batches: cut into the requests that a service takes, and their results joined. Pure.
 *
 * Consecutive datums are packed until a request has as many datums or bytes as the service's configuration allows; a
 * datum that is larger alone goes alone. Since losses are sums, results do not depend on the cuts. Metrics are
 * named `name:reduction`; each reduction says how the values of several requests become one. What is missing from one
 * of them, or has another reduction, is dropped; the metrics of a single request stay as they are.
 *
 * Source: the official SDK 0.25.0, lib/chunked_fwdbwd_helpers.py (reductions), and its limits on sizes.
 */
import type { ForwardBackwardOutput, Tensor } from './messages.ts';

/** A datum as the wire has it: the tokens of model_input, and one tensor per input of the loss. */
export interface WireDatum {
  tokens: readonly number[];
  inputs: Readonly<Record<string, Tensor>>;
}

/** A number in JSON, with its comma; in protobuf it takes 4 or 8. */
const BYTES_PER_NUMBER = 10;

export function chunksOf(data: readonly WireDatum[], maxDatums: number, maxBytes: number): WireDatum[][] {
  const chunks: WireDatum[][] = [];
  let chunk: WireDatum[] = [];
  let bytes = 0;
  for (const datum of data) {
    const size = sizeOf(datum);
    if (chunk.length > 0 && (chunk.length >= maxDatums || bytes + size > maxBytes)) {
      chunks.push(chunk);
      chunk = [];
      bytes = 0;
    }
    chunk.push(datum);
    bytes += size;
  }
  if (chunk.length > 0) chunks.push(chunk);
  return chunks;
}

function sizeOf({ tokens, inputs }: WireDatum): number {
  let count = tokens.length;
  for (const { data } of Object.values(inputs)) count += data.length;
  return BYTES_PER_NUMBER * count;
}

/** The results of the chunks of one call, in their order, as one. */
export function joinOutputs(parts: readonly ForwardBackwardOutput[]): ForwardBackwardOutput {
  const [first] = parts;
  if (first === undefined) return { outputType: '', outputs: [], metrics: {} };
  if (parts.length === 1) return first;
  const weights = parts.map((part) => part.outputs.length);
  const metrics: Record<string, number> = {};
  for (const name of Object.keys(first.metrics)) {
    const values = parts.map((part) => part.metrics[name]);
    if (!values.every((value) => value !== undefined)) continue;
    const joined = reduce(name.slice(name.lastIndexOf(':') + 1), values, weights);
    if (joined !== undefined) metrics[name] = joined;
  }
  return { outputType: first.outputType, outputs: parts.flatMap((part) => part.outputs), metrics };
}

function reduce(
  reduction: string,
  values: readonly number[],
  weights: readonly number[],
): number | undefined {
  switch (reduction) {
    case 'sum':
      return values.reduce((sum, value) => sum + value, 0);
    case 'mean':
      return mean(values, weights);
    case 'min':
      return Math.min(...values);
    case 'max':
      return Math.max(...values);
    case 'slack':
      return Math.max(...values) - mean(values, weights);
    default:
      return undefined;
  }
}

function mean(values: readonly number[], weights: readonly number[]): number {
  let sum = 0;
  let total = 0;
  for (const [i, value] of values.entries()) {
    const weight = weights[i] as number;
    sum += weight * value;
    total += weight;
  }
  return total === 0 ? Number.NaN : sum / total;
}
