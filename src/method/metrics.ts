/**
 * One flat record of numbers per training step, computed from the step's episodes.
 *
 * Shares are in [0, 1], of episodes or of groups as the name says; lengths are in tokens, counted by the same mask
 * as the loss. What cannot be measured (no scored episode, kinds that a task does not tell) has no entry, never a 0.
 * Loss, KL, gradient norm and times are added by the loop.
 */
import { groupSignal } from './advantage.ts';
import type { GroupSignal } from './advantage.ts';
import { reflectionLength, trainedCount } from './datum.ts';
import type { Episode } from './episode.ts';
import { groupsOf } from './group.ts';

export interface StepMetricsOptions {
  /** Failures drawn for this step. One without any episode counts as an unscored group. Default: the groups seen. */
  failures?: number | undefined;
}

/**
 * | name | meaning |
 * | --- | --- |
 * | episodes, groups | how many |
 * | reward | mean reward of the scored episodes |
 * | unscored | share of episodes without a reward |
 * | groups/mixed, groups/allPass, groups/allFail, groups/unscored | share of groups, by signal |
 * | trainedTokens | tokens that carry a gradient |
 * | reflection/meanLength, reflection/minLength, reflection/maxLength | stop token included |
 * | reflection/cutOff, retry/cutOff | share that reached the length limit, of those written |
 * | reflection/duplicate | share whose tokens equal those of an earlier sibling in the group |
 * | hint/true | share of reflections with a true hint |
 * | kind/<name> | share of reflections of this kind |
 */
export function stepMetrics(
  episodes: readonly Episode[],
  options: StepMetricsOptions = {},
): Record<string, number> {
  const groups = groupsOf(episodes);
  const groupCount = Math.max(options.failures ?? 0, groups.length);
  const metrics: Record<string, number> = { episodes: episodes.length, groups: groupCount };

  if (groupCount > 0) {
    const signals = groups.map((group) => groupSignal(group.map((episode) => episode.reward)));
    const share = (signal: GroupSignal): number => count(signals, (s) => s === signal) / groupCount;
    metrics['groups/mixed'] = share('mixed');
    metrics['groups/allPass'] = share('all-pass');
    metrics['groups/allFail'] = share('all-fail');
    metrics['groups/unscored'] = share('unscored') + (groupCount - groups.length) / groupCount;
  }
  if (episodes.length === 0) return metrics;

  const rewards = episodes.map((episode) => episode.reward).filter((reward) => reward !== null);
  if (rewards.length > 0) metrics['reward'] = mean(rewards);
  metrics['unscored'] = 1 - rewards.length / episodes.length;

  const lengths = episodes.map((episode) => reflectionLength(episode));
  metrics['trainedTokens'] = episodes.reduce((sum, episode) => sum + trainedCount(episode), 0);
  metrics['reflection/meanLength'] = mean(lengths);
  metrics['reflection/minLength'] = lengths.reduce((a, b) => Math.min(a, b));
  metrics['reflection/maxLength'] = lengths.reduce((a, b) => Math.max(a, b));
  metrics['reflection/cutOff'] =
    count(episodes, ({ reflection }) => reflection.stopReason === 'length') / episodes.length;
  const retries = episodes.map((episode) => episode.retry).filter((retry) => retry !== null);
  if (retries.length > 0) {
    metrics['retry/cutOff'] = count(retries, (retry) => retry.stopReason === 'length') / retries.length;
  }
  const distinct = groups.reduce((sum, group) => sum + new Set(group.map(reflectionKey)).size, 0);
  metrics['reflection/duplicate'] = (episodes.length - distinct) / episodes.length;

  if (episodes.some((episode) => episode.hint !== undefined))
    metrics['hint/true'] = count(episodes, (episode) => episode.hint === 'true') / episodes.length;
  const kinds = new Set(episodes.map((episode) => episode.kind).filter((kind) => kind !== undefined));
  for (const kind of [...kinds].toSorted()) {
    metrics[`kind/${kind}`] = count(episodes, (episode) => episode.kind === kind) / episodes.length;
  }
  return metrics;
}

/** Two reflections are the same when their ids are: texts may agree where ids do not. */
function reflectionKey(episode: Episode): string {
  return episode.reflection.tokens.join(' ');
}

function count<T>(items: readonly T[], test: (item: T) => boolean): number {
  return items.reduce((sum, item) => sum + (test(item) ? 1 : 0), 0);
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
