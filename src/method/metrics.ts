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
import { mean } from './statistics.ts';

/** Attempts of the current weights at problems, where a step takes any. */
export function firstTryMetrics(episodes: readonly Episode[]): Record<string, number> {
  const judged = episodes.map(({ attemptScore }) => passed(attemptScore)).filter((pass) => pass !== null);
  return judged.length === 0 ? {} : { firstTry: count(judged, Boolean) / judged.length };
}

/** Each name and its meaning is in `runs/metric-names.ts`; those that TRL has are its own. */
export function stepMetrics(episodes: readonly Episode[]): Record<string, number> {
  const groups = groupsOf(episodes);
  const groupCount = groups.length;
  const metrics: Record<string, number> = { episodes: episodes.length, groups: groupCount };

  if (groupCount > 0) {
    const signals = groups.map((group) => groupSignal(group.map((episode) => episode.reward)));
    const share = (signal: GroupSignal): number => count(signals, (s) => s === signal) / groupCount;
    metrics['groups/mixed'] = share('mixed');
    metrics['groups/allPass'] = share('all-pass');
    metrics['groups/allFail'] = share('all-fail');
    metrics['groups/unscored'] = share('unscored');
  }
  if (episodes.length === 0) return metrics;
  const { staleness } = episodes[0] as Episode;
  if (staleness !== undefined) metrics['staleness'] = staleness;

  const rewards = episodes.map((episode) => episode.reward).filter((reward) => reward !== null);
  if (rewards.length > 0) {
    metrics['reward'] = mean(rewards);
    metrics['reward_std'] = deviation(rewards);
    metrics['frac_reward_zero_std'] = shareWithoutVariance(groups);
  }
  metrics['unscored'] = 1 - rewards.length / episodes.length;

  const completions = episodes.map(({ reflection, retry, attempt }) => reflection ?? retry ?? attempt);
  Object.assign(metrics, lengthMetrics(completions));
  const reflections = episodes.map((episode) => episode.reflection).filter((r) => r !== null);
  if (reflections.length > 0) {
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

/** What must be said of the share of true ones among the hints: that it fell by more than 5 points. NaN: not measured. */
export function hintWarnings(before: number, after: number): string[] {
  return before - after > HINT_NOISE
    ? [
        `Hints got less true: ${percent(before)} of the hints were true before training, ${percent(after)} after.`,
      ]
    : [];
}

/**
 * What a reader of a run must not miss, from its metrics alone: episodes that were not judged; groups that were left out; KL above 0.3 over the
 * last ten steps; hints less true over the last ten steps than over the first ten, by more than 5 points. Rows hold `kl`
 * and what `stepMetrics` gives.
 */
export function runWarnings(rows: readonly Readonly<Record<string, unknown>>[]): string[] {
  const meanOf = (some: typeof rows, name: string): number =>
    mean(some.map((row) => row[name]).filter((value) => typeof value === 'number'));
  const [first, last] = [rows.slice(0, END_STEPS), rows.slice(-END_STEPS)];
  const before = meanOf(first, 'hint/trueOfHints');
  const after = meanOf(last, 'hint/trueOfHints');
  const unscored = meanOf(rows, 'unscored');
  const leftOut = rows.reduce((sum, row) => sum + Number(row['groups/leftOut'] ?? 0), 0);
  return [
    ...(unscored > 0
      ? [`${percent(unscored)} of the episodes were not judged and left out: the verifier failed on them.`]
      : []),
    ...(leftOut > 0 ? [`${leftOut} groups were left out: the engine failed on one of their requests.`] : []),
    ...klWarnings(meanOf(last, 'kl')),
    ...hintWarnings(before, after),
  ];
}

function percent(share: number): string {
  return `${(100 * share).toFixed(0)}%`;
}

/** Two reflections are the same when their ids are: texts may agree where ids do not. */
function reflectionKey({ reflection }: Episode): string[] {
  return reflection === null ? [] : [reflection.tokens.join(' ')];
}

/** Lengths of what was sampled to be trained, by TRL's names. */
function lengthMetrics(completions: readonly Written[]): Record<string, number> {
  const of = (written: readonly Written[], kind: string): Record<string, number> => {
    const lengths = written.map(({ tokens }) => tokens.length);
    return {
      [`completions/mean_${kind}`]: mean(lengths),
      [`completions/min_${kind}`]: lengths.reduce((a, b) => Math.min(a, b)),
      [`completions/max_${kind}`]: lengths.reduce((a, b) => Math.max(a, b)),
    };
  };
  const ended = completions.filter((written) => !isCutOff(written));
  return {
    ...of(completions, 'length'),
    ...(ended.length === 0 ? {} : of(ended, 'terminated_length')),
    'completions/clipped_ratio': 1 - ended.length / completions.length,
  };
}

/** Of n - 1; 0 for a single one. */
function deviation(values: readonly number[]): number {
  if (values.length < 2) return 0;
  const centre = mean(values);
  return Math.sqrt(values.reduce((sum, value) => sum + (value - centre) ** 2, 0) / (values.length - 1));
}

function shareWithoutVariance(groups: readonly (readonly Episode[])[]): number {
  const scored = groups.map((group) => group.map(({ reward }) => reward).filter((reward) => reward !== null));
  const equal = scored.filter((rewards) => groupSignal(rewards) !== 'mixed');
  const size = (lists: readonly (readonly number[])[]): number =>
    lists.reduce((sum, { length }) => sum + length, 0);
  return size(equal) / size(scored);
}

function isCutOff({ stopReason }: Written): boolean {
  return stopReason === 'length';
}

function count<T>(items: readonly T[], test: (item: T) => boolean): number {
  return items.reduce((sum, item) => sum + (test(item) ? 1 : 0), 0);
}
