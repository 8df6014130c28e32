/**
 * Equality of mathematical answers, LaTeX or plain: the way in.
 *
 * Two texts are the same answer when they are the same once layout is removed, when both name the same choice
 * ((B), \text{B}), or when both can be read (`parse.ts`) and what they say is equal (`compare.ts`). A text with a comma
 * before three digits is read both ways, as 1,234 and as 1 and 234, and any two readings may agree.
 * Pure and bounded: nothing is evaluated as code, lengths and sizes are capped, nothing throws.
 * Rules were chosen beside Math-Verify (Hugging Face), the grader of PRM800K (OpenAI) and that of MATH (Hendrycks et al.,
 * arXiv 2103.03874); docs/tasks.md lists them and where they differ.
 */
import { same } from './compare.ts';
import type { Answer } from './expression.ts';
import { Unreadable } from './lexer.ts';
import { MAX_LENGTH, parseAnswer } from './parse.ts';
import { TooLarge } from './rational.ts';

/** Words and letters in a font, without the command around them. */
const UNWRAPPED =
  /\\(?:text|mbox|mathrm|textbf|textrm|textit|textnormal|mathbf|operatorname)\s*\{([^{}]*)\}/g;

/** Never throws; symmetric. */
export function sameMathAnswer(first: string, second: string): boolean {
  const [a, b] = [withoutWrapping(first), withoutWrapping(second)];
  if (a === '' || b === '') return a === b;
  const [plainA, plainB] = [squeezed(a), squeezed(b)];
  if (plainA === plainB) return true;
  const [choiceA, choiceB] = [choiceOf(a), choiceOf(b)];
  if (choiceA !== undefined && choiceA === choiceB) return true;
  if (areSameWords(a, b)) return true;
  const [readingsA, readingsB] = [readings(a), readings(b)];
  if (readingsA.length === 0 && readingsB.length === 0) return plainA.toLowerCase() === plainB.toLowerCase();
  return readingsA.some((x) => readingsB.some((y) => same(x, y)));
}

/** What a text can be read as: none, one, or with and without commas inside numbers. Never throws. */
export function readings(text: string): Answer[] {
  const group = /\d\s*(?:,|\{,\}|\\,|\\!|\\ | )[\s!\\]*(\d)\d{2}/.exec(text);
  // No item of a list begins with a zero: 1,000 is not 1 and 0.
  const ways = group !== null && group[1] !== '0' ? [true, false] : [true];
  return ways.flatMap((thousands) => {
    try {
      return [parseAnswer(text, thousands)];
    } catch (error) {
      if (error instanceof Unreadable || error instanceof TooLarge) return [];
      throw error;
    }
  });
}

/** Without dollar signs, display brackets and a full stop around it. */
function withoutWrapping(text: string): string {
  let rest = text.slice(0, 4 * MAX_LENGTH).trim();
  for (let before = ''; before !== rest;) {
    before = rest;
    rest = rest
      .replace(/^\\\[([\s\S]*)\\\]$|^\\\(([\s\S]*)\\\)$/, '$1$2')
      .replace(/^\$+([^$]*)\$+$/, '$1')
      .replace(/(?<!\.)\.$/, '')
      .replace(/[,;]$/, '')
      .trim();
  }
  return rest;
}

/** Without layout: what is equal here needs no reading. */
function squeezed(text: string): string {
  return text
    .replaceAll(/\\(?:left|right|displaystyle|bigl?|bigr?|Bigl?|Bigr?)(?![A-Za-z])/g, '')
    .replaceAll(UNWRAPPED, '$1')
    .replaceAll(/\\[dtc]frac(?![A-Za-z])/g, '\\frac')
    .replaceAll(/_\{(\w)\}|_\{(\d+)\}/g, '_$1$2')
    .replaceAll(/\\[!,;: ]|[\s$~]/g, '');
}

/** The letter of a choice that stands alone, in parentheses, or in parentheses before what it chooses. */
function choiceOf(text: string): string | undefined {
  const bare = text
    .replaceAll(UNWRAPPED, '$1')
    .replaceAll(/\\[ ,;!]|[\s$~]/g, ' ')
    .trim();
  const inParentheses = /^\(([A-Za-z])\)(?:$|[ :.])/.exec(bare)?.[1] ?? /^([A-Z])\)?$/.exec(bare)?.[1];
  return inParentheses?.toUpperCase();
}

/** Names and words, whatever their case and article: where one of them is marked as a text, or both look like words. */
function areSameWords(a: string, b: string): boolean {
  const [wordsA, wordsB] = [wordsOf(a), wordsOf(b)];
  if (wordsA === undefined || wordsB === undefined || wordsA.toLowerCase() !== wordsB.toLowerCase())
    return false;
  const isWord = (word: string): boolean => /^[A-Z]?[a-z]{2,}$/.test(word);
  return /\\(?:text|mbox)/.test(a + b) || (isWord(wordsA) && isWord(wordsB));
}

/** The words that a text is made of, without spaces; undefined where it holds anything else. */
function wordsOf(text: string): string | undefined {
  const words = text
    .replaceAll(UNWRAPPED, '$1')
    .replaceAll(/\\[!,;: ]|[\s$~]+/g, ' ')
    .trim()
    .replace(/^(?:an?|the) /i, '')
    .replaceAll(' ', '');
  return words.length >= 2 && /^[A-Za-z'.,-]+$/.test(words) ? words : undefined;
}
