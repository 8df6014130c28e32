import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { R3Error } from './errors.ts';
import {
  checkWritable,
  makeDirectory,
  removeDirectoryAtomic,
  removePartials,
  sha256File,
  storeError,
  writeDirectoryAtomic,
  writeFileAtomic,
} from './files.ts';

/** A full disk takes the name of a file and none of its bytes. */
const disk = vi.hoisted(() => ({ isFull: false }));
vi.mock('node:fs', async (original) => {
  const real = await original<typeof import('node:fs')>();
  const write = (path: string, data: string | Uint8Array): void => {
    real.writeFileSync(path, disk.isFull ? '' : data);
    if (disk.isFull) throw Object.assign(new Error('full'), { code: 'ENOSPC' });
  };
  return { ...real, writeFileSync: write };
});

function* halfThenThrow(): Generator<Uint8Array> {
  yield Buffer.from('half');
  throw new Error('boom');
}

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'files-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

test('writeFileAtomic replaces a file with text, bytes or chunks and leaves nothing beside it', () => {
  const path = join(folder, 'a.txt');
  for (const data of ['héllo', Buffer.from('héllo'), [Buffer.from('hé'), Buffer.from('llo')]]) {
    writeFileSync(path, 'before');
    writeFileAtomic(path, data);
    expect(readFileSync(path, 'utf8')).toBe('héllo');
    expect(readdirSync(folder)).toEqual(['a.txt']);
  }
});

test('writeFileAtomic keeps the old file when a chunk throws', () => {
  const path = join(folder, 'a.txt');
  writeFileSync(path, 'before');
  expect(() => writeFileAtomic(path, halfThenThrow())).toThrow('boom');
  expect(readFileSync(path, 'utf8')).toBe('before');
  expect(readdirSync(folder)).toEqual(['a.txt']);
});

test('writeDirectoryAtomic shows the directory only when it is filled', async () => {
  const target = join(folder, 'deep', 'model');
  await writeDirectoryAtomic(target, async (temporary) => {
    expect(existsSync(target)).toBe(false);
    mkdirSync(join(temporary, 'sub'));
    await Promise.resolve();
    writeFileSync(join(temporary, 'sub', 'x'), '1');
  });
  expect(readFileSync(join(target, 'sub', 'x'), 'utf8')).toBe('1');
  expect(readdirSync(join(folder, 'deep'))).toEqual(['model']);
});

test('writeDirectoryAtomic refuses an existing target and leaves it as it is', async () => {
  const target = join(folder, 'model');
  mkdirSync(target);
  await expect(writeDirectoryAtomic(target, () => undefined)).rejects.toThrow(
    /model: expected a path that does not exist/,
  );
  await expect(
    writeDirectoryAtomic(join(folder, 'other'), () => mkdirSync(join(folder, 'other'))),
  ).rejects.toThrow(/other: expected a path that does not exist/);
  expect(readdirSync(folder).toSorted()).toEqual(['model', 'other']);
});

test('writeDirectoryAtomic removes the temporary directory when filling fails', async () => {
  const failing = writeDirectoryAtomic(join(folder, 'model'), (temporary) => {
    writeFileSync(join(temporary, 'x'), '1');
    throw new R3Error('engine', 'no-memory', 'engine: no memory');
  });
  await expect(failing).rejects.toThrow('engine: no memory');
  expect(readdirSync(folder)).toEqual([]);
});

test('an error of filling names the target, not the temporary directory, however deep it stands', async () => {
  const target = join(folder, 'checkpoints', '000000');
  const filling = writeDirectoryAtomic(target, (temporary) =>
    writeDirectoryAtomic(join(temporary, 'engine'), (inner) => {
      throw storeError(join(inner, 'weights'), Object.assign(new Error('full'), { code: 'ENOSPC' }));
    }),
  );
  await expect(filling).rejects.toMatchObject({
    code: 'no-space',
    boundary: 'store',
    message: expect.stringMatching(/000000.engine.weights: expected room to write, got ENOSPC/) as unknown,
  });
  await expect(filling).rejects.not.toThrow(/partial/);
  expect(readdirSync(join(folder, 'checkpoints'))).toEqual([]);
});

