/** What training on one task does to another that the start model knows: its first try before and after. */
import { openLocalEngine } from '../../src/engine/local/local-engine.ts';
import type { Exhibit } from '../../src/exhibits.ts';
import { compareForgetting, measureForgetting, type TaskResult } from '../../src/forgetting.ts';
import { makePlayer } from '../../src/player.ts';
import { HELD_OUT } from './definitions.ts';
import type { ArmResult } from './result.ts';

const TEMPERATURE = 0.9;

/** On the same problems with the same draws. */
export async function measureUntouched(
  exhibit: Exhibit,
  before: string,
  after: string,
  seed: number,
): Promise<ArmResult['untouched']> {
  const problems = exhibit.problems('report', HELD_OUT);
  const prompts = exhibit.task.prompts('short');
  const measure = async (model: string): Promise<TaskResult> => {
    const engine = await openLocalEngine({ model, trainable: false });
    try {
      const player = makePlayer(engine, model, exhibit.task, prompts, {
        temperature: TEMPERATURE,
        ...exhibit.limits,
      });
      const suite = [{ task: exhibit.task, prompts, problems, by: 'generation' as const }];
      return (await measureForgetting(() => player, suite, { seed }))[0] as TaskResult;
    } finally {
      await engine.close();
    }
  };
  const [first, second] = [await measure(before), await measure(after)];
  const { change } = compareForgetting([first], [second])[0]!;
  return { before: first.accuracy, after: second.accuracy, change };
}
