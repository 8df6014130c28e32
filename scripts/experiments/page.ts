/**
 * The page of all experiments, made of their results: for each a table with a row per arm, means over runs and the
 * spread between them. Nothing is left out: an arm without a result is named.
 */
import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { EXPERIMENTS, type Arm, type Experiment } from './definitions.ts';
import { mean, type Rate } from '../../src/method/statistics.ts';
import { readResult, type ArmResult } from './result.ts';

const HEAD = `# Experiments

Made by \`npm run experiments -- NAME\` from the results in \`docs/experiments\`; do not edit. Percent of 2,000 held-out
problems that no setting was chosen on: the mean over runs, and the least and the greatest of them. A run is one
start model and one seed of training and sampling. *Second* is a pass at the first try or at the retry after the model's own
reflection; *over two* is how far it is above two independent attempts, *over equal* above as many as cost the same tokens,
*over none* above a retry without a reflection; *writing* is what the trained model's reflections gain where the start model reads them, on the start model's failures.
Some runs of seed 1 were measured when equal tokens were rounded to the nearest attempt: they do not count in *over equal*.
*KL* is that to the start model in training, nats per token on the tokens that an arm trains, over the last ten steps; a loss
without the term does not measure it.
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
  });
  return [HEAD, ...sections].join('\n');
}

function resultsIn(directory: string): ArmResult[] {
  if (!existsSync(directory)) return [];
  return readdirSync(directory)
    .filter((file) => file.endsWith('.json'))
    .toSorted()
    .flatMap((file) => readResult(join(directory, file)) ?? []);
}

function renderExperiment(
  { title, question, arms, showsControls }: Experiment,
  results: readonly ArmResult[],
): string {
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

| arm | runs (warm-ups x seeds) | first | first, greedy | second | second, greedy | over two | over equal | over none | writing | KL | train, s |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
${rows.join('\n')}
${showsControls === true ? renderControls(arms, results) : ''}${renderUntouched(arms, results)}`;
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
    spread(results, (run) => overEqualTokens(run, 'before')),
    spread(
      results,
      ({ summary: { before } }) => before.secondTry.rate - before.secondTryWithoutReflection.rate,
    ),
  ];
  return [`| *before training${which}* | | ${cells.join(' | ')} | | | |`];
}

type Rates = ArmResult['summary']['before'];
type Interval = ArmResult['summary']['change']['secondTry'];

/** A second try at the end of each of these, beside the own reflection's. */
const CONTROLS: readonly { label: string; rate: (rates: Rates, empty: Rate | undefined) => number }[] = [
  { label: 'own reflection', rate: ({ secondTry }) => secondTry.rate },
  { label: 'no reflection', rate: ({ secondTryWithoutReflection }) => secondTryWithoutReflection.rate },
  { label: 'empty reflection', rate: (_, empty) => empty?.rate ?? Number.NaN },
  { label: 'a fixed text', rate: ({ afterFixedText }) => afterFixedText.rate },
  {
    label: "another problem's reflection",
    rate: ({ afterForeignReflection }) => afterForeignReflection.rate,
  },
  { label: 'two independent attempts', rate: ({ twoIndependent }) => twoIndependent.rate },
  {
    label: 'independent attempts, equal tokens',
    rate: ({ independentAtEqualTokens }) => independentAtEqualTokens.rate,
  },
];

