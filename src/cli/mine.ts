/**
 * `r3 mine`: samples attempts with the start model and writes those that fail, the frozen starting points of
 * training ("Reflect, Retry, Reward", arXiv 2505.24726, section 4.3).
 */
import { existsSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { leftOutLines, mine, type Mined } from '../mine.ts';
import type { Command } from 'commander';
import { checkWritable, writeFileAtomic } from '../lib/files.ts';
import { stringifyRecord } from '../lib/jsonl.ts';
import { stoppable } from '../engine/stoppable.ts';
import type { Problem } from '../method/episode.ts';
import { makePlayer } from '../player.ts';
import { printJson, printLine, type Io } from './io.ts';
import {
  addEngineOptions,
  addExamples,
  addAttemptOptions,
  integer,
  seed,
  usageError,
  type EngineFlags,
  type PlayerFlags,
} from './options.ts';
import { addMiningOptions, miningOf, type MiningFlags } from './choice-options.ts';
import { cliProgress } from './watch.ts';
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
  withEngine,
} from './session.ts';
import { addTinkerOptions, openTinker, refuseForEngine, settleTinker, type TinkerFlags } from './tinker.ts';

interface Flags extends EngineFlags, PlayerFlags, MiningFlags, TinkerFlags {
  task: string;
  model: string;
  problems: string;
  out: string;
  limit?: number;
  prompts?: string;
  seed: number;
  json?: boolean;
}

export function define(command: Command, io: Io): void {
  command
    .description('Samples attempts at problems and writes the failed ones, which training starts from.')
    .addOption(taskOption())
    .requiredOption(
      '--model <dir>',
      'the start model: a folder in the Hugging Face layout, or the name of a downloaded model',
    )
    .requiredOption('--problems <file>', 'problems, .jsonl or .parquet')
    .requiredOption('--out <file>', 'where the failures go, .jsonl; an existing file is replaced')
    .addOption(integer('--limit <n>', 'use the first n problems (default: all)', { min: 1 }))
    .addOption(promptsOption())
    .addOption(seed('of sampling').default(1));
  addTinkerOptions(
    addEngineOptions(addAttemptOptions(addMiningOptions(command)), ['local', 'tinker']),
  ).option('--json', 'the counts as one line of JSON: {problems, attempts, passed, failures, leftOut, out}');
  addExamples(
    command,
    `
  r3 mine --task countdown --model DIR --problems train.parquet --samples 4 --out failures.jsonl
  r3 train --task countdown --model DIR --failures failures.jsonl`,
  );
  command.action(async (flags: Flags) => {
    refuseForEngine(command, flags.engine);
    await run(flags, io);
  });
}

async function run(flags: Flags, io: Io): Promise<void> {
  if (!flags.out.endsWith('.jsonl')) {
    throw usageError(`--out: expected a file that ends in .jsonl, got ${JSON.stringify(flags.out)}`);
  }
  if (!existsSync(dirname(flags.out))) {
    throw usageError(`--out: expected a file in a folder that exists, got ${JSON.stringify(flags.out)}`);
  }
  if (resolve(flags.out) === resolve(flags.problems)) {
    throw usageError(`--out: expected another file than the problems, got ${flags.out} for both`);
  }
  checkWritable(dirname(flags.out));
  const { task, prompts } = await findTask(flags.task, io.env, flags.prompts);
  const problems = await loadTaskProblems(task, flags.problems, flags.limit);
  const place = flags.engine === 'tinker' ? settleTinker(flags.model, flags, io.env) : undefined;
  const model = place?.texts ?? findModel(flags.model, io.env);
  const opening =
    place === undefined
      ? openEngine(io, { model, trainable: false, ...engineOptions(flags) })
      : openTinker(io, place);
  await withEngine(opening, async (engine) => {
    const options = playerOptions(flags, engine.capabilities().contextLength);
    const stopping = stoppable(engine, io.stopSignal(), `stopped; nothing was written to ${flags.out}`);
    const player = makePlayer(stopping, textFolder(model, io.env), task, prompts, options);
    const progress = cliProgress(io);
    let mined: Mined<Problem>;
    try {
      progress.phase('mine failures', problems.length);
      mined = await mine(player, problems, {
        ...miningOf(flags),
        seed: flags.seed,
        onProgress: (done, failures) => progress.update(done, { failures }),
      });
      for (const line of leftOutLines(mined)) progress.log(line);
    } finally {
      progress.end();
    }
    const { failures, attempts, passed } = mined;
    writeFileAtomic(flags.out, failures.map((failure) => `${stringifyRecord(failure)}\n`).join(''));
    const counts = {
      problems: problems.length,
      attempts,
      passed,
      failures: failures.length,
      leftOut: mined.leftOut.length,
      out: flags.out,
    };
    if (flags.json === true) printJson(io, counts);
    else {
      printLine(
        io,
        `${counts.failures} failures of ${attempts} attempts at ${counts.problems} problems (${passed} passed): ${flags.out}`,
      );
    }
  });
}
