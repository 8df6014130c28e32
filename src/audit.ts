/**
 * The step-0 audit: no weight moves before it passes.
 *
 * Supplies the pure checks of `method/audit.ts` and `method/audit-start.ts` with what they look at: the verifier on
 * known answers, a few real episodes of the start model and plain retries beside them, the trainer's log-probabilities
 * and gradient of what the sampler wrote, the chat template. All is a function of the seed, in streams of its own; the
 * weights, the optimizer and the accumulated gradient are afterwards what they were. The table is in docs/audit.md.
 */
import { collect, collectAttempts, type Played } from './collect.ts';
import type { Completion, Datum, Engine, Loss } from './engine/engine.ts';
import { R3Error } from './lib/errors.ts';
import { hash32 } from './lib/rng.ts';
import {
  auditDuplicates,
  auditKinds,
  auditRewards,
  auditSignal,
  auditStartRate,
  auditTruncation,
  type Passes,
  type Turns,
} from './method/audit-start.ts';
import {
  auditGradient,
  auditGroups,
  auditLogprobs,
  auditMask,
  auditOptions,
  auditSampledIds,
  auditSampling,
  auditStopTokens,
  auditTemplate,
  auditVerifier,
  positionsOf,
  type AuditCheck,
  type GradientProbe,
  type IdSample,
  type Judged,
  type SampledRun,
} from './method/audit.ts';
import { trainedSequences, type Segment } from './method/datum.ts';
import { passed, type Episode, type Failure, type Problem, type Written } from './method/episode.ts';
import { groupsOf } from './method/group.ts';
import { posedText } from './method/task.ts';
import type { Mined } from './mine.ts';
import type { Player, PlayerOptions, Try } from './player.ts';
import { checkTemplate } from './text/check-template.ts';
import { samplesProblems } from './method/choices.ts';
import type { TrainOptions } from './train-options.ts';

export type { AuditCheck } from './method/audit.ts';

/** Failures that are played, plain retries on each of them, and problems whose known answers are judged. */
const GROUPS = 16;
const PLAIN_RETRIES = 4;
const KNOWN_PROBLEMS = 20;
/** Failures whose reflections are sampled twice, by the player and by the engine itself, and how many of each. */
const REPEATED = 2;
const REPEATED_REFLECTIONS = 4;
/** Untrained tokens behind a sequence, for the gradient probe. */
const FOLLOWING = 4;
/** Failed tries that are shown when none passes. */
const EXAMPLES = 3;

/** What the audit draws from: a step that training never has, and streams of no other loop. */
const AUDIT_STEP = 0x40000000;
const STREAM = { plain: 0x40000020, repeated: 0x40000021 } as const;

/**
 * All checks, passed or not. Where sampling, options or template are refused, the checks that need episodes are left
 * out. `tolerance`: see `auditLogprobs`; at 0 the engine promises equality to the bit and the same samples from the
 * same seed. Expects an engine without accumulated gradient. Throws R3Error `too-long`, see `requireRoom`.
 */
