/**
 * `r3 score`: what a model thinks of token sequences, for people who compare engines.
 *
 * Log-probabilities are natural, at temperature 1, of each token given those before it; the first has none.
 */
import type { Command } from 'commander';
import type { Datum, Engine } from '../engine/engine.ts';
import { crossEntropyLoss } from '../method/loss.ts';
import { printJson, printLine, type Io } from './io.ts';
import {
  addEngineOptions,
  addExamples,
  addLoraOptions,
  type EngineFlags,
  type LoraFlags,
} from './options.ts';
import { engineOptions, findModel, loraOptions, openEngine, withEngine } from './session.ts';
import { renderTable } from './table.ts';
import { loadTokenRows } from './tokens-file.ts';

/** Sequences in one pass of the engine, which shares what their beginnings have in common. */
const BATCH = 64;

interface Flags extends EngineFlags, LoraFlags {
  tokens: string;
  gradients?: boolean;
  json?: boolean;
}

interface Scored {
  logprobs: (number | null)[];
  /** Mean over the tokens after the first, in nats; null where there are none. */
  loss?: number | null;
  gradientNorms?: Record<string, number> | null;
}

export function define(command: Command, io: Io): void {
  command
    .description(
      'Log-probabilities of token sequences under a model, in nats, and gradient norms of their loss.',
    )
    .argument('<model>', 'model folder in the Hugging Face layout, or the name of a downloaded model')
    .requiredOption('--tokens <file>', 'sequences: .jsonl with {"tokens": [...]} on each line')
    .option(
      '--gradients',
      "add each line's loss (mean over its tokens after the first) and the norm of its gradient by every parameter",
    );
  addEngineOptions(addLoraOptions(command)).option(
    '--json',
    'one line of JSON for each sequence: {logprobs: [null, ...]}, with --gradients also {loss, gradientNorms}',
  );
  addExamples(
    command,
    `
  r3 score DIR --tokens rows.jsonl
  r3 score DIR --tokens rows.jsonl --gradients --json > scores.jsonl`,
  );
  command.action((model: string, flags: Flags) => score(model, flags, io));
}

async function score(named: string, flags: Flags, io: Io): Promise<void> {
  const model = findModel(named, io.env);
  const rows = await loadTokenRows(flags.tokens, model, flags.context);
  const gradients = flags.gradients === true;
  const opening = openEngine(io, {
    model,
    trainable: gradients,
    ...engineOptions(flags),
    ...loraOptions(flags),
  });
  await withEngine(opening, async (engine) => {
    const table: (string | number)[][] = [];
    const give = (scored: Scored): void => {
      if (flags.json === true) printJson(io, scored);
      else table.push(summaryOf(scored, table.length + 1));
    };
    const datums = rows.map((tokens) => datumOf(tokens));
    if (gradients) for (const datum of datums) give(await withGradients(engine, datum));
    else {
      for (let from = 0; from < datums.length; from += BATCH) {
        const scored = await engine.logprobs(datums.slice(from, from + BATCH));
        for (const values of scored) give({ logprobs: [null, ...values] });
      }
    }
    if (flags.json !== true) {
      printLine(
        io,
        renderTable(['line', 'tokens', 'log-probability', 'mean loss', 'perplexity', 'gradient norm'], table),
      );
    }
  });
}

function datumOf(tokens: readonly number[]): Datum {
  return { tokens, positions: tokens.slice(1).map((_, i) => i + 1) };
}

async function withGradients(engine: Engine, datum: Datum): Promise<Scored> {
  if (datum.positions.length === 0) return { logprobs: [null], loss: null, gradientNorms: null };
  const { loss, logprobs } = await engine.forwardBackward([datum], crossEntropyLoss({}));
  const gradientNorms = await engine.gradientNorms();
  await engine.zeroGradients();
  return { logprobs: [null, ...(logprobs[0] ?? [])], loss, gradientNorms };
}

function summaryOf({ logprobs, gradientNorms }: Scored, line: number): (string | number)[] {
  const values = logprobs.filter((value) => value !== null);
  const sum = values.reduce((total, value) => total + value, 0);
  const loss = -sum / values.length;
  const norms = Object.values(gradientNorms ?? {});
  return [
    line,
    logprobs.length,
    sum.toFixed(4),
    values.length === 0 ? '–' : loss.toFixed(4),
    values.length === 0 ? '–' : Math.exp(loss).toPrecision(5),
    norms.length === 0 ? '–' : Math.hypot(...norms).toPrecision(5),
  ];
}
