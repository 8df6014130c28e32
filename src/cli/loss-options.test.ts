import { Command } from 'commander';
import { expect, test } from 'vitest';
import { defaultAdvantageOptions } from '../method/advantage.ts';
import { defaultLossOptions, type LossOptions } from '../method/loss-options.ts';
import {
  addAdvantageOptions,
  addLossOptions,
  advantageOptionsOf,
  advantageSchema,
  lossOptionsOf,
  lossSchema,
  type AdvantageFlags,
  type LossFlags,
} from './loss-options.ts';

function loss(args: string[], defaults = defaultLossOptions()): LossOptions {
  const command = addLossOptions(new Command().exitOverride(), defaults);
  return lossOptionsOf(command.parse(args, { from: 'user' }).opts<LossFlags>());
}

function advantage(...args: string[]): ReturnType<typeof advantageOptionsOf> {
  const command = addAdvantageOptions(new Command().exitOverride(), defaultAdvantageOptions());
  return advantageOptionsOf(command.parse(args, { from: 'user' }).opts<AdvantageFlags>());
}

/** TRL 1.13's own defaults of what has another one here. */
const trl: LossOptions = {
  ...defaultLossOptions(),
  lossType: 'dapo',
  beta: 0,
  epsilon: 0.2,
  useBiasCorrectionKl: true,
  importanceSamplingCorrection: { mode: 'sequence_mask', clipMin: null, clipMax: 3 },
};

test('without flags the defaults come out, whatever they are, and the schema takes them', () => {
  expect(loss([])).toEqual(defaultLossOptions());
  expect(loss([], trl)).toEqual(trl);
  expect(lossSchema.parse(trl)).toEqual(trl);
  expect(advantage()).toEqual(defaultAdvantageOptions());
  expect(advantageSchema.parse(advantage())).toEqual(defaultAdvantageOptions());
});

test('every option of the loss has a flag with the name that TRL users know', () => {
  const flags =
    '--loss-type dapo --importance-sampling-level sequence --epsilon 0.2 --epsilon-high 0.28 --delta 1.5 --beta 0.04 --kl-estimator k2 --use-bias-correction-kl --sapo-temperature-pos 2 --sapo-temperature-neg 3 --vespo-k-pos 4 --vespo-lambda-pos 5 --vespo-k-neg 6 --vespo-lambda-neg 7 --off-policy-mask-threshold 0.5 --importance-sampling-mode token_truncate --importance-sampling-clip-min 0.5 --importance-sampling-clip-max 2 --max-completion-length 512 --mask-truncated-completions --trl-compat';
  expect(loss(flags.split(' '))).toEqual({
    lossType: 'dapo',
    importanceSamplingLevel: 'sequence',
    epsilon: 0.2,
    epsilonHigh: 0.28,
    delta: 1.5,
    beta: 0.04,
    klEstimator: 'k2',
    useBiasCorrectionKl: true,
    sapoTemperaturePos: 2,
    sapoTemperatureNeg: 3,
    vespoKPos: 4,
    vespoLambdaPos: 5,
    vespoKNeg: 6,
    vespoLambdaNeg: 7,
    offPolicyMaskThreshold: 0.5,
    importanceSamplingCorrection: { mode: 'token_truncate', clipMin: 0.5, clipMax: 2 },
    maxCompletionLength: 512,
    maskTruncatedCompletions: true,
    trlCompat: true,
  });
});

test('what a preset turns on can be turned off', () => {
  const off =
    '--loss-type sapo --epsilon none --no-use-bias-correction-kl --importance-sampling-mode none --importance-sampling-clip-max none';
  expect(loss(off.split(' '), trl)).toEqual({ ...defaultLossOptions(), lossType: 'sapo', beta: 0 });
});

test('flags that contradict each other are refused by name', () => {
  expect(() => loss(['--loss-type', 'cispo'])).toThrow(/^epsilonHigh: expected an explicit cap/);
  expect(() => loss(['--importance-sampling-clip-max', '2'])).toThrow(
    /expected an --importance-sampling-mode/,
  );
  expect(() => loss(['--epsilon', '0'])).toThrow(/^--epsilon: expected a number above 0, got "0"/);
  expect(() => advantage('--normalize-advantages')).toThrow(
    /^normalizeAdvantages: expected estimator 'rloo'/,
  );
  expect(advantage('--normalize-advantages', '--advantage-estimator', 'rloo')).toMatchObject({
    estimator: 'rloo',
    normalizeAdvantages: true,
  });
});
