/**
 * report.html: one self-contained page about a run. Pure: values in, text out.
 *
 * What was measured, with intervals and controls; what the model learned to write (the share of each kind of
 * reflection by step); curves; episodes to read; the configuration. No script, no network, no other file; light and
 * dark; readable without seeing the charts. Whatever a model wrote is escaped.
 */
import type { BeforeAfter, ChangeInterval } from '../method/controls.ts';
import type { Score } from '../method/episode.ts';
import {
  colourStyle,
  escapeText,
  intervalMarks,
  lineChart,
  niceTicks,
  percent,
  smoothingWidth,
  stackedChart,
} from './charts.ts';
import type { ChartText, Interval, LineOptions, Series } from './charts.ts';
import {
  changeRows,
  costRows,
  forcedBeginningNote,
  rateRows,
  reflectionRows,
  summariesOf,
  type ReflectionChange,
} from './result-rows.ts';
import type { StepRow } from './run.ts';

/** A line of a chart that no one can tell from its neighbours helps nobody: rarer kinds are added up. */
const MAX_KINDS = 6;
/** Longer texts are cut, with a note: the page stays small whatever a model wrote. */
const MAX_TEXT_LENGTH = 4000;

/** One episode, with the task's own words for its problem. */
export interface ReportEpisode {
  id: string;
  /** As it was posed. */
  problem: string;
  attempt: string;
  attemptScore: Score;
  /** null in the baselines that do without. */
  reflection: string | null;
  /** The kind of reflection, where the task has one. */
  kind?: string | undefined;
  retry: string | null;
  retryScore: Score;
}

export interface ReportEvaluation extends ReflectionChange {
  summary: BeforeAfter;
}

export interface ReportData {
  /** The run's name. */
  name: string;
  config: Readonly<Record<string, unknown>>;
  /** metrics.jsonl, named as in method/metrics.ts, and `kl`. */
  rows: readonly StepRow[];
  /** evaluation.json, null before there is one. A rate without data may be null or NaN. */
  evaluation: ReportEvaluation | null;
  /** What a reader of the numbers must not miss. */
  warnings: readonly string[];
  /** Shown in this order. */
  episodes: readonly ReportEpisode[];
}

