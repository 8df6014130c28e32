/**
 * The options of the policy loss: their names, the paper-time values, and what contradicts what.
 *
 * Names are TRL 1.13's in camelCase and keep its meaning (`GRPOConfig`); `importanceSamplingCorrection` stands for its
 * `vllm_importance_sampling_*`. Where an option would have no effect, TRL ignores it; here it is refused by name.
 * The formulas are in token-loss.ts, kl.ts, ratios.ts and loss.ts; docs/losses.md has them on one page.
 */
import { R3Error } from '../lib/errors.ts';

export const LOSS_TYPES = ['grpo', 'bnpo', 'dr_grpo', 'dapo', 'luspo', 'cispo', 'sapo', 'vespo'] as const;
/** How a token's loss is formed from its ratio, and how token losses become one number. */
export type LossType = (typeof LOSS_TYPES)[number];

export const KL_ESTIMATORS = ['k1', 'k2', 'k3'] as const;
export type KlEstimator = (typeof KL_ESTIMATORS)[number];

export const CORRECTION_MODES = [
  'token_mask',
  'token_truncate',
  'sequence_mask',
  'sequence_truncate',
] as const;

/** What is done about a sampler whose log-probabilities are not the trainer's (`vllm_importance_sampling_*`). */
export interface SamplerCorrection {
  mode: (typeof CORRECTION_MODES)[number];
  /** Bounds of the ratio; null: none. At most 1 and at least 1, so that agreement is within them. */
  clipMin: number | null;
  clipMax: number | null;
}

export interface LossOptions {
  lossType: LossType;
  /** 'sequence' is GSPO: one ratio per sequence, the geometric mean of its tokens' ratios. */
  importanceSamplingLevel: 'token' | 'sequence';
  /** The ratio is clipped to [1 - epsilon, 1 + epsilonHigh]. null: no clipping, as in TRL 0.15. */
  epsilon: number | null;
  /** null: as `epsilon`. For 'cispo' it is the cap of the ratio itself. */
  epsilonHigh: number | null;
  /** Two-sided clipping: a cap on the ratio before its bound is chosen, which also acts where A < 0. */
  delta: number | null;
  /** Weight of the KL term to the reference. 0: none. */
  beta: number;
  klEstimator: KlEstimator;
  /** The KL term is multiplied by the ratio, and the gradient flows through both. */
  useBiasCorrectionKl: boolean;
  sapoTemperaturePos: number;
  sapoTemperatureNeg: number;
  vespoKPos: number;
  vespoLambdaPos: number;
  vespoKNeg: number;
  vespoLambdaNeg: number;
  /** Nats per token. A sequence of negative advantage whose sampler is further off than this has no policy loss. */
  offPolicyMaskThreshold: number | null;
  importanceSamplingCorrection: SamplerCorrection | null;
  /** Tokens; what 'dr_grpo' divides a sequence by. */
  maxCompletionLength: number | null;
  /** A completion that was cut off has no loss. */
  maskTruncatedCompletions: boolean;
  /** TRL's own behaviour where this project departs from it on purpose; see docs/losses.md. */
  trlCompat: boolean;
}

/** The paper's loss as far as it is known: TRL 0.15's, beta as stated. Values of other loss types are TRL 1.13's. */
export function defaultLossOptions(): LossOptions {
  return {
    lossType: 'grpo',
    importanceSamplingLevel: 'token',
    epsilon: null,
    epsilonHigh: null,
    delta: null,
    beta: 0.001,
    klEstimator: 'k3',
    useBiasCorrectionKl: false,
    sapoTemperaturePos: 1,
    sapoTemperatureNeg: 1.05,
    vespoKPos: 2,
    vespoLambdaPos: 3,
    vespoKNeg: 3,
    vespoLambdaNeg: 2,
    offPolicyMaskThreshold: null,
    importanceSamplingCorrection: null,
    maxCompletionLength: null,
    maskTruncatedCompletions: false,
    trlCompat: false,
  };
}

/** Whether the loss is min(ratio A, clip(ratio) A). The other types bound the ratio in their own way. */
export function isClipped(lossType: LossType): boolean {
  return lossType !== 'cispo' && lossType !== 'sapo' && lossType !== 'vespo';
}

