/**
 * Countdown problems that the start model can write: drawn from random expression trees, so each has a solution.
 *
 * A step takes two numbers, the larger first, with + - * or exact /, and gives 1 to 199. Targets are 10 to 100 and
 * not among the numbers; in 30% of the problems the numbers are 1 to 30, else 1 to 99. A problem belongs to the
 * split that the hash of its sorted numbers and target names, so splits never share a problem, whatever the seed.
 */
import { R3Error } from '../lib/errors.ts';
import { hashText, makeRng, type Rng } from '../lib/rng.ts';
import type { CountdownProblem } from './countdown.ts';

export const MAX_VALUE = 199;
const MIN_TARGET = 10;
const MAX_TARGET = 100;
const MAX_NUMBER = 99;
const MAX_SMALL_NUMBER = 30;
const SMALL_SHARE = 0.3;
/** One draw in a hundred gives a problem of a small split; excluded problems may come first. */
const MAX_DRAWS = 1_000_000;
/** Problems in a row that came before, until a split counts as used up. */
const MAX_REPEATS = 1000;

const SIGNS = ['+', '-', '*', '/'] as const;

/** Buckets of 100, from and below. `choose` (settings) and `report` (results) are the halves of `held-out`. */
const BUCKETS = {
  'held-out': [0, 12],
  choose: [0, 6],
  report: [6, 12],
  rl: [12, 20],
  'warm-up': [20, 100],
} as const;

export type Split = keyof typeof BUCKETS;

export type Sign = (typeof SIGNS)[number];

/** One equation, `left sign right = value`, left >= right. */
export interface Step {
  left: number;
  sign: Sign;
  right: number;
  value: number;
}

/** An expression and the steps that evaluate it, in order. A single number has no steps. */
export interface Tree {
  value: number;
  /** Tokens separated by spaces, such as `64 - ( 92 - 57 )`. */
  text: string;
  steps: readonly Step[];
}

export interface DrawnProblem extends CountdownProblem {
  /** One solution: the tree that the target came from. */
  solution: Tree;
}

/** The steps that two numbers allow, in the order + - * /. */
export function stepsOf(a: number, b: number): Step[] {
  const [left, right] = a >= b ? [a, b] : [b, a];
  const values: [Sign, number][] = [
    ['+', left + right],
    ['-', left - right],
    ['*', left * right],
    ['/', left / right],
  ];
  return values
    .filter(([, value]) => Number.isInteger(value) && value >= 1 && value <= MAX_VALUE)
    .map(([sign, value]) => ({ left, sign, right, value }));
}

export function renderStep({ left, sign, right, value }: Step): string {
  return `${left} ${sign} ${right} = ${value}`;
}

/**
 * A tree over all the numbers, each once: pairs and signs drawn uniformly. undefined when a sign does not fit its pair;
 * drawing again then leaves more * and / in the trees, as in the public rows, than a choice among what fits.
 */
export function tryDrawTree(nums: readonly number[], rng: Rng): Tree | undefined {
  let trees = nums.map(leaf);
  for (;;) {
    const [a, b, ...rest] = rng.shuffle(trees);
    if (a === undefined || b === undefined) return a;
    const sign = rng.pick(SIGNS);
    const step = stepsOf(a.value, b.value).find((fitting) => fitting.sign === sign);
    if (step === undefined) return undefined;
    trees = [...rest, join(a, b, step)];
  }
}

/** Every tree of steps over all the numbers that gives the target; equal texts once. */
export function solutionsOf(nums: readonly number[], target: number): Tree[] {
  const found = new Map<string, Tree>();
  const search = (trees: readonly Tree[]): void => {
    if (trees.length === 1) {
      for (const tree of trees) if (tree.value === target) found.set(tree.text, tree);
      return;
    }
    trees.forEach((a, i) => {
      trees.slice(i + 1).forEach((b, j) => {
        const rest = trees.filter((_, index) => index !== i && index !== i + 1 + j);
        for (const step of stepsOf(a.value, b.value)) search([...rest, join(a, b, step)]);
      });
    });
  };
  search(nums.map(leaf));
  return [...found.values()];
}

/** A number alone. */
export function leaf(num: number): Tree {
  return { value: num, text: String(num), steps: [] };
}

/** Two trees under a step of their values. The operands keep the step's order: `64 - 35 = 29`, `64 - ( 92 - 57 )`. */
export function join(a: Tree, b: Tree, step: Step): Tree {
  const [left, right] = a.value === step.left ? [a, b] : [b, a];
  const side = (tree: Tree): string => (tree.steps.length === 0 ? tree.text : `( ${tree.text} )`);
  return {
    value: step.value,
    text: `${side(left)} ${step.sign} ${side(right)}`,
    steps: [...left.steps, ...right.steps, step],
  };
}

/** What makes two problems the same: the numbers in any order, and the target. */
export function problemKey(nums: readonly number[], target: number): string {
  return `${nums.toSorted((a, b) => a - b).join(' ')} to ${target}`;
}

export function isInSplit(key: string, split: Split): boolean {
  const bucket = hashText(key) % 100;
  const [from, to] = BUCKETS[split];
  return bucket >= from && bucket < to;
}

export interface DrawOptions {
  split: Split;
  /** How many numbers a problem has. */
  numbers: 3 | 4;
  /** Keys (`problemKey`) of problems that must not be drawn. */
  exclude?: ReadonlySet<string>;
}

/** The largest number of a problem. */
export function drawLimit(rng: Rng): number {
  return rng.next() < SMALL_SHARE ? MAX_SMALL_NUMBER : MAX_NUMBER;
}

/** One random problem of a split. */
export function drawProblem(rng: Rng, { split, numbers, exclude }: DrawOptions): DrawnProblem {
  for (let draw = 0; draw < MAX_DRAWS; draw++) {
    const limit = drawLimit(rng);
    const nums = Array.from({ length: numbers }, () => 1 + rng.below(limit));
    const tree = tryDrawTree(nums, rng);
    if (tree === undefined || tree.value < MIN_TARGET || tree.value > MAX_TARGET) continue;
    if (nums.includes(tree.value)) continue;
    const key = problemKey(nums, tree.value);
    if (!isInSplit(key, split) || exclude?.has(key) === true) continue;
    return { id: `${nums.join('-')}-to-${tree.value}`, nums, target: tree.value, solution: tree };
  }
  throw new R3Error(
    'task',
    'bad-option',
    `problems: expected one of split ${split} within ${MAX_DRAWS} draws, got none; exclude fewer`,
  );
}

/**
 * `count` distinct problems of a split, a function of the options alone. Throws R3Error `bad-option` when the split
 * does not hold as many.
 */
export function generateProblems(options: DrawOptions & { count: number; seed: number }): CountdownProblem[] {
  const rng = makeRng(options.seed, hashText(options.split));
  const seen = new Set<string>();
  const problems: CountdownProblem[] = [];
  for (let repeats = 0; problems.length < options.count;) {
    const { id, nums, target } = drawProblem(rng, options);
    const key = problemKey(nums, target);
    if (seen.has(key)) {
      repeats += 1;
      if (repeats <= MAX_REPEATS) continue;
      throw new R3Error(
        'task',
        'bad-option',
        `count: expected at most about ${problems.length} problems of split ${options.split}, got ${options.count}`,
      );
    }
    repeats = 0;
    seen.add(key);
    problems.push({ id, nums, target });
  }
  return problems;
}
