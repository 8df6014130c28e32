/**
 * `r3 quickstart`: the whole method on a start model that comes with the package, from mining to the table.
 */
import type { Command } from 'commander';
import { EXHIBITS, type Exhibit, type ExhibitName } from '../exhibits.ts';
import { runQuickstart, type QuickstartResult } from '../quickstart.ts';
import { printJson, printLine, type Io } from './io.ts';
import { addExamples, choice, seed, threads } from './options.ts';
import { renderEpisode, reportEpisode } from './reading.ts';
import { writeRunReport } from './report-data.ts';
import { giveBeforeAfter } from './results.ts';
import { checkRunFolder, kernelBuild, nextRun } from './session.ts';
import { cliProgress, watchedStop } from './watch.ts';

interface Flags {
  task: ExhibitName;
  seed: number;
  shuffleRewards?: boolean;
  run?: string;
  threads?: number;
  json?: boolean;
}

export function define(command: Command, io: Io): void {
  command
    .description(
      'Trains a start model that comes with r3 to reflect on its failed attempts, measures it before and after beside the controls, and shows three episodes.',
    )
    .addOption(
      choice('--task <name>', 'what to show', Object.keys(EXHIBITS)).default(
        'countdown' satisfies ExhibitName,
      ),
    )
    .addOption(seed('of training and sampling; problems stay the same').default(1))
    .option(
      '--shuffle-rewards',
      'the control: rewards permuted within each group, so that nothing can be learned',
    )
    .option('--run <dir>', 'run folder to make (default: runs/quickstart-<next number>)')
    .addOption(threads())
    .option('--json', 'the summary as one line of JSON on stdout, and nothing else there');
  addExamples(
    command,
    `
  r3 quickstart
  r3 quickstart --seed 2 --json > summary.json
  r3 quickstart --task function-calling
  r3 quickstart --shuffle-rewards`,
  );
  command.action((flags: Flags) => quickstart(flags, io));
}

async function quickstart(flags: Flags, io: Io): Promise<void> {
  const exhibit: Exhibit = EXHIBITS[flags.task];
  const directory = flags.run ?? nextRun('quickstart');
  checkRunFolder(directory);
  const kernels = kernelBuild(io.env);
  const engine = {
    ...(kernels === undefined ? {} : { kernels }),
    ...(flags.threads === undefined ? {} : { threads: flags.threads }),
  };
  const progress = cliProgress(io);
  let result: QuickstartResult;
  try {
    result = await runQuickstart(
      {
        exhibit,
        seed: flags.seed,
        shuffleRewards: flags.shuffleRewards ?? false,
        runDirectory: directory,
        engine,
        signal: watchedStop(io, progress, 'stopping'),
      },
      progress,
    );
  } finally {
    progress.end();
  }
  const report = await writeRunReport(directory);
  for (const warning of result.warnings) io.note(`warning: ${warning}`);
  if (flags.json === true) {
    printJson(io, result.summary);
    return;
  }
  giveBeforeAfter(result.summary, result, io);
  const prompts = exhibit.task.prompts('short');
  for (const episode of result.episodes) {
    printLine(io, `\n${renderEpisode(reportEpisode(exhibit.task, prompts, episode))}`);
  }
  printLine(io, `\nrun     ${directory}`);
  printLine(io, `model   ${directory}/model`);
  printLine(io, `report  ${report}`);
}
