/**
 * Evaluations as plain-text tables: the second try beside the controls that it must beat, with 95% intervals.
 */
import type { EvaluationSummary, QuickstartSummary, WriterByReader } from '../method/controls.ts';
import type { Difference, Rate } from '../method/statistics.ts';
import { printLine, type Io } from './io.ts';
import { renderTable, type Cell } from './table.ts';

export interface ResultColumn {
  head: string;
  summary: EvaluationSummary;
}

type RateName = {
  [Name in keyof EvaluationSummary]: EvaluationSummary[Name] extends Rate ? Name : never;
}[keyof EvaluationSummary];

const ROWS: readonly (readonly [RateName, string])[] = [
  ['firstTry', 'first try'],
  ['secondTry', 'second try, after its own reflection'],
  ['secondTryWithoutReflection', 'second try, no reflection'],
  ['afterFixedText', 'second try, after a fixed text'],
  ['afterForeignReflection', "second try, after another problem's reflection"],
  ['afterForcedBeginning', 'second try, reflection with a forced beginning'],
  ['twoIndependent', 'two independent tries'],
  ['independentAtEqualTokens', 'independent tries at equal tokens'],
];

/** Percent of problems solved, with 95% intervals. Controls that no column has are left out. */
export function resultsTable(columns: readonly ResultColumn[]): string {
  const rows: Cell[][] = ROWS.filter(([name]) => columns.some(({ summary }) => summary[name].n > 0)).map(
    ([name, label]) => [label, ...columns.map(({ summary }) => rateText(summary[name]))],
  );
  rows.push(
    ['  how many tries those are', ...columns.map(({ summary }) => String(summary.attemptsAtEqualTokens))],
    ['tokens of a first try', ...columns.map(({ summary }) => meanText(summary.meanTokens.attempt))],
    ['tokens of both tries', ...columns.map(({ summary }) => meanText(summary.meanTokens.twoTries))],
  );
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

/** The differences that a quick start is about. */
function changeTable({ change }: QuickstartSummary): string {
  const rows: [string, Difference][] = [
    ['second try, after minus before training', change.secondTry],
    ['the same, greedy', change.greedySecondTry],
    ['first try, after minus before', change.firstTry],
    ['retry, written by trained minus by start, read by start', change.writtenByTrained],
    ['second try minus two independent tries, after', change.overTwoIndependent],
    ['second try minus after a fixed text, after', change.overFixedText],
  ];
  return renderTable(
    ['points', 'difference', '95% interval'],
    rows.map(([label, difference]) => [label, ...differenceTexts(difference)]),
  );
}

/** The tables of a measurement before and after training. */
export function giveSummary(summary: QuickstartSummary, io: Io): void {
  const { n, temperature, before, after, greedy } = summary;
  printLine(io, `${n} held-out problems, temperature ${temperature} and greedy, 95% intervals\n`);
  const columns = [
    { head: 'before', summary: before },
    { head: 'after', summary: after },
    { head: 'greedy before', summary: greedy.before },
    { head: 'greedy after', summary: greedy.after },
  ];
  printLine(io, `${resultsTable(columns)}\n`);
  printLine(io, `${changeTable(summary)}\n`);
  printLine(io, writerTable(summary.writerByReader));
}

function rateText({ rate, low, high, n }: Rate): string {
  return n === 0 ? '–' : `${points(rate)} (${points(low)}–${points(high)})`;
}

function differenceTexts({ diff, low, high, n }: Difference): [string, string] {
  return n === 0 ? ['–', '–'] : [signed(diff), `${signed(low)} to ${signed(high)}`];
}

function signed(share: number): string {
  return `${share > 0 ? '+' : ''}${points(share)}`;
}

function points(share: number): string {
  return (100 * share).toFixed(1);
}

function meanText(tokens: number): string {
  return Number.isFinite(tokens) ? tokens.toFixed(1) : '–';
}
