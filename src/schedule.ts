/** Learning-rate schedules by step: a linear warm-up, then constant, linear or cosine decay to a floor. */

export interface Schedule {
  kind: 'constant' | 'linear' | 'cosine';
  /** Steps of linear warm-up, from peak / warmupSteps up. */
  warmupSteps: number;
  /** Steps at the peak before a decay begins. */
  flatSteps: number;
  /** The share of the peak that the decay ends at, one step after the last: no step has a rate of 0. */
  floor: number;
}

/** The rate of step 0 <= step < steps. */
export function learningRateAt(schedule: Schedule, peak: number, step: number, steps: number): number {
  const { kind, warmupSteps, flatSteps, floor } = schedule;
  if (step < warmupSteps) return (peak * (step + 1)) / warmupSteps;
  const from = warmupSteps + flatSteps;
  if (kind === 'constant' || step < from) return peak;
  const progress = (step - from) / Math.max(1, steps - from);
  const left = kind === 'linear' ? 1 - progress : (1 + Math.cos(Math.PI * progress)) / 2;
  return peak * (floor + (1 - floor) * left);
}
