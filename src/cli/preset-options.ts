/** Presets on the command line: what one sets where a person does not, and where each value came from. */
import type { Command } from 'commander';
import { PRESETS, type Preset } from '../method/presets.ts';
import { STALE_CORRECTION } from '../train-options.ts';
import { choice, usageError } from './options.ts';

const FROM_PRESET = 'preset';
const FROM_STALENESS = 'with --max-staleness';

export function presetOption(): ReturnType<typeof choice> {
  return choice(
    '--preset <name>',
    'options as a published setting has them (r3 presets lists them); options that are given win',
    PRESETS.map(({ name }) => name),
  );
}

/** The preset of that name. Throws a usage error for a name that does not exist. */
export function findPreset(name: string): Preset {
  const preset = PRESETS.find((known) => known.name === name);
  if (preset !== undefined) return preset;
  throw usageError(
    `preset: expected ${PRESETS.map((known) => known.name).join(' or ')}, got ${JSON.stringify(name)}`,
  );
}

/** Sets every option of the preset that the command line does not give. */
export function applyPreset(command: Command, { values }: Preset): void {
  for (const { option: name, value } of values) {
    const option = command.options.find(({ long }) => long === `--${name}`);
    if (option === undefined) throw new Error(`internal error: expected an option --${name} for the preset`);
    const attribute = option.attributeName();
    if (command.getOptionValueSource(attribute) === 'cli') continue;
    command.setOptionValueWithSource(attribute, value, FROM_PRESET);
  }
}

/** Episodes that are sampled ahead are corrected for unless the command line or a preset says how, or that they are not. */
export function applyStaleness(command: Command): void {
  if (command.getOptionValue('maxStaleness') === 0) return;
  const { mode, clipMax } = STALE_CORRECTION;
  const isDefault = (attribute: string): boolean => command.getOptionValueSource(attribute) === 'default';
  if (!isDefault('importanceSamplingMode')) return;
  command.setOptionValueWithSource('importanceSamplingMode', mode, FROM_STALENESS);
  if (isDefault('importanceSamplingClipMax'))
    command.setOptionValueWithSource('importanceSamplingClipMax', clipMax, FROM_STALENESS);
}

/**
 * For each option that has a value: `given`, `default`, `with --max-staleness`, or the preset and how sure it is,
 * `paper, stated`.
 */
export function sourcesOf(command: Command, preset: Preset | undefined): Record<string, string> {
  const sources: Record<string, string> = {};
  for (const option of command.options.filter(({ negate }) => !negate)) {
    const attribute = option.attributeName();
    const source = command.getOptionValueSource(attribute);
    if (source === undefined || option.long === undefined || command.getOptionValue(attribute) === undefined)
      continue;
    const name = option.long.slice(2);
    const value = preset?.values.find(({ option: of }) => of === name);
    sources[name] =
      source === FROM_PRESET && preset !== undefined && value !== undefined
        ? `${preset.name}, ${value.standing}`
        : source === 'cli'
          ? 'given'
          : source === FROM_STALENESS
            ? FROM_STALENESS
            : 'default';
  }
  return sources;
}
