/**
 * The body of POST /v1/chat/completions: checked, and its messages put into the form that chat templates take.
 *
 * Templates see JSON objects as in Python transformers: the text parts of a message joined by newlines (as vLLM joins
 * them), `developer` as `system`, the arguments of earlier tool calls as objects rather than text.
 */
import { isObject } from '../lib/json.ts';
import { badField } from './api-error.ts';
import { checkFields, readBoolean, readInteger, readObject, type Body } from './fields.ts';
import { encodeText, readSampling, SAMPLING_FIELDS, withLimit, type Job, type ServedModel } from './job.ts';

const FIELDS = [
  ...SAMPLING_FIELDS,
  'messages',
  'tools',
  'tool_choice',
  'max_completion_tokens',
  'top_logprobs',
  'add_generation_prompt',
  'continue_final_message',
  'chat_template_kwargs',
];
const ROLES = ['system', 'developer', 'user', 'assistant', 'tool'];
/** What a message may hold beside its role and content, for the template to see. */
const MESSAGE_FIELDS = ['name', 'tool_call_id', 'reasoning_content'];
/** What templates get from elsewhere. */
const RESERVED_VARIABLES = [
  'messages',
  'tools',
  'documents',
  'add_generation_prompt',
  'continue_final_message',
];
/** OpenAI's limit. */
const MAX_TOOLS = 128;

type JsonObject = Record<string, unknown>;

export interface ChatJob extends Job {
  /** Tool calls are looked for in the answer. */
  readsToolCalls: boolean;
}

/** Throws ApiError, and R3Error `bad-template` where the template refuses the messages. */
export function readChatJob(
  body: Body,
  model: ServedModel,
  limits: { maxTokens: number },
  randomSeed: () => number,
): ChatJob {
  checkFields(body, FIELDS);
  const sampling = readSampling(body, model.chatStopIds, randomSeed);
  const logprobs = readBoolean(body, 'logprobs') ?? false;
  const topLogprobs = readInteger(body, 'top_logprobs', { min: 0 });
  if (topLogprobs !== undefined && topLogprobs > 0) {
    throw badField(
      'top_logprobs',
      '0, because only the sampled token has a log-probability here',
      topLogprobs,
    );
  }

  const tools = readTools(body['tools'] ?? undefined);
  const choice = body['tool_choice'] ?? 'auto';
  if (choice !== 'auto' && choice !== 'none') {
    throw badField('tool_choice', '"auto" or "none", because answers are not constrained', choice);
  }
  const usesTools = tools !== undefined && choice === 'auto';

  const messages = readMessages(body['messages']);
  const continueFinalMessage = readBoolean(body, 'continue_final_message') ?? false;
  const addGenerationPrompt = readBoolean(body, 'add_generation_prompt') ?? !continueFinalMessage;
  if (continueFinalMessage && addGenerationPrompt) {
    throw badField('add_generation_prompt', 'false beside continue_final_message', true);
  }
  if (continueFinalMessage && messages.at(-1)?.['role'] !== 'assistant') {
    throw badField(
      'continue_final_message',
      'an assistant message at the end to continue',
      messages.at(-1)?.['role'],
    );
  }
  const variables = readObject(body, 'chat_template_kwargs') ?? {};
  for (const name of Object.keys(variables)) {
    if (RESERVED_VARIABLES.includes(name)) {
      throw badField('chat_template_kwargs', `no ${name}, which has its own place`, name);
    }
  }

  const text = model.render({
    messages,
    tools: usesTools ? tools : undefined,
    addGenerationPrompt,
    continueFinalMessage,
    variables,
  });
  const { contextLength } = model.engine.capabilities();
  const room = { usual: Infinity, maxTokens: limits.maxTokens, contextLength };
  const prompt = withLimit(encodeText(model, text, 'messages'), readMaxTokens(body), room, 'messages');
  return { ...sampling, prompts: [prompt], logprobs, continuesPrompt: false, readsToolCalls: usesTools };
}

/** Two names of one thing: the older is still in use. */
function readMaxTokens(body: Body): { value: number | undefined; field: string } {
  const older = readInteger(body, 'max_tokens', { min: 1 });
  const value = readInteger(body, 'max_completion_tokens', { min: 1 });
  if (older !== undefined && value !== undefined && older !== value) {
    throw badField('max_tokens', 'one of max_tokens and max_completion_tokens, or the same in both', older);
  }
  return { value: value ?? older, field: value === undefined ? 'max_tokens' : 'max_completion_tokens' };
}

