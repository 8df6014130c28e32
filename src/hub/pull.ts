/**
 * A model from the hub into the cache of the Hugging Face tools.
 *
 * The revision is resolved to a commit first, and everything after that asks for the commit. All blobs are brought to
 * the disk and checked, then the snapshot is put together, config.json last, then the branch's note is written: a kill
 * at any moment leaves beginnings that the next run goes on with. What is there already is not loaded again. One
 * process at a time writes a repository. The API: https://huggingface.co/docs/hub/api.
 */
import { existsSync, statSync, statfsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { mapConcurrent } from '../lib/concurrent.ts';
import { R3Error } from '../lib/errors.ts';
import { makeDirectory } from '../lib/files.ts';
import { showValue } from '../lib/json.ts';
import { takeLock } from '../lib/lock.ts';
import {
  blobPath,
  findSnapshot,
  hasFile,
  isCommit,
  lockFolder,
  placeFile,
  repositoryFolder,
  snapshotFolder,
  writeRef,
} from './cache.ts';
import { request, requestJson, type Hub } from './client.ts';
import { downloadBlob, incompletePath, type RemoteFile } from './download.ts';
import { chooseFiles, missingFiles, modelFilesOf } from './model-files.ts';
import { DEFAULT_REVISION, checkRevision, type ModelName } from './name.ts';
import type { HubSettings } from './settings.ts';

/** Files under way at a time: enough to fill a line, few enough for the hub's limits. */
const CONCURRENCY = 4;
/** A listing has about 200 bytes for each file. */
const MAX_LISTING_BYTES = 64 * 1024 * 1024;
/** Left free on the disk. */
const SPARE_BYTES = 64 * 1024 * 1024;
const HASH = /^([0-9a-f]{40}|[0-9a-f]{64})$/;

export interface PullOptions {
  settings: HubSettings;
  /** Stops the pull; what has come stays. */
  signal: AbortSignal;
  /** Bytes on the disk and in all; called often. */
  onProgress?: (present: number, total: number) => void;
  /** Something that a person should know of, such as a wait before a request is sent again. */
  onNote?: (line: string) => void;
  /** The clock, for tests. */
  wait?: Hub['wait'];
}

export interface Pulled {
  repository: string;
  /** What was asked for: a branch, a tag or a commit. */
  revision: string;
  commit: string;
  /** The snapshot. */
  directory: string;
  /** Paths in the snapshot, in the order of the repository's listing. */
  files: string[];
  /** Of all files. */
  bytes: number;
  downloadedBytes: number;
}

/**
 * Brings a model into the cache. Throws R3Error `bad-option`, `not-found`, `no-access`, `no-network`, `no-space`,
 * `bad-file`, `mismatch` or `cancelled`; nothing unfinished is then under a final name.
 */
export async function pullModel(name: ModelName, options: PullOptions): Promise<Pulled> {
  const { settings, onNote } = options;
  const revision = name.revision ?? DEFAULT_REVISION;
  checkRevision(revision);
  if (settings.offline) return cachedModel({ ...name, revision }, settings);

  const hub: Hub = {
    settings,
    repository: name.repository,
    revision,
    signal: options.signal,
    wait: options.wait ?? waitFor,
    onWait: (why, ms) => onNote?.(`${why}; next try in ${Math.ceil(ms / 1000)} s`),
  };
  try {
    return await pull(hub, options);
  } catch (error) {
    throw options.signal.aborted ? cancelled(name.repository) : error;
  }
}

async function pull(hub: Hub, options: PullOptions): Promise<Pulled> {
  const { repository, revision, settings } = hub;
  const { commit, files } = await listModel(hub);
  const folder = repositoryFolder(settings.cache, repository);
  const directory = snapshotFolder(folder, commit);
  const isPlaced = (file: RemoteFile): boolean => hasFile(join(directory, file.path), file.sizeBytes);
  let downloadedBytes = 0;

  if (!files.every(isPlaced)) {
    const locks = lockFolder(settings.cache, repository);
    makeDirectory(locks);
    const unlock = takeLock(locks, 'repository');
    try {
      const fresh = await downloadAll(
        hub,
        folder,
        commit,
        files.filter((file) => !isPlaced(file)),
        options,
      );
      downloadedBytes = fresh.downloadedBytes;
      for (const file of configLast(files)) {
        if (isPlaced(file)) continue;
        // Two files of one content share the blob.
        const move =
          fresh.hashes.has(file.hash) && files.filter(({ hash }) => hash === file.hash).length === 1;
        placeFile(blobPath(folder, file.hash), join(directory, file.path), {
          symlinks: settings.symlinks,
          move,
        });
      }
      writeRef(folder, revision, commit);
    } finally {
      unlock();
    }
  } else writeRef(folder, revision, commit);

  const [missing] = missingFiles(directory);
  if (missing !== undefined) {
    throw new R3Error(
      'hub',
      'bad-file',
      `${repository}: expected a whole model, got a repository without ${missing}`,
    );
  }
  const bytes = files.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  const paths = files.map(({ path }) => path);
  return { repository, revision, commit, directory, files: paths, bytes, downloadedBytes };
}

/** Brings the blobs of files to the disk. Returns the hashes of those that were not there. */
async function downloadAll(
  hub: Hub,
  folder: string,
  commit: string,
  files: readonly RemoteFile[],
  { onProgress }: PullOptions,
): Promise<{ hashes: Set<string>; downloadedBytes: number }> {
  const absent = new Map<string, RemoteFile>();
  for (const file of files) {
    if (!hasFile(blobPath(folder, file.hash), file.sizeBytes)) absent.set(file.hash, file);
  }
  const total = [...absent.values()].reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  /** Bytes on the disk, by hash. */
  const present = new Map<string, number>();
  for (const { hash, sizeBytes } of absent.values()) {
    const size = statSync(incompletePath(blobPath(folder, hash)), { throwIfNoEntry: false })?.size ?? 0;
    present.set(hash, size > sizeBytes ? 0 : size);
  }
  const sum = (): number => [...present.values()].reduce((all, bytes) => all + bytes, 0);
  checkSpace(folder, total - sum());
  let downloadedBytes = 0;
  onProgress?.(sum(), total);
  // One failure ends what else is under way.
  const failed = new AbortController();
  const own: Hub = { ...hub, signal: AbortSignal.any([hub.signal, failed.signal]) };
  await mapConcurrent([...absent.values()], CONCURRENCY, async (file) => {
    const address = filePath(hub.repository, commit, file.path);
    try {
      await downloadBlob(own, file, address, blobPath(folder, file.hash), (bytes, received) => {
        present.set(file.hash, bytes);
        downloadedBytes += received;
        onProgress?.(sum(), total);
      });
    } catch (error) {
      failed.abort(error);
      throw error;
    }
  });
  return { hashes: new Set(absent.keys()), downloadedBytes };
}

/** The commit of the revision, and the files of it that a model needs. */
async function listModel(hub: Hub): Promise<{ commit: string; files: RemoteFile[] }> {
  const { repository, revision } = hub;
  const listing = await requestJson(
    hub,
    `/api/models/${repository}/revision/${encodeURIComponent(revision)}?blobs=true`,
    MAX_LISTING_BYTES,
  );
  const { sha: commit, siblings } = asObject(listing);
  if (typeof commit !== 'string' || !isCommit(commit) || !Array.isArray(siblings)) {
    throw unusable(hub, `a commit and its files, got ${showValue(listing)}`);
  }
  const entries = new Map<string, Record<string, unknown>>();
  for (const sibling of siblings) {
    const entry = asObject(sibling);
    if (typeof entry['rfilename'] === 'string') entries.set(entry['rfilename'], entry);
  }
  const paths = chooseFiles(repository, [...entries.keys()]);
  const files = await mapConcurrent(paths, CONCURRENCY, async (path) => {
    const listed = listedFile(path, entries.get(path) ?? {});
    return listed ?? askForFile(hub, commit, path);
  });
  return { commit, files };
}

/** What a listing with `blobs=true` says of a file; undefined where a server leaves it out. */
function listedFile(path: string, entry: Record<string, unknown>): RemoteFile | undefined {
  const lfs = asObject(entry['lfs']);
  const hash = lfs['sha256'] ?? lfs['oid'] ?? entry['blobId'];
  return checkedFile(path, lfs['size'] ?? entry['size'], hash);
}

/** What the hub says of one file: size and hash are in the answer itself, not where it redirects to. */
async function askForFile(hub: Hub, commit: string, path: string): Promise<RemoteFile> {
  return request(
    hub,
    { method: 'HEAD', path: filePath(hub.repository, commit, path) },
    async ({ headers }) => {
      const etag = headers.get('x-linked-etag') ?? headers.get('etag');
      const size = headers.get('x-linked-size') ?? headers.get('content-length');
      const hash = etag?.replace(/^W\//, '').replaceAll('"', '');
      const file = checkedFile(path, size === null ? undefined : Number(size), hash);
      if (file !== undefined) return file;
      throw unusable(hub, `the size of ${path} and its hash as ETag, got ${showValue([size, etag])}`);
    },
  );
}

function checkedFile(path: string, sizeBytes: unknown, hash: unknown): RemoteFile | undefined {
  const isSize = typeof sizeBytes === 'number' && Number.isSafeInteger(sizeBytes) && sizeBytes >= 0;
  return isSize && typeof hash === 'string' && HASH.test(hash) ? { path, sizeBytes, hash } : undefined;
}

/** A file's address after the endpoint. */
function filePath(repository: string, commit: string, path: string): string {
  return `/${repository}/resolve/${commit}/${path.split('/').map(encodeURIComponent).join('/')}`;
}

/** Without the network: the snapshot in the cache, if it is whole. */
function cachedModel(name: { repository: string; revision: string }, { cache }: HubSettings): Pulled {
  const { repository, revision } = name;
  const found = findSnapshot(cache, name);
  const [missing] = found === undefined ? [] : missingFiles(found.directory);
  if (found === undefined || missing !== undefined) {
    const got = found === undefined ? 'none' : `one without ${missing}`;
    throw new R3Error(
      'hub',
      'not-found',
      `${repository}: expected a cached snapshot of ${showValue(revision)} (HF_HUB_OFFLINE is set), got ${got}; unset HF_HUB_OFFLINE and pull it`,
    );
  }
  const { directory, commit } = found;
  return { repository, revision, commit, directory, ...modelFilesOf(directory), downloadedBytes: 0 };
}

/** A snapshot that has its configuration is whole; so it comes last. */
function configLast(files: readonly RemoteFile[]): RemoteFile[] {
  const isConfig = ({ path }: RemoteFile): boolean => path === 'config.json';
  return [...files.filter((file) => !isConfig(file)), ...files.filter(isConfig)];
}

/** Throws R3Error `no-space` where a folder's disk has no room for so many more bytes. */
function checkSpace(folder: string, neededBytes: number): void {
  let place = folder;
  while (!existsSync(place)) place = dirname(place);
  const { bavail, bsize } = statfsSync(place);
  if (neededBytes === 0 || neededBytes + SPARE_BYTES <= bavail * bsize) return;
  const megabytes = (bytes: number): string => `${Math.ceil(bytes / 1e6)} MB`;
  throw new R3Error(
    'hub',
    'no-space',
    `${folder}: expected room for ${megabytes(neededBytes)}, got ${megabytes(bavail * bsize)} free on this disk; free some, or set HF_HUB_CACHE to a folder on another`,
  );
}

async function waitFor(milliseconds: number, signal: AbortSignal): Promise<void> {
  await sleep(milliseconds, undefined, { signal });
}

function cancelled(repository: string): R3Error {
  return new R3Error(
    'hub',
    'cancelled',
    `${repository}: stopped; what has come stays, and the same command goes on with it`,
  );
}

function unusable(hub: Hub, text: string): R3Error {
  return new R3Error('hub', 'bad-file', `${hub.repository}: expected of the hub ${text}`);
}

function asObject(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
}
