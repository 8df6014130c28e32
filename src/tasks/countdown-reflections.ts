/**
 * The small language in which the start model reflects on a failed Countdown attempt, and what a reflection
 * in it is worth. One token per word:
 *
 *   vague         be careful retry
 *   diagnosis     used 57 twice | missing 57 | too big | too small | got 99 want 29
 *   step          first 92 - 57 = 35
 *   short search  keep 64 need 35 93 92 + 57 = 149 92 - 57 = 35 yes 64 - 35 = 29
 *   long search   keep 92 need ... no keep 64 need ... yes 64 - 35 = 29
 *
 * A search leaves one number out (`keep`), writes the results that would do (`need`), and lists what the other
 * two give until one matches. Reads only; the warm-up data of the start model writes the same language.
 */
import { solve } from './countdown-solve.ts';

export type ReflectionKind = 'vague' | 'diagnosis' | 'step' | 'short search' | 'long search' | 'other';

export const VAGUE_REFLECTIONS = [
  'be careful',
  'retry',
  'check each number',
  'use other order',
  'be careful retry',
  'check order',
  'wrong',
] as const;

const DIAGNOSIS = /^(used \d+ twice|missing \d+|too big|too small|got \d+ want \d+)$/;
const VAGUE_WORDS = new Set(VAGUE_REFLECTIONS.flatMap((text) => text.split(' ')));

/**
 * The kind of a reflection, a step or a search by its first word, and whether its hint is true.
 * A step's hint is true when the equation is right and the target can still be reached after it. A search's is
 * true when what stands before `yes` is a right equation of the two numbers that were not kept, and the closing
 * line makes the target of its result and the kept number. `none`: nothing was claimed.
 */
export function describeReflection(
  problem: { nums: readonly number[]; target: number },
  reflection: string,
): { kind: ReflectionKind; hint: 'true' | 'false' | 'none' } {
  const words = reflection.trim().split(/\s+/);
  const [first = ''] = words;
  switch (first) {
    case 'first':
      return { kind: 'step', hint: isUsefulStep(problem, words.slice(1)) ? 'true' : 'false' };
    case 'keep': {
      const kind = words.filter((word) => word === 'keep').length > 1 ? 'long search' : 'short search';
      const section = words.slice(words.lastIndexOf('keep'));
      if (!section.includes('yes')) return { kind, hint: 'none' };
      return { kind, hint: isTrueFind(problem, section) ? 'true' : 'false' };
    }
    default: {
      if (words.every((word) => VAGUE_WORDS.has(word))) return { kind: 'vague', hint: 'none' };
      return { kind: DIAGNOSIS.test(words.join(' ')) ? 'diagnosis' : 'other', hint: 'none' };
    }
  }
}

function isUsefulStep(
  problem: { nums: readonly number[]; target: number },
  words: readonly string[],
): boolean {
  const equation = parseEquation(words);
  if (equation === undefined) return false;
  const rest = without(problem.nums, [equation.left, equation.right]);
  return rest !== undefined && solve([...rest, equation.value], problem.target) !== undefined;
}

/** `keep 64 need ... 92 - 57 = 35 yes 64 - 35 = 29`: the two equations around `yes`, and nothing after them. */
function isTrueFind(
  problem: { nums: readonly number[]; target: number },
  section: readonly string[],
): boolean {
  const kept = Number(section[1]);
  const yes = section.indexOf('yes');
  const found = parseEquation(section.slice(Math.max(0, yes - 5), yes));
  const closing = parseEquation(section.slice(yes + 1));
  if (found === undefined || closing === undefined) return false;
  return (
    without(problem.nums, [kept, found.left, found.right])?.length === 0 &&
    without([kept, found.value], [closing.left, closing.right])?.length === 0 &&
    closing.value === problem.target
  );
}

/** `a o b = v` as five words. undefined when it is anything else, or not true. */
function parseEquation(words: readonly string[]): { left: number; right: number; value: number } | undefined {
  const match = /^(\d{1,9}) ([-+*/]) (\d{1,9}) = (\d{1,9})$/.exec(words.join(' '));
  if (match === null) return undefined;
  const [left, right, value] = [Number(match[1]), Number(match[3]), Number(match[4])];
  const isRight =
    match[2] === '+'
      ? left + right === value
      : match[2] === '-'
        ? left - right === value
        : match[2] === '*'
          ? left * right === value
          : right !== 0 && right * value === left;
  return isRight ? { left, right, value } : undefined;
}

/** What is left when each of `taken` is removed once. undefined when one of them is not there. */
function without(nums: readonly number[], taken: readonly number[]): number[] | undefined {
  const rest = [...nums];
  for (const num of taken) {
    const at = rest.indexOf(num);
    if (at < 0) return undefined;
    rest.splice(at, 1);
  }
  return rest;
}
