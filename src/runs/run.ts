/**
 * The run folder: everything that a run leaves behind, and the way back into it after a kill.
 *
 *   config.json       the resolved configuration, as the run began; a resumed run may have to note a change
 *   metrics.jsonl     a row per step          episodes.jsonl   a group per line: reflections, retries
 *   failures.jsonl    the failed attempts     timings.jsonl    wall-clock times, the only log that has any
 *   checkpoints/000100/   what the engine saved, and state.json: step, log lengths, files (size, sha256), loop state
 *   environment.json  versions and machine that the run began with
 *   evaluation.json   log.txt   report.html   lock.<pid>: the process that writes the run
 *
 * A checkpoint notes how many records each log held. Resuming cuts the logs back to that and goes on, so that the
 * same seed and configuration give the same bytes in metrics, episodes and failures however often a run is killed.
 * One process writes a run; any number may read it (`readRun`), also while it is written.
 */
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { R3Error, messageOf } from '../lib/errors.ts';
import {
  checkWritable,
  isPartial,
  makeDirectory,
  removeDirectoryAtomic,
  removeEmpty,
  removePartials,
  removeQuietly,
  sha256File,
  storeError,
  writeDirectoryAtomic,
  writeFileAtomic,
} from '../lib/files.ts';
import { isObject } from '../lib/json.ts';
import { openJsonl, readJsonl, stringifyRecord } from '../lib/jsonl.ts';
import type { JsonlFile } from '../lib/jsonl.ts';
import type { Episode, Failure, LeftOut, Written } from '../method/episode.ts';
import { runEnvironment } from './environment.ts';
import { episodesOf, groupRecord, leftOutRecord } from './group-record.ts';
import { checkUnlocked, isLock, takeLock } from '../lib/lock.ts';

const VERSION = 1;
const LOGS = ['metrics', 'episodes', 'failures', 'timings'] as const;
const CHECKPOINT_NAME = /^\d{6,}$/;

type LogName = (typeof LOGS)[number];

/** The resolved configuration. What else it holds is the affair of the loop that reads it. */
export interface RunConfig {
  version: number;
  [option: string]: unknown;
}

/** One row of metrics or timings: numbers and what else the loop wants to keep, as plain JSON. */
export interface StepRow {
  step: number;
  [name: string]: unknown;
}

export interface Checkpoint {
  step: number;
  /** Where `saveCheckpoint`'s `write` put its files. */
  directory: string;
  /** The loop's own state, as it was given. */
  state: unknown;
}

export interface CheckpointSearch {
  /** The latest whole one, null when there is none. */
  checkpoint: Checkpoint | null;
  /** One line for each later checkpoint that cannot be used, and why. */
  damaged: string[];
}

export interface Run {
  readonly directory: string;
  /** As config.json held it when the run was opened. */
  readonly config: RunConfig;
  /** Replaces config.json: for what a resumed run does otherwise than it began. */
  writeConfig(config: RunConfig): void;
  appendMetrics(row: StepRow): void;
  /** The episodes of one group. */
  appendGroup(episodes: readonly Episode[]): void;
  /** A group that has none. */
  appendLeftOut(group: LeftOut): void;
  appendFailures(failures: readonly Failure[]): void;
  appendTimings(row: StepRow): void;
  /** One line of log.txt, with the time of day. */
  log(line: string): void;
  writeEvaluation(evaluation: object): void;
  /**
   * Saves aside and renames: a checkpoint is whole or absent. `write` fills the folder that it is given; the name
   * state.json is taken. `state` is plain JSON. Throws R3Error `bad-file` when the step has a checkpoint already.
   */
  saveCheckpoint(
    step: number,
    state: object,
    write: (directory: string) => void | Promise<void>,
  ): Promise<void>;
  latestCheckpoint(): CheckpointSearch;
  /**
   * Removes all but the latest `keep` (at least 1) whole checkpoints, judged by the sizes of their files. To be called
   * after each save, and after `resume`.
   */
  pruneCheckpoints(keep: number): void;
  /**
   * Takes the run back to its latest whole checkpoint: cuts the logs to the records of that moment, and sets later,
   * damaged checkpoints aside as `<name>.damaged`. Without a checkpoint the logs are emptied: the run starts over.
   */
  resume(): CheckpointSearch;
  close(): void;
}

