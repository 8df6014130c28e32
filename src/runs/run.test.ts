import {
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import type { Episode } from '../method/episode.ts';
import { checkNewRun, createRun, openRun, readRun } from './run.ts';
import type { Run } from './run.ts';

/**
 * A disk that dies: after `operationsLeft` changes every change fails, as after a kill; the last write may have
 * taken part of its bytes. Undefined: the disk lives. It never waits for the platter.
 */
const disk = vi.hoisted(() => ({
  operationsLeft: undefined as number | undefined,
  operations: 0,
  /** A full disk: after so many more writes none is taken, but names can be changed and removed. */
  writesLeft: Number.POSITIVE_INFINITY,
}));

/** A call that needs room. */
function filling<A extends unknown[], R>(call: (...args: A) => R): (...args: A) => R {
  return (...args) => {
    disk.writesLeft -= 1;
    if (disk.writesLeft < 0) throw Object.assign(new Error('full'), { code: 'ENOSPC' });
    return call(...args);
  };
}

function mortal<A extends unknown[], R>(
  call: (...args: A) => R,
  dying?: (...args: A) => void,
): (...args: A) => R {
  return (...args) => {
    disk.operations += 1;
    if (disk.operationsLeft !== undefined) {
      if (disk.operationsLeft === 0) dying?.(...args);
      disk.operationsLeft -= 1;
      if (disk.operationsLeft < 0) throw new Error('killed');
    }
    return call(...args);
  };
}

vi.mock('node:fs', async (original) => {
  const real = await original<typeof import('node:fs')>();
  return {
    ...real,
    fsyncSync: () => undefined,
    mkdirSync: mortal(filling(real.mkdirSync)),
    renameSync: mortal(real.renameSync),
    rmSync: mortal(real.rmSync),
    ftruncateSync: mortal(real.ftruncateSync),
    writeFileSync: mortal(filling(real.writeFileSync), (path) => real.writeFileSync(path, '{')),
    writeSync: mortal(
      filling((file: number, bytes: Uint8Array, offset?: number, length?: number) =>
        real.writeSync(file, bytes, offset, length),
      ),
      (file, bytes, offset = 0) =>
        real.writeSync(file, bytes, offset, Math.floor((bytes.length - offset) / 2)),
    ),
  };
});

let folder: string;
beforeEach(() => {
  disk.operationsLeft = undefined;
  disk.writesLeft = Number.POSITIVE_INFINITY;
  folder = mkdtempSync(join(tmpdir(), 'run-'));
});
afterEach(() => {
  disk.operationsLeft = undefined;
  disk.writesLeft = Number.POSITIVE_INFINITY;
  rmSync(folder, { recursive: true });
});

const STEPS = 7;
const config = { version: 1, seed: 3 };

function episode(step: number, index: number): Episode {
  const written = {
    tokens: [step, index],
    logprobs: [-0.5, -1 / (step + 1)],
    text: `s${step}\u2028`,
    stopReason: 'stop' as const,
  };
  return {
    version: 1,
    step,
    group: `p${step}#0`,
    index,
    problem: { id: `p${step}` },
    attempt: { ...written, tokens: [step] },
    attemptScore: null,
    reflection: written,
    retry: null,
    score: null,
    reward: null,
    advantage: null,
  };
}

function sumOf(state: unknown): number {
  return typeof state === 'object' && state !== null && 'sum' in state ? Number(state.sum) : 0;
}

/** A training loop in miniature: two weights files, a checkpoint at each even step, two checkpoints kept. */
async function train(run: Run): Promise<void> {
  const { checkpoint } = run.resume();
  run.pruneCheckpoints(2);
  let sum = sumOf(checkpoint?.state);
  if (checkpoint !== null) {
    expect(readFileSync(join(checkpoint.directory, 'weights'), 'utf8')).toBe(String(sum).repeat(20));
  }
  for (let step = checkpoint?.step ?? 0; step < STEPS;) {
    if (step === 3) run.appendFailures([]);
    sum += step * step;
    run.appendGroup([episode(step, 0), episode(step, 1)]);
    run.appendMetrics({ step, sum });
    run.appendTimings({ step, seconds: Math.random() });
    step += 1;
    if (step % 2 === 0) {
      await run.saveCheckpoint(step, { sum }, (directory) => {
        writeFileSync(join(directory, 'weights'), String(sum).repeat(20));
        mkdirSync(join(directory, 'optimizer'));
        writeFileSync(join(directory, 'optimizer', 'moments'), 'm'.repeat(30));
      });
      run.pruneCheckpoints(2);
    }
  }
  run.close();
}

/** What a run leaves, without wall-clock times and what was set aside. */
function result(directory: string): unknown {
  const read = (name: string): string => readFileSync(join(directory, name), 'utf8');
  const checkpoints = readdirSync(join(directory, 'checkpoints')).filter(
    (name) => !name.endsWith('.damaged'),
  );
  return {
    metrics: read('metrics.jsonl'),
    episodes: read('episodes.jsonl'),
    failures: read('failures.jsonl'),
    timings: read('timings.jsonl').replaceAll(/"seconds":[^}]+/g, ''),
    checkpoints: checkpoints.map((name) => [
      name,
      read(`checkpoints/${name}/state.json`),
      read(`checkpoints/${name}/weights`),
    ]),
  };
}

