/**
 * `r3 serve`: answers OpenAI's clients from a model folder until Ctrl-C.
 *
 * The address is the result, on stdout; a line for each request goes to stderr, without any text of prompts or
 * answers. What is served and how is in src/serve.
 */
import { randomInt, randomUUID } from 'node:crypto';
import { existsSync } from 'node:fs';
import { basename, resolve } from 'node:path';
import type { Command } from 'commander';
import { messageOf, R3Error } from '../lib/errors.ts';
import { oneLine } from '../lib/printable.ts';
import { isLoopback, makeHandler, type RequestLog } from '../serve/handler.ts';
import type { ServedModel } from '../serve/job.ts';
import { listen } from '../serve/node-server.ts';
import { templateRenderer } from '../serve/render-prompt.ts';
import { makeChatFormat } from '../text/chat.ts';
import { loadChatTemplate } from '../text/load-template.ts';
import { loadTokenizer, type Tokenizer } from '../text/tokenizer.ts';
import { INTERRUPTED, printLine, type Io } from './io.ts';
import { addEngineOptions, addExamples, integer, type EngineFlags } from './options.ts';
import { engineOptions, findModel, openEngine, textFolder, withEngine } from './session.ts';

const PORT = 8000;
const MAX_TOKENS = 4096;
const MAX_REQUESTS = 256;
const MAX_BODY_MIB = 1;
const HEADERS_TIMEOUT_MS = 10_000;
const REQUEST_TIMEOUT_MS = 60_000;
/** Longer paths are nobody's but an attacker's. */
const LOGGED_PATH = 80;
const SEEDS = 2 ** 32;

interface Flags extends EngineFlags {
  host: string;
  port: number;
  name?: string;
  maxTokens: number;
  maxRequests: number;
  maxBodyMib: number;
}

export function define(command: Command, io: Io): void {
  command
    .description(
      'Serves a model to any OpenAI client: POST /v1/chat/completions and /v1/completions, GET /v1/models and /health.',
    )
    .argument('<model>', 'model folder in the Hugging Face layout, or the name of a downloaded model')
    .option(
      '--host <address>',
      'address to listen on; others than loopback are open to the network',
      '127.0.0.1',
    )
    .addOption(integer('--port <n>', '0: any that is free', { min: 0, max: 65535 }).default(PORT))
    .option('--name <name>', "what clients call the model (default: the folder's name)")
    .addOption(
      integer('--max-tokens <n>', 'longest completion that a request may ask for', { min: 1 }).default(
        MAX_TOKENS,
      ),
    )
    .addOption(
      integer('--max-requests <n>', 'requests under way; more get status 429', { min: 1 }).default(
        MAX_REQUESTS,
      ),
    )
    .addOption(
      integer('--max-body-mib <n>', 'largest body of a request, in MiB', { min: 1, max: 256 }).default(
        MAX_BODY_MIB,
      ),
    );
  addEngineOptions(command);
  addExamples(
    command,
    `
  r3 serve models/start
  r3 serve DIR --port 0 --name my-model --dtype bf16
  R3_API_KEY=secret r3 serve DIR --host 0.0.0.0

Clients that need an API key take any text, unless R3_API_KEY is set: then they must send that.
Ctrl-C lets the requests under way end; a second one ends at once.`,
  );
  command.action((model: string, flags: Flags) => serve(model, flags, io));
}

async function serve(named: string, flags: Flags, io: Io): Promise<void> {
  const directory = findModel(named, io.env);
  const { host } = flags;
  const isLoopbackOnly = isLoopback(host);
  const apiKey = io.env['R3_API_KEY'] || undefined;
  const text = textFolder(directory, io.env);
  const tokenizer = loadTokenizer(text);
  const chat = loadChat(text, tokenizer, io);
  const stopSignal = io.stopSignal();
  const opening = openEngine(io, { model: directory, trainable: false, ...engineOptions(flags) });
  await withEngine(opening, async (engine) => {
    const name = flags.name ?? servedName(named);
    const handler = makeHandler({
      model: { name, engine, tokenizer, ...chat },
      limits: {
        maxBodyBytes: flags.maxBodyMib * 2 ** 20,
        maxTokens: flags.maxTokens,
        maxRequests: flags.maxRequests,
      },
      apiKey,
      isLoopbackOnly,
      now: () => Date.now(),
      randomSeed: () => randomInt(SEEDS),
      newId: () => randomUUID().replaceAll('-', ''),
      log: (entry) => io.note(logLine(entry)),
    });
    const listening = await listen(handler.handle, {
      host,
      port: flags.port,
      headersTimeoutMs: HEADERS_TIMEOUT_MS,
      requestTimeoutMs: REQUEST_TIMEOUT_MS,
    }).catch((error: unknown) => {
      throw listenError(error, flags);
    });
    printLine(io, `http://${host.includes(':') ? `[${host}]` : host}:${listening.port}/v1`);
    io.note(`r3: serving ${oneLine(name)}; Ctrl-C stops`);
    if (!isLoopbackOnly && apiKey === undefined) {
      io.note(`r3: warning: anyone who reaches ${host} can use this server; set R3_API_KEY to ask for a key`);
    }
    await aborted(stopSignal);
    io.note('r3: stopping; requests under way end first, a second Ctrl-C ends at once');
    await handler.stop();
    await listening.close();
    io.exitCode = INTERRUPTED;
  });
}

/** The name on the hub, or that of the folder. */
function servedName(named: string): string {
  return existsSync(named) ? basename(resolve(named)) : named;
}

/** A model without a chat template still completes texts; a chat request then gets the reason as its error. */
function loadChat(
  directory: string,
  tokenizer: Tokenizer,
  io: Io,
): Pick<ServedModel, 'render' | 'chatStopIds'> {
  try {
    const template = loadChatTemplate(directory);
    const now = (): Date => new Date();
    const { stopIds } = makeChatFormat(template, tokenizer, now());
    return { render: templateRenderer(template, now), chatStopIds: stopIds };
  } catch (error) {
    if (!(error instanceof R3Error && error.code === 'bad-template')) throw error;
    io.note(`r3: no chat: ${error.message}`);
    return {
      chatStopIds: [],
      render: () => {
        throw error;
      },
    };
  }
}

function listenError(error: unknown, { host, port }: Flags): R3Error {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  const what =
    code === 'EADDRINUSE'
      ? `--port: expected a free port, got ${port}, which is taken; --port 0 finds one`
      : `--host and --port: expected an address to listen on, got ${host}, port ${port}: ${messageOf(error)}`;
  return new R3Error('config', 'not-available', what, { cause: error });
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((done) => {
    if (signal.aborted) done();
    else signal.addEventListener('abort', () => done(), { once: true });
  });
}

function logLine({
  method,
  path,
  status,
  promptTokens,
  completionTokens,
  seconds,
  error,
}: RequestLog): string {
  const tokens = completionTokens > 0 ? ` ${promptTokens}+${completionTokens} tokens` : '';
  const why = error === undefined ? '' : ` ${oneLine(error)}`;
  return `${method} ${oneLine(path.slice(0, LOGGED_PATH))} ${status}${tokens} ${seconds.toFixed(2)} s${why}`;
}
