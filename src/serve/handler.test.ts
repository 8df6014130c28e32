/** The handler without a socket, on scripted engines. */
import { fileURLToPath } from 'node:url';
import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { makeFakeEngine } from '../engine/fake.ts';
import { R3Error } from '../lib/errors.ts';
import { hash32 } from '../lib/rng.ts';
import { loadTokenizer } from '../text/tokenizer.ts';
import { CONTEXT, LIMITS, endlessEngine, engineOf, serverOf, tokenizer, type TestServer } from './testing.ts';

const CHAT = '/v1/chat/completions';
const TEXT = '/v1/completions';
const messages = [{ role: 'user', content: 'Hi' }];
const tools = [{ type: 'function', function: { name: 'add', parameters: { type: 'object' } } }];

interface Scored {
  token: string;
  logprob: number;
  bytes: number[] | null;
}
interface Choice {
  index: number;
  text: string;
  message: { content: string | null; tool_calls?: object[] };
  delta: { content?: string; tool_calls?: { id: string; type: string; function: object }[] };
  logprobs: { content: Scored[]; tokens: string[]; token_logprobs: number[]; text_offset: number[] } | null;
  finish_reason: string | null;
  token_ids?: number[];
  prompt_token_ids?: number[];
}
/** What replies, chunks and errors hold, as far as it is read here. */
interface Json {
  choices: Choice[];
  usage: object | null;
  prompt_token_ids: number[];
  error: { message: string; code: string | null; param: string | null };
}
const read = async (response: Response): Promise<Json> => (await response.json()) as Json;

async function sent(server: TestServer, path: string, body: unknown): Promise<Json> {
  const response = await server.post(path, body);
  const json = await read(response);
  expect(response.status, JSON.stringify(json)).toBe(200);
  return json;
}

/** The chunks of a stream, and that it ended as it should. */
async function chunksOf(response: Response): Promise<Json[]> {
  expect(response.headers.get('content-type')).toContain('text/event-stream');
  const events = (await response.text()).split('\n\n');
  expect(events.slice(-2)).toEqual(['data: [DONE]', '']);
  return events.slice(0, -2).map((event) => JSON.parse(event.slice('data: '.length)));
}

test('a chat request is answered with the text, its end and what it cost', async () => {
  const engine = engineOf('Hello there');
  const server = serverOf(engine);
  const answer = await sent(server, CHAT, { model: 'tiny', messages });
  expect(answer).toMatchObject({ id: 'chatcmpl-id1', object: 'chat.completion', model: 'tiny', seed: 77 });
  expect(answer.choices).toEqual([
    {
      index: 0,
      message: { role: 'assistant', content: 'Hello there', refusal: null },
      logprobs: null,
      finish_reason: 'stop',
    },
  ]);
  const prompt = engine.calls.samples[0]?.prompt ?? [];
  expect(tokenizer.decode(prompt)).toBe('{"role":"user","content":"Hi"}\nassistant: ');
  const completion = tokenizer.encode('Hello there').length + 1;
  expect(answer.usage).toEqual({
    prompt_tokens: prompt.length,
    completion_tokens: completion,
    total_tokens: prompt.length + completion,
  });
  expect(server.logs).toEqual([
    {
      method: 'POST',
      path: CHAT,
      status: 200,
      promptTokens: prompt.length,
      completionTokens: completion,
      seconds: 1,
    },
  ]);
});

