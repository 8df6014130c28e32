/**
 * `r3 eval`: first and second tries of a model on held-out problems, beside the controls, sampled and greedy.
 *
 * With --against both models are measured on the same problems with the same draws, and reflections by each are read
 * by each: that tells better writing from better reading. Ctrl-C ends the evaluation; nothing of it is kept.
 */
import type { Command } from 'commander';
import type { Engine } from '../engine/engine.ts';
import { stoppable } from '../engine/stoppable.ts';
import { klToStart, measure, measureTogether, profileOf, type Measured } from '../evaluate.ts';
import { beforeAfter, FIXED_TEXT, summarise } from '../method/controls.ts';
import type { Problem } from '../method/episode.ts';
import { hintWarnings, klWarnings } from '../method/metrics.ts';
import { makePlayer } from '../player.ts';
import { printJson, printLine, type Io } from './io.ts';
import {
  addEngineOptions,
  addExamples,
  addPlayerOptions,
  integer,
  seed,
  type EngineFlags,
  type PlayerFlags,
} from './options.ts';
import { giveBeforeAfter, resultsTable } from './results.ts';
import {
  engineOptions,
  findModel,
  findTask,
  loadTaskProblems,
  openEngine,
  playerOptions,
  promptsOption,
  taskOption,
  textFolder,
} from './session.ts';
import { cliProgress, watchedStop } from './watch.ts';

interface Flags extends EngineFlags, PlayerFlags {
  task: string;
  model: string;
  against?: string;
  problems: string;
  limit?: number;
  prompts?: string;
  fixedText: string;
  seed: number;
  json?: boolean;
}

export function define(command: Command, io: Io): void {
  command
    .description(
      'Measures first and second tries of a model on problems, beside the controls that say what a reflection is worth.',
    )
    .addOption(taskOption())
    .requiredOption(
      '--model <dir>',
      'the model to measure: a folder in the Hugging Face layout, or the name of a downloaded model',
    )
    .option('--against <dir>', 'the start model: adds before and after, and who gains, writer or reader')
    .requiredOption('--problems <file>', 'held-out problems, .jsonl or .parquet')
    .addOption(integer('--limit <n>', 'use the first n problems (default: all)', { min: 1 }))
    .addOption(promptsOption())
    .option('--fixed-text <text>', 'the text without content that stands in for a reflection', FIXED_TEXT)
    .addOption(seed('of sampling').default(1));
  addEngineOptions(addPlayerOptions(command)).option(
    '--json',
    'one line of JSON: summaries with rates and 95% intervals, as shares; with --against also reflections and warnings',
  );
  addExamples(
    command,
    `
  r3 eval --task countdown --model DIR --problems test.parquet --limit 500
  r3 eval --task countdown --model runs/countdown-001/model --against DIR --problems test.parquet --json`,
  );
  command.action((flags: Flags) => run(flags, io));
}

async function run(flags: Flags, io: Io): Promise<void> {
  const started = performance.now();
  const { task, prompts } = findTask(flags.task, flags.prompts);
  const problems = await loadTaskProblems(task, flags.problems, flags.limit);
  const progress = cliProgress(io);
  const engines: Engine[] = [];
  const signal = watchedStop(io, progress, 'stopping');
  const open = async (model: string): Promise<Engine> => {
    const engine = await openEngine(io, { model, trainable: false, ...engineOptions(flags) });
    engines.push(engine);
    return stoppable(engine, signal, 'stopped before everything was measured; nothing was kept');
  };
  const measured = async (named: string, name: string): Promise<Measured<Problem>> => {
    const model = findModel(named, io.env);
    const engine = await open(model);
    const options = playerOptions(flags, engine.capabilities().contextLength);
    return measure(
      name,
      (temperature) =>
        makePlayer(engine, textFolder(model, io.env), task, prompts, { ...options, temperature }),
      flags.temperature,
      problems,
      { seed: flags.seed, fixedText: flags.fixedText },
      progress,
    );
  };

  try {
    const after = await measured(flags.model, 'the model');
    if (flags.against === undefined) {
      progress.end();
      giveOne(flags, after, problems.length, io);
      return;
    }
    const before = await measured(flags.against, 'the start model');
    const { writerByReader, forcedBeginning } = await measureTogether(before, after, flags.seed, progress);
    const kl = await klToStart(after.sampled, before.sampled.player, progress);
    progress.end();
    const profile = { before: profileOf(before.sampled), after: profileOf(after.sampled) };
    const reflections = {
      profile,
      kl,
      forcedBeginning: before.sampled.player.tokenizer.decode(forcedBeginning),
    };
    const warnings = [
      ...klWarnings(kl),
      ...hintWarnings(profile.before.trueOfHints, profile.after.trueOfHints),
    ];
    const summary = beforeAfter({
      seed: flags.seed,
      wallSeconds: Math.round((performance.now() - started) / 100) / 10,
      kernels: after.sampled.player.engine.capabilities().description,
      temperature: flags.temperature,
      before: before.sampled.rows,
      after: after.sampled.rows,
      greedy: { before: before.greedy.rows, after: after.greedy.rows },
      writerByReader,
    });
    for (const warning of warnings) io.note(`warning: ${warning}`);
    if (flags.json === true) printJson(io, { ...summary, reflections, warnings });
    else giveBeforeAfter(summary, reflections, io);
  } finally {
    progress.end();
    for (const engine of engines) await engine.close();
  }
}

function giveOne(flags: Flags, { sampled, greedy }: Measured<Problem>, n: number, io: Io): void {
  const result = {
    n,
    temperature: flags.temperature,
    sampled: summarise(sampled.rows),
    greedy: summarise(greedy.rows),
  };
  if (flags.json === true) {
    printJson(io, result);
    return;
  }
  printLine(io, `${n} problems, 95% intervals`);
  const columns = [
    { head: `temperature ${flags.temperature}`, summary: result.sampled },
    { head: 'greedy', summary: result.greedy },
  ];
  printLine(io, resultsTable(columns));
}