export async function audit<P extends Problem>(
  player: Player<P>,
  mined: Mined<P>,
  options: TrainOptions,
  tolerance = 0,
): Promise<AuditCheck[]> {
  const { failures } = mined;
  const { engine, task, prompts, format } = player;
  const facts = checkTemplate(format);
  const system = failures.some(({ problem }) => task.pose(problem, prompts)[0]?.role === 'system');
  const settled = [
    auditSampling(player.options, options.method !== 'rejection-sampling'),
    auditOptions(engine.capabilities().ignores ?? [], optionsInUse(player.options, options)),
    auditStartRate(
      mined.passed,
      mined.attempts - mined.unscored,
      failures.slice(0, EXAMPLES).map(exampleOf(player)),
    ),
  ];
  const stopsHere = settled.some(({ name, state }) => state === 'failed' && name !== 'start rate');
  if (stopsHere || failures.length === 0) {
    return [...settled, auditTemplate(facts, system, undefined), auditRewards([], mined)];
  }

  const play = await tryPlay(player, failures, options);
  if (typeof play === 'string') return [...settled, auditTemplate(facts, system, play)];
  const { played, plain, repeated } = play;
  const episodes = played.map(({ episode }) => episode);
  const groups = groupsOf(episodes);
  const rewards = groups.map((group) => group.map(({ reward }) => reward));
  const turns = turnsOf(episodes, plain, options);

  const samples = played.flatMap(({ segments }) => trainedSamples(segments));
  const { temperature } = player.options;
  const scored = await engine.logprobs(
    samples.map(({ datum }) => datum),
    { temperature },
  );
  const least = shortest(samples);
  const probed = await probeGradient(engine, least?.datum, temperature);
  /** The one sequence that was computed as in training, too. */
  const again =
    probed.logprobs === null || least === undefined ? [] : [{ ...least, scored: probed.logprobs }];
  const problems = [...new Map(failures.map(({ problem }) => [problem.id, problem])).values()];
  return [
    ...settled,
    auditTemplate(facts, system, undefined),
    auditStopTokens(
      [...turns.flatMap(({ written }) => written), ...repeated.map(({ completion }) => completion)],
      {
        stopIds: format.stopIds,
        eosIds: player.tokenizer.eosIds,
        endOfTurn: endOfTurn(player, failures[0] as Failure<P>),
      },
    ),
    auditGroups(
      failures,
      groups.map((group) => ({ id: group[0]?.group ?? '', size: group.length })),
      options.reflectionsPerFailure,
    ),
    await auditVerifier(task, spread(problems, KNOWN_PROBLEMS), prompts, judgedOf(failures)),
    auditSampledIds([
      ...(tolerance === 0 ? repeated : []),
      ...spread(failures, GROUPS).flatMap((failure) => attemptIds(player, failure, options)),
      ...samples.flatMap(({ runs, datum }, i) => datumIds(runs, datum, i)),
    ]),
    auditMask(samples.map(({ runs, datum }) => ({ datum, expected: positionsOf(runs) }))),
    auditLogprobs(
      [...samples, ...again].map(({ logprobs }) => logprobs),
      [...scored, ...again.map((sample) => sample.scored)],
      tolerance,
    ),
    auditGradient(probed.gradient),
    auditRewards(rewards, mined),
    auditTruncation(turns),
    auditDuplicates(
      groups.map((group) =>
        group.map(({ reflection, retry, attempt }) => (reflection ?? retry ?? attempt).tokens),
      ),
    ),
    auditSignal({
      rewards_P_G: rewards,
      afterReflection: passesOf(episodes.filter(({ reflection }) => reflection !== null).map(outcomeOf)),
      plain: passesOf(plain.map(({ score }) => passed(score))),
    }),
    auditKinds(episodes),
  ];
}

/** Throws R3Error `bad-task` that names each failed check. */
export function requireAudit(checks: readonly AuditCheck[]): void {
  const failed = checks.filter(({ state }) => state === 'failed');
  if (failed.length === 0) return;
  throw new R3Error(
    'task',
    'bad-task',
    `the audit before training failed, no weight was changed:\n${failed.map((c) => `  ${c.name}: ${c.detail}`).join('\n')}`,
  );
}

/** A line for each check: its state, its name, its sentence. */
export function auditLines(checks: readonly AuditCheck[]): string[] {
  const width = Math.max(0, ...checks.map(({ name }) => name.length));
  return checks.map(
    ({ name, state, detail }) => `${state.padEnd('warning'.length)}  ${name.padEnd(width)}  ${detail}`,
  );
}

/** What the checks look at. */
interface Play<P extends Problem> {
  played: Played<P>[];
  plain: Try[];
  repeated: Repeated[];
}

/** A reflection as the engine gave it, and what the player made of it. */
interface Repeated extends IdSample {
  completion: Completion;
}

/** Or why the template cannot hold these conversations. */
async function tryPlay<P extends Problem>(
  player: Player<P>,
  failures: readonly Failure<P>[],
  options: TrainOptions,
): Promise<Play<P> | string> {
  const { method, reflectionsPerFailure, seed } = options;
  const moment = { seed, step: AUDIT_STEP };
  const few = spread(failures, GROUPS);
  try {
    requireRoom(player, failures, options);
    if (samplesProblems(options)) {
      const problems = [...new Map(few.map(({ problem }) => [problem.id, problem])).values()];
      const played = await collectAttempts(player, problems, reflectionsPerFailure, moment);
      return { played, plain: [], repeated: [] };
    }
    const played = await collect(player, few, options, moment);
    if (method === 'retries') return { played, plain: [], repeated: [] };
    return {
      played,
      plain: await plainRetries(player, few, seed),
      repeated: await repeatedReflections(player, failures.slice(0, REPEATED), seed),
    };
  } catch (error) {
    if (error instanceof R3Error && error.code === 'bad-template') return error.message;
    throw error;
  }
}

