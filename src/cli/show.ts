/**
 * `r3 show`: a run at a glance, also while it is trained: where it stands, the last numbers, episodes to read.
 */
import type { Command } from 'commander';
import { readRun } from '../runs/run.ts';
import { printJson, printLine, type Io } from './io.ts';
import { addExamples, integer, usageError } from './options.ts';
import { formatNumber } from './progress.ts';
import {
  chooseEpisodes,
  episodesOfRun,
  renderEpisode,
  reportEpisode,
  taskOfRun,
  warningsOfRun,
} from './reading.ts';
import { renderTable } from './table.ts';

/** Steps that the last numbers are compared with. */
const COMPARED_STEPS = 10;

interface Flags {
  step?: number;
  group?: string;
  count?: number;
  json?: boolean;
}

export function define(command: Command, io: Io): void {
  command
    .description("Shows a run's latest numbers and some of its episodes: attempt, reflection, retry.")
    .argument('<run>', 'run folder')
    .addOption(integer('--step <n>', 'episodes and numbers of this step (default: the latest)', { min: 0 }))
    .option(
      '--group <id>',
      "all reflections on one failure, by the failure's id (default: the latest that helped)",
    )
    .addOption(integer('--count <n>', 'how many episodes (default: 3, of a group all)', { min: 1 }))
    .option('--json', 'one line of JSON: {directory, steps, metrics, warnings, episodes}');
  addExamples(
    command,
    `
  r3 show runs/countdown-001
  r3 show runs/countdown-001 --step 40 --count 10
  r3 show runs/countdown-001 --group 44-19-35-to-98#0
  r3 show runs/countdown-001 --json | jq .metrics.reward`,
  );
  command.action((directory: string, flags: Flags) => show(directory, flags, io));
}

async function show(directory: string, flags: Flags, io: Io): Promise<void> {
  const { step, group, count, json } = flags;
  const run = readRun(directory);
  const { task, prompts } = await taskOfRun(run.config, directory);
  const metrics =
    (step === undefined ? run.metrics.at(-1) : run.metrics.find((row) => row.step === step)) ?? null;
  if (step !== undefined && metrics === null) {
    throw usageError(
      `--step: expected a step that ${directory} has (0 to ${run.metrics.length - 1}), got ${step}`,
    );
  }
  const filtered = step !== undefined || group !== undefined || count !== undefined;
  const episodes = filtered ? chooseEpisodes(run.episodes(), { step, group, count }) : episodesOfRun(run);
  if (group !== undefined && episodes.length === 0) {
    throw usageError(
      `--group: expected the id of a failure that was trained on, got ${JSON.stringify(group)}`,
    );
  }
  if (json === true) {
    printJson(io, { directory, steps: run.metrics.length, metrics, warnings: warningsOfRun(run), episodes });
    return;
  }
  printLine(io, `${directory}: ${task.name}, ${run.metrics.length} steps`);
  if (metrics !== null) {
    const before = run.metrics.slice(0, COMPARED_STEPS);
    const rows = Object.entries(metrics).flatMap(([name, value]) => {
      if (name === 'step' || typeof value !== 'number') return [];
      return [[name, formatNumber(value), meanOf(before.map((row) => row[name]))]];
    });
    printLine(io, '');
    printLine(io, renderTable(['', `step ${metrics.step}`, `mean of the first ${before.length}`], rows));
  }
  for (const warning of warningsOfRun(run)) printLine(io, `\nwarning: ${warning}`);
  for (const episode of episodes) {
    printLine(io, '');
    printLine(io, renderEpisode(reportEpisode(task, prompts, episode)));
  }
}

function meanOf(values: readonly unknown[]): string {
  const numbers = values.filter((value) => typeof value === 'number');
  return numbers.length === 0
    ? '–'
    : formatNumber(numbers.reduce((sum, value) => sum + value, 0) / numbers.length);
}
