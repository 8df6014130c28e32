/**
 * The folder of an evaluation: everything that was written in it, and what it adds up to.
 *
 *   config.json    what is measured, as the evaluation began
 *   rows.jsonl     a row per problem of each part (`method/evaluation-rows.ts`), in the order of the work
 *   summary.json   written when all rows are there     lock.<pid>: the process that writes the folder
 *
 * Rows are only ever appended; a torn last line is dropped on open. As every row is a function of configuration, seed
 * and place, an evaluation that goes on after a stop ends with the same bytes. One process writes a folder.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { messageOf, R3Error } from '../lib/errors.ts';
import {
  isPartial,
  makeDirectory,
  removeEmpty,
  removePartials,
  storeError,
  writeFileAtomic,
} from '../lib/files.ts';
import { explainIssue, parseJsonObject } from '../lib/json.ts';
import { openJsonl, readJsonl } from '../lib/jsonl.ts';
import { isLock, takeLock } from '../lib/lock.ts';
import type { KeptRow, MeasurementKey, PartName, PartRows, Parts } from '../method/evaluation-rows.ts';

const CONFIG = 'config.json';
const ROWS = 'rows.jsonl';
const SUMMARY = 'summary.json';

/** What config.json holds; more of it is the affair of the command that reads it. */
export interface StoredConfig {
  version: number;
  command: 'eval';
  [option: string]: unknown;
}

export interface EvaluationView {
  directory: string;
  config: StoredConfig;
  /** The kept rows of a measurement; they grow while it is written. */
  partsOf(key: MeasurementKey): Parts;
  /** summary.json; null while the evaluation is not done. */
  summary: unknown;
}

export interface EvaluationFolder extends EvaluationView {
  /** How many rows are kept. */
  count(): number;
  keep<Name extends PartName>(part: Name, key: MeasurementKey, row: PartRows[Name]): void;
  writeSummary(summary: object): void;
  close(): void;
}

/** Throws R3Error `bad-file` when the folder exists and is not empty, `no-space` when it cannot be made. */
export function createEvaluation(directory: string, config: StoredConfig): EvaluationFolder {
  const made = makeDirectory(directory);
  const unlock = takeLock(directory, 'evaluation');
  try {
    const names = readdirSync(directory).filter((name) => !isLock(name) && !isPartial(name));
    if (names.length > 0) {
      throw new R3Error(
        'store',
        'bad-file',
        `${directory}: expected a new or empty folder, got one with files; go on with r3 eval --resume ${directory}, or choose another folder`,
      );
    }
    writeFileAtomic(join(directory, CONFIG), asJson(config));
    return openLocked(directory, config, unlock);
  } catch (error) {
    unlock();
    for (const path of made.toReversed()) removeEmpty(path);
    throw storeError(directory, error);
  }
}

/** To go on with an evaluation. Throws R3Error `bad-file` when there is none, `mismatch` when a process writes it. */
export function openEvaluation(directory: string): EvaluationFolder {
  const config = readEvaluationConfig(directory);
  const unlock = takeLock(directory, 'evaluation');
  try {
    return openLocked(directory, config, unlock);
  } catch (error) {
    unlock();
    throw storeError(directory, error);
  }
}

/** Reads an evaluation, also while it is written. Throws R3Error `bad-file`. */
export function readEvaluation(directory: string): EvaluationView {
  const config = readEvaluationConfig(directory);
  const rows = join(directory, ROWS);
  const store = makeStore(existsSync(rows) ? readRows(rows) : []);
  return { directory, config, partsOf: store.partsOf, summary: readSummary(directory) };
}

function openLocked(directory: string, config: StoredConfig, unlock: () => void): EvaluationFolder {
  removePartials(directory);
  const file = openJsonl(join(directory, ROWS));
  try {
    const store = makeStore(readRows(file.path));
    return {
      directory,
      config,
      partsOf: store.partsOf,
      summary: readSummary(directory),
      count: () => file.count(),
      keep: (part, key, row) => {
        const kept = { version: 1, part, ...key, ...withoutLogprobs(row) } as unknown as KeptRow;
        file.append(kept);
        store.add(kept);
      },
      writeSummary: (summary) => writeFileAtomic(join(directory, SUMMARY), asJson(summary)),
      close: () => {
        file.close();
        unlock();
      },
    };
  } catch (error) {
    file.close();
    throw error;
  }
}

