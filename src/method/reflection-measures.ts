/**
 * What the reflections of an evaluation are like, as numbers that need no model: length, scripts, repetition, leaks.
 *
 * They describe; none of them enters a reward. A reflection can be short, in one script and free of repeats and still
 * be worthless: what it is worth is the lift over the controls.
 */
import { lengthOf } from '../text/message.ts';
import type { Hint } from './episode.ts';
import { mean, wilson, type Rate } from './statistics.ts';

/** A reflection and what is known of it. */
export interface MeasuredReflection {
  text: string;
  tokens: readonly number[];
  /** As in `Written`. */
  tokenCount?: number;
  /** Whether it ended within its limit. */
  ended: boolean;
  /** Whether it holds a passing answer; null where that was not judged. */
  leaked: boolean | null;
  /** Where the task can tell. */
  kind?: string;
  hint?: Hint;
}

/** Shares and means over reflections; NaN (null in JSON) where there are none to tell of. */
export interface ReflectionMeasures {
  count: number;
  /** Length, the stop token included. */
  tokens: { mean: number; median: number; max: number };
  /** Share that was cut off at the limit of its length: there is then no retry. */
  cutOff: number;
  /** Share of all letters by script (`scriptCounts`). */
  scripts: Record<string, number>;
  /** Share of reflections with letters of more than one script; Greek ones are not counted: they are signs of mathematics. */
  mixedScripts: number;
  /** Mean of `repetition`, of reflections whose ids are known. */
  repetition: number;
  /** Share of the judged reflections that hold a passing answer. */
  leaked: Rate;
  /** Share of each kind; empty where the task tells none. */
  kinds: Record<string, number>;
  /** Share with a true hint, of all and of those that hint at all; NaN where the task does not tell. */
  trueHints: number;
  trueOfHints: number;
}

export function measureReflections(reflections: readonly MeasuredReflection[]): ReflectionMeasures {
  const lengths = reflections.map(lengthOf).toSorted((a, b) => a - b);
  const counts = reflections.map(({ text }) => scriptCounts(text));
  const judged = reflections.filter(({ leaked }) => leaked !== null);
  const described = reflections.filter(({ hint }) => hint !== undefined);
  const hinting = described.filter(({ hint }) => hint !== 'none');
  const isTrue = ({ hint }: MeasuredReflection): boolean => hint === 'true';
  return {
    count: reflections.length,
    tokens: { mean: mean(lengths), median: median(lengths), max: lengths.at(-1) ?? Number.NaN },
    cutOff: share(reflections, ({ ended }) => !ended),
    scripts: sharesOf(counts.flatMap((count) => [...count])),
    mixedScripts: share(counts, (count) => [...count.keys()].filter((name) => name !== 'Greek').length > 1),
    repetition: mean(
      reflections.flatMap(({ tokens, tokenCount }) => (tokenCount === undefined ? repetition(tokens) : [])),
    ),
    leaked: wilson(judged.filter(({ leaked }) => leaked).length, judged.length),
    kinds: sharesOf(described.map(({ kind }) => [kind ?? 'other', 1])),
    trueHints: share(described, isTrue),
    trueOfHints: share(hinting, isTrue),
  };
}

const NGRAM = 4;

/**
 * Share of the 4-grams of token ids that occurred before in the same text: 1 - distinct / all, 0 for fewer than 4 ids.
 * `seq-rep-4` of Welleck et al. (arXiv 1908.04319). On ids, so that it needs no words: it holds for any script.
 */
export function repetition(tokens: readonly number[]): number {
  const count = tokens.length - NGRAM + 1;
  if (count < 1) return 0;
  const distinct = new Set(Array.from({ length: count }, (_, i) => tokens.slice(i, i + NGRAM).join(' ')));
  return 1 - distinct.size / count;
}

/** Unicode's names; the scripts that Chinese, Japanese and Korean are written in count as one. */
const SCRIPTS: readonly (readonly [name: string, letters: RegExp])[] = [
  ['Latin', /\p{Script=Latin}/u],
  [
    'CJK',
    /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Hangul}\p{Script=Bopomofo}\u30FC]/u,
  ],
  ['Cyrillic', /\p{Script=Cyrillic}/u],
  ['Greek', /\p{Script=Greek}/u],
  ['Arabic', /\p{Script=Arabic}/u],
  ['Hebrew', /\p{Script=Hebrew}/u],
  ['Devanagari', /\p{Script=Devanagari}/u],
  ['Thai', /\p{Script=Thai}/u],
];

/** The letters of a text by script. What is no letter (digits, signs, white space) counts nowhere. */
export function scriptCounts(text: string): Map<string, number> {
  const counts = new Map<string, number>();
  for (const [letter] of text.matchAll(/\p{L}/gu)) {
    const script = SCRIPTS.find(([, letters]) => letters.test(letter))?.[0] ?? 'other';
    counts.set(script, (counts.get(script) ?? 0) + 1);
  }
  return counts;
}

/** Shares of the whole by name, the largest first. */
function sharesOf(counts: readonly (readonly [name: string, count: number])[]): Record<string, number> {
  const sums = new Map<string, number>();
  for (const [name, count] of counts) sums.set(name, (sums.get(name) ?? 0) + count);
  const total = [...sums.values()].reduce((sum, count) => sum + count, 0);
  const ordered = [...sums].toSorted(([a, m], [b, n]) => n - m || (a < b ? -1 : 1));
  return Object.fromEntries(ordered.map(([name, count]) => [name, count / total]));
}

function share<T>(items: readonly T[], is: (item: T) => boolean): number {
  return items.filter(is).length / items.length;
}

function median(ascending: readonly number[]): number {
  const middle = (ascending.length - 1) / 2;
  return mean([ascending[Math.floor(middle)] ?? Number.NaN, ascending[Math.ceil(middle)] ?? Number.NaN]);
}
