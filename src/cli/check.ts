/**
 * `r3 check`: a task's verifier on its own, without a model.
 *
 * With --answers it judges answers from a file; without, it tries the verifier on answers whose verdict is known and
 * on answers that no task expects (`check-task.ts`). Exit code 1 where a check fails.
 */
import type { Command } from 'commander';
import { messageOf } from '../lib/errors.ts';
import { isObject } from '../lib/json.ts';
import type { Problem } from '../method/episode.ts';
import type { Prompts, Task } from '../method/task.ts';
import { loadProblems, placeOf, readRows } from '../tasks/rows.ts';
import type { Row } from '../tasks/rows.ts';
import { checkTask } from './check-task.ts';
import { printJson, printLine, type Io } from './io.ts';
import { addExamples, integer, orList, usageError } from './options.ts';
import { findTask, promptsOption, rowError, TASK_FORMS } from './session.ts';
import { printable } from './table.ts';

/** Problems for checks without a file; as many are taken from a file. */
const GENERATED = { count: 200, seed: 1 } as const;

interface Flags {
  answers?: string;
  problems?: string;
  limit?: number;
  prompts?: string;
  rules?: string;
  json?: boolean;
}

export function define(command: Command, io: Io): void {
  command
    .description(
      "Judges answers with a task's verifier. Without --answers it tries the verifier itself: known-good answers must pass, junk must fail, hostile answers must get a verdict, the same answer always the same one.",
    )
    .argument('<task>', `the task: ${TASK_FORMS}`)
    .option(
      '--answers <file>',
      'answers to judge: .jsonl or .parquet; a row is a problem of the task with its "completion"',
    )
    .option(
      '--problems <file>',
      'problems for the checks, .jsonl or .parquet (default: 200 that the task generates, where it can)',
    )
    .addOption(integer('--limit <n>', 'use the first n problems (default: 200)', { min: 1 }))
    .addOption(promptsOption())
    .option(
      '--rules <name>',
      "how answers are compared, where a task knows several ways (default: the task's first)",
    )
    .option(
      '--json',
      'one line of JSON for each answer: {ok, class, why}, ok null where it could not be judged; without --answers for each check: {name, ok, detail}',
    );
  addExamples(
    command,
    `
  r3 check countdown
  r3 check countdown --problems test.parquet
  r3 check my-task.ts --problems rows.jsonl
  r3 check my-task.json --problems rows.jsonl
  r3 check countdown --answers rows.jsonl --json
    where a row is {"nums": [44, 19, 35], "target": 98, "completion": "<answer>44 + 19 + 35</answer>"}`,
  );
  command.action((name: string, flags: Flags) => check(name, flags, io));
}

async function check(name: string, flags: Flags, io: Io): Promise<void> {
  if (flags.answers !== undefined && flags.problems !== undefined) {
    throw usageError('--problems: expected no --answers beside it, whose rows are the problems');
  }
  if (flags.answers !== undefined && flags.limit !== undefined) {
    throw usageError('--limit: expected no --answers beside it, which are judged one and all');
  }
  const { task, prompts } = await findTask(name, io.env, flags.prompts);
  if (flags.rules !== undefined && task.rules?.includes(flags.rules) !== true) {
    const known = task.rules === undefined ? 'none, for this task knows one way' : orList(task.rules);
    throw usageError(`--rules: expected ${known}, got ${JSON.stringify(flags.rules)}`);
  }
  if (flags.answers === undefined) return checkWhole(task, prompts, flags, io);
  const counts = new Map<string, number>();
  let total = 0;
  for await (const row of readRows(flags.answers)) {
    const { line } = row;
    const where = placeOf(flags.answers, line);
    const { problem, completion, ...posed } = parseAnswer(task, row, where, flags.rules);
    const judged = await judgeAnswer(task, problem, completion, posed.prompts ?? prompts);
    const kind = judged.ok === true ? 'ok' : (judged.class ?? 'not judged');
    counts.set(kind, (counts.get(kind) ?? 0) + 1);
    total += 1;
    if (flags.json === true) printJson(io, judged);
    else printLine(io, printable(`${line}: ${kind}${judged.why === null ? '' : `: ${judged.why}`}`));
  }
  const classes = [...counts]
    .toSorted(([, a], [, b]) => b - a)
    .map(([errorClass, count]) => `${count} ${errorClass}`);
  io.note(`${total} answers: ${classes.join(', ')}`);
}

function parseAnswer(
  task: Task,
  { row, line, text }: Row,
  where: string,
  rules: string | undefined,
): { problem: Problem; completion: string; prompts?: Prompts } {
  try {
    const parsed = task.answerRow?.(row, line - 1, rules, text) ?? {
      problem: task.parseRow(row, line - 1, text),
    };
    const completion = isObject(row) ? row['completion'] : undefined;
    if (typeof completion !== 'string') {
      throw new Error(`completion: expected a text, got ${JSON.stringify(completion) ?? 'nothing'}`);
    }
    return { ...parsed, completion };
  } catch (error) {
    throw rowError(where, error);
  }
}

/** As `--json` shows it: `ok` is null where the verifier threw. */
interface JudgedAnswer {
  ok: boolean | null;
  class: string | null;
  why: string | null;
}

async function judgeAnswer(
  task: Task,
  problem: Problem,
  answer: string,
  prompts: Prompts,
): Promise<JudgedAnswer> {
  try {
    const verdict = await task.verify(problem, answer, prompts);
    return verdict.ok
      ? { ok: true, class: null, why: null }
      : { ok: false, class: verdict.class, why: verdict.why };
  } catch (error) {
    return { ok: null, class: null, why: messageOf(error) };
  }
}

async function checkWhole(task: Task, prompts: Prompts, flags: Flags, io: Io): Promise<void> {
  const { problems: file, limit = GENERATED.count } = flags;
  const problems =
    file === undefined
      ? task.generate?.({ ...GENERATED, count: limit })
      : await loadProblems(task, file, { limit });
  if (problems === undefined) {
    throw usageError(
      `--problems: expected a file, because the task ${task.name} makes no problems itself, got none`,
    );
  }
  const checks = await checkTask(task, problems, prompts);
  for (const result of checks) {
    if (flags.json === true) printJson(io, result);
    else printLine(io, printable(`${result.name}: ${result.ok ? 'ok' : 'FAILED'}: ${result.detail}`));
  }
  const failed = checks.filter(({ ok }) => !ok).length;
  io.note(
    `${checks.length} checks over ${problems.length} problems: ${failed === 0 ? 'all ok' : `${failed} failed`}`,
  );
  if (failed > 0) io.exitCode = 1;
}
