/**
 * `r3 generate`: samples one completion for each prompt.
 *
 * With --json all prompts are sampled together and come out in their order, one line each; a prompt's completion
 * does not depend on the others. Without it, text is shown as it is sampled, prompt by prompt.
 */
import type { Command } from 'commander';
import type { Engine, SamplingParams } from '../engine/engine.ts';
import type { ModelConfig } from '../engine/local/config.ts';
import { generateText } from '../generate.ts';
import { mapConcurrent } from '../lib/concurrent.ts';
import { isObject } from '../lib/json.ts';
import { hash32 } from '../lib/rng.ts';
import { loadChatFormat } from '../text/chat.ts';
import { readJson } from '../text/model-files.ts';
import { hasTokenizer } from '../text/tokenizer-json.ts';
import { loadTokenizer, type Tokenizer } from '../text/tokenizer.ts';
import { printJson, type Io } from './io.ts';
import {
  addEngineOptions,
  addExamples,
  addFilterOptions,
  integer,
  real,
  repeated,
  seed,
  usageError,
  type EngineFlags,
} from './options.ts';
import {
  contextGroups,
  engineOptions,
  findModel,
  openEngine,
  wholeConfig,
  textFolder,
  withEngine,
} from './session.ts';
import { printable } from './table.ts';
import { loadTokenRows } from './tokens-file.ts';

/** Prompts under way at a time. */
const CONCURRENCY = 256;
const MAX_TOKENS = 256;

interface Flags extends EngineFlags {
  prompt?: string[];
  tokens?: string;
  maxTokens?: number;
  temperature: number;
  topK?: number;
  topP?: number;
  minP?: number;
  stop?: string[];
  seed: number;
  raw?: boolean;
  json?: boolean;
}

export function define(command: Command, io: Io): void {
  command
    .description('Samples one completion for each prompt from a model.')
    .argument('<model>', 'model folder in the Hugging Face layout, or the name of a downloaded model')
    .addOption(repeated('--prompt <text>', 'a prompt, shown to the model as a user message; may be repeated'))
    .option('--tokens <file>', 'prompts as token ids: .jsonl with {"tokens": [...]} on each line')
    .option('--raw', 'encode prompts as they are, without the chat template')
    .addOption(
      integer(
        '--max-tokens <n>',
        'longest completion, in tokens, the stop token included (default: what the context leaves, at most 256)',
        { min: 1 },
      ),
    )
    .addOption(
      real('--temperature <t>', 'divides the logits before sampling; 0 is greedy', { min: 0 }).default(0),
    );
  addFilterOptions(command)
    .addOption(
      repeated('--stop <text>', 'end a completion where this text begins; may be repeated (default: none)'),
    )
    .addOption(seed('the same seed gives the same completions').default(1));
  addEngineOptions(command).option(
    '--json',
    'one line of JSON for each prompt: {tokens, logprobs, text, stopReason}',
  );
  addExamples(
    command,
    `
  r3 generate models/start --prompt "92 57 64 to 29"
  r3 generate DIR --prompt "Why is the sky blue?" --max-tokens 100 --temperature 0.7 --seed 3
  r3 generate DIR --tokens prompts.jsonl --max-tokens 32 --json > completions.jsonl`,
  );
  command.action((model: string, flags: Flags) => generate(model, flags, io));
}

