import { describe, expect, test } from 'vitest';
import { EXHIBITS, type Exhibit } from './exhibits.ts';
import { posedText } from './method/task.ts';
import { loadTokenizer } from './text/tokenizer.ts';

describe.each(Object.entries<Exhibit>(EXHIBITS))('%s', (_, { task, model, problems }) => {
  const prompts = task.prompts('short');

  test('shares no problem between training, choosing and reporting', () => {
    const texts = (['rl', 'choose', 'report'] as const).flatMap((split) =>
      problems(split, 300).map((problem) => posedText(task, problem, prompts)),
    );
    expect(new Set(texts).size).toBe(900);
  });

  test('has a start model that knows every word of its problems', () => {
    const { unknownId, encode } = loadTokenizer(model);
    for (const problem of problems('report', 300)) {
      for (const text of [
        posedText(task, problem, prompts),
        prompts.reflect,
        task.poseAgain(problem, prompts),
      ])
        expect(encode(text)).not.toContain(unknownId);
    }
  });
});
