/**
 * One optimizer step on the gradient of one batch, as two calls that are made at once.
 *
 * A remote engine has both before it answers the first: a step costs one round trip, not two.
 */
import type { AdamParams, Datum, Engine, ForwardBackwardResult, Loss, StepResult } from './engine.ts';

/** Throws what `forwardBackward` throws, else what `step` throws; both have then ended. */
export async function updateWeights(
  engine: Pick<Engine, 'forwardBackward' | 'step'>,
  datums: readonly Datum[],
  loss: Loss,
  adam: AdamParams,
  options: { temperature?: number } = {},
): Promise<ForwardBackwardResult & StepResult> {
  const [trained, stepped] = await Promise.allSettled([
    engine.forwardBackward(datums, loss, options),
    engine.step(adam),
  ]);
  if (trained.status === 'rejected') throw trained.reason;
  if (stepped.status === 'rejected') throw stepped.reason;
  return { ...trained.value, ...stepped.value };
}