test('makeDirectory makes what is missing and says what that was', () => {
  const deep = join(folder, 'a', 'b');
  expect(makeDirectory(deep)).toEqual([join(folder, 'a'), deep]);
  expect(makeDirectory(deep)).toEqual([]);
  writeFileSync(join(deep, 'file'), '');
  expect(() => makeDirectory(join(deep, 'file', 'x'))).toThrow(
    /file.x: expected a folder, got a file on the way to it/,
  );
});

test('checkWritable leaves nothing behind', () => {
  checkWritable(join(folder, 'a', 'b'));
  checkWritable(folder);
  expect(readdirSync(folder)).toEqual([]);
  writeFileSync(join(folder, 'file'), '');
  expect(() => checkWritable(join(folder, 'file'))).toThrow(/file: expected a folder, got a file/);
});

test('checkWritable leaves nothing behind on a full disk either', () => {
  disk.isFull = true;
  try {
    expect(() => checkWritable(join(folder, 'a'))).toThrow(/a: expected room to write, got ENOSPC/);
    expect(() => checkWritable(folder)).toThrow(/expected room to write, got ENOSPC/);
  } finally {
    disk.isFull = false;
  }
  expect(readdirSync(folder)).toEqual([]);
});

test.runIf(process.platform === 'linux')(
  'a folder that takes no folders is refused, not tried for ever',
  () => {
    expect(() => checkWritable('/proc/x')).toThrow(
      '/proc/x: expected a place where a folder can be made, got ENOENT in /proc; choose another folder',
    );
  },
);

test('removePartials sweeps what a killed writer left, and only that', () => {
  mkdirSync(join(folder, '.model.12.partial', 'sub'), { recursive: true });
  writeFileSync(join(folder, '.a.txt.12.partial'), '');
  writeFileSync(join(folder, 'a.partial'), '');
  removePartials(folder);
  expect(readdirSync(folder)).toEqual(['a.partial']);
});

test('removeDirectoryAtomic removes a directory', () => {
  mkdirSync(join(folder, 'model', 'sub'), { recursive: true });
  removeDirectoryAtomic(join(folder, 'model'));
  expect(readdirSync(folder)).toEqual([]);
});

test('sha256File hashes all bytes of a file, across chunks', () => {
  const path = join(folder, 'a');
  writeFileSync(path, 'abc');
  expect(sha256File(path)).toBe('ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad');
  writeFileSync(path, 'a'.repeat(1_000_000) + 'a'.repeat(1_000_000));
  const long = sha256File(path);
  writeFileSync(path, 'a'.repeat(1_999_999) + 'b');
  expect(sha256File(path)).not.toBe(long);
  expect(() => sha256File(join(folder, 'none'))).toThrow(/none: expected a file or folder, got nothing/);
});

test('a full or read-only disk is `no-space`, with the path and what to do', () => {
  for (const code of ['ENOSPC', 'EROFS', 'EACCES']) {
    const error = storeError('out/x', Object.assign(new Error('x'), { code }));
    expect(error).toBeInstanceOf(R3Error);
    expect(error).toMatchObject({ code: 'no-space', boundary: 'store' });
    expect(String(error)).toMatch(new RegExp(`out/x: expected .* got ${code}; .*folder`));
  }
  const other = new Error('not of the file system');
  expect(storeError('out/x', other)).toBe(other);
});

test('a file under a path that is a file is `bad-file`', () => {
  writeFileSync(join(folder, 'a'), '');
  expect(() => writeFileAtomic(join(folder, 'a', 'b'), 'x')).toThrow(R3Error);
});
