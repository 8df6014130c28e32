/**
 * The table of commands, and how a command line becomes an exit code.
 *
 * Only the module of the command that is named is loaded: help must not wait for an engine. Exit codes: 0 done,
 * 1 failed, 2 a command line that cannot be meant, 130 stopped by Ctrl-C. An error is one line on stderr; its stack
 * is shown with --debug.
 */
import { Command, CommanderError } from 'commander';
import { R3Error, messageOf } from '../lib/errors.ts';
import { packageVersion } from '../lib/version.ts';
import { printable } from '../lib/printable.ts';
import { INTERRUPTED, OutputLost, type Io } from './io.ts';

const FAILED = 1;
const USAGE = 2;

/** What a command's module exports. */
interface CommandModule {
  /** Adds description, arguments, options and action. */
  define(command: Command, io: Io): void;
}

interface Entry {
  summary: string;
  load(): Promise<CommandModule>;
}

const COMMANDS: Readonly<Record<string, Entry>> = {
  quickstart: {
    summary: 'train the start model that comes with r3, and show what it learned',
    load: () => import('./quickstart.ts'),
  },
  pull: {
    summary: 'download a model from Hugging Face, or check one that is here',
    load: () => import('./pull.ts'),
  },
  check: {
    summary: "judge answers with a task's verifier, or audit the verifier itself",
    load: () => import('./check.ts'),
  },
  mine: {
    summary: 'collect the failed attempts that training starts from',
    load: () => import('./mine.ts'),
  },
  train: {
    summary: 'train a model to write reflections that make its next try pass',
    load: () => import('./train.ts'),
  },
  presets: {
    summary: 'the options of published settings, each with its source',
    load: () => import('./presets.ts'),
  },
  eval: {
    summary: 'measure first and second tries, beside the controls',
    load: () => import('./eval.ts'),
  },
  compare: {
    summary: 'two evaluations of the same problems, without a model',
    load: () => import('./compare.ts'),
  },
  forgetting: {
    summary: 'measure a model on tasks that it was not trained on, before and after',
    load: () => import('./forgetting.ts'),
  },
  sft: {
    summary: 'train a model on conversations (supervised)',
    load: () => import('./sft.ts'),
  },
  generate: {
    summary: 'sample from a model',
    load: () => import('./generate.ts'),
  },
  chat: {
    summary: 'talk to a model in the terminal',
    load: () => import('./chat.ts'),
  },
  serve: {
    summary: "serve a model to OpenAI's clients",
    load: () => import('./serve.ts'),
  },
  score: {
    summary: 'log-probabilities and gradient norms of token sequences',
    load: () => import('./score.ts'),
  },
  export: {
    summary: 'write a trained model or adapter for transformers, PEFT and vLLM',
    load: () => import('./export.ts'),
  },
  tokenize: {
    summary: 'token ids of texts',
    load: () => import('./tokenize.ts'),
  },
  render: {
    summary: 'conversations through a chat template',
    load: () => import('./render.ts'),
  },
  show: {
    summary: "a run's latest numbers, and episodes to read",
    load: () => import('./show.ts'),
  },
  report: {
    summary: "write a run's report.html again",
    load: () => import('./report.ts'),
  },
  bench: {
    summary: 'measure kernels and engine against the peak of this machine, PyTorch and TRL',
    load: () => import('./bench.ts'),
  },
  doctor: {
    summary: 'which kernels run here and why, and what a model needs',
    load: () => import('./doctor.ts'),
  },
};

const EXAMPLES = `
Start here:
  r3 quickstart          trains, measures and shows everything in minutes, on this machine
  r3 train --help        a command's own help has its options, their defaults and examples

Environment:
  HF_TOKEN, HF_HOME, HF_HUB_CACHE, HF_ENDPOINT, HF_HUB_OFFLINE
                         as the Hugging Face tools have them
  R3_KERNELS             native, wasm or reference: the kernel build to use (default: the fastest that loads)
  R3_API_KEY             the key that clients of r3 serve must send (default: none is asked for)
  NO_COLOR               no colours
  CI                     progress as plain lines

Exit codes: 0 done, 1 failed, 2 a mistake in the command line, 130 stopped by Ctrl-C.`;

/** `args`: what follows the program's name. Returns the exit code; does not throw. */
export async function runCli(args: readonly string[], io: Io): Promise<number> {
  try {
    const program = await makeProgram(args, io);
    await program.parseAsync(args, { from: 'user' });
    return io.exitCode;
  } catch (error) {
    return explain(error, args, io);
  }
}

async function makeProgram(args: readonly string[], io: Io): Promise<Command> {
  const program = new Command('r3')
    .description(
      'Reflect, Retry, Reward: a small language model learns to write reflections that make its next try pass.',
    )
    .version(packageVersion(), '-V, --version', 'show the version')
    .option('--debug', 'show the stack of an error')
    .addHelpText('after', EXAMPLES);
  prepare(program, io);

  const named = args.find((arg) => !arg.startsWith('-'));
  // `r3 help train` is `r3 train --help`.
  const wanted = named === 'help' ? args[args.indexOf(named) + 1] : named;
  for (const [name, entry] of Object.entries(COMMANDS)) {
    const command = program.command(name).summary(entry.summary);
    prepare(command, io);
    if (name !== wanted) continue;
    (await entry.load()).define(command, io);
    command.option('--debug', 'show the stack of an error');
  }
  return program;
}

function prepare(command: Command, io: Io): void {
  command
    .exitOverride()
    .helpOption('-h, --help', 'show this help')
    .allowExcessArguments(false)
    .configureOutput({
      writeOut: (text) => io.write(text),
      // With no command at all, help is what was missing; errors are written by `explain`.
      writeErr: (text) => {
        if (!text.startsWith('error:')) io.status.write(text);
      },
      outputError: () => undefined,
    });
}

function explain(error: unknown, args: readonly string[], io: Io): number {
  if (error instanceof CommanderError) {
    if (error.exitCode === 0) return 0;
    if (error.code === 'commander.help') return USAGE;
    const message = error.message.replace(/^error: /, '').replace(/\s*\n\s*/g, ' ');
    const listed = error.code === 'commander.unknownCommand' && !message.includes('Did you mean');
    io.note(`r3: ${message}${listed ? `; expected one of ${Object.keys(COMMANDS).join(', ')}` : ''}`);
    return USAGE;
  }
  if (error instanceof OutputLost) return FAILED;
  const known = error instanceof R3Error;
  io.note(`r3: ${printable(messageOf(error))}`);
  if (known && error.code === 'cancelled') return INTERRUPTED;
  if (args.includes('--debug') && error instanceof Error) io.note(error.stack ?? '');
  else if (!known) io.note('r3: this was not expected to happen; --debug shows where it did');
  return known && error.boundary === 'config' && error.code === 'bad-option' ? USAGE : FAILED;
}
