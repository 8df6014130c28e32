/**
 * The small language in which the start model reflects on a failed call, and what a reflection in it is worth.
 * One token per word:
 *
 *   vague       be careful
 *   diagnosis   wrong tool | wrong origin | missing seat
 *   correction  use origin oslo dest rome | use tool send
 *   repetition  the same, naming only what the attempt has already
 *
 * Reads only; the warm-up data of the start model writes the same language.
 */
import { ARGUMENTS, type Call } from './templated-calls-generator.ts';

export type CallReflectionKind = 'vague' | 'diagnosis' | 'correction' | 'repetition' | 'other';

export const VAGUE_CALL_REFLECTIONS = [
  'be careful',
  'retry',
  'check again',
  'be careful retry',
  'read again',
  'wrong',
] as const;

const VAGUE_WORDS = new Set(VAGUE_CALL_REFLECTIONS.flatMap((text) => text.split(' ')));

/**
 * The kind of a reflection, and whether its hint is true: whether each item that `use` names is in the wanted call.
 * `none`: nothing was claimed. `attempt`: undefined where it cannot be read as a call.
 */
export function describeCallReflection(
  wanted: Call,
  attempt: Call | undefined,
  reflection: string,
): { kind: CallReflectionKind; hint: 'true' | 'false' | 'none' } {
  const words = reflection.trim().split(/\s+/);
  const [first = '', second = ''] = words;
  if (first === 'use') {
    const items = pairs(words.slice(1));
    if (items === undefined || items.length === 0) return { kind: 'other', hint: 'none' };
    const holds = (call: Call): boolean[] => items.map(([name, value]) => itemOf(call, name) === value);
    const isRepetition = attempt !== undefined && holds(attempt).every(Boolean);
    return {
      kind: isRepetition ? 'repetition' : 'correction',
      hint: holds(wanted).every(Boolean) ? 'true' : 'false',
    };
  }
  const isDiagnosis =
    words.length === 2 &&
    ((first === 'wrong' && second === 'tool') ||
      ((first === 'wrong' || first === 'missing') && Object.hasOwn(ARGUMENTS, second)));
  if (isDiagnosis) return { kind: 'diagnosis', hint: 'none' };
  return { kind: words.every((word) => VAGUE_WORDS.has(word)) ? 'vague' : 'other', hint: 'none' };
}

function itemOf({ verb, values }: Call, name: string): string | undefined {
  return name === 'tool' ? verb : values.get(name);
}

/** Words as pairs; undefined where one is left over. */
export function pairs(words: readonly string[]): [string, string][] | undefined {
  if (words.length % 2 !== 0) return undefined;
  return words.flatMap((word, i) => (i % 2 === 0 ? [[word, words[i + 1] ?? ''] as [string, string]] : []));
}
