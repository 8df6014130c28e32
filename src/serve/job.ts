/**
 * What both endpoints have in common: the fields that say how to sample, and the sampling itself.
 *
 * A job is a request that has been read: prompts as token ids, how many completions of each, and their limits.
 * Every prompt is one `Engine.sample` call; the engine batches and shares prefixes. Choices are numbered prompt by
 * prompt, as OpenAI numbers them. Knows nothing of HTTP.
 */
import type { Engine, SamplingParams } from '../engine/engine.ts';
import { generateText } from '../generate.ts';
import { R3Error } from '../lib/errors.ts';
import { hash32 } from '../lib/rng.ts';
import type { Written } from '../text/message.ts';
import type { Tokenizer } from '../text/tokenizer.ts';
import { badField, tooLong } from './api-error.ts';
import { readBoolean, readInteger, readNumber, readObject, type Body } from './fields.ts';
import type { RenderPrompt } from './render-prompt.ts';

/** What is served. */
export interface ServedModel {
  /** What clients call it. */
  name: string;
  engine: Engine;
  tokenizer: Tokenizer;
  render: RenderPrompt;
  /** Ids that end an answer in a chat. */
  chatStopIds: readonly number[];
}

export interface Job {
  prompts: readonly { tokens: readonly number[]; maxTokens: number }[];
  /** Completions of each prompt. */
  count: number;
  params: Omit<SamplingParams, 'maxTokens'>;
  stopStrings: readonly string[];
  /** Prompt i draws from hash32(seed, 0, i), as prompt i of `r3 generate --seed` does. */
  seed: number;
  isStream: boolean;
  includeUsage: boolean;
  returnTokenIds: boolean;
  logprobs: boolean;
  /** Completions go on where the prompt's text ends; else they stand on their own. */
  continuesPrompt: boolean;
}

/** The fields that `readSampling` reads. */
export const SAMPLING_FIELDS = [
  'model',
  'temperature',
  'top_p',
  'top_k',
  'min_p',
  'n',
  'max_tokens',
  'stop',
  'seed',
  'stream',
  'stream_options',
  'logprobs',
  'return_token_ids',
];

/** OpenAI's limits. */
const MAX_COUNT = 128;
const MAX_TEMPERATURE = 2;
/** Below it logits over temperature leave the range of f32. */
const MIN_TEMPERATURE = 0.001;
/** More than any client sends, few enough that matching them costs nothing. */
const MAX_STOPS = 16;
const MAX_STOP_LENGTH = 1000;
const LARGEST_SEED = 2 ** 32 - 1;

/** All of a job but what its endpoint says itself. Defaults are OpenAI's, whatever generation_config.json says. */
export function readSampling(
  body: Body,
  stopIds: readonly number[],
  randomSeed: () => number,
): Omit<Job, 'prompts' | 'logprobs' | 'continuesPrompt'> {
  const isStream = readBoolean(body, 'stream') ?? false;
  const streamOptions = readObject(body, 'stream_options');
  if (streamOptions !== undefined && !isStream) {
    throw badField('stream_options', 'it with stream: true only', streamOptions);
  }
  for (const name of Object.keys(streamOptions ?? {})) {
    // Padding against listeners on the network, which a hosted service has to fear.
    if (name === 'include_obfuscation' && streamOptions?.[name] === false) continue;
    if (name !== 'include_usage') throw badField(`stream_options.${name}`, 'include_usage alone', name);
  }
  const topK = readInteger(body, 'top_k', { min: -1, max: 2 ** 31 - 1 });
  const topP = readNumber(body, 'top_p', { above: 0, max: 1 });
  const minP = readNumber(body, 'min_p', { min: 0, max: 1 });
  return {
    count: readInteger(body, 'n', { min: 1, max: MAX_COUNT }) ?? 1,
    params: {
      temperature: readTemperature(body),
      stopIds,
      // vLLM's clients turn it off with -1 or 0.
      ...(topK === undefined || topK < 1 ? {} : { topK }),
      ...(topP === undefined ? {} : { topP }),
      ...(minP === undefined ? {} : { minP }),
    },
    stopStrings: readStops(body['stop'] ?? []),
    seed: readInteger(body, 'seed', { min: 0, max: LARGEST_SEED }) ?? randomSeed(),
    isStream,
    includeUsage: readBoolean(streamOptions ?? {}, 'include_usage') ?? false,
    returnTokenIds: readBoolean(body, 'return_token_ids') ?? false,
  };
}

function readTemperature(body: Body): number {
  const temperature = readNumber(body, 'temperature', { min: 0, max: MAX_TEMPERATURE }) ?? 1;
  if (temperature === 0 || temperature >= MIN_TEMPERATURE) return temperature;
  throw badField(
    'temperature',
    `0 or at least ${MIN_TEMPERATURE}`,
    temperature,
    '0 takes the likeliest token',
  );
}

