/**
 * `r3 export`: a trained model as a folder that transformers, PEFT and vLLM load.
 *
 * A full model is written with its tokenizer, template and generation config; an adapter as PEFT stores it, or merged
 * into its base model. The export ends by loading what was written and comparing: the same greedy tokens, and
 * log-probabilities within what the stored precision rounds away. An export that differs by more is not kept.
 */
import { existsSync, renameSync, rmSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import type { Command } from 'commander';
import type { Engine } from '../engine/engine.ts';
import { openModel, saveAdapter, saveModel, storedAs, type LoadedModel } from '../engine/local/directory.ts';
import { mergedWith } from '../engine/local/lora.ts';
import type { FloatType } from '../engine/local/safetensors.ts';
import { R3Error } from '../lib/errors.ts';
import { loadChatFormat } from '../text/chat.ts';
import { hasTokenizer } from '../text/tokenizer-json.ts';
import { loadTokenizer } from '../text/tokenizer.ts';
import { printJson, printLine, type Io } from './io.ts';
import { addExamples, choice, threads, usageError } from './options.ts';
import { baseOf, findModel, modelConfig, openEngine, textFolder, withEngine } from './session.ts';

/** Tokens that are compared. */
const COMPARED_TOKENS = 64;
/** How far a log-probability may move, in nats: rounding of the stored weights, through a whole model. */
const TOLERANCE: Record<FloatType, number> = { F32: 1e-3, F16: 0.05, BF16: 0.25 };
const PROBE = 'Explain in two sentences why the sky is blue.';

interface Flags {
  out?: string;
  merge?: boolean;
  adapter?: boolean;
  base?: string;
  saveAs?: FloatType;
  threads?: number;
  json?: boolean;
}

export function define(command: Command, io: Io): void {
  command
    .description(
      'Writes a trained model or adapter for transformers, PEFT and vLLM, and checks what it wrote.',
    )
    .argument('<source>', 'a run folder, or a model or adapter (folder or name)')
    .option('--out <dir>', 'the folder to make (default: beside the source, named after it and what it is)')
    .option('--merge', 'add the adapter to the weights of its base model')
    .option('--adapter', 'the adapter alone, as PEFT stores it')
    .option('--base <name>', 'with --adapter: what to call the base model, such as its name on the hub')
    .addOption(
      choice('--save-as <type>', "how weights are stored (default: as the base model's are)", [
        'F32',
        'BF16',
        'F16',
      ]),
    )
    .addOption(threads())
    .option(
      '--json',
      'the result as one line of JSON: {directory, kind, dtype, sameTokens, largestDifference}',
    );
  addExamples(
    command,
    `
  r3 export runs/countdown-001 --merge --out tuned
  r3 export runs/countdown-001 --adapter --base Qwen/Qwen2.5-0.5B-Instruct --out tuned-adapter`,
  );
  command.action((source: string, flags: Flags) => exportModel(source, flags, io));
}

async function exportModel(source: string, flags: Flags, io: Io): Promise<void> {
  const directory = modelOf(source, io);
  const out = flags.out ?? defaultOut(source, flags);
  if (existsSync(out)) {
    throw usageError(`--out: expected a path that does not exist, got ${out}, which does`);
  }
  const model = openModel(directory, { base: baseOf(directory, io.env) });
  let kind: Kind;
  const dtype = flags.saveAs ?? storedAs(model);
  // Written and compared aside: what is under its final name has been found right.
  const aside = join(dirname(resolve(out)), `.${basename(out)}.${process.pid}.partial`);
  let compared: Compared;
  try {
    kind = kindOf(model, flags);
    await write(model, kind, dtype, aside, flags.base);
    compared = await compare(directory, aside, model.directory, flags.threads, io);
    requireEqual(compared, kind === 'adapter' ? 'F32' : dtype, out);
    renameSync(aside, out);
  } finally {
    model.close();
    rmSync(aside, { recursive: true, force: true });
  }
  const { largestDifference, sameTokens } = compared;
  if (flags.json === true) printJson(io, { directory: resolve(out), kind, dtype, ...compared });
  else {
    printLine(io, `${kind}   ${out}`);
    printLine(
      io,
      `loaded again: ${sameTokens} of ${compared.tokens} greedy tokens the same, log-probabilities within ${largestDifference.toPrecision(2)} nats`,
    );
  }
  if (sameTokens < compared.tokens) {
    io.note(
      `note: from token ${sameTokens + 1} on the greedy text is another: two tokens were nearly as likely, and ${dtype} rounds. --save-as F32 keeps it.`,
    );
  }
}

/** `runs/a` becomes `runs/a-merged`; a name on the hub, its last part. */
function defaultOut(source: string, { merge, adapter }: Flags): string {
  const kind = merge === true ? 'merged' : adapter === true ? 'adapter' : 'export';
  return `${existsSync(source) ? resolve(source) : basename(source)}-${kind}`;
}

/** A run's model, or the folder itself. */
function modelOf(source: string, io: Io): string {
  const inRun = join(source, 'model');
  if (existsSync(join(inRun, 'config.json'))) return inRun;
  if (!existsSync(join(source, 'metrics.jsonl'))) return findModel(source, io.env);
  throw new R3Error(
    'store',
    'bad-file',
    `${source}: expected a run that has ended, got one without a model; go on with: r3 train --resume ${source}`,
  );
}

type Kind = 'model' | 'adapter' | 'merged';

function kindOf(model: LoadedModel, { merge, adapter, base, saveAs }: Flags): Kind {
  if (model.adapter === null) {
    if (merge === true || adapter === true)
      throw usageError(
        `--${merge === true ? 'merge' : 'adapter'}: expected an adapter, got a model that has all weights trained; leave it out`,
      );
    return 'model';
  }
  if ((merge === true) === (adapter === true))
    throw usageError('expected either --merge or --adapter for an adapter, got both or neither');
  if (merge === true) {
    if (base !== undefined)
      throw usageError('--base: expected --adapter, got --merge, which names no base model');
    return 'merged';
  }
  if (saveAs !== undefined)
    throw usageError('--save-as: expected --merge, got --adapter, whose values stay F32');
  return 'adapter';
}

async function write(
  model: LoadedModel,
  kind: Kind,
  dtype: FloatType,
  directory: string,
  base: string | undefined,
): Promise<void> {
  if (model.adapter === null) return saveModel(model, model.read, directory, dtype);
  const { layout, values } = model.adapter;
  if (kind === 'merged') return saveModel(model, mergedWith(model.read, layout, values), directory, dtype);
  return saveAdapter(model, layout, values, directory, base);
}

function requireEqual({ largestDifference }: Compared, dtype: FloatType, out: string): void {
  const allowed = TOLERANCE[dtype];
  if (largestDifference <= allowed) return;
  throw new R3Error(
    'store',
    'mismatch',
    `${out}: expected log-probabilities within ${allowed} of the source's, got a difference of ${largestDifference.toPrecision(3)}; nothing was written${dtype === 'F32' ? '' : '. Store it more exactly: --save-as F32'}`,
  );
}

interface Compared {
  tokens: number;
  /** How many greedy tokens are the same before the first that is not. */
  sameTokens: number;
  /** Of the log-probability of the source's tokens. */
  largestDifference: number;
}

/** `base`: the folder of an adapter's base model. */
async function compare(
  source: string,
  written: string,
  base: string,
  threadCount: number | undefined,
  io: Io,
): Promise<Compared> {
  const probe = probeOf(textFolder(source, io.env));
  const { stopIds } = probe;
  const { contextLength } = modelConfig(source, io.env);
  const prompt = probe.prompt.slice(0, Math.max(1, contextLength >> 1));
  const common = { base, trainable: false, ...(threadCount === undefined ? {} : { threads: threadCount }) };
  const greedy = async (engine: Engine): Promise<number[]> => {
    const maxTokens = Math.max(1, Math.min(COMPARED_TOKENS, contextLength - prompt.length));
    const params = { temperature: 0, maxTokens, stopIds };
    const [completion] = await engine.sample({ prompt, count: 1, params, seed: 0 });
    return completion?.tokens ?? [];
  };
  const score = async (engine: Engine, tokens: readonly number[]): Promise<Float32Array> => {
    const positions = tokens.map((_, i) => prompt.length + i);
    const [logprobs] = await engine.logprobs([{ tokens: [...prompt, ...tokens], positions }]);
    return logprobs ?? new Float32Array();
  };
  const before = await withEngine(openEngine(io, { model: source, ...common }), async (engine) => {
    const tokens = await greedy(engine);
    return { tokens, logprobs: await score(engine, tokens) };
  });
  return withEngine(openEngine(io, { model: written, ...common }), async (engine) => {
    const tokens = await greedy(engine);
    const logprobs = await score(engine, before.tokens);
    const first = before.tokens.findIndex((token, i) => tokens[i] !== token);
    return {
      tokens: before.tokens.length,
      sameTokens: first === -1 ? before.tokens.length : first,
      largestDifference: logprobs.reduce(
        (most, value, i) => Math.max(most, Math.abs(value - (before.logprobs[i] ?? 0))),
        0,
      ),
    };
  });
}

/** What is sampled from: a question in the model's own chat format, or its first tokens where it has none. */
function probeOf(directory: string): { prompt: number[]; stopIds: number[] } {
  if (!hasTokenizer(directory)) return { prompt: [1, 2, 3, 4, 5], stopIds: [] };
  const tokenizer = loadTokenizer(directory);
  try {
    const format = loadChatFormat(directory, tokenizer);
    return { prompt: format.prompt([{ role: 'user', content: PROBE }]), stopIds: format.stopIds };
  } catch (error) {
    if (!(error instanceof R3Error && error.code === 'bad-template')) throw error;
    return { prompt: tokenizer.encode(PROBE), stopIds: tokenizer.eosIds };
  }
}
