/**
 * The checks of what the start model makes of a task: whether it passes at all, whether its reflections end, differ
 * and help, and what to expect of training. Pure, as those in `audit.ts`, on the audit's few episodes.
 *
 * Reinforcement only amplifies what the start model sometimes does. A run in which nothing ever helps is refused; one
 * that has little to go on begins with a warning.
 */
import { groupSignal, type GroupSignal } from './advantage.ts';
import type { AuditCheck } from './audit.ts';
import type { Written } from './episode.ts';

/** Rewards that differ by less are equal: rounding noise of a mean, not a signal. */
const REWARD_NOISE = 1e-6;
/** Above this share a warning: of turns that are cut off, of siblings that are the same. */
const MOST_CUT_OFF = 0.5;
const MOST_DUPLICATES = 0.75;
/** The rule of thumb, from runs of a few million parameters; see docs/audit.md. */
const USEFUL = { share: 0.15, times: 2, mixed: 0.5 } as const;

/**
 * The model passes some first tries and fails others: else there is nothing to reflect on, or no way to a reward.
 * `examples`: failed tries, to be read when none passed.
 */
export function auditStartRate(
  passes: number,
  attempts: number,
  examples: readonly string[] = [],
): AuditCheck {
  const name = 'start rate';
  const detail = `${passes} of ${attempts} first tries passed`;
  if (passes > 0 && passes < attempts) return { name, state: 'ok', detail };
  const shown = passes === 0 && examples.length > 0 ? `, such as ${examples.join('; ')}` : '';
  return {
    name,
    state: 'failed',
    detail: `${detail}: expected more than none and fewer than all; choose other problems, or look at how answers are read${shown}`,
  };
}

/**
 * Rewards are finite and in [0, 1], and most answers were judged. `mined`: the first tries, of which `unscored` were
 * not judged. Rewards that differ by rounding noise alone are named: they count as equal.
 */
export function auditRewards(
  rewards_P_G: readonly (readonly (number | null)[])[],
  mined: { attempts: number; unscored: number },
): AuditCheck {
  const name = 'rewards';
  const all = rewards_P_G.flat();
  const bad = all.find((reward) => reward !== null && !(reward >= 0 && reward <= 1));
  if (bad !== undefined) {
    return {
      name,
      state: 'failed',
      detail: `expected rewards from 0 to 1, got ${bad}; see the task's verify()`,
    };
  }
  const unscored = all.filter((reward) => reward === null).length;
  const detail = `${all.length - unscored} of ${all.length} episodes and ${mined.attempts - mined.unscored} of ${mined.attempts} first tries were judged`;
  if (2 * unscored > all.length || 2 * mined.unscored > mined.attempts) {
    const fix = 'expected more than half; the verifier throws or its service is down';
    return { name, state: 'failed', detail: `${detail}: ${fix}` };
  }
  if (unscored + mined.unscored > 0) {
    return { name, state: 'warning', detail: `${detail}: what was not judged is left out, never a 0` };
  }
  const noisy = rewards_P_G.findIndex((rewards) => isNoise(spreadOf(rewards)));
  if (noisy >= 0) {
    const got = `group ${noisy} has some that differ by ${spreadOf(rewards_P_G[noisy]!)}`;
    return {
      name,
      state: 'warning',
      detail: `${detail}; expected equal rewards or different ones, got rounding noise: ${got}`,
    };
  }
  return { name, state: 'ok', detail };
}

function spreadOf(rewards: readonly (number | null)[]): number {
  const scored = rewards.filter((reward) => reward !== null);
  return scored.length === 0 ? 0 : Math.max(...scored) - Math.min(...scored);
}

function isNoise(spread: number): boolean {
  return spread > 0 && spread < REWARD_NOISE;
}

/** Turns of one kind and the option that limits their length. */
export interface Turns {
  what: string;
  written: readonly Pick<Written, 'stopReason'>[];
  option: string;
}

