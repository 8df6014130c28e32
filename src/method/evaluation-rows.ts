/**
 * What an evaluation keeps: everything that was written, problem by problem, and the outcomes that follow from it.
 *
 * A measurement of one model with one seed at one temperature has two parts. `tries`: the first try, the reflection on
 * it and the second try. `controls`: the other second tries and the independent attempts, which depend on the tries of
 * all problems (another problem's reflection, attempts at equal tokens). Rates are computed from these rows alone
 * (`evaluationRows`), so that a kept evaluation is compared without a model.
 */
import {
  attemptsAtEqualTokens,
  RETRY_CONTROLS,
  type ControlName,
  type EvaluationRow,
  type Outcome,
  type RetryControl,
  type Trial,
} from './controls.ts';
import { lengthOf } from '../text/message.ts';
import { passed, type Hint, type Score, type Written } from './episode.ts';

/** Something that was sampled. Rows on disk do without its log-probabilities. */
export interface KeptText extends Omit<Written, 'logprobs' | 'referenceLogprobs'> {
  logprobs?: number[];
}

export interface KeptTry extends KeptText {
  score: Score;
}

/** A second try as it was made. */
export interface SecondTry {
  /** The sampled reflection between the two tries; null where a fixed text or nothing stood there, or none fitted the context. */
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
  /** Of the reflection: whether it holds a passing answer, null where that could not be judged or there is none. */
  leaked: boolean | null;
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
  /** Independent attempts beside the first try. Empty at temperature 0, where there are none. */
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
  /** Of the start model: second tries after reflections that begin as the trained model's do. */
  forced: ForcedRow;
  /** On the start model's failures, in their order. */
  rewritten: RewrittenRow;
  startStart: ReadingRow;
  startTrained: ReadingRow;
  trainedStart: ReadingRow;
  trainedTrained: ReadingRow;
}

export interface ForcedRow {
  problem: string;
  place: number;
  secondTry: SecondTry;
}

export type PartName = keyof PartRows;

/** Which measurement a row belongs to. `model`: the one that was asked for; `start`: the one it is compared with. */
export interface MeasurementKey {
  model: 'model' | 'start';
  seed: number;
  temperature: number;
}

/** A line of rows.jsonl. */
export type KeptRow<Name extends PartName = PartName> = {
  version: 1;
  part: Name;
} & MeasurementKey &
  PartRows[Name];

/** The parts of one measurement. Those that were not asked for are empty. */
export type Parts = { readonly [Name in PartName]: readonly PartRows[Name][] };

/** The outcomes of one measurement, in the order of the problems. `controls`: those that were asked for. */
export function evaluationRows(
  { tries, controls: rows, forced }: Pick<Parts, 'tries' | 'controls' | 'forced'>,
  temperature: number,
  controls: readonly ControlName[],
): EvaluationRow[] {
  const retried = RETRY_CONTROLS.filter((name) => controls.includes(name));
  const forcedAt = new Map(forced.map(({ place, secondTry }) => [place, secondTrial(secondTry)]));
  return tries.map((row, i) => {
    const failed = passed(row.firstTry.score) === false;
    const firstTry = trialOf(row.firstTry);
    const second = (name: RetryControl): Trial | null =>
      failed ? secondTrial(rows[i]?.secondTries[name] ?? null) : null;
    return {
      problem: row.problem,
      firstTry,
      secondTry: row.secondTry === null ? null : secondTrial(row.secondTry),
      ...Object.fromEntries(
        retried.flatMap((name) => (name === 'afterForcedBeginning' ? [] : [[name, second(name)]])),
      ),
      ...(forced.length === 0 ? {} : { afterForcedBeginning: forcedAt.get(row.place) ?? null }),
      // Greedy attempts at one problem are one attempt: there are no independent ones.
      freshAttempts: temperature === 0 ? [] : (rows[i]?.attempts ?? []).map(trialOf),
    };
  });
}

/** How many independent attempts the controls need, the first try included. */
export function attemptsAsked(tries: readonly TriesRow[], controls: readonly ControlName[]): number {
  if (controls.includes('independentAtEqualTokens')) {
    return attemptsAtEqualTokens(
      tries.map(({ firstTry, secondTry }) => ({
        firstTry: trialOf(firstTry),
        secondTry: secondTry === null ? null : secondTrial(secondTry),
      })),
    );
  }
  return controls.includes('twoIndependent') ? 2 : 1;
}

/** A kept text as players take it. */
export function writtenOf(kept: KeptText): Written {
  return { logprobs: [], ...kept };
}

function trialOf(tried: KeptTry): Trial {
  return { passed: passed(tried.score), tokens: lengthOf(tried) };
}

/** Its tokens are all that were sampled after the first try. A reflection that did not end fails. */
export function secondTrial(second: SecondTry | null): Trial {
  if (second === null) return { passed: null, tokens: 0 };
  const { reflection, retry } = second;
  return {
    passed: outcomeOf(retry),
    tokens: (retry === null ? 0 : lengthOf(retry)) + (reflection === null ? 0 : lengthOf(reflection)),
  };
}

/** Whether a retry passed. Without one, because the reflection did not end, it did not. */
export function outcomeOf(retry: KeptTry | null): Outcome {
  return retry === null ? false : passed(retry.score);
}
