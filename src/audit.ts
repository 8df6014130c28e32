/**
 * The step-0 audit: no weight moves before it passes.
 *
 * Supplies the pure checks of `method/audit.ts` with what they look at: the verifier on known answers, a few real
 * episodes of the start model, the trainer's log-probabilities of what the sampler wrote, the chat template.
 */
import { collect } from './collect.ts';
import { R3Error } from './lib/errors.ts';
import { groupSignal } from './method/advantage.ts';
import {
  auditLogprobs,
  auditMask,
  auditSignal,
  auditStartRate,
  auditStopTokens,
  auditTemplate,
  auditVerifier,
  type AuditCheck,
} from './method/audit.ts';
import { reflectionDatum } from './method/datum.ts';
import type { Failure, Problem } from './method/episode.ts';
import { groupsOf } from './method/group.ts';
import type { Mined } from './mine.ts';
import type { Player } from './player.ts';
import { checkTemplate } from './text/check-template.ts';
import type { TrainOptions } from './train.ts';

export type { AuditCheck } from './method/audit.ts';

/** Failures that are played for the audit, and problems whose known answers are checked. */
const GROUPS = 16;
const KNOWN_PROBLEMS = 20;
/** Draws of the audit's episodes: a step that training never has. */
const AUDIT_STEP = 0x40000000;

/** All checks, passed or not. `tolerance`: see `auditLogprobs`. Throws R3Error `too-long`, see `requireRoom`. */
export async function audit<P extends Problem>(
  player: Player<P>,
  mined: Mined<P>,
  options: TrainOptions,
  tolerance = 0,
): Promise<AuditCheck[]> {
  requireRoom(player, mined.failures);
  const problems = [...new Map(mined.failures.map((f) => [f.problem.id, f.problem])).values()].slice(
    0,
    KNOWN_PROBLEMS,
  );
  const played = await collect(player, mined.failures.slice(0, GROUPS), options, {
    seed: options.seed,
    step: AUDIT_STEP,
  });
  const episodes = played.map(({ episode }) => episode);
  const reflections = episodes.flatMap(({ reflection }) => reflection ?? []);
  const samples = played.flatMap(({ episode: { reflection }, prompt }) =>
    reflection === null
      ? []
      : [{ prompt, reflection: reflection.tokens, datum: reflectionDatum(prompt, reflection.tokens) }],
  );
  const scored = await player.engine.logprobs(
    samples.map((s) => s.datum),
    { temperature: player.options.temperature },
  );
  const template = checkTemplate(player.format);
  return [
    await auditVerifier(player.task, problems, player.prompts),
    auditTemplate(
      template.prefixPreserving,
      template.detail === '' ? 'earlier turns stay as they are' : template.detail,
    ),
    auditStopTokens(reflections, player.format.stopIds),
    auditMask(samples),
    auditLogprobs(
      reflections.map((reflection) => reflection.logprobs),
      scored,
      tolerance,
    ),
    auditStartRate(mined.passed, mined.attempts),
    auditSignal(
      groupsOf(episodes).map((group) => groupSignal(group.map((e) => e.reward))),
      options.reflectionsPerFailure,
    ),
  ];
}

/** Throws R3Error `too-long` for the first failure whose longest reflection and retry do not fit the context. */
function requireRoom<P extends Problem>(player: Player<P>, failures: readonly Failure<P>[]): void {
  const { contextLength } = player.engine.capabilities();
  const { maxReflectionTokens, maxAttemptTokens } = player.options;
  const nothing = player.asWritten('');
  for (const { id, problem, attempt } of failures) {
    const asked = player.askAgain(problem, player.askToReflect(problem, attempt), nothing).tokens.length;
    const longest = asked + maxReflectionTokens + maxAttemptTokens;
    if (longest <= contextLength) continue;
    throw new R3Error(
      'task',
      'too-long',
      `failure ${id}: expected at most ${contextLength} tokens (the model's context), got up to ${longest}: ${asked} of prompts and attempt, ${maxReflectionTokens} of reflection, ${maxAttemptTokens} of retry. Lower --max-reflection-tokens or --max-attempt-tokens, or leave the problem out.`,
    );
  }
}

/** Throws R3Error `bad-task` that names each failed check. */
export function requireAudit(checks: readonly AuditCheck[]): void {
  const failed = checks.filter((check) => !check.ok);
  if (failed.length === 0) return;
  throw new R3Error(
    'task',
    'bad-task',
    `the audit before training failed, no weight was changed:\n${failed.map((c) => `  ${c.name}: ${c.detail}`).join('\n')}`,
  );
}
