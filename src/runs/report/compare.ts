/**
 * Several runs side by side, as tables: where each stands, how runs that differ in nothing but the seed spread, and
 * which options differ.
 *
 * A run is named by a letter in charts and tables. A spread over runs that differ in more than the seed would say
 * nothing, so there is none; neither is there of numbers whose evaluations differ in problems, prompts or sampling.
 */
import type { ReportRun } from './data.ts';
import { mean, NOTHING, numberOf, plain, points, range, signed } from './numbers.ts';
import type { RateLike } from './results.ts';
import { flattened } from './tables.ts';
import type { Cell, Row, Table } from './table.ts';

/** Options of an evaluation that change none of its numbers, or by chance alone. */
const INCIDENTAL: readonly string[] = ['seeds', 'controls', 'engine', 'dtype', 'context'];
/** The start model: it matters to changes alone. */
const AGAINST = 'against';

/** Steps that the numbers of training are means of. */
const LAST_STEPS = 10;

/** A, B, ..., Z, R27, R28, ... */
export function runLetter(index: number): string {
  return index < 26 ? String.fromCharCode(65 + index) : `R${index + 1}`;
}

export function runNamesTable(runs: readonly ReportRun[]): Table {
  return {
    caption: 'The runs.',
    head: ['', 'run', 'steps', 'seed', 'problems evaluated', 'at temperature'],
    style: 'plain',
    rows: runs.map((run, i) => ({
      label: runLetter(i),
      cells: [
        run.name,
        String(run.rows.length),
        seedOf(run),
        String(run.results?.n ?? NOTHING),
        String(run.results?.temperature ?? NOTHING),
      ],
    })),
  };
}

interface Measure {
  label: string;
  of: (run: ReportRun) => number;
  /** 95% interval of it, where it has one. */
  intervalOf?: (run: ReportRun) => { low: number; high: number } | null | undefined;
  format: (value: number) => string;
  /** Of an evaluation: whether an option of it must agree for a spread. */
  depends?: (option: string) => boolean;
}

/** One row for each number, one column for each run, then the spread of each set of runs that differ in the seed alone. */
export function sideBySideTable(runs: readonly ReportRun[]): Table {
  const sets = alikeButForSeed(runs).filter((set) => set.length > 1);
  const rows = measuresOf(runs).map(({ label, of, intervalOf, format, depends = () => false }): Row => {
    const values = runs.map(of);
    const spreads = sets.map((set) => {
      const members = set.filter((i) => Number.isFinite(values[i]));
      if (members.length < 2 || differing(members.map((i) => runs[i]!)).some(depends)) return NOTHING;
      const known = members.map((i) => values[i]!);
      const [low, high] = [Math.min(...known), Math.max(...known)];
      return { text: format(mean(known)), note: `${format(low)} to ${format(high)}` };
    });
    return {
      label,
      cells: [
        ...values.map((value, i): Cell | string => {
          if (!Number.isFinite(value)) return NOTHING;
          const interval = intervalOf?.(runs[i]!);
          const text = format(value);
          return interval ? { text, note: range(interval.low, interval.high, format) } : text;
        }),
        ...spreads,
      ],
    };
  });
  return {
    caption: `Held-out problems in percent and points, with 95% intervals; numbers of training are means of the last ${LAST_STEPS} steps.${
      sets.length === 0 ? ' No two runs differ in the seed alone, so there is no spread over seeds.' : ''
    }${sets.map((set) => apartNote(runs, set)).join('')}`,
    head: [
      '',
      ...runs.map((_, i) => runLetter(i)),
      ...sets.map((set) => `mean of ${set.map(runLetter).join(', ')}, least to most`),
    ],
    rows: rows.filter(({ cells }) => cells.some((cell) => cell !== NOTHING)),
  };
}

/** Why there is no spread of what was evaluated. */
function apartNote(runs: readonly ReportRun[], set: readonly number[]): string {
  const names = differing(set.map((i) => runs[i]!)).filter(ofChange);
  if (names.length === 0) return '';
  return ` The evaluations of ${set.map(runLetter).join(', ')} differ in ${names.join(', ')}: numbers that depend on it have no spread over seeds.`;
}

/** Options in which the evaluations of these runs differ; runs without one are passed over. */
function differing(runs: readonly ReportRun[]): string[] {
  const all = runs.flatMap(({ results }) => (results === null ? [] : [results.options]));
  const names = [...new Set(all.flatMap(Object.keys))];
  return names.filter((name) => new Set(all.map((options) => JSON.stringify(options[name]))).size > 1);
}

