/**
 * `r3 sft`: supervised training on conversations (`method/conversation.ts` has the format of a row).
 *
 * A folder without weights is initialised from --init-seed. Nothing is written before the end, or before Ctrl-C, which
 * stops after the step under way and saves the model so far.
 */
import { existsSync } from 'node:fs';
import { basename, dirname } from 'node:path';
import type { Command } from 'commander';
import { findWeights } from '../engine/local/weights-files.ts';
import { R3Error } from '../lib/errors.ts';
import { checkWritable } from '../lib/files.ts';
import { makeRng } from '../lib/rng.ts';
import { parseConversationRow } from '../method/conversation.ts';
import { checkRows, sft, type PlacedRow, type SftReport } from '../sft.ts';
import { placeOf, readRows } from '../tasks/rows.ts';
import { loadChatFormat } from '../text/chat.ts';
import { loadTokenizer } from '../text/tokenizer.ts';
import { INTERRUPTED, printJson, printLine, type Io } from './io.ts';
import {
  addEngineOptions,
  addExamples,
  addLoraOptions,
  addOptimizerOptions,
  choice,
  givenOptions,
  integer,
  optimizerOf,
  real,
  repeated,
  usageError,
  type EngineFlags,
  type LoraFlags,
  type OptimizerFlags,
} from './options.ts';
import {
  engineOptions,
  findModel,
  loraOptions,
  modelConfig,
  openEngine,
  textFolder,
  withEngine,
} from './session.ts';
import { cliProgress, watchedStop } from './watch.ts';

/** Which of the seed's streams orders rows. */
const ORDER_STREAM = 0x5f7;

const OPTIMIZER = {
  learningRate: 1e-4,
  schedule: { kind: 'cosine', warmupSteps: 0, flatSteps: 0, floor: 0 },
  adam: { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0, maxGradNorm: 1 },
} as const;

interface Flags extends EngineFlags, LoraFlags, OptimizerFlags {
  model: string;
  data: string[];
  out: string;
  initSeed?: number;
  steps?: number;
  epochs: number;
  batchSize: number;
  lossDenominator?: number;
  seed?: number;
  saveAs: 'F32' | 'BF16';
  json?: boolean;
}

export function define(command: Command, io: Io): void {
  command
    .description('Trains a model on conversations: cross-entropy on what the assistant wrote.')
    .requiredOption('--model <dir>', 'the model to begin with, or with --init-seed a folder without weights')
    .addOption(
      repeated(
        '--data <file...>',
        'conversations, .jsonl or .parquet: {"messages": [...]} in each row; files are joined in order',
      ).makeOptionMandatory(),
    )
    .requiredOption('--out <dir>', 'where the trained model goes; must not exist')
    .addOption(
      integer('--init-seed <n>', 'initialise a folder without weights from this seed', {
        min: 0,
        max: 2 ** 32 - 1,
      }),
    )
    .addOption(integer('--steps <n>', 'optimizer steps (default: from --epochs)', { min: 1 }))
    .addOption(integer('--epochs <n>', 'passes over the data', { min: 1 }).default(1))
    .addOption(integer('--batch-size <n>', 'rows of each step', { min: 1 }).default(32));
  addOptimizerOptions(command, OPTIMIZER)
    .addOption(
      real(
        '--loss-denominator <x>',
        "what a batch's summed loss is divided by (default: its trained tokens)",
        { above: 0 },
      ),
    )
    .addOption(
      integer('--seed <n>', 'shuffle rows, each epoch anew (default: in the order of the files)', {
        min: 0,
        max: 2 ** 32 - 1,
      }),
    )
    .addOption(choice('--save-as <type>', 'how weights are stored', ['F32', 'BF16']).default('F32'));
  addEngineOptions(addLoraOptions(command)).option(
    '--json',
    'the last numbers as one line of JSON: {steps, nll, out}',
  );
  addExamples(
    command,
    `
  r3 sft --model DIR --data train.jsonl --epochs 2 --learning-rate 2e-5 --out tuned
  r3 sft --model config-only --init-seed 1 --data a.jsonl b.jsonl --steps 2000 --out start`,
  );
  command.action((flags: Flags) => {
    if (flags.lora !== undefined && givenOptions(command).includes('--save-as')) {
      throw usageError('--save-as: expected training of all weights, got --lora, whose values stay F32');
    }
    return run(flags, io);
  });
}

async function run(flags: Flags, io: Io): Promise<void> {
  const model = findModel(flags.model, io.env);
  const weights = findWeights(model) ?? findWeights(model, 'adapter_model');
  if (flags.initSeed !== undefined && weights !== undefined) {
    throw usageError(
      `--init-seed: expected a folder without weights, got ${flags.model}, which holds ${basename(weights)}`,
    );
  }
  if (existsSync(flags.out)) {
    throw new R3Error(
      'store',
      'bad-file',
      `${flags.out}: expected a path that does not exist, got one that does; choose another --out`,
    );
  }
  checkWritable(dirname(flags.out));
  const tokenizer = loadTokenizer(textFolder(model, io.env));
  const format = loadChatFormat(textFolder(model, io.env), tokenizer);
  const rows = await loadRows(flags.data);
  checkRows(format, tokenizer, rows, modelConfig(model, io.env, flags.context).contextLength);
  const { batchSize, initSeed, saveAs } = flags;
  const steps = flags.steps ?? Math.ceil((flags.epochs * rows.length) / batchSize);
  const opening = openEngine(io, {
    model,
    saveAs,
    ...(initSeed === undefined ? {} : { initSeed }),
    ...engineOptions(flags),
    ...loraOptions(flags),
  });
  await withEngine(opening, async (engine) => {
    const progress = cliProgress(io);
    const signal = watchedStop(io, progress, 'stopping after this step');
    let nll = Number.NaN;
    let done: number;
    try {
      progress.phase('train', steps);
      const options = {
        batchSize,
        steps,
        ...optimizerOf(flags, steps),
        lossDenominator: flags.lossDenominator,
      };
      const passes = flags.steps === undefined ? flags.epochs : Number.POSITIVE_INFINITY;
      const ordered = inOrder(rows, passes, flags.seed);
      const onStep = (report: SftReport): void => {
        nll = report.nll;
        progress.update(report.step + 1, { nll, 'gradient norm': report.gradientNorm });
      };
      done = await sft(engine, format, tokenizer, ordered, options, onStep, signal);
    } finally {
      progress.end();
    }
    const stopped = signal.aborted && done < steps;
    if (stopped && done === 0) {
      throw new R3Error('config', 'cancelled', 'stopped before the first step; nothing was written');
    }
    await engine.save(flags.out);
    if (stopped) {
      io.note(`stopped at step ${done} of ${steps}; the model so far is in ${flags.out}`);
      io.exitCode = INTERRUPTED;
    }
    if (flags.json === true) printJson(io, { steps: done, nll, out: flags.out });
    else printLine(io, flags.out);
  });
}

async function loadRows(paths: readonly string[]): Promise<PlacedRow[]> {
  const rows: PlacedRow[] = [];
  for (const path of paths) {
    for await (const { row, line } of readRows(path)) {
      const where = placeOf(path, line);
      rows.push({ row: parseConversationRow(row, where), where });
    }
  }
  return rows;
}

function* inOrder(
  rows: readonly PlacedRow[],
  passes: number,
  seed: number | undefined,
): Generator<PlacedRow> {
  for (let pass = 0; pass < passes; pass++) {
    if (seed === undefined) yield* rows;
    else yield* makeRng(seed, ORDER_STREAM + pass).shuffle([...rows]);
  }
}
