/**
 * Measures a model on held-out problems: first try, second try after a reflection, and the controls that say what
 * the reflection is worth (`method/controls.ts`).
 *
 * Everything is a function of the seed and the problem's place, so that two models are compared on the same
 * problems with the same draws. Controls run on the same failed first tries as the second try. With a `RowLog` every
 * row is kept as it is made, in order, and rows that are kept already are not made again: an evaluation that was
 * stopped goes on to the same rows. A row that the engine fails on is not kept, and the evaluation does not end without
 * it: nothing is counted as wrong because nobody answered.
 */
import { attempted, requireMostSoFar } from './left-out.ts';
import { mapConcurrent } from './lib/concurrent.ts';
import { R3Error } from './lib/errors.ts';
import { hash32 } from './lib/rng.ts';
import {
  CONTROL_NAMES,
  type ControlName,
  type EvaluationRow,
  type RetryControl,
  type WriterByReaderOutcomes,
} from './method/controls.ts';
import { reflectionDatum } from './method/datum.ts';
import { passed, type Problem, type Score, type Written } from './method/episode.ts';
import {
  attemptsAsked,
  evaluationRows,
  outcomeOf,
  secondTrial,
  writtenOf,
  type ControlsRow,
  type KeptTry,
  type PartName,
  type PartRows,
  type SecondTry,
  type TriesRow,
} from './method/evaluation-rows.ts';
import { reflectionProfile, type ReflectionProfile } from './method/profile.ts';
import { first, type Actor, type Player, type Try } from './player.ts';
import type { Conversation } from './text/chat.ts';

/** Sequences in one scoring call, which shares what their beginnings have in common. */
const SCORE_BATCH = 64;
/** Problems under way at a time. */
const CONCURRENCY = 1024;
/** The same where rows are kept: what is under way is lost when it is stopped. */
const KEPT_CONCURRENCY = 128;

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
  empty: 0x40000015,
} as const;

/** Where the rows of one measurement are kept. */
export interface RowLog {
  /** The rows that a part holds already, one for each place at most. */
  kept<Name extends PartName>(part: Name): readonly PartRows[Name][];
  keep<Name extends PartName>(part: Name, row: PartRows[Name]): void;
}

export interface EvaluateOptions {
  seed: number;
  /** The content-free sentence of the fixed-text control. */
  fixedText: string;
  /** Default: all. */
  controls?: readonly ControlName[];
  onProgress?: (done: number, total: number) => void;
  log?: RowLog;
}

/** What a failed first try led to: for reading, for kinds of reflection, and for the writer-by-reader table. */
export interface FailedTry<P extends Problem, C = Conversation> {
  problem: P;
  /** The problem's place in the evaluation. */
  place: number;
  attempt: Written;
  attemptScore: Score;
  /** The conversation up to the request for a reflection. */
  asked: C;
  reflection: Written;
  retry: Try | null;
}

/** What a player, or another actor `A` to which a conversation is `C`, did on all problems. */
export interface Evaluation<P extends Problem, A = Player<P>, C = Conversation> {
  player: A;
  rows: EvaluationRow[];
  failed: FailedTry<P, C>[];
  log?: RowLog | undefined;
}

/** Every problem counts twice in the progress: once for its two tries, once for its controls. */
export async function evaluate<P extends Problem, A, C>(
  player: A & Actor<P, C>,
  problems: readonly P[],
  options: EvaluateOptions,
): Promise<Evaluation<P, A, C>> {
  const { seed, onProgress, log } = options;
  const asked = options.controls ?? CONTROL_NAMES;
  let done = 0;
  const tick = (): void => onProgress?.(++done, 2 * problems.length);
  const tries = await mapKept(problems, ownPlace, log, 'tries', tick, (problem, place) =>
    tryTwice(player, problem, place, seed),
  );
  const failed = tries.flatMap((row, place) => failedTry(player, problems[place] as P, row) ?? []);
  const failedAt = new Map(failed.map((f, i) => [f.place, i]));
  const { temperature } = player.options;
  const attempts = attemptsAsked(tries, asked);
  // Greedy attempts at one problem are one attempt.
  const fresh = temperature === 0 ? 0 : attempts - 1;
  const controls = await mapKept(problems, ownPlace, log, 'controls', tick, async (problem, place) => {
    const index = failedAt.get(place);
    const [more, secondTries] = await Promise.all([
      fresh === 0
        ? []
        : ifFits(
            problem,
            () => player.attempt(problem, fresh, hash32(seed, STREAM.fresh, place)),
            () => [],
          ),
      index === undefined ? {} : controlTries(player, failed, index, asked, options),
    ]);
    return { problem: problem.id, place, secondTries, attempts: more.map(keptTry) };
  });
  const rows = evaluationRows({ tries, controls, forced: [] }, temperature, asked);
  return { player, rows, failed, log };
}

