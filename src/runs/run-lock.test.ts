import { type ChildProcessWithoutNullStreams, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { checkNewRun, createRun, openRun, readRun } from './run.ts';

/** What happens just after this process made its lock: another process, in a test. */
const meanwhile = vi.hoisted(() => ({ act: (): void => undefined }));
vi.mock('node:fs', async (original) => {
  const real = await original<typeof import('node:fs')>();
  const writeAndMore = (path: string, data: string): void => {
    real.writeFileSync(path, data);
    if (path.endsWith(`lock.${process.pid}`)) meanwhile.act();
  };
  return { ...real, writeFileSync: writeAndMore };
});

let folder: string;
let directory: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'r3-lock-'));
  directory = join(folder, 'run');
});
afterEach(() => {
  meanwhile.act = () => undefined;
  rmSync(folder, { recursive: true });
});

const lockOf = (pid: number): string => join(directory, `lock.${pid}`);
const deadPid = (): number => spawnSync(process.execPath, ['-e', '0']).pid;

test('a run that another living process writes is refused, and the lock of a dead one is removed', () => {
  createRun(directory, { version: 1 }).close();
  expect(readdirSync(directory).filter((name) => name.startsWith('lock'))).toEqual([]);
  writeFileSync(lockOf(process.ppid), '');
  expect(() => openRun(directory)).toThrow(`process ${process.ppid} writes`);
  expect(existsSync(lockOf(process.pid))).toBe(false);
  rmSync(lockOf(process.ppid));
  const dead = deadPid();
  writeFileSync(lockOf(dead), '');
  const run = openRun(directory);
  expect(existsSync(lockOf(dead))).toBe(false);
  run.close();
});

test('of two processes that take over the same stale lock at once, the one that sees the other withdraws', () => {
  createRun(directory, { version: 1 }).close();
  writeFileSync(lockOf(deadPid()), '');
  meanwhile.act = () => writeFileSync(lockOf(process.ppid), '');
  expect(() => openRun(directory)).toThrow(`process ${process.ppid} writes`);
  expect(existsSync(lockOf(process.pid))).toBe(false);
});

test('a run that another process made between look and lock stays whole', () => {
  meanwhile.act = () => writeFileSync(join(directory, 'config.json'), '{"version":1,"of":"another"}');
  expect(() => createRun(directory, { version: 1 })).toThrow('expected a new or empty folder');
  expect(readRun(directory).config).toEqual({ version: 1, of: 'another' });
});

test('a run that another process is making is refused and left alone, by the check before it too', () => {
  meanwhile.act = () => writeFileSync(lockOf(process.ppid), '');
  expect(() => createRun(directory, { version: 1 })).toThrow(`process ${process.ppid} writes`);
  expect(() => checkNewRun(directory)).toThrow(`process ${process.ppid} writes`);
  expect(readdirSync(directory)).toEqual([`lock.${process.ppid}`]);
});

test('a folder with nothing but the lock of a dead process is as an empty one', () => {
  mkdirSync(directory);
  writeFileSync(lockOf(deadPid()), '');
  checkNewRun(directory);
  createRun(directory, { version: 1 }).close();
});

/** Makes or opens the run when it is told to, says what came of it, and stays until its input ends. */
const CONTENDER = `
import { runnerImport } from 'vite';
const [file, call, directory] = process.argv.slice(1);
const { module } = await runnerImport(file, { configFile: false, logLevel: 'error' });
process.stdin.once('data', () => {
  try {
    const run = module[call](directory, { version: 1 });
    process.stdin.once('end', () => run.close());
    console.log('won');
  } catch (error) {
    console.log(error.message);
  }
});
console.log('ready');
`;

/** The next line or lines that each says. */
async function said(processes: readonly ChildProcessWithoutNullStreams[]): Promise<string[]> {
  return Promise.all(
    processes.map(async ({ stdout, stderr }) => {
      const lines = once(stdout, 'data').then(([data]) => String(data));
      const failure = once(stderr, 'data').then(([data]) => `failed: ${String(data)}`);
      return Promise.race([lines, failure]);
    }),
  );
}

test.each(['createRun', 'openRun'])(
  'of processes that call %s at the same moment, exactly one goes on',
  async (call) => {
    if (call === 'openRun') {
      createRun(directory, { version: 1 }).close();
      writeFileSync(lockOf(deadPid()), '');
    }
    const file = join(import.meta.dirname, 'run.ts');
    const contenders = [1, 2].map(() =>
      spawn(process.execPath, ['--input-type=module', '-e', CONTENDER, file, call, directory]),
    );
    expect(await said(contenders)).toEqual(['ready\n', 'ready\n']);
    const answers = said(contenders);
    for (const { stdin } of contenders) stdin.write('go');
    const lines = await answers;
    const ended = contenders.map(async (child) => once(child, 'close'));
    for (const { stdin } of contenders) stdin.end();
    await Promise.all(ended);
    expect(lines.filter((line) => line === 'won\n')).toHaveLength(1);
    for (const line of lines) expect(line).toMatch(/^won$|process \d+ writes|a new or empty folder/m);
    expect(readRun(directory).config).toEqual({ version: 1 });
    expect(readdirSync(directory).filter((name) => name.startsWith('lock'))).toEqual([]);
  },
);
