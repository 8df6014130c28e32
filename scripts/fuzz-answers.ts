/**
 * Feeds made-up answers to every reader of answers: `node scripts/run-ts.mjs scripts/fuzz-answers.ts --inputs N [--seed N] [--reader NAME]`.
 *
 * Inputs are golds, LaTeX and prose, cut up, joined and mutated, a few of them very long. Each reader gets N of them and
 * must return without an error and within MAX_MS; equality of mathematical answers must be reflexive and symmetric. Prints
 * a line for each reader; what fails is thrown with its input.
 */
import { performance } from 'node:perf_hooks';
import { parseArgs } from 'node:util';
import { makeRng, type Rng } from '../src/lib/rng.ts';
import { chosenOption } from '../src/tasks/multiple-choice.ts';
import { finalNumber } from '../src/tasks/verify/final-number.ts';
import { extractAnswer } from '../src/tasks/verify/math-answer/extract.ts';
import { sameMathAnswer } from '../src/tasks/verify/math-answer/math-answer.ts';

/** Of one input; far above what any took on a busy machine. */
const MAX_MS = 2000;
const LONGEST = 200_000;

const GOLDS = [
  '\\left( 3, \\frac{\\pi}{2} \\right)',
  '\\text{Evelyn}',
  '90^\\circ',
  '3\\sqrt{13}',
  '1 \\pm \\sqrt{19}',
  '\\begin{pmatrix} -1/3 \\\\ 2/3 \\end{pmatrix}',
  '(-\\infty, 2) \\cup (3, \\infty)',
  'x \\in [-2,7]',
  '10,\\!080',
  '52_8',
  '1\\frac{4}{5}',
  '\\frac{x+2}{x^2-4}',
  '2 \\sin b \\cos a',
  '\\log_2 8',
  '0.1\\overline{6}',
  '50\\%',
  '1:2:3',
  'f(2) < f(1)',
  '\\binom{5}{2}!',
];
const PIECES = [
  ...'0123456789 x y e i n ( ) [ ] { } | , ; : . = < > + - * / ^ _ ! % & $ ~'.split(' '),
  ' ',
  '\n',
  '\\',
  '\\\\',
  '\\,',
  '\\{',
  '\\}',
  '\\$',
  '\\(',
  '\\)',
  '\\[',
  '\\]',
  ...String.raw`\frac \dfrac \sqrt \sqrt[3] \pm \mp \cup \in \le \ne \infty \pi \sin \log_ \ln \text{ \mathrm{ \begin{pmatrix} \end{pmatrix} \overline{ ^{-1} ^\circ \boxed{ \boxed \approx \left \right \binom \emptyset \mathbb{R}`.split(
    ' ',
  ),
  '####',
  'answer is',
  'Answer:',
  ' and ',
  ' or ',
  'The answer is (B).',
  'eggs',
  '√',
  '−',
  '½',
  '😀',
  '\u0000',
  '99999999999999999999',
  '1,000',
  '^{99}',
  '^{9999999}',
];

function makeInput(rng: Rng): string {
  const kind = rng.below(100);
  if (kind < 30) return mutated(rng.pick(GOLDS), rng);
  if (kind < 35) return rng.pick(GOLDS) + rng.pick(PIECES) + rng.pick(GOLDS);
  if (kind === 99 && rng.below(500) === 0) {
    const piece = rng.pick(PIECES);
    return piece.repeat(rng.below(LONGEST / Math.max(1, piece.length)));
  }
  if (kind >= 97) return rng.pick(PIECES).repeat(rng.below(120)) + rng.pick(GOLDS);
  return Array.from({ length: rng.below(14) }, () => rng.pick(PIECES)).join('');
}

/** A few characters dropped, doubled or replaced. */
function mutated(text: string, rng: Rng): string {
  let result = text;
  for (let step = rng.below(4); step > 0; step--) {
    const at = rng.below(result.length + 1);
    result = result.slice(0, at) + rng.pick(['', rng.pick(PIECES)]) + result.slice(at + rng.below(2));
  }
  return result;
}

const OPTIONS = ['7', 'Paris', 'x + 1', 'A town'];
let held = '';
const READERS: Readonly<Record<string, (input: string) => void>> = {
  extractAnswer: (input) => void extractAnswer(input),
  finalNumber: (input) => void finalNumber(input),
  chosenOption: (input) => void chosenOption(input, OPTIONS),
  sameMathAnswer: (input) => {
    if (!sameMathAnswer(input, input)) throw new Error('an answer differs from itself');
    if (sameMathAnswer(input, held) !== sameMathAnswer(held, input)) {
      throw new Error(`equality with ${JSON.stringify(held)} depends on the order`);
    }
    held = input;
  },
};

const { values } = parseArgs({
  options: {
    inputs: { type: 'string', default: '10000' },
    seed: { type: 'string', default: '1' },
    reader: { type: 'string' },
  },
});
for (const [index, [name, read]] of Object.entries(READERS).entries()) {
  if (values.reader !== undefined && values.reader !== name) continue;
  const rng = makeRng(Number(values.seed), index);
  const started = performance.now();
  let slowest = 0;
  for (let i = 0; i < Number(values.inputs); i++) {
    const input = makeInput(rng);
    const before = performance.now();
    try {
      read(input);
    } catch (cause) {
      throw new Error(`${name}: input ${i}: ${JSON.stringify(input.slice(0, 2000))}`, { cause });
    }
    const took = performance.now() - before;
    if (took > MAX_MS) throw new Error(`${name}: ${took} ms for ${JSON.stringify(input.slice(0, 2000))}`);
    slowest = Math.max(slowest, took);
  }
  const seconds = (performance.now() - started) / 1000;
  console.log(
    `${name}: ${values.inputs} inputs in ${seconds.toFixed(1)} s, the slowest took ${slowest.toFixed(0)} ms`,
  );
}