/**
 * Throws what `createRun` would throw, before the work that comes first: R3Error `bad-file` when the folder exists and
 * is not empty, `mismatch` when another process is about to make a run in it, `no-space` when files cannot be made
 * there. Leaves nothing behind.
 */
export function checkNewRun(directory: string): void {
  refuseFiles(directory);
  if (existsSync(directory)) checkUnlocked(directory, 'run');
  checkWritable(directory);
}

/**
 * Makes a run folder and opens it. Throws R3Error `bad-file` when the folder exists and is not empty, `mismatch` when
 * another process makes a run there at the same time, `no-space`; what this call made is then gone.
 */
export function createRun(directory: string, config: RunConfig): Run {
  stringifyRecord(config);
  refuseFiles(directory);
  const made = makeDirectory(directory);
  try {
    const unlock = takeLock(directory, 'run');
    try {
      // Another process may have made its run here before the lock was ours.
      refuseFiles(directory);
      return fillRun(directory, config, unlock);
    } catch (error) {
      unlock();
      throw error;
    }
  } catch (error) {
    for (const path of made.toReversed()) removeEmpty(path);
    throw storeError(directory, error);
  }
}

/** The folder is ours, and holds nothing but locks and what a kill left. */
function fillRun(directory: string, config: RunConfig, unlock: () => void): Run {
  try {
    // A kill before config.json is in place leaves a partial file.
    removePartials(directory);
    // First: with it the folder is a run, also after a kill.
    writeFileAtomic(join(directory, 'config.json'), asJson(config));
    writeFileAtomic(join(directory, 'environment.json'), asJson(runEnvironment()));
    return openLocked(directory, config, unlock);
  } catch (error) {
    for (const name of readdirSync(directory)) {
      if (!isLock(name)) removeQuietly(join(directory, name));
    }
    throw error;
  }
}

function refuseFiles(directory: string): void {
  if (!existsSync(directory)) return;
  let names: string[];
  try {
    names = readdirSync(directory);
  } catch (error) {
    throw storeError(directory, error);
  }
  if (names.every((name) => isPartial(name) || isLock(name))) return;
  throw new R3Error(
    'store',
    'bad-file',
    `${directory}: expected a new or empty folder, got one with files; choose another folder`,
  );
}

/**
 * Opens a run folder for writing. Sweeps away what a killed writer left; cuts torn last lines. Throws R3Error `bad-file`
 * when it is no run, `mismatch` when it is one of another version, or another process writes it.
 */
export function openRun(directory: string): Run {
  // A run of another r3 is refused before anything is written into it.
  readConfig(directory);
  const first = readEpisodes(directory);
  first.next();
  first.return();
  const unlock = takeLock(directory, 'run');
  try {
    // Only now is nobody else at it.
    return openLocked(directory, readConfig(directory), unlock);
  } catch (error) {
    unlock();
    throw error;
  }
}

function openLocked(directory: string, config: RunConfig, unlock: () => void): Run {
  const checkpoints = join(directory, 'checkpoints');
  const opened: JsonlFile[] = [];
  const open = (name: LogName): JsonlFile => {
    const file = openJsonl(join(directory, `${name}.jsonl`));
    opened.push(file);
    return file;
  };
  try {
    mkdirSync(checkpoints, { recursive: true });
    removePartials(directory);
    removePartials(checkpoints);
    const logs = {
      metrics: open('metrics'),
      episodes: open('episodes'),
      failures: open('failures'),
      timings: open('timings'),
    };
    return makeRun(directory, config, logs, unlock);
  } catch (error) {
    for (const file of opened) file.close();
    throw storeError(directory, error);
  }
}