/** First try, reflection on its failure, second try. */
async function tryTwice<P extends Problem, C>(
  player: Actor<P, C>,
  problem: P,
  place: number,
  seed: number,
): Promise<TriesRow> {
  const seedOf = (stream: number): number => hash32(seed, stream, place);
  const attempt = await ifFits(
    problem,
    async () => first(await player.attempt(problem, 1, seedOf(STREAM.attempt))),
    (unfit) => unfit,
  );
  const row: TriesRow = {
    problem: problem.id,
    place,
    firstTry: keptTry(attempt),
    secondTry: null,
    leaked: null,
  };
  if (passed(attempt.score) !== false) return row;
  const asked = player.askToReflect(problem, attempt.written, attempt.score);
  const reflection = await ifFits(
    problem,
    async () => first(await player.reflect(asked, 1, seedOf(STREAM.reflection))),
    keptTry,
  );
  // There is no reflection to keep, and none to run controls beside.
  if ('score' in reflection) return { ...row, secondTry: { reflection: null, retry: reflection } };
  const retry = await ifFits(
    problem,
    () => player.retryAfter(problem, asked, reflection, seedOf(STREAM.retry)),
    (unfit) => unfit,
  );
  return {
    ...row,
    secondTry: { reflection, retry: retry && keptTry(retry) },
    leaked: await leaks(player, problem, reflection.text),
    ...player.task.describeReflection?.(problem, attempt.written.text, reflection.text),
  };
}

/**
 * What `work` gives, or `otherwise` of a try that was not judged where the turn does not fit the model's context: one
 * long problem does not stop the rest.
 */
async function ifFits<T, U>(
  { id }: Problem,
  work: () => Promise<T>,
  otherwise: (unfit: Try) => U,
): Promise<T | U> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof R3Error && error.code === 'too-long')) throw error;
    return otherwise({
      written: { tokens: [], logprobs: [], text: '', stopReason: 'length' },
      score: { error: `problem ${id}: ${error.message}` },
    });
  }
}

/** Whether something in a reflection passes as an answer; null where nothing passes and something was not judged. */
async function leaks<P extends Problem>(
  { task, prompts }: Pick<Actor<P>, 'task' | 'prompts'>,
  problem: P,
  reflection: string,
): Promise<boolean | null> {
  let leaked: boolean | null = false;
  for (const answer of task.answersIn?.(problem, reflection, prompts) ?? [reflection]) {
    try {
      const verdict = await task.verify(problem, answer, prompts);
      if (verdict.ok) return true;
    } catch {
      leaked = null;
    }
  }
  return leaked;
}

