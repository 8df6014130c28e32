/**
 * Supervised warm-up: cross-entropy on conversations, with loss on what the assistant wrote.
 *
 * Rows are taken in their order, a batch at a time; the next batch is tokenized while the engine trains. A row
 * becomes one sequence: the ids that the chat template gives, each assistant turn encoded on its own, exactly as
 * sampling would continue it.
 */
import type { AdamParams, Datum, Engine } from './engine/engine.ts';
import { updateWeights } from './engine/update.ts';
import { R3Error } from './lib/errors.ts';
import { trainedTokens, type ConversationRow } from './method/conversation.ts';
import { crossEntropyLoss } from './method/loss.ts';
import { learningRateAt, type Schedule } from './schedule.ts';
import type { ChatFormat, Conversation } from './text/chat.ts';
import type { Tokenizer } from './text/tokenizer.ts';

export interface SftOptions {
  /** Rows per step. */
  batchSize: number;
  steps: number;
  learningRate: number;
  schedule: Schedule;
  adam: Omit<AdamParams, 'learningRate'>;
  /**
   * What the summed loss of a batch is divided by. A constant gives every token the same weight in every batch;
   * left out, each batch is divided by its own count, which favours short rows.
   */
  lossDenominator?: number | undefined;
}

export interface SftReport {
  step: number;
  steps: number;
  /** Mean negative log-probability of the batch's trained tokens, in nats. */
  nll: number;
  learningRate: number;
  gradientNorm: number;
  tokens: number;
}

/** A row and where it came from, for messages. */
export interface PlacedRow {
  row: ConversationRow;
  where: string;
}

/** Trains for `steps` batches, or until the rows end or `signal` is raised. Returns the number of steps done. */
export async function sft(
  engine: Engine,
  format: ChatFormat,
  tokenizer: Tokenizer,
  rows: Iterable<PlacedRow>,
  options: SftOptions,
  onStep: (report: SftReport) => void = () => undefined,
  signal?: AbortSignal,
): Promise<number> {
  const { contextLength } = engine.capabilities();
  const iterator = rows[Symbol.iterator]();
  const takeBatch = (): Datum[] => {
    const batch: Datum[] = [];
    while (batch.length < options.batchSize) {
      const next = iterator.next();
      if (next.done === true) break;
      batch.push(fittingDatum(format, tokenizer, next.value, contextLength));
    }
    return batch;
  };
  const loss = crossEntropyLoss({ denominator: options.lossDenominator });

  let batch = takeBatch();
  let step = 0;
  for (; step < options.steps && batch.length > 0 && signal?.aborted !== true; step++) {
    const learningRate = learningRateAt(options.schedule, options.learningRate, step, options.steps);
    const training = updateWeights(engine, batch, loss, { learningRate, ...options.adam });
    const tokens = batch.reduce((sum, d) => sum + d.tokens.length, 0);
    batch = step + 1 < options.steps ? takeBatch() : [];
    const { metrics, gradientNorm } = await training;
    onStep({ step, steps: options.steps, nll: metrics['nll'] ?? 0, learningRate, gradientNorm, tokens });
  }
  return step;
}

/** Throws what training would throw at a row, before it begins: R3Error `bad-row`, or `too-long` for the context. */
export function checkRows(
  format: ChatFormat,
  tokenizer: Tokenizer,
  rows: readonly PlacedRow[],
  contextLength: number,
): void {
  for (const row of rows) fittingDatum(format, tokenizer, row, contextLength);
}

function fittingDatum(
  format: ChatFormat,
  tokenizer: Tokenizer,
  row: PlacedRow,
  contextLength: number,
): Datum {
  const datum = conversationDatum(format, tokenizer, row);
  if (datum.tokens.length <= contextLength) return datum;
  throw new R3Error(
    'task',
    'too-long',
    `${row.where}: expected at most ${contextLength} tokens (the model's context), got ${datum.tokens.length}`,
  );
}

/** A row as one sequence, and the positions that are trained. */
export function conversationDatum(
  format: ChatFormat,
  tokenizer: Tokenizer,
  { row, where }: PlacedRow,
): Datum {
  const { messages } = row;
  const positions: number[] = [];
  const firstAnswer = messages.findIndex((m) => m.role === 'assistant');
  let at = firstAnswer;
  let conversation: Conversation = format.begin(messages.slice(0, at));
  while (at < messages.length) {
    const answer = messages[at] as ConversationRow['messages'][number];
    const after = messages.slice(at + 1);
    const turns = after.findIndex((m) => m.role === 'assistant');
    const next = turns < 0 ? after : after.slice(0, turns);
    const own = tokenizer.encode(answer.content);
    const start = conversation.tokens.length;
    conversation = format.extend(
      conversation,
      { tokens: own, text: answer.content, stopReason: 'length' },
      next,
    );
    const end = conversation.tokens[start + own.length];
    const count = own.length + (end !== undefined && format.stopIds.includes(end) ? 1 : 0);
    for (const index of trainedTokens(answer, count, where)) positions.push(start + index);
    if (turns < 0) break;
    at += 1 + turns;
  }
  return { tokens: conversation.tokens, positions };
}
