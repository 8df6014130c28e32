/**
 * The configuration of a training run: from flags, to config.json, and back from it for `--resume`.
 *
 * Every value is resolved before it is written, so that a resumed run depends on nothing but its folder, the model
 * and, until its first checkpoint, the data it began from.
 */
import { resolve } from 'node:path';
import { z } from 'zod';
import type { LoraOptions } from '../engine/local/lora.ts';
import type { ServiceFacts } from '../engine/tinker/tinker-engine.ts';
import { R3Error } from '../lib/errors.ts';
import { explainIssue, showValue } from '../lib/json.ts';
import { TOLD, type PlayerOptions } from '../player.ts';
import type { RunConfig } from '../runs/run.ts';
import { samplesProblems, type Choices } from '../method/choices.ts';
import { defaultAdvantageOptions } from '../method/advantage.ts';
import { defaultLossOptions } from '../method/loss-options.ts';
import { checkTrainOptions, defaultTrainOptions, type TrainOptions } from '../train-options.ts';
import { choiceFields, choicesOf, type ChoiceFlags } from './choice-options.ts';
import {
  advantageOptionsOf,
  advantageSchema,
  lossOptionsOf,
  lossSchema,
  type AdvantageFlags,
  type LossFlags,
} from './loss-options.ts';
import {
  inFlags,
  optimizerOf,
  usageError,
  type EngineFlags,
  type LoraFlags,
  type OptimizerFlags,
  type PlayerFlags,
} from './options.ts';

export interface TrainFlags
  extends EngineFlags, LoraFlags, OptimizerFlags, PlayerFlags, ChoiceFlags, LossFlags, AdvantageFlags {
  url?: string;
  tokenizer?: string;
  task?: string;
  model?: string;
  problems?: string;
  failures?: string;
  limit?: number;
  prompts?: string;
  run?: string;
  resume?: string;
  acceptKernels?: boolean;
  preset?: string;
  audit: boolean;
  steps: number;
  numIterations: number;
  maxStaleness: number;
  shuffleRewards?: boolean;
  checkpointEvery: number;
  seed: number;
  tensorboard?: boolean;
  dryRun?: boolean;
  json?: boolean;
}

const count = z.int().positive();
const share = z.number();

export const samplingSchema = z.strictObject({
  temperature: share,
  topK: count.optional(),
  topP: share.optional(),
  minP: share.optional(),
  maxAttemptTokens: count,
  maxReflectionTokens: count,
  told: z.enum(TOLD).optional(),
  dropAttempt: z.boolean().optional(),
}) satisfies z.ZodType<PlayerOptions>;

const trainSchema = z.strictObject({
  ...choiceFields,
  seed: z.int(),
  steps: count,
  numIterations: count,
  maxStaleness: z.int().min(0).default(0),
  learningRate: share,
  schedule: z.strictObject({
    kind: z.enum(['constant', 'linear', 'cosine']),
    warmupSteps: z.int(),
    flatSteps: z.int(),
    floor: share,
  }),
  adam: z.strictObject({
    beta1: share,
    beta2: share,
    epsilon: share,
    weightDecay: share,
    maxGradNorm: share.optional(),
  }),
  loss: lossSchema,
  advantages: advantageSchema,
  shuffleRewards: z.boolean(),
  checkpointEvery: count,
  keepCheckpoints: count,
}) satisfies z.ZodType<TrainOptions>;

const loraSchema = z.strictObject({
  rank: count,
  alpha: share,
  dropout: share,
  rsLora: z.boolean(),
  targets: z.union([z.literal('all-linear'), z.array(z.string())]),
  layers: z.array(z.int()).nullable(),
}) satisfies z.ZodType<LoraOptions>;

const serviceSchema = z.strictObject({
  url: z.string(),
  server: z.string(),
  dialect: z.string(),
  baseModel: z.string(),
  rank: count.nullable(),
  reduction: z.enum(['sum', 'sequence-mean']).nullable(),
  snapshots: z.boolean(),
  ignores: z.array(z.string()),
}) satisfies z.ZodType<ServiceFacts>;