async function plainRetries<P extends Problem>(
  player: Player<P>,
  failures: readonly Failure<P>[],
  seed: number,
): Promise<Try[]> {
  const tries = failures.map(({ problem, attempt }, place) =>
    player.retries(
      problem,
      player.askAgainPlainly(problem, attempt),
      PLAIN_RETRIES,
      hash32(seed, STREAM.plain, place),
    ),
  );
  return (await Promise.all(tries)).flat();
}

/** The same reflections from the engine itself and through the player, which must hand on its ids as they are. */
async function repeatedReflections<P extends Problem>(
  player: Player<P>,
  failures: readonly Failure<P>[],
  seed: number,
): Promise<Repeated[]> {
  const { temperature, topK, topP, minP, maxReflectionTokens } = player.options;
  const params = {
    temperature,
    maxTokens: maxReflectionTokens,
    stopIds: player.format.stopIds,
    ...(topK === undefined ? {} : { topK }),
    ...(topP === undefined ? {} : { topP }),
    ...(minP === undefined ? {} : { minP }),
  };
  const samples = failures.map(async ({ id, problem, attempt, verdict }, place) => {
    const asked = player.askToReflect(problem, attempt, verdict);
    const request = { count: REPEATED_REFLECTIONS, seed: hash32(seed, STREAM.repeated, place) };
    const written = await player.reflect(asked, request.count, request.seed);
    const completions = await player.engine.sample({ prompt: asked.tokens, params, ...request });
    return completions.map((completion, i) => ({
      completion,
      what: `reflection ${i} on failure ${id}`,
      sampled: completion.tokens,
      got: written[i]?.tokens ?? [],
    }));
  });
  return (await Promise.all(samples)).flat();
}

/** Throws R3Error `too-long` for the first failure whose longest conversation does not fit the context. */
function requireRoom<P extends Problem>(
  player: Player<P>,
  failures: readonly Failure<P>[],
  options: TrainOptions,
): void {
  const { contextLength } = player.engine.capabilities();
  const { maxReflectionTokens, maxAttemptTokens } = player.options;
  for (const failure of failures) {
    const { fixed, reflections, retries } = longestOf(player, failure, options);
    const longest = fixed + reflections * maxReflectionTokens + retries * maxAttemptTokens;
    if (longest <= contextLength) continue;
    const sampled = reflections > 0 ? `${reflections * maxReflectionTokens} of reflection, ` : '';
    throw new R3Error(
      'task',
      'too-long',
      `failure ${failure.id}: expected at most ${contextLength} tokens (the model's context), got up to ${longest}: ${fixed} of prompts and attempt, ${sampled}${retries * maxAttemptTokens} of retry. Lower --max-reflection-tokens or --max-attempt-tokens, or leave the problem out.`,
    );
  }
}

/** What a failure's longest conversation has beside its reflections and retries, and how many of them. */
function longestOf<P extends Problem>(
  player: Player<P>,
  { problem, attempt, verdict }: Failure<P>,
  { method, rounds }: TrainOptions,
): { fixed: number; reflections: number; retries: number } {
  if (method !== 'reflect') {
    const asked = method === 'retries' ? player.askAgainPlainly(problem, attempt) : player.pose(problem);
    return { fixed: asked.tokens.length, reflections: 0, retries: 1 };
  }
  // The attempt stands in for what follows: the template must take what this model writes.
  let again = player.askAgain(problem, player.askToReflect(problem, attempt, verdict), attempt);
  for (let round = 1; round < rounds; round++) {
    again = player.askAgain(problem, player.askToReflectAgain(again, attempt, verdict), attempt);
  }
  const standIns = player.options.dropAttempt === true ? 1 : 2 * rounds - 1;
  const turns = player.options.dropAttempt === true ? 1 : rounds;
  return {
    fixed: again.tokens.length - standIns * attempt.tokens.length,
    reflections: turns,
    retries: turns,
  };
}