function readMessages(value: unknown): JsonObject[] {
  if (!Array.isArray(value) || value.length === 0) {
    throw badField('messages', 'a list of at least one message', value);
  }
  return value.map((message: unknown, i) => readMessage(message, `messages[${i}]`));
}

function readMessage(message: unknown, where: string): JsonObject {
  if (!isObject(message)) throw badField(where, 'an object', message);
  const { role, content, tool_calls: calls, ...rest } = message;
  if (typeof role !== 'string' || !ROLES.includes(role)) {
    throw badField(`${where}.role`, ROLES.join(', '), role);
  }
  const read: JsonObject = { role: role === 'developer' ? 'system' : role };
  const hasCalls = Array.isArray(calls) ? calls.length > 0 : (calls ?? undefined) !== undefined;
  // Templates tell a message of calls alone by its content, which is null, or left out, as the client has it.
  if (content === null && hasCalls) read['content'] = null;
  else if (content !== undefined || !hasCalls) read['content'] = readContent(content, `${where}.content`);
  for (const [name, field] of Object.entries(rest)) {
    // Clients send an assistant's message back as they got it, with fields that hold nothing.
    if (field === null || (Array.isArray(field) && field.length === 0)) continue;
    const known = `one of role, content, tool_calls, ${MESSAGE_FIELDS.join(', ')}`;
    if (!MESSAGE_FIELDS.includes(name)) throw badField(`${where}.${name}`, known, name);
    if (typeof field !== 'string') throw badField(`${where}.${name}`, 'a text', field);
    read[name] = field;
  }
  if (hasCalls) {
    if (role !== 'assistant') throw badField(`${where}.tool_calls`, 'them in assistant messages only', role);
    read['tool_calls'] = readToolCalls(calls, `${where}.tool_calls`);
  }
  return read;
}

function readContent(content: unknown, where: string): string {
  if (typeof content === 'string') return content;
  if (!Array.isArray(content)) throw badField(where, 'a text or a list of text parts', content);
  return content
    .map((part: unknown, i) => {
      if (!isObject(part)) throw badField(`${where}[${i}]`, 'an object', part);
      if (part['type'] !== 'text') throw badField(`${where}[${i}].type`, '"text"', part['type']);
      if (typeof part['text'] === 'string') return part['text'];
      throw badField(`${where}[${i}].text`, 'a text', part['text']);
    })
    .join('\n');
}

function readToolCalls(calls: unknown, where: string): JsonObject[] {
  if (!Array.isArray(calls)) throw badField(where, 'a list of tool calls', calls);
  return calls.map((call: unknown, i) => {
    const place = `${where}[${i}]`;
    if (!isObject(call)) throw badField(place, 'an object', call);
    if (call['type'] !== 'function') throw badField(`${place}.type`, '"function"', call['type']);
    const given = call['function'];
    if (!isObject(given)) throw badField(`${place}.function`, 'an object', given);
    if (typeof given['name'] !== 'string') throw badField(`${place}.function.name`, 'a text', given['name']);
    return {
      ...(typeof call['id'] === 'string' ? { id: call['id'] } : {}),
      type: 'function',
      function: {
        name: given['name'],
        arguments: readArguments(given['arguments'], `${place}.function.arguments`),
      },
    };
  });
}

function readArguments(text: unknown, where: string): JsonObject {
  let value: unknown;
  try {
    value = typeof text === 'string' ? JSON.parse(text) : undefined;
  } catch {
    value = undefined;
  }
  if (isObject(value)) return value;
  throw badField(where, 'the text of a JSON object', text);
}

function readTools(value: unknown): JsonObject[] | undefined {
  if (value === undefined) return undefined;
  if (!Array.isArray(value) || value.length > MAX_TOOLS) {
    throw badField('tools', `a list of at most ${MAX_TOOLS} tools`, value);
  }
  const tools = value.map((tool: unknown, i): JsonObject => {
    const where = `tools[${i}]`;
    if (!isObject(tool)) throw badField(where, 'an object', tool);
    if (tool['type'] !== 'function') throw badField(`${where}.type`, '"function"', tool['type']);
    const given = tool['function'];
    if (!isObject(given)) throw badField(`${where}.function`, 'an object', given);
    if (typeof given['name'] !== 'string' || given['name'] === '') {
      throw badField(`${where}.function.name`, 'a text', given['name']);
    }
    if (given['strict'] === true) {
      throw badField(`${where}.function.strict`, 'false, because answers are not constrained', true);
    }
    return tool;
  });
  return tools.length === 0 ? undefined : tools;
}
