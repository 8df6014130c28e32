/**
 * Files of a tar archive in memory, gzipped or not: what services hand out of a checkpoint.
 *
 * Reads headers of 512 bytes with name, size and type (POSIX ustar); everything but plain files is passed over.
 */
import { gunzipSync } from 'node:zlib';
import { R3Error } from '../../lib/errors.ts';

const BLOCK = 512;
/** An adapter of rank 128 on 70 billion parameters has 3 GB in f32. */
const MAX_BYTES = 4 * 2 ** 30;

/** Collects a stream. Throws R3Error `bad-answer` when it does not end in time. */
export async function readAll(stream: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of stream) {
    bytes += chunk.length;
    if (bytes > MAX_BYTES) throw bad(`at most ${MAX_BYTES} bytes`, 'more');
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

/** Files by their names without folders. Throws R3Error `bad-answer`. */
export function readTar(archive: Uint8Array): Map<string, Uint8Array> {
  const bytes = unzipped(archive);
  const files = new Map<string, Uint8Array>();
  for (let at = 0; at + BLOCK <= bytes.length;) {
    const header = bytes.subarray(at, at + BLOCK);
    if (header.every((byte) => byte === 0)) return files;
    const size = Number.parseInt(textOf(header, 124, 12).trim() || '0', 8);
    if (!Number.isSafeInteger(size) || size < 0) throw bad('a size in octal digits', 'another header');
    at += BLOCK;
    if (at + size > bytes.length) throw bad(`${size} bytes of a file`, `${bytes.length - at}`);
    const type = textOf(header, 156, 1);
    const name = textOf(header, 0, 100).split('/').at(-1) ?? '';
    if ((type === '0' || type === '') && name !== '') files.set(name, bytes.subarray(at, at + size));
    at += Math.ceil(size / BLOCK) * BLOCK;
  }
  return files;
}

function unzipped(archive: Uint8Array): Uint8Array {
  if (archive[0] !== 0x1f || archive[1] !== 0x8b) return archive;
  try {
    return gunzipSync(archive, { maxOutputLength: MAX_BYTES });
  } catch (cause) {
    throw bad('a gzip file', `another one (${String(cause)})`);
  }
}

/** A field that ends at its first zero. */
function textOf(header: Uint8Array, from: number, length: number): string {
  const field = Buffer.from(header.subarray(from, from + length));
  const end = field.indexOf(0);
  return field.toString('latin1', 0, end < 0 ? length : end);
}

function bad(expected: string, got: string): R3Error {
  return new R3Error('engine', 'bad-answer', `archive of a checkpoint: expected ${expected}, got ${got}`);
}
