/**
 * The folder of `r3 forgetting --out`: a JSON file for each model and task, written whole when the task is measured.
 *
 * A file says what was measured (model, kernels, prompts, problems, sampling, seed) beside its rows. Measured again with
 * the same of all that, it is taken as it is; with anything else it is refused, never written over.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import type { TaskResult } from '../forgetting.ts';
import { messageOf, R3Error } from '../lib/errors.ts';
import { makeDirectory, readTextFile, removePartials, writeFileAtomic } from '../lib/files.ts';
import { explainIssue, parseJsonObject } from '../lib/json.ts';

/** Some hundred bytes a row: room for a million problems. */
const MAX_BYTES = 256 << 20;

const outcome = z.boolean().nullable();
const schema = z.strictObject({
  version: z.literal(1),
  facts: z.looseObject({}),
  task: z.string(),
  by: z.enum(['generation', 'log-probability']),
  accuracy: z.strictObject({ rate: z.number().nullable(), low: z.number(), high: z.number(), n: z.int() }),
  rows: z.array(z.strictObject({ problem: z.string(), passed: outcome, bySum: outcome.optional() })),
});

export interface ResultPlace {
  which: 'model' | 'before';
  /** Of the task in the suite, from 0. */
  place: number;
  task: string;
}

export interface Results {
  /** The result that is kept, or else what `make` gives, which is then kept. Throws R3Error `mismatch` for other facts. */
  findOrMake(at: ResultPlace, facts: object, make: () => Promise<TaskResult>): Promise<TaskResult>;
}

/** Throws R3Error `no-space` when the folder cannot be made. */
export function openResults(directory: string): Results {
  makeDirectory(directory);
  removePartials(directory);
  return {
    async findOrMake({ which, place, task }, facts, make) {
      const name = task.replaceAll(/[^\w.-]/g, '_');
      const path = join(directory, `${which}-${String(place + 1).padStart(2, '0')}-${name}.json`);
      const plainFacts = JSON.parse(JSON.stringify(facts)) as object;
      if (existsSync(path)) return readResult(path, plainFacts);
      const result = await make();
      const kept = { version: 1, facts: plainFacts, ...result };
      writeFileAtomic(path, `${JSON.stringify(kept)}\n`);
      return result;
    },
  };
}

function readResult(path: string, facts: object): TaskResult {
  let value: unknown;
  try {
    value = parseJsonObject(readTextFile(path, MAX_BYTES));
  } catch (cause) {
    throw new R3Error('store', 'bad-file', `${path}: ${messageOf(cause)}`, { cause });
  }
  const parsed = schema.safeParse(value);
  if (!parsed.success)
    throw new R3Error('store', 'bad-file', `${path}: ${explainIssue(parsed.error.issues, value)}`);
  const { facts: kept, version: _, ...result } = parsed.data;
  const difference = firstDifference(facts, kept);
  if (difference !== undefined)
    throw new R3Error('store', 'mismatch', `${path}: ${difference}; choose another --out`);
  const rate = result.accuracy.rate ?? Number.NaN;
  return { ...result, accuracy: { ...result.accuracy, rate } } as TaskResult;
}

/** `model.hash: expected X, got Y`, of the first value that differs. */
function firstDifference(expected: object, got: object): string | undefined {
  const valueOf = (object: object, name: string): unknown => (object as Record<string, unknown>)[name];
  for (const name of new Set([...Object.keys(expected), ...Object.keys(got)])) {
    const [a, b] = [valueOf(expected, name), valueOf(got, name)];
    if (JSON.stringify(a) === JSON.stringify(b)) continue;
    const isNested = typeof a === 'object' && typeof b === 'object' && a !== null && b !== null;
    const inside = isNested ? firstDifference(a, b) : undefined;
    return inside === undefined
      ? `${name}: expected ${JSON.stringify(a)}, got ${JSON.stringify(b)}`
      : `${name}.${inside}`;
  }
  return undefined;
}
