/** The words of the start model for function calling, one token each. */
import {
  ARGUMENT_NAMES,
  ARGUMENTS,
  DISTRACTION,
  NOUNS,
  VALUES,
  VERBS,
} from '../../../src/tasks/templated-calls-generator.ts';
import { VAGUE_CALL_REFLECTIONS } from '../../../src/tasks/templated-calls-reflections.ts';

const OTHERS = ['why again', '? ; request', 'use tool missing', ...VAGUE_CALL_REFLECTIONS];

export const CALL_WORDS: readonly string[] = [
  ...new Set([
    ...OTHERS.flatMap((text) => text.split(' ')),
    ...Object.entries(VERBS).flat(2),
    ...Object.entries(NOUNS).flatMap(([noun, { requested }]) => [noun, ...requested]),
    ...ARGUMENT_NAMES,
    ...Object.values(ARGUMENTS).flatMap(({ cues }) => cues),
    ...DISTRACTION,
    ...Object.values(VALUES).flat(),
  ]),
];
