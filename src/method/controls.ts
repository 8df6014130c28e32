/**
 * The evaluation's table: second try after a reflection, beside the controls that it must beat.
 *
 * From raw outcomes, one `EvaluationRow` per held-out problem, to rates with intervals (`summarise`), to paired
 * differences (`compare`), to who gains by the reflections, their writer or their reader (`writerByReader`), to the
 * one JSON object of a model before and after training (`beforeAfter`). Sampling and scoring are done by the caller.
 *
 * Every second try is cumulative, as in "Reflect, Retry, Reward" (arXiv 2505.24726), tables 1 and 2: it counts a
 * pass at the first try or after. The controls are not in the paper.
 */
import { R3Error, assert } from '../lib/errors.ts';
import { mean, pairedBootstrap, passAtK, wilson } from './statistics.ts';
import type { BootstrapOptions, Difference, Rate } from './statistics.ts';

/** What stands in for a reflection in the fixed-text control: a sentence without content. */
export const FIXED_TEXT = 'be careful';

/** Resamples behind every interval of a difference. */
export const BOOTSTRAP: BootstrapOptions = { draws: 2000, seed: 1 };

/**
 * The controls: what the second try must beat, on the same failed first tries. `option`: its name on the command line.
 * `second`: another second try, which every row of a failed first try then has; the others are independent attempts.
 */
export const CONTROLS = [
  {
    name: 'secondTryWithoutReflection',
    option: 'plain',
    second: true,
    posed: 'the problem again right after the failed try, with nothing between',
  },
  {
    name: 'afterFixedText',
    option: 'fixed-text',
    second: true,
    posed: 'after a sentence without content (--fixed-text) in place of a reflection',
  },
  {
    name: 'afterForeignReflection',
    option: 'shuffled',
    second: true,
    posed: "after the model's reflection on the next failed problem",
  },
  {
    name: 'afterEmptyReflection',
    option: 'empty',
    second: true,
    posed: 'asked to reflect as always, after an answer without a word',
  },
  {
    name: 'afterForcedBeginning',
    option: 'forced-beginning',
    second: true,
    posed: "of the start model: its reflections begin as most of the trained model's do (with --against)",
  },
  {
    name: 'twoIndependent',
    option: 'two-independent',
    second: false,
    posed: 'two attempts at the bare problem',
  },
  {
    name: 'independentAtEqualTokens',
    option: 'equal-tokens',
    second: false,
    posed:
      'as many attempts at the bare problem as cost at least the tokens of first try, reflection and second try',
  },
] as const satisfies readonly {
  name: keyof EvaluationSummary;
  option: string;
  second: boolean;
  posed: string;
}[];

type Control = (typeof CONTROLS)[number];
export type ControlName = Control['name'];
/** The controls that are second tries. */
export type RetryControl = Extract<Control, { second: true }>['name'];
export const RETRY_CONTROLS = CONTROLS.filter(({ second }) => second).map(({ name }) => name as RetryControl);
/** What is a rate over the problems. */
export type ColumnName = 'firstTry' | 'secondTry' | ControlName;

export const CONTROL_NAMES: readonly ControlName[] = CONTROLS.map(({ name }) => name);
export const COLUMNS: readonly ColumnName[] = ['firstTry', 'secondTry', ...CONTROL_NAMES];

/** One try: its verdict, null when it was not scored, and the tokens that were sampled for it. */
export interface Trial {
  passed: boolean | null;
  tokens: number;
}

/**
 * What was observed on one held-out problem.
 *
 * A second try is posed only after a failed first one: null stands where the first passed or was not scored. Its
 * tokens are all that were sampled after the first try: reflection and retry. A reflection that did not end has no
 * retry: `passed` is false. A control that was not run is absent from every row.
 */
export interface EvaluationRow extends Partial<Record<RetryControl, Trial | null>> {
  /** The problem's id. */
  problem: string;
  firstTry: Trial;
  /** After the model's own reflection on its failed first try. */
  secondTry: Trial | null;
  /** More attempts at the bare problem, independent of the first try and of each other. May be empty. */
  freshAttempts: readonly Trial[];
}

/** The second tries that a row can hold. */
export type SecondTryName = 'secondTry' | RetryControl;