/** The second tries of the controls that are asked for, on one failed first try. */
async function controlTries<P extends Problem, C>(
  player: Actor<P, C>,
  failed: readonly FailedTry<P, C>[],
  index: number,
  asked: readonly ControlName[],
  { seed, fixedText }: EvaluateOptions,
): Promise<ControlsRow['secondTries']> {
  const own = failed[index] as FailedTry<P, C>;
  const { problem, place, attempt, asked: conversation } = own;
  const seedOf = (stream: number): number => hash32(seed, stream, place);
  const retry = async (again: C, stream: number): Promise<SecondTry> => {
    const made = await ifFits(
      problem,
      () => player.retry(problem, again, seedOf(stream)),
      (unfit) => unfit,
    );
    return { reflection: null, retry: keptTry(made) };
  };
  const afterText = (text: string, stream: number): Promise<SecondTry> =>
    retry(player.askAgain(problem, conversation, player.asWritten(text)), stream);
  const ways: Partial<Record<RetryControl, () => Promise<SecondTry | null>>> = {
    secondTryWithoutReflection: () => retry(player.askAgainPlainly(problem, attempt), STREAM.plain),
    afterFixedText: () => afterText(fixedText, STREAM.fixed),
    afterForeignReflection: async () => {
      const other = nextFailure(failed, index);
      if (other === undefined) return null;
      const { reflection } = other;
      const made = await ifFits(
        problem,
        () => player.retryAfter(problem, conversation, reflection, seedOf(STREAM.foreign)),
        (unfit) => unfit,
      );
      return { reflection, retry: made && keptTry(made), by: other.problem.id };
    },
    afterEmptyReflection: () => afterText('', STREAM.empty),
  };
  const chosen = Object.entries(ways).filter(([name]) => asked.includes(name as RetryControl));
  return Object.fromEntries(await Promise.all(chosen.map(async ([name, pose]) => [name, await pose()])));
}

function keptTry({ written, score }: Try): KeptTry {
  return { ...written, score };
}

/** What a row says of a failed first try, as a player goes on from it; undefined where the first try did not fail. */
function failedTry<P extends Problem, C>(
  player: Actor<P, C>,
  problem: P,
  { place, firstTry, secondTry }: TriesRow,
): FailedTry<P, C> | undefined {
  const reflection = secondTry?.reflection ?? null;
  if (secondTry === null || reflection === null) return undefined;
  const { score: attemptScore, ...attempt } = firstTry;
  const written = writtenOf(attempt);
  return {
    problem,
    place,
    attempt: written,
    attemptScore,
    asked: player.askToReflect(problem, written, attemptScore),
    reflection: writtenOf(reflection),
    retry: secondTry.retry && tryOf(secondTry.retry),
  };
}

function tryOf({ score, ...written }: KeptTry): Try {
  return { written: writtenOf(written), score };
}

/** Which problem an item is about, and that problem's place in the evaluation. */
type PlaceOf<T> = (item: T, index: number) => { problem: Problem; place: number };

/**
 * Rows of a part, in the order of the items: those that are kept, and the rest made now and kept one after another.
 * A row that the engine fails on is left out, and the others are made; then R3Error `incomplete` is thrown: what is
 * missing is made by an evaluation that goes on. Throws R3Error `mismatch` when what is kept is of other problems.
 */
async function mapKept<T, Name extends PartName>(
  items: readonly T[],
  placeOf: PlaceOf<T>,
  log: RowLog | undefined,
  part: Name,
  onDone: (() => void) | undefined,
  make: (item: T, index: number) => Promise<PartRows[Name]>,
): Promise<PartRows[Name][]> {
  const kept = new Map((log?.kept(part) ?? []).map((row) => [row.place, row]));
  const results = new Array<PartRows[Name] | R3Error | undefined>(items.length);
  const failures: string[] = [];
  let next = 0;
  let done = 0;
  const keepReady = (): void => {
    for (; next < items.length && results[next] !== undefined; next++) {
      const row = results[next] as PartRows[Name] | R3Error;
      if (!(row instanceof R3Error) && !kept.has(row.place)) log?.keep(part, row);
    }
  };
  await mapConcurrent(items, log === undefined ? CONCURRENCY : KEPT_CONCURRENCY, async (item, index) => {
    const { problem, place } = placeOf(item, index);
    const row = kept.get(place) ?? (await attempted(() => make(item, index)));
    done++;
    if (row instanceof R3Error) {
      failures.push(`problem ${problem.id}: ${row.message}`);
    } else if (row.problem !== problem.id) {
      throw new R3Error(
        'store',
        'mismatch',
        `kept rows, ${part} ${index}: expected problem ${problem.id}, got ${row.problem}; go on with the problems that the evaluation began with`,
      );
    }
    results[index] = row;
    keepReady();
    requireMostSoFar('the evaluation', failures, done);
    onDone?.();
  });
  if (failures.length === 0) return results as PartRows[Name][];
  throw new R3Error(
    'engine',
    'incomplete',
    `the evaluation: expected a row for each of ${items.length} problems (${part}), got failures of the engine on ${failures.length}: ${failures[0]}`,
  );
}

