/**
 * The checks that must hold before any weight moves: that what is sampled, judged and trained is what it seems. Each
 * takes values that the loop measured and returns a state with a sentence; none samples, prints or stops anything.
 *
 * They catch what otherwise shows only as a run that does not learn: a verifier that rejects right answers, a stop
 * token that the trainer does not know, a mask that is off by one, a trainer that disagrees with its sampler, a
 * template that rewrites earlier turns. What the start model makes of the task is checked in `audit-start.ts`.
 */
import type { Datum } from '../engine/engine.ts';
import { mapConcurrent } from '../lib/concurrent.ts';
import { messageOf } from '../lib/errors.ts';
import { passed, type Failure, type Problem, type Score, type Written } from './episode.ts';
import { posedText, type Prompts, type Task } from './task.ts';

export type AuditName =
  | 'sampling'
  | 'options'
  | 'template'
  | 'stop tokens'
  | 'groups'
  | 'verifier'
  | 'sampled ids'
  | 'mask'
  | 'log-probabilities'
  | 'gradient'
  | 'start rate'
  | 'rewards'
  | 'truncation'
  | 'duplicates'
  | 'signal'
  | 'kinds';

export interface AuditCheck {
  /** Stable, for logs and pages. */
  name: AuditName;
  /** A warning never stops a run; what failed makes training wrong or senseless. */
  state: 'ok' | 'warning' | 'failed';
  /** What was looked at; of what is wrong the first thing: expected, got, and what to do. */
  detail: string;
}

/** What of a sampler's options the trainer's log-probabilities know nothing of. */
export interface SamplingOptions {
  temperature: number;
  topK?: number | undefined;
  topP?: number | undefined;
  minP?: number | undefined;
}

/**
 * The trainer's log-probabilities are those of softmax(logits / temperature), whole. Filters sample from another
 * distribution: refused where the loss has a ratio or a KL term, a warning where it has none.
 */
export function auditSampling(options: SamplingOptions, lossUsesRatio: boolean): AuditCheck {
  const name = 'sampling';
  const { temperature, topK = 0, topP = 1, minP = 0 } = options;
  if (!(temperature > 0 && Number.isFinite(temperature))) {
    const detail = `temperature: expected above 0 in training, got ${temperature}: the siblings of a group would be one; set --temperature`;
    return { name, state: 'failed', detail };
  }
  const filters = [
    topP < 1 && `--top-p ${topP}`,
    topK > 0 && `--top-k ${topK}`,
    minP > 0 && `--min-p ${minP}`,
  ].filter((filter) => filter !== false);
  if (filters.length === 0) {
    return { name, state: 'ok', detail: `temperature ${temperature}, no filters` };
  }
  const detail = `expected samples of the whole distribution, got ${filters.join(', ')}, which the trainer's log-probabilities leave out; leave out the option`;
  return { name, state: lossUsesRatio ? 'failed' : 'warning', detail };
}

/** No option in use is one that the engine ignores. `used` names fields of the engine's interface. */
export function auditOptions(ignores: readonly string[], used: readonly string[]): AuditCheck {
  const name = 'options';
  const ignored = used.filter((option) => ignores.includes(option));
  if (ignored.length === 0) return { name, state: 'ok', detail: 'the engine honours every option in use' };
  const detail = `expected an engine that honours ${ignored.join(', ')}, got one that ignores it; leave the option out${ignored.includes('maxGradNorm') ? ' (--no-max-grad-norm)' : ''} or choose another engine`;
  // Without seeds runs differ, but each of them is right.
  return { name, state: ignored.every((option) => option === 'seed') ? 'warning' : 'failed', detail };
}

/** What is wrong where two different problems have one id; the same problem may be there again. */
export function sharedId(problems: readonly Problem[]): string | undefined {
  const known = new Map<string, string>();
  for (const problem of problems) {
    const content = JSON.stringify(problem);
    const first = known.get(problem.id) ?? content;
    if (first !== content)
      return `problem ${problem.id}: expected one problem of this id, got ${shown(first)} and ${shown(content)}; give problems unique ids`;
    known.set(problem.id, content);
  }
  return undefined;
}

