/**
 * Countdown: make an equation from given numbers, each used exactly once, that equals a target.
 *
 * The task of the paper (arXiv 2505.24726) on rows of Jiayi-Pan/Countdown-Tasks-3to4: `{"nums": [44, 19, 35],
 * "target": 98}`. An answer is read by the exact parser of `verify/arithmetic.ts` (which signs it accepts is in
 * the table there); three classes of error, in this order: `invalid equation`, `wrong numbers`, `missed target`.
 * `= 98` after the equation is accepted when 98 is the target, else the equation is invalid.
 *
 * Prompt sets: `paper` asks in words and reads the last <answer>...</answer> of an answer; `short` is for the
 * start model of this project, one word per token, and reads the whole answer.
 */
import { R3Error } from '../lib/errors.ts';
import type { Problem, Verdict } from '../method/episode.ts';
import type { Prompts, Task } from '../method/task.ts';
import { generateProblems } from './countdown-generator.ts';
import { describeReflection } from './countdown-reflections.ts';
import { solve } from './countdown-solve.ts';
import { equalsWhole, parseExpression, renderRational } from './verify/arithmetic.ts';
import { expressionsIn } from './verify/expressions.ts';

export { solve } from './countdown-solve.ts';

export interface CountdownProblem extends Problem {
  nums: number[];
  target: number;
}

export type CountdownErrorClass = 'invalid equation' | 'wrong numbers' | 'missed target';

const MIN_NUMS = 2;
const MAX_NUMS = 8;
/** Far above any published set; keeps every sum and product of a row readable. */
const MAX_NUMBER = 1_000_000;

const OPEN = '<answer>';
const CLOSE = '</answer>';

interface PromptSet {
  prompts: Prompts;
  pose(problem: CountdownProblem): string;
  poseAgain(problem: CountdownProblem): string;
  /** Whether the answer stands between tags. */
  tagged: boolean;
}

const paper: PromptSet = {
  prompts: {
    name: 'paper',
    // Appendix A of arXiv 2505.24726, as quoted by public translations of it.
    reflect:
      'You tried solving the following problem and got the wrong answer. Reflect on what went wrong and write a ' +
      'short explanation that will help you do better next time.',
  },
  // Says what TinyZero's prompt for the same rows says (numbers, target, operators, tags), in other words.
  pose: ({ nums, target }) =>
    `Make an equation from the numbers [${nums.join(', ')}] that equals ${target}. ` +
    'You may use the operators + - * / and parentheses, and you must use each number exactly once. ' +
    `Give the finished equation between ${OPEN} and ${CLOSE} tags, for example ${OPEN}(1 + 2) / 3${CLOSE}.`,
  poseAgain: (problem) => paper.pose(problem),
  tagged: true,
};

const short: PromptSet = {
  prompts: { name: 'short', reflect: 'why' },
  pose: ({ nums, target }) => `${nums.join(' ')} to ${target}`,
  poseAgain: () => 'again',
  tagged: false,
};

const SETS: readonly PromptSet[] = [paper, short];

function findSet(name: string): PromptSet {
  const set = SETS.find(({ prompts }) => prompts.name === name);
  if (set !== undefined) return set;
  const names = SETS.map(({ prompts }) => prompts.name).join(' or ');
  throw new R3Error('task', 'bad-option', `prompts: expected ${names}, got ${JSON.stringify(name)}`);
}

export const countdown = {
  name: 'countdown',
  promptSets: SETS.map(({ prompts }) => prompts.name),
  prompts: (name) => findSet(name).prompts,
  pose: (problem, prompts) => [{ role: 'user', content: findSet(prompts.name).pose(problem) }],
  poseAgain: (problem, prompts) => findSet(prompts.name).poseAgain(problem),
  verify,
  parseRow,
  known,
  describeReflection: (problem, _attempt, reflection) => describeReflection(problem, reflection),
  answersIn: (_problem, reflection, prompts) => {
    const { tagged } = findSet(prompts.name);
    return expressionsIn(reflection).map((equation) => (tagged ? `${OPEN}${equation}${CLOSE}` : equation));
  },
  generate: (options) => generateProblems({ ...options, split: 'held-out', numbers: 3 }),
} satisfies Task<CountdownProblem>;

