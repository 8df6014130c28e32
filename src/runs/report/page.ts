/**
 * The report as one self-contained HTML page about one run or several. Pure: values in, text out.
 *
 * What was measured, with intervals and controls; what the model learned to write; curves; error classes; episodes to
 * read; configuration and environment. With several runs: a table of them side by side, the options in which they
 * differ, every curve with a line for each, then each run behind a fold. No script, no network, no other file; light
 * and dark; readable without seeing the charts. Whatever a model wrote is escaped.
 */
import { colourStyle, escapeText } from '../charts.ts';
import { differencesTable, runLetter, runNamesTable, sideBySideTable } from './compare.ts';
import { curvesSection } from './curves.ts';
import type { ReportRun } from './data.ts';
import { factsOf, runSections, section } from './sections.ts';
import { STYLE } from './style.ts';
import { htmlTable } from './table.ts';

/** The whole page. `runs`: at least one. */
export function renderReport(runs: readonly ReportRun[]): string {
  const [first] = runs;
  if (first === undefined) return '';
  return runs.length === 1
    ? page(first.name, factsOf(first), runSections(first))
    : page(
        `${runs.length} runs`,
        runs.map(({ name }) => name),
        comparison(runs),
      );
}

function comparison(runs: readonly ReportRun[]): string {
  const differences = differencesTable(runs);
  const warned = runs.flatMap(({ warnings }, i) =>
    warnings.map(
      (warning) => `<p class="warning"><strong>Warning, ${runLetter(i)}:</strong> ${escapeText(warning)}</p>`,
    ),
  );
  const each = runs.map((run, i) => {
    const letter = runLetter(i);
    const inner = runSections({ ...run, warnings: [] }, { suffix: `, run ${letter}`, curves: false });
    return `<details class="run"><summary>${letter}: ${escapeText(run.name)}</summary>
<p class="facts">${factsOf(run).map(escapeText).join(' · ')}</p>
${inner}
</details>`;
  });
  return [
    section('The runs side by side', [
      htmlTable(runNamesTable(runs)),
      htmlTable(sideBySideTable(runs)),
      ...warned,
    ]),
    differences === null ? '' : section('What differs', [htmlTable(differences)]),
    curvesSection(runs.map(({ rows }, i) => ({ letter: runLetter(i), rows }))),
    section('Each run', each),
  ]
    .filter((part) => part !== '')
    .join('\n');
}

function page(title: string, facts: readonly string[], body: string): string {
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width,initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none';style-src 'unsafe-inline'">
<title>${escapeText(title)} · Reflect, Retry, Reward</title>
<style>${colourStyle(':root')}${STYLE}</style>
</head>
<body>
<header>
<p class="over">Reflect, Retry, Reward</p>
<h1>${escapeText(title)}</h1>
<p class="facts">${facts.map(escapeText).join(' · ')}</p>
</header>
<main>
${body}
</main>
</body>
</html>
`;
}
