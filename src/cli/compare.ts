/**
 * `r3 compare`: two evaluations of the same problems, from their kept rows, without a model.
 *
 * Differences are paired by problem, seeds in their order, for every column that both have.
 */
import type { Command } from 'commander';
import { R3Error } from '../lib/errors.ts';
import { showValue } from '../lib/json.ts';
import { compareModels, measureModel, type ModelRows } from '../method/evaluation-summary.ts';
import { readEvaluation } from '../runs/evaluation.ts';
import { changeTable } from '../runs/evaluation-tables.ts';
import { parseEvaluationConfig, type EvaluationConfig } from './eval-config.ts';
import { printJson, type Io } from './io.ts';
import { addExamples, usageError } from './options.ts';
import { giveTables } from './results.ts';

interface Flags {
  json?: boolean;
  markdown?: boolean;
}

export function define(command: Command, io: Io): void {
  command
    .description('Compares two evaluations of the same problems, that of EVAL_B minus that of EVAL_A.')
    .argument('<EVAL_A>', 'the folder of an evaluation')
    .argument('<EVAL_B>', 'the folder of another')
    .option('--json', 'one line of JSON: differences with 95% intervals, as shares, and McNemar tests')
    .option('--markdown', 'the table in Markdown');
  addExamples(command, '\n  r3 compare evaluations/countdown-001 evaluations/countdown-002');
  command.action((a: string, b: string, flags: Flags) => run(a, b, flags, io));
}

function run(directoryA: string, directoryB: string, flags: Flags, io: Io): void {
  if (flags.json === true && flags.markdown === true) {
    throw usageError('--markdown: expected one form of output, got --json beside it');
  }
  const [a, b] = [load(directoryA), load(directoryB)];
  checkSameProblems(a, b);
  const notes = differencesOf(a.config, b.config);
  const { sampled, greedy, overSeeds } = compareModels(a.rows, b.rows);
  if (flags.json === true) {
    const n = a.config.problems.count;
    printJson(io, { version: 1, n, a: directoryA, b: directoryB, sampled, greedy, overSeeds, notes });
    return;
  }
  for (const note of notes) io.note(`note: ${note}`);
  const lines = [`${a.config.problems.count} problems, 95% intervals: ${directoryB} minus ${directoryA}`];
  const table = changeTable('differences, paired by problem', { sampled, greedy, overSeeds });
  giveTables(lines, [table], flags.markdown === true, io);
}

interface Loaded {
  directory: string;
  config: EvaluationConfig;
  rows: ModelRows;
}

/** Throws R3Error `mismatch` for an evaluation that is not done. */
function load(directory: string): Loaded {
  const { config: stored, summary, partsOf } = readEvaluation(directory);
  const config = parseEvaluationConfig(stored, directory);
  const { seeds, controls, sampling } = config;
  const rows = measureModel('model', partsOf, { seeds, controls, temperature: sampling.temperature });
  const whole = [...rows.sampled, rows.greedy].every(
    ({ parts }) =>
      parts.tries.length === config.problems.count && parts.controls.length === config.problems.count,
  );
  if (summary !== null && whole) return { directory, config, rows };
  throw new R3Error(
    'store',
    'mismatch',
    `${directory}: expected an evaluation that is done, got one that was stopped; go on with: r3 eval --resume ${directory}`,
  );
}

/** Throws R3Error `mismatch`, naming the first problem that differs. */
function checkSameProblems(a: Loaded, b: Loaded): void {
  const refuse = (what: string, got: string): never => {
    throw new R3Error(
      'store',
      'mismatch',
      `${a.directory} and ${b.directory}: expected ${what}, got ${got}; evaluate both on the same problems`,
    );
  };
  if (a.config.task !== b.config.task) refuse('one task', `${a.config.task} and ${b.config.task}`);
  if (a.config.seeds.length !== b.config.seeds.length) {
    refuse('as many seeds', `${a.config.seeds.length} and ${b.config.seeds.length}`);
  }
  const [ofA, ofB] = [a, b].map(({ rows }) => rows.greedy.rows.map(({ problem }) => problem));
  if (ofA?.length !== ofB?.length) refuse('as many problems', `${ofA?.length} and ${ofB?.length}`);
  const place = ofA?.findIndex((problem, i) => problem !== ofB?.[i]) ?? -1;
  if (place >= 0) refuse('the same problems', `${ofA?.[place]} and ${ofB?.[place]} at place ${place + 1}`);
  if (a.config.problems.hash !== b.config.problems.hash) {
    refuse('the same problems', 'problems with the same names that hold other values');
  }
}

/** What was not the same beside the models: a reader of the differences must know. */
function differencesOf(a: EvaluationConfig, b: EvaluationConfig): string[] {
  const pairs: [what: string, a: unknown, b: unknown][] = [
    ['prompts', a.prompts.name, b.prompts.name],
    ['seeds', a.seeds.join(), b.seeds.join()],
    ['fixed text', a.fixedText, b.fixedText],
    ...samplingNames(a, b).map((name): [string, unknown, unknown] => [
      `sampling's ${name}`,
      a.sampling[name],
      b.sampling[name],
    ]),
    ['engines', a.engine, b.engine],
    ['dtype', a.dtype, b.dtype],
  ];
  return pairs.flatMap(([what, first, second]) =>
    first === second ? [] : [`${what} differ: ${showValue(first)} and ${showValue(second)}`],
  );
}

function samplingNames(a: EvaluationConfig, b: EvaluationConfig): (keyof EvaluationConfig['sampling'])[] {
  const names = [...Object.keys(a.sampling), ...Object.keys(b.sampling)];
  return [...new Set(names)] as (keyof EvaluationConfig['sampling'])[];
}
