import { expect, test } from 'vitest';
import {
  LOSS_TYPES,
  checkLossOptions,
  defaultLossOptions,
  lossWarnings,
  type LossOptions,
} from './loss-options.ts';

const check = (chosen: Partial<LossOptions>) => () =>
  checkLossOptions({ ...defaultLossOptions(), ...chosen });
const correction = (
  mode: 'token_mask' | 'token_truncate' | 'sequence_mask',
  clipMin: number | null,
  clipMax: number | null,
) => ({
  importanceSamplingCorrection: { mode, clipMin, clipMax },
});

test('the defaults and the usual set-up of each loss type are accepted', () => {
  expect(check({})).not.toThrow();
  for (const lossType of LOSS_TYPES) {
    const own = { cispo: { epsilonHigh: 5 }, sapo: {}, vespo: {} };
    const bounds =
      lossType in own ? own[lossType as keyof typeof own] : { epsilon: 0.2, epsilonHigh: 0.28, delta: 4 };
    expect(check({ lossType, maxCompletionLength: 512, ...bounds }), lossType).not.toThrow();
  }
});

test.each<[string, Partial<LossOptions>]>([
  ['beta', { beta: -1 }],
  ['epsilon', { epsilon: 0 }],
  ['epsilonHigh', { epsilon: 0.2, epsilonHigh: Number.NaN }],
  ['epsilonHigh', { epsilonHigh: 0.28 }],
  ['delta', { delta: 1.5 }],
  ['delta', { epsilon: 0.2, delta: 0 }],
  ['epsilonHigh', { lossType: 'cispo' }],
  ['epsilon', { lossType: 'cispo', epsilon: 0.2, epsilonHigh: 5 }],
  ['epsilon', { lossType: 'sapo', epsilon: 0.2 }],
  ['epsilonHigh', { lossType: 'vespo', epsilonHigh: 0.2 }],
  ['delta', { lossType: 'vespo', delta: 2 }],
  ['sapoTemperatureNeg', { sapoTemperatureNeg: 0 }],
  ['vespoKPos', { vespoKPos: -1 }],
  ['offPolicyMaskThreshold', { offPolicyMaskThreshold: Number.NaN }],
  ['maxCompletionLength', { lossType: 'dr_grpo' }],
  ['maxCompletionLength', { lossType: 'dr_grpo', maxCompletionLength: 0 }],
  ['importanceSamplingLevel', { lossType: 'vespo', importanceSamplingLevel: 'sequence' }],
  ['klEstimator', { klEstimator: 'k1', beta: 0.1 }],
  ['importanceSamplingCorrection', correction('token_truncate', null, null)],
  ['importanceSamplingCorrection.clipMin', correction('token_mask', 1.5, 2)],
  ['importanceSamplingCorrection.clipMin', correction('token_mask', 1, 1)],
  ['importanceSamplingCorrection.clipMax', correction('token_mask', null, 0.5)],
  ['importanceSamplingCorrection.mode', { lossType: 'vespo', ...correction('sequence_mask', null, 3) }],
])('%s is refused by name: %j', (name, chosen) => {
  expect(check(chosen)).toThrow(new RegExp(`^${name.replace('.', '\\.')}: expected `));
});

test('what TRL accepts with a warning is accepted with trlCompat', () => {
  expect(check({ lossType: 'vespo', importanceSamplingLevel: 'sequence', trlCompat: true })).not.toThrow();
});

test('odd choices are warned of, and the paper’s loss is not', () => {
  const warnings = (chosen: Partial<LossOptions>): string =>
    lossWarnings({ ...defaultLossOptions(), ...chosen }).join(' ');
  expect(warnings({})).toBe('');
  expect(warnings({ importanceSamplingLevel: 'sequence' })).toBe('');
  expect(warnings({ lossType: 'luspo' })).toContain("meant for importanceSamplingLevel 'sequence'");
  expect(warnings({ lossType: 'dapo', importanceSamplingLevel: 'sequence' })).toContain('by their length');
  const corrected = { importanceSamplingLevel: 'sequence', useBiasCorrectionKl: true } as const;
  expect(warnings(corrected)).toContain('the ratio of each token');
  expect(warnings({ ...corrected, trlCompat: true })).toBe('');
});