/** The next failed first try at another problem; undefined when there is none. */
function nextFailure<P extends Problem, C>(
  failed: readonly FailedTry<P, C>[],
  index: number,
): FailedTry<P, C> | undefined {
  const own = failed[index] as FailedTry<P, C>;
  for (let step = 1; step < failed.length; step++) {
    const other = failed[(index + step) % failed.length] as FailedTry<P, C>;
    if (other.problem.id !== own.problem.id) return other;
  }
  return undefined;
}

function ownPlace(problem: Problem, index: number): { problem: Problem; place: number } {
  return { problem, place: index };
}

function placeOfFailure<P extends Problem>({ problem, place }: FailedTry<P>): { problem: P; place: number } {
  return { problem, place };
}

/**
 * Adds the control `afterForcedBeginning` to an evaluation: on its failed first tries, reflections whose first ids
 * are given. It tells how much of a gain is the choice of a beginning, how much is what follows it.
 */
export async function addForcedBeginning<P extends Problem>(
  { player, rows, failed, log }: Evaluation<P>,
  beginning: readonly number[],
  seed: number,
  onDone?: () => void,
): Promise<void> {
  for (const row of rows) row.afterForcedBeginning = null;
  const forced = await mapKept(
    failed,
    placeOfFailure,
    log,
    'forced',
    onDone,
    async ({ problem, place, asked }) => {
      const seedOf = (stream: number): number => hash32(seed, stream, place);
      const reflection = first(await player.reflect(asked, 1, seedOf(STREAM.forced), beginning));
      const retry = await ifFits(
        problem,
        () => player.retryAfter(problem, asked, reflection, seedOf(STREAM.forcedRetry)),
        (unfit) => unfit,
      );
      return { problem: problem.id, place, secondTry: { reflection, retry: retry && keptTry(retry) } };
    },
  );
  for (const { place, secondTry } of forced)
    (rows[place] as EvaluationRow).afterForcedBeginning = secondTrial(secondTry);
}

/**
 * The writer-by-reader table: on the same failed first tries of the start model, reflections by {start, trained},
 * read by {start, trained}. Writers share their seeds, and so do readers. `seed`: that of the start model's
 * evaluation, whose reflections stand here as they are; sampling them again would give the same. Readers draw from a
 * stream of their own. `onDone` is called five times for each failed try.
 */
