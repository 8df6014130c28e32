/**
 * Measures a model on held-out problems: first try, second try after a reflection, and the controls that say what
 * the reflection is worth (`method/controls.ts`).
 *
 * Everything is a function of the seed and the problem's place, so that two models are compared on the same
 * problems with the same draws. Controls run on the same failed first tries as the second try.
 */
import { mapConcurrent } from './lib/concurrent.ts';
import { hash32 } from './lib/rng.ts';
import {
  attemptsAtEqualTokens,
  type EvaluationRow,
  type Trial,
  type WriterByReaderOutcomes,
} from './method/controls.ts';
import { reflectionDatum } from './method/datum.ts';
import { passed, type Problem, type Score, type Written } from './method/episode.ts';
import { reflectionProfile, type ReflectionProfile } from './method/profile.ts';
import { first, type Player, type Try } from './player.ts';
import type { Conversation } from './text/chat.ts';

/** Sequences in one scoring call, which shares what their beginnings have in common. */
const SCORE_BATCH = 64;
/** Problems under way at a time. */
const CONCURRENCY = 1024;

/** Which of a seed's streams each kind of turn draws from: above the steps of a run. */
const STREAM = {
  attempt: 0x4000000b,
  reflection: 0x4000000c,
  retry: 0x4000000d,
  plain: 0x4000000e,
  fixed: 0x4000000f,
  foreign: 0x40000010,
  fresh: 0x40000011,
  forced: 0x40000012,
  cross: 0x40000013,
  forcedRetry: 0x40000014,
} as const;

export interface EvaluateOptions {
  seed: number;
  /** The content-free sentence of the fixed-text control. */
  fixedText: string;
  onProgress?: (done: number, total: number) => void;
}

/** What a failed first try led to: for reading, for kinds of reflection, and for the writer-by-reader table. */
export interface FailedTry<P extends Problem> {
  problem: P;
  /** The problem's place in the evaluation. */
  place: number;
  attempt: Written;
  attemptScore: Score;
  /** The conversation up to the request for a reflection. */
  asked: Conversation;
  reflection: Written;
  retry: Try | null;
}

/** What a player did on all problems. */
export interface Evaluation<P extends Problem> {
  player: Player<P>;
  rows: EvaluationRow[];
  failed: FailedTry<P>[];
}

/** Every problem counts twice in the progress: once for its two tries, once for its controls. */
export async function evaluate<P extends Problem>(
  player: Player<P>,
  problems: readonly P[],
  options: EvaluateOptions,
): Promise<Evaluation<P>> {
  const { seed, onProgress } = options;
  const greedy = player.options.temperature === 0;
  let done = 0;
  const tick = (): void => onProgress?.(++done, 2 * problems.length);

  const rows = new Array<EvaluationRow>(problems.length);
  const failures = await mapConcurrent(
    problems,
    CONCURRENCY,
    async (problem, place): Promise<FailedTry<P> | null> => {
      const attempt = first(await player.attempt(problem, 1, hash32(seed, STREAM.attempt, place)));
      const row: EvaluationRow = {
        problem: problem.id,
        firstTry: trialOf(attempt),
        secondTry: null,
        secondTryWithoutReflection: null,
        afterFixedText: null,
        afterForeignReflection: null,
        freshAttempts: [],
      };
      rows[place] = row;
      if (passed(attempt.score) !== false) {
        tick();
        return null;
      }
      const asked = player.askToReflect(problem, attempt.written);
      const reflection = first(await player.reflect(asked, 1, hash32(seed, STREAM.reflection, place)));
      const retry = await player.retryAfter(problem, asked, reflection, hash32(seed, STREAM.retry, place));
      row.secondTry = trialOf(retry, reflection);
      tick();
      return {
        problem,
        place,
        attempt: attempt.written,
        attemptScore: attempt.score,
        asked,
        reflection,
        retry,
      };
    },
  );
  const failed = failures.filter((f) => f !== null);

  const attemptsEqual = attemptsAtEqualTokens(rows);
  const fixed = player.asWritten(options.fixedText);
  const failedAt = new Map(failed.map((f, i) => [f.place, i]));
  await mapConcurrent(problems, CONCURRENCY, async (problem, place) => {
    const row = rows[place] as EvaluationRow;
    const seedOf = (stream: number): number => hash32(seed, stream, place);
    const fresh = async (): Promise<Trial[]> => {
      // Greedy attempts at one problem are one attempt.
      if (greedy) return Array.from({ length: attemptsEqual - 1 }, () => row.firstTry);
      const tries = await player.attempt(problem, attemptsEqual - 1, seedOf(STREAM.fresh));
      return tries.map((t) => trialOf(t));
    };
    const index = failedAt.get(place);
    if (index === undefined) {
      row.freshAttempts = await fresh();
      tick();
      return;
    }
    const { attempt, asked } = failed[index] as FailedTry<P>;
    const foreign = foreignReflection(failed, index);
    const [attempts, plain, afterFixed, afterForeign] = await Promise.all([
      fresh(),
      player.retry(problem, player.askAgainPlainly(problem, attempt), seedOf(STREAM.plain)),
      player.retry(problem, player.askAgain(problem, asked, fixed), seedOf(STREAM.fixed)),
      foreign === undefined ? null : player.retryAfter(problem, asked, foreign, seedOf(STREAM.foreign)),
    ]);
    row.freshAttempts = attempts;
    row.secondTryWithoutReflection = trialOf(plain);
    row.afterFixedText = trialOf(afterFixed);
    row.afterForeignReflection =
      foreign === undefined ? { passed: null, tokens: 0 } : trialOf(afterForeign, foreign);
    tick();
  });
  return { player, rows, failed };
}

