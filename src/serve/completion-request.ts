/**
 * The body of POST /v1/completions: checked, and its prompts as token ids.
 *
 * A prompt is a text, token ids, or a list of either. A text is encoded as it is: no special token is added.
 */
import { badField } from './api-error.ts';
import { checkFields, readInteger, type Body } from './fields.ts';
import { encodeText, readSampling, SAMPLING_FIELDS, withLimit, type Job, type ServedModel } from './job.ts';

const FIELDS = [...SAMPLING_FIELDS, 'prompt'];
/** OpenAI's default. */
const USUAL_TOKENS = 16;
/** Prompts times completions. */
const MAX_CHOICES = 1024;

/** Throws ApiError. */
export function readCompletionJob(
  body: Body,
  model: ServedModel,
  limits: { maxTokens: number },
  randomSeed: () => number,
): Job {
  checkFields(body, FIELDS);
  const sampling = readSampling(body, model.tokenizer.eosIds, randomSeed);
  const logprobs = readInteger(body, 'logprobs', { min: 0 });
  if (logprobs !== undefined && logprobs > 0) {
    throw badField('logprobs', '0, which gives those of the sampled tokens; there are no others', logprobs);
  }
  const value = readInteger(body, 'max_tokens', { min: 1 });
  const { contextLength, vocabularySize } = model.engine.capabilities();
  const room = { usual: USUAL_TOKENS, maxTokens: limits.maxTokens, contextLength };

  const prompt = body['prompt'];
  const single = typeof prompt === 'string' || isIds(prompt);
  const prompts: unknown = single ? [prompt] : prompt;
  if (!Array.isArray(prompts) || prompts.length === 0) {
    throw badField('prompt', 'a text, token ids, or a list of either', prompt);
  }
  const choices = prompts.length * sampling.count;
  if (choices > MAX_CHOICES) throw badField('prompt', `at most ${MAX_CHOICES} prompts times n`, choices);
  return {
    ...sampling,
    logprobs: logprobs !== undefined,
    continuesPrompt: true,
    prompts: prompts.map((one: unknown, i) => {
      const field = single ? 'prompt' : `prompt[${i}]`;
      const tokens = encodePrompt(one, field, model, vocabularySize);
      return withLimit(tokens, { value, field: 'max_tokens' }, room, field);
    }),
  };
}

function isIds(value: unknown): value is number[] {
  return Array.isArray(value) && value.length > 0 && value.every((id) => typeof id === 'number');
}

function encodePrompt(prompt: unknown, field: string, model: ServedModel, vocabularySize: number): number[] {
  if (typeof prompt === 'string') return encodeText(model, prompt, field);
  if (!isIds(prompt)) throw badField(field, 'a text or token ids', prompt);
  const bad = prompt.find((id) => !Number.isInteger(id) || id < 0 || id >= vocabularySize);
  if (bad !== undefined) throw badField(field, `ids from 0 to ${vocabularySize - 1}`, bad);
  return prompt;
}