/** A rate covers the problems whose outcome is known. What was not measured has n = 0 and rate NaN (null in JSON). */
export interface EvaluationRates {
  firstTry: Rate;
  secondTry: Rate;
  secondTryWithoutReflection: Rate;
  /** The first try or one fresh attempt passes: two tries without any feedback. */
  twoIndependent: Rate;
  /** The first try or one of `attemptsAtEqualTokens` - 1 fresh attempts passes. */
  independentAtEqualTokens: Rate;
  afterFixedText: Rate;
  afterForeignReflection: Rate;
}

/** What else an evaluation tells. */
export interface EvaluationDetails {
  afterForcedBeginning: Rate;
  afterEmptyReflection: Rate;
  attemptsAtEqualTokens: number;
  /** Unbiased pass@k of the first try and the fresh attempts, k = 1, 2, 4, ..., over the n problems with k attempts. */
  passAtK: { k: number; rate: number; n: number }[];
  /** Sampled tokens per problem: of an attempt, and of first try, reflection and retry together. */
  meanTokens: { attempt: number; twoTries: number };
}

export interface EvaluationSummary extends EvaluationRates, EvaluationDetails {}

export function summarise(rows: readonly EvaluationRow[]): EvaluationSummary {
  const rate = (name: ColumnName): Rate => rateOf(outcomesOf(rows, name));
  return {
    firstTry: rate('firstTry'),
    secondTry: rate('secondTry'),
    secondTryWithoutReflection: rate('secondTryWithoutReflection'),
    twoIndependent: rate('twoIndependent'),
    independentAtEqualTokens: rate('independentAtEqualTokens'),
    afterFixedText: rate('afterFixedText'),
    afterForeignReflection: rate('afterForeignReflection'),
    afterForcedBeginning: rate('afterForcedBeginning'),
    afterEmptyReflection: rate('afterEmptyReflection'),
    attemptsAtEqualTokens: attemptsAtEqualTokens(rows),
    passAtK: passAtPowersOfTwo(rows),
    meanTokens: meanTokens(rows),
  };
}

/** Whether each problem was solved, as a column of the table counts it: every second try is cumulative. */
export function outcomesOf(rows: readonly EvaluationRow[], name: ColumnName): Outcome[] {
  if (name === 'firstTry') return rows.map((row) => row.firstTry.passed);
  if (name === 'twoIndependent') return rows.map((row) => independent(row, 2));
  if (name === 'independentAtEqualTokens') {
    const attempts = attemptsAtEqualTokens(rows);
    return rows.map((row) => independent(row, attempts));
  }
  return rows.map((row) => cumulative(row, name));
}

/** P(the second try passes, given that the first was judged and failed): the share of failures that it rescues. */
export function rescueRate(rows: readonly EvaluationRow[], name: SecondTryName): Rate {
  const failed = rows.filter((row) => row.firstTry.passed === false);
  return rateOf(failed.map((row) => cumulative(row, name)));
}

/**
 * How many independent attempts cost at least the sampled tokens of the two-try procedure:
 *   ceil(mean over problems of (first try + reflection + retry) / mean over problems of a first try), at least 2
 * Rounded up, so that the two tries never have more tokens than what they are compared with.
 * A problem that passes at the first try costs only that. Attempts do not stop at the first pass. Fresh attempts do
 * not enter, so that the number can be had before they are sampled. Without rows it is 2.
 */
export function attemptsAtEqualTokens(
  rows: readonly Pick<EvaluationRow, 'firstTry' | 'secondTry'>[],
): number {
  const { attempt, twoTries } = meanTokens(rows);
  return attempt > 0 ? Math.max(2, Math.ceil(twoTries / attempt)) : 2;
}

/**
 * Paired differences, each over the problems whose two outcomes are known. `firstTry` and `secondTry` are after
 * minus before training. The rest are all after training: the second try minus a control on the same problem.
 */
export interface Comparison {
  firstTry: Difference;
  secondTry: Difference;
  overTwoIndependent: Difference;
  overIndependentAtEqualTokens: Difference;
  overSecondTryWithoutReflection: Difference;
  overFixedText: Difference;
  overForeignReflection: Difference;
}