/** Turns end before the length limit: an answer that is cut off fails, and a reflection that is has no retry. */
export function auditTruncation(turns: readonly Turns[]): AuditCheck {
  const name = 'truncation';
  const counts = turns
    .filter(({ written }) => written.length > 0)
    .map(({ what, written, option }) => {
      const cut = written.filter(({ stopReason }) => stopReason !== 'stop').length;
      return { text: `${cut} of ${written.length} ${what}`, share: cut / written.length, option };
    });
  const detail = `cut off at the limit: ${counts.map(({ text }) => text).join(', ') || 'none'}`;
  const worst = counts.toSorted((a, b) => b.share - a.share)[0];
  if (worst === undefined || worst.share <= MOST_CUT_OFF) return { name, state: 'ok', detail };
  const fix = `raise ${worst.option}, or check that the model ends its turns`;
  return {
    name,
    state: worst.share === 1 ? 'failed' : 'warning',
    detail: `${detail}: expected at most half; ${fix}`,
  };
}

/** Siblings differ: a group whose members are one and the same text has nothing to choose from. */
export function auditDuplicates(groups: readonly (readonly (readonly number[])[])[]): AuditCheck {
  const name = 'duplicates';
  const members = groups.reduce((sum, group) => sum + group.length, 0);
  const distinct = groups.map((group) => new Set(group.map((tokens) => tokens.join(' '))).size);
  const repeated = members - distinct.reduce((sum, count) => sum + count, 0);
  const detail = `${repeated} of ${members} siblings repeat an earlier one of their group`;
  const fix = 'raise --temperature, or look at how the engine seeds its samples';
  if (groups.some((group) => group.length > 1) && distinct.every((count) => count <= 1)) {
    return {
      name,
      state: 'failed',
      detail: `${detail}: expected siblings that differ, got one text in every group; ${fix}`,
    };
  }
  return repeated > MOST_DUPLICATES * members
    ? { name, state: 'warning', detail: `${detail}: expected most of them to differ; ${fix}` }
    : { name, state: 'ok', detail };
}

/** How many of how many passed. */
export interface Passes {
  passed: number;
  of: number;
}

export interface StartSignal {
  /** Rewards of each group of G. */
  rewards_P_G: readonly (readonly (number | null)[])[];
  /** Retries after a reflection, and on the same failures plain retries; null where there are none. */
  afterReflection: Passes | null;
  plain: Passes | null;
}

/** Fewer groups without a reward say too little to stop a run. */
const LEAST_GROUPS = 4;

/**
 * Does anything that this model writes ever help? The share of groups with a signal, the two shapes of those without,
 * what a reflection adds to a plain retry, and one sentence of what to expect. Fails when nothing helped at all.
 */
export function auditSignal({ rewards_P_G, afterReflection, plain }: StartSignal): AuditCheck {
  const name = 'signal';
  const signals = rewards_P_G.map(signalOf);
  const groups = signals.length;
  const size = Math.max(0, ...rewards_P_G.map((rewards) => rewards.length));
  const count = (signal: GroupSignal): number => signals.filter((s) => s === signal).length;
  const [mixed, allPass, allFail, unscored] = [
    count('mixed'),
    count('all-pass'),
    count('all-fail'),
    count('unscored'),
  ] as const;
  const others = `${allFail} all fail, ${allPass} all pass${unscored > 0 ? `, ${unscored} not judged` : ''}`;
  const found = `${mixed} of ${groups} groups of ${size} carry a signal (${others})${liftText(afterReflection, plain)}`;
  const larger = `larger groups (--num-generations ${2 * size})`;
  const other = allFail >= allPass ? 'easier problems' : 'harder problems';

  if (allFail > 0 && mixed === 0 && allPass === 0 && groups >= LEAST_GROUPS) {
    return {
      name,
      state: 'failed',
      detail: `${found}: expected a reward somewhere, got none, so there is nothing to reinforce; try ${larger}, easier problems, or train the model on examples first (r3 sft)`,
    };
  }
  if (mixed === 0) {
    return {
      name,
      state: 'warning',
      detail: `${found}; expect next to no learning: try ${larger} or ${other}`,
    };
  }
  if (mixed < USEFUL.mixed * groups) {
    return {
      name,
      state: 'warning',
      detail: `${found}; expect slow learning, since most groups of a step teach nothing: try ${larger} or ${other}`,
    };
  }
  if (afterReflection !== null && plain !== null && rateOf(afterReflection) <= rateOf(plain)) {
    return {
      name,
      state: 'warning',
      detail: `${found}; expect little at first: this model's reflections do not yet help more than trying again`,
    };
  }
  return {
    name,
    state: 'ok',
    detail: `${found}; expect reflections that help to be reinforced from the first steps on`,
  };
}

