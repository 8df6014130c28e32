/** `r3 serve` as a process, and the official openai client talking to it. */
import type { ChildProcess } from 'node:child_process';
import { createServer, type AddressInfo } from 'node:net';
import { fileURLToPath } from 'node:url';
import OpenAI, { APIError, APIUserAbortError, AuthenticationError } from 'openai';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { listen, type Listening } from '../../src/serve/node-server.ts';
import { endlessEngine, engineOf, serverOf, type TestServer } from '../../src/serve/testing.ts';
import { makeWorkplace, type Outcome } from './r3.ts';

const workplace = makeWorkplace();
afterAll(() => workplace.remove());
const START = fileURLToPath(new URL('../../models/start', import.meta.url));

interface Served {
  url: string;
  child: ChildProcess;
  /** Resolves when the process has ended. */
  ended: Promise<Outcome>;
}

/** Starts `r3 serve` on any port; returns when it says where. */
function startServer(args: readonly string[] = [], env: Record<string, string> = {}): Promise<Served> {
  return new Promise((resolve, reject) => {
    const ended = workplace.r3(['serve', START, '--port', '0', ...args], {
      env: { R3_API_KEY: '', ...env },
      during: (child) => {
        let stdout = '';
        child.stdout?.on('data', (data: Buffer) => {
          stdout += data.toString();
          if (stdout.endsWith('\n')) resolve({ url: stdout.trim(), child, ended });
        });
      },
    });
    ended.then(({ stderr }) => reject(new Error(stderr)), reject);
  });
}

function clientOf(baseURL: string, apiKey = 'any'): OpenAI {
  return new OpenAI({ baseURL, apiKey, maxRetries: 0 });
}

/** The error that a call ends with. */
async function errorOf(call: Promise<unknown>): Promise<APIError> {
  const error: unknown = await call.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  if (error instanceof APIError) return error;
  throw new Error(`expected an APIError, got ${String(error)}`);
}

const model = 'start';
const messages = [{ role: 'user' as const, content: '92 57 64 to 29' }];

