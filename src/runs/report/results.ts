/**
 * What an evaluation says, in the one shape that the report draws: headline figures, rates beside their controls, and
 * tables of the rest.
 *
 * `quickstartResults` takes what the quick start leaves, `evaluationResults` what `r3 eval` leaves; the rest of the
 * latter are the tables that `r3 eval` prints. Rates are shares; what was not measured is NaN, or null where it went
 * through JSON.
 */
import type { BeforeAfter, ChangeInterval, ColumnName, WriterByReader } from '../../method/controls.ts';
import type { EvaluationFile, MeasuredModel } from '../../method/evaluation-summary.ts';
import type { Rate, Spread } from '../../method/statistics.ts';
import { evaluationTables } from '../evaluation-tables.ts';
import {
  changeRows,
  costRows,
  type Costs,
  forcedBeginningNote,
  rateRows,
  reflectionRows,
  summariesOf,
  type ReflectionChange,
} from '../result-rows.ts';

/** What the quick start's evaluation.json holds of this. */
export interface QuickstartResults extends ReflectionChange {
  summary: BeforeAfter;
}

export type RateLike = Pick<Rate, 'rate' | 'low' | 'high'>;

export interface Figure {
  label: string;
  /** null where there is no start model to compare with. */
  from: number | null;
  to: number;
  /** 95% interval of `to`. */
  interval: { low: number; high: number } | null;
  change: ChangeInterval | null;
}

export interface RatesRow {
  label: string;
  /** What the second try must beat. */
  control: boolean;
  cells: (RateLike | null)[];
}

export interface Results {
  /** How it was measured, in a few words each. */
  facts: string[];
  temperature: number;
  /** How many problems. */
  n: number;
  /** What it was measured with: runs are put together only where these agree. */
  options: Readonly<Record<string, unknown>>;
  figures: Figure[];
  /** Of the rates: pairs before and after where there is a start model. */
  columns: { group: string; name: string }[];
  rates: RatesRow[];
  costs: [label: string, values: string[]][];
  /** Of the quick start; an evaluation of `r3 eval` has them among its `tables`. */
  changes: (ChangeInterval & { label: string })[];
  crossed: WriterByReader | null;
  reflections: { rows: [label: string, before: string, after: string][]; note: string };
  tables: { title: string; heads: string[]; rows: string[][] }[];
}

/** The quick start's evaluation. */
export function quickstartResults(evaluation: QuickstartResults): Results {
  const { summary } = evaluation;
  const { temperature, before, after, greedy, change } = summary;
  const summaries = summariesOf(summary);
  return {
    facts: [
      `${summary.n} held-out problems`,
      `seed ${summary.seed}`,
      `${durationText(summary.wallSeconds)} in all`,
      summary.kernels,
    ],
    temperature,
    n: summary.n,
    options: { n: summary.n, temperature },
    figures: [
      {
        label: 'Second try, after its own reflection',
        from: before.secondTry.rate,
        to: after.secondTry.rate,
        interval: after.secondTry,
        change: change.secondTry,
      },
      {
        label: 'Second try, greedy',
        from: greedy.before.secondTry.rate,
        to: greedy.after.secondTry.rate,
        interval: greedy.after.secondTry,
        change: change.greedySecondTry,
      },
      {
        label: 'First try',
        from: before.firstTry.rate,
        to: after.firstTry.rate,
        interval: after.firstTry,
        change: change.firstTry,
      },
    ],
    columns: columnHeads(temperature, true),
    rates: rateRows(summaries).map(({ name, label, control }) => ({
      label,
      control,
      cells: summaries.map((one) => one[name]),
    })),
    costs: costRows(summaries),
    changes: changeRows(summary).map(([label, difference]) => ({ label, ...difference })),
    crossed: summary.writerByReader,
    reflections: { rows: reflectionRows(evaluation), note: forcedBeginningNote(evaluation) },
    tables: [],
  };
}

/**
 * An evaluation of `r3 eval`. Of several seeds the sampled rates are the means over them. `options`: what it was
 * measured with.
 */