function makeRun(
  directory: string,
  config: RunConfig,
  logs: Record<LogName, JsonlFile>,
  unlock: () => void,
): Run {
  const folder = join(directory, 'checkpoints');
  /** Checkpoints whose bytes were read: nobody else writes here, so once is enough. */
  const intact = new Set<string>();
  const counts = (): Record<LogName, number> => ({
    metrics: logs.metrics.count(),
    episodes: logs.episodes.count(),
    failures: logs.failures.count(),
    timings: logs.timings.count(),
  });

  const search = (): CheckpointSearch & { counts: Record<LogName, number> } => {
    const damaged: string[] = [];
    for (const name of checkpointNames(folder).toReversed()) {
      const saved = loadCheckpoint(folder, name);
      if ('why' in saved) {
        damaged.push(`checkpoints/${name}: ${saved.why}`);
        continue;
      }
      const short = LOGS.find((log) => saved.counts[log] > logs[log].count());
      if (short !== undefined) {
        const got = logs[short].count();
        damaged.push(
          `checkpoints/${name}: ${short}.jsonl: expected ${saved.counts[short]} records, got ${got}`,
        );
        continue;
      }
      const why = intact.has(name) ? undefined : findChanged(join(folder, name), saved);
      if (why !== undefined) {
        damaged.push(`checkpoints/${name}: ${why}`);
        continue;
      }
      intact.add(name);
      const checkpoint = { step: saved.step, directory: join(folder, name), state: saved.state };
      return { checkpoint, damaged, counts: saved.counts };
    }
    return { checkpoint: null, damaged, counts: { metrics: 0, episodes: 0, failures: 0, timings: 0 } };
  };

  return {
    directory,
    config,
    writeConfig: (changed) => {
      stringifyRecord(changed);
      writeFileAtomic(join(directory, 'config.json'), asJson(changed));
    },
    appendMetrics: (row) => logs.metrics.append(row),
    appendGroup: (episodes) => logs.episodes.append(groupRecord(episodes.map(shortened))),
    appendLeftOut: (group) => logs.episodes.append(leftOutRecord(group)),
    appendFailures: (failures) =>
      failures.forEach((failure) =>
        logs.failures.append({ ...failure, attempt: shortenedWritten(failure.attempt) }),
      ),
    appendTimings: (row) => logs.timings.append(row),
    log: (line) => {
      const path = join(directory, 'log.txt');
      try {
        appendFileSync(path, `${new Date().toISOString()} ${line}\n`);
      } catch (error) {
        throw storeError(path, error);
      }
    },
    writeEvaluation: (evaluation) => writeFileAtomic(join(directory, 'evaluation.json'), asJson(evaluation)),

    saveCheckpoint: async (step, state, write) => {
      stringifyRecord(state);
      // A checkpoint must never be on the disk before the records that it counts.
      for (const log of LOGS) logs[log].sync();
      await writeDirectoryAtomic(join(folder, checkpointName(step)), async (temporary) => {
        await write(temporary);
        const files = fileSizes(temporary);
        const saved: SavedState = {
          version: VERSION,
          step,
          counts: counts(),
          files,
          sha256: Object.fromEntries(
            Object.keys(files).map((path) => [path, sha256File(join(temporary, path))]),
          ),
          state,
        };
        writeFileSync(join(temporary, 'state.json'), asJson(saved));
      });
    },
    latestCheckpoint: () => {
      const { checkpoint, damaged } = search();
      return { checkpoint, damaged };
    },
    pruneCheckpoints: (keep) => {
      const whole = checkpointNames(folder).filter((name) => !('why' in loadCheckpoint(folder, name)));
      for (const name of whole.slice(0, -Math.max(1, keep))) removeDirectoryAtomic(join(folder, name));
    },
    resume: () => {
      const { checkpoint, damaged, counts: kept } = search();
      const step = checkpoint?.step ?? -1;
      for (const name of checkpointNames(folder).filter((later) => Number(later) > step)) {
        const aside = join(folder, `${name}.damaged`);
        rmSync(aside, { recursive: true, force: true });
        renameSync(join(folder, name), aside);
      }
      for (const log of LOGS) logs[log].truncateTo(kept[log]);
      return { checkpoint, damaged };
    },
    close: () => {
      for (const log of LOGS) logs[log].close();
      unlock();
    },
  };
}

