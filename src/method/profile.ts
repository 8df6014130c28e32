/**
 * How a model's reflections look: their kinds, their lengths, and how often what they hint at is true.
 *
 * Pass rates say what reflections are worth; this says what they are, before and after training.
 */
import type { Hint } from './episode.ts';

/** A reflection as its task describes it. */
export interface DescribedReflection {
  kind: string;
  hint: Hint;
  /** Its length, the stop token included. */
  tokens: number;
}

export interface ReflectionProfile {
  /** Share of each kind. */
  kinds: Record<string, number>;
  meanTokens: number;
  /** Share of reflections with a true hint. */
  trueHints: number;
  /** Of the reflections that hint at all. */
  trueOfHints: number;
}

/** Without reflections all numbers are 0. */
export function reflectionProfile(reflections: readonly DescribedReflection[]): ReflectionProfile {
  const kinds: Record<string, number> = {};
  for (const { kind } of reflections) kinds[kind] = (kinds[kind] ?? 0) + 1 / reflections.length;
  const hinting = reflections.filter(({ hint }) => hint !== 'none');
  const trueCount = hinting.filter(({ hint }) => hint === 'true').length;
  return {
    kinds,
    meanTokens: reflections.reduce((sum, { tokens }) => sum + tokens, 0) / Math.max(1, reflections.length),
    trueHints: trueCount / Math.max(1, reflections.length),
    trueOfHints: trueCount / Math.max(1, hinting.length),
  };
}
