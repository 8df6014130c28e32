/** Reads a file of failures that `r3 mine` wrote, for the model, task and sampling that training is about to begin with. */
import { z } from 'zod';
import type { Capabilities } from '../engine/engine.ts';
import { R3Error } from '../lib/errors.ts';
import { explainIssue } from '../lib/json.ts';
import { readJsonl } from '../lib/jsonl.ts';
import type { Failure } from '../method/episode.ts';
import type { Task } from '../method/task.ts';
import { posedHash } from '../mine.ts';
import type { Actor, PlayerOptions } from '../player.ts';
import { rowError } from './session.ts';

/** Who samples from here on. */
type SampledBy = Pick<Actor, 'task' | 'prompts'> & { options: Pick<PlayerOptions, 'temperature'> };

const count = z.int().min(0);

const schema = z.strictObject({
  version: z.literal(1),
  id: z.string().min(1),
  problem: z.looseObject({ id: z.string().min(1) }),
  sampleIndex: count,
  samples: count,
  failed: count,
  attempt: z.strictObject({
    tokens: z.array(count),
    logprobs: z.array(z.number()),
    text: z.string(),
    stopReason: z.enum(['stop', 'length', 'cancelled']),
  }),
  verdict: z.strictObject({ ok: z.literal(false), class: z.string(), why: z.string() }),
  modelHash: z.string(),
  prompts: z.strictObject({ name: z.string(), sha256: z.string() }).optional(),
  sampling: z.strictObject({ temperature: z.number(), maxTokens: count, seed: count }),
  minedAt: count.optional(),
}) satisfies z.ZodType<Failure>;

/**
 * Throws R3Error `bad-row` or `bad-file` with file and line, `mismatch` for failures of another model, of other prompts
 * (where a failure says which) or of another temperature.
 */
export function loadFailures(
  path: string,
  by: SampledBy,
  { modelHash, vocabularySize }: Pick<Capabilities, 'modelHash' | 'vocabularySize'>,
): Failure[] {
  const failures: Failure[] = [];
  const ids = new Set<string>();
  for (const row of readJsonl(path)) {
    const where = `${path} line ${failures.length + 1}`;
    const parsed = schema.safeParse(row);
    if (!parsed.success) {
      const why = `${explainIssue(parsed.error.issues, row)}; is it a file that r3 mine wrote?`;
      throw rowError(where, new Error(why));
    }
    const failure = parsed.data;
    if (failure.modelHash !== modelHash) {
      throw new R3Error(
        'store',
        'mismatch',
        `${where}: expected failures of the start model (${modelHash}), got one of ${failure.modelHash}; mine them with this model`,
      );
    }
    const { tokens, logprobs } = failure.attempt;
    const unknown = tokens.find((token) => token >= vocabularySize);
    if (unknown !== undefined) {
      const why = `attempt.tokens: expected ids below ${vocabularySize}, the model's vocabulary, got ${unknown}; mine the failures again`;
      throw rowError(where, new Error(why));
    }
    if (tokens.length !== logprobs.length) {
      const why = `attempt.logprobs: expected ${tokens.length}, one a token, got ${logprobs.length}; mine the failures again`;
      throw rowError(where, new Error(why));
    }
    if (ids.has(failure.id))
      throw rowError(where, new Error(`id: expected a new one, got ${failure.id} again`));
    ids.add(failure.id);
    const read = { ...failure, problem: problemOf(by.task, failure, where, failures.length) };
    requireSameSampling(read, by, where);
    failures.push(read);
  }
  if (failures.length === 0) throw new R3Error('store', 'bad-file', `${path}: expected failures, got none`);
  return failures;
}

/** Training goes on from what was sampled: attempts at another prompt or temperature are not this model's failures. */
function requireSameSampling(
  { problem, prompts: mined, sampling }: Failure,
  { task, prompts, options: { temperature } }: SampledBy,
  where: string,
): void {
  const refuse = (expected: string, got: string, fix: string): never => {
    throw new R3Error(
      'store',
      'mismatch',
      `${where}: expected a failure mined with ${expected}, got one mined with ${got}; mine the failures again, or ${fix}`,
    );
  };
  if (sampling.temperature !== temperature) {
    const theirs = sampling.temperature;
    refuse(`the temperature ${temperature}`, `${theirs}`, `give --temperature ${theirs}`);
  }
  if (mined === undefined) return;
  if (mined.name !== prompts.name)
    refuse(`the prompts ${prompts.name}`, mined.name, `give --prompts ${mined.name}`);
  if (mined.sha256 !== posedHash(task, problem, prompts))
    refuse(`the prompt that the task ${task.name} has now`, 'another', 'give the task as it was');
}

function problemOf(task: Task, { problem }: Failure, where: string, index: number): Failure['problem'] {
  try {
    return task.parseRow(problem, index);
  } catch (error) {
    throw rowError(where, error);
  }
}
