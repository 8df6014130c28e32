/**
 * How a start model is made: its words, and phases of supervised conversations with how they are trained. The recipes
 * are in a folder each; `make.ts`, `data.ts` and `files.ts` work on any of them.
 */
import type { ConversationRow } from '../../src/method/conversation.ts';

/** A phase as training sees it. */
export interface PhaseTraining {
  name: string;
  /** How many sequences. */
  sequences: number;
  learningRate: number;
  /** The share of the steps at the full rate, before its linear decay. */
  flat: number;
}

/** The same in every phase. */
export interface Training {
  batchSize: number;
  warmupSteps: number;
  /** The rate at the end, as a share of the full one. */
  finalRate: number;
  beta1: number;
  beta2: number;
  weightDecay: number;
  maxGradNorm: number;
  /** About the mean number of trained tokens in a batch. */
  lossDenominator: number;
}

export interface RowOptions {
  seed: number;
  /** Rows `from` <= i < `to`; all of the phase where left out. */
  from?: number;
  to?: number;
  /** Keys of problems that must not appear. */
  exclude?: ReadonlySet<string>;
}

export interface Recipe {
  /** The folder of the shipped model; null where none ships. */
  folder: string | null;
  /** One token each, beside the special ones. */
  words: readonly string[];
  training: Training;
  phases: readonly PhaseTraining[];
  /** The data of a phase; row i is a function of (seed, phase, i). */
  rows(phaseName: string, options: RowOptions): Iterable<ConversationRow>;
  /** The keys of a data file's problems, for `RowOptions.exclude`. */
  keysOf(path: string): Promise<string[]>;
}

/** The element of that name. Throws where there is none. */
export function phaseNamed<P extends PhaseTraining>(phases: readonly P[], name: string): P {
  const phase = phases.find((p) => p.name === name);
  if (phase !== undefined) return phase;
  throw new Error(`--phase: expected one of ${phases.map((p) => p.name).join(', ')}, got ${name}`);
}
