/**
 * What an evaluation says, in the one shape that the report draws: headline figures, rates beside their controls, and
 * tables of the rest.
 *
 * `quickstartResults` takes what the quick start leaves, `evaluationResults` what `r3 eval` leaves; the rest of the
 * latter are the tables that `r3 eval` prints. Rates are shares; what was not measured is NaN, or null where it went
 * through JSON.
 */
import type { BeforeAfter, ChangeInterval, WriterByReader } from '../../method/controls.ts';
import type { EvaluationFile, MeasuredModel, MeasurementSummary } from '../../method/evaluation-summary.ts';
import type { Rate } from '../../method/statistics.ts';
import { evaluationTables } from '../evaluation-tables.ts';
import {
  changeRows,
  costRows,
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
    figures: [
      {
        label: 'Second try, after its own reflection',
        from: before.secondTry.rate,
        to: after.secondTry.rate,
        change: change.secondTry,
      },
      {
        label: 'Second try, greedy',
        from: greedy.before.secondTry.rate,
        to: greedy.after.secondTry.rate,
        change: change.greedySecondTry,
      },
      {
        label: 'First try',
        from: before.firstTry.rate,
        to: after.firstTry.rate,
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
 * An evaluation of `r3 eval`. Of several seeds the figures and the rates are those of the first; the tables have the
 * means over all of them.
 */
export function evaluationResults(file: EvaluationFile): Results {
  const { model, start, change, temperature } = file;
  const measured = start === null ? [model] : [start, model];
  const summaries = [
    ...measured.map(({ sampled }) => sampled[0]).filter((one) => one !== undefined),
    ...measured.map(({ greedy }) => greedy),
  ];
  const figure = (
    label: string,
    name: 'firstTry' | 'secondTry',
    of: (one: MeasuredModel) => MeasurementSummary | undefined,
    differences: Partial<Record<typeof name, ChangeInterval>> | undefined,
  ): Figure => ({
    label,
    from: start === null ? null : (of(start)?.[name].rate ?? Number.NaN),
    to: of(model)?.[name].rate ?? Number.NaN,
    change: differences?.[name] ?? null,
  });
  const first = ({ sampled }: MeasuredModel): MeasurementSummary | undefined => sampled[0];
  const [sampledChange] = change?.sampled ?? [];
  return {
    facts: [
      `${file.n} held-out problems`,
      file.seeds.length === 1 ? `seed ${file.seeds[0]}` : `seeds ${file.seeds.join(', ')}`,
      file.kernels,
    ],
    temperature,
    figures: [
      figure('Second try, after its own reflection', 'secondTry', first, sampledChange),
      figure('Second try, greedy', 'secondTry', ({ greedy }) => greedy, change?.greedy),
      figure('First try', 'firstTry', first, sampledChange),
    ],
    columns: columnHeads(temperature, start !== null),
    rates: rateRows(summaries).map(({ name, label, control }) => ({
      label,
      control,
      cells: summaries.map((one) => one[name]),
    })),
    costs: costRows(summaries),
    changes: [],
    crossed: null,
    reflections: { rows: [], note: '' },
    tables: evaluationTables(file),
  };
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