describe('a process that serves the start model', () => {
  let served: Served;
  let client: OpenAI;
  beforeAll(async () => {
    served = await startServer(['--max-body-mib', '1']);
    client = clientOf(served.url);
  });

  test('answers a chat with text and usage, greedily the same as r3 generate', async () => {
    const answer = await client.chat.completions.create({ model, messages, temperature: 0 });
    const generated = await workplace.r3(['generate', START, '--prompt', messages[0]?.content ?? '']);
    expect(`${answer.choices[0]?.message.content}\n`).toBe(generated.stdout);
    expect(answer.choices[0]?.finish_reason).toBe('stop');
    expect(answer.usage).toEqual({ prompt_tokens: 8, completion_tokens: 8, total_tokens: 16 });
    expect((await client.models.list()).data.map(({ id }) => id)).toEqual([model]);
  });

  test('streams what it would answer whole, log-probabilities to the bit', async () => {
    const body = { model, messages, temperature: 1, seed: 3, n: 2, logprobs: true };
    const whole = await client.chat.completions.create(body);
    const texts = ['', ''];
    const logprobs: number[][] = [[], []];
    let usage: unknown;
    const stream = await client.chat.completions.create({
      ...body,
      stream: true,
      stream_options: { include_usage: true },
    });
    for await (const chunk of stream) {
      usage = chunk.usage ?? usage;
      for (const choice of chunk.choices) {
        texts[choice.index] += choice.delta.content ?? '';
        for (const { logprob } of choice.logprobs?.content ?? []) logprobs[choice.index]?.push(logprob);
      }
    }
    expect(texts).toEqual(whole.choices.map(({ message }) => message.content));
    expect(logprobs).toEqual(
      whole.choices.map((choice) => choice.logprobs?.content?.map(({ logprob }) => logprob)),
    );
    expect(usage).toEqual(whole.usage);
  });

  test('completes texts and token ids, up to a stop string or a limit', async () => {
    const greedy = { model, temperature: 0 };
    // The ids of the chat's prompt.
    const prompt = [1, 3, 132, 97, 104, 14, 69, 4];
    const cut = await client.completions.create({ ...greedy, prompt, max_tokens: 4, logprobs: 0 });
    expect(cut.choices[0]).toMatchObject({ text: ' 92 - ( 64', finish_reason: 'length' });
    expect(cut.choices[0]?.logprobs).toMatchObject({
      tokens: [' 92', ' -', ' (', ' 64'],
      text_offset: [0, 3, 5, 7],
    });
    const { choices } = await client.completions.create({ ...greedy, prompt: [prompt, prompt], stop: '64' });
    expect(choices.map(({ text, finish_reason: reason }) => [text, reason])).toEqual([
      [' 92 - ( ', 'stop'],
      [' 92 - ( ', 'stop'],
    ]);
    const text = await client.completions.create({ ...greedy, prompt: '92 57 64 to 29', max_tokens: 2 });
    expect(text.usage).toEqual({ prompt_tokens: 5, completion_tokens: 2, total_tokens: 7 });
    const raw = ['generate', START, '--raw', '--prompt', '92 57 64 to 29', '--max-tokens', '2'];
    const { stdout } = await workplace.r3(raw);
    expect(stdout).toBe(`${text.choices[0]?.text}\n`);
    expect(stdout).toMatch(/^ \S/);
  });

  test('a seed repeats an answer, and an answer without one says its seed', async () => {
    const ask = async (seed?: number): Promise<{ content: string | null; seed: number }> => {
      const body = {
        model,
        messages,
        temperature: 2,
        max_tokens: 40,
        ...(seed === undefined ? {} : { seed }),
      };
      const answer = await client.chat.completions.create(body);
      const content = answer.choices[0]?.message.content ?? null;
      return { content, seed: (answer as unknown as { seed: number }).seed };
    };
    const first = await ask();
    const second = await ask();
    expect(second.seed).not.toBe(first.seed);
    expect(await ask(first.seed)).toEqual(first);
  });

  test('50 requests at a time get the answers that they get one by one', async () => {
    const ask = async (seed: number): Promise<unknown> => {
      const content = `${seed + 1} ${seed + 2} ${seed + 3} to ${seed}`;
      const { choices, usage } = await client.chat.completions.create({
        model,
        messages: [{ role: 'user', content }],
        seed,
        temperature: 1,
        max_tokens: 24,
        logprobs: true,
      });
      return { choices, usage };
    };
    const together = await Promise.all(Array.from({ length: 50 }, (_, seed) => ask(seed)));
    for (const [seed, answer] of together.entries()) expect(answer).toEqual(await ask(seed));
  });

  test('an abort in the middle of a stream leaves the server free for the next request', async () => {
    const stream = await client.chat.completions.create({ model, messages, n: 16, stream: true });
    await stream[Symbol.asyncIterator]().next();
    stream.controller.abort();
    const answer = await client.chat.completions.create({ model, messages, temperature: 0 });
    expect(answer.choices[0]?.message.content).toBe('92 - ( 64 - 57 )');
  });

  test('malformed and refused requests are typed errors that name the field', async () => {
    const create = (body: object): Promise<unknown> =>
      client.chat.completions.create({ model, messages, ...body });
    expect(await errorOf(create({ model: 'gpt-9' }))).toMatchObject({ status: 404, code: 'model_not_found' });
    expect(await errorOf(create({ messages: [] }))).toMatchObject({ status: 400, param: 'messages' });
    expect(await errorOf(create({ top_logprobs: 5, logprobs: true }))).toMatchObject({
      param: 'top_logprobs',
    });
    expect(await errorOf(create({ max_tokens: 250 }))).toMatchObject({ code: 'context_length_exceeded' });
    const tool = await errorOf(create({ messages: [{ role: 'tool', content: '', tool_call_id: 'a' }] }));
    expect([tool.status, tool.message]).toEqual([400, expect.stringContaining('chat template')]);
    const large = await errorOf(create({ messages: [{ role: 'user', content: 'x'.repeat(2 ** 21) }] }));
    expect(large).toMatchObject({ status: 413, code: 'body_too_large' });
    const path = await errorOf(client.post('/embeddings', { body: { model, input: 'x' } }));
    expect(path).toMatchObject({ status: 404, code: 'not_found' });

    const send = async (body: string, headers: Record<string, string>): Promise<number> =>
      (await fetch(`${served.url}/chat/completions`, { method: 'POST', body, headers })).status;
    const json = { 'content-type': 'application/json' };
    expect(await send('{"model": "start", "messages"', json)).toBe(400);
    expect(await send('\u0000', json)).toBe(400);
    expect(await send('{}', { 'content-type': 'text/plain' })).toBe(415);
  });

  test('Ctrl-C lets a stream come to its end; the log has a line for each request and no word of theirs', async () => {
    const stream = await client.chat.completions.create({ model, messages, n: 16, stream: true });
    served.child.kill('SIGINT');
    const finished: string[] = [];
    for await (const { choices } of stream)
      finished.push(...choices.flatMap((choice) => choice.finish_reason ?? []));
    expect(finished).toHaveLength(16);
    const { code, stderr } = await served.ended;
    expect(code, stderr).toBe(130);
    expect(stderr).toContain('POST /v1/chat/completions 200 8+8 tokens');
    expect(stderr).toContain('POST /v1/embeddings 404');
    expect(stderr).not.toMatch(/92 57|r3: warning|Warning/);
  });
});

