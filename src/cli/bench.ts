/**
 * `r3 bench`: the benchmarks of a checkout. They stand outside the package, because they measure it; an installed r3
 * says where they are.
 */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Argument, type Command } from 'commander';
import { R3Error } from '../lib/errors.ts';
import type { Io } from './io.ts';
import { addExamples } from './options.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const NAMES = ['gemm', 'decode', 'weights', 'train', 'r3-step', 'model'];

export function define(command: Command, _io: Io): void {
  command
    .description(
      "Measures the kernels and the engine against this machine's own multiply-add peak and, where Python has them, against PyTorch and TRL.",
    )
    .addArgument(new Argument('<name...>', 'what to measure').choices(NAMES))
    .option('--shape <name>', 'r3-step and model: the shape of a published model, such as qwen2.5-0.5b')
    .option('--json', 'one line of JSON per case: {bench, case, value, unit, peakRatio?}');
  addExamples(command, '\n  r3 bench gemm decode\n  r3 bench r3-step --json');
  command.action((names: string[], flags: { json?: boolean; shape?: string }) => {
    if (!existsSync(`${ROOT}/bench/main.ts`)) {
      throw new R3Error(
        'config',
        'not-available',
        'bench: expected a checkout of the repository, got an installed package; clone it and run: npm ci && npm run bench -- gemm',
      );
    }
    const args = [
      'scripts/run-ts.mjs',
      'bench/main.ts',
      ...names,
      ...(flags.shape === undefined ? [] : ['--shape', flags.shape]),
      ...(flags.json === true ? ['--json'] : []),
    ];
    const { status } = spawnSync(process.execPath, args, { cwd: ROOT, stdio: 'inherit' });
    if (status !== 0) throw new R3Error('kernels', 'not-available', `bench: ended with status ${status}`);
  });
}
