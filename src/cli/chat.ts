/**
 * `r3 chat`: a conversation with a model in the terminal.
 *
 * What the model sampled stays the exact ids: each turn adds ids to those that are there. Where the chat template
 * rewrites earlier turns that cannot be, and the conversation is encoded anew, with a note that says so.
 * Answers go to stdout, all else to stderr. When stdin is no terminal each of its lines is a user's turn.
 */
import { basename } from 'node:path';
import type { Interface } from 'node:readline';
import type { Command } from 'commander';
import type { Engine, SamplingParams } from '../engine/engine.ts';
import { generateText } from '../generate.ts';
import { messageOf, R3Error } from '../lib/errors.ts';
import { oneLine, printable } from '../lib/printable.ts';
import { hash32 } from '../lib/rng.ts';
import { loadChatFormat, type ChatFormat, type Conversation } from '../text/chat.ts';
import type { Message, Written } from '../text/message.ts';
import { loadTokenizer, type Tokenizer } from '../text/tokenizer.ts';
import { INTERRUPTED, type Io } from './io.ts';
import {
  addEngineOptions,
  addExamples,
  addFilterOptions,
  integer,
  real,
  seed,
  type EngineFlags,
} from './options.ts';
import { engineOptions, findModel, openEngine, textFolder, withEngine } from './session.ts';

const MAX_TOKENS = 1024;

interface Flags extends EngineFlags {
  system?: string;
  maxTokens?: number;
  temperature: number;
  topK?: number;
  topP?: number;
  minP?: number;
  seed: number;
}

export function define(command: Command, io: Io): void {
  command
    .description('Talks to a model in the terminal.')
    .argument('<model>', 'model folder in the Hugging Face layout, or the name of a downloaded model')
    .option('--system <text>', 'a system message that begins the conversation (default: none)')
    .addOption(
      integer(
        '--max-tokens <n>',
        `longest answer, in tokens (default: what the context leaves, at most ${MAX_TOKENS})`,
        { min: 1 },
      ),
    )
    .addOption(
      real('--temperature <t>', 'divides the logits before sampling; 0 is greedy', { min: 0 }).default(0.7),
    );
  addFilterOptions(command).addOption(
    seed('the same seed and the same turns give the same answers').default(1),
  );
  addEngineOptions(command);
  addExamples(
    command,
    `
  r3 chat models/start
  r3 chat DIR --system "Answer in one sentence." --temperature 1
  r3 chat DIR < questions.txt

In a conversation: /reset begins anew, /exit or Ctrl-D ends it, Ctrl-C ends an answer.`,
  );
  command.action((model: string, flags: Flags) => chat(model, flags, io));
}

async function chat(named: string, flags: Flags, io: Io): Promise<void> {
  const model = findModel(named, io.env);
  const tokenizer = loadTokenizer(textFolder(model, io.env));
  const format = loadChatFormat(textFolder(model, io.env), tokenizer);
  const stopSignal = io.stopSignal();
  const opening = openEngine(io, { model, trainable: false, ...engineOptions(flags) });
  await withEngine(opening, async (engine) => {
    const input = io.openInput();
    stopSignal.addEventListener('abort', () => input.close(), { once: true });
    if (input.terminal) {
      const name = oneLine(basename(named));
      io.note(`r3: talking to ${name}; /reset begins anew, /exit ends, Ctrl-C ends an answer`);
    }
    try {
      await converse({ engine, tokenizer, format, flags, input, io, stopSignal });
    } finally {
      input.close();
    }
    if (stopSignal.aborted) io.exitCode = INTERRUPTED;
  });
}

interface Talk {
  engine: Engine;
  tokenizer: Tokenizer;
  format: ChatFormat;
  flags: Flags;
  input: Interface;
  io: Io;
  /** Ends the answer and the conversation. */
  stopSignal: AbortSignal;
}

/** What has been said: everything up to the last answer, and that answer. */
interface Said {
  conversation: Conversation;
  answer: Written;
}

async function converse(talk: Talk): Promise<void> {
  const { input, io, flags, format, stopSignal } = talk;
  const { contextLength } = talk.engine.capabilities();
  const system: Message[] = flags.system === undefined ? [] : [{ role: 'system', content: flags.system }];
  let said: Said | undefined;
  let turn = 0;

  let answering: AbortController | undefined;
  // A terminal's Ctrl-C comes from readline, never as a signal of the process.
  input.on('SIGINT', () => {
    if (answering === undefined) input.close();
    else answering.abort();
  });
  const ask = (): void => {
    if (input.terminal) input.prompt();
  };

  ask();
  for await (const line of input) {
    if (stopSignal.aborted || line.trim() === '/exit') return;
    if (line.trim() === '/reset') said = undefined;
    else if (line.trim() !== '') {
      const message: Message = { role: 'user', content: line };
      const conversation =
        said === undefined ? format.begin([...system, message]) : goOn(format, said, message, io);
      const room = contextLength - conversation.tokens.length;
      if (room < 1) {
        const what = `conversation: expected fewer than ${contextLength} tokens (the model's context), got ${conversation.tokens.length}`;
        if (!input.terminal) throw new R3Error('text', 'too-long', `${what}; a line /reset begins anew`);
        io.note(`r3: ${what}; /reset begins anew`);
      } else {
        answering = new AbortController();
        const limit = Math.min(flags.maxTokens ?? MAX_TOKENS, room);
        const signal = AbortSignal.any([stopSignal, answering.signal]);
        const answer = await sampleAnswer(talk, conversation, limit, hash32(flags.seed, 0, turn++), signal);
        answering = undefined;
        if (stopSignal.aborted) return;
        if (answer.stopReason === 'length') {
          const fix = limit === room ? 'the context is full, /reset begins anew' : '--max-tokens allows more';
          io.note(`r3: the answer was cut at ${limit} tokens; ${fix}`);
        }
        // An answer that was ended before it began leaves no trace.
        if (answer.tokens.length > 0) said = { conversation, answer };
      }
    }
    ask();
  }
}

function goOn(format: ChatFormat, { conversation, answer }: Said, message: Message, io: Io): Conversation {
  try {
    return format.extend(conversation, answer, [message]);
  } catch (error) {
    if (!(error instanceof R3Error && error.code === 'bad-template')) throw error;
    io.note(`r3: the conversation is encoded anew: ${oneLine(messageOf(error))}`);
    return format.begin([...conversation.messages, { role: 'assistant', content: answer.text }, message]);
  }
}

async function sampleAnswer(
  { engine, tokenizer, format, flags, input, io }: Talk,
  conversation: Conversation,
  maxTokens: number,
  answerSeed: number,
  signal: AbortSignal,
): Promise<Written> {
  const { temperature, topK, topP, minP } = flags;
  const params: SamplingParams = {
    temperature,
    maxTokens,
    stopIds: format.stopIds,
    ...(topK === undefined ? {} : { topK }),
    ...(topP === undefined ? {} : { topP }),
    ...(minP === undefined ? {} : { minP }),
  };
  const start = performance.now();
  const [answer] = await generateText(engine, tokenizer, conversation.tokens, {
    params,
    seed: answerSeed,
    count: 1,
    signal,
    onText: (_, text) => io.write(printable(text)),
  });
  io.write('\n');
  if (answer === undefined) throw new Error('internal error: the engine gave no completion');
  if (input.terminal) {
    const seconds = (performance.now() - start) / 1000;
    const { length } = answer.tokens;
    io.note(`r3: ${length} tokens, ${(length / seconds).toFixed(1)} tokens/s`);
  }
  return answer;
}