test('a server with a key asks for it and never shows it', async () => {
  const { url, child, ended } = await startServer(['--host', '0.0.0.0', '--name', 'mine'], {
    R3_API_KEY: 'a-key',
  });
  const local = url.replace('0.0.0.0', '127.0.0.1');
  expect(await errorOf(clientOf(local, 'wrong').models.list())).toBeInstanceOf(AuthenticationError);
  expect((await clientOf(local, 'a-key').models.retrieve('mine')).id).toBe('mine');
  child.kill('SIGINT');
  const { stderr } = await ended;
  expect(stderr).not.toMatch(/a-key|warning/);
});

test('an open server says so, and a port that is taken is an error', async () => {
  const { child, ended } = await startServer(['--host', '0.0.0.0']);
  child.kill('SIGINT');
  expect((await ended).stderr).toContain('r3: warning: anyone who reaches 0.0.0.0');

  const other = createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => other.once('listening', resolve));
  const { port } = other.address() as AddressInfo;
  const { code, stderr } = await workplace.r3(['serve', START, '--port', String(port)]);
  other.close();
  expect(code).toBe(1);
  expect(stderr).toContain(`--port: expected a free port, got ${port}, which is taken`);
});

describe('scripted models behind a socket', () => {
  const open: Listening[] = [];
  afterAll(() => Promise.all(open.map((one) => one.close())));

  async function connect(server: TestServer): Promise<OpenAI> {
    const options = { host: '127.0.0.1', port: 0, headersTimeoutMs: 1000, requestTimeoutMs: 1000 };
    const listening = await listen(server.handle, options);
    open.push(listening);
    return clientOf(`http://127.0.0.1:${listening.port}/v1`);
  }
  const parameters = { type: 'object', properties: { a: { type: 'number' } } };
  const tools = [{ type: 'function' as const, function: { name: 'add', parameters } }];

  test('a tool call goes to the client, whole and in a stream, and its result comes back', async () => {
    const text = 'Adding.\n<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>';
    const engine = engineOf(text);
    const client = await connect(serverOf(engine));
    const answer = await client.chat.completions.create({ model: 'tiny', messages, tools });
    const [choice] = answer.choices;
    expect(choice).toMatchObject({ finish_reason: 'tool_calls', message: { content: 'Adding.' } });
    const called = { name: 'add', arguments: '{"a":1}' };
    expect(choice?.message.tool_calls).toMatchObject([{ type: 'function', function: called }]);

    const streamed = client.chat.completions.stream({ model: 'tiny', messages, tools });
    const final = await streamed.finalMessage();
    expect(final).toMatchObject({ content: 'Adding.', tool_calls: [{ function: called }] });

    if (choice === undefined) throw new Error('no choice');
    const result = { role: 'tool' as const, tool_call_id: 'c', content: '2' };
    const body = { model: 'tiny', messages: [...messages, choice.message, result], tools };
    await client.chat.completions.create(body);
    expect(engine.calls.samples).toHaveLength(3);
  });

  test('an abort in the middle of a stream stops the engine', async () => {
    const server = serverOf(endlessEngine());
    const client = await connect(server);
    const stream = await client.chat.completions.create({ model: 'tiny', messages, stream: true });
    const reader = stream[Symbol.asyncIterator]();
    for (let i = 0; i < 3; i++) await reader.next();
    stream.controller.abort();
    await server.stop();
    expect(server.logs).toMatchObject([{ status: 499 }]);
  });

  test('an abort before the first token stops the engine too', async () => {
    const gone = new AbortController();
    const engine = endlessEngine();
    const server = serverOf({
      ...engine,
      sample: (request) => {
        setImmediate(() => gone.abort());
        return engine.sample(request);
      },
    });
    const client = await connect(server);
    const asked = client.chat.completions.create({ model: 'tiny', messages }, { signal: gone.signal });
    await expect(asked).rejects.toBeInstanceOf(APIUserAbortError);
    await server.stop();
    expect(server.logs).toMatchObject([{ status: 499 }]);
  });
});