test('sampling options reach the engine, and their defaults are those of OpenAI', async () => {
  const engine = engineOf('Hello');
  const server = serverOf(engine);
  await sent(server, CHAT, { messages });
  const [usual] = engine.calls.samples;
  expect(usual?.params).toEqual({
    temperature: 1,
    stopIds: tokenizer.eosIds,
    maxTokens: Math.min(400, CONTEXT - (usual?.prompt.length ?? 0)),
  });
  expect(usual).toMatchObject({ count: 1, seed: hash32(77, 0, 0) });
  const options = {
    temperature: 0,
    top_p: 0.5,
    top_k: 3,
    min_p: 0.1,
    n: 2,
    seed: 5,
    max_completion_tokens: 9,
  };
  await sent(server, CHAT, { messages, ...options });
  expect(engine.calls.samples[1]).toMatchObject({
    params: { temperature: 0, topP: 0.5, topK: 3, minP: 0.1, maxTokens: 9 },
    count: 2,
    seed: hash32(5, 0, 0),
  });
  await sent(server, TEXT, { prompt: 'a', top_k: -1, stop: null, user: 'me', frequency_penalty: 0 });
  expect(engine.calls.samples[2]?.params).not.toHaveProperty('topK');
  expect(engine.calls.samples[2]?.params.maxTokens).toBe(16);
});

test('messages come to the template as transformers has them', async () => {
  const engine = engineOf('ok');
  const call = { id: 'c1', type: 'function', function: { name: 'add', arguments: '{"a": 1}' } };
  const parts = [
    { type: 'text', text: 'a' },
    { type: 'text', text: 'b' },
  ];
  await sent(serverOf(engine), CHAT, {
    messages: [
      { role: 'developer', content: 'Be brief.' },
      { role: 'user', content: parts, name: 'Ann' },
      { role: 'assistant', content: null, refusal: null, annotations: [], tool_calls: [call] },
      { role: 'tool', content: '2', tool_call_id: 'c1' },
    ],
    tools,
    chat_template_kwargs: { enable_thinking: false },
  });
  const lines = tokenizer.decode(engine.calls.samples[0]?.prompt ?? []).split('\n');
  expect(lines).toEqual([
    '{"role":"system","content":"Be brief."}',
    '{"role":"user","content":"a\\nb","name":"Ann"}',
    '{"role":"assistant","content":null,"tool_calls":[{"id":"c1","type":"function","function":{"name":"add","arguments":{"a":1}}}]}',
    '{"role":"tool","content":"2","tool_call_id":"c1"}',
    `tools ${JSON.stringify(tools)}`,
    '{"enable_thinking":false}',
    'assistant: ',
  ]);
});

test.each(['word-level', 'byte-fallback'])(
  'a %s completion keeps the space after its prompt, in its text, its tokens and its stream',
  async (kind) => {
    const other = loadTokenizer(
      fileURLToPath(new URL(`../../test/fixtures/tokenizers/${kind}`, import.meta.url)),
    );
    const server = (): TestServer => {
      const engine = makeFakeEngine(() => other.encode('3 + 3'), { contextLength: CONTEXT });
      const render = (): string => '5 3';
      return serverOf(engine, {
        model: { name: 'tiny', engine, tokenizer: other, render, chatStopIds: other.eosIds },
      });
    };
    const body = { prompt: ['5 3', other.encode('5')], logprobs: 0 };
    const { choices } = await sent(server(), TEXT, body);
    const chunks = await chunksOf(await server().post(TEXT, { ...body, stream: true }));
    for (const { index, text, logprobs } of choices) {
      expect(text).toBe(' 3 + 3');
      const tokens = logprobs?.tokens ?? [];
      expect(tokens.join('')).toBe(text);
      expect(logprobs?.text_offset).toEqual(tokens.map((_, i) => tokens.slice(0, i).join('').length));
      const own = chunks.flatMap((chunk) => chunk.choices).filter((choice) => choice.index === index);
      expect(own.map((choice) => choice.text).join('')).toBe(text);
      expect(own.flatMap((choice) => choice.logprobs?.tokens ?? [])).toEqual(tokens);
    }
    const chat = await sent(server(), CHAT, { messages });
    expect(chat.choices[0]?.message.content).toBe('3 + 3');
  },
);