function ofChange(option: string): boolean {
  return !INCIDENTAL.includes(option);
}

function ofRate(option: string): boolean {
  return option !== AGAINST && ofChange(option);
}

function measuresOf(runs: readonly ReportRun[]): Measure[] {
  const figures = [
    ...new Set(runs.flatMap(({ results }) => results?.figures.map(({ label }) => label) ?? [])),
  ];
  const figureOf = (run: ReportRun, wanted: string) =>
    run.results?.figures.find(({ label }) => label === wanted);
  const controls = [
    ...new Set(
      runs.flatMap(
        ({ results }) => results?.rates.filter(({ control }) => control).map(({ label }) => label) ?? [],
      ),
    ),
  ];
  const controlOf = ({ results }: ReportRun, wanted: string): RateLike | null => {
    // Sampled comes first: before, where there is a before, and now.
    const now = results?.figures.some(({ from }) => from !== null) === true ? 1 : 0;
    return results?.rates.find(({ label }) => label === wanted)?.cells[now] ?? null;
  };
  const trained = (label: string, name: string, format: Measure['format']): Measure => ({
    label,
    of: ({ rows }) =>
      mean(
        rows
          .slice(-LAST_STEPS)
          .map((row) => numberOf(row[name]))
          .filter((value) => value !== undefined),
      ),
    format,
  });
  return [
    ...figures.flatMap((label): Measure[] => [
      {
        label,
        of: (run) => figureOf(run, label)?.to ?? Number.NaN,
        intervalOf: (run) => figureOf(run, label)?.interval,
        format: points,
        depends: ofRate,
      },
      {
        label: `${label}: change by training`,
        of: (run) => figureOf(run, label)?.change?.diff ?? Number.NaN,
        intervalOf: (run) => figureOf(run, label)?.change,
        format: signed,
        depends: ofChange,
      },
    ]),
    ...controls.map((label): Measure => ({
      label,
      of: (run) => controlOf(run, label)?.rate ?? Number.NaN,
      intervalOf: (run) => controlOf(run, label),
      format: points,
      depends: ofRate,
    })),
    trained('Reward in training', 'reward', points),
    trained('Groups with signal', 'groups/mixed', points),
    trained('Reflection length, tokens', 'completions/mean_length', plain),
    trained('True hints', 'hint/true', points),
    trained('KL to the start model, nats per token', 'kl', plain),
  ];
}

/** Options in which the runs differ, the seed among them, then those of their evaluations. */
export function differencesTable(runs: readonly ReportRun[]): Table | null {
  const rows = [
    ...rowsThatDiffer(runs.map(({ config }) => config)),
    ...rowsThatDiffer(runs.map(({ results }) => results?.options ?? null)).map((row) => ({
      ...row,
      label: `evaluation: ${row.label}`,
    })),
  ];
  if (rows.length === 0) return null;
  return {
    caption: 'Options in which the runs differ.',
    head: ['option', ...runs.map((_, i) => runLetter(i))],
    style: 'plain',
    rows,
  };
}

/**
 * A column for each, empty where there are no options. One that is null in some runs and a group in others is told by
 * its members.
 */
function rowsThatDiffer(all: readonly (Readonly<Record<string, unknown>> | null)[]): Row[] {
  const flat = all.map((options) => (options === null ? null : new Map(flattened(options))));
  const paths = [...new Set(flat.flatMap((options) => [...(options?.keys() ?? [])]))];
  const isGroup = (path: string): boolean => paths.some((other) => other.startsWith(`${path}.`));
  return paths.flatMap((path): Row[] => {
    if (isGroup(path)) return [];
    const values = flat.map((options) => options?.get(path) ?? NOTHING);
    const known = values.filter((_, i) => flat[i] !== null);
    return known.every((value) => value === known[0]) ? [] : [{ label: path, cells: values }];
  });
}

/** Indices of runs whose configuration is the same but for the seed. */
function alikeButForSeed(runs: readonly ReportRun[]): number[][] {
  const sets = new Map<string, number[]>();
  runs.forEach(({ config }, i) => {
    const key = JSON.stringify(flattened(config).filter(([path]) => !/(^|\.)seed$/.test(path)));
    sets.set(key, [...(sets.get(key) ?? []), i]);
  });
  return [...sets.values()];
}

function seedOf({ config }: ReportRun): string {
  const { train } = config;
  return typeof train === 'object' && train !== null && 'seed' in train ? String(train.seed) : NOTHING;
}
