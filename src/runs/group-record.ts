/**
 * A line of episodes.jsonl: a whole group, with problem and attempt once, not once for each reflection on it.
 *
 * Readers get the episodes back one by one, each with all it needs. A line of an older shape is refused by name.
 */
import { R3Error, assert } from '../lib/errors.ts';
import type { Episode, LeftOut } from '../method/episode.ts';

/** Version 1 was a line for each episode; 2 had no score of the attempt. */
const VERSION = 3;

/** What all episodes of a group have in common. */
type Shared = 'version' | 'step' | 'group' | 'problem' | 'staleness';

type Attempt = 'attempt' | 'attemptScore';

export interface GroupRecord {
  version: typeof VERSION;
  step: number;
  group: string;
  problem: Episode['problem'];
  /** The same for all episodes of a group. */
  staleness?: number;
  /** Once, where all episodes of the group follow one attempt; else each episode has its own. */
  attempt?: Episode['attempt'];
  attemptScore?: Episode['attemptScore'];
  episodes: (Omit<Episode, Shared | Attempt> & Partial<Pick<Episode, Attempt>>)[];
  /** Why there are no episodes: what the engine said when it failed on the group. */
  error?: string;
}

/** `episodes`: at least one, all of one group. */
export function groupRecord(episodes: readonly Episode[]): GroupRecord {
  const [first] = episodes;
  assert(first, 'a group without an episode');
  const { step, group, problem, staleness, attempt, attemptScore } = first;
  const ids = attempt.tokens.join(' ');
  const isShared = episodes.every((episode) => episode.attempt.tokens.join(' ') === ids);
  return {
    version: VERSION,
    step,
    group,
    problem,
    ...(staleness === undefined ? {} : { staleness }),
    ...(isShared ? { attempt, attemptScore } : {}),
    episodes: episodes.map(({ index, reflection, retry, score, reward, advantage, kind, hint, ...own }) => ({
      index,
      ...(isShared ? {} : { attempt: own.attempt, attemptScore: own.attemptScore }),
      ...(kind === undefined ? {} : { kind }),
      ...(hint === undefined ? {} : { hint }),
      reflection,
      retry,
      score,
      ...(own.otherRetries === undefined ? {} : { otherRetries: own.otherRetries }),
      ...(own.laterRounds === undefined ? {} : { laterRounds: own.laterRounds }),
      reward,
      advantage,
    })),
  };
}

/** A group that was left out stands in the log by name, without episodes. */
export function leftOutRecord({ step, group, problem, error }: LeftOut): GroupRecord {
  return { version: VERSION, step, group, problem, episodes: [], error };
}

/** Throws R3Error `mismatch` for a line of another version; `where` names the file. */
export function episodesOf(record: { version?: unknown }, where: string): Episode[] {
  if (!isGroupRecord(record)) {
    throw new R3Error(
      'store',
      'mismatch',
      `${where}: expected groups of version ${VERSION}, got ${JSON.stringify(record.version ?? 'none')}; use the r3 that made this run`,
    );
  }
  const { step, group, problem, episodes, ...shared } = record;
  return episodes.map((own) => ({ ...shared, version: 1, step, group, problem, ...own }) as Episode);
}

/** What a log of ours holds is what was appended, so its version says its shape. */
function isGroupRecord(record: { version?: unknown }): record is GroupRecord {
  return record.version === VERSION;
}