/** Log-probabilities are f32: nine digits name each exactly, where a double would print seventeen. */
function shortenedWritten(written: Written): Written {
  const { logprobs, referenceLogprobs } = written;
  const short = (values: readonly number[]): number[] => values.map((x) => Number(x.toPrecision(9)));
  return {
    ...written,
    logprobs: short(logprobs),
    ...(referenceLogprobs === undefined ? {} : { referenceLogprobs: short(referenceLogprobs) }),
  };
}

function shortenedTurn<T extends { retry: Written | null }>(turn: T): T {
  return { ...turn, retry: turn.retry === null ? null : shortenedWritten(turn.retry) };
}

function shortened(episode: Episode): Episode {
  const { attempt, reflection, otherRetries, laterRounds } = episode;
  return {
    ...shortenedTurn(episode),
    attempt: shortenedWritten(attempt),
    reflection: reflection === null ? null : shortenedWritten(reflection),
    ...(otherRetries === undefined ? {} : { otherRetries: otherRetries.map(shortenedTurn) }),
    ...(laterRounds === undefined
      ? {}
      : {
          laterRounds: laterRounds.map((round) => ({
            ...shortenedTurn(round),
            reflection: shortenedWritten(round.reflection),
          })),
        }),
  };
}

/** A run as a reader sees it: nothing is opened for writing, cut or swept. */
export interface RunView {
  directory: string;
  config: RunConfig;
  metrics: StepRow[];
  /** Streams the file anew for each call: episodes are large. */
  episodes(): Generator<Episode, void, undefined>;
  /** What evaluation.json holds, null when there is none. */
  evaluation: unknown;
  /** What environment.json holds, null when there is none: runs of earlier versions have not. */
  environment: unknown;
}

/** Reads a run folder, also one that another process is writing. */
export function readRun(directory: string): RunView {
  const readIfThere = (name: string): unknown => {
    const path = join(directory, name);
    return existsSync(path) ? readJson(path) : null;
  };
  return {
    directory,
    config: readConfig(directory),
    metrics: [...readLog<StepRow>(directory, 'metrics')],
    episodes: () => readEpisodes(directory),
    evaluation: readIfThere('evaluation.json'),
    environment: readIfThere('environment.json'),
  };
}

/** Throws R3Error `mismatch` at a line of an older shape. */
function* readEpisodes(directory: string): Generator<Episode, void, undefined> {
  const path = join(directory, 'episodes.jsonl');
  for (const record of readLog<{ version?: unknown }>(directory, 'episodes')) yield* episodesOf(record, path);
}

// What a log of ours holds is what `append*` took; it is read back as such.
function* readLog<Row>(directory: string, name: LogName): Generator<Row, void, undefined> {
  const path = join(directory, `${name}.jsonl`);
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion
  if (existsSync(path)) yield* readJsonl(path, 'skip-torn') as Generator<Row, void, undefined>;
}

/** state.json of a checkpoint. */
interface SavedState {
  version: number;
  step: number;
  /** Records in each log at that moment. */
  counts: Record<LogName, number>;
  /** Every other file of the checkpoint, by its path in it, and its size in bytes. */
  files: Record<string, number>;
  /** Of each of them, hexadecimal. Runs of earlier builds have none: of their checkpoints only the sizes are checked. */
  sha256?: Record<string, string>;
  state: unknown;
}

function checkpointName(step: number): string {
  return String(step).padStart(6, '0');
}

