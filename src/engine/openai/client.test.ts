import * as fc from 'fast-check';
import { afterEach, describe, expect, test } from 'vitest';
import { R3Error } from '../../lib/errors.ts';
import { readReply } from './answer.ts';
import { parseServerUrl } from '../http.ts';
import type { ChatRequest } from './client.ts';
import {
  completionOf,
  startScriptedServer,
  testClient,
  type Received,
  type Scripted,
  type ScriptedServer,
} from './testing.ts';

const KEY = 'sk-secret-123';
const request: ChatRequest = {
  messages: [{ role: 'user', content: 'two and two?' }],
  count: 1,
  maxTokens: 20,
  temperature: 0.5,
  seed: 8,
};
const good: Scripted = { body: completionOf(['four']) };
const refused = (status: number, error: object | string = {}, headers = {}): Scripted => ({
  status,
  headers,
  body: typeof error === 'string' ? error : { error },
});

const open: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of open.splice(0)) await close();
});

async function serve(
  script: (request: Received, index: number) => Scripted | Promise<Scripted>,
): Promise<ScriptedServer> {
  const server = await startScriptedServer(script);
  open.push(server.close);
  return server;
}

function clientOf(...args: Parameters<typeof testClient>): ReturnType<typeof testClient> {
  const client = testClient(...args);
  open.push(client.close);
  return client;
}

async function errorOf(call: Promise<unknown>): Promise<R3Error> {
  const error: unknown = await call.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  if (error instanceof R3Error) return error;
  throw new Error(`expected an R3Error, got ${String(error)}`);
}

test('a request has the fields that were asked for, and no others', async () => {
  const server = await serve(() => good);
  const client = clientOf(server.url, { apiKey: KEY });
  expect(await client.complete(request)).toEqual([{ text: 'four', stopReason: 'stop', tokenCount: 5 }]);
  await client.complete({ ...request, topK: 3, topP: 0.9, minP: 0.1 });
  const [plain, filtered] = server.received;
  expect(plain).toMatchObject({ method: 'POST', path: '/v1/chat/completions' });
  expect(plain?.headers).toMatchObject({
    authorization: `Bearer ${KEY}`,
    'content-type': 'application/json',
  });
  const body = { model: 'tiny', messages: request.messages, max_tokens: 20, temperature: 0.5, seed: 4 };
  expect(plain?.body).toEqual(body);
  expect(filtered?.body).toEqual({ ...body, top_k: 3, top_p: 0.9, min_p: 0.1 });
  expect(client.stats()).toEqual({ calls: 2, resent: 0, promptTokens: 14, completionTokens: 10 });
});

test('one connection serves requests that follow each other', async () => {
  const server = await serve(() => good);
  const client = clientOf(server.url);
  for (let i = 0; i < 5; i++) await client.complete(request);
  expect(server.seen.connections).toBe(1);
});

test('no more requests than allowed are under way', async () => {
  const server = await serve(async () => {
    await new Promise((resolve) => setImmediate(resolve));
    return good;
  });
  const client = clientOf(server.url, { concurrency: 3 });
  await Promise.all(Array.from({ length: 20 }, (_, seed) => client.complete({ ...request, seed })));
  expect(server.received).toHaveLength(20);
  expect(server.seen.mostAtOnce).toBeLessThanOrEqual(3);
});

test.each([
  ['stop', 'four', { text: 'four', stopReason: 'stop' }],
  ['length', 'fo', { text: 'fo', stopReason: 'length' }],
  ['length', null, { text: '', stopReason: 'length' }],
  ['content_filter', '', { text: '', stopReason: 'filtered' }],
  ['tool_calls', null, { text: '', stopReason: 'stop' }],
])('finish_reason %s with content %j is understood', async (finish, content, expected) => {
  const server = await serve(() => ({ body: completionOf([content], { finish }) }));
  expect(await clientOf(server.url).complete(request)).toMatchObject([expected]);
});

