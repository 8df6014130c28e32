/**
 * How far log-probabilities of the same weights on a service are from those of the embedded engine, in nats.
 *
 * Texts are the embedded engine's own first tries, scored on both sides by a forward pass.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Datum, Engine } from '../../src/engine/engine.ts';
import { openLocalEngine } from '../../src/engine/local/local-engine.ts';
import { openTinkerEngine } from '../../src/engine/tinker/tinker-engine.ts';
import { EXHIBITS } from '../../src/exhibits.ts';
import { parseJsonObject } from '../../src/lib/json.ts';
import { makePlayer } from '../../src/player.ts';

type CountdownProblem = ReturnType<typeof EXHIBITS.countdown.problems>[number];

export interface Place {
  url: string;
  baseModel: string;
  /** The base model's files on this machine. */
  folder: string;
}

export interface Distance {
  largest: number;
  mean: number;
  /** Log-probabilities compared. */
  count: number;
}

/** Of the base model: an adapter that was not trained, and the reference. */
export async function compareBase(place: Place, problems: readonly CountdownProblem[]): Promise<Distance> {
  const local = await openLocalEngine({ model: place.folder, trainable: false });
  const remote = await openTinkerEngine({ ...(await common(place)), lora: { rank: 8, seed: 1 } });
  try {
    const datums = await texts(local, place, problems);
    const ours = await local.logprobs(datums);
    const theirs = [await remote.logprobs(datums), await remote.logprobs(datums, { weights: 'reference' })];
    return distance([...ours, ...ours], theirs.flat());
  } finally {
    await remote.close();
    await local.close();
  }
}

/** Of an adapter that a run has saved here and on the service. */
export async function compareSaved(
  place: Place,
  saved: string,
  problems: readonly CountdownProblem[],
): Promise<Distance> {
  const { path: modelPath, statePath } = parseJsonObject(
    readFileSync(join(saved, 'tinker.json'), 'utf8'),
  ) as {
    path: string;
    statePath: string;
  };
  const local = await openLocalEngine({ model: saved, base: place.folder, trainable: false });
  const remote = await openTinkerEngine({ ...(await common(place)), modelPath, statePath });
  try {
    const datums = await texts(local, place, problems);
    return distance(await local.logprobs(datums), await remote.logprobs(datums));
  } finally {
    await remote.close();
    await local.close();
  }
}

async function common({ url, baseModel, folder }: Place): Promise<Parameters<typeof openTinkerEngine>[0]> {
  const { vocab_size: vocabularySize } = parseJsonObject(readFileSync(join(folder, 'config.json'), 'utf8'));
  return {
    url,
    apiKey: process.env['TINKER_API_KEY'],
    baseModel,
    vocabularySize: Number(vocabularySize),
    contextLength: 256,
  };
}

/** First tries, every token of them. */
async function texts(
  engine: Engine,
  { folder }: Place,
  problems: readonly CountdownProblem[],
): Promise<Datum[]> {
  const { limits, task } = EXHIBITS.countdown;
  const player = makePlayer(engine, folder, task, task.prompts('short'), { temperature: 1, ...limits });
  return Promise.all(
    problems.map(async (problem, i) => {
      const [tried] = await player.attempt(problem, 1, i);
      const prompt = player.pose(problem).tokens;
      const tokens = [...prompt, ...(tried?.written.tokens ?? [])];
      return { tokens, positions: tokens.slice(1).map((_, at) => at + 1) };
    }),
  );
}

function distance(ours: readonly Float32Array[], theirs: readonly Float32Array[]): Distance {
  const apart = ours.flatMap((row, i) =>
    Array.from(row, (x, t) => Math.abs(x - (theirs[i]?.[t] ?? Number.NaN))),
  );
  return {
    largest: Math.max(...apart),
    mean: apart.reduce((sum, x) => sum + x, 0) / apart.length,
    count: apart.length,
  };
}
