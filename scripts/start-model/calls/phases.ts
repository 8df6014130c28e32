/**
 * The warm-up of the start model for function calling as data: what each phase holds, in shares, and how it is trained.
 *
 * Phase `binding` teaches to find a value by its cue, `clean` to call, to hint and to follow hints without habits.
 * `habits` makes attempts wrong where a habit has its place, and reflections mostly vague; drills keep the skills.
 */
import type { PhaseTraining, Training } from '../recipe.ts';

/** What one sequence is. */
export type CallDataKind = 'binding' | 'attempt' | 'natural' | 'hint drill' | 'obey drill';

/** What the reflection of a natural conversation is. */
export type CallStyle = 'vague' | 'diagnosis' | 'use';

export interface CallPhase extends PhaseTraining {
  data: Readonly<Record<CallDataKind, number>>;
  styles: Readonly<Record<CallStyle, number>>;
  /** How probable a habit is where it has its place. */
  habitRate: number;
}

export const CALL_TRAINING: Training = {
  batchSize: 64,
  warmupSteps: 100,
  finalRate: 0.02,
  beta1: 0.9,
  beta2: 0.98,
  weightDecay: 0.01,
  maxGradNorm: 1,
  lossDenominator: 600,
};

const STYLES = { vague: 0.5, diagnosis: 0.35, use: 0.15 };

export const CALL_PHASES: readonly CallPhase[] = [
  {
    name: 'binding',
    sequences: 96_000,
    learningRate: 2.5e-3,
    flat: 0.9,
    data: { binding: 1, attempt: 0, natural: 0, 'hint drill': 0, 'obey drill': 0 },
    styles: STYLES,
    habitRate: 0,
  },
  {
    name: 'clean',
    sequences: 86_400,
    learningRate: 2.5e-3,
    flat: 0.741,
    data: { binding: 0.1, attempt: 0.35, natural: 0, 'hint drill': 0.35, 'obey drill': 0.2 },
    styles: STYLES,
    habitRate: 0,
  },
  {
    name: 'habits',
    sequences: 76_800,
    learningRate: 2e-3,
    flat: 0.3,
    data: { binding: 0.05, attempt: 0, natural: 0.65, 'hint drill': 0.18, 'obey drill': 0.12 },
    styles: STYLES,
    habitRate: 0.95,
  },
];
