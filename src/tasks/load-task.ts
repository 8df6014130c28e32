/**
 * A task from a file: code that exports one made with `defineTask`, or JSON that describes one (`no-code.ts`).
 *
 * TypeScript is loaded by jiti on every version of Node, whole (Node's own stripping of types is absent from 20 and
 * refuses enums); `reflect-retry-reward` is there for the file without being installed beside it. The task's hash
 * covers the file and the local files that it is made of, so that a run can tell whether it has changed.
 * What the file does is its own affair: it runs with the rights of the person who names it.
 */
import { createHash } from 'node:crypto';
import { existsSync, statSync } from 'node:fs';
import { dirname, extname, relative, resolve, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import { createJiti } from 'jiti';
import { R3Error, messageOf } from '../lib/errors.ts';
import { sha256File } from '../lib/files.ts';
import { isObject } from '../lib/json.ts';
import { oneLine } from '../lib/printable.ts';
import type { Task } from '../method/task.ts';
import { loadNoCodeTask, type TaskEnv } from './no-code.ts';

/** The file that a task came from, and what it and its local imports held. */
export interface TaskFile {
  /** Absolute. */
  path: string;
  /** Of the file; where it is made of several, of the list of them with the hash of each. */
  sha256: string;
}

export interface LoadedTask {
  task: Task;
  file: TaskFile;
}

const CODE = ['.ts', '.mts', '.js', '.mjs'];
/** What a file must end in to be a task. */
export const TASK_ENDINGS: readonly string[] = [...CODE, '.json'];

/** The same file seen from src/tasks and from dist/tasks. */
const PACKAGE = fileURLToPath(new URL('../../dist/index.js', import.meta.url));
const DIST = dirname(PACKAGE) + sep;
/** What a task must have; a loader that is given anything else says what it got. */
const FUNCTIONS = ['prompts', 'pose', 'poseAgain', 'verify', 'parseRow', 'known'] as const;

/**
 * The task that a file describes. `env`: where commands get their environment and headers their secrets from;
 * without it the task can pose problems but not judge by a command or over HTTP. Throws R3Error `bad-file` for a file
 * that cannot be read or run, `bad-task` for one without a task.
 */
export async function loadTask(path: string, env?: TaskEnv): Promise<LoadedTask> {
  const file = resolve(path);
  if (!existsSync(file) || !statSync(file).isFile()) {
    throw new R3Error('task', 'bad-file', `${path}: expected a task's file, got none; check the path`);
  }
  const { task, files } = extname(file) === '.json' ? loadNoCodeTask(file, env) : await importTask(file);
  return { task, file: { path: file, sha256: hashOf(file, files) } };
}

async function importTask(path: string): Promise<{ task: Task; files: string[] }> {
  const files = new Set([path]);
  const options = { fsCache: false, moduleCache: false, interopDefault: false } as const;
  const plain = createJiti(path, options);
  const jiti = createJiti(path, {
    ...options,
    alias: { 'reflect-retry-reward': PACKAGE },
    nativeModules: [DIST],
    transform: (source) => {
      const { filename } = source;
      if (filename !== undefined && !filename.includes(`${sep}node_modules${sep}`))
        files.add(resolve(filename));
      return { code: plain.transform(source) };
    },
  });
  let exported: unknown;
  try {
    exported = await jiti.import(path);
  } catch (cause) {
    throw new R3Error('task', 'bad-file', `${path}: ${oneLine(messageOf(cause))}`, { cause });
  }
  return { task: taskIn(exported, path), files: [...files] };
}

/** The default export, else the export `task`. */
function taskIn(exported: unknown, path: string): Task {
  const names = isObject(exported) ? exported : {};
  const task = names['default'] ?? names['task'];
  const missing = isObject(task)
    ? FUNCTIONS.find((name) => typeof task[name] !== 'function')
    : 'a default export, or an export named task';
  if (missing === undefined) return task as Task;
  throw new R3Error(
    'task',
    'bad-task',
    `${path}: expected a task made with defineTask, got none (${missing} is missing); write: export default defineTask({...})`,
  );
}

function hashOf(path: string, files: readonly string[]): string {
  if (files.length === 1) return sha256File(path);
  const lines = files.map((file) => `${relative(dirname(path), file)} ${sha256File(file)}\n`);
  return createHash('sha256').update(lines.toSorted().join('')).digest('hex');
}
