/**
 * The options of the loss and of the advantages on the command line, and their schemas in config.json.
 *
 * Names are TRL's where TRL has them; the values themselves are checked against each other in `checkLossOptions` and
 * `checkAdvantageOptions`, so that a file and a flag are refused with the same words.
 */
import { Option, type Command } from 'commander';
import { z } from 'zod';
import {
  ADVANTAGE_ESTIMATORS,
  NEGATIVE_REFLECTIONS,
  SCALE_REWARDS,
  checkAdvantageOptions,
  type AdvantageOptions,
} from '../method/advantage.ts';
import {
  CORRECTION_MODES,
  KL_ESTIMATORS,
  LOSS_TYPES,
  checkLossOptions,
  type LossOptions,
  type SamplerCorrection,
} from '../method/loss-options.ts';
import { choice, real, usageError, type NumberRange } from './options.ts';

export interface LossFlags {
  lossType: LossOptions['lossType'];
  importanceSamplingLevel: LossOptions['importanceSamplingLevel'];
  epsilon: number | 'none';
  epsilonHigh: number | 'none';
  delta: number | 'none';
  beta: number;
  klEstimator: LossOptions['klEstimator'];
  useBiasCorrectionKl: boolean;
  sapoTemperaturePos: number;
  sapoTemperatureNeg: number;
  vespoKPos: number;
  vespoLambdaPos: number;
  vespoKNeg: number;
  vespoLambdaNeg: number;
  offPolicyMaskThreshold: number | 'none';
  importanceSamplingMode: SamplerCorrection['mode'] | 'none';
  importanceSamplingClipMin: number | 'none';
  importanceSamplingClipMax: number | 'none';
  maxCompletionLength: number | 'none';
  maskTruncatedCompletions: boolean;
  trlCompat: boolean;
}

/** How ratios and advantages become a loss. */
export function addLossOptions(command: Command, defaults: LossOptions): Command {
  const correction = defaults.importanceSamplingCorrection;
  const number = (flags: string, text: string, value: number, range: NumberRange): Option =>
    real(flags, text, range).default(value);
  const above = { above: 0 };
  const least = { min: 0 };
  const options = [
    choice(
      '--loss-type <type>',
      'loss of a token, and how token losses are averaged (docs/losses.md)',
      LOSS_TYPES,
    ).default(defaults.lossType),
    choice('--importance-sampling-level <level>', 'a ratio per token, or one per sequence (GSPO)', [
      'token',
      'sequence',
    ]).default(defaults.importanceSamplingLevel),
    nullable('--epsilon <x>', 'clip range of the ratio', defaults.epsilon, above),
    nullable(
      '--epsilon-high <x>',
      'its upper end, if not the same; with cispo the cap itself',
      defaults.epsilonHigh,
      above,
    ),
    nullable('--delta <x>', 'cap of the ratio: two-sided clipping', defaults.delta, above),
    number('--beta <x>', 'weight of the KL term to the start model; 0: none', defaults.beta, least),
    choice('--kl-estimator <name>', 'estimator of the KL term', KL_ESTIMATORS).default(defaults.klEstimator),
    number('--sapo-temperature-pos <x>', 'sapo: where A > 0', defaults.sapoTemperaturePos, above),
    number('--sapo-temperature-neg <x>', 'sapo: elsewhere', defaults.sapoTemperatureNeg, above),
    number('--vespo-k-pos <x>', 'vespo: k where A >= 0', defaults.vespoKPos, least),
    number('--vespo-lambda-pos <x>', 'vespo: lambda where A >= 0', defaults.vespoLambdaPos, least),
    number('--vespo-k-neg <x>', 'vespo: k elsewhere', defaults.vespoKNeg, least),
    number('--vespo-lambda-neg <x>', 'vespo: lambda elsewhere', defaults.vespoLambdaNeg, least),
    nullable(
      '--off-policy-mask-threshold <nats>',
      'no policy loss for a sequence with A < 0 that is further off-policy, per token',
      defaults.offPolicyMaskThreshold,
    ),
    choice(
      '--importance-sampling-mode <mode>',
      "how to correct a sampler whose log-probabilities are not the trainer's",
      ['none', ...CORRECTION_MODES],
    ).default(correction?.mode ?? 'none'),
    nullable(
      '--importance-sampling-clip-min <x>',
      'least ratio of trainer to sampler',
      correction?.clipMin ?? null,
      { min: 0, max: 1 },
    ),
    nullable(
      '--importance-sampling-clip-max <x>',
      'largest ratio of trainer to sampler',
      correction?.clipMax ?? null,
      { min: 1 },
    ),
    nullable(
      '--max-completion-length <n>',
      'what dr_grpo divides by, in tokens',
      defaults.maxCompletionLength,
      above,
    ),
    ...toggle('--use-bias-correction-kl', 'multiply the KL term by the ratio', defaults.useBiasCorrectionKl),
    ...toggle(
      '--mask-truncated-completions',
      'what was cut off at its length limit has no loss',
      defaults.maskTruncatedCompletions,
    ),
    ...toggle(
      '--trl-compat',
      "TRL's behaviour where r3 departs from it on purpose (docs/losses.md)",
      defaults.trlCompat,
    ),
  ];
  for (const option of options) command.addOption(option);
  return command;
}

