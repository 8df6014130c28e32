/**
 * Multiple-choice problems by log-probability: each continuation after its context through `Engine.logprobs`.
 *
 * Continuations of one context stand next to each other in a call, so that the engine computes the context once. A text
 * and its continuation are encoded together, and the tokens after those of the text alone are what is scored, with
 * white space at the end of the context counted to the continuation (`_encode_pair` of lm-evaluation-harness). Tokens that
 * the tokenizer puts before a text (BOS) stand before the context. Nothing is sampled.
 */
import type { Datum, Engine } from './engine/engine.ts';
import { R3Error } from './lib/errors.ts';
import { chooseByLikelihood } from './method/likelihood.ts';
import type { Problem } from './method/episode.ts';
import type { Choices, Prompts, Task } from './method/task.ts';
import type { ChatFormat } from './text/chat.ts';
import type { Tokenizer } from './text/tokenizer.ts';

/** Problems in one scoring call. */
const BATCH = 16;

/** A model that scores: a `Player` is one. `format` is needed for contexts that are messages. */
export interface Scorer {
  engine: Engine;
  tokenizer: Tokenizer;
  format: ChatFormat;
}

export interface ChoiceRow {
  problem: string;
  /**
   * Whether the likeliest continuation is the right one: by its sum, and by its mean per character. null where the problem
   * does not fit the model's context.
   */
  bySum: boolean | null;
  byCharacter: boolean | null;
}

/** One row for each problem, in their order. Throws R3Error `bad-task` for a task without `choices`. */
export async function scoreChoices<P extends Problem>(
  scorer: Scorer,
  task: Task<P>,
  prompts: Prompts,
  problems: readonly P[],
  onProgress?: (done: number) => void,
): Promise<ChoiceRow[]> {
  const rows: ChoiceRow[] = [];
  const { contextLength } = scorer.engine.capabilities();
  const fits = ({ tokens }: Datum): boolean => tokens.length <= contextLength;
  for (let from = 0; from < problems.length; from += BATCH) {
    const batch = problems.slice(from, from + BATCH).map((problem) => {
      const choices = choicesOf(task, problem, prompts);
      const datums = datumsOf(scorer, choices);
      return { problem, choices, datums: datums.every(fits) ? datums : null };
    });
    const logprobs = await scorer.engine.logprobs(batch.flatMap(({ datums }) => datums ?? []));
    let next = 0;
    for (const { problem, choices, datums } of batch) {
      if (datums === null) {
        rows.push({ problem: problem.id, bySum: null, byCharacter: null });
        continue;
      }
      const sums = datums.map(() => sumOf(logprobs[next++]));
      const { bySum, byCharacter } = chooseByLikelihood(choices, sums);
      rows.push({
        problem: problem.id,
        bySum: bySum === choices.answer,
        byCharacter: byCharacter === choices.answer,
      });
    }
    onProgress?.(rows.length);
  }
  return rows;
}

function choicesOf<P extends Problem>(task: Task<P>, problem: P, prompts: Prompts): Choices {
  const choices = task.choices?.(problem, prompts);
  if (choices !== undefined) return choices;
  const why = `${task.name}: expected a task with choices to score by log-probability, got one without`;
  throw new R3Error('task', 'bad-task', why);
}

function sumOf(values: Float32Array | undefined): number {
  return (values ?? new Float32Array()).reduce((sum, value) => sum + value, 0);
}

/** One for each continuation. */
function datumsOf({ tokenizer, format }: Scorer, { context, continuations }: Choices): Datum[] {
  if (typeof context !== 'string') {
    const { tokens } = format.begin(context);
    return continuations.map((continuation) => afterContext(tokens, tokenizer.encode(continuation)));
  }
  const text = context.trimEnd();
  const space = context.slice(text.length);
  const before = beginningOf(tokenizer, text);
  const length = tokenizer.encode(text).length;
  return continuations.map((continuation) => {
    const whole = tokenizer.encode(text + space + continuation);
    return afterContext([...before, ...whole.slice(0, length)], whole.slice(length));
  });
}

function afterContext(context: readonly number[], continuation: readonly number[]): Datum {
  return {
    tokens: [...context, ...continuation],
    positions: continuation.map((_, i) => context.length + i),
  };
}

/** The ids that the tokenizer puts before a text. */
function beginningOf(tokenizer: Tokenizer, text: string): number[] {
  const [plain, whole] = [tokenizer.encode(text), tokenizer.encodeWithSpecials(text)];
  const at = whole.findIndex((_, start) => plain.every((id, i) => whole[start + i] === id));
  return whole.slice(0, Math.max(0, at));
}