/** The reflection on the next failed first try at another problem; undefined when there is none. */
function foreignReflection<P extends Problem>(
  failed: readonly FailedTry<P>[],
  index: number,
): Written | undefined {
  const own = failed[index] as FailedTry<P>;
  for (let step = 1; step < failed.length; step++) {
    const other = failed[(index + step) % failed.length] as FailedTry<P>;
    if (other.problem.id !== own.problem.id) return other.reflection;
  }
  return undefined;
}

function trialOf(tried: Try | null, reflection?: Written): Trial {
  return {
    passed: tried === null ? false : passed(tried.score),
    tokens: (tried?.written.tokens.length ?? 0) + (reflection?.tokens.length ?? 0),
  };
}

/**
 * Adds the control `afterForcedBeginning` to an evaluation: on its failed first tries, reflections whose first ids
 * are given. It tells how much of a gain is the choice of a beginning, how much is what follows it.
 */
export async function addForcedBeginning<P extends Problem>(
  { player, rows, failed }: Evaluation<P>,
  beginning: readonly number[],
  seed: number,
  onDone?: () => void,
): Promise<void> {
  for (const row of rows) row.afterForcedBeginning = null;
  await mapConcurrent(failed, CONCURRENCY, async ({ problem, place, asked }) => {
    const seedOf = (stream: number): number => hash32(seed, stream, place);
    const reflection = first(await player.reflect(asked, 1, seedOf(STREAM.forced), beginning));
    const retry = await player.retryAfter(problem, asked, reflection, seedOf(STREAM.forcedRetry));
    (rows[place] as EvaluationRow).afterForcedBeginning = trialOf(retry, reflection);
    onDone?.();
  });
}

/**
 * The writer-by-reader table: on the same failed first tries of the start model, reflections by {start, trained},
 * read by {start, trained}. Writers share their seeds, and so do readers. `seed`: that of the start model's
 * evaluation, whose reflections stand here as they are; sampling them again would give the same. Readers draw from a
 * stream of their own. `onDone` is called five times for each failed try.
 */
export async function crossReadings<P extends Problem>(
  { player: start, failed }: Evaluation<P>,
  trained: Player<P>,
  seed: number,
  onDone?: () => void,
): Promise<WriterByReaderOutcomes> {
  const byStart = failed.map(({ reflection }) => reflection);
  const byTrained = await mapConcurrent(failed, CONCURRENCY, async ({ asked, place }) => {
    const reflection = first(await trained.reflect(asked, 1, hash32(seed, STREAM.reflection, place)));
    onDone?.();
    return reflection;
  });
  const read = (reader: Player<P>, reflections: readonly Written[]): Promise<(boolean | null)[]> =>
    mapConcurrent(failed, CONCURRENCY, async ({ problem, place, asked }, i) => {
      const seedHere = hash32(seed, STREAM.cross, place);
      const retry = await reader.retryAfter(problem, asked, reflections[i] as Written, seedHere);
      onDone?.();
      return retry === null ? false : passed(retry.score);
    });
  return {
    startStart: await read(start, byStart),
    startTrained: await read(trained, byStart),
    trainedStart: await read(start, byTrained),
    trainedTrained: await read(trained, byTrained),
  };
}

/** The token that most reflections begin with, for the forced-beginning control. */
export function commonestBeginning(reflections: readonly Written[]): number[] {
  const counts = new Map<number, number>();
  for (const { tokens } of reflections) {
    const token = tokens[0];
    if (token !== undefined) counts.set(token, (counts.get(token) ?? 0) + 1);
  }
  const commonest = [...counts].toSorted(([a, m], [b, n]) => n - m || a - b)[0];
  return commonest === undefined ? [] : [commonest[0]];
}

