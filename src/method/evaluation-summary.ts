/**
 * summary.json of an evaluation: rates, lifts over controls, error classes and what the reflections are like, for each
 * seed at the temperature and once greedy, and the spread over the seeds.
 *
 * Computed from kept rows alone. Shares, not percent. What has no data is NaN here and null in JSON. A try that was not
 * scored is left out of every rate and counted in `notScored`.
 */
import {
  BOOTSTRAP,
  COLUMNS,
  CONTROL_NAMES,
  RETRY_CONTROLS,
  knownPairs,
  outcomesOf,
  rescueRate,
  summarise,
  writerByReader,
  type ColumnName,
  type ControlName,
  type EvaluationRow,
  type EvaluationSummary,
  type Outcome,
  type SecondTryName,
  type WriterByReader,
  type WriterByReaderOutcomes,
} from './controls.ts';
import { passed, type Score } from './episode.ts';
import {
  evaluationRows,
  outcomeOf,
  type KeptTry,
  type MeasurementKey,
  type Parts,
  type SecondTry,
} from './evaluation-rows.ts';
import { hintWarnings, klWarnings } from './metrics.ts';
import { measureReflections, type ReflectionMeasures } from './reflection-measures.ts';
import {
  mean,
  pairedDifference,
  spreadOf,
  type BootstrapOptions,
  type PairedDifference,
  type Rate,
  type Spread,
} from './statistics.ts';