/** Throws R3Error `mismatch` unless both hold the same problems in the same order. */
export function compare(
  before: readonly EvaluationRow[],
  after: readonly EvaluationRow[],
  options: BootstrapOptions,
): Comparison {
  if (before.length !== after.length || before.some((row, i) => row.problem !== after[i]!.problem)) {
    throw new R3Error(
      'store',
      'mismatch',
      'evaluations before and after: expected the same problems in the same order, got different ones; ' +
        'evaluate both on one data set',
    );
  }
  const gain = (name: ColumnName): Difference =>
    differenceOf(outcomesOf(after, name), outcomesOf(before, name), options);
  const over = (name: ControlName): Difference =>
    differenceOf(outcomesOf(after, 'secondTry'), outcomesOf(after, name), options);
  return {
    firstTry: gain('firstTry'),
    secondTry: gain('secondTry'),
    overTwoIndependent: over('twoIndependent'),
    overIndependentAtEqualTokens: over('independentAtEqualTokens'),
    overSecondTryWithoutReflection: over('secondTryWithoutReflection'),
    overFixedText: over('afterFixedText'),
    overForeignReflection: over('afterForeignReflection'),
  };
}

/**
 * Retry passes on one fixed list of failures, by who wrote the reflection and who read it; the writer is named
 * first. `start` is the model before training. null: not scored. All four lists are in the order of the failures.
 */
export interface WriterByReaderOutcomes {
  startStart: readonly Outcome[];
  startTrained: readonly Outcome[];
  trainedStart: readonly Outcome[];
  trainedTrained: readonly Outcome[];
}

/** A retry's pass rate, not cumulative: every problem here failed at first. */
export interface WriterByReader {
  startStart: Rate;
  startTrained: Rate;
  trainedStart: Rate;
  trainedTrained: Rate;
}

export function writerByReader(outcomes: WriterByReaderOutcomes): WriterByReader {
  return {
    startStart: rateOf(outcomes.startStart),
    startTrained: rateOf(outcomes.startTrained),
    trainedStart: rateOf(outcomes.trainedStart),
    trainedTrained: rateOf(outcomes.trainedTrained),
  };
}

/** What better writing alone gains, the reader held fixed: trainedStart - startStart, paired by failure. */
export function writtenByTrained(outcomes: WriterByReaderOutcomes, options: BootstrapOptions): Difference {
  return differenceOf(outcomes.trainedStart, outcomes.startStart, options);
}

/** A difference without the number of pairs. */
export type ChangeInterval = Omit<Difference, 'n'>;

/** Both evaluations of one kind. */
export interface Pair<T> {
  before: T;
  after: T;
}

/**
 * A model before and after training, as one line of JSON: what `r3 quickstart` ends with. Rates
 * and differences are shares, not percent.
 */
export interface BeforeAfter extends Pair<EvaluationRates> {
  seed: number;
  wallSeconds: number;
  /** Which kernel build ran. */
  kernels: string;
  /** Held-out problems. */
  n: number;
  /** Of `before` and `after`; `greedy` is at temperature 0. */
  temperature: number;
  greedy: Pair<EvaluationRates>;
  writerByReader: WriterByReader;
  /** After minus before; `over...`: the second try minus a control, both after training. Sampled unless it says greedy. */
  change: {
    secondTry: ChangeInterval;
    greedySecondTry: ChangeInterval;
    firstTry: ChangeInterval;
    writtenByTrained: ChangeInterval;
    overTwoIndependent: ChangeInterval;
    overFixedText: ChangeInterval;
  };
  details: Pair<EvaluationDetails> & {
    greedy: Pair<EvaluationDetails>;
    /** After minus before. */
    greedyFirstTry: ChangeInterval;
  };
}

export interface BeforeAfterOutcomes extends Pair<readonly EvaluationRow[]> {
  seed: number;
  wallSeconds: number;
  kernels: string;
  temperature: number;
  greedy: Pair<readonly EvaluationRow[]>;
  writerByReader: WriterByReaderOutcomes;
}

/** Throws R3Error `mismatch` when evaluations to be paired are not on the same problems. */
export function beforeAfter(
  outcomes: BeforeAfterOutcomes,
  options: BootstrapOptions = BOOTSTRAP,
): BeforeAfter {
  const { seed, wallSeconds, kernels, temperature, before, after, greedy } = outcomes;
  const sampledChange = compare(before, after, options);
  const greedyChange = compare(greedy.before, greedy.after, options);
  const [sampledBefore, sampledAfter] = [split(summarise(before)), split(summarise(after))];
  const [greedyBefore, greedyAfter] = [split(summarise(greedy.before)), split(summarise(greedy.after))];
  return {
    seed,
    wallSeconds,
    kernels,
    n: after.length,
    temperature,
    before: sampledBefore.rates,
    after: sampledAfter.rates,
    greedy: { before: greedyBefore.rates, after: greedyAfter.rates },
    writerByReader: writerByReader(outcomes.writerByReader),
    change: {
      secondTry: withoutCount(sampledChange.secondTry),
      greedySecondTry: withoutCount(greedyChange.secondTry),
      firstTry: withoutCount(sampledChange.firstTry),
      writtenByTrained: withoutCount(writtenByTrained(outcomes.writerByReader, options)),
      overTwoIndependent: withoutCount(sampledChange.overTwoIndependent),
      overFixedText: withoutCount(sampledChange.overFixedText),
    },
    details: {
      before: sampledBefore.details,
      after: sampledAfter.details,
      greedy: { before: greedyBefore.details, after: greedyAfter.details },
      greedyFirstTry: withoutCount(greedyChange.firstTry),
    },
  };
}