/** Groups are told apart by their failures' ids, so these are unique; so are ids of problems. Every group has G. */
export function auditGroups(
  failures: readonly Pick<Failure, 'id' | 'problem'>[],
  groups: readonly { id: string; size: number }[],
  groupSize: number,
): AuditCheck {
  const name = 'groups';
  const fail = (detail: string): AuditCheck => ({ name, state: 'failed', detail });
  const ids = new Set<string>();
  for (const { id } of failures) {
    if (ids.has(id)) {
      return fail(
        `failure ${id}: expected an id of its own, got it twice: two groups would become one; give problems unique ids`,
      );
    }
    ids.add(id);
  }
  const shared = sharedId(failures.map(({ problem }) => problem));
  if (shared !== undefined) return fail(shared);
  const odd = groups.find(({ size }) => size !== groupSize);
  if (odd) return fail(`group ${odd.id}: expected ${groupSize} reflections, got ${odd.size}`);
  const problems = new Set(failures.map(({ problem }) => problem.id)).size;
  const detail = `${failures.length} failures of ${problems} problems, each a group of its own`;
  return { name, state: 'ok', detail };
}

/** An answer that was judged before. */
export interface Judged<P extends Problem> {
  problem: P;
  answer: string;
  score: Score;
}

/** Problems whose answers are judged at a time: a verifier may be a process or a service. */
const JUDGED_AT_A_TIME = 8;

/**
 * The verifier accepts the known-good answers and rejects the junk; among them must be both. It judges every answer
 * twice the same, known and `sampled` ones. The empty answer and the posed problem itself do not pass everywhere.
 */
export async function auditVerifier<P extends Problem>(
  task: Task<P>,
  problems: readonly P[],
  prompts: Prompts,
  sampled: readonly Judged<P>[] = [],
): Promise<AuditCheck> {
  const name = 'verifier';
  const found = await mapConcurrent(problems, JUDGED_AT_A_TIME, (problem) =>
    judgeKnown(task, problem, prompts),
  );
  const faults = [
    ...found.map(({ fault }) => fault),
    ...(await mapConcurrent(sampled, JUDGED_AT_A_TIME, (judged) => judgeAgain(task, judged, prompts))),
  ];
  const fault = faults.find((f) => f !== undefined);
  if (fault !== undefined) return { name, state: 'failed', detail: fault };

  const count = (what: Exclude<keyof Known, 'fault'>): number => found.reduce((sum, k) => sum + k[what], 0);
  const detail = `${count('good')} known-good answers accepted, ${count('junk')} junk answers rejected`;
  if (count('good') === 0 || count('junk') === 0) {
    return {
      name,
      state: 'failed',
      detail: `${detail}: expected at least one of each; see the task's known(), or good and bad in its JSON`,
    };
  }
  const passes = Math.max(count('empty'), count('echoed'));
  if (passes === 0) return { name, state: 'ok', detail };
  const what = passes === count('empty') ? 'the empty answer' : 'the problem itself, given as answer,';
  return {
    name,
    state: passes === count('probed') ? 'failed' : 'warning',
    detail: `${detail}; ${what} passes for ${passes} of ${count('probed')} problems: expected none; see the task's verify()`,
  };
}

/** What the verifier made of a problem's known answers: how many, and the first thing that is wrong. */
interface Known {
  good: number;
  junk: number;
  /** Whether the empty answer and the posed problem were tried, and passed. */
  probed: number;
  empty: number;
  echoed: number;
  fault?: string;
}

async function judgeKnown<P extends Problem>(task: Task<P>, problem: P, prompts: Prompts): Promise<Known> {
  const found: Known = { good: 0, junk: 0, probed: 0, empty: 0, echoed: 0 };
  const known = task.known(problem, prompts);
  for (const { answer, ok } of known) {
    const got = await tryVerify(task, problem, answer, prompts);
    if (got !== ok) return { ...found, fault: faultOf(problem, answer, outcome(ok), outcome(got)) };
    const again = await tryVerify(task, problem, answer, prompts);
    if (again !== got) return { ...found, fault: faultOf(problem, answer, TWICE, bothOf(got, again)) };
    found[ok ? 'good' : 'junk'] += 1;
  }
  // Where no answer is the right answer, saying nothing passes.
  if (known.some(({ answer, ok }) => ok && answer.trim() === '')) return found;
  for (const [what, answer] of [
    ['empty', ''],
    ['echoed', posedText(task, problem, prompts)],
  ] as const) {
    const got = await tryVerify(task, problem, answer, prompts);
    if (typeof got === 'string')
      return { ...found, fault: faultOf(problem, answer, 'a verdict', outcome(got)) };
    found[what] = Number(got);
  }
  return { ...found, probed: 1 };
}

