/**
 * A training step as one line of progress: the few numbers that a person watching wants to see.
 *
 * Takes what `train` reports after a step and gives names and texts, in the order of display. It neither prints nor
 * reads a run.
 */
import type { StepReport } from './train.ts';

/** What a person watching wants to see of a step; numbers that a step has not are a dash, a kind that it has not is left out. */
export function stepFields({
  metrics,
  seconds,
}: Pick<StepReport, 'metrics' | 'seconds'>): Record<string, string> {
  const kinds = Object.entries(metrics).filter(([name]) => name.startsWith('kind/'));
  const commonest = kinds.toSorted(([, a], [, b]) => b - a)[0];
  const unscored = metrics['unscored'] ?? 0;
  const leftOut = metrics['groups/leftOut'] ?? 0;
  return {
    reward: shown(metrics['reward'], 2),
    ...(unscored > 0 ? { unscored: percent(unscored) } : {}),
    ...(leftOut > 0 ? { 'left out': String(leftOut) } : {}),
    signal: percent(metrics['groups/mixed'] ?? 0),
    kl: shown(metrics['kl'], 2),
    tokens: shown(metrics['completions/mean_length'], 0),
    ...(commonest === undefined ? {} : { kind: `${commonest[0].slice(5)} ${percent(commonest[1])}` }),
    s: (seconds.sample + seconds.train).toFixed(1),
  };
}

function shown(value: number | undefined, digits: number): string {
  return value === undefined ? '–' : value.toFixed(digits);
}

function percent(share: number): string {
  return `${(100 * share).toFixed(0)}%`;
}
