/**
 * `r3 pull`: a model from the hub into the cache that the Hugging Face tools share, or a check of a local folder.
 *
 * The last line on stdout is the folder; what to try next is said on stderr. The token is read from where those tools
 * keep it and is never shown.
 */
import { existsSync, statSync } from 'node:fs';
import type { Command } from 'commander';
import { checkModelDirectory } from '../engine/local/directory.ts';
import { modelFilesOf } from '../hub/model-files.ts';
import { tryModelName, type ModelName } from '../hub/name.ts';
import { pullModel, type Pulled } from '../hub/pull.ts';
import { readHubSettings } from '../hub/settings.ts';
import { printJson, printLine, type Io } from './io.ts';
import { bytesText } from './memory.ts';
import { addExamples, usageError } from './options.ts';
import { baseOf, checkModel } from './session.ts';
import { cliProgress, watchedStop } from './watch.ts';

interface Flags {
  revision?: string;
  json?: boolean;
}

/** A local folder has no repository, revision or commit. */
type Result = Omit<Pulled, 'repository' | 'revision' | 'commit'> & {
  [field in 'repository' | 'revision' | 'commit']: string | null;
};

export function define(command: Command, io: Io): void {
  command
    .description(
      'Downloads a model into the cache of the Hugging Face tools: resumes, checks every file, loads nothing twice. Of a folder, config and the headers and shards of the weights are checked.',
    )
    .argument('<model>', 'org/name, org/name@revision, or a folder')
    .option('--revision <rev>', 'branch, tag or commit (default: main)')
    .option(
      '--json',
      'one line of JSON: {repository, revision, commit, directory, files, bytes, downloadedBytes}',
    );
  addExamples(
    command,
    `
  r3 pull Qwen/Qwen2.5-0.5B-Instruct
  r3 pull HuggingFaceTB/SmolLM2-360M-Instruct --revision main --json
  HF_TOKEN=... r3 pull meta-llama/Llama-3.2-1B-Instruct`,
  );
  command.action((name: string, flags: Flags) => pull(name, flags, io));
}

async function pull(name: string, flags: Flags, io: Io): Promise<void> {
  const result = existsSync(name) ? local(name, flags, io) : await download(parseName(name, flags), io);
  if (flags.json === true) {
    printJson(io, result);
    return;
  }
  const { repository, revision, commit, directory, files, bytes, downloadedBytes } = result;
  const about = `${files.length} files, ${bytesText(bytes)}`;
  if (repository === null)
    io.note(`${about}: whole by config and headers of the weights, nothing to download`);
  else {
    const loaded = downloadedBytes === 0 ? 'nothing new' : `${bytesText(downloadedBytes)} downloaded`;
    io.note(`${repository}, ${revision ?? ''}: commit ${commit ?? ''}, ${about}, ${loaded}`);
  }
  io.note(`next: r3 generate ${name} --prompt "Why is the sky blue?"`);
  printLine(io, directory);
}

function local(directory: string, { revision }: Flags, { env }: Io): Result {
  if (!statSync(directory).isDirectory()) {
    throw usageError(`model: expected a folder or a name on the hub, got the file ${directory}`);
  }
  if (revision !== undefined) {
    throw usageError(`--revision: expected a name on the hub, got the folder ${directory}`);
  }
  checkModel(directory);
  checkModelDirectory(directory, { base: baseOf(directory, env) });
  return {
    repository: null,
    revision: null,
    commit: null,
    directory,
    ...modelFilesOf(directory),
    downloadedBytes: 0,
  };
}

async function download(name: ModelName, io: Io): Promise<Result> {
  const settings = readHubSettings(io.env);
  const progress = cliProgress(io);
  const signal = watchedStop(io, progress, 'stopping');
  const started = performance.now();
  /** On the disk before this run. */
  let before: number | undefined;
  try {
    return await pullModel(name, {
      settings,
      signal,
      onNote: (line) => progress.log(line),
      onProgress: (present, total) => {
        if (before === undefined) {
          before = present;
          if (present < total) progress.phase(name.repository, total, present, bytesText);
        }
        const perSecond =
          Math.max(0, present - before) / Math.max(1e-3, (performance.now() - started) / 1000);
        progress.update(present, { at: `${bytesText(Math.round(perSecond))}/s` });
      },
    });
  } finally {
    progress.end();
  }
}

function parseName(text: string, { revision }: Flags): ModelName {
  const name = tryModelName(text);
  if (name === undefined) {
    throw usageError(
      `model: expected a folder that exists or a name such as Qwen/Qwen2.5-0.5B-Instruct, got ${JSON.stringify(text)}`,
    );
  }
  if (revision === undefined) return name;
  if (name.revision !== undefined) {
    throw usageError(`--revision: expected a name without @, got ${JSON.stringify(text)}`);
  }
  return { ...name, revision };
}
