/**
 * Where in a completion its answer stands.
 *
 *   1. the last \boxed{...} or \fbox{...} (braces balanced; `\boxed 5` too); boxes with nothing but a comma, `and` or
 *      `or` between them are one list. A "final answer is ..." after it comes before it;
 *   2. the last line `#### ...`;
 *   3. the last "answer is ..." or "Answer: ...", up to the end of its sentence, or its formula where it is one;
 *   4. in the last line: its last formula, what "is ...", "are ..." or "get ..." states at its end, or all of it where
 *      it is the only line and short enough to be a bare answer.
 *
 * This order is that of Math-Verify and of the few-shot prompts of Lewkowycz et al. (arXiv 2206.14858), which end in "The
 * final answer is $...$. I hope it is correct.". A number that nothing states is never taken for an answer.
 */
/** Of a completion that is a bare answer. */
const MAX_BARE_LENGTH = 200;
const FORMULA =
  /\$\$((?:\\.|[^$\\]){1,1000})\$\$|\$((?:\\.|[^$\\]){1,1000})\$|\\\(([\s\S]{1,1000}?)\\\)|\\\[([\s\S]{1,1000}?)\\\]/g;
const MAX_SENTENCE = 500;
/** Of a text between two boxes of one list. */
const MAX_BETWEEN = 60;
/** Characters at the end of a completion that are searched: where answers stand. Bounds the time. */
const MAX_SEARCHED = 20_000;

/** The part of a completion that is searched. */
export function searched(completion: string): string {
  return completion.slice(-MAX_SEARCHED).trim();
}

/** undefined where nothing in the text is stated as the answer. */
export function extractAnswer(completion: string): string | undefined {
  const text = searched(completion);
  const boxed = lastBoxed(text);
  if (boxed !== undefined && text.lastIndexOf('\\boxed') > lastFinal(text)) return boxed;
  return (
    (lastFinal(text) < 0 ? undefined : afterAnswerIs(text)) ??
    boxed ??
    afterHashes(text) ??
    afterAnswerIs(text) ??
    lastLineAnswer(text)
  );
}

/** The inside of the last box, or of the last boxes that make one list. */
export function lastBoxed(completion: string): string | undefined {
  const text = searched(completion);
  const closing = closingBraces(text);
  const boxes: { start: number; end: number; inside: string }[] = [];
  for (const found of text.matchAll(/\\(?:boxed|fbox)\s*/g)) {
    const start = found.index;
    const from = start + found[0].length;
    if ((boxes.at(-1)?.end ?? 0) > start) continue;
    if (text[from] === '{') {
      const end = closing.get(from);
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
    if (next !== undefined && !joinsBoxes(text.slice(box.end, next.start))) break;
    insides.unshift(box.inside);
  }
  return insides.length === 0 ? undefined : [...new Set(insides.map((inside) => inside.trim()))].join(', ');
}

/** Whether a text between two boxes makes them one list: a comma, `and` or `or`, and nothing else. */
function joinsBoxes(between: string): boolean {
  const bare = between.slice(0, MAX_BETWEEN).replaceAll(/\\[() ,;!]|\\text\{|\\q?quad|[\s$}]/g, ' ');
  return between.length <= MAX_BETWEEN && /^ *(?:[,;] *(?:and|or)?|and|or) *$/.test(bare);
}

/** From each opening brace to the one that closes it, in one pass. */
function closingBraces(text: string): Map<number, number> {
  const closing = new Map<number, number>();
  const open: number[] = [];
  for (let i = 0; i < text.length; i++) {
    if (text[i] === '\\') i += 1;
    else if (text[i] === '{') open.push(i);
    else if (text[i] === '}') {
      const start = open.pop();
      if (start !== undefined) closing.set(start, i);
    }
  }
  return closing;
}

function afterHashes(text: string): string | undefined {
  // A heading may begin with as many signs, and is made of words.
  const lines = [...text.matchAll(/^\s*####[ \t]*(\S.*)$/gm)].filter(
    ([line]) => !/(?<!\\)\b[A-Za-z]{3,}:?\s+\S/.test(line),
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
  const sentence = (rest.split(/\n|\.\s|\.$/, 1)[0] ?? '').replaceAll('**', '').trim();
  const [beginning] = sentence.split(/,?\s(?:which|because|since|as)\b/, 1);
  // "5, which is prime" states what it begins with.
  if (beginning !== sentence && /^\\?[-−$]*\d/.test(sentence)) return beginning;
  return sentence === '' ? undefined : (endOfStatement(sentence) ?? sentence);
}

function lastLineAnswer(text: string): string | undefined {
  const formula = [...text.matchAll(FORMULA)].at(-1);
  const isLast = formula !== undefined && !text.slice(formula.index + formula[0].length).includes('\n');
  if (isLast) return insideOf(formula);
  const line = text.split('\n').at(-1)?.replaceAll('**', '').trim() ?? '';
  if (line.length > MAX_BARE_LENGTH) return undefined;
  return endOfStatement(line) ?? (line !== '' && !text.includes('\n') ? line : undefined);
}

/** Of "the sum of both is 5" what stands after the last "is". */
function endOfStatement(sentence: string): string | undefined {
  if (sentence.length > MAX_SENTENCE) return undefined;
  const stated = /^.*(?<!\\)\b(?:is|are|equals|get|gives|obtain)\b:?\s+(?!not\b)(.+?)\.?$/i.exec(
    sentence,
  )?.[1];
  const formula = stated === undefined ? undefined : [...stated.matchAll(FORMULA)][0];
  return formula?.index === 0 ? insideOf(formula) : stated;
}

/** Where a last "final answer is" begins, -1 where there is none. */
function lastFinal(text: string): number {
  return [...text.matchAll(/\bfinal answer is\b/gi)].at(-1)?.index ?? -1;
}

/** Every formula of a text, with what it states as its answer: what could be meant as one. */
export function formulasOf(text: string): string[] {
  const formulas = [...text.matchAll(FORMULA)].map(insideOf);
  return [...new Set([extractAnswer(text), ...formulas])].filter((each) => each !== undefined);
}

function insideOf(formula: RegExpExecArray | RegExpMatchArray): string {
  return (formula[1] ?? formula[2] ?? formula[3] ?? formula[4] ?? '').trim();
}