const schema = z.strictObject({
  version: z.literal(1),
  command: z.literal('train'),
  task: z.string(),
  /** The file of a task that does not come with r3. */
  taskFile: z.strictObject({ path: z.string(), sha256: z.string() }).nullable().default(null),
  prompts: z.looseObject({ name: z.string() }),
  model: z.strictObject({ directory: z.string(), hash: z.string() }),
  /** What computes, and what was found of it where it is a service; the model's directory then holds its texts. */
  engine: z.enum(['local', 'tinker']).default('local'),
  service: serviceSchema.nullable().default(null),
  /** The engine's description when the run began. */
  kernels: z.string(),
  /** Other kernels that the run went on with, and the step from which. */
  kernelChanges: z.array(z.strictObject({ step: z.int(), kernels: z.string() })).default([]),
  dtype: z.enum(['f32', 'bf16', 'int8']),
  /** The adapter that is trained; null: all weights, or the adapter that the model's folder is. */
  lora: loraSchema.nullable().default(null),
  /** Most tokens of a training pass; null: as memory allows. */
  passTokens: count.nullable().default(null),
  /** The longest sequence; null: what the engine takes by itself. */
  context: count.nullable().default(null),
  sampling: samplingSchema,
  /** Failures that were mined before, until the first checkpoint has them; null: mined from the problems. */
  failures: z.string().nullable(),
  /** What is attempted, and how many of its problems; null where failures are frozen and came from a file. */
  problems: z.strictObject({ file: z.string(), limit: count.nullable() }).nullable(),
  /** Whether the audit ran before training: --no-audit leaves it out. */
  audited: z.boolean(),
  /** Where the value of each option comes from: the command line, a preset and how sure it is, or the default. */
  sources: z.record(z.string(), z.string()),
  train: trainSchema,
});

export type TrainConfig = z.infer<typeof schema>;
export type Data = Pick<TrainConfig, 'failures' | 'problems'>;

/** The configuration that a run was started with. Throws R3Error `mismatch` when another command made the run. */
export function parseTrainConfig(config: RunConfig, directory: string): TrainConfig {
  const parsed = schema.safeParse(config);
  if (parsed.success) return parsed.data;
  const command = config['command'];
  const why =
    command === 'train'
      ? `config.json: ${explainIssue(parsed.error.issues, config)}`
      : `expected a run that r3 train can resume, got one of r3 ${showValue(command)}`;
  throw new R3Error('store', 'mismatch', `${directory}: ${why}`);
}

/** The kernels that the run was trained with last, as the engine described itself. */
export function kernelsOf({ kernels, kernelChanges }: TrainConfig): string {
  return kernelChanges.at(-1)?.kernels ?? kernels;
}

/** Whether two descriptions of the engine promise the same bytes: of all that they name, only threads may differ. */
export function sameKernels(a: string, b: string): boolean {
  const withoutThreads = (description: string): string => description.replace(/, \d+ threads?/, '');
  return withoutThreads(a) === withoutThreads(b);
}

/** The configuration of a run that goes on from `step` with other kernels. */
export function withKernels(config: TrainConfig, step: number, kernels: string): TrainConfig {
  // Steps from here on are done again, whatever they were done with before.
  const kept = config.kernelChanges.filter((change) => change.step < step);
  const before = kernelsOf({ ...config, kernelChanges: kept });
  return { ...config, kernelChanges: sameKernels(before, kernels) ? kept : [...kept, { step, kernels }] };
}

/** Throws a usage error for options that contradict each other. */
export function trainOptionsOf(flags: TrainFlags): TrainOptions {
  return inFlags(OPTION_NAMES, () => {
    const options: TrainOptions = {
      ...defaultTrainOptions(),
      ...choicesOf(flags),
      ...optimizerOf(flags, flags.steps),
      seed: flags.seed,
      steps: flags.steps,
      numIterations: flags.numIterations,
      maxStaleness: flags.maxStaleness,
      loss: lossOptionsOf(flags),
      advantages: advantageOptionsOf(flags),
      shuffleRewards: flags.shuffleRewards ?? false,
      checkpointEvery: flags.checkpointEvery,
    };
    const { told, dropAttempt } = flags;
    checkTrainOptions(options, { told, dropAttempt });
    return options;
  });
}

/** The options that messages of `checkTrainOptions` name. */
const OPTION_NAMES = [
  ...Object.keys(defaultLossOptions()),
  ...Object.keys(defaultAdvantageOptions()),
  'estimator',
  'refresh-every',
  'train-tokens',
  'retry-reward',
  'retries-per-reflection',
  'rounds',
  'first-attempts',
  'zero-variance',
  'distillation-rate',
  'max-staleness',
  'importance-sampling-mode',
  'told',
  'drop-attempt',
  'shuffle-rewards',
];

/** Paths are made absolute: a run can be resumed from any folder. */
export function dataOf({ failures, problems, limit }: TrainFlags, choices: Choices): Data {
  const why = samplesProblems(choices)
    ? `the method ${choices.method} samples problems`
    : choices.firstAttempts === 'frozen'
      ? undefined
      : `first attempts are ${choices.firstAttempts}`;
  if (why !== undefined && problems === undefined)
    throw usageError(`--problems: expected a file, because ${why}, got none`);
  if (why === undefined && (failures === undefined) === (problems === undefined)) {
    throw usageError('expected either --problems, to mine failures from, or --failures, got both or neither');
  }
  return {
    failures: failures === undefined ? null : resolve(failures),
    problems: problems === undefined ? null : { file: resolve(problems), limit: limit ?? null },
  };
}
