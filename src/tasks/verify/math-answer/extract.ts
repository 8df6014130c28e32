/**
 * Where in a completion its answer stands.
 *
 *   1. the last \boxed{...} or \fbox{...} (braces balanced; `\boxed 5` too); boxes with nothing but a comma, `and` or
 *      `or` between them are one list;
 *   2. the last line `#### ...`;
 *   3. the last "answer is ..." or "Answer: ...", up to the end of its sentence, or its formula where it is one;
 *   4. the last line, where it is one formula, or where it is the only line and short enough to be a bare answer.
 *
 * This order is that of Math-Verify and of the few-shot prompts of Lewkowycz et al. (arXiv 2206.14858), which end in "The
 * final answer is $...$. I hope it is correct.". Numbers in running text are never taken for an answer.
 */
import { closingBrace } from './lexer.ts';

/** Of a completion that is a bare answer. */
const MAX_BARE_LENGTH = 200;
const FORMULA = /\$\$([^$]+)\$\$|\$([^$]+)\$|\\\(([\s\S]+?)\\\)|\\\[([\s\S]+?)\\\]/g;

/** undefined where nothing in the text is stated as the answer. */
export function extractAnswer(completion: string): string | undefined {
  const text = completion.trim();
  return lastBoxed(text) ?? afterHashes(text) ?? afterAnswerIs(text) ?? bareAnswer(text);
}

/** The inside of the last box, or of the last boxes that make one list. */
export function lastBoxed(text: string): string | undefined {
  const boxes: { start: number; end: number; inside: string }[] = [];
  for (const found of text.matchAll(/\\(?:boxed|fbox)\s*/g)) {
    const start = found.index;
    const from = start + found[0].length;
    if ((boxes.at(-1)?.end ?? 0) > start) continue;
    if (text[from] === '{') {
      const end = closingBrace(text, from);
      if (end !== undefined) boxes.push({ start, end: end + 1, inside: text.slice(from + 1, end) });
      continue;
    }
    const word = /^[^\s$\\{},;]+/.exec(text.slice(from, from + MAX_BARE_LENGTH))?.[0].replace(/\.$/, '');
    if (word !== undefined && word !== '') boxes.push({ start, end: from + word.length, inside: word });
  }
  const insides: string[] = [];
  for (let i = boxes.length - 1; i >= 0; i--) {
    const box = boxes[i];
    const next = boxes[i + 1];
    if (box === undefined) break;
    if (
      next !== undefined &&
      !/^[\s,;$]*(?:\\[()]|\\text\{|\\quad|and|or|\}|[\s,;$])*$/.test(
        text.slice(box.end, next.start).slice(0, 60),
      )
    )
      break;
    insides.unshift(box.inside);
  }
  return insides.length === 0 ? undefined : [...new Set(insides.map((inside) => inside.trim()))].join(', ');
}

function afterHashes(text: string): string | undefined {
  // A heading may begin with as many signs, and is made of words.
  const lines = [...text.matchAll(/^\s*####[ \t]*(\S.*)$/gm)].filter(
    ([line]) => !/[A-Za-z]{3,}:? /.test(line),
  );
  return lines.at(-1)?.[1]?.trim();
}

/** What follows the last "answer is". */
export function afterAnswerIs(text: string): string | undefined {
  const found = [...text.matchAll(/\banswer\b\**\s*(?:is|:|=)\**:?\s*/gi)].at(-1);
  if (found === undefined) return undefined;
  const rest = text.slice(found.index + found[0].length);
  const [formula] = [...rest.matchAll(FORMULA)];
  const between = formula === undefined ? '' : rest.slice(0, formula.index);
  // "the answer is x = $5$" begins before its formula.
  if (formula !== undefined && /^[\s*]*$/.test(between)) return insideOf(formula);
  const sentence = rest.split(/\n|\.\s|\.$/, 1)[0] ?? '';
  const stated = sentence.replaceAll('**', '').trim();
  return stated === '' ? undefined : stated;
}

function bareAnswer(text: string): string | undefined {
  const line = text.split('\n').at(-1)?.trim() ?? '';
  const [formula, second] = [...line.matchAll(FORMULA)];
  if (formula !== undefined && second === undefined && /^[\s.*]*$/.test(line.replace(formula[0], ''))) {
    return insideOf(formula);
  }
  const isBare = line !== '' && line === text && line.length <= MAX_BARE_LENGTH;
  return isBare ? line.replaceAll('**', '').trim() : undefined;
}

/** Every formula of a text, with what it states as its answer: what could be meant as one. */
export function formulasOf(text: string): string[] {
  const formulas = [...text.matchAll(FORMULA)].map(insideOf);
  return [...new Set([extractAnswer(text), ...formulas])].filter((each) => each !== undefined);
}

function insideOf(formula: RegExpExecArray | RegExpMatchArray): string {
  return (formula[1] ?? formula[2] ?? formula[3] ?? formula[4] ?? '').trim();
}
