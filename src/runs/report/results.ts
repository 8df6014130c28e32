/**
 * What an evaluation says, in the one shape that the report draws: headline figures, rates beside their controls,
 * differences, writer by reader, error classes, reflections.
 *
 * `quickstartResults` takes what the quick start leaves, `evaluationResults` what `r3 eval` leaves. Rates are shares;
 * what was not measured is NaN, or null where it went through JSON.
 */
import type { BeforeAfter, ChangeInterval, ColumnName, WriterByReader } from '../../method/controls.ts';
import type { EvaluationFile, MeasuredModel, MeasurementSummary } from '../../method/evaluation-summary.ts';
import type { PairedDifference, Rate, Spread } from '../../method/statistics.ts';
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

export interface ChangeRow extends ChangeInterval {
  label: string;
  /** McNemar's test, two-sided. */
  p?: number;
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
  changes: ChangeRow[];
  crossed: { label: string; table: WriterByReader }[];
  /** Counts of each class, before and after training; before is null without a start model. */
  classes: {
    label: string;
    before: Readonly<Record<string, number>> | null;
    after: Readonly<Record<string, number>>;
  }[];
  reflections: { columns: string[]; rows: [label: string, values: string[]][]; note: string };
  /** Of the sampled rates, where there are several seeds. */
  overSeeds: [label: string, spread: Spread][];
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
    crossed: [{ label: '', table: summary.writerByReader }],
    classes: [],
    reflections: {
      columns: ['before', 'after'],
      rows: reflectionRows(evaluation).map(([label, ...values]) => [label, values]),
      note: forcedBeginningNote(evaluation),
    },
    overSeeds: [],
  };
}

/** An evaluation of `r3 eval`. Of several seeds the first is shown, and the spread over all of them beside it. */
export function evaluationResults(file: EvaluationFile): Results {
  const { model, start, change, temperature } = file;
  const measured = start === null ? [model] : [start, model];
  const kinds = (of: (one: MeasuredModel) => MeasurementSummary | undefined): MeasurementSummary[] =>
    measured.map(of).filter((one) => one !== undefined);
  const summaries = [...kinds(({ sampled }) => sampled[0]), ...kinds(({ greedy }) => greedy)];
  const sampled = change?.sampled[0];
  const figure = (
    label: string,
    name: ColumnName,
    of: (one: MeasuredModel) => MeasurementSummary | undefined,
    difference: PairedDifference | undefined,
  ): Figure => ({
    label,
    from: start === null ? null : (of(start)?.[name].rate ?? Number.NaN),
    to: of(model)?.[name].rate ?? Number.NaN,
    change: difference ?? null,
  });
  const first = ({ sampled: all }: MeasuredModel): MeasurementSummary | undefined => all[0];
  const greedy = (one: MeasuredModel): MeasurementSummary => one.greedy;
  const latest = first(model);
  const labels = new Map(rateRows(summaries).map(({ name, label }) => [name, label]));
  const labelOf = (name: string): string => labels.get(name as ColumnName) ?? name;
  return {
    facts: [
      `${file.n} held-out problems`,
      file.seeds.length === 1 ? `seed ${file.seeds[0]}` : `seeds ${file.seeds.join(', ')}`,
      file.kernels,
    ],
    temperature,
    figures: [
      figure('Second try, after its own reflection', 'secondTry', first, sampled?.secondTry),
      figure('Second try, greedy', 'secondTry', greedy, change?.greedy.secondTry),
      figure('First try', 'firstTry', first, sampled?.firstTry),
    ],
    columns: columnHeads(temperature, start !== null),
    rates: rateRows(summaries).map(({ name, label, control }) => ({
      label,
      control,
      cells: summaries.map((one) => one[name] ?? null),
    })),
    costs: costRows(summaries),
    changes: [
      ...pairedRows(sampled, (name) => `${labelOf(name)}, after minus before training`),
      ...pairedRows(change?.greedy, (name) => `${labelOf(name)}, after minus before, greedy`),
      ...pairedRows(latest?.lift, (name) => `second try minus: ${labelOf(name)}`),
      ...(change?.writerByReader[0] === undefined
        ? []
        : [
            changeRow(
              'retry, written by trained minus by start, read by start',
              change.writerByReader[0].writtenByTrained,
            ),
          ]),
    ],
    crossed: (change?.writerByReader ?? []).map((table, i) => ({
      label: file.seeds.length > 1 ? `seed ${file.seeds[i]}` : '',
      table,
    })),
    classes: (['firstTry', 'secondTry'] as const).flatMap((name) =>
      latest === undefined
        ? []
        : [
            {
              label: name === 'firstTry' ? 'first tries' : 'second tries, after a reflection',
              before: start === null ? null : (first(start)?.classes[name] ?? {}),
              after: latest.classes[name],
            },
          ],
    ),
    reflections: {
      columns: measured.map((_, i) => (measured.length === 1 ? 'now' : i === 0 ? 'before' : 'after')),
      rows: measureRows(kinds(first), change?.kl ?? []),
      note: '',
    },
    overSeeds:
      file.seeds.length < 2
        ? []
        : [
            ...Object.entries(model.overSeeds.rates).map(([name, spread]): [string, Spread] => [
              labelOf(name),
              spread,
            ]),
            ...Object.entries(change?.overSeeds ?? {}).map(([name, spread]): [string, Spread] => [
              `${labelOf(name)}, after minus before`,
              spread,
            ]),
          ],
  };
}