/** The whole page. */
export function renderReport(data: ReportData): string {
  const { name, config, rows, evaluation } = data;
  const summary = evaluation?.summary ?? null;
  const facts = [
    `${rows.length} steps`,
    ...(summary === null
      ? ['not yet evaluated', ...configFacts(config)]
      : [
          `${summary.n} held-out problems`,
          `seed ${summary.seed}`,
          `${duration(summary.wallSeconds)} in all`,
          summary.kernels,
        ]),
  ];
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width,initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none';style-src 'unsafe-inline'">
<title>${escapeText(name)} · Reflect, Retry, Reward</title>
<style>${colourStyle(':root')}${STYLE}</style>
</head>
<body>
<header>
<p class="over">Reflect, Retry, Reward</p>
<h1>${escapeText(name)}</h1>
<p class="facts">${facts.map(escapeText).join(' · ')}</p>
</header>
<main>
${[
  evaluation === null ? '' : headline(evaluation),
  warningsBlock(data.warnings),
  reflectionsSection(rows, evaluation),
  summary === null ? '' : resultsSection(summary),
  curvesSection(rows),
  episodesSection(data.episodes),
  configSection(data.config),
]
  .filter((section) => section !== '')
  .join('\n')}
</main>
</body>
</html>
`;
}

/** Seed and kernels, from the configuration of a run that was only trained. */
function configFacts({ train, kernels }: ReportData['config']): string[] {
  const seed: unknown =
    typeof train === 'object' && train !== null && 'seed' in train ? train.seed : undefined;
  return [
    ...(typeof seed === 'number' ? [`seed ${seed}`] : []),
    ...(typeof kernels === 'string' ? [kernels] : []),
  ];
}

function warningsBlock(warnings: readonly string[]): string {
  return warnings
    .map((warning) => `<p class="warning"><strong>Warning:</strong> ${escapeText(warning)}</p>`)
    .join('\n');
}

/** The share of each kind of reflection by step, as a picture that stands alone. Empty layers when no row has kinds. */
export function renderKindsChart(rows: readonly StepRow[]): string {
  return stackedChart(kindSeries(rows), kindsText(rows), { standalone: true });
}

function keyFigure(title: string, from: number, to: number, note: string): string {
  return `<div><dt>${title}</dt><dd><span class="from">${points(from)} →</span> ${points(to)}<small>%</small></dd><dd class="note">${note}</dd></div>`;
}

function headline({ summary }: ReportEvaluation): string {
  const { before, after, greedy, change, temperature } = summary;
  return `<dl class="figures">
${keyFigure('Second try, after its own reflection', before.secondTry.rate, after.secondTry.rate, differenceText(change.secondTry))}
${keyFigure('The same, greedy', greedy.before.secondTry.rate, greedy.after.secondTry.rate, differenceText(change.greedySecondTry))}
${keyFigure('First try', before.firstTry.rate, after.firstTry.rate, differenceText(change.firstTry))}
</dl>
<p class="caption">Shares of held-out problems solved, before → after training, at temperature ${temperature} unless it says greedy. A second try counts a pass at the first.</p>`;
}

function reflectionsSection(rows: readonly StepRow[], evaluation: ReportEvaluation | null): string {
  const series = kindSeries(rows);
  const parts = [
    series.length === 0
      ? ''
      : `<figure><div class="wide">${stackedChart(series, kindsText(rows))}</div><div class="narrow">${stackedChart(series, kindsText(rows), { narrow: true })}</div>
<figcaption>Share of each kind of reflection among those written at a step${smoothingNote(rows.length)}. Their reward is whether the retry after them passes.</figcaption></figure>
${numbersTable('Share of each kind of reflection', series, (value) => points(value))}`,
    evaluation === null ? '' : reflectionsTable(evaluation),
  ].filter((part) => part !== '');
  return parts.length === 0
    ? ''
    : `<section>\n<h2>What it learned to write</h2>\n${parts.join('\n')}\n</section>`;
}

function reflectionsTable(change: ReflectionChange): string {
  const body = reflectionRows(change).map(
    ([label, before, after]) =>
      `<tr><th scope="row">${escapeText(label)}</th><td>${before}</td><td>${after}</td></tr>`,
  );
  return `<table class="reflections">
<caption>Reflections on failed first tries, before and after training.</caption>
<thead><tr><th scope="col">reflections</th><th scope="col">before</th><th scope="col">after</th></tr></thead>
<tbody>${body.join('\n')}</tbody>
</table>
<p class="caption">${escapeText(forcedBeginningNote(change))}</p>`;
}

function fromTo({ name, points: values }: Series): string {
  return `${name} from ${percent(values[0]?.value ?? 0)} to ${percent(values.at(-1)?.value ?? 0)}`;
}

function kindsText(rows: readonly StepRow[]): ChartText {
  const series = kindSeries(rows);
  return {
    title: 'Share of each kind of reflection by step',
    description:
      series.length === 0
        ? 'No kinds were recorded.'
        : `First to last step: ${series.map(fromTo).join(', ')}.`,
  };
}

/** A row with kinds has an entry for each kind that was written; the others are 0 there. */
function kindSeries(rows: readonly StepRow[]): Series[] {
  const prefix = 'kind/';
  const told = rows.filter((row) => Object.keys(row).some((key) => key.startsWith(prefix)));
  const totals = new Map<string, number>();
  for (const row of told) {
    for (const [key, value] of Object.entries(row)) {
      if (!key.startsWith(prefix) || typeof value !== 'number') continue;
      totals.set(key, (totals.get(key) ?? 0) + value);
    }
  }
  const byTotal = [...totals].toSorted(([a, m], [b, n]) => n - m || (a < b ? -1 : 1)).map(([key]) => key);
  const shown = byTotal.length <= MAX_KINDS ? byTotal : byTotal.slice(0, MAX_KINDS - 1);
  const rest = byTotal.slice(shown.length);
  const series = shown.map((key) => ({
    name: key.slice(prefix.length),
    points: told.map((row) => ({ step: row.step, value: sumOf(row, [key]) })),
  }));
  if (rest.length > 0) {
    series.push({
      name: 'all others',
      points: told.map((row) => ({ step: row.step, value: sumOf(row, rest) })),
    });
  }
  return series;
}

function sumOf(row: StepRow, keys: readonly string[]): number {
  return keys.reduce((total, key) => total + (numberOf(row[key]) ?? 0), 0);
}

function resultsSection(summary: BeforeAfter): string {
  const { temperature, writerByReader: crossed } = summary;
  const columns = summariesOf(summary);
  const [before, after] = columns;
  const rates = rateRows(columns).map(({ name, label, control }) => {
    const cells = columns.map((column) => rateCell(column[name]));
    const marks = intervalMarks(intervalOf(before[name]), intervalOf(after[name]));
    return `<tr${control ? ' class="control"' : ''}><th scope="row">${label}</th>${cells.join('')}<td class="wide">${marks}</td></tr>`;
  });
  const costs = costRows(columns).map(([label, values], i) => {
    const cells = values.map((value) => `<td>${value}</td>`);
    return `<tr class="${i === 0 ? 'control cost' : 'cost'}"><th scope="row">${label}</th>${cells.join('')}<td class="wide"></td></tr>`;
  });
  return `<section>
<h2>What it can do, and against what</h2>
<div class="scroll" role="region" aria-label="Results" tabindex="0"><table class="results">
<caption>Share of held-out problems solved, in percent, with 95% intervals.<span class="wide"> In the last column: before ○ and after ●, at temperature ${temperature}, from 0 to 100.</span></caption>
<thead>
<tr><td></td><th scope="colgroup" colspan="2">temperature ${temperature}</th><th scope="colgroup" colspan="2">greedy</th><td class="wide"></td></tr>
<tr><td></td><th scope="col">before</th><th scope="col">after</th><th scope="col">before</th><th scope="col">after</th><td class="wide"></td></tr>
</thead>
<tbody>${[...rates, ...costs].join('\n')}</tbody>
</table></div>
<div class="pair">
<table>
<caption>Differences in percentage points, paired by problem, with 95% intervals.</caption>
<thead><tr><th scope="col">difference</th><th scope="col">points</th><th scope="col">95% interval</th></tr></thead>
<tbody>${changeRows(summary).map(changeRow).join('\n')}</tbody>
</table>
<table>
<caption>Who gains: pass rate of the retry on the same failures, by who wrote the reflection and who read it.</caption>
<thead><tr><th scope="col">written by</th><th scope="col">read by start</th><th scope="col">read by trained</th></tr></thead>
<tbody>
<tr><th scope="row">start model</th>${rateCell(crossed.startStart)}${rateCell(crossed.startTrained)}</tr>
<tr><th scope="row">trained model</th>${rateCell(crossed.trainedStart)}${rateCell(crossed.trainedTrained)}</tr>
</tbody>
</table>
</div>
</section>`;
}

function changeRow([label, { diff, low, high }]: [string, ChangeInterval]): string {
  const head = `<th scope="row">${label}</th>`;
  if (!Number.isFinite(diff)) return `<tr>${head}<td class="none">–</td><td class="none">–</td></tr>`;
  const open = !(low > 0 || high < 0);
  return `<tr${open ? ' class="open"' : ''}>${head}<td>${signed(diff)}</td><td>${range(low, high, signed)}${open ? ' <small>contains 0</small>' : ''}</td></tr>`;
}

function curvesSection(rows: readonly StepRow[]): string {
  const chart = (
    title: string,
    caption: string,
    lines: readonly (readonly [string, string])[],
    options: LineOptions,
  ): string => {
    const series = lines
      .map(([key, name]) => seriesOf(rows, key, name))
      .filter((line) => line.points.length > 0);
    if (series.length === 0) return '';
    const ends = series.map(({ name, points: values }) => {
      return `${name} from ${options.format(values[0]!.value)} to ${options.format(values.at(-1)!.value)}`;
    });
    const text = { title: `${title} by step`, description: `First to last step: ${ends.join(', ')}.` };
    return `<figure><h3>${title}</h3>${lineChart(series, text, options)}<figcaption>${caption}</figcaption></figure>`;
  };
  const shares: LineOptions = { values: [0, 1], format: percent };
  const charts = [
    chart(
      'Reward',
      'Share of retries that passed, on problems that failed at first.',
      [['reward', 'reward']],
      shares,
    ),
    chart(
      'Groups',
      'Only groups with both outcomes carry a signal.',
      [
        ['groups/mixed', 'mixed'],
        ['groups/allPass', 'all pass'],
        ['groups/allFail', 'all fail'],
      ],
      shares,
    ),
    chart('Reflection length', 'Mean, in tokens.', [['reflection/meanLength', 'length']], {
      format: (value) => plain(value),
    }),
    chart(
      'True hints',
      'Share of reflections with a hint that is true.',
      [['hint/true', 'true hint']],
      shares,
    ),
    chart(
      'Repeated and cut off',
      'Share of reflections that say the same as a sibling, and of those that reached the length limit.',
      [
        ['reflection/duplicate', 'repeated'],
        ['reflection/cutOff', 'cut off'],
      ],
      shares,
    ),
    chart('KL', 'Distance from the start model, nats per trained token.', [['kl', 'KL']], {
      format: (value) => plain(value),
    }),
  ].filter((drawn) => drawn !== '');
  if (charts.length === 0) return '';
  const all = [
    ['reward', 'reward'],
    ['groups/mixed', 'mixed groups'],
    ['groups/allPass', 'all-pass groups'],
    ['groups/allFail', 'all-fail groups'],
    ['reflection/meanLength', 'reflection length'],
    ['hint/true', 'true hints'],
    ['reflection/duplicate', 'repeated'],
    ['reflection/cutOff', 'cut off'],
    ['kl', 'KL'],
  ].map(([key = '', name = '']) => seriesOf(rows, key, name));
  return `<section>
<h2>Training</h2>
<div class="grid">
${charts.join('\n')}
</div>
<p class="caption">Faint: each step. Full: the same${smoothingNote(rows.length)}.</p>
${numbersTable(
  'Training by step',
  all.filter((line) => line.points.length > 0),
  plain,
)}
</section>`;
}

function smoothingNote(steps: number): string {
  const width = smoothingWidth(steps);
  return width > 1 ? `, centred mean of ${width} steps` : '';
}

/** The chart's numbers for those who do not see it, at round steps. */
function numbersTable(title: string, series: readonly Series[], format: (value: number) => string): string {
  const steps = series[0]?.points.map(({ step }) => step) ?? [];
  const round = new Set(niceTicks(steps[0] ?? 0, steps.at(-1) ?? 0, 10));
  const shown = steps.filter((step, i) => round.has(step) || i === 0 || i === steps.length - 1);
  const body = shown.map((step) => {
    const cells = series.map(({ points: values }) => {
      const point = values.find((candidate) => candidate.step === step);
      return `<td>${point === undefined ? '–' : format(point.value)}</td>`;
    });
    return `<tr><th scope="row">${step}</th>${cells.join('')}</tr>`;
  });
  const heads = series.map(({ name }) => `<th scope="col">${escapeText(name)}</th>`);
  return `<details><summary>The same as numbers</summary><div class="scroll"><table>
<caption>${title}, at single steps.</caption>
<thead><tr><th scope="col">step</th>${heads.join('')}</tr></thead>
<tbody>${body.join('\n')}</tbody></table></div></details>`;
}

function episodesSection(episodes: readonly ReportEpisode[]): string {
  if (episodes.length === 0) return '';
  const cards = episodes.map((episode) => {
    const kind = episode.kind === undefined ? '' : ` <small>${escapeText(episode.kind)}</small>`;
    return `<article>
<h3>${escapeText(episode.id)}</h3>
<dl>
<dt>Problem</dt><dd>${written(episode.problem)}</dd>
<dt>Attempt</dt><dd>${written(episode.attempt)}${verdict(episode.attemptScore)}</dd>
${episode.reflection === null ? '' : `<dt class="trained">Reflection${kind}</dt><dd class="trained">${written(episode.reflection)}</dd>`}
<dt>Retry</dt><dd>${episode.retry === null ? '<p class="none">none: the reflection did not end</p>' : written(episode.retry)}${verdict(episode.retryScore)}</dd>
</dl>
</article>`;
  });
  return `<section>
<h2>Episodes to read</h2>
<p class="caption">Problem, failed attempt, reflection, retry; the reflection is marked.</p>
<div class="episodes">
${cards.join('\n')}
</div>
</section>`;
}

function written(text: string): string {
  const over = text.length - MAX_TEXT_LENGTH;
  const shown = over > 0 ? text.slice(0, MAX_TEXT_LENGTH) : text;
  if (shown.trim() === '') return '<p class="none">empty</p>';
  return `<pre dir="auto">${escapeText(shown)}</pre>${over > 0 ? `<p class="none">and ${over} more characters</p>` : ''}`;
}

function verdict(score: Score): string {
  if (score === null) return '<p class="verdict">not scored</p>';
  if ('error' in score) return `<p class="verdict">not scored: ${escapeText(score.error)}</p>`;
  if (score.ok) return '<p class="verdict pass">✓ passes</p>';
  return `<p class="verdict fail">✗ fails: ${escapeText(score.why)}</p>`;
}

function configSection(config: Readonly<Record<string, unknown>>): string {
  return `<section>
<h2>Configuration</h2>
<details><summary>config.json, as resolved</summary><pre>${escapeText(JSON.stringify(config, null, 2))}</pre></details>
</section>`;
}

function seriesOf(rows: readonly StepRow[], key: string, name: string): Series {
  const found = rows.flatMap((row) => {
    const value = numberOf(row[key]);
    return value === undefined ? [] : [{ step: row.step, value }];
  });
  return { name, points: found };
}

function numberOf(value: unknown): number | undefined {
  return typeof value === 'number' && Number.isFinite(value) ? value : undefined;
}

interface RateLike {
  rate: number;
  low: number;
  high: number;
}

function rateCell(rate: RateLike): string {
  if (!Number.isFinite(rate.rate)) return '<td class="none">–</td>';
  return `<td>${points(rate.rate)}<small>${range(rate.low, rate.high, points)}</small></td>`;
}

function intervalOf({ rate, low, high }: RateLike): Interval {
  return { value: rate, low, high };
}

function differenceText({ diff, low, high }: ChangeInterval): string {
  return Number.isFinite(diff)
    ? `${signed(diff)} points, 95% interval ${range(low, high, signed)}`
    : 'not measured';
}

/** A share in percent, without the sign; a dash where there is no data. */
function points(share: number): string {
  return Number.isFinite(share) ? (100 * share).toFixed(1) : '–';
}

function signed(share: number): string {
  if (!Number.isFinite(share)) return '–';
  const text = points(Math.abs(share));
  return text === '0.0' ? text : `${share < 0 ? '−' : '+'}${text}`;
}

function range(low: number, high: number, format: (share: number) => string): string {
  return `${format(low)} to ${format(high)}`;
}

function plain(value: number): string {
  return Math.abs(value) >= 10 ? value.toFixed(0) : Number(value.toPrecision(2)).toString();
}

function duration(seconds: number): string {
  const whole = Math.round(seconds);
  return whole < 60 ? `${whole} s` : `${Math.floor(whole / 60)} min ${whole % 60} s`;
}

const STYLE = `
*{box-sizing:border-box}
body{margin:0 auto;max-width:68rem;padding:3rem 2rem 5rem;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,-apple-system,'Segoe UI',sans-serif;font-variant-numeric:tabular-nums}
h1{margin:0;font-size:1.75rem;font-weight:600;letter-spacing:-.01em;overflow-wrap:anywhere}
h2{margin:0 0 1rem;font-size:1.15rem;font-weight:600}
h3{margin:0 0 .5rem;font-size:.95rem;font-weight:600}
section{margin-top:3rem;padding-top:1.5rem;border-top:1px solid var(--rule)}
.over,.facts,.caption,caption,figcaption,.note,.none,small{color:var(--muted)}
.over{margin:0;font-size:.85rem}
.facts{margin:.35rem 0 0;font-size:.9rem}
.caption,figcaption,caption{font-size:.85rem;text-align:left}
caption{padding-bottom:.6rem}
figure{margin:0}
figcaption{margin-top:.4rem}
svg{display:block;width:100%;height:auto}
svg.marks{width:200px;margin-left:auto}
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(15rem,1fr));gap:1.5rem 2rem;margin:2.5rem 0 .75rem}
.figures dt{font-size:.9rem}
.figures dd{margin:0;font-size:2rem;font-weight:600;letter-spacing:-.02em;line-height:1.3}
.figures .from{font-weight:400;color:var(--muted)}
.figures small{font-size:1.1rem;font-weight:400;margin-left:.1rem}
.figures .note{font-size:.85rem;font-weight:400;letter-spacing:0}
.grid{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,24rem),1fr));gap:2rem}
.pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,24rem),1fr));gap:2rem 3rem;margin-top:2.5rem;align-items:start}
table{width:100%;border-collapse:collapse;font-size:.92rem}
th,td{padding:.45rem .6rem;text-align:right;border-bottom:1px solid var(--rule);vertical-align:top}
th:first-child,td:first-child{padding-left:0}
th:last-child,td:last-child{padding-right:0}
th{font-weight:400}
thead th{color:var(--muted);font-size:.85rem;vertical-align:bottom}
tbody th,thead th:first-child{text-align:left}
thead tr:first-child:not(:last-child)>*{border-bottom:0;padding-bottom:0}
td small{display:block;font-size:.78rem;white-space:nowrap}
.pair td{white-space:nowrap}
.results tr:not(.control) th[scope=row],.results tr:not(.control) td{font-weight:600}
.results td small{font-weight:400}
.results .control th{padding-left:1.25rem;color:var(--muted)}
table:not(.reflections) tbody th[scope=row]::first-letter{text-transform:uppercase}
.results .cost td,.results .cost th,.results tr.cost:not(.control) th[scope=row],.results tr.cost:not(.control) td{font-weight:400;color:var(--muted)}
.narrow{display:none}
.reflections{max-width:38rem;margin-top:2rem}
.reflections+.caption{margin:.6rem 0 0}
.warning{margin:1rem 0 0;padding:.6rem 1rem;border-left:3px solid var(--c2);background:color-mix(in srgb,var(--c2) 12%,transparent);font-size:.92rem}
tr.open{color:var(--muted)}
.scroll{overflow-x:auto}
details{margin-top:1rem;font-size:.9rem}
details table{margin-top:.8rem}
summary{cursor:pointer;color:var(--muted)}
pre{margin:0;font:.85rem/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;white-space:pre-wrap;overflow-wrap:anywhere;unicode-bidi:isolate}
details pre{margin-top:.8rem}
.episodes{display:grid;gap:1.25rem}
article{border:1px solid var(--rule);border-radius:6px;padding:1rem 1.25rem}
article dl{display:grid;grid-template-columns:7.5rem 1fr;gap:0;margin:0}
article dt,article dd{margin:0;padding:.5rem 0}
article dt{color:var(--muted);font-size:.85rem;padding-right:1rem}
article dt small{display:block}
article .trained{border-left:3px solid var(--c0);background:color-mix(in srgb,var(--c0) 8%,transparent)}
article dt.trained{margin-left:-1.25rem;padding-left:calc(1.25rem - 3px);color:var(--ink)}
article dd.trained{border-left:0;margin-right:-1.25rem;padding-right:1.25rem}
.verdict,.none{margin:.25rem 0 0;font-size:.85rem}
.verdict{color:var(--muted)}
.verdict.pass{color:var(--ink);font-weight:600}
@media (max-width:46rem){body{padding:1.5rem 1rem 3rem}.wide{display:none}.narrow{display:block}.results caption{max-width:calc(100vw - 2rem)}.results tr{display:grid;grid-template-columns:repeat(4,1fr)}.results tr>th[scope=row]{grid-column:1/-1;border-bottom:0;padding:.5rem 0 0}.results tr>td{padding:.1rem 0 .45rem}.results thead td{display:none}.results th[scope=colgroup]{grid-column:span 2}.results td small{letter-spacing:-.02em}article dl{grid-template-columns:1fr}article dt{padding-bottom:0}article dd{padding-top:.1rem}article dt.trained{margin-right:-1.25rem}article dd.trained{margin-left:-1.25rem;padding-left:calc(1.25rem - 3px);border-left:3px solid var(--c0)}}
@media print{body{max-width:none;padding:0}section,article,figure{break-inside:avoid}}
`;
