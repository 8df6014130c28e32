/**
 * `r3 eval --engine openai`: the options of a server, a client from them, and what an evaluation will ask of it.
 *
 * The key comes from an environment variable and goes to the client alone. What needs weights, ids or log-probabilities
 * is refused by name.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Command } from 'commander';
import { makeChatPlayer } from '../chat-player.ts';
import { parseServerUrl } from '../engine/http.ts';
import { openChatClient, type ChatClient } from '../engine/openai/client.ts';
import { evaluate } from '../evaluate.ts';
import { R3Error } from '../lib/errors.ts';
import type { Message, Problem } from '../method/episode.ts';
import type { Prompts, Task } from '../method/task.ts';
import { makeActor, type PlayerOptions } from '../player.ts';
import { isLoopback } from '../serve/handler.ts';
import type { EvaluationConfig } from './eval-config.ts';
import { printJson, printLine, type Io } from './io.ts';
import { givenOptions, integer, usageError, type EngineName } from './options.ts';
import type { Progress } from './progress.ts';
import { renderTable } from './table.ts';
import { refuseForEngine } from './tinker.ts';

const KEY_VARIABLE = 'OPENAI_API_KEY';
const CONCURRENCY = 32;
const TIMEOUT_SECONDS = 600;
/** Enough to see that a request is taken and counted. */
const PROBE_TOKENS = 16;
/** What a template writes around a message, in tokens, at most: a guess on the safe side. */
const MESSAGE_TOKENS = 16;
/** And at the beginning of a conversation, such as a system message of its own. */
const BEGINNING_TOKENS = 64;
/** The reason of a failure, where the model is told it (--told reason), at most: tasks cut what they quote. */
const REASON_BYTES = 1000;

export interface ServerFlags {
  engine?: EngineName;
  url?: string;
  apiKeyEnv: string;
  concurrency: number;
  timeout: number;
  dryRun?: boolean;
}

/** Options that only a server has, and that only the embedded engine has. */
const OF_SERVERS = ['--api-key-env', '--concurrency', '--timeout', '--dry-run'];
const OF_ENGINES: Readonly<Record<string, string>> = {
  '--against':
    'KL, forced beginnings and who gains take both models on one engine; evaluate each and use r3 compare',
  '--dtype': "the precision is the server's affair",
  '--context': "the context is the server's affair",
  '--threads': "the computation is the server's affair",
};

export function addServerOptions(command: Command): Command {
  return command
    .option(
      '--url <address>',
      'of the server, such as http://localhost:8000/v1 (with --engine openai or tinker)',
    )
    .option('--api-key-env <name>', 'the environment variable with its API key', KEY_VARIABLE)
    .addOption(integer('--concurrency <n>', 'requests under way at a time', { min: 1 }).default(CONCURRENCY))
    .addOption(
      integer('--timeout <seconds>', 'for the whole answer to a request, which is then sent again', {
        min: 1,
        max: 86_400,
      }).default(TIMEOUT_SECONDS),
    )
    .option('--dry-run', 'print how many requests and tokens a server will be asked for at most, and stop');
}

/** Throws a usage error for an option that has no meaning with the engine. */
export function refuseOptions(engine: EngineName, command: Command): void {
  const given = givenOptions(command);
  if (engine !== 'openai') refuseForEngine(command, engine);
  const ofServer = given.find((option) => OF_SERVERS.includes(option));
  if (engine !== 'openai' && ofServer !== undefined)
    throw usageError(`${ofServer}: expected --engine openai beside it, got the engine ${engine}`);
  const ofEngine = given.find((option) => option in OF_ENGINES);
  if (engine === 'openai' && ofEngine !== undefined)
    throw usageError(`${ofEngine}: expected none with --engine openai, got it; ${OF_ENGINES[ofEngine]}`);
}

/** The address that flags give. */
export function serverUrl({ url }: ServerFlags): string {
  if (url !== undefined) return parseServerUrl(url, KEY_VARIABLE);
  throw usageError('--url: expected the address of the server with --engine openai, got none');
}

/** `signal`: ends what is under way. */
export function connect(
  server: { url: string; model: string },
  { apiKeyEnv, concurrency, timeout }: ServerFlags,
  signal: AbortSignal,
  progress: Progress,
  io: Io,
): ChatClient {
  const apiKey = io.env[apiKeyEnv] || undefined;
  if (apiKey === undefined && apiKeyEnv !== KEY_VARIABLE)
    throw usageError(`--api-key-env: expected a variable that is set, got ${apiKeyEnv}, which is not`);
  if (apiKey !== undefined && !/^[\u0021-\u007e]+$/.test(apiKey))
    throw usageError(
      `${apiKeyEnv}: expected an API key of visible ASCII characters, got others or white space in it`,
    );
  const { protocol, hostname, host } = new URL(server.url);
  if (apiKey !== undefined && protocol === 'http:' && !isLoopback(hostname))
    io.note(`r3: warning: the API key goes to ${host} unencrypted; https keeps it secret`);
  return openChatClient({
    ...server,
    apiKey,
    concurrency,
    timeoutMs: timeout * 1000,
    signal,
    wait: (milliseconds, ended) => sleep(milliseconds, undefined, { signal: ended }),
    now: () => Date.now(),
    onWait: (why, milliseconds) =>
      progress.log(`${why}; sent again in ${(milliseconds / 1000).toFixed(0)} s`),
  });
}