function columnHeads(temperature: number, compared: boolean): { group: string; name: string }[] {
  const groups = [`temperature ${temperature}`, 'greedy'];
  return groups.flatMap((group) =>
    (compared ? ['before', 'after'] : ['now']).map((name) => ({ group, name })),
  );
}

function pairedRows(
  differences: Readonly<Partial<Record<string, PairedDifference>>> | undefined,
  label: (name: string) => string,
): ChangeRow[] {
  return Object.entries(differences ?? {}).flatMap(([name, difference]) =>
    difference === undefined ? [] : [changeRow(label(name), difference)],
  );
}

function changeRow(label: string, { diff, low, high, mcnemar }: PairedDifference): ChangeRow {
  return { label, diff, low, high, p: mcnemar.p };
}

/** How reflections are, one value for each model. */
function measureRows(
  summaries: readonly MeasurementSummary[],
  kl: readonly number[],
): [label: string, values: string[]][] {
  const measures = summaries.map(({ reflections }) => reflections);
  const row = (label: string, value: (one: (typeof measures)[number]) => string): [string, string[]] => [
    label,
    measures.map(value),
  ];
  const names = (of: (one: (typeof measures)[number]) => Readonly<Record<string, number>>): string[] =>
    [...new Set(measures.flatMap((one) => Object.keys(of(one))))].toSorted();
  const [firstKl] = kl;
  return [
    ...names(({ kinds }) => kinds).map((kind) => row(kind, ({ kinds }) => shareText(kinds[kind] ?? 0))),
    ...(measures.some(({ trueHints }) => isNumber(trueHints))
      ? [
          row('with a true hint', ({ trueHints }) => shareText(trueHints)),
          row('true, of those that hint', ({ trueOfHints }) => shareText(trueOfHints)),
        ]
      : []),
    row('how many', ({ count }) => String(count)),
    row('mean length, tokens', ({ tokens }) => numberText(tokens.mean)),
    row('median length, tokens', ({ tokens }) => numberText(tokens.median)),
    row('longest, tokens', ({ tokens }) => numberText(tokens.max)),
    row('cut off at the limit', ({ cutOff }) => shareText(cutOff)),
    row('hold a passing answer (leak)', ({ leaked }) => shareText(leaked.rate)),
    row('repeated 4-grams of tokens', ({ repetition }) => shareText(repetition)),
    row('letters of more than one script', ({ mixedScripts }) => shareText(mixedScripts)),
    ...names(({ scripts }) => scripts).map((script) =>
      row(`letters: ${script}`, ({ scripts }) => shareText(scripts[script] ?? 0)),
    ),
    ...(firstKl === undefined || measures.length < 2
      ? []
      : [['KL to the start model, nats per token', ['0', numberText(firstKl)]] satisfies [string, string[]]]),
  ];
}

function isNumber(value: unknown): value is number {
  return typeof value === 'number' && Number.isFinite(value);
}

function shareText(share: number): string {
  return isNumber(share) ? `${(100 * share).toFixed(1)}%` : '–';
}

function numberText(value: number): string {
  return isNumber(value) ? String(Number(value.toPrecision(3))) : '–';
}

export function durationText(seconds: number): string {
  const whole = Math.round(seconds);
  return whole < 60 ? `${whole} s` : `${Math.floor(whole / 60)} min ${whole % 60} s`;
}
