/**
 * Multiple-choice questions, which MMLU, MMLU-Pro and HellaSwag share: posing, reading the chosen letter, verdicts.
 *
 * The chosen letter of an answer is the first that is found of:
 *   1. the last statement: "answer is (X)", "Answer: X" or \boxed{X}, whichever comes last; or one that gives the text
 *      of an option instead of its letter;
 *   2. an answer that is a letter (`B`, `(B)`, `B.`), a letter with its option (`B. Paris`), or the text of an option,
 *      and nothing else;
 *   3. the last capital letter that stands alone, but not the words "I" and "A".
 * Patterns 1 and 3 are those of MMLU-Pro's evaluation (TIGER-AI-Lab/MMLU-Pro, evaluate_from_api.py). Departures: of
 * several statements the last counts, not the first; "Answer: Because" names no letter; 2 comes before 3, so that
 * `B. Vitamin C` is B where that is an option; the words I and A are left out; where nothing is found the answer is
 * wrong, not a random letter.
 * A letter beyond the options is no answer. Two classes of error: `no answer` and `wrong answer`.
 */
import type { Message, Problem, Verdict } from '../method/episode.ts';
import type { Choices, Task } from '../method/task.ts';
import { refuse } from './fields.ts';
import { PLAIN, plainPrompts } from './plain-prompts.ts';
import { lastBoxed, searched } from './verify/math-answer/extract.ts';

export interface ChoiceProblem extends Problem {
  question: string;
  options: string[];
  /** The index of the right option. */
  answer: number;
}

/** Letters of the alphabet. */
export const MAX_OPTIONS = 26;

export function letterOf(index: number): string {
  return String.fromCharCode('A'.charCodeAt(0) + index);
}

/** A letter or an index, as data sets write the answer. Throws R3Error `bad-row`. */
export function parseAnswer(field: string, value: unknown, options: readonly string[]): number {
  const last = letterOf(options.length - 1);
  const asText = typeof value === 'string' ? value.trim().replace(/^\(?([A-Za-z])\)?\.?$/, '$1') : value;
  const index =
    typeof asText === 'string' && /^[A-Za-z]$/.test(asText)
      ? asText.toUpperCase().charCodeAt(0) - 'A'.charCodeAt(0)
      : Number(typeof asText === 'string' && /^\d{1,2}$/.test(asText) ? asText : asNumber(asText));
  if (Number.isInteger(index) && index >= 0 && index < options.length) return index;
  return refuse(field, `a letter from A to ${last} or an index from 0 to ${options.length - 1}`, value);
}

function asNumber(value: unknown): number {
  return typeof value === 'number' || typeof value === 'bigint' ? Number(value) : Number.NaN;
}

/** `A. ...`, a line for each option. */
export function optionLines(options: readonly string[]): string {
  return options.map((option, i) => `${letterOf(i)}. ${option}`).join('\n');
}

export function poseChoice({ question, options }: ChoiceProblem): string {
  return (
    `${question}\n\n${optionLines(options)}\n\n` +
    'Reason step by step, then end with a line "The answer is (X)", where X is the letter of the right option.'
  );
}

export function poseChoiceMessages(problem: ChoiceProblem): readonly Message[] {
  return [{ role: 'user', content: poseChoice(problem) }];
}

/**
 * A question in plain text as lm-evaluation-harness poses MMLU (tasks/mmlu/default/_default_template_yaml): options as
 * lines, then "Answer:".
 */
export function plainQuestion({ question, options }: ChoiceProblem): string {
  return `${question.trim()}\n${optionLines(options)}\nAnswer:`;
}

/** The letters as continuations of that question, each after a space. */
export function letterChoices(problem: ChoiceProblem, introduction: string): Choices {
  return {
    context: introduction + plainQuestion(problem),
    continuations: problem.options.map((_, i) => ` ${letterOf(i)}`),
    answer: problem.answer,
  };
}

export function verifyChoice({ options, answer }: ChoiceProblem, text: string): Verdict {
  const chosen = chosenOption(text, options);
  const right = letterOf(answer);
  if (chosen === undefined) {
    const why = `expected "The answer is (X)" with X from A to ${letterOf(options.length - 1)}, got no such letter`;
    return { ok: false, class: 'no answer', why };
  }
  if (chosen === answer || sameOption(options[chosen], options[answer])) return { ok: true };
  return { ok: false, class: 'wrong answer', why: `expected ${right}, got ${letterOf(chosen)}` };
}

/** The index of the option that an answer chooses; undefined where it chooses none. Never throws. */
export function chosenOption(text: string, options: readonly string[]): number | undefined {
  const plain = searched(text).replaceAll('**', '').trim();
  const statement = stated(plain, options) ?? readChoice(plain, options) ?? lastLetter(plain, options.length);
  return statement === BEYOND ? undefined : statement;
}

/** A letter that is stated and that no option has. */
const BEYOND = -1;
/** Characters after "answer is" that are read. */
const MAX_STATEMENT = 300;

