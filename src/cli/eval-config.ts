/**
 * The configuration of an evaluation: what config.json in its folder holds, for `--resume` and `r3 compare`.
 *
 * Every value is resolved before it is written, so that an evaluation that goes on depends on nothing but its folder,
 * the models, the problems and the kernels, and ends with the same bytes.
 */
import { createHash } from 'node:crypto';
import { z } from 'zod';
import { R3Error } from '../lib/errors.ts';
import { explainIssue } from '../lib/json.ts';
import { CONTROL_NAMES, CONTROLS, type ControlName } from '../method/controls.ts';
import type { Problem } from '../method/episode.ts';
import type { StoredConfig } from '../runs/evaluation.ts';
import { samplingSchema } from './train-config.ts';
import { orList, usageError } from './options.ts';

const count = z.int().positive();
/** A folder and the hash of its weights; or a name on a server, which does not tell its weights. */
const model = z.strictObject({ directory: z.string(), hash: z.string().nullable() });

const schema = z.strictObject({
  version: z.literal(1),
  command: z.literal('eval'),
  task: z.string(),
  /** The file of a task that does not come with r3. */
  taskFile: z.strictObject({ path: z.string(), sha256: z.string() }).nullable().default(null),
  prompts: z.looseObject({ name: z.string() }),
  engine: z.enum(['local', 'openai', 'tinker']).default('local'),
  /** The folder with the texts of models on a service; null where they have their own. */
  texts: z.string().nullable().default(null),
  /** Of a server: its address, which holds no credentials. */
  url: z.string().nullable().default(null),
  model,
  /** The model that it is compared with. */
  start: model.nullable(),
  /** `hash`: of the problems that were read, in their order. `trained`: how many of them the run trained on. */
  problems: z.strictObject({
    file: z.string(),
    limit: count.nullable(),
    count: z.int(),
    hash: z.string(),
    trained: z.int().default(0),
  }),
  /** null: a server's own affair. */
  dtype: z.enum(['f32', 'bf16', 'int8']).nullable(),
  /** The longest sequence; null: what the engine takes by itself. */
  context: count.nullable(),
  /** The engine's description when the evaluation began. */
  kernels: z.string(),
  sampling: samplingSchema,
  seeds: z.array(z.int()).min(1),
  controls: z.array(z.enum(CONTROL_NAMES)),
  fixedText: z.string(),
  /** The run that it is about, and the options that were taken from its configuration. */
  run: z
    .strictObject({ directory: z.string(), options: z.array(z.string()) })
    .nullable()
    .default(null),
});

export type EvaluationConfig = z.infer<typeof schema>;

/** Throws R3Error `mismatch` when an evaluation of another version wrote it. */
export function parseEvaluationConfig(config: StoredConfig, directory: string): EvaluationConfig {
  const parsed = schema.safeParse(config);
  if (parsed.success) return parsed.data;
  throw new R3Error(
    'store',
    'mismatch',
    `${directory}: config.json: ${explainIssue(parsed.error.issues, config)}`,
  );
}

/** What tells two lists of problems apart. */
export function hashProblems(problems: readonly Problem[]): string {
  const hash = createHash('sha256');
  for (const problem of problems) hash.update(`${JSON.stringify(problem)}\n`);
  return hash.digest('hex');
}

/** A problem without its id, which may be no more than its place in a file; the id where there is nothing else. */
export function contentOf({ id, ...content }: Problem): string {
  return JSON.stringify(Object.keys(content).length === 0 ? id : content);
}

/** `1,2,3`: distinct whole numbers. */
export function parseSeeds(text: string): number[] {
  const seeds = text.split(',').map((part) => (/^\d+$/.test(part.trim()) ? Number(part) : Number.NaN));
  const fits = seeds.every((seed) => seed < 2 ** 32) && new Set(seeds).size === seeds.length;
  if (fits) return seeds;
  throw usageError(
    `--seeds: expected distinct whole numbers from 0 to 4294967295 with commas between, such as 1,2,3, got ${JSON.stringify(text)}`,
  );
}

/** `all`, `none`, or names with commas between. The control that takes two models is left out of `all` where there is one. */
export function parseControls(text: string, hasStart: boolean): ControlName[] {
  const possible = CONTROLS.filter(({ name }) => hasStart || name !== 'afterForcedBeginning');
  if (text === 'all') return possible.map(({ name }) => name);
  if (text === 'none') return [];
  const asked = text.split(',').map((part) => part.trim());
  const options = possible.map(({ option }) => option);
  const unknown = asked.find((option) => !options.some((known) => known === option));
  if (unknown === undefined)
    return possible.filter(({ option }) => asked.includes(option)).map(({ name }) => name);
  const known = CONTROLS.some(({ option }) => option === unknown);
  throw usageError(
    `--controls: expected all, none, or some of ${orList(options)}, with commas between, got ${JSON.stringify(unknown)}${known ? '; that one needs --against' : ''}`,
  );
}