function split(summary: EvaluationSummary): { rates: EvaluationRates; details: EvaluationDetails } {
  const {
    afterForcedBeginning,
    afterEmptyReflection,
    attemptsAtEqualTokens: attempts,
    passAtK: points,
    meanTokens: tokens,
    ...rates
  } = summary;
  return {
    rates,
    details: {
      afterForcedBeginning,
      afterEmptyReflection,
      attemptsAtEqualTokens: attempts,
      passAtK: points,
      meanTokens: tokens,
    },
  };
}

function withoutCount({ diff, low, high }: Difference): ChangeInterval {
  return { diff, low, high };
}

/** null: not scored or not measured; such a problem is left out of the rate or the pair. */
export type Outcome = boolean | null;

/** Whether a problem was solved at the first try or at the given second one. Throws when a due second try is missing. */
function cumulative(row: EvaluationRow, name: SecondTryName): Outcome {
  const second = row[name];
  // A control that was not run: without this, the passes at first try alone would make a rate of 1.
  if (second === undefined || row.firstTry.passed === null) return null;
  if (row.firstTry.passed) return true;
  if (second === null) {
    throw new R3Error(
      'store',
      'bad-shape',
      `${name} of problem ${row.problem}: expected a trial, because the first try failed, got null`,
    );
  }
  return second.passed;
}

/** Whether one of the first `count` attempts passes; the first try is attempt 1. null where one is missing or unscored. */
function independent(row: EvaluationRow, count: number): Outcome {
  const attempts = [row.firstTry, ...row.freshAttempts].slice(0, count);
  if (attempts.length < count || attempts.some((attempt) => attempt.passed === null)) return null;
  return attempts.some((attempt) => attempt.passed);
}

function passAtPowersOfTwo(rows: readonly EvaluationRow[]): { k: number; rate: number; n: number }[] {
  const scored = rows.map((row) =>
    [row.firstTry, ...row.freshAttempts].map((attempt) => attempt.passed).filter((passed) => passed !== null),
  );
  const most = scored.reduce((max, attempts) => Math.max(max, attempts.length), 0);
  const points = [];
  for (let k = 1; k <= most; k *= 2) {
    const chances = scored
      .filter((attempts) => attempts.length >= k)
      .map((attempts) => passAtK(attempts.length, attempts.filter(Boolean).length, k));
    points.push({ k, rate: mean(chances), n: chances.length });
  }
  return points;
}

function meanTokens(rows: readonly Pick<EvaluationRow, 'firstTry' | 'secondTry'>[]): {
  attempt: number;
  twoTries: number;
} {
  // Nothing was sampled where the problem does not fit the model's context.
  const sampled = rows.filter(({ firstTry }) => firstTry.tokens > 0);
  return {
    attempt: mean(sampled.map((row) => row.firstTry.tokens)),
    twoTries: mean(sampled.map((row) => row.firstTry.tokens + (row.secondTry?.tokens ?? 0))),
  };
}

function rateOf(outcomes: readonly Outcome[]): Rate {
  const known = outcomes.filter((outcome) => outcome !== null);
  return wilson(known.filter(Boolean).length, known.length);
}

function differenceOf(a: readonly Outcome[], b: readonly Outcome[], options: BootstrapOptions): Difference {
  const [left, right] = knownPairs(a, b);
  return pairedBootstrap(left, right, options);
}

/** The pairs of which both outcomes are known. */
export function knownPairs(
  a: readonly Outcome[],
  b: readonly Outcome[],
): [left: boolean[], right: boolean[]] {
  assert(a.length === b.length, `paired outcomes: ${a.length} and ${b.length}`);
  const left: boolean[] = [];
  const right: boolean[] = [];
  a.forEach((outcome, i) => {
    const other = b[i]!;
    if (outcome === null || other === null) return;
    left.push(outcome);
    right.push(other);
  });
  return [left, right];
}
