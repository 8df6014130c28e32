/**
 * The recipe of a start model that knows both tasks, for the question what training on one of them does to the other.
 *
 * Each phase mixes a phase of Countdown with one of function calling, row by row in proportion to their sizes, both
 * unchanged. Nothing ships of it.
 */
import type { ConversationRow } from '../../../src/method/conversation.ts';
import { callsRecipe } from '../calls/recipe.ts';
import { countdownRecipe } from '../countdown/recipe.ts';
import { phaseNamed, type PhaseTraining, type Recipe, type RowOptions } from '../recipe.ts';

/** Which phases are mixed. Function calling has one phase less: its clean skills go on beside Countdown's third. */
const MIXED = [
  { name: '1', countdown: '1', calls: 'binding' },
  { name: '2', countdown: '2', calls: 'clean' },
  { name: '3', countdown: '3', calls: 'clean' },
  { name: 'rare', countdown: 'rare', calls: 'habits' },
] as const;

const phases: readonly PhaseTraining[] = MIXED.map(({ name, countdown, calls }) => {
  const first = phaseNamed(countdownRecipe.phases, countdown);
  const second = phaseNamed(callsRecipe.phases, calls);
  return { ...first, name, sequences: first.sequences + second.sequences };
});

function* rows(name: string, options: RowOptions): Generator<ConversationRow, void, undefined> {
  const { countdown, calls } = MIXED[phases.indexOf(phaseNamed(phases, name))]!;
  const sizes = [phaseNamed(countdownRecipe.phases, countdown), phaseNamed(callsRecipe.phases, calls)].map(
    (phase) => phase.sequences,
  ) as [number, number];
  const total = sizes[0] + sizes[1];
  // Row i is the next one of the first source wherever its share of the rows up to i grows by one.
  const before = (index: number): number => Math.floor((index * sizes[0]) / total);
  const { from = 0, to = total, ...rest } = options;
  const sources = [
    countdownRecipe.rows(countdown, { ...rest, from: before(from), to: before(to) }),
    // What is excluded are keys of the other task's problems.
    callsRecipe.rows(calls, { seed: rest.seed, from: from - before(from), to: to - before(to) }),
  ].map((source) => source[Symbol.iterator]());
  for (let index = from; index < to; index++) {
    const next = sources[before(index + 1) > before(index) ? 0 : 1]?.next();
    if (next === undefined || next.done === true)
      throw new Error(`phase ${name}: expected row ${index}, got none`);
    yield next.value;
  }
}

export const bothRecipe: Recipe = {
  folder: null,
  words: [...new Set([...countdownRecipe.words, ...callsRecipe.words])],
  training: countdownRecipe.training,
  phases,
  rows,
  keysOf: countdownRecipe.keysOf,
};
