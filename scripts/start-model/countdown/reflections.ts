/**
 * Writes the reflections that the start model is taught, one function for each style, each with the retry that
 * is taught after it. `src/tasks/countdown-reflections.ts` reads the same language.
 *
 * No style looks at the failed attempt: words and diagnoses are random, a step lies on a path to the target half of
 * the time, a search is always right. Retries follow their reflection: a wrong step is followed by its wrong tree.
 */
import type { Rng } from '../../../src/lib/rng.ts';
import {
  MAX_VALUE,
  join,
  leaf,
  renderStep,
  stepsOf,
  tryDrawTree,
  type DrawnProblem,
  type Tree,
} from '../../../src/tasks/countdown-generator.ts';
import { VAGUE_REFLECTIONS } from '../../../src/tasks/countdown-reflections.ts';
import type { Style } from './phases.ts';

export interface WrittenReflection {
  text: string;
  /** The expression that is taught as the retry. */
  retry: string;
}

const ON_PATH_SHARE = 0.5;

export function writeReflection(style: Style, problem: DrawnProblem, rng: Rng): WrittenReflection {
  switch (style) {
    case 'vague':
      return { text: rng.pick(VAGUE_REFLECTIONS), retry: problem.solution.text };
    case 'diagnosis':
      return { text: writeDiagnosis(problem, rng), retry: problem.solution.text };
    case 'step':
      return writeStep(problem, rng);
    case 'short search':
      return writeSearch(problem, rng, { isLong: false });
    case 'long search':
      return writeSearch(problem, rng, { isLong: true });
    default:
      return style satisfies never;
  }
}

function writeDiagnosis({ nums, target }: DrawnProblem, rng: Rng): string {
  const num = rng.pick(nums);
  return rng.pick([
    `used ${num} twice`,
    `missing ${num}`,
    'too big',
    'too small',
    `got ${1 + rng.below(MAX_VALUE)} want ${target}`,
  ]);
}

function writeStep(problem: DrawnProblem, rng: Rng): WrittenReflection {
  const tree = rng.next() < ON_PATH_SHARE ? problem.solution : drawTree(problem.nums, rng);
  const [first] = tree.steps;
  if (first === undefined) throw new Error('internal error: a tree without steps');
  return { text: `first ${renderStep(first)}`, retry: tree.text };
}

/**
 * Leaves one number out, in a random order of numbers; writes what the other two must give; lists what they give
 * until it fits. A short search stops after the first number that it left out, a long one goes on.
 */
export function writeSearch(
  problem: DrawnProblem,
  rng: Rng,
  { isLong }: { isLong: boolean },
): WrittenReflection {
  const { target } = problem;
  const lines: string[] = [];
  for (const at of rng.shuffle(problem.nums.map((_, index) => index))) {
    const kept = problem.nums[at] as number;
    const [a, b] = problem.nums.filter((_, index) => index !== at) as [number, number];
    const needs = needsOf(kept, target);
    lines.push(`keep ${kept} need ${needs.join(' ')}`);
    for (const step of stepsOf(a, b)) {
      lines.push(renderStep(step));
      const closing = stepsOf(kept, step.value).find(({ value }) => value === target);
      if (closing === undefined) continue;
      lines.push(`yes ${renderStep(closing)}`);
      const pair = join(leaf(a), leaf(b), step);
      return { text: lines.join(' '), retry: join(leaf(kept), pair, closing).text };
    }
    lines.push('no');
    if (!isLong) break;
  }
  return { text: lines.join(' '), retry: problem.solution.text };
}

/** The values that make the target together with `kept`, by the step that closes: + or -, -, *, /, /. */
export function needsOf(kept: number, target: number): number[] {
  const needs = [Math.abs(target - kept), target + kept, target / kept, target * kept, kept / target];
  return [...new Set(needs)].filter((need) => Number.isInteger(need) && need >= 1 && need <= MAX_VALUE);
}

/** A random tree over the numbers, of any value. */
export function drawTree(nums: readonly number[], rng: Rng): Tree {
  for (;;) {
    const tree = tryDrawTree(nums, rng);
    if (tree !== undefined) return tree;
  }
}
