/**
 * Files that are whole or absent.
 *
 * A file or directory is filled under a temporary name in the same folder (`.<name>.<pid>.partial`), brought to
 * the disk (fsync), and renamed: a reader never sees half of it, and a kill leaves only the temporary name,
 * which `removePartials` sweeps away. Calls are synchronous, except where the caller's own work is not.
 * One writer at a time for each target; nothing here locks.
 */
import { createHash } from 'node:crypto';
import {
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  readSync,
  readdirSync,
  renameSync,
  rmSync,
  rmdirSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { R3Error, messageOf } from './errors.ts';
import { decodeUtf8 } from './json.ts';

/** Node refuses a single read or write of 2 GiB and more. */
const MAX_IO_BYTES = 1 << 30;
const HASH_CHUNK_BYTES = 1 << 20;
const PARTIAL = '.partial';

/** Text, bytes, or a sequence of byte chunks that is written as it comes. */
export type FileData = string | Uint8Array | Iterable<Uint8Array>;

/**
 * Makes a directory and those above it, as `mkdir -p`. Returns the ones that it made, outermost first. Throws R3Error
 * `no-space` or `bad-file`. Node's own recursive mkdir never returns in a folder that exists but takes none (/proc).
 */
export function makeDirectory(directory: string): string[] {
  const missing: string[] = [];
  for (let path = resolve(directory); !existsSync(path) && path !== dirname(path); path = dirname(path)) {
    missing.unshift(path);
  }
  for (const path of missing) {
    try {
      mkdirSync(path);
    } catch (error) {
      // Somebody else may have made it meanwhile.
      if (!existsSync(path)) throw cannotMake(directory, path, error);
    }
  }
  return missing;
}

function cannotMake(directory: string, path: string, error: unknown): unknown {
  if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) {
    return storeError(directory, error);
  }
  return new R3Error(
    'store',
    'no-space',
    `${directory}: expected a place where a folder can be made, got ENOENT in ${dirname(path)}; choose another folder`,
    { cause: error },
  );
}

/**
 * Throws R3Error `no-space` or `bad-file` unless files can be made in a directory, which may itself have to be made.
 * For the start of work whose result goes there. Leaves nothing behind.
 */
export function checkWritable(directory: string): void {
  const made = makeDirectory(directory);
  const probe = partialName(join(directory, 'probe'));
  try {
    // A byte: a full disk takes empty files.
    writeFileSync(probe, '.');
  } catch (error) {
    throw storeError(directory, error);
  } finally {
    removeQuietly(probe);
    for (const path of made.toReversed()) removeEmpty(path);
  }
}

