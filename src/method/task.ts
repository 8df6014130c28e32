/**
 * What a task is: how a problem is posed, how an answer is checked, and what is known to be right and wrong.
 * Everything that varies between tasks is here; a task is one object in one file of `src/tasks`.
 */
import type { Hint, Message, Problem, Verdict } from './episode.ts';

/** The fixed texts around a problem. Data, so that a run can record them. */
export interface Prompts {
  name: string;
  system?: string;
  /** The user turn that asks for a reflection. The model learns only that it failed. */
  reflect: string;
}

export interface Task<P extends Problem = Problem> {
  name: string;
  /** The prompt sets by name; the first is the default. */
  promptSets: readonly string[];
  /** Throws R3Error `bad-option` for an unknown name. */
  prompts(set: string): Prompts;
  /** The user turn that poses the problem. */
  pose(problem: P, prompts: Prompts): string;
  /** The user turn that poses it again, after the reflection. */
  poseAgain(problem: P, prompts: Prompts): string;
  /** Never throws on anything a model wrote. */
  verify(problem: P, answer: string, prompts: Prompts): Verdict;
  /** One row of a data file. Throws R3Error `bad-row`, naming the field, what was expected and what was got. */
  parseRow(row: unknown, index: number): P;
  /** Answers with a known verdict, for the audit before any weight moves. */
  known(problem: P, prompts: Prompts): { answer: string; ok: boolean }[];
  /** The kind of a reflection and whether its hint is true, where the task can tell. */
  describeReflection?(problem: P, attempt: string, reflection: string): { kind: string; hint: Hint };
}

/** The conversation up to a first try, a reflection request, and a retry. */
export function attemptMessages<P extends Problem>(task: Task<P>, problem: P, prompts: Prompts): Message[] {
  const system: Message[] = prompts.system === undefined ? [] : [{ role: 'system', content: prompts.system }];
  return [...system, { role: 'user', content: task.pose(problem, prompts) }];
}