export function evaluationResults(file: EvaluationFile, options: Results['options']): Results {
  const { model, start, change, temperature, seeds } = file;
  const several = seeds.length > 1;
  const measured = start === null ? [model] : [start, model];
  const firsts = measured.map(({ sampled }) => sampled[0]).filter((one) => one !== undefined);
  const summaries = [...firsts, ...measured.map(({ greedy }) => greedy)];
  const sampledRate = ({ sampled, overSeeds }: MeasuredModel, name: ColumnName): RateLike | null =>
    several ? rateOfSpread(overSeeds.rates[name]) : (sampled[0]?.[name] ?? null);
  const sampledChange = (name: ColumnName): ChangeInterval | null => {
    if (!several) return change?.sampled[0]?.[name] ?? null;
    const spread = change?.overSeeds[name];
    return spread === undefined ? null : { diff: spread.mean, low: spread.low, high: spread.high };
  };
  const figure = (
    label: string,
    rateOf: (one: MeasuredModel) => RateLike | null,
    difference: ChangeInterval | null,
  ): Figure => ({
    label,
    from: start === null ? null : (rateOf(start)?.rate ?? Number.NaN),
    to: rateOf(model)?.rate ?? Number.NaN,
    interval: rateOf(model),
    change: difference,
  });
  return {
    facts: [
      file.trained > 0
        ? `${file.n} problems, ${file.trained} of them trained on`
        : `${file.n} held-out problems`,
      several ? `means over the seeds ${seeds.join(', ')}` : `seed ${seeds[0]}`,
      file.kernels,
    ],
    temperature,
    n: file.n,
    options,
    figures: [
      figure(
        'Second try, after its own reflection',
        (one) => sampledRate(one, 'secondTry'),
        sampledChange('secondTry'),
      ),
      figure('Second try, greedy', ({ greedy }) => greedy.secondTry, change?.greedy.secondTry ?? null),
      figure('First try', (one) => sampledRate(one, 'firstTry'), sampledChange('firstTry')),
    ],
    columns: columnHeads(temperature, start !== null),
    rates: rateRows(summaries).map(({ name, label, control }) => ({
      label,
      control,
      cells: [
        ...measured.map((one) => sampledRate(one, name)),
        ...measured.map(({ greedy }) => greedy[name]),
      ],
    })),
    costs: costRows([
      ...measured.flatMap(({ sampled }) => meanCosts(sampled)),
      ...measured.map(({ greedy }) => greedy),
    ]),
    changes: [],
    crossed: null,
    reflections: { rows: [], note: '' },
    tables: evaluationTables(file),
  };
}

/** A seed's costs as they are, of several the means over them; none without a seed. */
function meanCosts(sampled: readonly Costs[]): Costs[] {
  if (sampled.length < 2) return [...sampled];
  const meanOf = (of: (costs: Costs) => number): number =>
    sampled.reduce((sum, costs) => sum + of(costs), 0) / sampled.length;
  return [
    {
      attemptsAtEqualTokens: Math.round(10 * meanOf((costs) => costs.attemptsAtEqualTokens)) / 10,
      meanTokens: {
        attempt: meanOf(({ meanTokens }) => meanTokens.attempt),
        twoTries: meanOf(({ meanTokens }) => meanTokens.twoTries),
      },
    },
  ];
}

function rateOfSpread(spread: Spread | undefined): RateLike | null {
  return spread === undefined ? null : { rate: spread.mean, low: spread.low, high: spread.high };
}

function columnHeads(temperature: number, compared: boolean): { group: string; name: string }[] {
  const groups = [`temperature ${temperature}`, 'greedy'];
  return groups.flatMap((group) =>
    (compared ? ['before', 'after'] : ['now']).map((name) => ({ group, name })),
  );
}

function durationText(seconds: number): string {
  const whole = Math.round(seconds);
  return whole < 60 ? `${whole} s` : `${Math.floor(whole / 60)} min ${whole % 60} s`;
}
