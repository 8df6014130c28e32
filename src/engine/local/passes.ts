/**
 * How a training call is cut: into passes of datums whose activations fit, and its logits into chunks of rows.
 *
 * Everything here follows from sizes alone. What is cut by a fixed limit orders sums; what depends on the memory that
 * is free (whether activations are kept) changes no result.
 */
import { assert } from '../../lib/errors.ts';
import type { Datum } from '../engine.ts';
import type { ModelConfig } from './config.ts';
import { layerBufferWidths, LOGITS_CHUNK, scratchBufferWidths } from './decoder.ts';
import { foldSequences, type Forest } from './tree.ts';

/** Some of the datums of a call, folded. */
export interface Pass {
  /** Its place among the passes of the call. */
  index: number;
  members: number[];
  forest: Forest;
  /** One entry per trained position, datum by datum: the row whose logits predict it, and its token. */
  lossRows_P: Int32Array;
  targets_P: Int32Array;
}

/** Rows per pass that fit the limit, and the bytes of one, with all activations kept and with each layer computed again. */
export function planActivations(
  config: ModelConfig,
  activationBytes: number,
  adapterWidth = 0,
): {
  rowsKept: number;
  rowsRecomputed: number;
  bytesKept: number;
  bytesRecomputed: number;
  bytesPerSampledRow: number;
} {
  const sum = (widths: Record<string, number>): number => Object.values(widths).reduce((a, b) => a + b, 0);
  const { hiddenSize: C, intermediateSize: F, heads: H, headSize: D, kvHeads: J, layers: L } = config;
  const pageFloats = 2 * J * D;
  const buffers = sum(layerBufferWidths(config));
  const scratch = sum(scratchBufferWidths(config)) + adapterWidth;
  const layer = buffers + pageFloats;
  /** Scratch, the derivatives of one layer, an activation packed for a weight gradient, and the head. */
  const shared = scratch + 2 * C + 3 * F + 2 * H * D + pageFloats + F + 5 * C + 2 * adapterWidth;
  const bytesKept = 4 * (L * (layer + C) + shared);
  const bytesRecomputed = 4 * (L * C + layer + shared);
  return {
    rowsKept: Math.floor(activationBytes / bytesKept),
    rowsRecomputed: Math.max(1, Math.floor(activationBytes / bytesRecomputed)),
    bytesKept,
    bytesRecomputed,
    bytesPerSampledRow: 4 * (buffers + scratch + C),
  };
}

/** Rows of logits that training holds at a time: up to a quarter of the activations' memory. */
export function logitRows({ vocabularySize }: ModelConfig, activationBytes: number): number {
  return Math.max(1, Math.floor(Math.max(LOGITS_CHUNK, activationBytes / 16) / vocabularySize));
}

/** Tokens of a datum that go through the network: those before its last trained position. */
export function inputLength(datum: Datum): number {
  return at(datum.positions, datum.positions.length - 1);
}

/** The datums with trained positions, in order, halved until each pass has at most `maxRows` rows or one datum. */
export function makePasses(datums: readonly Datum[], share: boolean, maxRows: number): Pass[] {
  let passCount = 0;
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
        index: passCount++,
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

/** An element that must be there. */
export function at<T>(list: ArrayLike<T>, index: number): T {
  assert(index >= 0 && index < list.length, `index ${index} of ${list.length}`);
  return list[index] as T;
}