async function generate(named: string, flags: Flags, io: Io): Promise<void> {
  if ((flags.prompt === undefined) === (flags.tokens === undefined)) {
    throw usageError('expected either --prompt or --tokens, got both or neither');
  }
  if (flags.raw === true && flags.tokens !== undefined) {
    throw usageError('--raw: expected --prompt, got --tokens, which are encoded already');
  }
  const model = findModel(named, io.env);
  const folder = textFolder(model, io.env);
  const tokenizer = tryTokenizer(folder, flags);
  const config = wholeConfig(model, io.env);
  const { prompts, stopIds } = await loadPrompts(folder, config, tokenizer, flags);
  const { topK, topP, minP } = flags;
  const params: Omit<SamplingParams, 'maxTokens'> = {
    temperature: flags.temperature,
    stopIds,
    ...(topK === undefined ? {} : { topK }),
    ...(topP === undefined ? {} : { topP }),
    ...(minP === undefined ? {} : { minP }),
  };
  const completions: Generated[] = [];
  const lengths = prompts.map((prompt) => prompt.length + (flags.maxTokens ?? 1));
  for (const { contextLength, members } of contextGroups(config, lengths, flags.context)) {
    const opening = openEngine(io, { model, trainable: false, ...engineOptions(flags), contextLength });
    await withEngine(opening, async (engine) => {
      const limit = (prompt: readonly number[]): number =>
        flags.maxTokens ?? Math.max(1, Math.min(MAX_TOKENS, contextLength - prompt.length));
      const one = async (index: number, onText?: (text: string) => void): Promise<Generated> => {
        const prompt = prompts[index] ?? [];
        const completion = await complete(engine, tokenizer, prompt, {
          params: { ...params, maxTokens: limit(prompt) },
          seed: hash32(flags.seed, 0, index),
          stopStrings: flags.stop ?? [],
          continuesPrompt: flags.raw === true,
          onText,
        });
        completions[index] = completion;
        return completion;
      };
      if (flags.json === true) {
        await mapConcurrent(members, CONCURRENCY, (index) => one(index));
        return;
      }
      for (const index of members) {
        const { tokens, text } = await one(index, (piece) => io.write(printable(piece)));
        io.write(text === null ? `${tokens.join(' ')}\n` : '\n');
      }
    });
  }
  if (flags.json === true) for (const completion of completions) printJson(io, completion);
}

interface Generated {
  tokens: number[];
  logprobs: number[];
  /** null for a model without a tokenizer. */
  text: string | null;
  stopReason: string;
}

async function complete(
  engine: Engine,
  tokenizer: Tokenizer | undefined,
  prompt: readonly number[],
  options: {
    params: SamplingParams;
    seed: number;
    stopStrings: string[];
    continuesPrompt: boolean;
    onText: ((text: string) => void) | undefined;
  },
): Promise<Generated> {
  const { params, seed: requestSeed, stopStrings, continuesPrompt, onText } = options;
  if (tokenizer === undefined) {
    const [completion] = await engine.sample({ prompt, count: 1, params, seed: requestSeed });
    return { tokens: [], logprobs: [], stopReason: 'length', ...completion, text: null };
  }
  const [written] = await generateText(engine, tokenizer, prompt, {
    params,
    seed: requestSeed,
    count: 1,
    stopStrings,
    continuesPrompt,
    ...(onText === undefined ? {} : { onText: (_, text) => onText(text) }),
  });
  const { tokens = [], logprobs = [], text = '', stopReason = 'length' } = written ?? {};
  return { tokens, logprobs, text, stopReason };
}

/** Token ids alone need no tokenizer: some model folders have none. */
function tryTokenizer(model: string, flags: Flags): Tokenizer | undefined {
  const optional = flags.tokens !== undefined && flags.stop === undefined;
  return optional && !hasTokenizer(model) ? undefined : loadTokenizer(model);
}

async function loadPrompts(
  model: string,
  config: ModelConfig,
  tokenizer: Tokenizer | undefined,
  flags: Flags,
): Promise<{ prompts: number[][]; stopIds: number[] }> {
  if (flags.tokens !== undefined) {
    return {
      prompts: await loadTokenRows(flags.tokens, {
        ...config,
        contextLength: flags.context ?? config.contextLength,
      }),
      stopIds: tokenizer?.eosIds ?? eosIds(model),
    };
  }
  const texts = flags.prompt ?? [];
  if (tokenizer === undefined)
    throw usageError('--prompt: expected a model with a tokenizer, got one without');
  if (flags.raw === true)
    return { prompts: texts.map((text) => tokenizer.encode(text)), stopIds: tokenizer.eosIds };
  const format = loadChatFormat(model, tokenizer);
  return {
    prompts: texts.map((content) => format.prompt([{ role: 'user', content }])),
    stopIds: format.stopIds,
  };
}

/** What a model without a tokenizer says of its end tokens. */
function eosIds(model: string): number[] {
  const values = ['generation_config.json', 'config.json'].flatMap((name) => {
    const json = readJson(model, name);
    return isObject(json) ? json['eos_token_id'] : [];
  });
  return [...new Set(values.flat().filter((id) => typeof id === 'number'))];
}
