/**
 * The strict test server of the Tinker protocol as a process of its own, with a scripted model, for `remote.ts`.
 *
 * Started with an IPC channel and one JSON argument. Sends its address; when asked, what it has served; ends with the
 * channel. A prompt of the bench begins with its turn and its episode, and so does its completion: each sample is known
 * on both sides.
 */
import { subscribe } from 'node:diagnostics_channel';
import type { Socket } from 'node:net';
import { makeScriptedBackend } from '../test/tinker/scripted-backend.ts';
import { startTinkerServer } from '../test/tinker/server.ts';
import { placeOf } from './remote.ts';

export interface ServerOptions {
  latencyMs: number;
  inFlight: number;
  episodes: number;
  vocabularySize: number;
  /** Prompts from this length on are the bench's; shorter ones are probes. */
  promptTokens: number;
  completionTokens: number;
}

export interface Report {
  /** Completions by their place. */
  served: number[];
  /** The most that were open at once. */
  connections: number;
  requests: number;
  processorSeconds: number;
}

await serve(JSON.parse(process.argv[2] ?? '') as ServerOptions);

async function serve(options: ServerOptions): Promise<void> {
  const { latencyMs, inFlight, episodes, vocabularySize, promptTokens, completionTokens } = options;
  const served = new Array<number>(2 * episodes).fill(0);
  const backend = makeScriptedBackend({
    vocabularySize,
    script: (prompt, index, seed) => {
      const [turn = 0, episode = 0] = prompt;
      if (prompt.length >= promptTokens) served[placeOf(prompt)] = (served[placeOf(prompt)] ?? 0) + 1;
      const rest = Array.from(
        { length: completionTokens - 2 },
        (_, i) => (seed + index + i) % vocabularySize,
      );
      return [turn, episode, ...rest];
    },
  });
  let [open, connections] = [0, 0];
  subscribe('net.server.socket', (message) => {
    connections = Math.max(connections, ++open);
    (message as { socket: Socket }).socket.on('close', () => open--);
  });
  const server = await startTinkerServer({
    backend,
    latencyMs,
    // As real servers hold a poll.
    pollWindowMs: 5000,
    clientConfig: { sample_max_concurrent_requests: inFlight },
  });
  let before = { processor: 0, requests: 0 };
  const now = (): typeof before => {
    const { user, system } = process.cpuUsage();
    return {
      processor: (user + system) / 1e6,
      requests: [...server.counts.values()].reduce((sum, count) => sum + count, 0),
    };
  };
  process.on('message', (what) => {
    if (what === 'begin') before = now();
    const { processor, requests } = now();
    const report: Report = {
      served,
      connections,
      requests: requests - before.requests,
      processorSeconds: processor - before.processor,
    };
    process.send?.(report);
  });
  process.on('disconnect', () => process.exit(0));
  process.send?.(server.url);
}