/** The loss that flags ask for. Throws R3Error `bad-option` where they contradict each other. */
export function lossOptionsOf(flags: LossFlags): LossOptions {
  const { importanceSamplingMode: mode } = flags;
  const clipMin = orNull(flags.importanceSamplingClipMin);
  const clipMax = orNull(flags.importanceSamplingClipMax);
  if (mode === 'none' && (clipMin !== null || clipMax !== null)) {
    throw usageError(
      '--importance-sampling-clip-min, --importance-sampling-clip-max: expected an --importance-sampling-mode beside them, got none',
    );
  }
  if (mode.endsWith('truncate') && clipMin === null && clipMax === null) {
    throw usageError(
      `--importance-sampling-mode ${mode}: expected --importance-sampling-clip-min or --importance-sampling-clip-max beside it, got neither`,
    );
  }
  const options: LossOptions = {
    lossType: flags.lossType,
    importanceSamplingLevel: flags.importanceSamplingLevel,
    epsilon: orNull(flags.epsilon),
    epsilonHigh: orNull(flags.epsilonHigh),
    delta: orNull(flags.delta),
    beta: flags.beta,
    klEstimator: flags.klEstimator,
    useBiasCorrectionKl: flags.useBiasCorrectionKl,
    sapoTemperaturePos: flags.sapoTemperaturePos,
    sapoTemperatureNeg: flags.sapoTemperatureNeg,
    vespoKPos: flags.vespoKPos,
    vespoLambdaPos: flags.vespoLambdaPos,
    vespoKNeg: flags.vespoKNeg,
    vespoLambdaNeg: flags.vespoLambdaNeg,
    offPolicyMaskThreshold: orNull(flags.offPolicyMaskThreshold),
    importanceSamplingCorrection: mode === 'none' ? null : { mode, clipMin, clipMax },
    maxCompletionLength: orNull(flags.maxCompletionLength),
    maskTruncatedCompletions: flags.maskTruncatedCompletions,
    trlCompat: flags.trlCompat,
  };
  checkLossOptions(options);
  return options;
}

export interface AdvantageFlags {
  advantageEstimator: AdvantageOptions['estimator'];
  scaleRewards: AdvantageOptions['scaleRewards'];
  normalizeAdvantages: boolean;
  negativeReflections: AdvantageOptions['negativeReflections'];
}

/** How rewards become advantages. */
export function addAdvantageOptions(command: Command, defaults: AdvantageOptions): Command {
  const options = [
    choice(
      '--advantage-estimator <name>',
      'what a reward is compared with: its group (grpo), the others of its group (rloo), the batch',
      ADVANTAGE_ESTIMATORS,
    ).default(defaults.estimator),
    choice(
      '--scale-rewards <by>',
      'grpo: divide by the standard deviation of the group or of the batch, or by nothing',
      SCALE_REWARDS,
    ).default(defaults.scaleRewards),
    choice(
      '--negative-reflections <how>',
      'positives-only: what is below its group is not pushed away',
      NEGATIVE_REFLECTIONS,
    ).default(defaults.negativeReflections),
    ...toggle(
      '--normalize-advantages',
      'rloo: normalise advantages over the batch',
      defaults.normalizeAdvantages,
    ),
  ];
  for (const option of options) command.addOption(option);
  return command;
}

/** The advantages that flags ask for. Throws R3Error `bad-option` where they contradict each other. */
export function advantageOptionsOf(flags: AdvantageFlags): AdvantageOptions {
  const options = {
    estimator: flags.advantageEstimator,
    scaleRewards: flags.scaleRewards,
    normalizeAdvantages: flags.normalizeAdvantages,
    negativeReflections: flags.negativeReflections,
  };
  checkAdvantageOptions(options);
  return options;
}

const number = z.number();

export const lossSchema = z.strictObject({
  lossType: z.enum(LOSS_TYPES),
  importanceSamplingLevel: z.enum(['token', 'sequence']),
  epsilon: number.nullable(),
  epsilonHigh: number.nullable(),
  delta: number.nullable(),
  beta: number,
  klEstimator: z.enum(KL_ESTIMATORS),
  useBiasCorrectionKl: z.boolean(),
  sapoTemperaturePos: number,
  sapoTemperatureNeg: number,
  vespoKPos: number,
  vespoLambdaPos: number,
  vespoKNeg: number,
  vespoLambdaNeg: number,
  offPolicyMaskThreshold: number.nullable(),
  importanceSamplingCorrection: z
    .strictObject({
      mode: z.enum(CORRECTION_MODES),
      clipMin: number.nullable(),
      clipMax: number.nullable(),
    })
    .nullable(),
  maxCompletionLength: number.nullable(),
  maskTruncatedCompletions: z.boolean(),
  trlCompat: z.boolean(),
}) satisfies z.ZodType<LossOptions>;

export const advantageSchema = z.strictObject({
  estimator: z.enum(ADVANTAGE_ESTIMATORS),
  scaleRewards: z.enum(SCALE_REWARDS),
  normalizeAdvantages: z.boolean(),
  negativeReflections: z.enum(NEGATIVE_REFLECTIONS),
}) satisfies z.ZodType<AdvantageOptions>;

/** A number, or `none` to turn off what the defaults turn on. */
function nullable(flags: string, text: string, value: number | null, range: NumberRange = {}): Option {
  const option = real(flags, text, range).default(value ?? 'none');
  const parse = option.parseArg as unknown as (given: string) => number;
  return option.argParser((given: string) => (given === 'none' ? given : parse(given)));
}

function orNull(value: number | 'none'): number | null {
  return value === 'none' ? null : value;
}

/** A flag and its `--no-` form; help shows the one that changes the default. */
function toggle(name: string, text: string, value: boolean): Option[] {
  const on = new Option(name, text).default(value).hideHelp(value);
  const off = new Option(name.replace('--', '--no-'), `do not ${text}`).hideHelp(!value);
  return [on, off];
}
