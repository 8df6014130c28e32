/**
 * GSM8K: grade-school word problems with a number as the answer (Cobbe et al., arXiv 2110.14168).
 *
 * Rows are those of openai/grade-school-math: `{"question": "...", "answer": "... #### 18"}`, with calculator marks
 * `<<16-3=13>>` in the worked answer and thousands commas in the gold number. What a completion's number is says
 * `verify/final-number.ts`; it is compared as an exact fraction, so that 18, 18.0, $18 and 36/2 are one answer.
 * Two classes of error: `no answer` and `wrong answer`.
 */
import type { Problem, Verdict } from '../method/episode.ts';
import type { Task } from '../method/task.ts';
import { hasField, idOf, isDataRow, refuse, rowWith, textField } from './fields.ts';
import { PLAIN, plainPrompts } from './plain-prompts.ts';
import { bareNumber, finalNumber, numbersOf } from './verify/final-number.ts';
import { add, equal, ofDecimal, negate, show, type Rational } from './verify/math-answer/rational.ts';

export interface Gsm8kProblem extends Problem {
  question: string;
  /** A whole number or a fraction: `18`, `-5`, `7/2`. */
  gold: string;
}

const MARK = '####';
/** Not the answer to any of the problems, so that a copy of the prompt passes for none. */
const EXAMPLE = '1234.5';

export const gsm8k = {
  name: 'gsm8k',
  promptSets: [PLAIN.name],
  prompts: plainPrompts,
  pose: ({ question }) => [{ role: 'user', content: posed(question) }],
  poseAgain: ({ question }) => posed(question),
  verify,
  parseRow,
  known,
  answersIn: (_problem, reflection) => numbersOf(reflection).map((number) => `${MARK} ${show(number)}`),
  answerRow: (row) => ({ problem: answered(row), prompts: PLAIN }),
} satisfies Task<Gsm8kProblem>;

function posed(question: string): string {
  return (
    `${question}\n\nReason step by step. Write the answer on the last line, as a number after ${MARK}, ` +
    `for example: ${MARK} ${EXAMPLE}`
  );
}

function verify({ gold }: Gsm8kProblem, answer: string): Verdict {
  const number = finalNumber(answer);
  if (number === undefined) {
    return { ok: false, class: 'no answer', why: `expected a number after ${MARK}, got none` };
  }
  const isRight = equal(number, goldNumber(gold));
  return isRight
    ? { ok: true }
    : { ok: false, class: 'wrong answer', why: `expected ${gold}, got ${show(number)}` };
}

/** `{question, answer}`, with an optional `id`; or a problem that was read before. Without an id, equal questions have equal ids. */
function parseRow(row: unknown): Gsm8kProblem {
  if (hasField(row, 'gold')) return answered(row);
  const fields = rowWith(row, ['question', 'answer']);
  const question = textField(fields, 'question');
  const answer = textField(fields, 'answer');
  if (!answer.includes(MARK)) return refuse('answer', `a text with ${MARK} before its number`, answer);
  return { id: idOf(fields, 'id', 'gsm8k', question), question, gold: readGold('answer', answer) };
}

/** `{gold}`: a number, or a worked answer that ends in `#### number`; or a row of the data set. */
function answered(row: unknown): Gsm8kProblem {
  if (isDataRow(row, 'question')) return parseRow(row);
  const fields = rowWith(row, ['gold']);
  const { gold } = fields;
  const text =
    typeof gold === 'number' || typeof gold === 'bigint' ? String(gold) : textField(fields, 'gold');
  const question = typeof fields['question'] === 'string' ? fields['question'] : '';
  return { id: idOf(fields, 'id', 'gsm8k', question + text), question, gold: readGold('gold', text) };
}

function readGold(field: string, text: string): string {
  const number = bareNumber(
    text.slice(text.lastIndexOf(MARK) < 0 ? 0 : text.lastIndexOf(MARK) + MARK.length),
  );
  return number === undefined
    ? refuse(field, `a number${field === 'answer' ? ` after ${MARK}` : ''}`, text)
    : show(number);
}

/** As `show` of a fraction writes it. */
function goldNumber(gold: string): Rational {
  const [above = '', below = '1'] = gold.replace('-', '').split('/');
  const size = { num: ofDecimal(above).num, den: ofDecimal(below).num };
  return gold.startsWith('-') ? negate(size) : size;
}

function known({ gold }: Gsm8kProblem): { answer: string; ok: boolean }[] {
  const next = show(add(goldNumber(gold), { num: 1n, den: 1n }));
  return [
    { answer: `So that is it.\n${MARK} ${gold}`, ok: true },
    { answer: `First ${next}, then less. The answer is \\boxed{${gold}}.`, ok: true },
    { answer: `${MARK} ${gold}\nNo: \n${MARK} ${next}`, ok: false },
    { answer: `The answer is ${next}.`, ok: false },
    { answer: '', ok: false },
    { answer: MARK, ok: false },
    { answer: 'I do not know', ok: false },
  ];
}
