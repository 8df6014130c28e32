/**
 * Episodes on a service: thousands in flight at once, through the engine that `r3 train --engine tinker` uses.
 *
 * An episode is a sampled reflection and the sampled retry after it; nothing is trained. The service takes a fixed time
 * for each call. It is the strict test server in a process of its own, so that this process's processor time is the
 * client's. The ideal is the time of the calls alone. Every sample carries its number there and back: what is missing,
 * and what was served or came twice, is counted.
 */
import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { openTinkerEngine } from '../src/engine/tinker/tinker-engine.ts';
import type { Engine } from '../src/engine/engine.ts';
import type { Emit } from './harness.ts';
import type { Report, ServerOptions } from './remote-server.ts';

/** Tokens. */
const LENGTHS = { prompt: 300, reflection: 96, bridge: 40, retry: 96 };
const VOCABULARY = 32_000;
const BRIDGE = Array.from({ length: LENGTHS.bridge }, (_, i) => 7 * i);
/** Without the two tokens that say which turn and episode it is. */
const PROBLEM = Array.from({ length: LENGTHS.prompt - 2 }, (_, i) => (101 * i) % VOCABULARY);
/** Samples at once before the clock starts. */
const WARM_LANES = 50;

export interface RemoteCase {
  /** Episodes under way at once. */
  inFlight: number;
  /** Episodes that are played one after the other in each of those places. */
  rounds: number;
  /** Of each call. */
  latencyMs: number;
  /** Samples before the clock starts, so that the code is compiled. */
  warmUp: number;
}

/** 50 ms is less than any model takes, so that the client is what is measured; a second is little for a large one. */
const CASES: readonly RemoteCase[] = [
  { inFlight: 1000, rounds: 10, latencyMs: 50, warmUp: 2000 },
  { inFlight: 1000, rounds: 4, latencyMs: 1000, warmUp: 2000 },
  { inFlight: 10_000, rounds: 2, latencyMs: 50, warmUp: 2000 },
];

export interface RemoteResult {
  samples: number;
  wallSeconds: number;
  idealSeconds: number;
  /** Of this process. */
  processorSeconds: number;
  server: Report;
  lost: number;
  doubled: number;
}

export async function benchRemote(emit: Emit): Promise<void> {
  for (const each of CASES) {
    const { samples, wallSeconds, idealSeconds, processorSeconds, server, lost, doubled } =
      await playEpisodes(each);
    const name = `${each.inFlight} in flight, ${each.latencyMs} ms a call`;
    const line = (what: string, value: number, unit: string): void =>
      emit({ bench: 'remote', case: `${name}: ${what}`, value, unit });
    line('wall time', wallSeconds, 's');
    line('ideal', idealSeconds, 's');
    line('wall time over the ideal', wallSeconds / idealSeconds, 'ratio');
    line('by wall time', samples / wallSeconds, 'samples/s');
    line('by processor time of the client', samples / processorSeconds, 'samples/s');
    line('processor of the client', (1e6 * processorSeconds) / samples, 'us/sample');
    line('processor of the server', (1e6 * server.processorSeconds) / samples, 'us/sample');
    line('peak memory of the client', process.resourceUsage().maxRSS / 1024, 'MiB');
    line('connections', server.connections, 'at once');
    line('sent', server.requests, 'requests');
    line('played', samples, 'samples');
    line('lost', lost, 'samples');
    line('doubled', doubled, 'samples');
  }
}

/** Plays the episodes of a case against a server of its own. */
export async function playEpisodes(each: RemoteCase): Promise<RemoteResult> {
  const { inFlight, rounds, latencyMs } = each;
  const server = await startServer({
    latencyMs,
    inFlight,
    episodes: inFlight * rounds,
    vocabularySize: VOCABULARY,
    promptTokens: LENGTHS.prompt,
    completionTokens: LENGTHS.reflection,
  });
  try {
    const engine = await openTinkerEngine({
      url: server.url,
      baseModel: 'models/tiny',
      vocabularySize: VOCABULARY,
      limits: { maxInFlight: inFlight },
    });
    const result = await measure(engine, server, each);
    await engine.close();
    return result;
  } finally {
    server.stop();
  }
}

async function measure(
  engine: Engine,
  server: Server,
  { inFlight, rounds, latencyMs, warmUp }: RemoteCase,
): Promise<RemoteResult> {
  const came = new Array<number>(2 * inFlight * rounds).fill(0);
  const warm = async (): Promise<void> => {
    // Too short to be counted.
    for (let i = 0; i < warmUp; i += WARM_LANES) await sample(engine, PROBLEM, LENGTHS.reflection, i);
  };
  await Promise.all(Array.from({ length: WARM_LANES }, warm));
  await server.ask('begin');
  const [start, before] = [performance.now(), process.cpuUsage()];
  await Promise.all(
    Array.from({ length: inFlight }, async (_, lane) => {
      for (let round = 0; round < rounds; round++) {
        for (const tokens of await playEpisode(engine, round * inFlight + lane))
          came[placeOf(tokens)] = (came[placeOf(tokens)] ?? 0) + 1;
      }
    }),
  );
  const { user, system } = process.cpuUsage(before);
  const wallSeconds = (performance.now() - start) / 1000;
  const report = await server.ask('end');
  return {
    samples: came.length,
    wallSeconds,
    idealSeconds: (rounds * 2 * latencyMs) / 1000,
    processorSeconds: (user + system) / 1e6,
    server: report,
    ...countFaults(came, report.served),
  };
}

/** Where a sample is counted, by its first two tokens. Turn 0 reflects, turn 1 retries. */
export function placeOf([turn = 0, episode = 0]: readonly number[]): number {
  return 2 * episode + turn;
}

/** Samples by their place, as they came and as they were served. */
export function countFaults(
  came: readonly number[],
  served: readonly number[],
): { lost: number; doubled: number } {
  const count = (is: (place: number) => boolean): number => came.filter((_, place) => is(place)).length;
  return {
    lost: count((place) => came[place] === 0 || served[place] === 0),
    doubled: count((place) => (came[place] ?? 0) > 1 || (served[place] ?? 0) > 1),
  };
}

/** What was sampled: the reflection, and the retry after it. */
async function playEpisode(engine: Engine, episode: number): Promise<number[][]> {
  const asked = [0, episode, ...PROBLEM];
  const reflection = await sample(engine, asked, LENGTHS.reflection, episode);
  const retry = await sample(
    engine,
    [1, episode, ...PROBLEM, ...reflection, ...BRIDGE],
    LENGTHS.retry,
    episode + 1,
  );
  return [reflection, retry];
}

async function sample(engine: Engine, prompt: number[], maxTokens: number, seed: number): Promise<number[]> {
  const params = { temperature: 1, maxTokens, stopIds: [] };
  const [completion] = await engine.sample({ prompt, count: 1, params, seed });
  return completion?.tokens ?? [];
}

interface Server {
  url: string;
  ask(what: 'begin' | 'end'): Promise<Report>;
  stop(): void;
}

async function startServer(options: ServerOptions): Promise<Server> {
  const child: ChildProcess = fork('scripts/run-ts.mjs', ['bench/remote-server.ts', JSON.stringify(options)]);
  const answer = async <T>(): Promise<T> => ((await once(child, 'message')) as [T])[0];
  const url = await answer<string>();
  return {
    url,
    ask: (what) => {
      child.send(what);
      return answer();
    },
    stop: () => child.disconnect(),
  };
}