/** How the reflections of an evaluation look. Without kinds, and with hint shares NaN, where the task tells neither. */
export function profileOf<P extends Problem>({ player, failed }: Evaluation<P>): ReflectionProfile {
  const describe = player.task.describeReflection;
  const profile = reflectionProfile(
    failed.map(({ problem, attempt, reflection }) => ({
      ...(describe?.(problem, attempt.text, reflection.text) ?? { kind: 'other', hint: 'none' }),
      tokens: reflection.tokens.length,
    })),
  );
  return describe === undefined
    ? { kinds: {}, meanTokens: profile.meanTokens, trueHints: Number.NaN, trueOfHints: Number.NaN }
    : profile;
}

/**
 * KL of a trained model to the start model, nats per token, on its own sampled reflections: the mean of
 *   exp(d) - d - 1, d = log p_start - log p_trained
 * as in the loss (`method/loss.ts`), under softmax(logits / temperature) without filters. NaN without reflections.
 */
export async function klToStart<P extends Problem>(
  trained: Evaluation<P>,
  start: Player<P>,
  watcher: Watcher,
): Promise<number> {
  const { player, failed } = trained;
  watcher.phase('KL to the start model', failed.length);
  const { temperature } = player.options;
  const options = { temperature: temperature > 0 ? temperature : 1 };
  let sum = 0;
  let count = 0;
  for (let from = 0; from < failed.length; from += SCORE_BATCH) {
    const batch = failed.slice(from, from + SCORE_BATCH);
    const datums = batch.map(({ asked, reflection }) => reflectionDatum(asked.tokens, reflection.tokens));
    const [ours, theirs] = await Promise.all([
      player.engine.logprobs(datums, options),
      start.engine.logprobs(datums, options),
    ]);
    ours.forEach((logprobs, i) =>
      logprobs.forEach((logprob, t) => {
        const d = (theirs[i]?.[t] ?? Number.NaN) - logprob;
        sum += Math.exp(d) - d - 1;
        count++;
      }),
    );
    watcher.update(from + batch.length);
  }
  return sum / count;
}

/** Someone who watches: a phase begins, and is so far. */
export interface Watcher {
  /** `total`: what `update` counts to, where it is known. */
  phase(name: string, total?: number): void;
  update(done: number, fields?: Readonly<Record<string, string | number>>): void;
}

/** A model at a temperature and greedy. */
export interface Measured<P extends Problem> {
  sampled: Evaluation<P>;
  greedy: Evaluation<P>;
}

/** `name` says in the progress which model it is. */
export async function measure<P extends Problem>(
  name: string,
  playerAt: (temperature: number) => Player<P>,
  temperature: number,
  problems: readonly P[],
  options: Omit<EvaluateOptions, 'onProgress'>,
  watcher: Watcher,
): Promise<Measured<P>> {
  const at = (player: Player<P>, phase: string): Promise<Evaluation<P>> => {
    watcher.phase(phase, 2 * problems.length);
    return evaluate(player, problems, { ...options, onProgress: (done) => watcher.update(done) });
  };
  return {
    sampled: await at(playerAt(temperature), `measure ${name}`),
    greedy: await at(playerAt(0), `measure ${name}, greedy`),
  };
}

/**
 * What only the two models together can tell: who gains, the writer of reflections or their reader; and, added to
 * the start model's rows, how it does when its reflections begin like most of the trained model's.
 */
export async function measureTogether<P extends Problem>(
  start: Measured<P>,
  trained: Measured<P>,
  seed: number,
  watcher: Watcher,
): Promise<{ writerByReader: WriterByReaderOutcomes; forcedBeginning: number[] }> {
  const counter = (phase: string, total: number): (() => void) => {
    let done = 0;
    watcher.phase(phase, total);
    return () => watcher.update(++done);
  };
  const readings = counter('who gains: writer or reader', 5 * start.sampled.failed.length);
  const writerByReader = await crossReadings(start.sampled, trained.sampled.player, seed, readings);

  const forcedBeginning = commonestBeginning(trained.sampled.failed.map(({ reflection }) => reflection));
  const evaluations = [start.sampled, start.greedy];
  const forced = counter(
    'force the beginning of reflections',
    evaluations.reduce((sum, { failed }) => sum + failed.length, 0),
  );
  for (const evaluation of evaluations) await addForcedBeginning(evaluation, forcedBeginning, seed, forced);
  return { writerByReader, forcedBeginning };
}