/** With rewards that differ by noise alone taken as equal. */
function signalOf(rewards: readonly (number | null)[]): GroupSignal {
  if (!isNoise(spreadOf(rewards))) return groupSignal(rewards);
  return groupSignal(
    rewards.map((reward) => (reward === null ? null : Math.round(reward / REWARD_NOISE) * REWARD_NOISE)),
  );
}

function liftText(afterReflection: Passes | null, plain: Passes | null): string {
  if (afterReflection === null || afterReflection.of === 0) return '';
  const after = `; a retry after a reflection passes in ${percent(rateOf(afterReflection))}`;
  return plain === null || plain.of === 0
    ? after
    : `${after}, where a plain retry passes in ${percent(rateOf(plain))}`;
}

/**
 * The rule of thumb before training: a kind of reflection that is common enough to be found and passes at least twice
 * as often as the rest. Only a warning: reinforcement can find a kind that is rarer.
 */
export function auditKinds(episodes: readonly { kind?: string; reward: number | null }[]): AuditCheck {
  const name = 'kinds';
  const told = episodes.filter(({ kind, reward }) => kind !== undefined && reward !== null);
  if (told.length === 0) return { name, state: 'ok', detail: 'the task tells no kinds of reflections' };
  const kinds = [...new Set(told.map(({ kind }) => kind as string))]
    .map((kind) => {
      const own = told.filter((episode) => episode.kind === kind);
      const rest = told.filter((episode) => episode.kind !== kind);
      return { kind, share: own.length / told.length, rate: meanReward(own), rest: meanReward(rest) };
    })
    .toSorted((a, b) => b.share - a.share);
  const useful = kinds.find(
    ({ share, rate, rest }) => share >= USEFUL.share && rate > 0 && rate >= USEFUL.times * rest,
  );
  const detail = `share of reflections and their rate of passing: ${kinds
    .map(({ kind, share, rate }) => `${kind} ${percent(share)} and ${percent(rate)}`)
    .join(', ')}`;
  if (useful !== undefined)
    return { name, state: 'ok', detail: `${detail}; ${useful.kind} is worth choosing` };
  const rule = `expected a kind of at least ${percent(USEFUL.share)} that passes ${USEFUL.times} times as often as the rest, got none`;
  const rare = kinds.find(({ rate, rest }) => rate > 0 && rate >= USEFUL.times * rest)?.kind;
  const expect =
    rare === undefined
      ? 'there is no kind to choose yet'
      : `${rare} may be worth it, but must be found first`;
  return { name, state: 'warning', detail: `${detail}: ${rule}; ${expect}` };
}

function meanReward(episodes: readonly { reward: number | null }[]): number {
  if (episodes.length === 0) return 0;
  return episodes.reduce((sum, { reward }) => sum + (reward ?? 0), 0) / episodes.length;
}

function rateOf({ passed, of }: Passes): number {
  return of === 0 ? 0 : passed / of;
}

function percent(share: number): string {
  return `${(100 * share).toFixed(0)}%`;
}
