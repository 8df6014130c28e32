/**
 * The page of all experiments, made of their results: for each a table with a row per arm, means over runs and the
 * spread between them. Nothing is left out: an arm without a result is named.
 */
import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { EXPERIMENTS, type Arm, type Experiment } from './definitions.ts';
import { readResult, type ArmResult } from './result.ts';

const HEAD = `# Experiments

Made by \`npm run experiments -- NAME\` from the results in \`docs/experiments\`; do not edit. Percent of 2,000 held-out
problems that no setting was chosen on: the mean over runs, and the least and the greatest of them. A run is one
start model and one seed of training and sampling. *Second* is a pass at the first try or at the retry after the model's own
reflection; *over two* is how far it is above two independent attempts, *over none* above a retry without a reflection;
*writing* is what the trained model's reflections gain where the start model reads them, on the start model's failures.
Seconds of training were taken on a shared machine with other work on it: they order arms roughly, no more.
`;

/** Writes DIR/../experiments.md from the results in DIR. */
export function writePage(directory: string): void {
  writeFileSync(`${directory}.md`, renderPage(directory));
}

export function renderPage(directory: string): string {
  const results = resultsIn(directory);
  const sections = EXPERIMENTS.map((experiment) => {
    const names = new Set(experiment.arms.map(({ name }) => name));
    return renderExperiment(
      experiment,
      results.filter(({ arm }) => names.has(arm)),
    );
  }).filter((section) => section !== '');
  return [HEAD, ...sections].join('\n');
}

function resultsIn(directory: string): ArmResult[] {
  if (!existsSync(directory)) return [];
  return readdirSync(directory)
    .filter((file) => file.endsWith('.json'))
    .toSorted()
    .flatMap((file) => readResult(join(directory, file)) ?? []);
}

function renderExperiment({ title, question, arms }: Experiment, results: readonly ArmResult[]): string {
  if (results.length === 0) return '';
  const starts = [...new Set(arms.map(startOf))];
  const rows = starts.flatMap((start) => {
    const own = arms.filter((arm) => startOf(arm) === start);
    const runsOf = ({ name }: Arm): ArmResult[] => results.filter(({ arm }) => arm === name);
    return [
      ...startRows(own.flatMap(runsOf), starts.length === 1 ? '' : `, ${start}`),
      ...own.map((arm) => renderArm(arm.label, runsOf(arm))),
    ];
  });
  return `## ${title}

${question}

| arm | runs (warm-ups x seeds) | first | first, greedy | second | second, greedy | over two | over none | writing | KL | train, s |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
${rows.join('\n')}
${renderUntouched(arms, results)}`;
}

/** What arms have in common before training. */
function startOf({ start = 'rare', exhibit }: Arm): string {
  return exhibit === undefined ? start : `${start}, ${exhibit}`;
}

/** The start models before training: the same in every arm that begins from them, but for the seed of sampling. */
function startRows(results: readonly ArmResult[], which: string): string[] {
  if (results.length === 0) return [];
  const cells = [
    spread(results, ({ summary }) => summary.before.firstTry.rate),
    spread(results, ({ summary }) => summary.greedy.before.firstTry.rate),
    spread(results, ({ summary }) => summary.before.secondTry.rate),
    spread(results, ({ summary }) => summary.greedy.before.secondTry.rate),
    spread(results, ({ summary: { before } }) => before.secondTry.rate - before.twoIndependent.rate),
    spread(
      results,
      ({ summary: { before } }) => before.secondTry.rate - before.secondTryWithoutReflection.rate,
    ),
  ];
  return [`| *before training${which}* | | ${cells.join(' | ')} | | | |`];
}

/** What became of the task that was not trained, where an arm measures one. */
function renderUntouched(arms: Experiment['arms'], results: readonly ArmResult[]): string {
  const rows = arms.flatMap(({ name, label, untouched }) => {
    const runs = results.filter((run) => run.arm === name);
    if (untouched === undefined || runs.length === 0) return [];
    const cell = (value: (kept: NonNullable<ArmResult['untouched']>) => number): string =>
      spread(runs, (run) => (run.untouched === null ? Number.NaN : value(run.untouched)));
    return [
      `| ${label} | ${untouched} | ${cell(({ before }) => before.rate)} | ${cell(({ after }) => after.rate)} | ${cell(({ change }) => change.diff)} |`,
    ];
  });
  if (rows.length === 0) return '';
  return `
| arm | first tries at the other task | before | after | change |
| --- | --- | --- | --- | --- |
${rows.join('\n')}
`;
}

function renderArm(label: string, runs: readonly ArmResult[]): string {
  if (runs.length === 0) return `| ${label} | not run | | | | | | | | | |`;
  const warmUps = new Set(runs.map(({ warmUp }) => warmUp)).size;
  const seeds = new Set(runs.map(({ seed }) => seed)).size;
  const cells = [
    spread(runs, ({ summary }) => summary.after.firstTry.rate),
    spread(runs, ({ summary }) => summary.greedy.after.firstTry.rate),
    `**${spread(runs, ({ summary }) => summary.after.secondTry.rate)}**`,
    spread(runs, ({ summary }) => summary.greedy.after.secondTry.rate),
    spread(runs, ({ summary: { after } }) => after.secondTry.rate - after.twoIndependent.rate),
    spread(runs, ({ summary: { after } }) => after.secondTry.rate - after.secondTryWithoutReflection.rate),
    spread(runs, ({ summary }) => summary.change.writtenByTrained.diff),
    mean(runs.map(({ kl }) => kl)).toFixed(2),
    mean(runs.map(({ trainSeconds }) => trainSeconds)).toFixed(0),
  ];
  return `| ${label} | ${runs.length} (${warmUps} x ${seeds}) | ${cells.join(' | ')} |`;
}

/** `89.5 (88.1 to 90.3)` in percent; of one run its number alone. */
function spread(runs: readonly ArmResult[], value: (run: ArmResult) => number): string {
  const values = runs.map((run) => 100 * value(run));
  const text = mean(values).toFixed(1);
  if (values.length === 1) return text;
  return `${text} (${Math.min(...values).toFixed(1)} to ${Math.max(...values).toFixed(1)})`;
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
