/**
 * `r3 check`: a task's verifier on its own, without a model.
 *
 * With --answers it judges answers from a file, a line for each, also for a row that holds no answer to judge; without,
 * it tries the verifier on answers whose verdict is known and on answers that no task expects (`check-task.ts`). Exit
 * code 1 where a check fails or a row holds no answer.
 */
import type { Command } from 'commander';
import { messageOf } from '../lib/errors.ts';
import { isObject } from '../lib/json.ts';
import type { Problem } from '../method/episode.ts';
import type { Prompts, Task } from '../method/task.ts';
import { refuse } from '../tasks/fields.ts';
import { loadProblems, readEveryRow } from '../tasks/rows.ts';
import type { BadRow, Row } from '../tasks/rows.ts';
import { checkTask } from './check-task.ts';
import { printJson, printLine, type Io } from './io.ts';
import { addExamples, integer, orList, usageError } from './options.ts';
import { findTask, promptsOption, TASK_FORMS } from './session.ts';
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
      "with --answers: how they are compared, where a task knows several ways (default: as the row's data set is judged)",
    )
    .option(
      '--json',
      'one line of JSON for each answer: {ok, class, why}, ok null where it could not be judged (a row that cannot be used: why begins with its line, exit code 1); without --answers for each check: {name, ok, detail}',
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
  if (flags.answers === undefined && flags.rules !== undefined) {
    throw usageError('--rules: expected --answers beside it; problems are compared as their rows say');
  }
  if (flags.answers === undefined) return checkWhole(task, prompts, flags, io);
  return judgeAnswers(task, prompts, flags.answers, flags, io);
}

async function judgeAnswers(
  task: Task,
  prompts: Prompts,
  file: string,
  { rules, json, prompts: asked }: Flags,
  io: Io,
): Promise<void> {
  const counts = new Map<string, number>();
  let total = 0;
  let unusable = 0;
  for await (const row of readEveryRow(file)) {
    const answer = tryAnswer(task, row, rules, asked === undefined ? undefined : prompts);
    const isUnusable = typeof answer === 'string';
    const judged = isUnusable
      ? notJudged(answer)
      : await judgeAnswer(task, answer.problem, answer.completion, answer.prompts ?? prompts);
    const kind = judged.ok === true ? 'ok' : (judged.class ?? 'not judged');
    counts.set(kind, (counts.get(kind) ?? 0) + 1);
    total += 1;
    if (isUnusable) unusable += 1;
    const place = file.endsWith('.parquet') ? 'row' : 'line';
    if (json === true) printJson(io, isUnusable ? notJudged(`${place} ${row.line}: ${answer}`) : judged);
    else printLine(io, printable(`${row.line}: ${kind}${judged.why === null ? '' : `: ${judged.why}`}`));
  }
  const classes = [...counts]
    .toSorted(([, a], [, b]) => b - a)
    .map(([errorClass, count]) => `${count} ${errorClass}`);
  const note = unusable === 0 ? '' : `; ${unusable} of the rows cannot be used, and their lines say why`;
  io.note(`${total} answers: ${classes.join(', ')}${note}`);
  if (unusable > 0) io.exitCode = 1;
}

/** The answer of a row and its problem, or why there is none. */
function tryAnswer(
  task: Task,
  row: Row | BadRow,
  rules: string | undefined,
  asked: Prompts | undefined,
): { problem: Problem; completion: string; prompts?: Prompts } | string {
  if ('why' in row) return row.why;
  const { row: fields, line, text } = row;
  try {
    const parsed = task.answerRow?.(fields, line - 1, rules, text, asked) ?? {
      problem: task.parseRow(fields, line - 1, text),
    };
    const completion = isObject(fields) ? fields['completion'] : undefined;
    if (typeof completion !== 'string') return refuse('completion', 'a text', completion);
    return { ...parsed, completion };
  } catch (error) {
    return messageOf(error);
  }
}

/** As `--json` shows it: `ok` is null where the verifier threw, or a row holds no answer. */
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
    return notJudged(messageOf(error));
  }
}

function notJudged(why: string): JudgedAnswer {
  return { ok: null, class: null, why };
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
