/**
 * The checks that must hold before any weight moves. Each takes values that the loop measured and returns a
 * verdict with a sentence; none of them samples, prints or stops anything. The loop refuses to train on a failed one.
 *
 * They catch what otherwise shows only as a run that does not learn: a verifier that rejects right answers, a stop
 * token that the trainer does not know, a mask that is off by one, a trainer that disagrees with its sampler, a
 * template that rewrites earlier turns, and a start at which no group can have a signal.
 */
import type { Datum } from '../engine/engine.ts';
import { messageOf } from '../lib/errors.ts';
import type { GroupSignal } from './advantage.ts';
import type { Problem, Written } from './episode.ts';
import type { Prompts, Task } from './task.ts';

export interface AuditCheck {
  /** Stable, for logs and pages. */
  name: 'verifier' | 'stop tokens' | 'mask' | 'log-probabilities' | 'template' | 'start rate' | 'signal';
  ok: boolean;
  /** One sentence: what was looked at, and the first thing that is wrong. */
  detail: string;
}

/** The verifier accepts the known-good answers and rejects the junk; among them must be both. */
export async function auditVerifier<P extends Problem>(
  task: Task<P>,
  problems: readonly P[],
  prompts: Prompts,
): Promise<AuditCheck> {
  const name = 'verifier';
  let good = 0;
  let junk = 0;
  for (const problem of problems) {
    for (const { answer, ok } of task.known(problem, prompts)) {
      const got = await tryVerify(task, problem, answer, prompts);
      if (got !== ok) {
        const detail = `problem ${problem.id}, answer ${JSON.stringify(answer)}: expected ${outcome(ok)}, got ${outcome(got)}`;
        return { name, ok: false, detail };
      }
      if (ok) good += 1;
      else junk += 1;
    }
  }
  const detail = `${good} known-good answers accepted, ${junk} junk answers rejected`;
  if (good > 0 && junk > 0) return { name, ok: true, detail };
  return { name, ok: false, detail: `${detail}: expected at least one of each; see the task's known()` };
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

/**
 * A completion that ended does so with a stop id, and holds no other. One that was cut off holds none. At least one
 * must have ended: a model that never stops has no reflection to retry after.
 */
export function auditStopTokens(
  completions: readonly Pick<Written, 'tokens' | 'stopReason'>[],
  stopIds: readonly number[],
): AuditCheck {
  const name = 'stop tokens';
  const stops = new Set(stopIds);
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
      return { name, ok: false, detail };
    }
    if (stopReason === 'stop') ended += 1;
  }
  const detail = `${ended} of ${completions.length} completions ended with a stop id`;
  if (ended > 0) return { name, ok: true, detail };
  return {
    name,
    ok: false,
    detail: `${detail}: expected at least one; raise the length limit or check the stop ids`,
  };
}

/** Each datum's trained positions are exactly its sampled reflection: the right ids, all of them, right after the prompt. */
export function auditMask(
  samples: readonly { datum: Datum; prompt: readonly number[]; reflection: readonly number[] }[],
): AuditCheck {
  const name = 'mask';
  let trained = 0;
  for (const [i, { datum, prompt, reflection }] of samples.entries()) {
    const { tokens, positions } = datum;
    const inPlace = positions.every((position, t) => position === prompt.length + t);
    const sameIds = reflection.every((id, t) => tokens[prompt.length + t] === id);
    if (positions.length !== reflection.length || !inPlace || !sameIds) {
      const detail =
        `datum ${i}: expected positions ${prompt.length} to ${prompt.length + reflection.length - 1} with the ` +
        `sampled ids, got ${positions.length} positions ${span(positions)}${sameIds ? '' : ' and other ids'}`;
      return { name, ok: false, detail };
    }
    trained += positions.length;
  }
  const detail = `${trained} trained tokens in ${samples.length} datums are exactly the sampled reflections`;
  return trained > 0
    ? { name, ok: true, detail }
    : { name, ok: false, detail: 'expected at least one trained token, got none' };
}

function span(positions: readonly number[]): string {
  return positions.length === 0 ? '' : `from ${positions[0]} to ${positions.at(-1)}`;
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
  const detail = `sampler and trainer over ${tokens} tokens: ${found}${ok ? '' : `; expected ${expected}`}`;
  return { name, ok, detail, bitEqual, largestDifference };
}

/** The chat template leaves earlier turns as they were when a turn is added. `detail` says what was rendered. */
export function auditTemplate(prefixPreserving: boolean, detail: string): AuditCheck {
  return { name: 'template', ok: prefixPreserving, detail };
}

/** The model passes some first tries and fails others: else there is nothing to reflect on, or no way to a reward. */
export function auditStartRate(passes: number, attempts: number): AuditCheck {
  const name = 'start rate';
  const detail = `${passes} of ${attempts} first tries passed`;
  if (passes > 0 && passes < attempts) return { name, ok: true, detail };
  return {
    name,
    ok: false,
    detail: `${detail}: expected more than none and fewer than all; choose other problems`,
  };
}

/** At the chosen group size, some group holds both a pass and a failure: only such a group has a policy gradient. */
export function auditSignal(signals: readonly GroupSignal[], groupSize: number): AuditCheck {
  const name = 'signal';
  const mixed = signals.filter((signal) => signal === 'mixed').length;
  const detail = `${mixed} of ${signals.length} groups of ${groupSize} reflections are mixed`;
  if (mixed > 0) return { name, ok: true, detail };
  return { name, ok: false, detail: `${detail}: expected at least one; use larger groups or more failures` };
}
