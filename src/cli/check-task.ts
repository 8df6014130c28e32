/**
 * What `r3 check TASK` looks at without a model: the verifier on answers whose verdict is known, as the audit before
 * training has it (`method/audit.ts`), on answers that no task expects (`method/adversarial.ts`), twice on the same
 * answers, how long a verdict takes, and whether each problem has an id of its own.
 *
 * One result per check, each with a sentence. Nothing here prints.
 */
import { mapConcurrent } from '../lib/concurrent.ts';
import { messageOf } from '../lib/errors.ts';
import { showValue } from '../lib/json.ts';
import { adversarialAnswers, type AdversarialKind } from '../method/adversarial.ts';
import { auditVerifier, sharedId } from '../method/audit.ts';
import type { Problem, Verdict } from '../method/episode.ts';
import { posedText, type Prompts, type Task } from '../method/task.ts';

export interface TaskCheck {
  name: string;
  ok: boolean;
  /** One sentence: what was looked at, and the first thing that is wrong. */
  detail: string;
}

/** Problems whose known answers are judged twice. */
const REPEATED_PROBLEMS = 3;
/** Unexpected answers of each kind that are judged twice: the first ones. */
const REPEATED_ANSWERS = 2;
/** Problems for answers that may pass by luck: more than half of them do not. */
const LUCK_PROBLEMS = 8;
/** As many commands as a command verifier starts at a time, so that no verdict waits in a queue while it is timed. */
const CONCURRENCY = 4;
/** A verdict that takes longer holds up every training step. */
const MAX_VERDICT_MS = 10_000;

interface Posed {
  problem: Problem;
  answer: string;
}

interface Judged extends Posed {
  /** The message of what was thrown, where there is no verdict. */
  verdict: Verdict | string;
  milliseconds: number;
}

/** All checks, passed or not. `problems`: at least one. */
export async function checkTask(
  task: Task,
  problems: readonly Problem[],
  prompts: Prompts,
): Promise<TaskCheck[]> {
  const judgeAll = (posed: readonly Posed[]): Promise<Judged[]> =>
    mapConcurrent(posed, CONCURRENCY, (each) => judge(task, each, prompts));
  const { name, state, detail } = await auditVerifier(task, problems, prompts);
  const checks: TaskCheck[] = [{ name, ok: state !== 'failed', detail }];
  const unexpected: Judged[] = [];
  const known: Posed[] = problems
    .slice(0, REPEATED_PROBLEMS)
    .flatMap((problem) => task.known(problem, prompts).map(({ answer }) => ({ problem, answer })));
  const twice: Posed[] = [...known];
  const demanding = demandingOf(task, problems, prompts);
  for (let k = 0; ; k++) {
    // Each kind on another problem: many problems are seen at the price of one.
    const problem = demanding[k % demanding.length];
    const kind = problem === undefined ? undefined : unexpectedOf(task, problem, prompts)[k];
    if (problem === undefined || kind === undefined) break;
    const posed =
      kind.expected === 'rarely pass'
        ? demanding
            .slice(0, LUCK_PROBLEMS)
            .flatMap((each) => posedOf(each, unexpectedOf(task, each, prompts)[k]))
        : posedOf(problem, kind);
    const found = await judgeAll(posed);
    unexpected.push(...found);
    twice.push(...posed.slice(0, REPEATED_ANSWERS));
    checks.push(checkKind(kind, found));
  }
  const first = await judgeAll(twice);
  checks.push(checkSame(first, await judgeAll(twice)));
  checks.push(checkTime(first.slice(0, known.length), unexpected));
  checks.push(checkIds(problems));
  return checks;
}

/** A file's ids are unique already: rows that share one were told apart by a number when they were read. */
function checkIds(problems: readonly Problem[]): TaskCheck {
  const name = 'ids';
  const shared = sharedId(problems);
  if (shared !== undefined) return { name, ok: false, detail: shared };
  const ids = new Set(problems.map(({ id }) => id));
  const copies = problems.filter(({ id }) => /~\d+$/.test(id) && ids.has(id.replace(/~\d+$/, ''))).length;
  const note = copies === 0 ? '' : `; ${copies} by ~2, ~3, ... behind an id that came before`;
  return { name, ok: true, detail: `${ids.size} problems, each with an id of its own${note}` };
}

/**
 * The problems whose known answers say that an empty one fails, where there are some: where no call is wanted, say, any
 * text without one is right.
 */