function readStops(value: unknown): string[] {
  const stops: unknown[] = Array.isArray(value) ? value : [value];
  if (stops.length > MAX_STOPS) throw badField('stop', `at most ${MAX_STOPS} texts`, stops.length);
  return stops.map((stop, i) => {
    if (typeof stop === 'string' && stop !== '' && stop.length <= MAX_STOP_LENGTH) return stop;
    const name = Array.isArray(value) ? `stop[${i}]` : 'stop';
    throw badField(name, `a text of 1 to ${MAX_STOP_LENGTH} characters`, stop);
  });
}

/** No known vocabulary has a longer token, but for those that a word outside of it becomes. */
const LONGEST_TOKEN = 128;

/**
 * The ids of a prompt. A text that no tokenizer would fit into the context is refused before it is encoded: encoding
 * takes seconds for a million characters, in which nobody else is served.
 */
export function encodeText({ engine, tokenizer }: ServedModel, text: string, field: string): number[] {
  const { contextLength } = engine.capabilities();
  const most = contextLength * LONGEST_TOKEN;
  if (text.length <= most) return tokenizer.encode(text);
  const what = `${field}: expected at most ${most} characters (the model's context has ${contextLength} tokens)`;
  throw tooLong(`${what}, got ${text.length}; shorten it`, field);
}

/** A prompt with its limit of tokens: what was asked for, else `usual`, where the context and the server have the room. */
export function withLimit(
  tokens: readonly number[],
  asked: { value: number | undefined; field: string },
  limits: { usual: number; maxTokens: number; contextLength: number },
  field: string,
): Job['prompts'][number] {
  const { usual, maxTokens, contextLength } = limits;
  if (tokens.length === 0) throw badField(field, 'at least one token', tokens.length);
  const room = contextLength - tokens.length;
  if (room < 1) {
    const what = `${field}: expected fewer than ${contextLength} tokens (the model's context), got ${tokens.length}`;
    throw tooLong(`${what}; shorten it`, field);
  }
  const { value } = asked;
  if (value !== undefined && value > maxTokens) {
    throw badField(asked.field, `at most ${maxTokens} (this server's limit)`, value);
  }
  if (value !== undefined && value > room) {
    const what = `${asked.field}: expected at most ${room}, got ${value}`;
    const why = `the prompt has ${tokens.length} tokens and the model's context ${contextLength}`;
    throw tooLong(`${what}; ${why}`, asked.field);
  }
  return { tokens, maxTokens: value ?? Math.min(usual, maxTokens, room) };
}

/** Tokens and the text that they made certain. */
export interface Piece {
  text: string;
  tokens: number[];
  logprobs: number[];
}

/**
 * Samples all completions; `written` is in the order of the choices. `onPiece` gets them as they appear, and for each
 * choice at its end, before this returns, the tokens that made no text (an empty `text`).
 * Throws R3Error `cancelled` when the signal is raised.
 */
export async function runJob(
  { engine, tokenizer }: ServedModel,
  { prompts, count, params, stopStrings, seed, continuesPrompt }: Job,
  signal: AbortSignal,
  onPiece?: (choice: number, piece: Piece) => void,
): Promise<Written[]> {
  const open: Piece[] = prompts.flatMap(() => Array.from({ length: count }, emptyPiece));
  const give = (choice: number, text: string): void => {
    const piece = open[choice] ?? emptyPiece();
    open[choice] = emptyPiece();
    onPiece?.(choice, { ...piece, text });
  };
  const failed = new AbortController();
  const work = prompts.map(async ({ tokens, maxTokens }, i) => {
    const first = i * count;
    return generateText(engine, tokenizer, tokens, {
      params: { ...params, maxTokens },
      count,
      seed: hash32(seed, 0, i),
      stopStrings,
      continuesPrompt,
      signal: AbortSignal.any([signal, failed.signal]),
      ...(onPiece === undefined
        ? {}
        : {
            onText: (index, text) => give(first + index, text),
            onToken: (index, token, logprob) => {
              open[first + index]?.tokens.push(token);
              open[first + index]?.logprobs.push(logprob);
            },
          }),
    });
  });
  try {
    const written = (await Promise.all(work)).flat();
    if (signal.aborted) throw new R3Error('engine', 'cancelled', 'the request was cancelled');
    for (const [choice, piece] of open.entries()) if (piece.tokens.length > 0) give(choice, '');
    return written;
  } catch (error) {
    // One prompt failed: nobody wants the others.
    failed.abort();
    await Promise.allSettled(work);
    throw error;
  }
}

function emptyPiece(): Piece {
  return { text: '', tokens: [], logprobs: [] };
}

export interface Usage {
  prompt_tokens: number;
  completion_tokens: number;
  total_tokens: number;
}

/** A prompt counts once for all its completions; the stop token counts. */
export function usageOf(job: Job, written: readonly Pick<Written, 'tokens'>[]): Usage {
  const prompt = job.prompts.reduce((sum, { tokens }) => sum + tokens.length, 0);
  const completion = written.reduce((sum, { tokens }) => sum + tokens.length, 0);
  return { prompt_tokens: prompt, completion_tokens: completion, total_tokens: prompt + completion };
}
