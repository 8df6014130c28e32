/**
 * MATH: competition problems whose answer is a formula (Hendrycks et al., arXiv 2103.03874), among them MATH-500, the
 * test split of PRM800K (Lightman et al., arXiv 2305.20050).
 *
 * Rows: `{"problem", "solution", "answer", "subject", "level", "unique_id"}`; without `answer` it is the last \boxed{...}
 * of the solution, as in the first release. `verify/math-answer/` finds the answer of a completion (`extract.ts`) and
 * says whether two answers are equal. Two classes of error: `no answer` and `wrong answer`.
 */
import type { Problem, Verdict } from '../method/episode.ts';
import type { Task } from '../method/task.ts';
import { hasField, idOf, isDataRow, refuse, rowWith, textField, type Fields } from './fields.ts';
import { PLAIN, plainPrompts } from './plain-prompts.ts';
import { extractAnswer, formulasOf, lastBoxed } from './verify/math-answer/extract.ts';
import { sameMathAnswer } from './verify/math-answer/math-answer.ts';

export interface MathProblem extends Problem {
  problem: string;
  gold: string;
  subject?: string;
  level?: number;
}

/** Of an answer in a message. */
const SHOWN = 80;

export const math = {
  name: 'math',
  promptSets: [PLAIN.name],
  prompts: plainPrompts,
  pose: ({ problem }) => [{ role: 'user', content: posed(problem) }],
  poseAgain: ({ problem }) => posed(problem),
  verify,
  parseRow,
  known,
  answersIn: (_problem, reflection) => formulasOf(reflection).map((formula) => `\\boxed{${formula}}`),
  answerRow: (row) => ({ problem: answered(row), prompts: PLAIN }),
} satisfies Task<MathProblem>;

function posed(problem: string): string {
  return `${problem}\n\nReason step by step, and give the final answer as \\boxed{answer} on the last line.`;
}

function verify({ gold }: MathProblem, completion: string): Verdict {
  const answer = extractAnswer(completion);
  if (answer === undefined || answer === '') {
    return {
      ok: false,
      class: 'no answer',
      why: 'expected \\boxed{...} or "the answer is ...", got neither',
    };
  }
  if (sameMathAnswer(gold, answer)) return { ok: true };
  return { ok: false, class: 'wrong answer', why: `expected ${cut(gold)}, got ${cut(answer)}` };
}

function cut(text: string): string {
  return text.length > SHOWN ? `${text.slice(0, SHOWN)}...` : text;
}

function parseRow(row: unknown): MathProblem {
  const fields = rowWith(row, ['problem']);
  const problem = textField(fields, 'problem');
  const { subject = fields['type'] } = fields;
  const isReadBefore = hasField(row, 'gold');
  const gold = isReadBefore
    ? readGold(fields, 'gold')
    : hasField(row, 'answer')
      ? readGold(fields, 'answer')
      : ofSolution(fields);
  const level = levelOf(fields['level']);
  return {
    id: idOf(fields, isReadBefore ? 'id' : 'unique_id', 'math', problem),
    problem,
    gold,
    ...(typeof subject === 'string' ? { subject } : {}),
    ...(level === undefined ? {} : { level }),
  };
}

/** `3`, or `Level 3` as in the first release. */
function levelOf(value: unknown): number | undefined {
  const digit = typeof value === 'string' ? /^(?:Level )?(\d)$/.exec(value)?.[1] : value;
  return typeof digit === 'number' || typeof digit === 'string' || typeof digit === 'bigint'
    ? Number(digit)
    : undefined;
}

function ofSolution(fields: Fields): string {
  const solution = textField(rowWith(fields, ['solution']), 'solution');
  return (
    lastBoxed(solution) ?? refuse('solution', 'a text with \\boxed{...}, or an answer beside it', solution)
  );
}

/** `{gold}`: an answer, or a text with the answer in a box; or a row of the data set. */
function answered(row: unknown): MathProblem {
  if (isDataRow(row, 'problem')) return parseRow(row);
  const fields = rowWith(row, ['gold']);
  const gold = readGold(fields, 'gold');
  const problem = typeof fields['problem'] === 'string' ? fields['problem'] : '';
  return { id: idOf(fields, 'id', 'math', problem + gold), problem, gold };
}

function readGold(fields: Fields, name: string): string {
  const value = fields[name];
  const text =
    typeof value === 'number' || typeof value === 'bigint' ? String(value) : textField(fields, name);
  return lastBoxed(text) ?? text;
}

function known({ gold }: MathProblem): { answer: string; ok: boolean }[] {
  return [
    { answer: `So it is \\boxed{${gold}}.`, ok: true },
    { answer: `Not \\boxed{7919}. The final answer is \\boxed{${gold}}`, ok: true },
    { answer: `\\boxed{7919 + ${gold}}`, ok: false },
    { answer: `\\boxed{${gold}}, no: \\boxed{\\text{nothing}}`, ok: false },
    { answer: '\\boxed{}', ok: false },
    { answer: '', ok: false },
    { answer: 'I do not know', ok: false },
  ];
}