function demandingOf(task: Task, problems: readonly Problem[], prompts: Prompts): readonly Problem[] {
  const found = problems.filter((problem) =>
    task.known(problem, prompts).some(({ answer, ok }) => answer === '' && !ok),
  );
  return found.length > 0 ? found : problems;
}

function posedOf(problem: Problem, kind: AdversarialKind | undefined): Posed[] {
  return (kind?.answers ?? []).map((answer) => ({ problem, answer }));
}

function unexpectedOf(task: Task, problem: Problem, prompts: Prompts): AdversarialKind[] {
  const good = task.known(problem, prompts).flatMap(({ answer, ok }) => (ok ? [answer] : []));
  return adversarialAnswers(posedText(task, problem, prompts), good);
}

async function judge(task: Task, { problem, answer }: Posed, prompts: Prompts): Promise<Judged> {
  const started = performance.now();
  let verdict: Verdict | string;
  try {
    verdict = await task.verify(problem, answer, prompts);
  } catch (error) {
    verdict = messageOf(error);
  }
  return { problem, answer, verdict, milliseconds: performance.now() - started };
}

function checkKind({ name, expected }: AdversarialKind, judged: readonly Judged[]): TaskCheck {
  if (judged.length === 0) return { name, ok: true, detail: 'no such answers for this task' };
  const broken = judged.find(({ verdict }) => typeof verdict === 'string');
  if (broken !== undefined) {
    return {
      name,
      ok: false,
      detail: `${shown(broken)}: expected a verdict, got an error: ${broken.verdict as string}`,
    };
  }
  const accepted = judged.filter(({ verdict }) => typeof verdict !== 'string' && verdict.ok);
  const [first] = accepted;
  const most = { fail: 0, 'rarely pass': judged.length / 2, any: judged.length }[expected];
  if (first !== undefined && accepted.length > most) {
    const count = expected === 'fail' ? '' : `, as ${accepted.length} of ${judged.length} do`;
    return { name, ok: false, detail: `${shown(first)}: expected fail, got pass${count}` };
  }
  const detail = expected === 'fail' ? 'all rejected' : `a verdict on each, ${accepted.length} accepted`;
  return { name, ok: true, detail: `${judged.length} answers: ${detail}` };
}

function checkSame(first: readonly Judged[], second: readonly Judged[]): TaskCheck {
  const name = 'same verdict twice';
  const at = first.findIndex(
    ({ verdict }, i) => JSON.stringify(verdict) !== JSON.stringify(second[i]?.verdict),
  );
  const [a, b] = [first[at], second[at]];
  if (a === undefined || b === undefined) {
    const errors = first.filter(({ verdict }) => typeof verdict === 'string').length;
    const judged = errors === 0 ? '' : `, ${errors} of them not judged`;
    return { name, ok: true, detail: `${first.length} answers given twice, the same each time${judged}` };
  }
  const detail = `${shown(a)}: expected the same verdict twice, got ${said(a)}, then ${said(b)}`;
  return { name, ok: false, detail };
}

function checkTime(known: readonly Judged[], unexpected: readonly Judged[]): TaskCheck {
  const name = 'time per verdict';
  const total = known.reduce((sum, { milliseconds }) => sum + milliseconds, 0);
  const mean = known.length === 0 ? '' : `${(total / known.length).toFixed(2)} ms on known answers; `;
  const [slowest] = [...known, ...unexpected].toSorted((a, b) => b.milliseconds - a.milliseconds);
  if (slowest === undefined) return { name, ok: true, detail: 'no answers' };
  const detail = `${mean}at most ${slowest.milliseconds.toFixed(1)} ms, for ${shown(slowest)}`;
  if (slowest.milliseconds <= MAX_VERDICT_MS) return { name, ok: true, detail };
  return { name, ok: false, detail: `${detail}: expected at most ${MAX_VERDICT_MS} ms` };
}

function shown({ problem, answer }: Judged): string {
  const size = answer.length > 60 ? ` of ${answer.length} characters` : '';
  return `problem ${problem.id}, answer ${showValue(answer.slice(0, 100))}${size}`;
}

function said({ verdict }: Judged): string {
  if (typeof verdict === 'string') return `an error: ${verdict}`;
  return verdict.ok ? 'pass' : `fail (${verdict.class}: ${verdict.why})`;
}
