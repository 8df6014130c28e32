/**
 * What an evaluation keeps: everything that was written, problem by problem, and the outcomes that follow from it.
 *
 * A measurement of one model with one seed at one temperature has two parts. `tries`: the first try, the reflection on
 * it and the second try. `controls`: the other second tries and the independent attempts, which depend on the tries of
 * all problems (another problem's reflection, attempts at equal tokens). Rates are computed from these rows alone
 * (`evaluationRows`), so that a kept evaluation is compared without a model.
 */
import type { EvaluationRow, RetryControl, Trial } from './controls.ts';
import { passed, type Hint, type Score, type Written } from './episode.ts';

/** Something that was sampled, without its log-probabilities. */
export type KeptText = Omit<Written, 'logprobs'>;

export interface KeptTry extends KeptText {
  score: Score;
}

/** A second try as it was made. */
export interface SecondTry {
  /** The sampled reflection between the two tries; null where a fixed text or nothing stood there. */
  reflection: KeptText | null;
  /** null when the reflection did not end: there is then nothing to retry after. */
  retry: KeptTry | null;
  /** Where the reflection is another problem's: that problem's id. */
  by?: string;
}

/** A first try, and what followed its failure. */
export interface TriesRow {
  /** The problem's id, and its place in the evaluation, from 0. */
  problem: string;
  place: number;
  firstTry: KeptTry;
  /** null unless the first try was judged and failed. */
  secondTry: SecondTry | null;
  /** Of the reflection. `leaked`: whether it holds a passing answer, null where that was not judged. */
  leaked?: boolean | null;
  /** Of the reflection, where the task can tell. */
  kind?: string;
  hint?: Hint;
}

/** The controls on the same first try. */
export interface ControlsRow {
  problem: string;
  place: number;
  /** A control that was not asked for is absent; null where it could not be posed: no other problem has a reflection. */
  secondTries: Partial<Record<RetryControl, SecondTry | null>>;
  /** Independent attempts beside the first try. Empty at temperature 0, where they are the first try again. */
  attempts: KeptTry[];
}

/** A reflection that the trained model wrote on a failure of the start model. */
export interface RewrittenRow {
  problem: string;
  place: number;
  reflection: KeptText;
}

/** What a reader made of a reflection; null when the reflection did not end. */
export interface ReadingRow {
  problem: string;
  place: number;
  retry: KeptTry | null;
}

/** The rows of each part of an evaluation. */
export interface PartRows {
  tries: TriesRow;
  controls: ControlsRow;
  /** Second tries of the start model after reflections that begin as the trained model's do. */
  forced: { problem: string; place: number; secondTry: SecondTry };
  rewritten: RewrittenRow;
  startStart: ReadingRow;
  startTrained: ReadingRow;
  trainedStart: ReadingRow;
  trainedTrained: ReadingRow;
}

export type PartName = keyof PartRows;

/** Which rows belong together. `model`: the one that was measured; `start`: the one it is compared with. */
export interface PartKey {
  model: 'model' | 'start';
  seed: number;
  temperature: number;
}

/** A line of rows.jsonl. */
export type KeptRow = { [Name in PartName]: { version: 1; part: Name } & PartKey & PartRows[Name] }[PartName];

/** The outcomes of one measurement, in the order of the problems. `attempts`: independent attempts, the first try included. */
export function evaluationRows(
  tries: readonly TriesRow[],
  controls: readonly ControlsRow[],
  { temperature, attempts }: { temperature: number; attempts: number },
): EvaluationRow[] {
  return tries.map((row, i) => {
    const control = controls[i];
    const firstTry = trialOf(row.firstTry);
    // Greedy attempts at one problem are one attempt.
    const fresh =
      temperature === 0
        ? Array.from({ length: attempts - 1 }, () => firstTry)
        : (control?.attempts ?? []).map(trialOf);
    return {
      problem: row.problem,
      firstTry,
      secondTry: row.secondTry === null ? null : secondTrial(row.secondTry),
      ...Object.fromEntries(
        Object.entries(control?.secondTries ?? {}).map(([name, second]) => [
          name,
          failedAtFirst(row) ? secondTrial(second) : null,
        ]),
      ),
      freshAttempts: fresh,
    };
  });
}

function failedAtFirst(row: TriesRow): boolean {
  return passed(row.firstTry.score) === false;
}

function trialOf(tried: KeptTry): Trial {
  return { passed: passed(tried.score), tokens: tried.tokens.length };
}

/** Its tokens are all that were sampled after the first try. A reflection that did not end fails. */
export function secondTrial(second: SecondTry | null): Trial {
  if (second === null) return { passed: null, tokens: 0 };
  const { reflection, retry } = second;
  return {
    passed: retry === null ? false : passed(retry.score),
    tokens: (retry?.tokens.length ?? 0) + (reflection?.tokens.length ?? 0),
  };
}
