/**
 * The report as Markdown: the tables of the page, for a pull request, an issue or a log.
 *
 * The curves are left to the page; of the examples it has none. Texts are escaped, so that nothing that a model or a
 * configuration holds becomes a mark.
 */
import { differencesTable, runLetter, runNamesTable, sideBySideTable } from './compare.ts';
import type { ReportRun } from './data.ts';
import { differenceText, points } from './numbers.ts';
import { factsOf } from './sections.ts';
import { markdownTable, markdownText, type Table } from './table.ts';
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

/** `runs`: at least one. Ends in a newline. */
export function renderMarkdown(runs: readonly ReportRun[]): string {
  const [first] = runs;
  if (first === undefined) return '';
  const blocks =
    runs.length === 1
      ? [`# ${markdownText(first.name)}`, ...runBlocks(first, 2)]
      : [
          `# ${runs.length} runs`,
          ...blocksOf([runNamesTable(runs), sideBySideTable(runs), differencesTable(runs)]),
          ...runs.flatMap((run, i) => [
            `## ${runLetter(i)}: ${markdownText(run.name)}`,
            ...runBlocks(run, 3),
          ]),
        ];
  return `${blocks.join('\n\n')}\n`;
}

function runBlocks(run: ReportRun, level: number): string[] {
  const { results, digest, warnings } = run;
  const headed = (title: string, tables: readonly (Table | null)[]): string[] => {
    const blocks = blocksOf(tables);
    return blocks.length === 0 ? [] : [`${'#'.repeat(level)} ${title}`, ...blocks];
  };
  const figures = (results?.figures ?? []).map(({ label, from, to, change }) => {
    const rates = from === null ? `${points(to)}%` : `${points(from)} → ${points(to)}%`;
    return `- ${markdownText(label)}: ${rates}${change === null ? '' : ` (${differenceText(change)})`}`;
  });
  return [
    markdownText(factsOf(run).join(' · ')),
    ...(figures.length === 0 ? [] : [figures.join('\n')]),
    ...warnings.map((warning) => `**Warning:** ${markdownText(warning)}`),
    ...headed(
      'What it can do, and against what',
      results === null
        ? []
        : [ratesTable(results), changesTable(results), crossedTable(results), ...evaluationTablesOf(results)],
    ),
    ...headed('What it learned to write', [
      results === null ? null : reflectionsTable(results),
      lengthsTable(digest),
    ]),
    ...headed('What the tries came to', [classesTable(digest)]),
    ...headed('Configuration', [configTable(run), environmentTable(run)]),
  ];
}

function blocksOf(tables: readonly (Table | null)[]): string[] {
  return tables.flatMap((table) => (table === null || table.rows.length === 0 ? [] : [markdownTable(table)]));
}