/** What is wrong when an answer is judged again; undefined when nothing is. */
async function judgeAgain<P extends Problem>(
  task: Task<P>,
  { problem, answer, score }: Judged<P>,
  prompts: Prompts,
): Promise<string | undefined> {
  const before = passed(score);
  if (before === null) return undefined;
  const again = await tryVerify(task, problem, answer, prompts);
  return again === before ? undefined : faultOf(problem, answer, TWICE, bothOf(before, again));
}

const TWICE = 'the same verdict each time';

function bothOf(before: boolean | string, again: boolean | string): string {
  return `${outcome(before)}, then ${outcome(again)}`;
}

function faultOf(problem: Problem, answer: string, expected: string, got: string): string {
  return `problem ${problem.id}, answer ${shown(answer)}: expected ${expected}, got ${got}`;
}

/** The verdict, or the message of what the verifier threw. */
async function tryVerify<P extends Problem>(
  task: Task<P>,
  problem: P,
  answer: string,
  prompts: Prompts,
): Promise<boolean | string> {
  try {
    return (await task.verify(problem, answer, prompts)).ok;
  } catch (error) {
    return messageOf(error);
  }
}

function outcome(got: boolean | string): string {
  if (typeof got === 'string') return `an error: ${got}`;
  return got ? 'pass' : 'fail';
}

/** What ends a turn: ids that sampling stops at, and those that it must. */
export interface StopSet {
  /** What sampling stops at. */
  stopIds: readonly number[];
  /** Of the generation config and the tokenizer. */
  eosIds: readonly number[];
  /** The special token that the template writes after an answer; undefined where it writes none. */
  endOfTurn: number | undefined;
}

/**
 * Sampling stops at every end-of-sequence id of the model and at the template's end of turn. A completion that ended
 * does so with a stop id, and holds no other. One that was cut off holds none.
 */
export function auditStopTokens(
  completions: readonly Pick<Written, 'tokens' | 'stopReason'>[],
  { stopIds, eosIds, endOfTurn }: StopSet,
): AuditCheck {
  const name = 'stop tokens';
  const stops = new Set(stopIds);
  const needed = [...eosIds, ...(endOfTurn === undefined ? [] : [endOfTurn])];
  const missing = needed.find((id) => !stops.has(id));
  if (missing !== undefined) {
    const from =
      missing === endOfTurn ? "the template's end of turn" : 'from generation_config.json or the tokenizer';
    const detail = `expected ${missing} among the stop ids (${from}), got ${stopIds.join(', ') || 'none'}; add it to eos_token_id in generation_config.json`;
    return { name, state: 'failed', detail };
  }
  if (stops.size === 0) {
    const detail =
      'expected at least one stop id, got none: no turn would end; set eos_token_id in generation_config.json';
    return { name, state: 'failed', detail };
  }
  let ended = 0;
  for (const [i, { tokens, stopReason }] of completions.entries()) {
    const first = tokens.findIndex((token) => stops.has(token));
    const right = stopReason === 'stop' ? first >= 0 && first === tokens.length - 1 : first === -1;
    if (!right) {
      const expected = stopReason === 'stop' ? 'a stop id at its end only' : 'no stop id';
      const got = first === -1 ? 'none' : `one at position ${first}`;
      const detail =
        `completion ${i} of ${tokens.length} tokens, ended by '${stopReason}': expected ${expected}, got ${got}; ` +
        `the stop ids are ${stopIds.join(', ')}`;
      return { name, state: 'failed', detail };
    }
    if (stopReason === 'stop') ended += 1;
  }
  const detail = `${ended} of ${completions.length} completions ended with a stop id; the stop ids are ${stopIds.join(', ')}`;
  return { name, state: 'ok', detail };
}

/** Tokens that were sampled in one go, and the ids that they were sampled after. */
export interface SampledRun {
  prompt: readonly number[];
  tokens: readonly number[];
}