/** Ascending by step. Unfinished and set-aside ones have other names. */
function checkpointNames(folder: string): string[] {
  return readdirSync(folder)
    .filter((name) => CHECKPOINT_NAME.test(name))
    .toSorted((a, b) => Number(a) - Number(b));
}

/** A checkpoint's state when all of its files are there with their sizes, else why not. Reads none but state.json. */
function loadCheckpoint(folder: string, name: string): SavedState | { why: string } {
  const directory = join(folder, name);
  try {
    const saved = readJson(join(directory, 'state.json'));
    if (!isSavedState(saved))
      return { why: `state.json: expected a checkpoint of version ${VERSION}, got something else` };
    if (checkpointName(saved.step) !== name)
      return { why: `state.json: expected step ${Number(name)}, got ${saved.step}` };
    for (const [path, size] of Object.entries(saved.files)) {
      const file = join(directory, path);
      if (!existsSync(file)) return { why: `${path}: expected ${size} bytes, got no file` };
      const got = statSync(file).size;
      if (got !== size) return { why: `${path}: expected ${size} bytes, got ${got}` };
    }
    return saved;
  } catch (error) {
    return { why: messageOf(error) };
  }
}

/** What is wrong with the first file whose bytes are not those that were saved. */
function findChanged(directory: string, { sha256 = {} }: SavedState): string | undefined {
  for (const [path, sum] of Object.entries(sha256)) {
    let got: string;
    try {
      got = sha256File(join(directory, path));
    } catch (error) {
      return messageOf(error);
    }
    if (got !== sum) return `${path}: expected the bytes that were saved (sha256 ${sum}), got ${got}`;
  }
  return undefined;
}

function isSavedState(value: unknown): value is SavedState {
  if (!isObject(value) || !isObject(value['counts']) || !isObject(value['files'])) return false;
  const { version, step, counts, sha256 } = value;
  if (sha256 !== undefined && !isObject(sha256)) return false;
  return version === VERSION && Number.isInteger(step) && LOGS.every((log) => Number.isInteger(counts[log]));
}

function fileSizes(directory: string, prefix = ''): Record<string, number> {
  const sizes: Record<string, number> = {};
  for (const entry of readdirSync(directory, { withFileTypes: true }).toSorted((a, b) =>
    a.name < b.name ? -1 : 1,
  )) {
    const path = join(directory, entry.name);
    if (entry.isDirectory()) Object.assign(sizes, fileSizes(path, `${prefix}${entry.name}/`));
    else sizes[`${prefix}${entry.name}`] = statSync(path).size;
  }
  return sizes;
}

function readConfig(directory: string): RunConfig {
  const path = join(directory, 'config.json');
  if (!existsSync(path)) {
    throw new R3Error(
      'store',
      'bad-file',
      `${directory}: expected a run folder, got no config.json in it; check the path`,
    );
  }
  const config = readJson(path);
  const version = isObject(config) ? config['version'] : undefined;
  if (!isObject(config) || version !== VERSION) {
    const got = version === undefined ? 'none' : JSON.stringify(version);
    throw new R3Error(
      'store',
      'mismatch',
      `${path}: expected version ${VERSION}, got ${got}; use the r3 that made this run`,
    );
  }
  if (config['command'] === 'eval') {
    throw new R3Error(
      'store',
      'mismatch',
      `${directory}: expected a run folder, got an evaluation; r3 compare tells two of them apart, and r3 eval --resume ${directory} prints its tables`,
    );
  }
  return { ...config, version };
}

function readJson(path: string): unknown {
  try {
    return JSON.parse(readFileSync(path, 'utf8'));
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw storeError(path, error);
    throw new R3Error('store', 'bad-file', `${path}: expected JSON, got ${messageOf(error)}`, {
      cause: error,
    });
  }
}

function asJson(value: object): string {
  return `${JSON.stringify(value, null, 2)}\n`;
}