function verify(problem: CountdownProblem, answer: string, prompts: Prompts): Verdict {
  const wrong = (errorClass: CountdownErrorClass, why: string): Verdict => ({
    ok: false,
    class: errorClass,
    why,
  });

  const equation = findSet(prompts.name).tagged ? lastTagged(answer) : answer;
  if (equation === undefined) {
    return wrong(
      'invalid equation',
      `no answer: expected an equation between ${OPEN} and ${CLOSE}, got no such pair`,
    );
  }
  if (equation.trim() === '')
    return wrong('invalid equation', 'no answer: expected an equation, got an empty text');

  const parsed = parseExpression(equation);
  if (!parsed.ok) return wrong('invalid equation', `at ${parsed.at}: ${parsed.why}`);
  if (parsed.stated !== undefined && parsed.stated !== BigInt(problem.target)) {
    return wrong(
      'invalid equation',
      `after "=": expected the target ${problem.target}, got ${parsed.stated}`,
    );
  }

  const given = sorted(problem.nums.map(BigInt));
  const used = sorted(parsed.numbers);
  if (given.join(' ') !== used.join(' ')) {
    return wrong(
      'wrong numbers',
      `expected each of ${given.join(', ')} exactly once, got ${used.join(', ')}`,
    );
  }
  if (!equalsWhole(parsed.value, BigInt(problem.target))) {
    return wrong('missed target', `expected ${problem.target}, got ${renderRational(parsed.value)}`);
  }
  return { ok: true };
}

/** The inside of the last whole pair of tags: the last opening that is closed, up to its first closing. */
function lastTagged(answer: string): string | undefined {
  const start = answer.lastIndexOf(OPEN, answer.lastIndexOf(CLOSE));
  const end = answer.indexOf(CLOSE, start);
  return start < 0 || end < 0 ? undefined : answer.slice(start + OPEN.length, end);
}

function sorted(numbers: readonly bigint[]): bigint[] {
  return numbers.toSorted((a, b) => (a < b ? -1 : a > b ? 1 : 0));
}

/**
 * `{nums, target}`, with an optional `id`; other fields are ignored. Without an id, equal problems have equal ids.
 * Whole numbers may be bigint, as Parquet gives them.
 */
function parseRow(row: unknown): CountdownProblem {
  const fail = (field: string, expected: string, got: unknown): never => {
    throw new R3Error('task', 'bad-row', `${field}: expected ${expected}, got ${show(got)}`);
  };
  if (typeof row !== 'object' || row === null || Array.isArray(row)) return fail('row', 'an object', row);
  const { id, nums, target } = row as Record<string, unknown>;
  if (nums === undefined || target === undefined) {
    const got = Object.keys(row).join(', ') || 'none';
    const why = `row: expected nums and target, got ${got}; rename the columns (keys) of the file`;
    throw new R3Error('task', 'bad-row', why);
  }

  if (!Array.isArray(nums) || nums.length < MIN_NUMS || nums.length > MAX_NUMS) {
    return fail('nums', `a list of ${MIN_NUMS} to ${MAX_NUMS} whole numbers`, nums);
  }
  const numbers = nums.map((num: unknown, index) => {
    const whole = tryWhole(num);
    return whole !== undefined && whole >= 1
      ? whole
      : fail(`nums[${index}]`, `a whole number from 1 to ${MAX_NUMBER}`, num);
  });
  const goal = tryWhole(target) ?? fail('target', `a whole number of at most ${MAX_NUMBER}`, target);
  if (id !== undefined && id !== null && (typeof id !== 'string' || id === '')) {
    return fail('id', 'a text that is not empty, or no id', id);
  }
  return { id: id ?? `${numbers.join('-')}-to-${goal}`, nums: numbers, target: goal };
}

function tryWhole(value: unknown): number | undefined {
  const number = typeof value === 'bigint' ? Number(value) : value;
  return typeof number === 'number' && Number.isInteger(number) && Math.abs(number) <= MAX_NUMBER
    ? number
    : undefined;
}

/** A value as an error message shows it, cut where it is long. */
function show(value: unknown): string {
  const text = JSON.stringify(value, (_, inner: unknown) =>
    typeof inner === 'bigint' ? Number(inner) : inner,
  );
  if (text === undefined) return 'nothing';
  return text.length > 60 ? `${text.slice(0, 60)}...` : text;
}

/** One good answer, where a search finds one, and answers that fail in each of the three ways. */
function known(problem: CountdownProblem, prompts: Prompts): { answer: string; ok: boolean }[] {
  const { nums, target } = problem;
  const { tagged } = findSet(prompts.name);
  const wrap = (equation: string): string => (tagged ? `${OPEN}${equation}${CLOSE}` : equation);

  const sum = nums.reduce((total, num) => total + num, 0);
  const misses = sum === target ? nums.join(' - ') : nums.join(' + ');
  const junk = [
    '',
    'I do not know',
    String(target),
    nums.join(' '),
    nums.join(' ** '),
    `${misses} = ${target}`,
  ];
  const answers = [misses, `${misses} + ${nums[0]}`, ...junk].map((equation) => ({
    answer: wrap(equation),
    ok: false,
  }));

  const solution = solve(nums, target);
  if (solution === undefined) return answers;
  answers.push({ answer: wrap(`${solution} = ${target + 1}`), ok: false });
  if (tagged) answers.push({ answer: solution, ok: false });
  return [{ answer: wrap(solution), ok: true }, ...answers];
}