test('log-probabilities and token ids are one for each sampled token, the stop token included', async () => {
  const engine = engineOf('x🦀');
  const ids = [...tokenizer.encode('x🦀'), tokenizer.eosIds[0]];
  const answer = await sent(serverOf(engine), CHAT, {
    messages,
    logprobs: true,
    top_logprobs: 0,
    return_token_ids: true,
  });
  const [choice] = answer.choices;
  expect(choice?.token_ids).toEqual(ids);
  expect(answer.prompt_token_ids).toEqual(engine.calls.samples[0]?.prompt);
  const content = choice?.logprobs?.content ?? [];
  expect(content.map(({ token }) => token)).toEqual([
    'x',
    '\uFFFD',
    '\uFFFD',
    '\uFFFD',
    '\uFFFD',
    '<|im_end|>',
  ]);
  expect(content.map(({ bytes }) => bytes).slice(0, 2)).toEqual([[120], null]);
  for (const { logprob } of content) expect(logprob).toBeLessThan(0);
  const text = await sent(serverOf(engine), TEXT, { prompt: 'x', logprobs: 0, return_token_ids: true });
  expect(text.choices[0]).toMatchObject({
    token_ids: ids,
    prompt_token_ids: tokenizer.encode('x'),
    logprobs: { top_logprobs: null, text_offset: [0, 1, 2, 3, 4, 5] },
  });
});

test('the chunks of a stream put together are the whole answer', async () => {
  const texts = [
    'I 🦀 add.\n<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>',
    'no stop END more',
  ];
  const body = { messages, n: 2, tools, stop: ['END'], logprobs: true, return_token_ids: true };
  const whole = await sent(serverOf(engineOf(...texts)), CHAT, body);
  const streaming = { ...body, stream: true, stream_options: { include_usage: true } };
  const chunks = await chunksOf(await serverOf(engineOf(...texts)).post(CHAT, streaming));
  const last = chunks.pop();
  expect(last).toMatchObject({ choices: [], usage: whole.usage });
  expect(chunks[0]).toMatchObject({ prompt_token_ids: whole.prompt_token_ids, usage: null });
  for (const choice of whole.choices) {
    const own = chunks.flatMap((chunk) => chunk.choices).filter(({ index }) => index === choice.index);
    const content = own.map(({ delta }) => delta.content ?? '').join('');
    expect(content).toBe(choice.message.content);
    expect(content).not.toContain('\uFFFD');
    const calls = own.flatMap(({ delta }) => delta.tool_calls ?? []);
    expect(calls.map(({ id, type, function: called }) => ({ id, type, function: called }))).toEqual(
      choice.message.tool_calls ?? [],
    );
    expect(own.flatMap(({ token_ids: ids }) => ids ?? [])).toEqual(choice.token_ids);
    expect(own.flatMap(({ logprobs }) => logprobs?.content ?? [])).toEqual(choice.logprobs?.content);
    expect(own.map(({ finish_reason: reason }) => reason).filter(Boolean)).toEqual([choice.finish_reason]);
  }
  expect(whole.choices.map((choice) => [choice.message.content, choice.finish_reason])).toEqual([
    ['I 🦀 add.', 'tool_calls'],
    ['no stop ', 'stop'],
  ]);
});

test('a stream of completions is the whole answer too, prompt by prompt', async () => {
  const body = { prompt: ['a', [1, 2]], n: 2, logprobs: 0, return_token_ids: true, max_tokens: 4 };
  const whole = await sent(serverOf(engineOf('abc', 'xyzuvw')), TEXT, body);
  const response = await serverOf(engineOf('abc', 'xyzuvw')).post(TEXT, { ...body, stream: true });
  const choices = (await chunksOf(response)).flatMap((chunk) => chunk.choices);
  expect(whole.choices.map(({ text, finish_reason: reason }) => [text, reason])).toEqual([
    ['abc', 'stop'],
    ['xyzu', 'length'],
    ['abc', 'stop'],
    ['xyzu', 'length'],
  ]);
  for (const choice of whole.choices) {
    const own = choices.filter(({ index }) => index === choice.index);
    expect(own.map(({ text }) => text).join('')).toBe(choice.text);
    expect(own.flatMap(({ token_ids: ids }) => ids)).toEqual(choice.token_ids);
    expect(own[0]?.prompt_token_ids).toEqual(choice.prompt_token_ids);
    for (const field of ['tokens', 'token_logprobs', 'text_offset'] as const) {
      expect(own.flatMap<string | number>(({ logprobs }) => logprobs?.[field] ?? [])).toEqual(
        choice.logprobs?.[field],
      );
    }
  }
});

