/**
 * A task with types: sort words. The type of `problem` is what `load` gives, so a misspelt field does not compile.
 *   r3 check examples/typed-task/task.ts
 *   r3 check examples/typed-task/task.ts --problems examples/typed-task/rows.jsonl
 */
import { defineTask } from 'reflect-retry-reward';

const WORDS = ['pear', 'apple', 'fig', 'kiwi', 'plum', 'date', 'lime', 'quince'];

export default defineTask({
  name: 'sort-words',

  load(row) {
    const { words } = row;
    if (!Array.isArray(words) || !words.every((word) => typeof word === 'string')) {
      throw new Error(`words: expected a list of texts, got ${JSON.stringify(words)}`);
    }
    return { words, sorted: words.toSorted().join(', ') };
  },

  prompt: ({ words }) => `Sort these words from a to z, with commas between them: ${words.join(', ')}`,

  verify(problem, answer) {
    const got = answer.split(',').map((word) => word.trim());
    if (got.join(', ') === problem.sorted) return true;
    if (got.toSorted().join(', ') !== problem.sorted) {
      return { ok: false, class: 'wrong words', why: `expected each of ${problem.words.join(', ')} once` };
    }
    return { ok: false, class: 'wrong order', why: `expected ${problem.sorted}, got ${got.join(', ')}` };
  },

  known: ({ words, sorted }) => [
    { answer: sorted, ok: true },
    { answer: sorted.replaceAll(',', ''), ok: false },
    { answer: `${words.join(', ')}, apple`, ok: false },
  ],

  // Rows of three words each: a function of count and seed alone.
  generate: ({ count, seed }) =>
    Array.from({ length: count }, (_, i) => {
      const start = seed + i;
      const at = (k: number): string => WORDS[(start * k) % WORDS.length] ?? '';
      return { id: `words-${start}`, words: [at(3), at(5), at(7)] };
    }),
});
