/** `r3 report`: writes the page of a run again, also while it is trained. */
import type { Command } from 'commander';
import { printJson, printLine, type Io } from './io.ts';
import { addExamples } from './options.ts';
import { writeRunReport } from './reading.ts';

export function define(command: Command, io: Io): void {
  command
    .description("Writes a run's report.html again and prints its path: one page, no network, no script.")
    .argument('<run>', 'run folder')
    .option('--json', 'one line of JSON: {report}');
  addExamples(command, '  r3 report runs/countdown-001');
  command.action(async (directory: string, { json }: { json?: boolean }) => {
    const report = await writeRunReport(directory);
    if (json === true) printJson(io, { report });
    else printLine(io, report);
  });
}
