/**
 * The cache on disk, in the layout of the Hugging Face tools (huggingface_hub 1.33, file_download.py), which read
 * what is written here, and the other way round:
 *
 *     models--org--name/blobs/<hash>              a file's bytes; sha256 for LFS files, else the git blob's sha1
 *                       blobs/<hash>.incomplete   its beginning
 *                       snapshots/<commit>/<path> a relative link to the blob
 *                       refs/<revision>           the commit that a branch or tag stands for
 *
 * Where links cannot be made, the snapshot holds the file itself. A snapshot gets its config.json last, so that one
 * that r3 made and that has a config.json is whole.
 */
import {
  copyFileSync,
  existsSync,
  lstatSync,
  readFileSync,
  renameSync,
  statSync,
  symlinkSync,
} from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { makeDirectory, removeQuietly, storeError, writeFileAtomic } from '../lib/files.ts';
import { DEFAULT_REVISION, type ModelName } from './name.ts';

const COMMIT = /^[0-9a-f]{40}$/;

export interface Snapshot {
  directory: string;
  commit: string;
}

export function isCommit(text: string): boolean {
  return COMMIT.test(text);
}

/** The folder of a repository; it need not exist. */
export function repositoryFolder(cache: string, repository: string): string {
  return join(cache, `models--${repository.replaceAll('/', '--')}`);
}

/** Where processes that write a repository meet; Python's lock files lie there too. */
export function lockFolder(cache: string, repository: string): string {
  return join(cache, '.locks', `models--${repository.replaceAll('/', '--')}`);
}

export function blobPath(folder: string, hash: string): string {
  return join(folder, 'blobs', hash);
}

export function snapshotFolder(folder: string, commit: string): string {
  return join(folder, 'snapshots', commit);
}

/** The repository whose snapshot a folder is; undefined for any other folder. */
export function repositoryOf(directory: string): string | undefined {
  const [, name] = /[/\\]models--([^/\\]+)[/\\]snapshots[/\\][0-9a-f]{40}[/\\]?$/.exec(directory) ?? [];
  return name?.replace('--', '/');
}

/** The snapshot that a name stands for in the cache, whole or not; undefined when there is none. */
export function findSnapshot(cache: string, { repository, revision }: ModelName): Snapshot | undefined {
  const folder = repositoryFolder(cache, repository);
  const commit = readRef(folder, revision ?? DEFAULT_REVISION);
  if (commit === undefined) return undefined;
  const directory = snapshotFolder(folder, commit);
  return existsSync(directory) ? { directory, commit } : undefined;
}

function readRef(folder: string, revision: string): string | undefined {
  if (isCommit(revision)) return revision;
  const path = join(folder, 'refs', revision);
  if (statSync(path, { throwIfNoEntry: false })?.isFile() !== true) return undefined;
  const commit = readFileSync(path, 'utf8').trim();
  return isCommit(commit) ? commit : undefined;
}

/** Notes which commit a branch or tag stands for. A commit needs no note. */
export function writeRef(folder: string, revision: string, commit: string): void {
  if (revision === commit || readRef(folder, revision) === commit) return;
  const path = join(folder, 'refs', revision);
  makeDirectory(dirname(path));
  writeFileAtomic(path, commit);
}

/** Whether a file of this size is at a path, be it through a link. */
export function hasFile(path: string, sizeBytes: number): boolean {
  const found = statSync(path, { throwIfNoEntry: false });
  return found !== undefined && found.isFile() && found.size === sizeBytes;
}

/**
 * Puts a blob into a snapshot, at once: as a link, else as the file itself. `move`: nothing else uses the blob. Throws
 * R3Error `no-space` or `bad-file`.
 */
export function placeFile(
  blob: string,
  target: string,
  { symlinks, move }: { symlinks: boolean; move: boolean },
): void {
  const partial = join(dirname(target), `.${process.pid}.partial`);
  try {
    makeDirectory(dirname(target));
    removeQuietly(partial);
    if (symlinks && tryLink(relative(dirname(target), blob), partial)) renameSync(partial, target);
    else if (move) renameSync(blob, target);
    else {
      copyFileSync(blob, partial);
      renameSync(partial, target);
    }
  } catch (error) {
    removeQuietly(partial);
    throw storeError(target, error);
  }
}

/** Windows lets only some users make links, and some file systems have none. */
function tryLink(to: string, path: string): boolean {
  try {
    symlinkSync(to, path);
    return lstatSync(path).isSymbolicLink();
  } catch {
    return false;
  }
}
