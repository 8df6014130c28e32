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
import {
  contextGroups,
  engineOptions,
  findModel,
  loraOptions,
  openEngine,
  wholeConfig,
  withEngine,
} from './session.ts';
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
  const config = wholeConfig(model, io.env);
  const limit = flags.context ?? config.contextLength;
  const rows = await loadTokenRows(flags.tokens, { ...config, contextLength: limit });
  const lengths = rows.map(({ length }) => length);
  const scored: Scored[] = [];
  for (const { contextLength, members } of contextGroups(config, lengths, flags.context)) {
    const opening = openEngine(io, {
      model,
      trainable: flags.gradients === true,
      ...engineOptions(flags),
      contextLength,
      ...loraOptions(flags),
    });
    await withEngine(opening, async (engine) => {
      const datums = members.map((row) => datumOf(rows[row] ?? []));
      const results = await scoreAll(engine, datums, flags.gradients === true);
      members.forEach((row, i) => (scored[row] = results[i] as Scored));
    });
  }
  if (flags.json === true) for (const row of scored) printJson(io, row);
  else {
    const head = ['line', 'tokens', 'log-probability', 'mean loss', 'perplexity', 'gradient norm'];
    printLine(
      io,
      renderTable(
        head,
        scored.map((row, i) => summaryOf(row, i + 1)),
      ),
    );
  }
}

async function scoreAll(engine: Engine, datums: readonly Datum[], gradients: boolean): Promise<Scored[]> {
  const scored: Scored[] = [];
  if (gradients) for (const datum of datums) scored.push(await withGradients(engine, datum));
  else
    for (let from = 0; from < datums.length; from += BATCH) {
      const rows = await engine.logprobs(datums.slice(from, from + BATCH));
      scored.push(...rows.map((values) => ({ logprobs: [null, ...values] })));
    }
  return scored;
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
