/**
 * The warm-up of the start model as data: what each phase holds, in shares, and how it is trained.
 *
 * Phases 1 to 3 teach arithmetic, attempts, retries and every style of reflection. Phase 4 makes searches rare
 * (one reflection in a hundred) while search drills keep the skill: the start of the quick start, where reward has
 * to find a useful kind of reflection that the model hardly ever writes.
 */
import type { PhaseTraining, Training } from '../recipe.ts';

/** What one sequence is. */
export type DataKind = 'arithmetic' | 'attempt' | 'search drill' | 'conversation' | 'plain retry';

/** What the reflection of a conversation is. */
export type Style = 'vague' | 'diagnosis' | 'step' | 'short search' | 'long search';

export interface Phase extends PhaseTraining {
  /** Shares of sequences. Each record of shares sums to 1. */
  data: Readonly<Record<DataKind, number>>;
  /** Shares of the conversations. */
  styles: Readonly<Record<Style, number>>;
  drills: {
    /** The share of drills that stop after the first number left out. */
    short: number;
    /** Whether the token after `no`, which goes on or stops, is trained. */
    trainStop: boolean;
  };
}

export const TRAINING: Training = {
  batchSize: 64,
  warmupSteps: 100,
  finalRate: 0.02,
  beta1: 0.9,
  beta2: 0.98,
  weightDecay: 0.01,
  maxGradNorm: 1,
  lossDenominator: 1200,
};

const MIXED_STYLES = { vague: 0.3, diagnosis: 0.15, step: 0.3, 'short search': 0.15, 'long search': 0.1 };

export const PHASES: readonly Phase[] = [
  {
    name: '1',
    sequences: 270_000,
    learningRate: 3e-3,
    flat: 0.3,
    data: { arithmetic: 0.25, attempt: 0.2, 'search drill': 0.3, conversation: 0.2, 'plain retry': 0.05 },
    styles: MIXED_STYLES,
    drills: { short: 0.6, trainStop: true },
  },
  {
    name: '2',
    sequences: 122_000,
    learningRate: 2.2e-3,
    flat: 0.35,
    data: { arithmetic: 0.08, attempt: 0.12, 'search drill': 0.45, conversation: 0.3, 'plain retry': 0.05 },
    styles: MIXED_STYLES,
    drills: { short: 0.6, trainStop: true },
  },
  {
    name: '3',
    sequences: 132_000,
    learningRate: 2e-3,
    flat: 0.4,
    data: { arithmetic: 0.13, attempt: 0.08, 'search drill': 0.5, conversation: 0.24, 'plain retry': 0.05 },
    styles: MIXED_STYLES,
    drills: { short: 0, trainStop: false },
  },
  {
    name: 'rare',
    sequences: 60_000,
    learningRate: 1.2e-3,
    flat: 0.4,
    data: { arithmetic: 0.1, attempt: 0.12, 'search drill': 0.35, conversation: 0.38, 'plain retry': 0.05 },
    styles: { vague: 0.46, diagnosis: 0.22, step: 0.31, 'short search': 0.006, 'long search': 0.004 },
    drills: { short: 0, trainStop: false },
  },
];
