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
import type { Problem, Written } from './method/episode.ts';
import { first, hasEnded, type Player, type Try } from './player.ts';
import type { Conversation } from './text/chat.ts';

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
  /** The conversation up to the request for a reflection. */
  asked: Conversation;
  reflection: Written;
  retry: Try | null;
}

export interface Evaluation<P extends Problem> {
  rows: EvaluationRow[];
  failed: FailedTry<P>[];
}

export async function evaluate<P extends Problem>(
  player: Player<P>,
  problems: readonly P[],
  options: EvaluateOptions,
): Promise<Evaluation<P>> {
  const { seed, onProgress } = options;
  const greedy = player.options.temperature === 0;
  let done = 0;
  const tick = (): void => onProgress?.(++done, 2 * problems.length);
  const seedOf = (stream: number, place: number): number => hash32(seed, stream, place);

  /** One retry after `reflection`. */
  const retryAfter = async (
    stream: number,
    f: Pick<FailedTry<P>, 'problem' | 'place' | 'asked'>,
    reflection: Written,
  ): Promise<Try> =>
    player.retry(f.problem, player.askAgain(f.problem, f.asked, reflection), seedOf(stream, f.place));

  const rows = new Array<EvaluationRow>(problems.length);
  const failures = await mapConcurrent(
    problems,
    CONCURRENCY,
    async (problem, place): Promise<FailedTry<P> | null> => {
      const attempt = first(await player.attempt(problem, 1, seedOf(STREAM.attempt, place)));
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
      if (attempt.verdict.ok) {
        tick();
        return null;
      }
      const asked = player.askToReflect(problem, attempt.written);
      const reflection = first(await player.reflect(asked, 1, seedOf(STREAM.reflection, place)));
      const failed = { problem, place, attempt: attempt.written, asked, reflection };
      const retry = hasEnded(reflection) ? await retryAfter(STREAM.retry, failed, reflection) : null;
      row.secondTry = trialOf(retry, reflection);
      tick();
      return { ...failed, retry };
    },
  );
  const failed = failures.filter((f) => f !== null);

  const attemptsEqual = attemptsAtEqualTokens(rows);
  const fixed = player.asWritten(options.fixedText);
  const failedAt = new Map(failed.map((f, i) => [f.place, i]));
  await mapConcurrent(problems, CONCURRENCY, async (problem, place) => {
    const row = rows[place] as EvaluationRow;
    const fresh = async (): Promise<Trial[]> => {
      // Greedy attempts at one problem are one attempt.
      if (greedy) return Array.from({ length: attemptsEqual - 1 }, () => row.firstTry);
      return (await player.attempt(problem, attemptsEqual - 1, seedOf(STREAM.fresh, place))).map((t) =>
        trialOf(t),
      );
    };
    const index = failedAt.get(place);
    if (index === undefined) {
      row.freshAttempts = await fresh();
      tick();
      return;
    }
    const own = failed[index] as FailedTry<P>;
    const foreign = foreignReflection(failed, index);
    const [attempts, plain, afterFixed, afterForeign] = await Promise.all([
      fresh(),
      player.retry(problem, player.askAgainPlainly(problem, own.attempt), seedOf(STREAM.plain, place)),
      retryAfter(STREAM.fixed, own, fixed),
      foreign !== undefined && hasEnded(foreign) ? retryAfter(STREAM.foreign, own, foreign) : null,
    ]);
    row.freshAttempts = attempts;
    row.secondTryWithoutReflection = trialOf(plain);
    row.afterFixedText = trialOf(afterFixed);
    row.afterForeignReflection =
      foreign === undefined ? { passed: null, tokens: 0 } : trialOf(afterForeign, foreign);
    tick();
  });
  return { rows, failed };
}

/**
 * Adds the control `afterForcedBeginning` to an evaluation: on its failed first tries, reflections whose first ids
 * are given. It tells how much of a gain is the choice of a beginning, how much is what follows it.
 */
export async function addForcedBeginning<P extends Problem>(
  player: Player<P>,
  { rows, failed }: Evaluation<P>,
  beginning: readonly number[],
  seed: number,
): Promise<void> {
  for (const row of rows) row.afterForcedBeginning = null;
  await mapConcurrent(failed, CONCURRENCY, async ({ problem, place, asked }) => {
    const seedHere = hash32(seed, STREAM.forced, place);
    const reflection = first(await player.reflect(asked, 1, seedHere, beginning));
    const retry = hasEnded(reflection)
      ? await player.retry(
          problem,
          player.askAgain(problem, asked, reflection),
          hash32(seed, STREAM.forcedRetry, place),
        )
      : null;
    (rows[place] as EvaluationRow).afterForcedBeginning = trialOf(retry, reflection);
  });
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
    passed: tried?.verdict.ok ?? false,
    tokens: (tried?.written.tokens.length ?? 0) + (reflection?.tokens.length ?? 0),
  };
}

/**
 * The writer-by-reader table: on the same failed first tries of the start model, reflections by {start, trained},
 * read by {start, trained}. Writers share their seeds, and so do readers.
 */
export async function crossReadings<P extends Problem>(
  start: Player<P>,
  trained: Player<P>,
  failed: readonly FailedTry<P>[],
  seed: number,
): Promise<WriterByReaderOutcomes> {
  const write = (writer: Player<P>): Promise<Written[]> =>
    mapConcurrent(failed, CONCURRENCY, async (f) =>
      first(await writer.reflect(f.asked, 1, hash32(seed, STREAM.reflection, f.place))),
    );
  const read = (reader: Player<P>, reflections: readonly Written[]): Promise<boolean[]> =>
    mapConcurrent(failed, CONCURRENCY, async (f, i) => {
      const reflection = reflections[i] as Written;
      if (!hasEnded(reflection)) return false;
      return (
        await reader.retry(
          f.problem,
          reader.askAgain(f.problem, f.asked, reflection),
          hash32(seed, STREAM.cross, f.place),
        )
      ).verdict.ok;
    });
  const byStart = await write(start);
  const byTrained = await write(trained);
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