test('tools stay out of the prompt and calls in the text with tool_choice none', async () => {
  const text = '<tool_call>{"name": "add", "arguments": {}}</tool_call>';
  const engine = engineOf(text);
  const { choices } = await sent(serverOf(engine), CHAT, { messages, tools, tool_choice: 'none' });
  expect(choices[0]).toMatchObject({ message: { content: text }, finish_reason: 'stop' });
  expect(tokenizer.decode(engine.calls.samples[0]?.prompt ?? [])).not.toContain('tools');
  const answer = await sent(serverOf(engine), CHAT, { messages, tools });
  expect(answer.choices[0]?.message).toEqual({
    role: 'assistant',
    content: null,
    refusal: null,
    tool_calls: [{ id: 'call_id1_0_0', type: 'function', function: { name: 'add', arguments: '{}' } }],
  });
});

const user = { role: 'user', content: 'Hi' };
test.each<[string, string, unknown, string, string]>([
  ['no messages', CHAT, {}, 'messages', 'got nothing'],
  ['empty messages', CHAT, { messages: [] }, 'messages', 'got []'],
  ['a message that is none', CHAT, { messages: ['Hi'] }, 'messages[0]', 'an object'],
  ['an unknown role', CHAT, { messages: [{ role: 'bot', content: '' }] }, 'messages[0].role', '"bot"'],
  ['no content', CHAT, { messages: [{ role: 'user' }] }, 'messages[0].content', 'a text'],
  [
    'an image',
    CHAT,
    { messages: [{ role: 'user', content: [{ type: 'image_url', image_url: {} }] }] },
    'messages[0].content[0].type',
    '"image_url"',
  ],
  ['an unknown message field', CHAT, { messages: [{ ...user, weight: 1 }] }, 'messages[0].weight', 'one of'],
  [
    'arguments that are no object',
    CHAT,
    {
      messages: [
        { role: 'assistant', tool_calls: [{ type: 'function', function: { name: 'a', arguments: '[' } }] },
      ],
    },
    'messages[0].tool_calls[0].function.arguments',
    'JSON object',
  ],
  [
    'calls of a user',
    CHAT,
    { messages: [{ ...user, tool_calls: [{}] }] },
    'messages[0].tool_calls',
    'assistant',
  ],
  ['a temperature as text', CHAT, { messages, temperature: '1' }, 'temperature', 'a number'],
  ['a temperature near 0', CHAT, { messages, temperature: 1e-9 }, 'temperature', '0 or at least'],
  ['a top_p of 0', CHAT, { messages, top_p: 0 }, 'top_p', 'above 0'],
  ['half a completion', CHAT, { messages, n: 0.5 }, 'n', 'a whole number'],
  ['a seed too large', CHAT, { messages, seed: 2 ** 32 }, 'seed', 'at most 4294967295'],
  ['stream as text', CHAT, { messages, stream: 'yes' }, 'stream', 'true or false'],
  ['options of no stream', CHAT, { messages, stream_options: {} }, 'stream_options', 'stream: true'],
  ['an empty stop string', CHAT, { messages, stop: [''] }, 'stop[0]', 'a text of 1'],
  ['top_logprobs', CHAT, { messages, logprobs: true, top_logprobs: 1 }, 'top_logprobs', 'expected 0'],
  ['a bias', CHAT, { messages, logit_bias: { 5: 1 } }, 'logit_bias', 'honours no other'],
  ['a name of every object', CHAT, { messages, constructor: 1 }, 'constructor', 'expected a field that'],
  ['a penalty', CHAT, { messages, presence_penalty: 0.5 }, 'presence_penalty', 'expected 0'],
  [
    'a form',
    CHAT,
    { messages, response_format: { type: 'json_object' } },
    'response_format',
    'in the prompt',
  ],
  ['functions', CHAT, { messages, functions: [] }, 'functions', 'as tools'],
  ['an unknown field', CHAT, { messages, temprature: 1 }, 'temprature', 'Honoured are'],
  ['a forced tool', CHAT, { messages, tools, tool_choice: 'required' }, 'tool_choice', '"auto" or "none"'],
  [
    'a tool without a name',
    CHAT,
    { messages, tools: [{ type: 'function' }] },
    'tools[0].function',
    'an object',
  ],
  [
    'a strict tool',
    CHAT,
    { messages, tools: [{ type: 'function', function: { name: 'a', strict: true } }] },
    'tools[0].function.strict',
    'not constrained',
  ],
  ['two limits', CHAT, { messages, max_tokens: 1, max_completion_tokens: 2 }, 'max_tokens', 'one of'],
  ['too many tokens asked for', CHAT, { messages, max_tokens: 401 }, 'max_tokens', "this server's limit"],
  [
    'a continued question',
    CHAT,
    { messages, continue_final_message: true },
    'continue_final_message',
    'assistant',
  ],
  [
    'a taken variable',
    CHAT,
    { messages, chat_template_kwargs: { tools: 1 } },
    'chat_template_kwargs',
    'no tools',
  ],
  ['no prompt', TEXT, {}, 'prompt', 'got nothing'],
  ['an empty prompt', TEXT, { prompt: '' }, 'prompt', 'at least one token'],
  ['an id outside the vocabulary', TEXT, { prompt: [[1, 2], [1000]] }, 'prompt[1]', '0 to 999'],
  ['a prompt that is none', TEXT, { prompt: ['a', 7] }, 'prompt[1]', 'a text or token ids'],
  ['more log-probabilities', TEXT, { prompt: 'a', logprobs: 1 }, 'logprobs', 'expected 0'],
  ['an echo', TEXT, { prompt: 'a', echo: true }, 'echo', 'r3 score'],
  ['messages to complete', TEXT, { prompt: 'a', messages }, 'messages', 'does not'],
])('%s: status 400 and the field by name', async (_, path, body, param, words) => {
  const engine = engineOf('never');
  const response = await serverOf(engine).post(path, body);
  const { error } = await read(response);
  expect(response.status, JSON.stringify(error)).toBe(400);
  expect(error).toMatchObject({ param, type: 'invalid_request_error' });
  expect(error.message).toContain(words);
  expect(engine.calls.samples).toEqual([]);
});