async function uninterrupted(): Promise<unknown> {
  const directory = join(folder, 'whole');
  await train(createRun(directory, config));
  return result(directory);
}

function openOrCreate(directory: string): Run {
  try {
    return openRun(directory);
  } catch {
    return createRun(directory, config);
  }
}

test('a run killed before any change to the disk, or halfway through a write, resumes to the same bytes', async () => {
  const before = disk.operations;
  const whole = await uninterrupted();
  const operations = disk.operations - before;
  expect(operations).toBeGreaterThan(50);
  for (let kill = 0; kill < operations; kill++) {
    const directory = join(folder, `killed-${kill}`);
    disk.operationsLeft = kill;
    await expect((async () => train(createRun(directory, config)))(), `kill ${kill}`).rejects.toThrow();
    disk.operationsLeft = undefined;
    await train(openOrCreate(directory));
    expect(result(directory), `kill ${kill}`).toEqual(whole);
    expect(readdirSync(join(directory, 'checkpoints')), `kill ${kill}`).toEqual(['000004', '000006']);
  }
});

test('a run whose logs and checkpoints were cut at any byte, again and again, resumes to the same bytes', async () => {
  const whole = await uninterrupted();
  const cut = fc.record({
    operations: fc.integer({ min: 5, max: 60 }),
    file: fc.constantFrom(
      'metrics.jsonl',
      'episodes.jsonl',
      'timings.jsonl',
      'state.json',
      'weights',
      'optimizer/moments',
    ),
    at: fc.nat(),
  });
  let number = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(cut, { minLength: 1, maxLength: 4 }), async (cuts) => {
      const directory = join(folder, `cut-${number++}`);
      for (const { operations, file, at } of cuts) {
        disk.operationsLeft = operations;
        try {
          await train(openOrCreate(directory));
        } catch (error) {
          expect(String(error)).toContain('killed');
        }
        disk.operationsLeft = undefined;
        const latest = openOrCreate(directory);
        const within = latest.latestCheckpoint().checkpoint?.directory ?? directory;
        latest.close();
        const path = join(file.endsWith('.jsonl') ? directory : within, file);
        try {
          truncateSync(path, at % (readFileSync(path).length + 1));
        } catch (error) {
          expect(error).toMatchObject({ code: 'ENOENT' });
        }
      }
      await train(openOrCreate(directory));
      expect(result(directory)).toEqual(whole);
    }),
    { numRuns: 20 },
  );
});

test('a run that cannot be made for want of room leaves no folder', () => {
  const directory = join(folder, 'run');
  for (let writes = 0; ; writes++) {
    disk.writesLeft = writes;
    try {
      createRun(directory, config).close();
      expect(writes).toBeGreaterThan(3);
      return;
    } catch (error) {
      expect(error, `${writes} writes`).toMatchObject({ code: 'no-space' });
      expect(String(error)).toContain('run');
      expect(String(error)).not.toContain('partial');
      expect(readdirSync(folder), `${writes} writes`).toEqual([]);
    }
  }
});