/** A sequence that is trained, and what of it was sampled. */
interface TrainedSample {
  datum: Datum;
  runs: SampledRun[];
  /** The sampler's, one per trained token. */
  logprobs: readonly number[];
}

/** The sequences as training makes them, beside the segments that each of them must hold. */
function trainedSamples(segments: readonly Segment[]): TrainedSample[] {
  const groups: Segment[][] = [];
  for (const segment of segments) {
    const last = groups.at(-1);
    const before = last?.at(-1);
    const ids = before === undefined ? [] : [...before.prompt, ...before.written.tokens];
    const continues = ids.length < segment.prompt.length && ids.every((id, i) => segment.prompt[i] === id);
    if (last !== undefined && continues) last.push(segment);
    else groups.push([segment]);
  }
  return trainedSequences(segments).map(({ datum }, i) => ({
    datum,
    runs: (groups[i] ?? []).map(({ prompt, written }) => ({ prompt, tokens: written.tokens })),
    logprobs: (groups[i] ?? []).flatMap(({ written }) => written.logprobs),
  }));
}

/** A failed attempt in the prompt for what follows it, where it is in one. */
function attemptIds<P extends Problem>(
  player: Player<P>,
  { id, problem, attempt, verdict }: Failure<P>,
  { method }: TrainOptions,
): IdSample[] {
  if (method !== 'reflect' && method !== 'retries') return [];
  const { tokens } =
    method === 'reflect'
      ? player.askToReflect(problem, attempt, verdict)
      : player.askAgainPlainly(problem, attempt);
  const posed = player.pose(problem).tokens.length;
  return [
    {
      what: `the attempt of failure ${id} in the prompt after it`,
      sampled: attempt.tokens,
      got: tokens.slice(posed, posed + attempt.tokens.length),
    },
  ];
}

/** Each run in its datum; nothing follows the last. */
function datumIds(runs: readonly SampledRun[], { tokens }: Datum, index: number): IdSample[] {
  return runs.map((run, i) => ({
    what: `datum ${index}`,
    sampled: run.tokens,
    got: tokens.slice(
      run.prompt.length,
      i === runs.length - 1 ? undefined : run.prompt.length + run.tokens.length,
    ),
  }));
}

/** The first token that the template writes after an answer, where it is a special one. */
function endOfTurn<P extends Problem>(
  player: Player<P>,
  { problem, attempt }: Failure<P>,
): number | undefined {
  const { format, tokenizer, prompts } = player;
  const posed = player.pose(problem);
  const answered = { tokens: [], text: attempt.text, stopReason: 'length' as const };
  const after = format.extend(posed, answered, [{ role: 'user', content: prompts.reflect }]).tokens;
  const id = after
    .slice(posed.tokens.length)
    .find((token) => tokenizer.decodeWithSpecials([token]).trim() !== '');
  return id !== undefined && tokenizer.specialIds.has(id) ? id : undefined;
}

/**
 * Gradients of one sequence under losses whose gradient is known. With dropout the trainer's log-probabilities are not
 * the sampler's, and two calls of other lengths drop other inputs: what cannot be compared is then left out.
 */
async function probeGradient(
  engine: Engine,
  datum: Datum | undefined,
  temperature: number,
): Promise<{ gradient: GradientProbe | null; logprobs: Float32Array | null }> {
  const before = await tryGradientNorms(engine);
  if (before === null) {
    if (datum === undefined) return { logprobs: null, gradient: null };
    const { logprobs } = await engine.forwardBackward([datum], lossOnFirst(0), { temperature });
    await engine.zeroGradients();
    return { logprobs: logprobs[0] ?? null, gradient: null };
  }
  if (datum === undefined) {
    return { logprobs: null, gradient: { before, zero: before, one: {}, followed: null, after: before } };
  }
  const { contextLength, dropout = 0 } = engine.capabilities();
  const normsOf = async (probe: Datum, derivative: 0 | 1): Promise<Record<string, number>> => {
    await engine.zeroGradients();
    await engine.forwardBackward([probe], lossOnFirst(derivative), { temperature });
    return engine.gradientNorms();
  };
  await engine.zeroGradients();
  const { logprobs } = await engine.forwardBackward([datum], lossOnFirst(0), { temperature });
  const zero = await engine.gradientNorms();
  const one = await normsOf(datum, 1);
  const longer = [...datum.tokens, ...datum.tokens.slice(0, FOLLOWING)].slice(0, contextLength);
  const followed = dropout > 0 ? null : await normsOf({ ...datum, tokens: longer }, 1);
  await engine.zeroGradients();
  const after = await engine.gradientNorms();
  return {
    logprobs: dropout > 0 ? null : (logprobs[0] ?? null),
    gradient: { before, zero, one, followed, after },
  };
}

