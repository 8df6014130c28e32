/**
 * summary.json of an evaluation: rates, lifts over controls, error classes and what the reflections are like, for each
 * seed at the temperature and once greedy, and the spread over the seeds.
 *
 * Computed from kept rows alone. Shares, not percent. What has no data is NaN here and null in JSON. A try that was not
 * scored is left out of every rate and counted in `notScored`.
 */
import type {
  ColumnName,
  ControlName,
  EvaluationSummary,
  RetryControl,
  WriterByReader,
} from './controls.ts';
import type { ReflectionMeasures } from './reflection-measures.ts';
import type { PairedDifference, Rate, Spread } from './statistics.ts';

export interface EvaluationFile {
  version: 1;
  task: string;
  /** The prompt set. */
  prompts: string;
  /** Problems. */
  n: number;
  temperature: number;
  seeds: number[];
  controls: ControlName[];
  /** How the engine describes itself. */
  kernels: string;
  model: MeasuredModel;
  /** The model before training, where there is one to compare with, on the same problems with the same draws. */
  start: MeasuredModel | null;
  change: ModelChange | null;
  warnings: string[];
}

export interface MeasuredModel {
  /** As it was named, and the hash of its weights. */
  directory: string;
  hash: string;
  /** One for each seed. */
  sampled: MeasurementSummary[];
  /** Measured once: it does not depend on a seed. */
  greedy: MeasurementSummary;
  /** Of the sampled rates and of the lifts over the controls. */
  overSeeds: { rates: Partial<Record<ColumnName, Spread>>; lift: Partial<Record<ControlName, Spread>> };
}

/** One model, one seed, one temperature. */
export interface MeasurementSummary extends EvaluationSummary {
  seed: number;
  temperature: number;
  /** P(second try passes, given that the first failed), not cumulative. */
  rescue: Partial<Record<'secondTry' | RetryControl, Rate>>;
  /** Second try minus control on the same problems, both cumulative. */
  lift: Partial<Record<ControlName, PairedDifference>>;
  /** How many first tries, and second tries after the model's own reflection, ended in each class; `passed` is one. */
  classes: { firstTry: Record<string, number>; secondTry: Record<string, number> };
  reflections: ReflectionMeasures;
  /** Tries that could not be judged, by what was tried, and the first few reasons. */
  notScored: { counts: Record<string, number>; reasons: string[] };
}

/** The model minus the start model. */
export interface ModelChange {
  /** One for each seed. */
  sampled: ColumnDifferences[];
  greedy: ColumnDifferences;
  overSeeds: Partial<Record<ColumnName, Spread>>;
  /** One for each seed: on the start model's failures, who wrote the reflection and who read it. */
  writerByReader: (WriterByReader & { writtenByTrained: PairedDifference })[];
  /** KL to the start model on the model's reflections, nats per token, one for each seed. */
  kl: number[];
  /** What the start model's reflections were forced to begin with, one for each seed. */
  forcedBeginning: string[];
}

/** Paired by problem, for every column that both have. */
export type ColumnDifferences = Partial<Record<ColumnName, PairedDifference>>;