test('a run whose disk is full at any write resumes to the same bytes once there is room', async () => {
  const whole = await uninterrupted();
  for (let writes = 5; ; writes++) {
    const directory = join(folder, `full-${writes}`);
    const run = createRun(directory, config);
    disk.writesLeft = writes;
    const filled = await train(run).then(
      () => false,
      (error: unknown) => {
        expect(error, `${writes} writes`).toMatchObject({ code: 'no-space' });
        expect(String(error)).not.toContain('partial');
        return true;
      },
    );
    disk.writesLeft = Number.POSITIVE_INFINITY;
    if (!filled) break;
    run.close();
    await train(openRun(directory));
    expect(result(directory), `${writes} writes`).toEqual(whole);
  }
});

test('checkNewRun refuses what createRun would, and makes nothing', () => {
  const directory = join(folder, 'runs', 'run');
  checkNewRun(directory);
  expect(readdirSync(folder)).toEqual([]);
  createRun(directory, config).close();
  expect(() => checkNewRun(directory)).toThrow(/run: expected a new or empty folder, got one with files/);
  expect(() => checkNewRun(join(directory, 'config.json'))).toThrow(/expected a folder, got a file/);
});

test('a configuration that is changed is what the next reader finds', () => {
  const run = createRun(join(folder, 'run'), config);
  run.writeConfig({ ...config, seed: 4 });
  run.close();
  expect(readRun(join(folder, 'run')).config).toEqual({ version: 1, seed: 4 });
});

test('a damaged checkpoint is named, passed over, and set aside on resume', async () => {
  const directory = join(folder, 'run');
  await train(createRun(directory, config));
  writeFileSync(join(directory, 'checkpoints', '000006', 'weights'), 'short');
  const run = openRun(directory);
  const found = run.resume();
  expect(found.damaged).toEqual(['checkpoints/000006: weights: expected 40 bytes, got 5']);
  expect(found.checkpoint).toMatchObject({ step: 4, state: { sum: 14 } });
  expect(readdirSync(join(directory, 'checkpoints'))).toEqual(['000004', '000006.damaged']);
  run.close();
  expect(readRun(directory).metrics.map((row) => row.step)).toEqual([0, 1, 2, 3]);
});

test('a checkpoint whose bytes changed at the same size is passed over, and one without sums is taken by its sizes', async () => {
  const directory = join(folder, 'run');
  await train(createRun(directory, config));
  const checkpoint = join(directory, 'checkpoints', '000006');
  const moments = join(checkpoint, 'optimizer', 'moments');
  writeFileSync(moments, readFileSync(moments, 'utf8').replace('m', 'n'));
  let run = openRun(directory);
  expect(run.latestCheckpoint()).toMatchObject({
    checkpoint: { step: 4 },
    damaged: [
      expect.stringMatching(
        /^checkpoints\/000006: optimizer\/moments: expected the bytes that were saved \(sha256 \w{64}\), got \w{64}$/,
      ),
    ],
  });
  run.close();
  const { sha256: _, ...older } = JSON.parse(readFileSync(join(checkpoint, 'state.json'), 'utf8')) as {
    sha256: unknown;
  };
  writeFileSync(join(checkpoint, 'state.json'), JSON.stringify(older));
  run = openRun(directory);
  expect(run.latestCheckpoint()).toMatchObject({ checkpoint: { step: 6 }, damaged: [] });
  run.close();
});

test('a checkpoint that counts more records than the logs hold is damaged', async () => {
  const directory = join(folder, 'run');
  await train(createRun(directory, config));
  truncateSync(
    join(directory, 'metrics.jsonl'),
    readFileSync(join(directory, 'metrics.jsonl')).indexOf('{"step":5'),
  );
  const run = openRun(directory);
  expect(run.latestCheckpoint()).toMatchObject({
    checkpoint: { step: 4 },
    damaged: ['checkpoints/000006: metrics.jsonl: expected 6 records, got 5'],
  });
  run.close();
});

