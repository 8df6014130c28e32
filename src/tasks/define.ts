/**
 * `defineTask`: a person's own task, typed from its loader.
 *
 * `load` turns a row of a data file into the problem that every other function is given, so a misspelt field is a
 * type error. The record of a problem, which goes into run folders, is the row as it came plus an id; what `load`
 * makes of it may hold anything and is made again where a record is read back. What the person's code throws is a
 * plain error; here it becomes an R3Error of boundary `task` that names the task and the problem.
 */
import { R3Error, messageOf } from '../lib/errors.ts';
import { isObject, showValue } from '../lib/json.ts';
import type { Hint, Message, Problem, Verdict } from '../method/episode.ts';
import type { Prompts, Task } from '../method/task.ts';

/** A row of a data file: any JSON object. */
export type TaskRow = Record<string, unknown>;

/** What a verifier may say: whether the answer passes, and of one that fails its class of error and the reason. */
export type Judgement = boolean | { ok: true } | { ok: false; class?: string; why?: string };

/** `L`: what `load` gives. In an object literal `load` stands before the functions that are given its result. */
export interface TaskDefinition<L extends object> {
  /** Letters, digits, `-`, `_` and `.`: run folders are named after it. */
  name: string;
  /** The fields of a problem, from a row. Throws for a row that is not one. `id`, where it is given, names the problem. */
  load: (row: TaskRow, index: number) => L;
  /** The text of the user turn that poses the problem, or a whole conversation that ends with a user turn. */
  prompt: (problem: NoInfer<L> & Problem) => string | readonly Message[];
  /** The user turn that poses it again after the reflection. Default: the last turn of `prompt`. */
  promptAgain?: (problem: NoInfer<L> & Problem) => string;
  /** The user turn that asks for a reflection. Default: the paper's. */
  reflect?: string;
  /** Judges an answer: whatever a model wrote. Throws where it cannot be judged; such an answer counts as neither. */
  verify: (problem: NoInfer<L> & Problem, answer: string) => Judgement | Promise<Judgement>;
  /** Answers whose verdict is known, good and bad, for `r3 check` and the audit before training. */
  known?: (problem: NoInfer<L> & Problem) => readonly { answer: string; ok: boolean }[];
  /** The kind of a reflection and whether its hint is true. */
  describeReflection?: (
    problem: NoInfer<L> & Problem,
    attempt: string,
    reflection: string,
  ) => { kind: string; hint: Hint };
  /** What in a reflection could be meant as an answer, as `verify` takes it. */
  answersIn?: (problem: NoInfer<L> & Problem, reflection: string) => readonly string[];
  /** Rows that need no file, distinct, a function of the options alone. */
  generate?: (options: { count: number; seed: number }) => readonly TaskRow[];
}

/** The record of a problem of such a task. */
export interface RowProblem extends Problem {
  row: TaskRow;
}

const PROMPT_SET = 'default';
const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;
/** The paper's request (appendix A of arXiv 2505.24726), as the task Countdown has it. */
export const REFLECT =
  'You tried solving the following problem and got the wrong answer. Reflect on what went wrong and write a short ' +
  'explanation that will help you do better next time.';
/** The field of a row of `r3 check --answers` that is not part of the problem. */
const COMPLETION = 'completion';

/** The task that a definition describes. Throws R3Error `bad-task` for a definition that is not whole. */
export function defineTask<L extends object>(definition: TaskDefinition<L>): Task<RowProblem> {
  checkDefinition(definition);
  const { name, load, prompt, promptAgain, known, describeReflection, answersIn, generate } = definition;
  const prompts: Prompts = { name: PROMPT_SET, reflect: definition.reflect ?? REFLECT };
  /** What `load` made of each record. */
  const loaded = new WeakMap<RowProblem, L & Problem>();

  const loadRow = (row: TaskRow, index: number): L => {
    const fields: unknown = load(row, index);
    if (isObject(fields)) return fields as L;
    throw new Error(`load: expected an object, got ${showResult(fields)}`);
  };
  const problemOf = (record: RowProblem): L & Problem => {
    let problem = loaded.get(record);
    if (problem === undefined) {
      problem = { ...loadRow(record.row, 0), id: record.id };
      loaded.set(record, problem);
    }
    return problem;
  };
  /** Calls what a person wrote; its errors get the names of task, problem and function. */
  const call = <T>(what: string, record: RowProblem, work: (problem: L & Problem) => T): T => {
    try {
      return work(problemOf(record));
    } catch (error) {
      throw attributed(name, what, record, error);
    }
  };

  const parseRow = (row: unknown, index: number): RowProblem => {
    if (!isObject(row)) throw badRow(`row: expected an object, got ${showValue(row)}`);
    const record = asRecord(row);
    if (record !== undefined) {
      call('load', record, () => undefined);
      return record;
    }
    const kept = plainRow(row);
    let fields: L & { id?: unknown };
    try {
      fields = loadRow(kept, index);
    } catch (error) {
      throw badRow(messageOf(error), error);
    }
    const id = idOf(fields.id) ?? idOf(kept['id']) ?? `row-${index + 1}`;
    const made: RowProblem = { id, row: kept };
    loaded.set(made, { ...fields, id });
    return made;
  };

  return {
    name,
    promptSets: [PROMPT_SET],
    prompts: (set) => {
      if (set === PROMPT_SET) return prompts;
      throw new R3Error('task', 'bad-option', `prompts: expected ${PROMPT_SET}, got ${JSON.stringify(set)}`);
    },
    pose: (record) => call('prompt', record, (problem) => conversationOf(prompt(problem))),
    poseAgain: (record) =>
      call('promptAgain', record, (problem) =>
        promptAgain === undefined
          ? (conversationOf(prompt(problem)).at(-1)?.content ?? '')
          : textOf(promptAgain(problem)),
      ),
    verify: async (record, answer) => {
      try {
        return verdictOf(await definition.verify(problemOf(record), answer));
      } catch (error) {
        throw attributed(name, 'verify', record, error);
      }
    },
    parseRow,
    known: (record) => call('known', record, (problem) => [...(known?.(problem) ?? [])]),
    answerRow: (row, index) => {
      if (!isObject(row)) throw badRow(`row: expected an object, got ${showValue(row)}`);
      const { [COMPLETION]: _, ...rest } = row;
      return { problem: parseRow(rest, index), prompts };
    },
    ...(describeReflection === undefined
      ? {}
      : {
          describeReflection: (record, attempt, reflection) =>
            call('describeReflection', record, (problem) => describeReflection(problem, attempt, reflection)),
        }),
    ...(answersIn === undefined
      ? {}
      : {
          answersIn: (record, reflection) =>
            call('answersIn', record, (problem) => answersIn(problem, reflection)),
        }),
    ...(generate === undefined
      ? {}
      : { generate: (options) => generate(options).map((row, index) => parseRow(row, index)) }),
  };
}