/** The last of "answer is ..." and \boxed{...}. */
function stated(text: string, options: readonly string[]): number | undefined {
  const candidates: { at: number; choice: number }[] = [];
  for (const found of text.matchAll(/\banswer\b\s*(?:is|:)[\s:]*/gi)) {
    const start = found.index + found[0].length;
    const [rest = ''] = text.slice(start, start + MAX_STATEMENT).split('\n', 1);
    const choice = beginsWithChoice(rest, options) ?? readChoice(rest.split(/\.\s|\.$/, 1)[0] ?? '', options);
    if (choice !== undefined) candidates.push({ at: found.index, choice });
  }
  const boxed = lastBoxed(text);
  const inBox =
    boxed === undefined ? undefined : (readChoice(boxed, options) ?? beginsWithMark(boxed, options));
  if (inBox !== undefined) candidates.push({ at: text.lastIndexOf('\\boxed'), choice: inBox });
  return candidates.toSorted((a, b) => a.at - b.at).at(-1)?.choice;
}

/** "A dog" and "I think", but not "A is" and "A or". */
const WORD = /^(?:I [a-z]|A (?!(?:is|was|or|and|as|but|because|since|would)\b)[a-z])/;

/** What a statement begins with: `(B)`, `option B`, `B.`; a small letter only in parentheses. */
function beginsWithChoice(text: string, options: readonly string[]): number | undefined {
  const cleaned = unwrapped(text).replace(/^(?:(?:the )?(?:option|choice|letter)\s+)/i, '');
  const found = /^\(([A-Za-z])\)|^([A-Z])(?![A-Za-z0-9'’])/.exec(cleaned);
  const [, inParentheses, bare] = found ?? [];
  // "The answer is A dog" and "is I think" begin with words.
  if (bare !== undefined && WORD.test(cleaned)) return undefined;
  const letter = inParentheses ?? bare;
  return letter === undefined ? undefined : indexOf(letter, options.length);
}

/** A text that is a choice and nothing else: a letter, a letter and its option, or the text of an option. */
function readChoice(text: string, options: readonly string[]): number | undefined {
  const cleaned = unwrapped(text);
  const alone = /^\(?([A-Za-z])\)?[.:]?$/.exec(cleaned)?.[1];
  if (alone !== undefined) return indexOf(alone, options.length);
  const place = options.findIndex((option) => sameOption(unwrapped(option), cleaned));
  if (place >= 0) return place;
  const marked = beginsWithMark(text, options);
  const itsOption = unwrapped(options[marked ?? BEYOND] ?? '');
  return sameOption(itsOption, cleaned.replace(MARK, '')) ? marked : undefined;
}

/** `(B) `, `B. `, `B) ` or `B: `. */
const MARK = /^(?:\(([A-Z])\)|([A-Z])[.):])\s+/;

function beginsWithMark(text: string, options: readonly string[]): number | undefined {
  const [, inParentheses, bare] = MARK.exec(unwrapped(text)) ?? [];
  const letter = inParentheses ?? bare;
  return letter === undefined ? undefined : indexOf(letter, options.length);
}

/** Without the signs of mathematics, text commands and quotes around it. */
function unwrapped(text: string): string {
  return text
    .replaceAll(/\\(?:text|textbf|mathrm|mathbf|boxed)\s*\{([^{}]*)\}/g, '$1')
    .replaceAll(/\\[()[\]]|[$*"`]/g, '')
    .trim();
}

function lastLetter(text: string, count: number): number | undefined {
  const letters = [...text.matchAll(/(?<![A-Za-z0-9'’])([A-Z])(?![A-Za-z0-9'’])/g)].filter(
    ({ index }) => !WORD.test(text.slice(index, index + 12)),
  );
  const last = letters.map(([letter]) => indexOf(letter, count)).filter((index) => index !== BEYOND);
  return last.at(-1);
}

function indexOf(letter: string, count: number): number {
  const index = letter.toUpperCase().charCodeAt(0) - 'A'.charCodeAt(0);
  return index < count ? index : BEYOND;
}

/** Whatever their case, white space and full stop. */
function sameOption(a: string | undefined, b: string | undefined): boolean {
  const key = (text: string): string => text.toLowerCase().replaceAll(/\s+/g, ' ').trim().replace(/\.$/, '');
  return a !== undefined && b !== undefined && key(a) !== '' && key(a) === key(b);
}

export function knownChoices({ options, answer }: ChoiceProblem): { answer: string; ok: boolean }[] {
  const right = letterOf(answer);
  const other = options.findIndex((option, i) => i !== answer && !sameOption(option, options[answer]));
  const wrong = letterOf(other < 0 ? options.length : other);
  return [
    { answer: `It could be ${wrong}, but it is not. The answer is (${right}).`, ok: true },
    { answer: right, ok: true },
    { answer: `\\boxed{${right}}`, ok: true },
    { answer: `It could be ${right}, but it is not. The answer is (${wrong}).`, ok: false },
    { answer: `The answer is (${letterOf(MAX_OPTIONS - 1)}).`, ok: false },
    { answer: '', ok: false },
    { answer: 'it cannot be known', ok: false },
  ];
}

/** What these tasks have in common beside their rows. */
export const CHOICE_TASK = {
  promptSets: [PLAIN.name],
  prompts: plainPrompts,
  pose: poseChoiceMessages,
  poseAgain: poseChoice,
  verify: verifyChoice,
  known: knownChoices,
} satisfies Partial<Task<ChoiceProblem>>;
