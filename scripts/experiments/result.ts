/**
 * What is kept of a run of an arm: rates with intervals, differences, kinds of reflection, and what it cost.
 *
 * A file of its own for each (arm, start model, seed), so that a long experiment can be stopped and gone on with.
 * A file of another version is not a result: what is measured, or how, has changed since, and the arm is run again.
 */
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { writeFileAtomic } from '../../src/lib/files.ts';
import type { BeforeAfter } from '../../src/method/controls.ts';
import type { ReflectionProfile } from '../../src/method/profile.ts';
import type { Difference, Rate } from '../../src/method/statistics.ts';

/** Raised when what is measured changes. */
const VERSION = 2;

export interface ArmResult {
  version: typeof VERSION;
  arm: string;
  /** Which warm-up made the start model: 1 is the one that ships. */
  warmUp: number;
  seed: number;
  /** sha256 of the start model's weights, and the kernel build that computed. */
  startModel: string;
  kernels: string;
  summary: Pick<
    BeforeAfter,
    'n' | 'temperature' | 'before' | 'after' | 'greedy' | 'change' | 'writerByReader'
  >;
  /**
   * How many independent attempts take at least the tokens of an attempt, a reflection and a retry. null: a run of a time
   * when that number was rounded to the nearest; its rate of such attempts is not known.
   */
  attemptsAtEqualTokens: { before: number; after: number } | null;
  afterEmptyReflection: { before: Rate; after: Rate } | null;
  /** Second tries of the start model after reflections that begin as the trained model's do. */
  forced: { before: number; greedyBefore: number };
  profile: { before: ReflectionProfile; after: ReflectionProfile };
  /** First tries at the task that was not trained, where the start model knows one. */
  untouched: { before: Rate; after: Rate; change: Difference } | null;
  /** Means over the last steps: the KL term, null where the loss has none, and the share of groups whose rewards are all the same. */
  kl: number | null;
  withoutSignal: number;
  /** Of training's steps, their sampling included. */
  trainSeconds: number;
}

/** Which run a result is of. */
export type RunName = Pick<ArmResult, 'arm' | 'warmUp' | 'seed'>;

export function resultPath(directory: string, { arm, warmUp, seed }: RunName): string {
  return join(directory, `${arm}-${warmUp}-${seed}.json`);
}

/** Undefined where there is none of this version. */
export function readResult(path: string): ArmResult | undefined {
  if (!existsSync(path)) return undefined;
  const result = JSON.parse(readFileSync(path, 'utf8')) as ArmResult;
  return result.version === VERSION ? result : undefined;
}

/** Numbers to four places: more would only make the files long. */
export function writeResult(directory: string, result: Omit<ArmResult, 'version'>): void {
  mkdirSync(directory, { recursive: true });
  const text = JSON.stringify({ version: VERSION, ...result }, (_, value: unknown) =>
    typeof value === 'number' ? Number(value.toFixed(4)) : value,
  );
  writeFileAtomic(resultPath(directory, result), `${text}\n`);
}
