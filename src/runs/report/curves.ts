/**
 * The curves of training: a chart for each group of numbers of metrics.jsonl, of one run or with a line for each run.
 *
 * The charts that most runs are read by come first; every other number that a run wrote has a small one behind a fold.
 * Beside each set of charts stands a table of the same numbers. Values that are no finite numbers are left out.
 */
import {
  escapeText,
  lineChart,
  niceTicks,
  percent,
  smoothingWidth,
  stackedChart,
  type ChartText,
  type LineOptions,
  type Point,
  type Series,
} from '../charts.ts';
import { findMetricName } from '../metric-names.ts';
import type { StepRow } from '../run.ts';
import { NOTHING, numberOf, plain, points } from './numbers.ts';

/** A line of a chart that no one can tell from its neighbours helps nobody: rarer kinds are added up. */
const MAX_KINDS = 6;
/** More than a chart has pixels: of longer runs, means of neighbours are drawn. */
const MAX_POINTS = 500;
const KIND = 'kind/';

interface Curve {
  title: string;
  caption: string;
  lines: readonly (readonly [metric: string, name: string])[];
  shares?: boolean;
}

const CURVES: readonly Curve[] = [
  {
    title: 'Reward',
    caption: 'Share of retries that passed, on problems that failed at first.',
    lines: [['reward', 'reward']],
    shares: true,
  },
  {
    title: 'Groups',
    caption: 'Only groups with both outcomes carry a signal.',
    lines: [
      ['groups/mixed', 'mixed'],
      ['groups/allPass', 'all pass'],
      ['groups/allFail', 'all fail'],
    ],
    shares: true,
  },
  { title: 'Reflection length', caption: 'Mean, in tokens.', lines: [['completions/mean_length', 'length']] },
  {
    title: 'True hints',
    caption: 'Share of reflections with a hint that is true.',
    lines: [['hint/true', 'true hint']],
    shares: true,
  },
  {
    title: 'Repeated and cut off',
    caption:
      'Share of reflections that say the same as a sibling, and of those that reached the length limit.',
    lines: [
      ['reflection/duplicate', 'repeated'],
      ['completions/clipped_ratio', 'cut off'],
    ],
    shares: true,
  },
  { title: 'KL', caption: 'Distance from the start model, nats per trained token.', lines: [['kl', 'KL']] },
];

/** Said before, or no curve. */
const SHOWN = new Set(['step', ...CURVES.flatMap(({ lines }) => lines.map(([metric]) => metric))]);

/** A run as the charts name it; '' where there is one alone. */
export interface CurveRun {
  letter: string;
  rows: readonly StepRow[];
}

/** The whole section; '' when no run has a number. */
export function curvesSection(runs: readonly CurveRun[]): string {
  const charts = CURVES.flatMap((curve) => drawCurve(runs, curve));
  const others = otherMetrics(runs).flatMap((metric) =>
    drawCurve(runs, {
      title: metric,
      caption: findMetricName(metric)?.meaning ?? '',
      lines: [[metric, metric]],
      shares: false,
    }),
  );
  if (charts.length + others.length === 0) return '';
  const steps = Math.max(...runs.map(({ rows }) => rows.length));
  const series = runs.flatMap((run) =>
    CURVES.flatMap(({ lines, title }) =>
      lines.map(([metric, name]) => ({
        ...seriesOf(run.rows, metric),
        name: [run.letter, lines.length === 1 ? title.toLowerCase() : name].filter(Boolean).join(' '),
      })),
    ),
  );
  const rest =
    others.length === 0
      ? ''
      : `<details><summary>${others.length} more numbers of training</summary><div class="grid">
${others.join('\n')}
</div></details>`;
  return `<section>
<h2>Training</h2>
<div class="grid">
${charts.join('\n')}
</div>
<p class="caption">Faint: each step. Full: the same${smoothingNote(steps)}.</p>
${numbersTable(
  'Training by step',
  series.filter((line) => line.points.length > 0),
  plain,
)}
${rest}
</section>`;
}

/** With several runs a chart shows the first of its lines alone, once for each run. */
function drawCurve(runs: readonly CurveRun[], { title, caption, lines, shares }: Curve): string[] {
  const [alone] = runs;
  const drawn =
    runs.length === 1 && alone !== undefined
      ? lines.map(([metric, name]) => ({ ...seriesOf(alone.rows, metric), name }))
      : runs.map(({ rows, letter }) => ({ ...seriesOf(rows, lines[0]?.[0] ?? ''), name: letter }));
  const series = drawn.filter((line) => line.points.length > 0);
  if (series.length === 0) return [];
  const options: LineOptions =
    shares === true ? { values: [0, 1], format: percent } : { format: (value) => plain(value) };
  const ends = series.map(
    ({ name, points: values }) =>
      `${name} from ${options.format(values[0]!.value)} to ${options.format(values.at(-1)!.value)}`,
  );
  const which = runs.length > 1 && lines.length > 1 ? `: ${lines[0]?.[1]}` : '';
  const text: ChartText = {
    title: `${title}${which} by step`,
    description: `First to last step: ${ends.join(', ')}.`,
  };
  return [
    `<figure><h3>${escapeText(title + which)}</h3>${lineChart(series, text, options)}<figcaption>${escapeText(caption)}</figcaption></figure>`,
  ];
}

