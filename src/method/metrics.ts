/**
 * One flat record of numbers per training step, computed from the step's episodes.
 *
 * Shares are in [0, 1], of episodes or of groups as the name says; lengths are in tokens, counted by the same mask
 * as the loss. What cannot be measured (no scored episode, kinds that a task does not tell) has no entry, never a 0.
 * Loss, KL and gradient norm are added by the loop. `runWarnings` says what a reader of a run must not miss.
 */
import { groupSignal } from './advantage.ts';
import type { GroupSignal } from './advantage.ts';
import { passed, type Episode, type Written } from './episode.ts';
import { groupsOf } from './group.ts';

export interface StepMetricsOptions {
  /** Failures drawn for this step. One without any episode counts as an unscored group. Default: the groups seen. */
  failures?: number | undefined;
}

/** Attempts of the current weights at problems, where a step takes any. */
export function firstTryMetrics(episodes: readonly Episode[]): Record<string, number> {
  const judged = episodes.map(({ attemptScore }) => passed(attemptScore)).filter((pass) => pass !== null);
  return judged.length === 0 ? {} : { firstTry: count(judged, Boolean) / judged.length };
}

/**
 * | name | meaning |
 * | --- | --- |
 * | episodes, groups | how many |
 * | reward | mean reward of the scored episodes |
 * | unscored | share of episodes without a reward |
 * | groups/mixed, groups/allPass, groups/allFail, groups/unscored | share of groups, by signal |
 * | reflection/meanLength, reflection/minLength, reflection/maxLength | stop token included |
 * | reflection/cutOff, retry/cutOff | share that reached the length limit, of those written |
 * | reflection/duplicate | share whose tokens equal those of an earlier sibling in the group |
 * | hint/true | share of reflections with a true hint |
 * | hint/trueOfHints | share of true ones among the hints |
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

  const reflections = episodes.map((episode) => episode.reflection).filter((r) => r !== null);
  if (reflections.length > 0) {
    const lengths = reflections.map(({ tokens }) => tokens.length);
    metrics['reflection/meanLength'] = mean(lengths);
    metrics['reflection/minLength'] = lengths.reduce((a, b) => Math.min(a, b));
    metrics['reflection/maxLength'] = lengths.reduce((a, b) => Math.max(a, b));
    metrics['reflection/cutOff'] = count(reflections, isCutOff) / reflections.length;
    const distinct = groups.reduce((sum, group) => sum + new Set(group.flatMap(reflectionKey)).size, 0);
    metrics['reflection/duplicate'] = (reflections.length - distinct) / reflections.length;
  }
  const retries = episodes.map((episode) => episode.retry).filter((retry) => retry !== null);
  if (retries.length > 0) {
    metrics['retry/cutOff'] = count(retries, isCutOff) / retries.length;
  }

  if (episodes.some((episode) => episode.hint !== undefined)) {
    const trueHints = count(episodes, (episode) => episode.hint === 'true');
    const hints = trueHints + count(episodes, (episode) => episode.hint === 'false');
    metrics['hint/true'] = trueHints / episodes.length;
    if (hints > 0) metrics['hint/trueOfHints'] = trueHints / hints;
  }
  const kinds = new Set(episodes.map((episode) => episode.kind).filter((kind) => kind !== undefined));
  for (const kind of [...kinds].toSorted()) {
    metrics[`kind/${kind}`] = count(episodes, (episode) => episode.kind === kind) / episodes.length;
  }
  return metrics;
}

/** Steps at either end of a run that its numbers are means of. */
const END_STEPS = 10;
/** Above this KL to the start model, in nats per token, the weights have moved far: say so. */
const KL_WARNING = 0.3;
/** From step to step hints are not the same: a mean over steps that is lower by less says nothing. */
const HINT_NOISE = 0.05;

/** What must be said of a KL to the start model, in nats per token. NaN: not measured. */
export function klWarnings(kl: number): string[] {
  return kl > KL_WARNING
    ? [
        `KL to the start model is ${kl.toFixed(2)} nats per token, above ${KL_WARNING}: the weights have moved far. Raise beta or lower the learning rate.`,
      ]
    : [];
}

/** What must be said of the share of true ones among the hints. NaN: not measured. */
export function hintWarnings(before: number, after: number): string[] {
  return after < before
    ? [
        `Hints got less true: ${percent(before)} of the hints were true before training, ${percent(after)} after.`,
      ]
    : [];
}

/**
 * What a reader of a run must not miss, from its metrics alone: KL above 0.3 over the last ten steps; hints less true
 * over the last ten steps than over the first ten, by more than 5 points. Rows hold `kl` and what `stepMetrics` gives.
 */
export function runWarnings(rows: readonly Readonly<Record<string, unknown>>[]): string[] {
  const meanOf = (some: typeof rows, name: string): number =>
    mean(some.map((row) => row[name]).filter((value) => typeof value === 'number'));
  const [first, last] = [rows.slice(0, END_STEPS), rows.slice(-END_STEPS)];
  const before = meanOf(first, 'hint/trueOfHints');
  const after = meanOf(last, 'hint/trueOfHints');
  return [
    ...klWarnings(meanOf(last, 'kl')),
    ...(before - after > HINT_NOISE ? hintWarnings(before, after) : []),
  ];
}

function percent(share: number): string {
  return `${(100 * share).toFixed(0)}%`;
}

/** Two reflections are the same when their ids are: texts may agree where ids do not. */
function reflectionKey({ reflection }: Episode): string[] {
  return reflection === null ? [] : [reflection.tokens.join(' ')];
}

function isCutOff({ stopReason }: Written): boolean {
  return stopReason === 'length';
}

function count<T>(items: readonly T[], test: (item: T) => boolean): number {
  return items.reduce((sum, item) => sum + (test(item) ? 1 : 0), 0);
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
