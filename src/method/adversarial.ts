/**
 * Answers that no task expects, for `r3 check` and whoever audits a verifier: junk, nothing, very much, the prompt
 * itself, tokens of chat templates, characters that look like others, deep nesting, long numbers, and known-good
 * answers in disguise. A function of its arguments; it judges nothing.
 */

/** Answers of one kind, and what a verifier may say to them. */
export interface AdversarialKind {
  name: string;
  /**
   * `fail`: every sound verifier rejects them. `rarely pass`: they pass by luck alone, as where the last number of a
   * problem is its answer. `any`: pass or fail, but a verdict.
   */
  expected: 'fail' | 'rarely pass' | 'any';
  answers: readonly string[];
}

const MEGABYTE = 1 << 20;
/** Deeper than any parser that calls itself can go. */
const DEPTH = 100_000;
const REPEATS = 1000;

const JUNK = ['I do not know', 'lorem ipsum dolor sit amet', '?', 'N/A', 'undefined', '\u{1f937}'];
const EMPTY = ['', ' ', '\n', ' \t\r\n '];
const CONTROL_TOKENS = [
  '<|im_end|>',
  '<|endoftext|>',
  '<|eot_id|>',
  '</s>',
  '<pad>',
  '[INST]',
  '<|im_start|>assistant\n',
];
const RIGHT_TO_LEFT = '\u202e';
const FULL_WIDTH_ZERO = 0xff10;
const ARABIC_ZERO = 0x0660;

/**
 * `prompt`: the text that poses the problem. `good`: answers that are known to pass; the first one is disguised. Where
 * saying nothing is right, so may anything else be that is no answer: then nothing is expected to fail.
 */
export function adversarialAnswers(prompt: string, good: readonly string[]): AdversarialKind[] {
  const kinds: AdversarialKind[] = [
    { name: 'junk', expected: 'fail', answers: JUNK },
    { name: 'empty answers', expected: 'fail', answers: EMPTY },
    {
      name: 'huge answers',
      expected: 'fail',
      answers: ['x', ' ', 'x \n'].map((text) => fillTo(text, MEGABYTE)),
    },
    { name: 'prompt echoed', expected: 'rarely pass', answers: [prompt, `${prompt}\n${prompt}`] },
    { name: 'control tokens', expected: 'fail', answers: [...CONTROL_TOKENS, CONTROL_TOKENS.join('')] },
    {
      name: 'control characters',
      expected: 'any',
      answers: ['\0', '\0'.repeat(REPEATS), '\ufffd\ufeff', '\ud800', '\u001b[2J'],
    },
    { name: 'deep nesting', expected: 'any', answers: nested() },
    {
      name: 'long numbers',
      expected: 'any',
      answers: [
        '9'.repeat(DEPTH),
        `0.${'1'.repeat(DEPTH)}`,
        `-${'1'.repeat(REPEATS)}/${'3'.repeat(REPEATS)}`,
        '1e999999999',
        '2^99999999',
        '1 + '.repeat(REPEATS),
      ],
    },
    { name: 'JSON and LaTeX bombs', expected: 'any', answers: bombs() },
  ];
  const isNothingRight = good.some((answer) => answer.trim() === '');
  const kept = (kind: AdversarialKind): AdversarialKind => ({
    ...kind,
    expected: isNothingRight ? 'any' : kind.expected,
    answers: kind.answers.filter((answer) => !good.includes(answer)),
  });
  return [
    ...kinds.map(kept),
    { name: 'good answers in disguise', expected: 'any', answers: good.slice(0, 1).flatMap(disguises) },
  ];
}

function fillTo(text: string, length: number): string {
  return text.repeat(Math.ceil(length / text.length)).slice(0, length);
}

function nested(): string[] {
  const pairs = ['()', '[]', '{}'] as const;
  return [
    ...pairs.map(([open = '', close = '']) => `${open.repeat(DEPTH)}1${close.repeat(DEPTH)}`),
    ...pairs.map(([open = '']) => open.repeat(DEPTH)),
    '-'.repeat(DEPTH),
  ];
}

function bombs(): string[] {
  return [
    `${'{"a":'.repeat(DEPTH)}1${'}'.repeat(DEPTH)}`,
    `[${'"a",'.repeat(DEPTH)}"a"]`,
    `{${Array.from({ length: REPEATS }, (_, i) => `"k${i}": ${i}`).join(', ')}}`,
    '{"__proto__": {"ok": true}, "constructor": {"prototype": null}}',
    `\\boxed{${'\\frac{1}{'.repeat(REPEATS)}1${'}'.repeat(REPEATS)}}`,
    '\\boxed{'.repeat(REPEATS),
    '\\def\\x{\\x\\x}\\x',
    '$'.repeat(DEPTH),
  ];
}

/** A known-good answer in other surroundings: tasks differ in what they make of each. */
function disguises(good: string): string[] {
  const digits = (zero: number): string =>
    good.replaceAll(/[0-9]/g, (digit) => String.fromCodePoint(zero + Number(digit)));
  return [
    `I cannot answer this. ${good} is not the answer.`,
    `I am sorry, but I will not say that it is ${good}`,
    `${good}${CONTROL_TOKENS[0]}`,
    `${CONTROL_TOKENS.at(-1)}${good}`,
    `${RIGHT_TO_LEFT}${good}`,
    `${good}\0`,
    `\0${good}`,
    ` ${good}\n`,
    Array.from({ length: REPEATS }, () => good).join('\n'),
    ...[FULL_WIDTH_ZERO, ARABIC_ZERO].map(digits).filter((text) => text !== good),
  ];
}
