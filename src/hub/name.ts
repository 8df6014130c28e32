/**
 * Names from outside that become paths here: of a repository, of a revision, of a file in a repository.
 *
 * A repository is `name` or `org/name`, by the hub's own rule. A revision is a branch, a tag or a commit. A file's
 * path must stay under the folder that it is joined to, on every system.
 */
import { R3Error } from '../lib/errors.ts';
import { showValue } from '../lib/json.ts';

export const DEFAULT_REVISION = 'main';

export interface ModelName {
  repository: string;
  /** undefined where none was named. */
  revision: string | undefined;
}

const REPOSITORY = /^(?:[\w.-]{1,96}\/)?[\w.-]{1,96}$/;
const EDGES = /(^|\/)[-.]|[-.](\/|$)/;
/** Names that Windows gives to devices, with any ending. */
const DEVICE = /^(con|prn|aux|nul|com\d|lpt\d)(\.|$)/i;
const LONGEST_SEGMENT = 255;
const LONGEST_PATH = 1024;

/** `org/name` or `org/name@revision`, undefined for a text that cannot be one. */
export function tryModelName(text: string): ModelName | undefined {
  const at = text.indexOf('@');
  const repository = at < 0 ? text : text.slice(0, at);
  const revision = at < 0 ? undefined : text.slice(at + 1);
  if (!REPOSITORY.test(repository) || EDGES.test(repository)) return undefined;
  if (/--|\.\.|\.git$/.test(repository)) return undefined;
  if (revision !== undefined && !isSafePath(revision)) return undefined;
  return { repository, revision };
}

/** Throws R3Error `bad-option` for a revision that cannot be a branch, a tag or a commit. */
export function checkRevision(revision: string): void {
  if (isSafePath(revision)) return;
  throw new R3Error(
    'config',
    'bad-option',
    `revision: expected a branch, a tag or a commit, got ${showValue(revision)}`,
  );
}

/** Whether a path with slashes names something under the folder it is joined to, on Windows too. */
export function isSafePath(path: string): boolean {
  if (path.length > LONGEST_PATH || /[\\:\p{Cc}]/u.test(path)) return false;
  return path.split('/').every(
    (segment) =>
      segment !== '' &&
      segment.length <= LONGEST_SEGMENT &&
      // `.` and `..` too; Windows drops dots and spaces at the end of a name.
      !/[. ]$/.test(segment) &&
      !DEVICE.test(segment),
  );
}