function otherMetrics(runs: readonly CurveRun[]): string[] {
  const names = new Set<string>();
  for (const { rows } of runs) {
    for (const row of rows) {
      for (const [name, value] of Object.entries(row)) {
        if (!SHOWN.has(name) && !name.startsWith(KIND) && numberOf(value) !== undefined) names.add(name);
      }
    }
  }
  return [...names].toSorted();
}

/** The share of each kind of reflection by step, for wide and for narrow screens; '' where no row has kinds. */
export function kindsFigure(rows: readonly StepRow[], suffix = ''): string {
  const series = kindSeries(rows);
  if (series.length === 0) return '';
  const text = kindsText(series, suffix);
  return `<figure><div class="wide">${stackedChart(series, text)}</div><div class="narrow">${stackedChart(series, text, { narrow: true })}</div>
<figcaption>Share of each kind of reflection among those written at a step${smoothingNote(rows.length)}. Their reward is whether the retry after them passes.</figcaption></figure>
${numbersTable(`Share of each kind of reflection${suffix}`, series, (value) => points(value))}`;
}

/** The same as a picture that stands alone. Empty layers when no row has kinds. */
export function renderKindsChart(rows: readonly StepRow[]): string {
  const series = kindSeries(rows);
  return stackedChart(series, kindsText(series, ''), { standalone: true });
}

function kindsText(series: readonly Series[], suffix: string): ChartText {
  const fromTo = ({ name, points: values }: Series): string =>
    `${name} from ${percent(values[0]?.value ?? 0)} to ${percent(values.at(-1)?.value ?? 0)}`;
  return {
    title: `Share of each kind of reflection by step${suffix}`,
    description:
      series.length === 0
        ? 'No kinds were recorded.'
        : `First to last step: ${series.map(fromTo).join(', ')}.`,
  };
}

/** A row with kinds has an entry for each kind that was written; the others are 0 there. */
function kindSeries(rows: readonly StepRow[]): Series[] {
  const told = rows.filter((row) => Object.keys(row).some((key) => key.startsWith(KIND)));
  const totals = new Map<string, number>();
  for (const row of told) {
    for (const [key, value] of Object.entries(row)) {
      if (!key.startsWith(KIND) || typeof value !== 'number') continue;
      totals.set(key, (totals.get(key) ?? 0) + value);
    }
  }
  const byTotal = [...totals].toSorted(([a, m], [b, n]) => n - m || (a < b ? -1 : 1)).map(([key]) => key);
  const shown = byTotal.length <= MAX_KINDS ? byTotal : byTotal.slice(0, MAX_KINDS - 1);
  const rest = byTotal.slice(shown.length);
  const sumOf = (row: StepRow, keys: readonly string[]): number =>
    keys.reduce((total, key) => total + (numberOf(row[key]) ?? 0), 0);
  const layer = (name: string, keys: readonly string[]): Series => ({
    name,
    points: thinned(told.map((row) => ({ step: row.step, value: sumOf(row, keys) }))),
  });
  return [
    ...shown.map((key) => layer(key.slice(KIND.length), [key])),
    ...(rest.length > 0 ? [layer('all others', rest)] : []),
  ];
}

function seriesOf(rows: readonly StepRow[], metric: string): Series {
  const found = rows.flatMap((row) => {
    const value = numberOf(row[metric]);
    return value === undefined ? [] : [{ step: row.step, value }];
  });
  return { name: metric, points: thinned(found) };
}

/** At most `MAX_POINTS`, each the mean of its neighbours at the step of the last of them. */
function thinned(all: readonly Point[]): Point[] {
  const size = Math.ceil(all.length / MAX_POINTS);
  if (size <= 1) return [...all];
  return Array.from({ length: Math.ceil(all.length / size) }, (_, i) => {
    const near = all.slice(i * size, (i + 1) * size);
    return {
      step: near.at(-1)!.step,
      value: near.reduce((sum, { value }) => sum + value, 0) / near.length,
    };
  });
}

function smoothingNote(steps: number): string {
  const width = smoothingWidth(Math.min(steps, MAX_POINTS));
  return width > 1 ? `, centred mean of ${width} steps` : '';
}

/** The chart's numbers for those who do not see it, at round steps. */
function numbersTable(title: string, series: readonly Series[], format: (value: number) => string): string {
  const steps = [...new Set(series.flatMap(({ points: values }) => values.map(({ step }) => step)))].toSorted(
    (a, b) => a - b,
  );
  const round = new Set(niceTicks(steps[0] ?? 0, steps.at(-1) ?? 0, 10));
  const shown = steps.filter((step, i) => round.has(step) || i === 0 || i === steps.length - 1);
  const byStep = series.map(
    ({ points: values }) => new Map(values.map(({ step, value }) => [step, value] as const)),
  );
  const body = shown.map((step) => {
    const cells = byStep.map((values) => {
      const value = values.get(step);
      return `<td>${value === undefined ? NOTHING : format(value)}</td>`;
    });
    return `<tr><th scope="row">${step}</th>${cells.join('')}</tr>`;
  });
  const heads = series.map(({ name }) => `<th scope="col">${escapeText(name)}</th>`);
  return `<details><summary>The same as numbers</summary><div class="scroll"><table>
<caption>${escapeText(title)}, at single steps.</caption>
<thead><tr><th scope="col">step</th>${heads.join('')}</tr></thead>
<tbody>${body.join('\n')}</tbody></table></div></details>`;
}