/** The positions that train these runs in one sequence: each run's own, right after its prompt. */
export function positionsOf(runs: readonly SampledRun[]): number[] {
  return runs.flatMap(({ prompt, tokens }) => tokens.map((_, t) => prompt.length + t));
}

export interface IdSample {
  /** What it is, for the sentence. */
  what: string;
  /** Ids as the sampler gave them. */
  sampled: readonly number[];
  /** The ids that stand for them where they are read again. */
  got: readonly number[];
}

/** What was sampled stays the ids that were sampled: in later prompts and in what is trained. */
export function auditSampledIds(samples: readonly IdSample[]): AuditCheck {
  const name = 'sampled ids';
  for (const { what, sampled, got } of samples) {
    const length = Math.max(sampled.length, got.length);
    const t = Array.from({ length }).findIndex((_, i) => sampled[i] !== got[i]);
    if (t < 0) continue;
    const detail = `${what}: expected the ${sampled.length} ids that were sampled, got ${got[t] ?? 'nothing'} for ${sampled[t] ?? 'nothing'} at token ${t}; what was sampled must never be encoded again, and no token added to it`;
    return { name, state: 'failed', detail };
  }
  return samples.length > 0
    ? { name, state: 'ok', detail: `${samples.length} sampled turns stand as they were sampled` }
    : { name, state: 'failed', detail: 'expected at least one sampled turn, got none' };
}

/** Each datum's trained positions are exactly the expected ones, see `positionsOf`: all of them and no others. */
export function auditMask(samples: readonly { datum: Datum; expected: readonly number[] }[]): AuditCheck {
  const name = 'mask';
  let trained = 0;
  for (const [i, { datum, expected }] of samples.entries()) {
    const { positions } = datum;
    if (positions.length !== expected.length || positions.some((position, t) => position !== expected[t])) {
      const detail = `datum ${i}: expected ${span(expected)}, which were sampled, got ${span(positions)}`;
      return { name, state: 'failed', detail };
    }
    trained += positions.length;
  }
  const detail = `${trained} trained tokens in ${samples.length} datums are exactly the sampled ones`;
  return trained > 0
    ? { name, state: 'ok', detail }
    : { name, state: 'failed', detail: 'expected at least one trained token, got none' };
}

function span(positions: readonly number[]): string {
  const range = positions.length === 0 ? '' : ` from ${positions[0]} to ${positions.at(-1)}`;
  return `${positions.length} positions${range}`;
}

export interface LogprobCheck extends AuditCheck {
  /** Every pair is the same 32-bit float. */
  bitEqual: boolean;
  /** In nats. Infinity when a value is not finite, or lengths differ. */
  largestDifference: number;
}

/**
 * For the same weights, tokens and temperature, the sampler and the trainer report the same log-probabilities.
 * `tolerance`: the largest difference that passes, in nats. Default 0: equal to the bit, as the embedded engine
 * promises; a remote service cannot.
 */
export function auditLogprobs(
  sampled: readonly ArrayLike<number>[],
  trained: readonly ArrayLike<number>[],
  tolerance = 0,
): LogprobCheck {
  const name = 'log-probabilities';
  let tokens = 0;
  let bitEqual = sampled.length === trained.length;
  let largestDifference = bitEqual ? 0 : Infinity;
  sampled.forEach((ours, i) => {
    const theirs = trained[i] ?? [];
    if (ours.length !== theirs.length) {
      bitEqual = false;
      largestDifference = Infinity;
      return;
    }
    for (let t = 0; t < ours.length; t++) {
      const a = Math.fround(ours[t]!);
      const b = Math.fround(theirs[t]!);
      const difference = Math.abs(a - b);
      if (!Number.isFinite(difference) || !Object.is(a, b)) bitEqual = false;
      largestDifference = Math.max(largestDifference, Number.isFinite(difference) ? difference : Infinity);
      tokens += 1;
    }
  });
  const ok = tokens > 0 && (tolerance > 0 ? largestDifference <= tolerance : bitEqual);
  const found = bitEqual ? 'equal to the bit' : `largest difference ${largestDifference}`;
  const expected = tokens === 0 ? 'at least one token' : `a difference of at most ${tolerance}`;
  const detail = `sampler and trainer over ${tokens} tokens: ${found}${ok ? '' : `; expected ${expected}: the same weights, ids and temperature`}`;
  return { name, state: ok ? 'ok' : 'failed', detail, bitEqual, largestDifference };
}