export async function crossReadings<P extends Problem>(
  { player: start, failed, log }: Evaluation<P>,
  trained: Actor<P>,
  seed: number,
  onDone?: () => void,
): Promise<WriterByReaderOutcomes> {
  const byStart = failed.map(({ reflection }) => reflection);
  const rewritten = await mapKept(
    failed,
    placeOfFailure,
    log,
    'rewritten',
    onDone,
    async ({ problem, place, asked }) => ({
      problem: problem.id,
      place,
      reflection: first(await trained.reflect(asked, 1, hash32(seed, STREAM.reflection, place))),
    }),
  );
  const byTrained = rewritten.map(({ reflection }) => writtenOf(reflection));
  const read = async (
    part: keyof WriterByReaderOutcomes,
    reader: Actor<P>,
    reflections: readonly Written[],
  ): Promise<(boolean | null)[]> => {
    const readings = await mapKept(
      failed,
      placeOfFailure,
      log,
      part,
      onDone,
      async ({ problem, place, asked }, i) => {
        const seedHere = hash32(seed, STREAM.cross, place);
        const retry = await ifFits(
          problem,
          () => reader.retryAfter(problem, asked, reflections[i] as Written, seedHere),
          (unfit) => unfit,
        );
        return { problem: problem.id, place, retry: retry && keptTry(retry) };
      },
    );
    return readings.map(({ retry }) => outcomeOf(retry));
  };
  return {
    startStart: await read('startStart', start, byStart),
    startTrained: await read('startTrained', trained, byStart),
    trainedStart: await read('trainedStart', start, byTrained),
    trainedTrained: await read('trainedTrained', trained, byTrained),
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
 * as in the loss (`method/loss.ts`), under softmax(logits / temperature) without filters. NaN without reflections, and
 * where an engine has no log-probabilities at that temperature.
 */
export async function klToStart<P extends Problem>(
  trained: Evaluation<P>,
  start: Player<P>,
  watcher: Watcher,
): Promise<number> {
  const { player, failed } = trained;
  const { temperature } = player.options;
  const options = { temperature: temperature > 0 ? temperature : 1 };
  const { scoresAt = options.temperature } = player.engine.capabilities();
  if (scoresAt !== options.temperature) return Number.NaN;
  watcher.phase('KL to the start model', failed.length);
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

/** How a model is measured; where its rows are kept depends on the temperature. */
export interface MeasureOptions extends Omit<EvaluateOptions, 'onProgress' | 'log'> {
  logAt?: (temperature: number) => RowLog;
}

/** One model at one temperature, watched. */
export async function measureOnce<P extends Problem, A, C>(
  phase: string,
  player: A & Actor<P, C>,
  problems: readonly P[],
  { logAt, ...options }: MeasureOptions,
  watcher: Watcher,
): Promise<Evaluation<P, A, C>> {
  watcher.phase(phase, 2 * problems.length);
  const log = logAt?.(player.options.temperature);
  return evaluate(player, problems, {
    ...options,
    ...(log === undefined ? {} : { log }),
    onProgress: (done) => watcher.update(done),
  });
}

/** `name` says in the progress which model it is. */
export async function measure<P extends Problem>(
  name: string,
  playerAt: (temperature: number) => Player<P>,
  temperature: number,
  problems: readonly P[],
  options: MeasureOptions,
  watcher: Watcher,
): Promise<Measured<P>> {
  return {
    sampled: await measureOnce(`measure ${name}`, playerAt(temperature), problems, options, watcher),
    greedy: await measureOnce(`measure ${name}, greedy`, playerAt(0), problems, options, watcher),
  };
}

/**
 * What only the two models together can tell: who gains, the writer of reflections or their reader; and, added to
 * the start model's rows where that control is asked for, how it does when its reflections begin like most of the
 * trained model's. `seed`: that of both evaluations.
 */
export async function measureTogether<P extends Problem>(
  start: { sampled: Evaluation<P>; greedy?: Evaluation<P> },
  trained: { sampled: Evaluation<P> },
  seed: number,
  watcher: Watcher,
  controls: readonly ControlName[] = CONTROL_NAMES,
): Promise<{ writerByReader: WriterByReaderOutcomes; forcedBeginning: number[] }> {
  const counter = (phase: string, total: number): (() => void) => {
    let done = 0;
    watcher.phase(phase, total);
    return () => watcher.update(++done);
  };
  const readings = counter('who gains: writer or reader', 5 * start.sampled.failed.length);
  const writerByReader = await crossReadings(start.sampled, trained.sampled.player, seed, readings);

  const forcedBeginning = commonestBeginning(trained.sampled.failed.map(({ reflection }) => reflection));
  if (!controls.includes('afterForcedBeginning')) return { writerByReader, forcedBeginning };
  const evaluations = [start.sampled, ...(start.greedy === undefined ? [] : [start.greedy])];
  const forced = counter(
    'force the beginning of reflections',
    evaluations.reduce((sum, { failed }) => sum + failed.length, 0),
  );
  for (const evaluation of evaluations) await addForcedBeginning(evaluation, forcedBeginning, seed, forced);
  return { writerByReader, forcedBeginning };
}
