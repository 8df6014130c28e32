/**
 * Evaluations as plain-text tables: the second try beside the controls that it must beat, with 95% intervals.
 */
import type { BeforeAfter, ChangeInterval, EvaluationSummary, WriterByReader } from '../method/controls.ts';
import type { Rate } from '../method/statistics.ts';
import {
  changeRows,
  costRows,
  forcedBeginningNote,
  rateRows,
  reflectionRows,
  summariesOf,
  type ReflectionChange,
} from '../runs/result-rows.ts';
import type { Table } from '../runs/evaluation-tables.ts';
import { printLine, type Io } from './io.ts';
import { renderMarkdown, renderTable, type Cell } from './table.ts';

/** Lines, then tables under their titles, as plain text or in Markdown. */
export function giveTables(
  lines: readonly string[],
  tables: readonly Table[],
  markdown: boolean,
  io: Io,
): void {
  for (const line of lines) printLine(io, markdown ? `${line}  ` : line);
  for (const { title, heads, rows } of tables) {
    printLine(io, `\n${markdown ? `### ${title}\n` : title}`);
    printLine(io, markdown ? renderMarkdown(heads, rows) : renderTable(heads, rows));
  }
}

export interface ResultColumn {
  head: string;
  summary: EvaluationSummary;
}

/** Percent of problems solved, with 95% intervals. Controls that no column has are left out. */
export function resultsTable(columns: readonly ResultColumn[]): string {
  const summaries = columns.map(({ summary }) => summary);
  const rows: Cell[][] = [
    ...rateRows(summaries).map(({ name, label }) => [
      label,
      ...summaries.map((summary) => rateText(summary[name])),
    ]),
    ...costRows(summaries).map(([label, values], i) => [i === 0 ? `  ${label}` : label, ...values]),
  ];
  return renderTable(['solved, %', ...columns.map(({ head }) => head)], rows);
}

/** Who gains by training, the writer of reflections or their reader. */
function writerTable({ startStart, startTrained, trainedStart, trainedTrained }: WriterByReader): string {
  return renderTable(
    ['retries solved, %', 'read by start', 'read by trained'],
    [
      ['written by start', rateText(startStart), rateText(startTrained)],
      ['written by trained', rateText(trainedStart), rateText(trainedTrained)],
    ],
  );
}

function changeTable(summary: BeforeAfter): string {
  return renderTable(
    ['points', 'difference', '95% interval'],
    changeRows(summary).map(([label, difference]) => [label, ...differenceTexts(difference)]),
  );
}

/** The tables of a measurement before and after training: what was solved, and what the reflections are like. */
export function giveBeforeAfter(summary: BeforeAfter, reflections: ReflectionChange, io: Io): void {
  const { n, temperature } = summary;
  const heads = ['before', 'after', 'greedy before', 'greedy after'];
  printLine(io, `${n} held-out problems, temperature ${temperature} and greedy, 95% intervals\n`);
  const columns = summariesOf(summary).map((column, i) => ({ head: heads[i] ?? '', summary: column }));
  printLine(io, `${resultsTable(columns)}\n`);
  printLine(io, `${changeTable(summary)}\n`);
  printLine(io, `${writerTable(summary.writerByReader)}\n`);
  const reflectionHeads = ['reflections on failed first tries', 'before', 'after'];
  printLine(io, `${renderTable(reflectionHeads, reflectionRows(reflections))}\n`);
  printLine(io, forcedBeginningNote(reflections));
}

function rateText({ rate, low, high, n }: Rate): string {
  return n === 0 ? '–' : `${points(rate)} (${points(low)}–${points(high)})`;
}

function differenceTexts({ diff, low, high }: ChangeInterval): [string, string] {
  return Number.isNaN(diff) ? ['–', '–'] : [signed(diff), `${signed(low)} to ${signed(high)}`];
}

function signed(share: number): string {
  return `${share > 0 ? '+' : ''}${points(share)}`;
}

function points(share: number): string {
  return (100 * share).toFixed(1);
}
