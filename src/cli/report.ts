/**
 * `r3 report`: one page about a run, or about several side by side; as HTML, as Markdown, or as TensorBoard events.
 *
 * Works also while a run is trained. It reads run folders and writes one file, or one for each run.
 */
import { basename, dirname, join, resolve } from 'node:path';
import type { Command } from 'commander';
import { writeFileAtomic } from '../lib/files.ts';
import type { ReportRun } from '../runs/report/data.ts';
import { renderMarkdown } from '../runs/report/markdown.ts';
import { renderReport } from '../runs/report/page.ts';
import { printJson, printLine, type Io } from './io.ts';
import { addExamples, usageError } from './options.ts';
import { gatherRun, writeRunTensorboard } from './report-data.ts';

interface Flags {
  markdown?: boolean;
  out?: string;
  tensorboard?: string;
  json?: boolean;
}

export function define(command: Command, io: Io): void {
  command
    .description(
      'Writes one page about a run, or about several side by side, and prints its path: no network, no script, no other file.',
    )
    .argument('<runs...>', 'run folders')
    .option(
      '--out <file>',
      'the file to write (default: report.html in the run; of several runs, beside the first)',
    )
    .option('--markdown', 'the tables as Markdown, to stdout or to --out')
    .option(
      '--tensorboard <dir>',
      "instead of a page: each run's metrics as an event file of TensorBoard, in <dir>/<run>",
    )
    .option('--json', 'one line of JSON: {report}, or with --tensorboard {files}');
  addExamples(
    command,
    `
  r3 report runs/countdown-001
  r3 report runs/countdown-001 runs/countdown-002 runs/countdown-003 --out seeds.html
  r3 report runs/countdown-001 --markdown >> LOG.md
  r3 report runs/countdown-001 --tensorboard events`,
  );
  command.action((directories: string[], flags: Flags) => report(directories, flags, io));
}

async function report(directories: readonly string[], flags: Flags, io: Io): Promise<void> {
  refuseTwice(directories);
  const { markdown, out, tensorboard, json } = flags;
  if (tensorboard !== undefined) {
    if (markdown === true || out !== undefined) {
      throw usageError(
        '--tensorboard: expected no --markdown and no --out beside it, which are for a page, got one',
      );
    }
    const files = directories.map((run) =>
      writeRunTensorboard(run, join(tensorboard, eventFolder(run, directories))),
    );
    if (json === true) printJson(io, { files });
    else for (const file of files) printLine(io, file);
    return;
  }
  if (json === true && markdown === true && out === undefined) {
    throw usageError('--json: expected --out beside --markdown, which writes to stdout too, got none');
  }
  const runs: ReportRun[] = [];
  for (const directory of directories) runs.push(await gatherRun(directory));
  const text = markdown === true ? renderMarkdown(runs) : renderReport(runs);
  if (markdown === true && out === undefined) {
    io.write(text);
    return;
  }
  const [first = ''] = directories;
  const path = out ?? join(directories.length === 1 ? first : dirname(first), 'report.html');
  writeFileAtomic(path, text);
  if (json === true) printJson(io, { report: path });
  else printLine(io, path);
}

function refuseTwice(directories: readonly string[]): void {
  const paths = directories.map((directory) => resolve(directory));
  const twice = paths.find((path, i) => paths.indexOf(path) < i);
  if (twice !== undefined) throw usageError(`runs: expected each once, got ${twice} twice`);
}

/** A run's name in TensorBoard: that of its folder, with the folder above where two are called the same. */
function eventFolder(run: string, all: readonly string[]): string {
  const name = basename(resolve(run));
  const shared = all.filter((other) => basename(resolve(other)) === name).length > 1;
  return shared ? `${basename(dirname(resolve(run)))}-${name}` : name;
}
