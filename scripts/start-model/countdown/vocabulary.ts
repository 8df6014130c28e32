/** The words of the start model for Countdown, one token each: signs, words, and the numbers 0 to 199. */
import { MAX_VALUE } from '../../../src/tasks/countdown-generator.ts';

export const WORDS: readonly string[] = [
  ...[
    '( ) + - * / =',
    'to why again',
    'first keep need yes no',
    'used twice missing too big small got want',
    'be careful retry check each number use other order wrong',
  ].flatMap((line) => line.split(' ')),
  ...Array.from({ length: MAX_VALUE + 1 }, (_, number) => String(number)),
];