test.each([
  ['', 'an empty text'],
  ['{"messages": [', 'expected a JSON object'],
  ['[]', 'expected a JSON object'],
  ['{"n": 1, "n": 2}', 'each key once'],
  ['{"n": 1e999}', 'at most 1.8e308'],
  [`{"a":${'['.repeat(9000)}${']'.repeat(9000)}}`, ''],
])('a body that is not a JSON object is status 400: %.20s', async (body, words) => {
  const response = await serverOf(engineOf('never')).post(CHAT, body);
  expect(response.status).toBe(400);
  expect(await response.text()).toContain(words);
});

const FIELDS =
  'model messages temperature top_p top_k min_p n max_tokens stop seed stream stream_options logprobs ' +
  'tools tool_choice prompt chat_template_kwargs';

test('no value of any field does more than to have the request refused', async () => {
  const server = serverOf(engineOf('ok'));
  const valid = fc.constantFrom<unknown>(messages, tools, 'a', 1, true, [[1], 'a'], ['a'], {}, 0.5, 'auto');
  const body = fc.dictionary(fc.constantFrom(...FIELDS.split(' ')), fc.oneof(valid, fc.jsonValue()));
  await fc.assert(
    fc.asyncProperty(fc.constantFrom(CHAT, TEXT), body, async (path, values) => {
      const base = path === CHAT ? { messages } : { prompt: 'a' };
      const response = await server.post(path, { ...base, ...values });
      await response.text();
      expect([200, 400, 404]).toContain(response.status);
    }),
    { numRuns: 300 },
  );
});

