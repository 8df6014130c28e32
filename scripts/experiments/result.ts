/**
 * What is kept of a run of an arm: rates with intervals, differences, kinds of reflection, and what it cost.
 *
 * A file of its own for each (arm, start model, seed), so that a long experiment can be stopped and gone on with.
 */
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { writeFileAtomic } from '../../src/lib/files.ts';
import type { BeforeAfter } from '../../src/method/controls.ts';
import type { ReflectionProfile } from '../../src/method/profile.ts';
import type { Difference, Rate } from '../../src/method/statistics.ts';

export interface ArmResult {
  arm: string;
  /** Which warm-up made the start model: 1 is the one that ships. */
  warmUp: number;
  seed: number;
  summary: Pick<
    BeforeAfter,
    'n' | 'temperature' | 'before' | 'after' | 'greedy' | 'change' | 'writerByReader'
  >;
  forced: { before: number; greedyBefore: number };
  profile: { before: ReflectionProfile; after: ReflectionProfile };
  /** First tries at the task that was not trained, where the start model knows one. */
  untouched: { before: Rate; after: Rate; change: Difference } | null;
  kl: number;
  withoutSignal: number;
  /** Of training alone, and tokens that were sampled in it. */
  trainSeconds: number;
}

/** Where the result of one run is. */
export function resultPath(directory: string, { arm, warmUp, seed }: Omit<ArmResult, keyof Kept>): string {
  return join(directory, `${arm}-${warmUp}-${seed}.json`);
}

type Kept = Omit<ArmResult, 'arm' | 'warmUp' | 'seed'>;

export function readResult(path: string): ArmResult | undefined {
  return existsSync(path) ? (JSON.parse(readFileSync(path, 'utf8')) as ArmResult) : undefined;
}

/** Numbers to four places: more would only make the files long. */
export function writeResult(directory: string, result: ArmResult): void {
  mkdirSync(directory, { recursive: true });
  const text = JSON.stringify(result, (_, value: unknown) =>
    typeof value === 'number' ? Number(value.toFixed(4)) : value,
  );
  writeFileAtomic(resultPath(directory, result), `${text}\n`);
}