/** What a server says of itself, once a first request was taken: nothing is written for one that refuses. */
export async function tryServer(
  client: ChatClient,
  task: Task,
  prompts: Prompts,
  problem: Problem | undefined,
): Promise<{ contextLength: number }> {
  const { contextLength = Number.POSITIVE_INFINITY } = await client.describe();
  if (problem === undefined) return { contextLength };
  const messages = task.pose(problem, prompts);
  try {
    await client.complete({ messages, count: 1, maxTokens: PROBE_TOKENS, temperature: 0, seed: 0 });
  } catch (error) {
    // One long problem does not stop the rest.
    if (!(error instanceof R3Error && error.code === 'too-long')) throw error;
  }
  return { contextLength };
}

/** Whose `complete` throws R3Error `cancelled` with this message once it was stopped. */
export function stoppableClient(client: ChatClient, message: string): Pick<ChatClient, 'complete'> {
  return {
    complete: async (request) => {
      try {
        return await client.complete(request);
      } catch (error) {
        if (!(error instanceof R3Error && error.code === 'cancelled')) throw error;
        throw new R3Error('engine', 'cancelled', message, { cause: error });
      }
    },
  };
}

/** What an evaluation asks for, in requests and tokens. */
export interface Demand {
  requests: number;
  /** Requests where the server gives one answer at a time. */
  singleRequests: number;
  promptTokens: number;
  sampledTokens: number;
}

/**
 * The demand of an evaluation in which every try fails at its longest, by running it on nobody. Prompts are counted as a
 * token for each byte of UTF-8, which no byte-level tokenizer exceeds, and the most that templates add.
 */
export async function demandOf(
  task: Task,
  prompts: Prompts,
  problems: readonly Problem[],
  {
    sampling,
    seeds,
    controls,
    fixedText,
  }: Pick<EvaluationConfig, 'sampling' | 'seeds' | 'controls' | 'fixedText'>,
): Promise<Demand> {
  const why = ' '.repeat(REASON_BYTES);
  const failing: Task = { ...task, verify: () => ({ ok: false, class: 'failed', why }) };
  delete failing.answersIn;
  delete failing.describeReflection;
  const demand: Demand = { requests: 0, singleRequests: 0, promptTokens: 0, sampledTokens: 0 };
  const lengthOfAll = (messages: readonly Message[]): number =>
    messages.reduce((sum, { content }) => sum + Buffer.byteLength(content) + MESSAGE_TOKENS, 0);
  const measure = async (temperature: number, times: number): Promise<void> => {
    const options: PlayerOptions = { ...sampling, temperature };
    const nobody = makeActor<Problem, number>(
      {
        begin: (messages) => BEGINNING_TOKENS + lengthOfAll(messages),
        extend: (previous, { tokenCount = 0 }, next) =>
          previous + tokenCount + MESSAGE_TOKENS + lengthOfAll(next),
        write: async (asked, count, maxTokens) => {
          demand.requests += times;
          demand.singleRequests += times * count;
          demand.promptTokens += times * count * asked;
          demand.sampledTokens += times * count * maxTokens;
          return Array.from({ length: count }, () => ({
            tokens: [],
            logprobs: [],
            text: '',
            stopReason: 'stop',
            tokenCount: maxTokens,
          }));
        },
        asWritten: (text) => ({
          tokens: [],
          logprobs: [],
          text,
          stopReason: 'length',
          tokenCount: Buffer.byteLength(text),
        }),
      },
      failing,
      prompts,
      options,
    );
    await evaluate(nobody, problems, { seed: 0, fixedText, controls });
  };
  await measure(sampling.temperature, seeds.length);
  await measure(0, 1);
  return demand;
}

export function giveDemand(
  demand: Demand,
  { problems, seeds, controls }: { problems: number } & Pick<EvaluationConfig, 'seeds' | 'controls'>,
  json: boolean,
  io: Io,
): void {
  if (json) {
    printJson(io, { problems, seeds, ...demand });
    return;
  }
  const rows: [string, string][] = [
    ['problems', `${problems}, sampled with ${seeds.length} seed${seeds.length === 1 ? '' : 's'} and greedy`],
    ['requests', String(demand.requests)],
    ['requests, where the server gives one answer at a time', String(demand.singleRequests)],
    ['prompt tokens, one a byte', String(demand.promptTokens)],
    ['sampled tokens', String(demand.sampledTokens)],
  ];
  printLine(io, renderTable(['if every try fails, at its longest', 'at most'], rows));
  if (controls.includes('independentAtEqualTokens'))
    io.note(
      'note: attempts at equal tokens are as many as cost the tokens of the two tries; where attempts are short beside reflections they are more requests than this, for no more tokens',
    );
}

/** An actor on the server at a temperature. */
export function chatPlayerAt(
  client: Pick<ChatClient, 'complete'>,
  task: Task,
  prompts: Prompts,
  sampling: PlayerOptions,
): (temperature: number) => ReturnType<typeof makeChatPlayer> {
  return (temperature) => makeChatPlayer(client, task, prompts, { ...sampling, temperature });
}
