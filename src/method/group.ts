/**
 * Groups: the G reflections on one failed attempt. Advantages, signal and duplicates are matters of a group.
 *
 * Everywhere else an episode stands alone, in a flat list; here the list becomes groups.
 */
import type { Episode, Problem } from './episode.ts';

/** Episodes by step and group id, in the order in which they first appear. */
export function groupsOf<P extends Problem>(episodes: readonly Episode<P>[]): Episode<P>[][] {
  const groups = new Map<string, Episode<P>[]>();
  for (const episode of episodes) {
    const key = `${episode.step} ${episode.group}`;
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [episode]);
    else group.push(episode);
  }
  return [...groups.values()];
}
