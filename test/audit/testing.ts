/** A start for audits: the shipped start model on the embedded engine, in this thread, and ways to break it. */
import { createHash } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Engine } from '../../src/engine/engine.ts';
import { openLocalEngine, type LocalEngineOptions } from '../../src/engine/local/local-engine.ts';
import type { Problem } from '../../src/method/episode.ts';
import type { Task } from '../../src/method/task.ts';
import { mine, type Mined } from '../../src/mine.ts';
import { makePlayer, type Player, type PlayerOptions } from '../../src/player.ts';
import { quickstartTrainOptions, START_MODEL } from '../../src/quickstart.ts';
import { generateProblems } from '../../src/tasks/countdown-generator.ts';
import { countdown, type CountdownProblem } from '../../src/tasks/countdown.ts';
import type { TrainOptions } from '../../src/train-options.ts';

export const OPTIONS: TrainOptions = { ...quickstartTrainOptions(1, false), reflectionsPerFailure: 4 };
const SAMPLING: PlayerOptions = { temperature: 1, maxAttemptTokens: 20, maxReflectionTokens: 96 };

export function openStart(options: Partial<LocalEngineOptions> = {}): Promise<Engine> {
  return openLocalEngine({ model: START_MODEL, thread: false, ...options });
}

export interface Setup {
  model?: string;
  task?: Task<CountdownProblem>;
  options?: Partial<PlayerOptions>;
}

export function playerOn(
  engine: Engine,
  { model = START_MODEL, task = countdown, options = {} }: Setup = {},
): Player<CountdownProblem> {
  return makePlayer(engine, model, task, countdown.prompts('short'), { ...SAMPLING, ...options });
}

export function mineWith(player: Player<CountdownProblem>): Promise<Mined<CountdownProblem>> {
  const problems = generateProblems({ count: 60, split: 'held-out', numbers: 3, seed: 1 });
  return mine(player, problems, { ...OPTIONS.mining, seed: 1 });
}

/** Enough for most faults. */
export function fewOf<P extends Problem>(mined: Mined<P>): Mined<P> {
  return { ...mined, failures: mined.failures.slice(0, 8) };
}

/** sha256 of weights and optimizer. */
export async function stateHash(engine: Engine): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), 'audit-'));
  try {
    const state = join(folder, 'state');
    await engine.saveState(state);
    const hash = createHash('sha256');
    for (const name of readdirSync(state).toSorted())
      hash.update(name).update(readFileSync(join(state, name)));
    return hash.digest('hex');
  } finally {
    rmSync(folder, { recursive: true });
  }
}
