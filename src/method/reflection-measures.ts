/**
 * What the reflections of an evaluation are like, as numbers that need no model: length, scripts, repetition, leaks.
 *
 * They describe; none of them enters a reward. A reflection can be short, in one script and free of repeats and still
 * be worthless: what it is worth is the lift over the controls.
 */

/** A reflection and what is known of it. */
export interface MeasuredReflection {
  text: string;
  tokens: number;
  /** Whether it ended within its limit. */
  ended: boolean;
  /** Whether it holds a passing answer; null where that was not judged. */
  leaked: boolean | null;
  kind?: string;
  hint?: 'true' | 'false' | 'none';
}

/** Shares and means over reflections; NaN (null in JSON) without any. */
export interface ReflectionMeasures {
  count: number;
  tokens: { mean: number; median: number; max: number };
  /** Share that was cut off at the limit of its length: there is then no retry. */
  cutOff: number;
  /** Share of all letters by script (ISO 15924 names in English: Latin, Han, Cyrillic, ..., other). */
  scripts: Record<string, number>;
  /** Share of reflections with letters of more than one script. */
  mixedScripts: number;
  /** Mean share of repeated word 4-grams (`repeatedNgrams`). */
  repetition: number;
  /** Share of the judged reflections that hold a passing answer, and how many were judged. */
  leaked: { rate: number; n: number };
  /** Share of each kind, where the task tells kinds. */
  kinds: Record<string, number>;
  /** Where the task tells: share with a true hint, of all and of those that hint at all. */
  trueHints: number;
  trueOfHints: number;
}
