/**
 * Fields of a request body, read strictly: a wrong type is an error that names the field, and so is a field that
 * the server does not honour. `null` counts as left out, as OpenAI's clients send it.
 */
import { isObject } from '../lib/json.ts';
import { ApiError, badField } from './api-error.ts';

export type Body = Readonly<Record<string, unknown>>;

export interface NumberRange {
  min?: number;
  max?: number;
  /** Greater than this, where `min` is not reached itself. */
  above?: number;
}

export function readNumber(body: Body, name: string, range: NumberRange): number | undefined {
  return readNumeric(body, name, range, 'a number', Number.isFinite);
}

export function readInteger(body: Body, name: string, range: NumberRange): number | undefined {
  return readNumeric(body, name, range, 'a whole number', Number.isSafeInteger);
}

function readNumeric(
  body: Body,
  name: string,
  { min, max, above }: NumberRange,
  kind: string,
  isKind: (value: unknown) => boolean,
): number | undefined {
  const value = body[name] ?? undefined;
  if (value === undefined) return undefined;
  if (
    typeof value === 'number' &&
    isKind(value) &&
    value >= (min ?? -Infinity) &&
    value <= (max ?? Infinity) &&
    value > (above ?? -Infinity)
  ) {
    return value;
  }
  const limits = [
    ...(above === undefined ? [] : [`above ${above}`]),
    ...(min === undefined ? [] : [`of at least ${min}`]),
    ...(max === undefined ? [] : [`of at most ${max}`]),
  ];
  throw badField(name, [kind, limits.join(' and ')].join(' ').trim(), value);
}

export function readBoolean(body: Body, name: string): boolean | undefined {
  const value = body[name] ?? undefined;
  if (value === undefined || typeof value === 'boolean') return value;
  throw badField(name, 'true or false', value);
}

export function readText(body: Body, name: string): string | undefined {
  const value = body[name] ?? undefined;
  if (value === undefined || typeof value === 'string') return value;
  throw badField(name, 'a text', value);
}

export function readObject(body: Body, name: string): Record<string, unknown> | undefined {
  const value = body[name] ?? undefined;
  if (value === undefined || isObject(value)) return value;
  throw badField(name, 'an object', value);
}

/** Bookkeeping of a hosted service: it has no part in the answer, so that leaving it unread changes nothing. */
const HARMLESS = ['user', 'metadata', 'safety_identifier', 'prompt_cache_key'];

/** Fields that are accepted with the values that ask for nothing. */
const NEUTRAL = new Map<string, readonly unknown[]>(
  Object.entries({
    frequency_penalty: [0],
    presence_penalty: [0],
    repetition_penalty: [1],
    logit_bias: [{}],
    response_format: [{ type: 'text' }],
    modalities: [['text']],
    parallel_tool_calls: [true],
    service_tier: ['auto', 'default'],
    store: [false],
    echo: [false],
    add_special_tokens: [false],
  }),
);

/** What to do instead, where there is something. */
const INSTEAD = new Map<string, string>(
  Object.entries({
    functions: 'give them as tools',
    function_call: 'use tool_choice',
    echo: 'r3 score gives the log-probabilities of a text',
    suffix: 'write it into the prompt',
    response_format: 'ask for the form in the prompt',
    add_special_tokens: 'write special tokens into the prompt: their text becomes their id',
  }),
);

/** Throws for the first field that would be ignored: every option is honoured or refused. */
export function checkFields(body: Body, honoured: readonly string[]): void {
  for (const [name, value] of Object.entries(body)) {
    if (value === null || honoured.includes(name) || HARMLESS.includes(name)) continue;
    const neutral = NEUTRAL.get(name);
    if (neutral?.some((one) => JSON.stringify(one) === JSON.stringify(value)) === true) continue;
    const hint = INSTEAD.get(name);
    const instead = hint === undefined ? '' : `; ${hint}`;
    if (neutral !== undefined) {
      const values = neutral.map((one) => JSON.stringify(one)).join(' or ');
      throw badField(name, `${values}, because this server honours no other`, value, hint);
    }
    throw new ApiError(
      400,
      `${name}: expected a field that this server honours, got one that it does not${instead}. ` +
        `Honoured are ${honoured.join(', ')}`,
      { param: name, code: 'unsupported_parameter' },
    );
  }
}