test('a prompt that is withheld is one answer that is withheld, and the rest goes on', async () => {
  const server = await serve((_, i) =>
    i === 0 ? refused(400, { code: 'content_filter', message: 'the prompt triggered a policy' }) : good,
  );
  const client = clientOf(server.url);
  expect(await client.complete(request)).toEqual([{ text: '', stopReason: 'filtered', tokenCount: 0 }]);
  expect(await client.complete(request)).toHaveLength(1);
});

describe('what may pass is sent again', () => {
  test.each<[string, Scripted]>([
    ['status 429', refused(429, { message: 'slow down' })],
    ['status 500', refused(500, 'oops')],
    ['status 503', refused(503)],
    ['a connection that was cut', 'reset'],
    ['half a body', 'truncate'],
    ['a body that is no JSON', { body: '<html>' }],
    ['a body without choices', { body: { usage: {} } }],
    ['an unknown finish_reason', { body: completionOf(['four'], { finish: 'abort' }) }],
  ])('%s', async (_, failure) => {
    const server = await serve((__, i) => (i < 2 ? failure : good));
    const client = clientOf(server.url);
    expect(await client.complete(request)).toMatchObject([{ text: 'four' }]);
    expect(client.stats()).toMatchObject({ calls: 1, resent: 2 });
    const [first = 0, second = 0] = client.waits;
    expect(first).toBeGreaterThanOrEqual(1000);
    expect(second).toBeGreaterThanOrEqual(2000);
  });

  test.each([
    [{ 'retry-after': '7' }, 7000],
    [{ 'retry-after': 'Thu, 01 Jan 2026 00:00:30 GMT' }, 30_000],
    [{ 'retry-after-ms': '2500', 'retry-after': '9' }, 2500],
  ])('after the time that the server asks for: %j', async (headers, milliseconds) => {
    const server = await serve((_, i) => (i === 0 ? refused(429, {}, headers) : good));
    const client = clientOf(server.url);
    await client.complete(request);
    expect(client.waits[0]).toBeGreaterThanOrEqual(milliseconds);
    expect(client.waits[0]).toBeLessThanOrEqual(milliseconds + 1000);
  });

  test('a limited number of times, then it is one error', async () => {
    const server = await serve(() => refused(503, { message: 'loading the model' }));
    const error = await errorOf(clientOf(server.url).complete(request));
    expect(error).toMatchObject({ boundary: 'engine', code: 'no-network' });
    expect(error.message).toContain('got status 503: loading the model');
    expect(server.received).toHaveLength(9);
  });

  test('but not for a wait beyond reason', async () => {
    const server = await serve(() => refused(429, { message: 'tomorrow' }, { 'retry-after': '86400' }));
    expect(await errorOf(clientOf(server.url).complete(request))).toMatchObject({ code: 'no-network' });
    expect(server.received).toHaveLength(1);
  });

  test('an answer that does not come in time', async () => {
    const server = await serve((_, i) => (i === 0 ? 'hang' : good));
    const client = clientOf(server.url, { timeoutMs: 200 });
    expect(await client.complete(request)).toHaveLength(1);
    expect(client.stats().resent).toBe(1);
  });
});

