/** The one set of texts around problems that come with their own wording: questions of benchmarks. */
import { R3Error } from '../lib/errors.ts';
import type { Prompts } from '../method/task.ts';

export const PLAIN: Prompts = {
  name: 'plain',
  // Asks what the paper's prompt asks (arXiv 2505.24726, appendix A), in other words.
  reflect:
    'Your answer to the problem was wrong. Think about what went wrong, and write a short explanation that will help ' +
    'you to do better when you try again.',
};

/** Throws R3Error `bad-option` for any name but `plain`. */
export function plainPrompts(set: string): Prompts {
  if (set === PLAIN.name) return PLAIN;
  throw new R3Error('task', 'bad-option', `prompts: expected ${PLAIN.name}, got ${JSON.stringify(set)}`);
}
