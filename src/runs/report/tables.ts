/**
 * The tables of a run, as data: what the page and the Markdown both show.
 *
 * A table without anything to say is not there. Nothing here draws or escapes.
 */
import { intervalMarks } from '../charts.ts';
import type { ReportRun } from './data.ts';
import type { Digest } from './digest.ts';
import { mean, NOTHING, plain, points, quantile, range, rangeOf, signed } from './numbers.ts';
import type { RateLike, Results } from './results.ts';
import type { Cell, Row, Table } from './table.ts';

/** Longer values of an option are cut: a prompt may be a page. */
const MAX_VALUE_LENGTH = 300;

export function ratesTable(results: Results): Table {
  const { columns, rates, costs, temperature } = results;
  const compared = columns.some(({ name }) => name === 'before');
  const groups = [...new Set(columns.map(({ group }) => group))].map((name) => ({
    name,
    span: columns.filter(({ group }) => group === name).length,
  }));
  return {
    caption: 'Share of held-out problems solved, in percent, with 95% intervals.',
    ...(compared
      ? {
          marksCaption: `In the last column: before ○ and after ●, at temperature ${temperature}, from 0 to 100.`,
        }
      : {}),
    head: ['', ...columns.map(({ name }) => name)],
    groups,
    style: 'results',
    rows: [
      ...rates.map(({ label, control, cells }): Row => {
        const [before, after] = cells;
        return {
          label,
          cells: cells.map(rateCell),
          ...(control ? { look: 'control' } : {}),
          ...(compared ? { marks: intervalMarks(markOf(before), markOf(after)) } : {}),
        };
      }),
      ...costs.map(([label, values]): Row => ({ label, cells: values, look: 'cost' })),
    ],
  };
}

function markOf(rate: RateLike | null | undefined): { value: number; low: number; high: number } {
  const { rate: value, low, high } = rate ?? { rate: Number.NaN, low: 0, high: 0 };
  return { value, low, high };
}

function rateCell(rate: RateLike | null): Cell | string {
  return rate === null || !Number.isFinite(rate.rate)
    ? NOTHING
    : { text: points(rate.rate), note: rangeOf(rate) };
}

export function changesTable({ changes }: Results): Table {
  return {
    caption: 'Differences in percentage points, paired by problem, with 95% intervals.',
    head: ['difference', 'points', '95% interval'],
    rows: changes.map(({ label, diff, low, high }): Row => {
      if (!Number.isFinite(diff)) return { label, cells: [NOTHING, NOTHING] };
      const open = !(low > 0 || high < 0);
      return {
        label,
        cells: [signed(diff), { text: range(low, high, signed), ...(open ? { note: 'contains 0' } : {}) }],
        ...(open ? { look: 'open' } : {}),
      };
    }),
  };
}

export function crossedTable({ crossed }: Results): Table | null {
  if (crossed === null) return null;
  return {
    caption:
      'Who gains: pass rate of the retry on the same failures, by who wrote the reflection and who read it.',
    head: ['written by', 'read by start', 'read by trained'],
    rows: [
      { label: 'start model', cells: [rateCell(crossed.startStart), rateCell(crossed.startTrained)] },
      { label: 'trained model', cells: [rateCell(crossed.trainedStart), rateCell(crossed.trainedTrained)] },
    ],
  };
}

/** What `r3 eval` prints, as it prints it. */
export function evaluationTablesOf({ tables }: Results): Table[] {
  return tables.map(({ title, heads, rows }) => ({
    caption: title,
    head: heads,
    rows: rows.map(([label = '', ...cells]) => ({ label, cells })),
  }));
}

/** What retries came to at either end of training. */
export function classesTable({ steps, before, after }: Digest): Table | null {
  if (steps === 0) return null;
  const counts = [before.classes, after.classes];
  const totals = counts.map((one) => Object.values(one).reduce((sum, count) => sum + count, 0));
  const sum = (name: string): number => counts.reduce((total, one) => total + (one[name] ?? 0), 0);
  const names = [...new Set(counts.flatMap(Object.keys))].toSorted((a, b) => sum(b) - sum(a));
  return {
    caption: `What became of retries in training, first ${steps} steps and last ${steps}.`,
    head: ['came to', 'first steps', 'last steps'],
    style: 'reflections',
    rows: names.map((label) => ({
      label,
      cells: counts.map((one, i) => {
        const count = one[label] ?? 0;
        return { text: `${points(count / totals[i]!)}%`, note: String(count) };
      }),
    })),
  };
}