describe('what does not pass is said at once', () => {
  test.each<[string, Scripted, R3Error['code'], RegExp]>([
    [
      'a wrong key',
      refused(401, { message: `bad key ${KEY}` }),
      'no-access',
      /the key that was sent is refused/,
    ],
    ['a key without rights', refused(403, { message: `not ${KEY}` }), 'no-access', /status 403: not \*+/],
    ['no credit', refused(402, { message: 'pay' }), 'no-access', /status 402: pay/],
    ['a spent quota', refused(429, { code: 'insufficient_quota', message: 'spent' }), 'no-access', /spent/],
    ['another model', refused(404, { message: 'no such model' }), 'not-found', /check --model, and --url/],
    ['another address', refused(301, '', { location: 'http://127.0.0.1:1/' }), 'not-found', /status 301/],
    ['a field', refused(422, JSON.stringify({ detail: [{ msg: 'extra' }] })), 'bad-option', /"msg":"extra"/],
    [
      'no usage',
      { body: { ...completionOf(['four']), usage: null } },
      'bad-shape',
      /usage: expected .* got null/,
    ],
    [
      'a count of 0',
      { body: completionOf(['four'], { tokens: 0 }) },
      'bad-shape',
      /completion_tokens: .* got 0/,
    ],
    [
      'no limit',
      { body: completionOf(['four'], { tokens: 21 }) },
      'bad-shape',
      /does not keep to max_tokens/,
    ],
  ])('%s', async (_, answer, code, message) => {
    const server = await serve(() => answer);
    const error = await errorOf(clientOf(server.url, { apiKey: KEY }).complete(request));
    expect(error).toMatchObject({ boundary: 'engine', code });
    expect(error.message).toMatch(message);
    expect(error.message).not.toContain(KEY);
    expect(server.received).toHaveLength(1);
  });

  test.each<[string, number, object]>([
    ['OpenAI and r3 serve', 400, { code: 'context_length_exceeded', message: 'too many' }],
    ['llama.cpp', 400, { type: 'exceed_context_size_error', message: 'exceeds the available size' }],
    [
      'vLLM',
      400,
      { message: "This model's maximum context length is 256 tokens. However, you requested 300." },
    ],
    ['a proxy', 413, {}],
  ])('a conversation that is too long, as %s has it, alone', async (_, status, error) => {
    const server = await serve((__, i) => (i === 0 ? refused(status, error) : good));
    const client = clientOf(server.url);
    expect(await errorOf(client.complete(request))).toMatchObject({ code: 'too-long' });
    expect(await client.complete(request)).toHaveLength(1);
  });

  test('a server that is not there', async () => {
    const server = await startScriptedServer(() => good);
    await server.close();
    const client = clientOf(server.url);
    const error = await errorOf(client.describe());
    expect(error).toMatchObject({ code: 'no-network' });
    expect(error.message).toContain('ECONNREFUSED; is the server up, and is --url its address?');
    expect(client.waits).toEqual([]);
  });

  test('and ends the requests beside it, which would meet the same', async () => {
    const server = await serve((_, i) => (i === 0 ? 'hang' : refused(401)));
    const client = clientOf(server.url);
    const first = errorOf(client.complete(request));
    const second = errorOf(client.complete(request));
    expect(await first).toBe(await second);
    expect(await errorOf(client.complete(request))).toBe(await first);
    expect(server.received).toHaveLength(2);
  });
});

describe('several answers', () => {
  const many = { ...request, count: 3 };

  test('come from one request where the server honours n, with equal shares of its count', async () => {
    const server = await serve(() => ({ body: completionOf(['a', 'b', 'c'], { tokens: 11 }) }));
    const answers = await clientOf(server.url).complete(many);
    expect(answers.map(({ text, tokenCount }) => [text, tokenCount])).toEqual([
      ['a', 4],
      ['b', 4],
      ['c', 3],
    ]);
    expect(server.received.map(({ body }) => body['n'])).toEqual([3]);
  });

  test.each<[string, (body: Received['body']) => Scripted]>([
    ['ignores it', ({ seed }) => ({ body: completionOf([String(seed)]) })],
    [
      'refuses it',
      ({ n, seed }) =>
        n === undefined
          ? { body: completionOf([String(seed)]) }
          : refused(400, { message: 'Only one completion choice is allowed' }),
    ],
  ])('come from single requests with seeds of their own where it %s', async (_, answer) => {
    const server = await serve(({ body }) => answer(body));
    const client = clientOf(server.url);
    for (let round = 1; round <= 2; round++) {
      const answers = await client.complete(many);
      expect(new Set(answers.map(({ text }) => text)).size).toBe(3);
    }
    // It is asked for once.
    expect(server.received.filter(({ body }) => body['n'] !== undefined)).toHaveLength(1);
  });

  test('are refused for what a single one is refused for', async () => {
    const server = await serve(() => refused(400, { message: 'temperature: unsupported' }));
    expect((await errorOf(clientOf(server.url).complete(many))).message).toContain(
      'temperature: unsupported',
    );
  });

  test('share a count to its last token', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 9 }), fc.nat(90), (count, total) => {
        const tokens = Math.min(total, 10 * count) || 1;
        const body = completionOf(
          Array.from({ length: count }, () => 'x'),
          { tokens },
        );
        const { answers } = readReply(JSON.stringify(body), { count, maxTokens: 10 });
        const counts = answers.map(({ tokenCount }) => tokenCount);
        expect(counts.reduce((sum, n) => sum + n, 0)).toBe(tokens);
        expect(Math.max(...counts) - Math.min(...counts)).toBeLessThanOrEqual(1);
      }),
    );
  });
});

