/**
 * What the quick start shows: a task, the start model that ships for it, and its problems.
 *
 * Problems are generated, the same for every seed of training: those of `rl` are trained on, those of `choose` serve to
 * choose settings, and results are told on `report` (LOG.md).
 */
import { fileURLToPath } from 'node:url';
import type { Problem } from './method/episode.ts';
import type { Task } from './method/task.ts';
import type { PlayerOptions } from './player.ts';
import { countdown } from './tasks/countdown.ts';
import { generateProblems } from './tasks/countdown-generator.ts';
import { generateCalls, templatedCalls } from './tasks/templated-calls.ts';

/** Problems are the same for every seed of training and sampling. */
const PROBLEM_SEED = 7;

export interface Exhibit<P extends Problem = Problem> {
  task: Task<P>;
  /** The start model's folder in the package, and where it is. */
  folder: string;
  model: string;
  /** Distinct problems, a function of the arguments alone. */
  problems(split: 'rl' | 'choose' | 'report', count: number): P[];
  limits: Pick<PlayerOptions, 'maxAttemptTokens' | 'maxReflectionTokens'>;
}

const countdownExhibit: Exhibit<ReturnType<typeof generateProblems>[number]> = {
  task: countdown,
  folder: 'models/start',
  model: packaged('models/start'),
  problems: (split, count) => generateProblems({ count, split, numbers: 3, seed: PROBLEM_SEED }),
  limits: { maxAttemptTokens: 20, maxReflectionTokens: 96 },
};

const callsExhibit: Exhibit<ReturnType<typeof generateCalls>[number]> = {
  task: templatedCalls,
  folder: 'models/start-calls',
  model: packaged('models/start-calls'),
  problems: (split, count) => generateCalls({ count, split, seed: PROBLEM_SEED }),
  limits: { maxAttemptTokens: 14, maxReflectionTokens: 14 },
};

/** By the name that `r3 quickstart --task` takes; the first is the default. */
export const EXHIBITS = { countdown: countdownExhibit, 'function-calling': callsExhibit } as const;

export type ExhibitName = keyof typeof EXHIBITS;

function packaged(folder: string): string {
  return fileURLToPath(new URL(`../${folder}`, import.meta.url));
}
