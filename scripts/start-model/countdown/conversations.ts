/**
 * The warm-up data of the start model: a stream of supervised conversations (`src/method/conversation.ts`).
 *
 *   attempt       92 57 64 to 29 | 64 - ( 92 - 57 )
 *   conversation  92 57 64 to 29 | (wrong attempt, not trained) | why | reflection | again | retry
 *   plain retry   92 57 64 to 29 | (wrong attempt, not trained) | again | solution
 *   search drill  a conversation that searches; the first token of the reflection is not trained, so that the skill
 *                 grows and the share of the style does not
 *   arithmetic    why | six equations, trained on their results alone
 *
 * Row i of a phase is a function of (seed, phase, i). Only warm-up problems are drawn. Token ranges count words: the
 * start model's tokenizer gives one token to each.
 */
import { hash32, hashText, makeRng, type Rng } from '../../../src/lib/rng.ts';
import type { ConversationMessage, ConversationRow, TokenRange } from '../../../src/method/conversation.ts';
import {
  drawLimit,
  drawProblem,
  renderStep,
  stepsOf,
  type DrawnProblem,
  type Step,
} from '../../../src/tasks/countdown-generator.ts';
import { posedText } from '../../../src/method/task.ts';
import { countdown } from '../../../src/tasks/countdown.ts';
import { pickShare } from '../shares.ts';
import type { RowOptions } from '../recipe.ts';
import type { DataKind, Phase } from './phases.ts';
import { drawTree, writeReflection, writeSearch, type WrittenReflection } from './reflections.ts';

const EQUATIONS_PER_ROW = 6;
const WORDS_PER_EQUATION = 5;

const prompts = countdown.prompts('short');

/** The rows `from` <= i < `to` of a phase. `exclude`: keys of problems that must not appear. */
export function* phaseRows(phase: Phase, options: RowOptions): Generator<ConversationRow, void, undefined> {
  const seed = hash32(options.seed, hashText(phase.name), 0);
  for (let index = options.from ?? 0; index < (options.to ?? phase.sequences); index++) {
    const rng = makeRng(seed, index);
    const draw = (): DrawnProblem =>
      drawProblem(rng, {
        split: 'warm-up',
        numbers: 3,
        ...(options.exclude && { exclude: options.exclude }),
      });
    yield makeRow(pickShare(phase.data, rng), phase, draw, rng);
  }
}

function makeRow(kind: DataKind, phase: Phase, draw: () => DrawnProblem, rng: Rng): ConversationRow {
  switch (kind) {
    case 'arithmetic':
      return makeArithmetic(rng);
    case 'attempt': {
      const problem = draw();
      return {
        kind,
        messages: [user(posedText(countdown, problem, prompts)), assistant(problem.solution.text)],
      };
    }
    case 'plain retry': {
      const problem = draw();
      const retry = [user(countdown.poseAgain(problem, prompts)), assistant(problem.solution.text)];
      return { kind, messages: [...failedAttempt(problem, rng), ...retry] };
    }
    case 'conversation': {
      const problem = draw();
      const style = pickShare(phase.styles, rng);
      const reflection = writeReflection(style, problem, rng);
      return { kind: style, messages: reflected(problem, reflection, assistant(reflection.text), rng) };
    }
    case 'search drill': {
      const problem = draw();
      const reflection = writeSearch(problem, rng, { isLong: rng.next() >= phase.drills.short });
      const train = drillRanges(reflection.text.split(' '), phase.drills.trainStop);
      return {
        kind,
        messages: reflected(problem, reflection, { ...assistant(reflection.text), train }, rng),
      };
    }
    default:
      return kind satisfies never;
  }
}

function user(content: string): ConversationMessage {
  return { role: 'user', content };
}

function assistant(content: string): ConversationMessage {
  return { role: 'assistant', content };
}

/** Problem, wrong attempt, `why`, reflection, `again`, retry. */
function reflected(
  problem: DrawnProblem,
  { retry }: WrittenReflection,
  reflection: ConversationMessage,
  rng: Rng,
): ConversationMessage[] {
  return [
    ...failedAttempt(problem, rng),
    user(prompts.reflect),
    reflection,
    user(countdown.poseAgain(problem, prompts)),
    assistant(retry),
  ];
}

/** The problem and a random tree of another value, which is context only. */
function failedAttempt(problem: DrawnProblem, rng: Rng): ConversationMessage[] {
  let tree = drawTree(problem.nums, rng);
  while (tree.value === problem.target) tree = drawTree(problem.nums, rng);
  return [user(posedText(countdown, problem, prompts)), { ...assistant(tree.text), weight: 0 }];
}

/** All words and the end token, but for the first word and, where it is not trained, what follows a `no`. */
function drillRanges(words: readonly string[], trainStop: boolean): TokenRange[] {
  const ranges: TokenRange[] = [];
  let from = 1;
  words.forEach((word, index) => {
    if (word !== 'no' || trainStop) return;
    ranges.push([from, index + 1]);
    from = index + 2;
  });
  const count = words.length + 1;
  return from < count ? [...ranges, [from, count]] : ranges;
}

function makeArithmetic(rng: Rng): ConversationRow {
  const steps = Array.from({ length: EQUATIONS_PER_ROW }, () => drawStep(rng));
  const train = steps.map((_, index): TokenRange => {
    const result = (index + 1) * WORDS_PER_EQUATION - 1;
    return [result, result + 1];
  });
  const content = steps.map(renderStep).join(' ');
  return { kind: 'arithmetic', messages: [user(prompts.reflect), { ...assistant(content), train }] };
}

/** Numbers as problems have them; half of the steps take one as large as a result. */
function drawStep(rng: Rng): Step {
  for (;;) {
    const limit = drawLimit(rng);
    const a = 1 + rng.below(limit);
    const b = 1 + rng.below(rng.next() < 0.5 ? limit : 2 * limit);
    const steps = stepsOf(a, b);
    if (steps.length > 0) return rng.pick(steps);
  }
}