/** Replaces or creates a file at once. Its folder must exist. Throws R3Error `no-space` or `bad-file`. */
export function writeFileAtomic(path: string, data: FileData): void {
  const partial = partialName(path);
  try {
    const file = openSync(partial, 'w');
    try {
      const chunks =
        typeof data === 'string' ? [Buffer.from(data)] : data instanceof Uint8Array ? [data] : data;
      for (const chunk of chunks) writeFully(file, chunk);
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
    renameSync(partial, path);
    syncDirectory(dirname(resolve(path)));
  } catch (error) {
    removeQuietly(partial);
    throw storeError(path, error);
  }
}

/**
 * Creates a directory at once: `fill` gets the path of an empty temporary sibling, which is renamed when `fill`
 * is done. Folders above it are created. Throws R3Error `bad-file` when the target exists (it is then left as it
 * is), `no-space`, or what `fill` throws, an R3Error with the target's name in place of the temporary one; the
 * temporary directory is removed.
 */
export async function writeDirectoryAtomic(
  directory: string,
  fill: (temporary: string) => void | Promise<void>,
): Promise<void> {
  refuseExisting(directory);
  const partial = partialName(directory);
  try {
    rmSync(partial, { recursive: true, force: true });
    makeDirectory(partial);
    await fill(partial);
    syncTree(partial);
    // Rename replaces an empty directory in silence; another writer may have made one meanwhile.
    refuseExisting(directory);
    renameSync(partial, directory);
    syncDirectory(dirname(resolve(directory)));
  } catch (error) {
    removeQuietly(partial);
    throw underTarget(storeError(directory, error), partial, directory);
  }
}

/** Removes a directory so that a kill never leaves half of it under its own name. */
export function removeDirectoryAtomic(directory: string): void {
  const partial = partialName(directory);
  try {
    rmSync(partial, { recursive: true, force: true });
    renameSync(directory, partial);
    rmSync(partial, { recursive: true, force: true });
  } catch (error) {
    throw storeError(directory, error);
  }
}

/** Whether a name is that of an unfinished file or directory. */
export function isPartial(name: string): boolean {
  return name.startsWith('.') && name.endsWith(PARTIAL);
}

/** Removes what a killed writer left in a folder. Only its one writer may call this. */
export function removePartials(directory: string): void {
  for (const name of readdirSync(directory)) {
    if (isPartial(name)) rmSync(join(directory, name), { recursive: true });
  }
}

/** Writes all bytes at the file's position; a single write may take fewer than it is given. */
export function writeFully(file: number, bytes: Uint8Array): void {
  let done = 0;
  while (done < bytes.length) {
    done += writeSync(file, bytes, done, Math.min(bytes.length - done, MAX_IO_BYTES));
  }
}

/** Fills `bytes` from `position` on. Returns how many were there: fewer than asked for at the end of the file. */
export function readFully(file: number, bytes: Uint8Array, position: number): number {
  let done = 0;
  while (done < bytes.length) {
    const read = readSync(file, bytes, done, Math.min(bytes.length - done, MAX_IO_BYTES), position + done);
    if (read === 0) break;
    done += read;
  }
  return done;
}

/** The text of a small file. Throws an Error for a folder, a device (whose reading may never end) or a larger file. */
export function readTextFile(path: string, maxBytes: number): string {
  const status = statSync(path);
  if (!status.isFile()) throw new Error('expected a file, got a folder or a device; check the path');
  if (status.size > maxBytes) throw new Error(`expected at most ${maxBytes} bytes, got ${status.size}`);
  return decodeUtf8(readFileSync(path));
}

/** The sha256 of a file's bytes, hexadecimal. */
export function sha256File(path: string): string {
  try {
    const file = openSync(path, 'r');
    try {
      const hash = createHash('sha256');
      const chunk = Buffer.allocUnsafe(HASH_CHUNK_BYTES);
      for (let position = 0; ;) {
        const read = readFully(file, chunk, position);
        if (read === 0) return hash.digest('hex');
        hash.update(chunk.subarray(0, read));
        position += read;
      }
    } finally {
      closeSync(file);
    }
  } catch (error) {
    throw storeError(path, error);
  }
}

/** The R3Error for a file system error at `path`; anything else comes back as it is. */
export function storeError(path: string, error: unknown): unknown {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  if (error instanceof R3Error || typeof code !== 'string') return error;
  const fail = (kind: 'no-space' | 'bad-file', text: string): R3Error =>
    new R3Error('store', kind, `${path}: ${text}`, { cause: error });
  switch (code) {
    case 'ENOSPC':
    case 'EDQUOT':
      return fail(
        'no-space',
        `expected room to write, got ${code}; free space on this disk or choose a folder on another`,
      );
    case 'EROFS':
    case 'EACCES':
    case 'EPERM':
      return fail(
        'no-space',
        `expected permission to write here, got ${code}; choose another folder or change its permissions`,
      );
    case 'EISDIR':
      return fail('bad-file', 'expected a file, got a folder; choose another path');
    case 'ENOTDIR':
    case 'EEXIST':
      return fail('bad-file', 'expected a folder, got a file on the way to it; choose another path');
    case 'ENOENT':
      return fail('bad-file', 'expected a file or folder, got nothing at this path; check its spelling');
    default:
      return fail('bad-file', messageOf(error));
  }
}

function partialName(path: string): string {
  const whole = resolve(path);
  return join(dirname(whole), `.${basename(whole)}.${process.pid}${PARTIAL}`);
}

function refuseExisting(directory: string): void {
  if (!existsSync(directory)) return;
  throw new R3Error(
    'store',
    'bad-file',
    `${directory}: expected a path that does not exist, got one that does; choose another or remove it`,
  );
}

function syncTree(directory: string): void {
  for (const entry of readdirSync(directory, { withFileTypes: true })) {
    const path = join(directory, entry.name);
    if (entry.isDirectory()) syncTree(path);
    else syncFile(path, 'r+');
  }
  syncDirectory(directory);
}

function syncDirectory(directory: string): void {
  // Windows cannot open a directory as a file; its renames are journalled.
  if (process.platform !== 'win32') syncFile(directory, 'r');
}

function syncFile(path: string, flags: string): void {
  const file = openSync(path, flags);
  try {
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}

/** The same error with the name that a person knows. */
function underTarget(error: unknown, partial: string, target: string): unknown {
  if (!(error instanceof R3Error) || !error.message.includes(partial)) return error;
  return new R3Error(error.boundary, error.code, error.message.replaceAll(partial, target), { cause: error });
}

/** Removes a directory that this process made. One that is in use by now stays. */
export function removeEmpty(directory: string): void {
  try {
    rmdirSync(directory);
  } catch {
    return;
  }
}

/** For the way out of an error: the error that is already on its way matters more than a leftover. */
export function removeQuietly(path: string): void {
  try {
    rmSync(path, { recursive: true, force: true });
  } catch {
    return;
  }
}