/** Null for an engine that keeps them to itself. */
async function tryGradientNorms(engine: Engine): Promise<Record<string, number> | null> {
  try {
    return await engine.gradientNorms();
  } catch (error) {
    if (error instanceof R3Error && error.code === 'not-available') return null;
    throw error;
  }
}

/** The loss is a multiple of the first trained token's log-probability. */
function lossOnFirst(derivative: number): Loss {
  return (logprobs) => {
    const gradients = logprobs.map((values) => new Float32Array(values.length));
    if (gradients[0] !== undefined) gradients[0][0] = derivative;
    return { loss: derivative * (logprobs[0]?.[0] ?? 0), gradients, metrics: {} };
  };
}

function shortest(samples: readonly TrainedSample[]): TrainedSample | undefined {
  return samples.toSorted((a, b) => a.datum.tokens.length - b.datum.tokens.length)[0];
}

/** Names as in the engine's interface. */
function optionsInUse(sampling: PlayerOptions, { adam, loss }: TrainOptions): string[] {
  const given = Object.entries({ ...sampling, ...adam }).filter(
    ([, value]) => value !== undefined && value !== 0,
  );
  return ['seed', 'learningRate', ...given.map(([name]) => name), ...(loss.beta > 0 ? ['reference'] : [])];
}

/** At most `count` of the items, over the whole list: a file may be sorted. */
function spread<T>(items: readonly T[], count: number): T[] {
  if (items.length <= count) return [...items];
  return Array.from({ length: count }, (_, i) => items[Math.floor((i * items.length) / count)] as T);
}

/** Failed attempts with their verdicts. One that was cut off was not judged by the verifier. */
function judgedOf<P extends Problem>(failures: readonly Failure<P>[]): Judged<P>[] {
  return spread(failures, GROUPS)
    .filter(({ attempt }) => attempt.stopReason === 'stop')
    .map(({ problem, attempt, verdict }) => ({ problem, answer: attempt.text, score: verdict }));
}

/** What was sampled, by kind. Attempts are what baselines that start from problems sample. */
function turnsOf<P extends Problem>(
  episodes: readonly Episode<P>[],
  plain: readonly Try[],
  options: TrainOptions,
): (Turns & { written: Written[] })[] {
  const attempts = samplesProblems(options) ? episodes.map((e) => e.attempt) : [];
  const reflections = episodes.flatMap(({ reflection }) => reflection ?? []);
  const retries = [...episodes.flatMap(({ retry }) => retry ?? []), ...plain.map(({ written }) => written)];
  return [
    { what: 'attempts', written: attempts, option: '--max-attempt-tokens' },
    { what: 'reflections', written: reflections, option: '--max-reflection-tokens' },
    { what: 'retries', written: retries, option: '--max-attempt-tokens' },
  ];
}

/** Whether the second try passed. A reflection that did not end has none. */
function outcomeOf({ retry, score }: Episode): boolean | null {
  return retry === null ? false : passed(score);
}

function passesOf(outcomes: readonly (boolean | null)[]): Passes | null {
  const known = outcomes.filter((outcome) => outcome !== null);
  return known.length === 0 ? null : { passed: known.filter(Boolean).length, of: known.length };
}

function exampleOf<P extends Problem>({ task, prompts }: Player<P>): (failure: Failure<P>) => string {
  return ({ problem, attempt, verdict }) =>
    `${short(posedText(task, problem, prompts))} answered ${short(attempt.text)} (${verdict.ok ? 'passed' : `${verdict.class}: ${verdict.why}`})`;
}

function short(text: string): string {
  return JSON.stringify(text.length > 80 ? `${text.slice(0, 80)}...` : text);
}