/** Throws R3Error `bad-option` for a value out of range and for options that contradict each other. */
export function checkLossOptions(options: LossOptions): void {
  const { lossType, epsilon, epsilonHigh, delta, importanceSamplingLevel, trlCompat } = options;
  for (const name of ['beta', 'vespoKPos', 'vespoLambdaPos', 'vespoKNeg', 'vespoLambdaNeg'] as const) {
    if (!(options[name] >= 0 && options[name] < Infinity))
      fail(name, 'a number of at least 0', options[name]);
  }
  for (const name of ['sapoTemperaturePos', 'sapoTemperatureNeg'] as const) {
    if (!(options[name] > 0 && options[name] < Infinity)) fail(name, 'a number above 0', options[name]);
  }
  for (const name of ['epsilon', 'epsilonHigh', 'delta', 'maxCompletionLength'] as const) {
    const value = options[name];
    if (value !== null && !(value > 0 && value < Infinity)) fail(name, 'a number above 0, or none', value);
  }
  const threshold = options.offPolicyMaskThreshold;
  if (threshold !== null && !Number.isFinite(threshold)) {
    fail('offPolicyMaskThreshold', 'a finite number, or none', threshold);
  }

  if (isClipped(lossType)) {
    if (epsilon === null && epsilonHigh !== null) {
      fail('epsilonHigh', 'epsilon beside it: without it nothing is clipped', 'none');
    }
    if (epsilon === null && delta !== null) {
      fail('delta', 'epsilon beside it: without it the cap does not act where A < 0', 'none');
    }
  } else {
    if (epsilon !== null)
      fail('epsilon', `none with lossType '${lossType}', which has no clip range`, epsilon);
    if (delta !== null) fail('delta', `none with lossType '${lossType}', which has no clip range`, delta);
    if (lossType === 'cispo' && epsilonHigh === null) {
      fail('epsilonHigh', "an explicit cap of the ratio with lossType 'cispo' (5 is usual)", 'none');
    }
    if (lossType !== 'cispo' && epsilonHigh !== null) {
      fail('epsilonHigh', `none with lossType '${lossType}', which has no clip range`, epsilonHigh);
    }
  }
  if (lossType === 'dr_grpo' && options.maxCompletionLength === null) {
    fail('maxCompletionLength', "the length that lossType 'dr_grpo' divides by", 'none');
  }
  if (lossType === 'vespo' && importanceSamplingLevel === 'sequence' && !trlCompat) {
    fail(
      'importanceSamplingLevel',
      "'token' with lossType 'vespo', which weights whole sequences itself",
      "'sequence'",
    );
  }
  if (options.klEstimator === 'k1' && options.beta > 0 && !options.useBiasCorrectionKl) {
    fail(
      'klEstimator',
      "'k2' or 'k3', or useBiasCorrectionKl: the gradient of k1 alone is 0 on average",
      "'k1'",
    );
  }
  checkCorrection(options);
}

function checkCorrection({ importanceSamplingCorrection: correction, lossType }: LossOptions): void {
  if (correction === null) return;
  const { mode, clipMin, clipMax } = correction;
  const name = 'importanceSamplingCorrection';
  if (clipMin !== null && !(clipMin >= 0 && clipMin <= 1)) fail(`${name}.clipMin`, 'from 0 to 1', clipMin);
  if (clipMax !== null && !(clipMax >= 1)) fail(`${name}.clipMax`, 'a number of at least 1', clipMax);
  if (clipMin !== null && clipMin === clipMax) fail(`${name}.clipMin`, 'less than clipMax', clipMin);
  if (mode.endsWith('truncate') && clipMin === null && clipMax === null) {
    fail(name, `clipMin or clipMax with mode '${mode}'`, 'neither');
  }
  if (lossType === 'vespo' && mode.startsWith('sequence')) {
    fail(`${name}.mode`, "'token_mask' or 'token_truncate' with lossType 'vespo'", `'${mode}'`);
  }
}

/** Throws R3Error `bad-option` for a value that the chosen loss never reads: it would be ignored. */
export function checkLossReads(options: LossOptions): void {
  const { lossType, beta } = options;
  const defaults = defaultLossOptions();
  const unread = (names: readonly (keyof LossOptions)[], why: string): void => {
    for (const name of names) {
      if (options[name] !== defaults[name]) fail(name, `its default ${why}`, JSON.stringify(options[name]));
    }
  };
  if (lossType !== 'sapo')
    unread(
      ['sapoTemperaturePos', 'sapoTemperatureNeg'],
      `with lossType '${lossType}', which does not read it`,
    );
  if (lossType !== 'vespo') {
    unread(
      ['vespoKPos', 'vespoLambdaPos', 'vespoKNeg', 'vespoLambdaNeg'],
      `with lossType '${lossType}', which does not read it`,
    );
  }
  if (lossType !== 'dr_grpo')
    unread(['maxCompletionLength'], `with lossType '${lossType}', which does not divide by it`);
  if (beta === 0) unread(['klEstimator', 'useBiasCorrectionKl'], 'with beta 0, which has no KL term');
}

/** Choices that are honoured and rarely meant, a sentence each. TRL warns of the first two. */
export function lossWarnings(options: LossOptions): string[] {
  const { lossType, importanceSamplingLevel: level } = options;
  const warnings: string[] = [];
  if (lossType === 'luspo' && level === 'token') {
    warnings.push(
      "lossType 'luspo' is meant for importanceSamplingLevel 'sequence'; with 'token' it is another loss.",
    );
  }
  if (level === 'sequence' && ['bnpo', 'dr_grpo', 'dapo', 'cispo'].includes(lossType)) {
    warnings.push(
      `importanceSamplingLevel 'sequence' with lossType '${lossType}' weights sequences by their length; GSPO is lossType 'grpo'.`,
    );
  }
  if (level === 'sequence' && options.useBiasCorrectionKl && options.beta > 0 && !options.trlCompat) {
    warnings.push(
      'The KL term is corrected by the ratio of each token, not by that of its sequence as TRL does; trlCompat gives the latter.',
    );
  }
  return warnings;
}

function fail(name: string, expected: string, got: number | string): never {
  throw new R3Error('config', 'bad-option', `${name}: expected ${expected}, got ${got}`);
}
