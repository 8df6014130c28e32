/**
 * `r3 check`: a task's verifier on its own, without a model.
 *
 * With --answers it judges answers from a file; without, it audits the verifier on answers whose verdict is known.
 */
import type { Command } from 'commander';
import { auditVerifier } from '../method/audit.ts';
import { isObject } from '../lib/json.ts';
import type { Problem } from '../method/episode.ts';
import type { Prompts, Task } from '../method/task.ts';
import { loadProblems, placeOf, readRows } from '../tasks/rows.ts';
import { printJson, printLine, type Io } from './io.ts';
import { addExamples, orList, usageError } from './options.ts';
import { findTask, promptsOption, rowError } from './session.ts';
import { printable } from './table.ts';

/** Generated problems for an audit without a file. */
const AUDIT_PROBLEMS = { count: 200, seed: 1 } as const;

interface Flags {
  answers?: string;
  problems?: string;
  prompts?: string;
  rules?: string;
  json?: boolean;
}

export function define(command: Command, io: Io): void {
  command
    .description(
      "Judges answers with a task's verifier. Without --answers it audits the verifier itself: known-good answers must pass, junk must fail.",
    )
    .argument('<task>', 'the task')
    .option(
      '--answers <file>',
      'answers to judge: .jsonl or .parquet; a row is a problem of the task with its "completion"',
    )
    .option('--problems <file>', 'problems for the audit, .jsonl or .parquet (default: 200 generated ones)')
    .addOption(promptsOption())
    .option(
      '--rules <name>',
      "how answers are compared, where a task knows several ways (default: the task's first)",
    )
    .option('--json', 'one line of JSON for each answer: {ok, class, why}; of an audit: {name, ok, detail}');
  addExamples(
    command,
    `
  r3 check countdown
  r3 check countdown --problems test.parquet
  r3 check countdown --answers rows.jsonl --json
    where a row is {"nums": [44, 19, 35], "target": 98, "completion": "<answer>44 + 19 + 35</answer>"}`,
  );
  command.action((name: string, flags: Flags) => check(name, flags, io));
}

async function check(name: string, flags: Flags, io: Io): Promise<void> {
  if (flags.answers !== undefined && flags.problems !== undefined) {
    throw usageError('--problems: expected an audit, got --answers, whose rows are the problems');
  }
  const { task, prompts } = findTask(name, flags.prompts);
  if (flags.rules !== undefined && task.rules?.includes(flags.rules) !== true) {
    const known = task.rules === undefined ? 'none, for this task knows one way' : orList(task.rules);
    throw usageError(`--rules: expected ${known}, got ${JSON.stringify(flags.rules)}`);
  }
  if (flags.answers === undefined) return auditTask(task, prompts, flags, io);
  const counts = new Map<string, number>();
  let total = 0;
  for await (const { row, line } of readRows(flags.answers)) {
    const where = placeOf(flags.answers, line);
    const { problem, completion, ...posed } = parseAnswer(task, row, line, where, flags.rules);
    const verdict = await task.verify(problem, completion, posed.prompts ?? prompts);
    const errorClass = verdict.ok ? 'ok' : verdict.class;
    counts.set(errorClass, (counts.get(errorClass) ?? 0) + 1);
    total += 1;
    if (flags.json === true) {
      printJson(
        io,
        verdict.ok
          ? { ok: true, class: null, why: null }
          : { ok: false, class: verdict.class, why: verdict.why },
      );
    } else printLine(io, verdict.ok ? `${line}: ok` : printable(`${line}: ${verdict.class}: ${verdict.why}`));
  }
  const classes = [...counts]
    .toSorted(([, a], [, b]) => b - a)
    .map(([errorClass, count]) => `${count} ${errorClass}`);
  io.note(`${total} answers: ${classes.join(', ')}`);
}

function parseAnswer(
  task: Task,
  row: unknown,
  line: number,
  where: string,
  rules: string | undefined,
): { problem: Problem; completion: string; prompts?: Prompts } {
  try {
    const parsed = task.answerRow?.(row, line - 1, rules) ?? { problem: task.parseRow(row, line - 1) };
    const completion = isObject(row) ? row['completion'] : undefined;
    if (typeof completion !== 'string') {
      throw new Error(`completion: expected a text, got ${JSON.stringify(completion) ?? 'nothing'}`);
    }
    return { ...parsed, completion };
  } catch (error) {
    throw rowError(where, error);
  }
}

async function auditTask(task: Task, prompts: Prompts, flags: Flags, io: Io): Promise<void> {
  const problems =
    flags.problems === undefined ? task.generate?.(AUDIT_PROBLEMS) : await loadProblems(task, flags.problems);
  if (problems === undefined) {
    throw usageError(
      `--problems: expected a file, because the task ${task.name} makes no problems itself, got none`,
    );
  }
  const { name, state, detail } = await auditVerifier(task, problems, prompts);
  const ok = state !== 'failed';
  if (flags.json === true) printJson(io, { name, ok, detail });
  else
    printLine(
      io,
      printable(`${name}: ${ok ? state : 'FAILED'}: ${detail}, over ${problems.length} problems`),
    );
  if (!ok) io.exitCode = 1;
}
