/**
 * What a task is: how a problem is posed, how an answer is checked, and what is known to be right and wrong.
 * Everything that varies between tasks is here; a task is one object in one file of `src/tasks`, or a person's own.
 */
import type { Hint, Message, Problem, Verdict } from './episode.ts';

/** The fixed texts around a problem. Data, so that a run can record them. */
export interface Prompts {
  name: string;
  /** The user turn that asks for a reflection. The model learns only that it failed. */
  reflect: string;
}

export interface Task<P extends Problem = Problem> {
  name: string;
  /** The prompt sets by name; the first is the default. */
  promptSets: readonly string[];
  /** Throws R3Error `bad-option` for an unknown name. */
  prompts(set: string): Prompts;
  /** The conversation that poses the problem: ends with a user turn, may begin with a system turn. */
  pose(problem: P, prompts: Prompts): readonly Message[];
  /** The user turn that poses it again, after the reflection. */
  poseAgain(problem: P, prompts: Prompts): string;
  /**
   * Judges an answer, which is whatever a model wrote. A wrong answer is a verdict; what is thrown says that the
   * answer could not be judged (a service that is down), and leaves its episode out by name.
   */
  verify(problem: P, answer: string, prompts: Prompts): Verdict | Promise<Verdict>;
  /**
   * One row of a data file; `text` is its line where the file is of JSON lines, for tasks to which 1 and 1.0 are two
   * things. Throws R3Error `bad-row`, naming the field, what was expected and what was got.
   */
  parseRow(row: unknown, index: number, text?: string): P;
  /** Answers with a known verdict, for the audit before any weight moves. */
  known(problem: P, prompts: Prompts): { answer: string; ok: boolean }[];
  /** The kind of a reflection and whether its hint is true, where the task can tell. */
  describeReflection?(problem: P, attempt: string, reflection: string): { kind: string; hint: Hint };
  /** The problem as a choice between texts that a model finds more or less likely, where it is one. */
  choices?(problem: P, prompts: Prompts): Choices;
  /** What in a reflection could be meant as an answer, as `verify` takes it: a reflection leaks when one passes. */
  answersIn?(problem: P, reflection: string, prompts: Prompts): readonly string[];
  /** Problems that need no file, distinct, a function of the options alone. */
  generate?(options: { count: number; seed: number }): P[];
  /** The ways of judging that `answerRow` knows; the first is the default. */
  rules?: readonly string[];
  /**
   * A row of `r3 check --answers`, beside its completion, where it is not a row of the data set. `prompts`: those that
   * are asked for, of rows that do not name their own. Throws as `parseRow`.
   */
  answerRow?(
    row: unknown,
    index: number,
    rules?: string,
    text?: string,
    prompts?: Prompts,
  ): { problem: P; prompts: Prompts };
}

/** A context and the texts that may follow it, each as it stands after the context; `answer` is the index of the right one. */
export interface Choices {
  /** A text is scored as it stands, messages in the model's chat format. */
  context: string | readonly Message[];
  continuations: readonly string[];
  answer: number;
}

/** A posed problem as a person reads it: its last turn. */
export function posedText<P extends Problem>(task: Task<P>, problem: P, prompts: Prompts): string {
  return task.pose(problem, prompts).at(-1)?.content ?? '';
}
