/** `r3 presets`: each value of a preset, how sure it is, and where it comes from. */
import type { Command } from 'commander';
import { PRESETS, type Preset } from '../method/presets.ts';
import { printJson, printLine, type Io } from './io.ts';
import { addExamples } from './options.ts';
import { findPreset } from './preset-options.ts';
import { renderTable } from './table.ts';

export function define(command: Command, io: Io): void {
  command
    .description(
      'Lists the presets of r3 train: each value, whether it is stated or inferred, and its source.',
    )
    .argument('[name]', 'one preset (default: all)')
    .option(
      '--json',
      'one line of JSON: [{name, summary, values: [{option, value, standing, source}], differences}]',
    );
  addExamples(
    command,
    `
  r3 presets
  r3 presets paper
  r3 train --preset paper --task countdown --model DIR --problems train.parquet --dry-run`,
  );
  command.action((name: string | undefined, flags: { json?: boolean }) => {
    const presets = name === undefined ? PRESETS : [findPreset(name)];
    if (flags.json === true) printJson(io, presets);
    else for (const preset of presets) give(preset, io);
  });
}

function give({ name, summary, values, differences }: Preset, io: Io): void {
  printLine(io, `${name}: ${summary}\n`);
  const rows = values.map(({ option, value, standing }): [string, string, string] => [
    `--${option}`,
    String(value),
    standing,
  ]);
  printLine(io, renderTable(['option', 'value', 'standing'], rows));
  printLine(io, '');
  for (const { option, source } of values) printLine(io, `  --${option}: ${source}`);
  printLine(io, '\nNot imitated:');
  for (const difference of differences) printLine(io, `  ${difference}`);
}
