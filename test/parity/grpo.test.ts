/** The GRPO loss and its gradient against torch autograd, in float64: test/fixtures/grpo.json, scripts/fixtures/grpo.py. */
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { grpoLoss, type LossType } from '../../src/method/loss.ts';

interface Inputs {
  advantages: number[];
  mask: number[][];
  logp: number[][];
  old: number[][];
  ref: number[][];
}

interface Case {
  inputs: 'onPolicy' | 'offPolicy';
  lossType: LossType;
  beta: number;
  epsilon: number | null;
  loss: number;
  gradient: number[][];
}

const fixture = JSON.parse(readFileSync(new URL('../fixtures/grpo.json', import.meta.url), 'utf8')) as {
  inputs: Record<string, Inputs>;
  cases: Case[];
};

test.each(fixture.cases)(
  '$lossType, beta $beta, epsilon $epsilon, $inputs',
  ({ inputs, lossType, beta, epsilon, loss, gradient }) => {
    const { advantages, mask, logp, old, ref } = fixture.inputs[inputs]!;
    const kept = (rows: number[][]): Float64Array[] =>
      rows.map((row, i) => Float64Array.from(row.filter((_, t) => mask[i]![t] === 1)));
    const result = grpoLoss(
      { advantages, oldLogprobs: kept(old), referenceLogprobs: kept(ref) },
      { lossType, beta, epsilon: epsilon ?? undefined },
    )(
      // The loss takes log-probabilities as the engine gives them, in f32; the formula is tested on the exact values.
      kept(logp) as unknown as Float32Array[],
    );
    expect(result.loss).toBeCloseTo(loss, 12);
    kept(gradient).forEach((row, i) =>
      row.forEach((expected, t) =>
        expect(Math.abs(result.gradients[i]![t]! - expected)).toBeLessThan(
          1e-7 * Math.max(1, Math.abs(expected)),
        ),
      ),
    );
  },
);
