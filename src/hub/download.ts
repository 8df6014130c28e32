/**
 * One blob, from the hub to its final name.
 *
 * Bytes go to `<hash>.incomplete`; what is there already is kept, and the rest asked for with Range. Because the name
 * is the hash of the content, a beginning never belongs to another file. Size and hash of what is on the disk are
 * checked before it gets its name; a file that fails is deleted. A beginning from an earlier run that fails is loaded
 * again once from byte 0: another tool may have left it with holes. One process at a time; the caller locks.
 */
import { createHash } from 'node:crypto';
import { createReadStream, renameSync, rmSync } from 'node:fs';
import { open, type FileHandle } from 'node:fs/promises';
import { dirname } from 'node:path';
import { R3Error } from '../lib/errors.ts';
import { makeDirectory, storeError } from '../lib/files.ts';
import { CutShort, bodyOf, request, type Hub } from './client.ts';

export interface RemoteFile {
  /** In the repository, with slashes. */
  path: string;
  sizeBytes: number;
  /** Of 64 hexadecimal digits: sha256 of the content. Of 40: sha1 of the git blob. */
  hash: string;
}

/** Told how many bytes of the blob are on the disk, and how many have just come over the network. */
export type OnBytes = (present: number, received: number) => void;

/**
 * Downloads a blob to `target`, whose folder is made. `address`: the file's path after the
 * endpoint. Throws R3Error `mismatch` for bytes that are not the file's, `no-space`, `bad-file`, or as `request` does;
 * then `<target>.incomplete` has what came, or is gone.
 */
export async function downloadBlob(
  hub: Hub,
  file: RemoteFile,
  address: string,
  target: string,
  onBytes: OnBytes,
): Promise<void> {
  const partial = incompletePath(target);
  try {
    makeDirectory(dirname(target));
    const resumed = await fill(hub, file, address, partial, onBytes);
    let got = await hashOf(partial, file, hub.signal);
    if (got !== file.hash && resumed) {
      rmSync(partial);
      await fill(hub, file, address, partial, onBytes);
      got = await hashOf(partial, file, hub.signal);
    }
    if (got !== file.hash) {
      rmSync(partial);
      onBytes(0, 0);
      throw new R3Error(
        'hub',
        'mismatch',
        `${hub.repository}: ${file.path}: expected the hash ${file.hash}, got ${got}; what came is deleted, try again`,
      );
    }
    renameSync(partial, target);
  } catch (error) {
    throw storeError(target, error);
  }
}

export function incompletePath(target: string): string {
  return `${target}.incomplete`;
}

/** Fills a file up to its size. Returns whether some of it was there before. */
async function fill(
  hub: Hub,
  { path, sizeBytes }: RemoteFile,
  address: string,
  partial: string,
  onBytes: OnBytes,
): Promise<boolean> {
  const file = await openPartial(partial);
  try {
    let present = (await file.stat()).size;
    if (present > sizeBytes) present = await startAgain(file);
    const resumed = present > 0;
    onBytes(present, 0);
    if (present === sizeBytes) return resumed;
    /** The most that was ever there: a server that begins again with each send makes no progress. */
    let furthest = present;
    const headers = (): Record<string, string> => (present === 0 ? {} : { range: `bytes=${present}-` });
    await request(
      hub,
      { method: 'GET', path: address, headers, persistent: true },
      async (response, { alive, goesOn }) => {
        if (
          response.status === 416 ||
          (response.status === 206 && !continues(response, present, sizeBytes))
        ) {
          await response.body?.cancel();
          present = await startAgain(file);
          throw new CutShort('another part than the one asked for');
        }
        // A server that does not know Range sends all of it.
        if (response.status === 200 && present > 0) present = await startAgain(file);
        for await (const chunk of bodyOf(response)) {
          alive();
          if (present + chunk.length > sizeBytes) {
            await startAgain(file);
            throw new R3Error(
              'hub',
              'mismatch',
              `${hub.repository}: ${path}: expected ${sizeBytes} bytes, got more; what came is deleted`,
            );
          }
          await writeAt(file, chunk, present);
          present += chunk.length;
          if (present > furthest) {
            furthest = present;
            goesOn();
          }
          onBytes(present, chunk.length);
        }
        if (present < sizeBytes) throw new CutShort(`${present} of ${sizeBytes} bytes`);
      },
    );
    await file.sync();
    return resumed;
  } finally {
    await file.close();
  }
}

/** Opens a file for writing anywhere in it; one that is not there is made. */
async function openPartial(path: string): Promise<FileHandle> {
  try {
    return await open(path, 'r+');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    return open(path, 'w+');
  }
}

async function startAgain(file: FileHandle): Promise<number> {
  await file.truncate(0);
  return 0;
}

/** A write may take fewer bytes than it is given. */
async function writeAt(file: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < bytes.length;) {
    done += (await file.write(bytes, done, bytes.length - done, position + done)).bytesWritten;
  }
}

/** Whether an answer with 206 begins at `from`, in a file of this size. */
function continues(response: Response, from: number, sizeBytes: number): boolean {
  const match = /^bytes (\d+)-\d+\/(\d+|\*)$/.exec(response.headers.get('content-range') ?? '');
  return match !== null && Number(match[1]) === from && (match[2] === '*' || Number(match[2]) === sizeBytes);
}

/** The hash of a file's bytes on the disk, of the kind that it is compared with. */
async function hashOf(path: string, { hash, sizeBytes }: RemoteFile, signal: AbortSignal): Promise<string> {
  const isGitBlob = hash.length === 40;
  const digest = createHash(isGitBlob ? 'sha1' : 'sha256');
  if (isGitBlob) digest.update(`blob ${sizeBytes}\0`);
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) {
    if (signal.aborted) throw signal.reason;
    digest.update(chunk as Uint8Array);
  }
  return digest.digest('hex');
}