test('a prompt or a completion that the context cannot hold has the code that clients look for', async () => {
  const server = serverOf(engineOf('never'), { limits: { ...LIMITS, maxBodyBytes: 1e6 } });
  for (const body of [
    { prompt: 'x'.repeat(CONTEXT * 128 + 1) },
    { prompt: 'x '.repeat(CONTEXT) },
    { prompt: [...Array(200).fill(5)], max_tokens: 313 },
  ]) {
    const response = await server.post(TEXT, body);
    const { error } = await read(response);
    expect([response.status, error.code]).toEqual([400, 'context_length_exceeded']);
  }
});

test('other paths, methods, types, names and sizes are refused with their status', async () => {
  const server = serverOf(engineOf('never'));
  const status = async (path: string, init: RequestInit): Promise<number> =>
    (await server.post(path, { messages }, init)).status;
  expect(await status('/v2/models', {})).toBe(404);
  expect(await status(CHAT, { method: 'PUT' })).toBe(405);
  expect(await status('/v1/models', {})).toBe(405);
  expect(await status(CHAT, { headers: { 'content-type': 'text/plain' } })).toBe(415);
  expect((await server.post(CHAT, ' '.repeat(20_001))).status).toBe(413);
  const other = await server.post(CHAT, { messages, model: 'gpt-9' });
  const { error } = await read(other);
  expect([other.status, error.code, error.param]).toEqual([404, 'model_not_found', 'model']);
});

test('a body without a length is counted as it comes', async () => {
  const chunks = Array.from({ length: 30 }, () => new Uint8Array(1000).fill(32));
  const init = { body: ReadableStream.from(chunks) as ReadableStream, duplex: 'half' } as RequestInit;
  expect((await serverOf(engineOf('never')).post(CHAT, '', init)).status).toBe(413);
});

test('health and models are told, models with the context', async () => {
  const server = serverOf(engineOf('never'));
  const get = async (path: string): Promise<unknown> =>
    (await server.handle(new Request(`http://127.0.0.1${path}`))).json();
  expect(await get('/health')).toEqual({ status: 'ok' });
  const model = { id: 'tiny', object: 'model', max_model_len: CONTEXT };
  expect(await get('/v1/models')).toMatchObject({ object: 'list', data: [model] });
  expect(await get('/v1/models/tiny')).toMatchObject(model);
});

test('a server on loopback answers to its own names only', async () => {
  const ask = async (host: string, isLoopbackOnly: boolean): Promise<number> =>
    (await serverOf(engineOf(''), { isLoopbackOnly }).handle(new Request(`http://${host}/health`))).status;
  for (const host of ['localhost', '127.0.0.1:80', '127.0.0.2', '[::1]:8000'])
    expect(await ask(host, true)).toBe(200);
  for (const host of ['evil.example', '192.168.0.2', 'localhost.evil.example']) {
    expect(await ask(host, true)).toBe(403);
    expect(await ask(host, false)).toBe(200);
  }
});