export interface EvaluationFile {
  version: 1;
  task: string;
  /** The prompt set. */
  prompts: string;
  /** Problems, and how many of them the run was trained on. */
  n: number;
  trained: number;
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
  /** As it was named, and the hash of its weights; null of a model behind a server, which does not tell. */
  directory: string;
  hash: string | null;
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
  rescue: Partial<Record<SecondTryName, Rate>>;
  /** Second try minus control on the same problems, both cumulative. */
  lift: Partial<Record<ControlName, PairedDifference>>;
  /**
   * How many first tries, and second tries after the model's own reflection, ended in each class of error. Three more
   * classes: `passed`, `not scored`, and `no retry`, after a reflection that was cut off.
   */
  classes: { firstTry: Record<string, number>; secondTry: Record<string, number> };
  reflections: ReflectionMeasures;
  /** Tries that could not be judged, by what was tried (columns; `attempts`: independent ones), and the first few reasons. */
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

/** What summary.json says beside the numbers. */
export interface EvaluationFacts extends Pick<
  EvaluationFile,
  'task' | 'prompts' | 'n' | 'trained' | 'temperature' | 'seeds' | 'controls' | 'kernels'
> {
  model: NamedModel;
  start: NamedModel | null;
  /** By seed; empty without a start model. */
  kl: number[];
  forcedBeginning: string[];
}

type NamedModel = Pick<MeasuredModel, 'directory' | 'hash'>;
type PartsOf = (key: MeasurementKey) => Parts;

/** Reasons for not scoring that are named. */
const REASONS = 3;

/** The summary of a whole evaluation. */
export function summariseEvaluation(
  { kl, forcedBeginning, model, start, ...facts }: EvaluationFacts,
  partsOf: PartsOf,
  options: BootstrapOptions = BOOTSTRAP,
): EvaluationFile {
  const measured = measureModel('model', partsOf, facts);
  const after = summariseModel(model, measured, facts, options);
  const seen = trainedWarnings(facts);
  if (start === null) {
    const warnings = [...seen, ...notScoredWarnings([after])];
    return { version: 1, ...facts, model: after, start, change: null, warnings };
  }
  const measuredStart = measureModel('start', partsOf, facts);
  const before = summariseModel(start, measuredStart, facts, options);
  return {
    version: 1,
    ...facts,
    model: after,
    start: before,
    change: {
      ...compareModels(measuredStart, measured, options),
      writerByReader: facts.seeds.map((seed) =>
        readings(partsOf({ model: 'start', seed, temperature: facts.temperature }), options),
      ),
      kl,
      forcedBeginning,
    },
    warnings: [
      ...seen,
      ...notScoredWarnings([before, after]),
      ...klWarnings(mean(kl)),
      ...hintWarnings(trueOfHints(before), trueOfHints(after)),
    ],
  };
}

function trainedWarnings({ n, trained }: Pick<EvaluationFile, 'n' | 'trained'>): string[] {
  if (trained === 0) return [];
  return [`The run was trained on ${trained} of these ${n} problems: they are not held out.`];
}

/** The mean over seeds; NaN where a task tells no hints. */
function trueOfHints({ sampled }: MeasuredModel): number {
  return mean(sampled.map(({ reflections }) => reflections.trueOfHints));
}

/** One model's outcomes: sampled, one list for each seed, and greedy. */
export interface ModelRows {
  sampled: MeasuredRows[];
  greedy: MeasuredRows;
}

interface MeasuredRows {
  key: MeasurementKey;
  parts: Parts;
  rows: EvaluationRow[];
}

/** The rows of a model from what was kept. Greedy ones are kept under the first seed. */
export function measureModel(
  model: MeasurementKey['model'],
  partsOf: PartsOf,
  { seeds, temperature, controls }: Pick<EvaluationFile, 'seeds' | 'temperature' | 'controls'>,
): ModelRows {
  const at = (seed: number, t: number): MeasuredRows => {
    const key = { model, seed, temperature: t };
    const parts = partsOf(key);
    return { key, parts, rows: evaluationRows(parts, t, controls) };
  };
  return { sampled: seeds.map((seed) => at(seed, temperature)), greedy: at(seeds[0] ?? 0, 0) };
}

/** `after` minus `before` on the same problems; seeds are paired in their order. */
export function compareModels(
  before: ModelRows,
  after: ModelRows,
  options: BootstrapOptions = BOOTSTRAP,
): Pick<ModelChange, 'sampled' | 'greedy' | 'overSeeds'> {
  const differences = (a: MeasuredRows, b: MeasuredRows): ColumnDifferences =>
    byName(COLUMNS, (name) => difference(outcomesOf(a.rows, name), outcomesOf(b.rows, name), options));
  const pairs = after.sampled.flatMap((a, i) => {
    const b = before.sampled[i];
    return b === undefined ? [] : [[a, b] as const];
  });
  return {
    sampled: pairs.map(([a, b]) => differences(a, b)),
    greedy: differences(after.greedy, before.greedy),
    overSeeds: byName(COLUMNS, (name) =>
      spread(
        pairs.map(([a, b]) => minus(outcomesOf(a.rows, name), outcomesOf(b.rows, name))),
        options,
      ),
    ),
  };
}

function summariseModel(
  named: NamedModel,
  { sampled, greedy }: ModelRows,
  { controls }: Pick<EvaluationFile, 'controls'>,
  options: BootstrapOptions,
): MeasuredModel {
  return {
    ...named,
    sampled: sampled.map((measured) => summariseMeasurement(measured, options)),
    greedy: summariseMeasurement(greedy, options),
    overSeeds: {
      rates: byName(COLUMNS, (name) =>
        spread(
          sampled.map(({ rows }) => outcomesOf(rows, name).map(valueOf)),
          options,
        ),
      ),
      lift: byName(controls, (name) =>
        spread(
          sampled.map(({ rows }) => minus(outcomesOf(rows, 'secondTry'), outcomesOf(rows, name))),
          options,
        ),
      ),
    },
  };
}

function summariseMeasurement(
  { key: { seed, temperature }, parts, rows }: MeasuredRows,
  options: BootstrapOptions,
): MeasurementSummary {
  const second = outcomesOf(rows, 'secondTry');
  const { tries } = parts;
  return {
    seed,
    temperature,
    ...summarise(rows),
    rescue: byName(['secondTry', ...RETRY_CONTROLS], (name) => {
      const rate = rescueRate(rows, name);
      return rate.n > 0 ? rate : undefined;
    }),
    lift: byName(CONTROL_NAMES, (name) => difference(second, outcomesOf(rows, name), options)),
    classes: {
      firstTry: tally(tries.map(({ firstTry }) => classOf(firstTry.score))),
      secondTry: tally(
        tries.flatMap(({ secondTry }) =>
          secondTry === null ? [] : [secondTry.retry === null ? 'no retry' : classOf(secondTry.retry.score)],
        ),
      ),
    },
    reflections: measureReflections(
      tries.flatMap(({ secondTry, leaked, kind, hint }) => {
        const reflection = secondTry?.reflection ?? null;
        if (reflection === null) return [];
        return {
          text: reflection.text,
          tokens: reflection.tokens,
          ...(reflection.tokenCount === undefined ? {} : { tokenCount: reflection.tokenCount }),
          ended: reflection.stopReason === 'stop',
          leaked,
          ...(kind === undefined ? {} : { kind }),
          ...(hint === undefined ? {} : { hint }),
        };
      }),
    ),
    notScored: notScored(parts),
  };
}

function readings(
  parts: Parts,
  options: BootstrapOptions,
): WriterByReader & { writtenByTrained: PairedDifference } {
  const outcomes = (name: keyof WriterByReaderOutcomes): Outcome[] =>
    parts[name].map(({ retry }) => outcomeOf(retry));
  const all: WriterByReaderOutcomes = {
    startStart: outcomes('startStart'),
    startTrained: outcomes('startTrained'),
    trainedStart: outcomes('trainedStart'),
    trainedTrained: outcomes('trainedTrained'),
  };
  return {
    ...writerByReader(all),
    writtenByTrained: pairedDifference(...knownPairs(all.trainedStart, all.startStart), options),
  };
}

function notScored({ tries, controls, forced }: Parts): MeasurementSummary['notScored'] {
  const tried: [what: string, KeptTry | null][] = [
    ...tries.map(({ firstTry }): [string, KeptTry] => ['firstTry', firstTry]),
    ...tries.map(({ secondTry }) => retryOf('secondTry', secondTry)),
    ...controls.flatMap(({ secondTries }) =>
      Object.entries(secondTries).map(([name, second]) => retryOf(name, second)),
    ),
    ...forced.map(({ secondTry }) => retryOf('afterForcedBeginning', secondTry)),
    ...controls.flatMap(({ attempts }) =>
      attempts.map((attempt): [string, KeptTry] => ['attempts', attempt]),
    ),
  ];
  const missing = tried.flatMap(([what, kept]) =>
    kept !== null && passed(kept.score) === null ? [{ what, score: kept.score }] : [],
  );
  const reasons = missing.map(({ score }) => reasonOf(score));
  return { counts: tally(missing.map(({ what }) => what)), reasons: [...new Set(reasons)].slice(0, REASONS) };
}

function retryOf(what: string, second: SecondTry | null): [string, KeptTry | null] {
  return [what, second?.retry ?? null];
}

function reasonOf(score: Score): string {
  return score !== null && 'error' in score ? score.error : 'the task gave no verdict';
}

function notScoredWarnings(models: readonly MeasuredModel[]): string[] {
  const all = models.flatMap(({ sampled, greedy }) => [...sampled, greedy]);
  const count = all
    .flatMap(({ notScored: { counts } }) => Object.values(counts))
    .reduce((sum, n) => sum + n, 0);
  if (count === 0) return [];
  const [reason = ''] = all.flatMap(({ notScored: { reasons } }) => reasons);
  return [`${count} tries were not scored and are left out of every rate they would enter: ${reason}`];
}

function classOf(score: Score): string {
  if (score === null || 'error' in score) return 'not scored';
  return score.ok ? 'passed' : score.class;
}

/** How often each name occurs, the most frequent first. */
function tally(names: readonly string[]): Record<string, number> {
  const counts = new Map<string, number>();
  for (const name of names) counts.set(name, (counts.get(name) ?? 0) + 1);
  return Object.fromEntries([...counts].toSorted(([a, m], [b, n]) => n - m || (a < b ? -1 : 1)));
}

function difference(
  a: readonly Outcome[],
  b: readonly Outcome[],
  options: BootstrapOptions,
): PairedDifference | undefined {
  const [left, right] = knownPairs(a, b);
  return left.length === 0 ? undefined : pairedDifference(left, right, options);
}

function spread(values_S_P: readonly (readonly number[])[], options: BootstrapOptions): Spread | undefined {
  return values_S_P.every((values) => values.every(Number.isNaN)) ? undefined : spreadOf(values_S_P, options);
}

function valueOf(outcome: Outcome): number {
  return outcome === null ? Number.NaN : Number(outcome);
}

function minus(a: readonly Outcome[], b: readonly Outcome[]): number[] {
  return a.map((outcome, i) => valueOf(outcome) - valueOf(b[i] ?? null));
}

/** What is known by each name; what is not is left out. */
function byName<Name extends string, T>(
  names: readonly Name[],
  find: (name: Name) => T | undefined,
): Partial<Record<Name, T>> {
  const found: Partial<Record<Name, T>> = {};
  for (const name of names) {
    const value = find(name);
    if (value !== undefined) found[name] = value;
  }
  return found;
}