/** JavaScript has no types: what is missing is said when the file is loaded, not at the first problem. */
function checkDefinition(definition: unknown): void {
  const fail = (why: string): never => {
    throw new R3Error('task', 'bad-task', `defineTask: ${why}`);
  };
  if (!isObject(definition)) return fail(`expected an object, got ${showResult(definition)}`);
  const { name } = definition;
  if (typeof name !== 'string' || !NAME.test(name)) {
    fail(
      `name: expected 1 to 64 letters, digits, "-", "_" and ".", a letter or digit first, got ${showResult(name)}`,
    );
  }
  const functions = ['load', 'prompt', 'verify'];
  const optional = ['promptAgain', 'known', 'describeReflection', 'answersIn', 'generate'];
  for (const key of [...functions, ...optional]) {
    const value = definition[key];
    if (typeof value === 'function' || (value === undefined && optional.includes(key))) continue;
    fail(`${key}: expected a function, got ${showResult(value)}`);
  }
  const { reflect } = definition;
  if (reflect !== undefined && typeof reflect !== 'string') {
    fail(`reflect: expected a text, got ${showResult(reflect)}`);
  }
}

function attributed(task: string, what: string, { id }: RowProblem, cause: unknown): R3Error {
  const message = `${what} of task ${task}, problem ${id}: ${messageOf(cause)}`;
  return new R3Error('task', 'bad-task', message, { cause });
}

function badRow(why: string, cause?: unknown): R3Error {
  return new R3Error('task', 'bad-row', why, { cause });
}

/** A record that was read back from a run folder or a file of failures. */
function asRecord(row: TaskRow): RowProblem | undefined {
  const { id, row: kept } = row;
  const isRecord = Object.keys(row).length === 2 && typeof id === 'string' && id !== '' && isObject(kept);
  return isRecord ? { id, row: kept } : undefined;
}

function idOf(value: unknown): string | undefined {
  if (typeof value === 'number' && Number.isFinite(value)) return String(value);
  return typeof value === 'string' && value !== '' ? value : undefined;
}

/** A row as JSON can hold it. Parquet gives bigints, dates and typed arrays. */
function plainRow(row: TaskRow): TaskRow {
  return plain(row) as TaskRow;
}

function plain(value: unknown): unknown {
  if (typeof value === 'bigint') {
    const number = Number(value);
    return Number.isSafeInteger(number) ? number : String(value);
  }
  if (value instanceof Date) return value.toISOString();
  if (ArrayBuffer.isView(value)) return Array.from(value as Uint8Array);
  if (Array.isArray(value)) return value.map(plain);
  if (isObject(value)) return Object.fromEntries(Object.entries(value).map(([key, v]) => [key, plain(v)]));
  return value;
}

const ROLES: readonly unknown[] = ['system', 'user', 'assistant'];

function conversationOf(posed: unknown): readonly Message[] {
  if (typeof posed === 'string') return [{ role: 'user', content: posed }];
  const isConversation =
    Array.isArray(posed) &&
    posed.every(
      (turn) => isObject(turn) && ROLES.includes(turn['role']) && typeof turn['content'] === 'string',
    );
  if (!isConversation)
    throw new Error(`expected a text or a list of {role, content}, got ${showResult(posed)}`);
  const messages = posed as Message[];
  const last = messages.at(-1)?.role;
  if (last !== 'user') throw new Error(`expected a user turn at the end, got ${last ?? 'no turn'}`);
  return messages;
}

function textOf(value: unknown): string {
  if (typeof value === 'string') return value;
  throw new Error(`expected a text, got ${showResult(value)}`);
}

function verdictOf(judged: unknown): Verdict {
  if (judged === true) return { ok: true };
  if (judged === false) return { ok: false, class: 'wrong answer', why: 'the task gives no reason' };
  if (isObject(judged) && judged['ok'] === true) return { ok: true };
  if (isObject(judged) && judged['ok'] === false) {
    const { class: errorClass = 'wrong answer', why = 'the task gives no reason' } = judged;
    return { ok: false, class: textOf(errorClass), why: textOf(why) };
  }
  throw new Error(`expected true, false or {ok, class, why}, got ${showResult(judged)}`);
}

/** A value that code gave, which JSON may not know. */
function showResult(value: unknown): string {
  return typeof value === 'function' || typeof value === 'symbol' || typeof value === 'bigint'
    ? `a ${typeof value}`
    : showValue(value);
}