export function reflectionsTable({ reflections }: Results): Table {
  return {
    caption: 'Reflections on failed first tries of held-out problems.',
    head: ['reflections', 'before', 'after'],
    style: 'reflections',
    rows: reflections.rows.map(([label, ...cells]) => ({ label, cells })),
  };
}

/** Not the mean alone: where a length limit bites, or two habits stand side by side, the mean hides it. */
export function lengthsTable({ steps, before, after }: Digest): Table | null {
  if (before.lengths.length === 0 || after.lengths.length === 0) return null;
  const ends = [before, after].map(({ lengths }) => lengths.toSorted((a, b) => a - b));
  const row = (label: string, value: (lengths: readonly number[]) => number): Row => ({
    label,
    cells: ends.map((lengths) => plain(value(lengths))),
  });
  return {
    caption: `Length of reflections in tokens, in training: first ${steps} steps and last ${steps}.`,
    head: ['tokens', 'first steps', 'last steps'],
    style: 'reflections',
    rows: [
      row('shortest', (lengths) => quantile(lengths, 0)),
      row('a tenth is at most', (lengths) => quantile(lengths, 0.1)),
      row('half is at most (median)', (lengths) => quantile(lengths, 0.5)),
      row('mean', mean),
      row('nine tenths are at most', (lengths) => quantile(lengths, 0.9)),
      row('longest', (lengths) => quantile(lengths, 1)),
      row('reflections', (lengths) => lengths.length),
    ],
  };
}

export function configTable({ config, sources }: ReportRun): Table {
  const sourced = Object.keys(sources).length > 0;
  return {
    caption: sourced
      ? 'Each option as resolved, and where its value comes from.'
      : 'Each option as resolved.',
    head: ['option', 'value', ...(sourced ? ['source'] : [])],
    style: 'plain',
    rows: flattened(config).map(([path, value]) => ({
      label: path,
      cells: [value, ...(sourced ? [sourceOf(sources, path)] : [])],
    })),
  };
}

/** Options of the command line whose name in config.json is another. */
const OPTION_PATHS: Readonly<Record<string, string>> = {
  'train.reflectionsPerFailure': 'num-generations',
  'train.schedule.kind': 'schedule',
  'prompts.name': 'prompts',
  'model.directory': 'model',
  'problems.file': 'problems',
  'train.advantages.estimator': 'advantage-estimator',
  'train.loss.importanceSamplingCorrection': 'importance-sampling-mode',
  'train.loss.importanceSamplingCorrection.mode': 'importance-sampling-mode',
  'train.loss.importanceSamplingCorrection.clipMin': 'importance-sampling-clip-min',
  'train.loss.importanceSamplingCorrection.clipMax': 'importance-sampling-clip-max',
  'lora.rank': 'lora',
  'lora.rsLora': 'rslora',
  'lora.targets': 'target-modules',
  audited: 'no-audit',
};

/** What options alone decide: one of these without a source was derived from the others, or is fixed. */
const DECIDED = /^(train|sampling|lora|passTokens|context)(\.|$)/;

/**
 * Sources are named by path or as on the command line: `adam-beta1` is `train.adam.beta1`. Options that have no value
 * unless they are given are not among them.
 */
function sourceOf(sources: Readonly<Record<string, string>>, path: string): string {
  const names = path.split('.');
  const dashed = (some: readonly string[]): string =>
    some.map((name) => name.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)).join('-');
  const known = [path, OPTION_PATHS[path] ?? '', dashed(names.slice(-2)), dashed(names.slice(-1))];
  const source = known.map((name) => sources[name]).find((found) => found !== undefined);
  return source ?? (DECIDED.test(path) ? 'default' : NOTHING);
}

export function environmentTable({ environment }: ReportRun): Table | null {
  if (environment.length === 0) return null;
  return {
    caption: 'What the run was made with.',
    head: ['', ''],
    style: 'plain',
    rows: environment.map(([label, value]) => ({ label, cells: [value] })),
  };
}

/** The leaves of a tree of options, by path. */
export function flattened(value: unknown, path = ''): [path: string, value: string][] {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
    const entries = Object.entries(value);
    if (entries.length > 0) {
      return entries.flatMap(([name, inner]) => flattened(inner, path === '' ? name : `${path}.${name}`));
    }
  }
  const text = typeof value === 'string' ? value : (JSON.stringify(value) ?? NOTHING);
  const over = text.length - MAX_VALUE_LENGTH;
  return [[path, over > 0 ? `${text.slice(0, MAX_VALUE_LENGTH)} … and ${over} more characters` : text]];
}
