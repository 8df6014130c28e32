/**
 * The sections of a run's page, each one function from the run to HTML; '' where the run has nothing to show in it.
 *
 * `suffix` keeps titles of charts apart where a page has several runs.
 */
import { escapeText, histogram } from '../charts.ts';
import { curvesSection, kindsFigure } from './curves.ts';
import type { ReportRun } from './data.ts';
import { examplesSection } from './examples.ts';
import { differenceText, plain, points, quantile } from './numbers.ts';
import type { Figure, Results } from './results.ts';
import { htmlTable, type Table } from './table.ts';
import {
  changesTable,
  classesTable,
  configTable,
  crossedTable,
  environmentTable,
  evaluationTablesOf,
  lengthsTable,
  ratesTable,
  reflectionsTable,
} from './tables.ts';

/** All of a run; `curves`: false where the page draws the curves of all runs together. */
export function runSections(run: ReportRun, { suffix = '', curves = true } = {}): string {
  const { results, warnings, rows, episodes } = run;
  return [
    results === null ? '' : headline(results),
    warningsBlock(warnings),
    reflectionsSection(run, suffix),
    results === null ? '' : resultsSection(results),
    classesSection(run),
    curves ? curvesSection([{ letter: '', rows }]) : '',
    examplesSection(episodes),
    configSection(run),
  ]
    .filter((part) => part !== '')
    .join('\n');
}

/** What is known of a run in a line. */
export function factsOf({ rows, results, config }: ReportRun): string[] {
  return [
    `${rows.length} steps`,
    ...(results === null ? ['not yet evaluated', ...configFacts(config)] : results.facts),
  ];
}

/** Seed and kernels, from the configuration of a run that was only trained. */
function configFacts({ train, kernels }: ReportRun['config']): string[] {
  const seed: unknown =
    typeof train === 'object' && train !== null && 'seed' in train ? train.seed : undefined;
  return [
    ...(typeof seed === 'number' ? [`seed ${seed}`] : []),
    ...(typeof kernels === 'string' ? [kernels] : []),
  ];
}

function headline({ figures, temperature }: Results): string {
  return `<dl class="figures">
${figures.map(keyFigure).join('\n')}
</dl>
<p class="caption">Shares of held-out problems solved${figures.some(({ from }) => from !== null) ? ', before → after training' : ''}, at temperature ${temperature} unless it says greedy. A second try counts a pass at the first.</p>`;
}

function keyFigure({ label, from, to, change }: Figure): string {
  const before = from === null ? '' : `<span class="from">${points(from)} →</span> `;
  const note = change === null ? '' : `<dd class="note">${differenceText(change)}</dd>`;
  return `<div><dt>${escapeText(label)}</dt><dd>${before}${points(to)}<small>%</small></dd>${note}</div>`;
}

function warningsBlock(warnings: readonly string[]): string {
  return warnings
    .map((warning) => `<p class="warning"><strong>Warning:</strong> ${escapeText(warning)}</p>`)
    .join('\n');
}

function reflectionsSection(run: ReportRun, suffix: string): string {
  const { results, rows } = run;
  const note = results?.reflections.note ?? '';
  return section('What it learned to write', [
    kindsFigure(rows, suffix),
    results === null ? '' : tablesOf([reflectionsTable(results)]),
    note === '' ? '' : `<p class="caption">${escapeText(note)}</p>`,
    lengthsFigure(run, suffix),
  ]);
}

/** The distribution before and after, as a picture and as quantiles. */
function lengthsFigure({ digest }: ReportRun, suffix: string): string {
  const table = lengthsTable(digest);
  if (table === null) return '';
  const sides = [digest.before, digest.after].map(({ lengths }, i) => ({
    name: `${i === 0 ? 'first' : 'last'} ${digest.steps} steps`,
    values: lengths,
  }));
  const medians = sides.map(({ values }) =>
    plain(
      quantile(
        values.toSorted((a, b) => a - b),
        0.5,
      ),
    ),
  );
  const text = {
    title: `Length of reflections, first and last steps${suffix}`,
    description: `The median goes from ${medians[0]} to ${medians[1]} tokens.`,
  };
  return `<div class="pair"><figure><h3>Length of reflections</h3>${histogram([sides[0]!, sides[1]!], text)}<figcaption>Share of reflections by their length in tokens, in training.</figcaption></figure>
${htmlTable(table)}</div>`;
}

function resultsSection(results: Results): string {
  const pair = tablesOf([changesTable(results), crossedTable(results)]);
  return section('What it can do, and against what', [
    htmlTable(ratesTable(results)),
    pair === '' ? '' : `<div class="pair">\n${pair}\n</div>`,
    tablesOf(evaluationTablesOf(results)),
  ]);
}

function classesSection({ digest }: ReportRun): string {
  return section('What the tries came to', [tablesOf([classesTable(digest)])]);
}

function configSection(run: ReportRun): string {
  const environment = environmentTable(run);
  return section('Configuration', [
    htmlTable(configTable(run)),
    `<details><summary>config.json</summary><pre>${escapeText(JSON.stringify(run.config, null, 2))}</pre></details>`,
    environment === null ? '' : `<h3 class="later">Environment</h3>\n${htmlTable(environment)}`,
  ]);
}

export function section(title: string, parts: readonly string[]): string {
  const held = parts.filter((part) => part !== '');
  return held.length === 0 ? '' : `<section>\n<h2>${escapeText(title)}</h2>\n${held.join('\n')}\n</section>`;
}

/** Those that have something to say. */
function tablesOf(tables: readonly (Table | null)[]): string {
  return tables
    .filter((table) => table !== null)
    .filter(({ rows }) => rows.length > 0)
    .map(htmlTable)
    .join('\n');
}