test('latestCheckpoint ignores unfinished checkpoints, and opening removes them', () => {
  const directory = join(folder, 'run');
  createRun(directory, config).close();
  mkdirSync(join(directory, 'checkpoints', '.000100.7.partial'));
  const run = openRun(directory);
  expect(run.latestCheckpoint()).toEqual({ checkpoint: null, damaged: [] });
  expect(readdirSync(join(directory, 'checkpoints'))).toEqual([]);
  run.close();
});

test('a checkpoint is not overwritten', async () => {
  const run = createRun(join(folder, 'run'), config);
  await run.saveCheckpoint(1, { a: 1 }, () => undefined);
  await expect(run.saveCheckpoint(1, { a: 2 }, () => undefined)).rejects.toThrow(
    /000001: expected a path that does not exist/,
  );
  expect(run.latestCheckpoint().checkpoint?.state).toEqual({ a: 1 });
  run.close();
});

test('createRun refuses a folder with files in it, openRun a folder that is no run or of another version', () => {
  const directory = join(folder, 'run');
  createRun(directory, config).close();
  expect(() => createRun(directory, config)).toThrow(
    /run: expected a new or empty folder, got one with files/,
  );
  expect(() => openRun(folder)).toThrow(/expected a run folder, got no config\.json in it/);
  writeFileSync(join(directory, 'config.json'), '{"version":2}');
  expect(() => openRun(directory)).toThrow(/config\.json: expected version 1, got 2/);
  writeFileSync(join(directory, 'config.json'), '{');
  expect(() => readRun(directory)).toThrow(/config\.json: expected JSON/);
});

test('readRun gives back what was written and leaves a torn log as it is', () => {
  const directory = join(folder, 'run');
  const run = createRun(directory, config);
  run.appendMetrics({ step: 0, reward: 0.5 });
  run.appendGroup([episode(0, 0), episode(0, 1)]);
  run.writeEvaluation({ rate: 0.25 });
  run.log('started');
  run.close();
  const torn = `${readFileSync(join(directory, 'metrics.jsonl'), 'utf8')}{"st`;
  writeFileSync(join(directory, 'metrics.jsonl'), torn);
  const view = readRun(directory);
  expect(view).toMatchObject({ config, metrics: [{ step: 0, reward: 0.5 }], evaluation: { rate: 0.25 } });
  expect([...view.episodes()]).toEqual([episode(0, 0), episode(0, 1)]);
  expect(readFileSync(join(directory, 'metrics.jsonl'), 'utf8')).toBe(torn);
  expect(readFileSync(join(directory, 'log.txt'), 'utf8')).toMatch(/^\d{4}-\S+Z started\n$/);
});

test('a group is one line, and holds problem and attempt once', () => {
  const directory = join(folder, 'run');
  const run = createRun(directory, config);
  run.appendGroup([episode(4, 0), { ...episode(4, 1), kind: 'vague', hint: 'none' }]);
  run.close();
  const lines = readFileSync(join(directory, 'episodes.jsonl'), 'utf8').split('\n');
  expect(lines).toHaveLength(2);
  expect(lines[0]!.split('"attempt"')).toHaveLength(2);
  expect(lines[0]!.split('"problem"')).toHaveLength(2);
  expect([...readRun(directory).episodes()]).toEqual([
    episode(4, 0),
    { ...episode(4, 1), kind: 'vague', hint: 'none' },
  ]);
});

test('episodes of version 1, a line for each, are refused by readers and by a writer that would go on', () => {
  const directory = join(folder, 'run');
  createRun(directory, config).close();
  const old = `${JSON.stringify(episode(0, 0))}\n`;
  writeFileSync(join(directory, 'episodes.jsonl'), old);
  expect(() => [...readRun(directory).episodes()]).toThrow(
    /episodes\.jsonl: expected groups of version 3, got 1/,
  );
  expect(() => openRun(directory)).toThrow(/use the r3 that made this run/);
  expect(readFileSync(join(directory, 'episodes.jsonl'), 'utf8')).toBe(old);
});

test('a metric that is not a finite number is refused by name', () => {
  const run = createRun(join(folder, 'run'), config);
  expect(() => run.appendMetrics({ step: 0, loss: Number.NaN })).toThrow(
    'loss: expected a finite number, got NaN',
  );
  run.close();
});
