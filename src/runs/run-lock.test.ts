import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { createRun, openRun } from './run.ts';

test('a run that another living process writes is refused, and the lock of a dead one is taken over', () => {
  const folder = mkdtempSync(join(tmpdir(), 'r3-lock-'));
  const directory = join(folder, 'run');
  createRun(directory, { version: 1 }).close();
  expect(existsSync(join(directory, 'lock'))).toBe(false);
  writeFileSync(join(directory, 'lock'), String(process.ppid));
  expect(() => openRun(directory)).toThrow(`process ${process.ppid} writes`);
  const { pid } = spawnSync(process.execPath, ['-e', '0']);
  writeFileSync(join(directory, 'lock'), String(pid));
  openRun(directory).close();
  rmSync(folder, { recursive: true });
});