/** Rows by measurement and part, in the order of their places. */
function makeStore(rows: Iterable<KeptRow>): {
  add(row: KeptRow): void;
  partsOf(key: MeasurementKey): Parts;
} {
  const measurements = new Map<string, { [Name in PartName]: PartRows[Name][] }>();
  const partsOf = ({
    model,
    seed,
    temperature,
  }: MeasurementKey): { [Name in PartName]: PartRows[Name][] } => {
    const name = `${model} ${seed} ${temperature}`;
    const found = measurements.get(name) ?? noParts();
    measurements.set(name, found);
    return found;
  };
  const add = (row: KeptRow): void => {
    const part = partsOf(row)[row.part] as KeptRow[];
    // Almost always the last: only a row that was missing for a while comes after later ones.
    const after = part.findLastIndex(({ place }) => place < row.place);
    part.splice(after + 1, 0, row);
  };
  for (const row of rows) add(row);
  return { add, partsOf };
}

function noParts(): { [Name in PartName]: PartRows[Name][] } {
  return {
    tries: [],
    controls: [],
    forced: [],
    rewritten: [],
    startStart: [],
    startTrained: [],
    trainedStart: [],
    trainedTrained: [],
  };
}

const text = {
  tokens: z.array(z.int()),
  text: z.string(),
  stopReason: z.enum(['stop', 'length', 'cancelled', 'filtered']),
  tokenCount: z.int().nonnegative().optional(),
};
const score = z.union([
  z.null(),
  z.strictObject({ ok: z.literal(true) }),
  z.strictObject({ ok: z.literal(false), class: z.string(), why: z.string() }),
  z.strictObject({ error: z.string() }),
]);
const tried = z.strictObject({ ...text, score });
const secondTry = z.strictObject({
  reflection: z.strictObject(text).nullable(),
  retry: tried.nullable(),
  by: z.string().optional(),
});
const header = {
  version: z.literal(1),
  model: z.enum(['model', 'start']),
  seed: z.int(),
  temperature: z.number(),
  problem: z.string(),
  place: z.int(),
};
const RETRIES = [
  'secondTryWithoutReflection',
  'afterFixedText',
  'afterForeignReflection',
  'afterEmptyReflection',
  'afterForcedBeginning',
] as const;
const reading = z.strictObject({
  ...header,
  part: z.enum(['startStart', 'startTrained', 'trainedStart', 'trainedTrained']),
  retry: tried.nullable(),
});
const rowSchema = z.discriminatedUnion('part', [
  z.strictObject({
    ...header,
    part: z.literal('tries'),
    firstTry: tried,
    secondTry: secondTry.nullable(),
    leaked: z.boolean().nullable(),
    kind: z.string().optional(),
    hint: z.enum(['true', 'false', 'none']).optional(),
  }),
  z.strictObject({
    ...header,
    part: z.literal('controls'),
    secondTries: z.partialRecord(z.enum(RETRIES), secondTry.nullable()),
    attempts: z.array(tried),
  }),
  z.strictObject({ ...header, part: z.literal('forced'), secondTry }),
  z.strictObject({ ...header, part: z.literal('rewritten'), reflection: z.strictObject(text) }),
  reading,
]);

function* readRows(path: string): Generator<KeptRow, void, undefined> {
  let number = 0;
  for (const row of readJsonl(path, 'skip-torn')) {
    number += 1;
    const parsed = rowSchema.safeParse(row);
    if (!parsed.success) {
      throw new R3Error('store', 'bad-file', `${path}:${number}: ${explainIssue(parsed.error.issues, row)}`);
    }
    yield parsed.data as KeptRow;
  }
}

const configSchema = z.looseObject({ version: z.literal(1), command: z.literal('eval') });

/** config.json alone. Throws R3Error `bad-file` where it is none of an evaluation. */
export function readEvaluationConfig(directory: string): StoredConfig {
  const path = join(directory, CONFIG);
  if (!existsSync(path)) {
    throw new R3Error(
      'store',
      'bad-file',
      `${directory}: expected an evaluation, got no ${CONFIG} in it; check the path`,
    );
  }
  const config = readJson(path);
  const parsed = configSchema.safeParse(config);
  if (parsed.success) return parsed.data;
  throw new R3Error('store', 'bad-file', `${path}: ${explainIssue(parsed.error.issues, config)}`);
}

function readSummary(directory: string): unknown {
  const path = join(directory, SUMMARY);
  return existsSync(path) ? readJson(path) : null;
}

function readJson(path: string): Record<string, unknown> {
  try {
    return parseJsonObject(readFileSync(path, 'utf8'));
  } catch (cause) {
    throw new R3Error('store', 'bad-file', `${path}: ${messageOf(cause)}`, { cause });
  }
}

/** Log-probabilities of what was sampled can be had again from its ids; they would double the file. */
function withoutLogprobs<T>(row: T): T {
  return JSON.parse(
    JSON.stringify(row, (key, value: unknown) => (key === 'logprobs' ? undefined : value)),
  ) as T;
}

function asJson(value: object): string {
  return `${JSON.stringify(value, null, 2)}\n`;
}