/** Second tries with what may stand in a reflection's place, and writer by reader: each arm before and after training. */
function renderControls(arms: readonly Arm[], results: readonly ArmResult[]): string {
  return arms
    .map(({ name, label }) => ({ label, runs: results.filter((run) => run.arm === name) }))
    .filter(({ runs }) => runs.length > 0)
    .map(({ label, runs }) => {
      const controls = CONTROLS.map(({ label: control, rate }) => {
        const at = (when: 'before' | 'after'): string =>
          spread(runs, (run) => rate(run.summary[when], run.afterEmptyReflection?.[when]));
        return `| ${control} | ${at('before')} | ${at('after')} |`;
      });
      const read = (reading: keyof ArmResult['summary']['writerByReader']): string =>
        spread(runs, ({ summary }) => summary.writerByReader[reading].rate);
      const above = (interval: (change: ArmResult['summary']['change']) => Interval): string =>
        `${runs.filter(({ summary }) => interval(summary.change).low > 0).length} of ${runs.length}`;
      return `
${label[0]?.toUpperCase()}${label.slice(1)}: all second tries.

| second try after | before training | after |
| --- | --- | --- |
${controls.join('\n')}

On the failures of the start model, retries that pass.

| reflections | read by the start model | read by the trained model |
| --- | --- | --- |
| written by the start model | ${read('startStart')} | ${read('startTrained')} |
| written by the trained model | ${read('trainedStart')} | ${read('trainedTrained')} |

Runs whose own 95% interval is above zero: change of the second try ${above(({ secondTry }) => secondTry)}, greedy ${above(({ greedySecondTry }) => greedySecondTry)}, of
the first try ${above(({ firstTry }) => firstTry)}; over two independent attempts ${above(({ overTwoIndependent }) => overTwoIndependent)}; written by the trained model ${above(({ writtenByTrained }) => writtenByTrained)}. As many
independent attempts as cost the same tokens: ${spreadOf(runs.map((run) => run.attemptsAtEqualTokens?.after ?? Number.NaN))} after training.
`;
    })
    .join('');
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
  if (runs.length === 0) return `| ${label} | not run | | | | | | | | | | |`;
  const warmUps = new Set(runs.map(({ warmUp }) => warmUp)).size;
  const seeds = new Set(runs.map(({ seed }) => seed)).size;
  const cells = [
    spread(runs, ({ summary }) => summary.after.firstTry.rate),
    spread(runs, ({ summary }) => summary.greedy.after.firstTry.rate),
    `**${spread(runs, ({ summary }) => summary.after.secondTry.rate)}**`,
    spread(runs, ({ summary }) => summary.greedy.after.secondTry.rate),
    spread(runs, ({ summary: { after } }) => after.secondTry.rate - after.twoIndependent.rate),
    spread(runs, (run) => overEqualTokens(run, 'after')),
    spread(runs, ({ summary: { after } }) => after.secondTry.rate - after.secondTryWithoutReflection.rate),
    spread(runs, ({ summary }) => summary.change.writtenByTrained.diff),
    klOf(runs),
    mean(runs.map(({ trainSeconds }) => trainSeconds)).toFixed(0),
  ];
  const balanced = runs.length === warmUps * seeds;
  return `| ${label} | ${balanced ? '' : `${runs.length} of `}${warmUps} x ${seeds} | ${cells.join(' | ')} |`;
}

function klOf(runs: readonly ArmResult[]): string {
  const known = runs.flatMap(({ kl }) => (kl === null || Number.isNaN(kl) ? [] : [kl]));
  return known.length === 0 ? '–' : mean(known).toFixed(2);
}

/** NaN where the rate of attempts at equal tokens is not known. */
function overEqualTokens({ summary, attemptsAtEqualTokens }: ArmResult, when: 'before' | 'after'): number {
  const { secondTry, independentAtEqualTokens: equal } = summary[when];
  return attemptsAtEqualTokens === null ? Number.NaN : secondTry.rate - equal.rate;
}

/** `89.5 (88.1 to 90.3)` in percent; of one run its number alone. */
function spread(runs: readonly ArmResult[], value: (run: ArmResult) => number): string {
  return spreadOf(runs.map((run) => 100 * value(run)));
}

/** Of what is known. */
function spreadOf(all: readonly number[]): string {
  const values = all.filter((value) => !Number.isNaN(value));
  if (values.length === 0) return '–';
  const text = mean(values).toFixed(1);
  if (values.length === 1) return text;
  return `${text} (${Math.min(...values).toFixed(1)} to ${Math.max(...values).toFixed(1)})`;
}