test('with a key only its bearer gets past /health', async () => {
  const server = serverOf(engineOf('ok'), { apiKey: 'secret' });
  const type = { 'content-type': 'application/json' };
  const ask = async (authorization: string): Promise<Response> =>
    server.post(CHAT, { messages }, { headers: { ...type, authorization } });
  expect((await ask('Bearer secret')).status).toBe(200);
  for (const wrong of ['Bearer secre', 'Bearer ', 'Basic secret', '']) {
    const response = await ask(wrong);
    expect(response.status).toBe(401);
    expect(await response.text()).not.toContain('secre');
  }
  expect((await server.handle(new Request('http://localhost/v1/models'))).status).toBe(401);
  expect((await server.handle(new Request('http://localhost/health'))).status).toBe(200);
});

test('a client that goes away ends what is sampled for it, with and without a stream', async () => {
  for (const stream of [false, true]) {
    const server = serverOf(endlessEngine());
    const gone = new AbortController();
    const asked = server.post(CHAT, { messages, stream }, { signal: gone.signal });
    setImmediate(() => gone.abort());
    await asked;
    await server.stop();
    expect(server.logs).toMatchObject([{ status: 499 }]);
  }
});

test('a reader that gives up a stream ends what is sampled for it', async () => {
  const server = serverOf(endlessEngine());
  const response = await server.post(CHAT, { messages, stream: true });
  await response.body?.cancel();
  await server.stop();
  expect(server.logs).toHaveLength(1);
});

test('requests beyond the limit are told to come again', async () => {
  const server = serverOf(endlessEngine(), {
    limits: { ...LIMITS, maxRequests: 2 },
  });
  const streams = [
    await server.post(CHAT, { messages, stream: true }),
    await server.post(TEXT, { prompt: 'a', stream: true }),
  ];
  const refused = await server.post(CHAT, { messages });
  expect([refused.status, refused.headers.get('retry-after')]).toEqual([429, '1']);
  expect(await refused.json()).toMatchObject({ error: { type: 'rate_limit_error' } });
  for (const stream of streams) await stream.body?.cancel();
  let again = await server.post(CHAT, { messages, stream: true });
  while (again.status === 429) {
    await new Promise((resolve) => setImmediate(resolve));
    again = await server.post(CHAT, { messages, stream: true });
  }
  expect(again.status).toBe(200);
  await again.body?.cancel();
});

test('a server that is stopping lets requests end and takes no more', async () => {
  const server = serverOf(endlessEngine());
  const open = await server.post(CHAT, { messages, stream: true });
  let stopped = false;
  const stopping = server.stop().then(() => (stopped = true));
  const refused = await server.post(CHAT, { messages });
  expect([refused.status, stopped]).toEqual([503, false]);
  await open.body?.cancel();
  await stopping;
});

test('an error of the engine keeps its message when the request is at fault, and is told to the log when not', async () => {
  const failing = (error: Error): TestServer =>
    serverOf({ ...engineOf(''), sample: () => Promise.reject(error) });
  for (const stream of [false, true]) {
    const memory = failing(new R3Error('engine', 'no-memory', 'a request for 128 completions: too much'));
    const refused = await memory.post(CHAT, { messages, stream });
    expect(refused.status).toBe(400);
    expect(await refused.json()).toMatchObject({
      error: { message: 'a request for 128 completions: too much' },
    });
    const broken = failing(new Error('kernel fault at 7'));
    const response = await broken.post(CHAT, { messages, stream });
    expect(response.status).toBe(500);
    expect(await response.text()).not.toContain('kernel');
    expect(broken.logs).toMatchObject([{ status: 500, error: 'kernel fault at 7' }]);
  }
});

test('an error in the middle of a stream is its last event', async () => {
  const [token = 0] = tokenizer.encode('a');
  const server = serverOf({
    ...engineOf(''),
    sample: async ({ onToken }) => {
      onToken?.(0, token, -1);
      await Promise.resolve();
      throw new Error('kernel fault');
    },
  });
  const response = await server.post(CHAT, { messages, stream: true });
  const last = (await chunksOf(response)).at(-1);
  expect(last).toMatchObject({ error: { type: 'server_error' } });
  expect(server.logs).toMatchObject([{ status: 500, error: 'kernel fault' }]);
});