test('max_tokens becomes max_completion_tokens where the server asks for it', async () => {
  const server = await serve(({ body }) =>
    body['max_tokens'] === undefined
      ? good
      : refused(400, { message: "'max_tokens' is not supported. Use 'max_completion_tokens' instead." }),
  );
  const client = clientOf(server.url);
  await client.complete(request);
  await client.complete(request);
  expect(server.received.map(({ body }) => body['max_completion_tokens'])).toEqual([undefined, 20, 20]);
  expect(client.waits).toEqual([]);
});

test('a raised signal ends requests that hang', async () => {
  const stop = new AbortController();
  const server = await serve(() => {
    setImmediate(() => stop.abort());
    return 'hang';
  });
  const client = clientOf(server.url, { signal: stop.signal });
  expect(await errorOf(client.complete(request))).toMatchObject({ code: 'cancelled' });
  expect(await errorOf(client.complete(request))).toMatchObject({ code: 'cancelled' });
});

test('a raised signal ends waits', async () => {
  const stop = new AbortController();
  const server = await serve(() => refused(429));
  const wait = (_: number, signal: AbortSignal): Promise<void> =>
    new Promise((__, reject) => {
      signal.addEventListener('abort', () => reject(new Error('aborted')));
      stop.abort();
    });
  const client = clientOf(server.url, { signal: stop.signal, wait });
  expect(await errorOf(client.complete(request))).toMatchObject({ code: 'cancelled' });
});

test.each<[string, Scripted, number | undefined]>([
  ['its context', { body: { data: [{ id: 'tiny', max_model_len: 256 }] } }, 256],
  ['nothing of a context', { body: { data: [{ id: 'tiny' }, 7] } }, undefined],
  ['another model', { body: { data: [{ id: 'other', max_model_len: 9 }] } }, undefined],
  ['no list', { body: 'models' }, undefined],
  ['that it has no such endpoint', refused(404), undefined],
])('a server may say %s', async (_, answer, contextLength) => {
  const server = await serve(() => answer);
  expect(await clientOf(server.url).describe()).toEqual({ contextLength });
});

test('addresses lose the slashes at their end', () => {
  expect(parseServerUrl('http://localhost:8000/v1//', 'OPENAI_API_KEY')).toBe('http://localhost:8000/v1');
  expect(parseServerUrl('https://host', 'OPENAI_API_KEY')).toBe('https://host');
});

test.each([
  ['localhost', /a text that is none/],
  ['ftp://host/v1', /the protocol ftp:/],
  ['http://me:secret@host/v1', /put the key into OPENAI_API_KEY/],
  ['http://host/v1?api-key=secret', /a query/],
])('the address %s is refused, without a secret in the message', (text, message) => {
  expect(() => parseServerUrl(text, 'OPENAI_API_KEY')).toThrow(message);
  expect(() => parseServerUrl(text, 'OPENAI_API_KEY')).not.toThrow(/secret/);
});