/** Norms of the accumulated gradient by parameter, as `Engine.gradientNorms` gives them. */
export interface GradientProbe {
  before: Readonly<Record<string, number>>;
  /** After a loss whose derivative is zero at every trained position. */
  zero: Readonly<Record<string, number>>;
  /** After a loss whose derivative is not zero at one of them. */
  one: Readonly<Record<string, number>>;
  /** The same with tokens behind the sequence that are not trained; null where that cannot be compared. */
  followed: Readonly<Record<string, number>> | null;
  /** After the gradient was forgotten. */
  after: Readonly<Record<string, number>>;
}

/** Sums are ordered otherwise in a longer sequence: a share of the whole norm. */
const GRADIENT_TOLERANCE = 1e-3;

/** Only trained positions have a gradient, they do have one, and the probe left nothing behind. Null: the engine gives no gradients. */
export function auditGradient(probe: GradientProbe | null): AuditCheck {
  const name = 'gradient';
  if (probe === null) {
    const detail =
      'not looked at: the service gives no gradients; which of them it makes of a loss was measured on an adapter of its own when the engine was opened';
    return { name, state: 'ok', detail };
  }
  const { before, zero, one, followed, after } = probe;
  const fail = (detail: string): AuditCheck => ({ name, state: 'failed', detail });
  const [start, none, some, end] = [before, zero, one, after].map(wholeNorm) as [
    number,
    number,
    number,
    number,
  ];
  if (start !== 0)
    return fail(`expected no accumulated gradient before training, got norm ${start}; zero it first`);
  if (none !== 0) {
    return fail(
      `a loss without derivative: expected no gradient, got norm ${none}: positions that are not trained reach the weights`,
    );
  }
  if (!(some > 0 && Number.isFinite(some))) {
    return fail(
      `a loss on one token: expected a finite gradient above 0, got norm ${some}: nothing would be trained`,
    );
  }
  if (followed !== null) {
    const names = [...new Set([...Object.keys(one), ...Object.keys(followed)])];
    const moved = names.find(
      (parameter) =>
        !(Math.abs((one[parameter] ?? 0) - (followed[parameter] ?? 0)) <= GRADIENT_TOLERANCE * some),
    );
    if (moved !== undefined) {
      return fail(
        `${moved}: expected the same gradient with untrained tokens behind, norm ${one[moved] ?? 0}, got ${followed[moved] ?? 0}`,
      );
    }
  }
  if (end !== 0) return fail(`expected no gradient left after it was forgotten, got norm ${end}`);
  return {
    name,
    state: 'ok',
    detail: `norm ${some.toPrecision(3)} from one trained token, none from the others`,
  };
}

function wholeNorm(norms: Readonly<Record<string, number>>): number {
  return Math.hypot(...Object.values(norms));
}

/** What the template keeps of a conversation; see `text/check-template.ts`. */
export interface TemplateFacts {
  prefixPreserving: boolean;
  takesSystem: boolean;
  keepsThinking: boolean;
  detail: string;
}

/**
 * The template leaves earlier turns as they were when a turn is added, in the conversations of this run. `system`: they
 * begin with a system message. `broken`: what building them threw, undefined when it threw nothing.
 */
export function auditTemplate(facts: TemplateFacts, system: boolean, broken: string | undefined): AuditCheck {
  const name = 'template';
  const fix = 'put a template that keeps earlier turns into chat_template.jinja of the model directory';
  if (broken !== undefined) return { name, state: 'failed', detail: broken };
  const works = system ? facts.takesSystem : facts.prefixPreserving || facts.keepsThinking;
  if (!works) return { name, state: 'failed', detail: `${facts.detail}; ${fix}` };
  const others = [
    !facts.takesSystem && 'a system message',
    !facts.keepsThinking && 'answers with <think>',
  ].filter((other) => other !== false);
  const without = others.length === 0 ? '' : `; not with ${others.join(' or ')}, which this run has not`;
  return { name, state: 'ok', detail: `earlier turns stay as they are${without}` };
}

/** A value as a sentence shows it, cut where it is long. */
function shown(value: string): string {
  const text = JSON.stringify(value);
  return text.length > 200 ? `${text.slice(0, 200)}...` : text;
}
