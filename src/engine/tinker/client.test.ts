import { once } from 'node:events';
import { createServer, type AddressInfo } from 'node:net';
import { gzipSync } from 'node:zlib';
import { afterEach, describe, expect, it } from 'vitest';
import { R3Error } from '../../lib/errors.ts';
import type { WireDatum } from './chunks.ts';
import { systemClock } from '../clock.ts';
import { openTinkerClient, type TinkerClientOptions } from './client.ts';
import {
  decodeForwardBackwardRequest,
  encodeForwardBackwardOutput,
  encodeSampleResponse,
  type ForwardBackwardRequest,
} from './messages.ts';
import {
  connect,
  KEY,
  startTestService,
  type Answer,
  type Asked,
  type Script,
  type TestSetup,
} from './testing.ts';

const open: { close(): Promise<void> }[] = [];
afterEach(async () => {
  for (const each of open.splice(0)) await each.close();
});

async function setUp(
  script: Script = () => undefined,
  options: Partial<TinkerClientOptions> = {},
): Promise<TestSetup> {
  const setup = await connect(script, options);
  open.push(setup);
  return setup;
}

async function errorOf(work: Promise<unknown>): Promise<R3Error> {
  const error = await work.then(
    () => undefined,
    (each: unknown) => each,
  );
  if (error instanceof R3Error) return error;
  throw new Error(`expected an R3Error, got ${String(error)}`);
}

const LORA = { rank: 8, trainUnembed: false, trainMlp: true, trainAttn: true };
const ADAM = { learningRate: 1e-3, beta1: 0.9, beta2: 0.99, epsilon: 1e-8, weightDecay: 0, gradClipNorm: 1 };
const SAMPLE = { prompt: [1, 2, 3], count: 1, maxTokens: 4, temperature: 1 };
const datum = (first: number): WireDatum => ({
  tokens: [first, 2],
  inputs: {
    target_tokens: { dtype: 'int64', data: [2, 3] },
    weights: { dtype: 'float32', data: [0, 1] },
  },
});

/** Answers forward-backward in protobuf: the log-probabilities of datum i of a request are its first token. */
function trainer(): { script: Script; requests: ForwardBackwardRequest[] } {
  const requests: ForwardBackwardRequest[] = [];
  const script: Script = ({ path, body, headers, json }) => {
    if (path === 'forward_backward' && headers['content-type'] === 'application/x-protobuf') {
      requests.push(decodeForwardBackwardRequest(body));
      return { json: { request_id: `fb${requests.length - 1}` } };
    }
    const index = /^fb(\d+)$/.exec(String(json.request_id))?.[1];
    if (path !== 'retrieve_future' || index === undefined) return undefined;
    const { data } = requests[Number(index)] as ForwardBackwardRequest;
    const outputs = data.map(({ modelInput: [chunk] }) => ({
      logprobs: {
        dtype: 'float32' as const,
        data: chunk?.type === 'text' ? [-(chunk.tokens[0] as number)] : [],
      },
    }));
    const metrics = { 'loss:sum': data.length };
    return { bytes: encodeForwardBackwardOutput({ outputType: 'x', outputs, metrics }) };
  };
  return { script, requests };
}

/** The first scripted answer, else those of the next script. */
const either =
  (...scripts: Script[]): Script =>
  async (asked) => {
    for (const script of scripts) {
      const answer = await script(asked);
      if (answer !== undefined) return answer;
    }
    return undefined;
  };

/** Answers for the requests of one path, in order; afterwards the plain service. */
const on =
  (path: string, ...answers: Answer[]): Script =>
  (asked) =>
    asked.path === path ? answers[asked.index] : undefined;

describe('connection', () => {
  it('opens a session with the key in its header, and claims the dialect that it speaks', async () => {
    const { client, service } = await setUp();
    expect(client.sessionId).toBe('s1');
    expect(client.dialect).toBe('protobuf');
    expect(service.paths()).toEqual(['client/config', 'create_session']);
    expect(service.asked[1]?.json).toEqual({
      tags: [],
      user_metadata: {},
      sdk_version: '0.25.0',
      type: 'create_session',
    });
    for (const { headers, path } of service.asked) expect(headers['x-api-key'], path).toBe(KEY);
  });

  it('speaks JSON with a service without client/config, and as told with any', async () => {
    const old = await setUp(on('client/config', { status: 404, json: { detail: 'Not Found' } }));
    expect(old.client.dialect).toBe('json');
    expect(old.service.asked[1]?.json.sdk_version).toBe('0.12.0');
    expect((await setUp(undefined, { dialect: 'json' })).client.dialect).toBe('json');
    const forced = await setUp(on('client/config', { status: 404, json: {} }), { dialect: 'protobuf' });
    expect(forced.client.dialect).toBe('protobuf');
  });

  it('passes on what the service tells the person', async () => {
    const answer = { json: { session_id: 's9', warning_message: 'maintenance\nat noon' } };
    expect((await setUp(on('create_session', answer))).notices).toEqual([
      'the service says: maintenance at noon',
    ]);
  });

  it('says what to do where nothing answers, where the key is refused, and where the address is none', async () => {
    const service = await startTestService(() => undefined);
    await service.close();
    const limits = { maxResends: 2 };
    const gone = await errorOf(connectTo(service.url, { limits }));
    expect([gone.code, gone.message]).toEqual([
      'no-network',
      'client/config: expected an answer, got none (ECONNREFUSED); is the service running?',
    ]);
    const denied = await errorOf(
      setUp(on('client/config', { status: 401, json: { detail: `no key ${KEY}` } })),
    );
    expect(denied.code).toBe('no-access');
    expect(denied.message).toContain('***); set TINKER_API_KEY');
    expect((await errorOf(connectTo('localhost:8000'))).message).toMatch(
      /^--url: expected the address of a server/,
    );
    expect((await errorOf(connectTo(`http://${KEY}@h`))).message).not.toContain(KEY);
    expect((await errorOf(connectTo('http://h', { apiKey: 'a\nb' }))).message).toMatch(
      /^API key: expected letters/,
    );
  });

  it('a heartbeat goes out every ten seconds; lost ones are told after two minutes and end nothing', async () => {
    const { clock, service, client, notices } = await setUp((asked) =>
      asked.path === 'session_heartbeat' ? 'cut' : undefined,
    );
    clock.pass(9_000);
    expect(service.asked.some(({ path }) => path === 'session_heartbeat')).toBe(false);
    // A beat that is still on its way is not joined by another: how many fit into a time is not fixed here.
    await until(() => {
      clock.pass(10_000);
      return notices.length > 0;
    });
    expect(clock.now()).toBeGreaterThanOrEqual(120_000);
    expect(notices[0]).toMatch(/^the service has not answered a heartbeat for \d+ s$/);
    await until(() => service.asked.some(({ path }) => path === 'session_heartbeat'));
    await client.createSampler({ baseModel: 'm' });
  });

  it('a session that the service no longer knows ends everything with one error', async () => {
    const { clock, client } = await setUp(
      either(
        on('session_heartbeat', { status: 404, json: { detail: 'no session s1' } }),
        on('retrieve_future', 'hang'),
      ),
    );
    const waiting = errorOf(client.createModel({ baseModel: 'm', lora: LORA }));
    clock.pass(10_000);
    const error = await waiting;
    expect(error.code).toBe('expired');
    expect(error.message).toContain('no session s1');
    expect(error.message).toContain('resume the run');
    expect(await errorOf(client.createSampler({ baseModel: 'm' }))).toBe(error);
  });

  it('a raised signal ends polls, waits and calls at once, and close() does', async () => {
    const stop = new AbortController();
    const { client } = await setUp(on('retrieve_future', 'hang'), { signal: stop.signal });
    const sampler = await client.createSampler({ baseModel: 'm' });
    const first = errorOf(sampler.sample(SAMPLE));
    const other = errorOf(client.createModel({ baseModel: 'm', lora: LORA }));
    stop.abort(new Error('Ctrl-C'));
    expect((await first).code).toBe('cancelled');
    expect((await other).code).toBe('cancelled');
    const closed = await setUp(on('retrieve_future', 'hang'));
    const waiting = errorOf(closed.client.createModel({ baseModel: 'm', lora: LORA }));
    await closed.client.close();
    expect((await waiting).message).toBe('the connection to the service was closed');
  });

  it('no error, notice or JSON of the client holds the key', async () => {
    const echo: Script = ({ path, headers }) => {
      if (path === 'client/config' || path === 'create_session' || path === 'create_sampling_session')
        return undefined;
      const key = String(headers['x-api-key']);
      if (path === 'optim_step') return { json: { request_id: 'r' } };
      if (path === 'retrieve_future') return { json: { error: `boom ${key}`, category: 'server' } };
      if (path === 'asample') return { status: 500, json: { detail: key } };
      return { status: 422, json: { detail: [{ msg: `bad ${key}`, rest: 'x'.repeat(400) }] } };
    };
    const { client, notices } = await setUp(echo, { limits: { maxResends: 4 } });
    const sampler = await client.createSampler({ baseModel: 'm' });
    const errors = await Promise.all([
      errorOf(sampler.sample(SAMPLE)),
      errorOf(client.weightsInfo('tinker://r/weights/n')),
      errorOf(client.createModel({ baseModel: 'm', lora: LORA })),
      errorOf(client.supportedModels()),
    ]);
    const said = errors.flatMap((error) => [error.message, String(error.stack), JSON.stringify(error)]);
    for (const text of [...said, ...notices, JSON.stringify(client), JSON.stringify(sampler)]) {
      expect(text).not.toContain(KEY);
    }
    expect(notices.join()).toContain('***');
    expect(errors.map(({ message }) => message).join()).toContain('***');
  });
});

describe('calls', () => {
  it('are sent again as the same bytes after lost connections and 5xx, and counted', async () => {
    const { client, service, clock } = await setUp(
      on(
        'create_sampling_session',
        'cut',
        { status: 503, json: {} },
        { status: 429, headers: { 'retry-after': '3' } },
      ),
    );
    await client.createSampler({ baseModel: 'm' });
    const bodies = service.asked
      .filter(({ path }) => path === 'create_sampling_session')
      .map(({ body }) => String(body));
    expect(new Set(bodies).size).toBe(1);
    expect(bodies).toHaveLength(4);
    expect(clock.slept.at(-1)).toBe(3000);
    expect(client.stats()).toMatchObject({ calls: 3, resent: 3, polls: 0 });
    expect(client.stats().bytesOut).toBeGreaterThan(0);
  });

  it('end with one error when trouble does not pass', async () => {
    const { client, service, notices } = await setUp(
      ({ path }) =>
        path === 'weights_info' ? { status: 502, json: { error: 'x', message: 'down' } } : undefined,
      { limits: { maxResends: 3 } },
    );
    const error = await errorOf(client.weightsInfo('tinker://r/weights/n'));
    expect([error.code, error.message]).toEqual([
      'no-network',
      'weights_info: expected status 200, got 502 (down); the service keeps failing',
    ]);
    expect(service.paths().filter((path) => path === 'weights_info')).toHaveLength(4);
    expect(notices).toHaveLength(1);
  });

  it.each([
    [400, 'bad-option'],
    [403, 'no-access'],
    [404, 'not-found'],
    [409, 'mismatch'],
    [422, 'bad-option'],
  ] as const)('status %s is one error, %s, without a resend', async (status, code) => {
    const { client, service } = await setUp(({ path }) =>
      path === 'weights_info' ? { status, json: { detail: 'why' } } : undefined,
    );
    const error = await errorOf(client.weightsInfo('tinker://r/weights/n'));
    expect(error.code).toBe(code);
    expect(error.message).toContain('(why)');
    expect(service.paths().filter((path) => path === 'weights_info')).toHaveLength(1);
  });

  it('wait while the service waits for payment, and say so once', async () => {
    const pause = { status: 402, json: { detail: 'no credit' } };
    const { client, clock, notices } = await setUp(on('create_sampling_session', pause, pause, pause));
    await client.createSampler({ baseModel: 'm' });
    expect(clock.slept).toEqual([5000, 5000, 5000]);
    expect(notices).toHaveLength(1);
    expect(notices[0]).toContain('waits for payment');
    const limited = await setUp(
      either(on('client/config', { json: { billing_exception_max_pause_duration_sec: 12 } }), ({ path }) =>
        path === 'weights_info' ? pause : undefined,
      ),
    );
    expect((await errorOf(limited.client.weightsInfo('tinker://r/weights/n'))).code).toBe('no-access');
    expect(limited.clock.slept).toEqual([5000, 5000]);
  });

  it('a call without an answer in time is sent again', async () => {
    const { client, clock, service } = await setUp(
      on('weights_info', 'hang', { json: { base_model: 'm', is_lora: true, lora_rank: 8 } }),
    );
    const info = client.weightsInfo('tinker://r/weights/n');
    await until(() => service.paths().includes('weights_info'));
    clock.pass(59_000);
    clock.pass(1000);
    expect(await info).toEqual({ baseModel: 'm', isLora: true, rank: 8 });
  });

  it('read answers in gzip, and refuse those that are no JSON', async () => {
    const zipped = gzipSync(
      JSON.stringify({
        supported_models: [{ model_name: 'a', max_context_length: 9 }, {}, { model_name: 'b' }],
      }),
    );
    const { client } = await setUp(
      on(
        'get_server_capabilities',
        { bytes: zipped, type: 'application/json', headers: { 'content-encoding': 'gzip' } },
        { bytes: Buffer.from('<html>'), type: 'text/html' },
        { bytes: Buffer.from('junk'), headers: { 'content-encoding': 'gzip' } },
      ),
    );
    expect(await client.supportedModels()).toEqual([{ name: 'a', maxContextLength: 9 }, { name: 'b' }]);
    expect((await errorOf(client.supportedModels())).message).toContain('expected JSON, got <html>');
    expect((await errorOf(client.supportedModels())).code).toBe('bad-answer');
  });
});

describe('results', () => {
  const again = { status: 408, json: { type: 'try_again', request_id: 'op0', queue_state: 'active' } };

  it('are polled for until they are there, at once after each long poll', async () => {
    const { client, clock, service } = await setUp(on('retrieve_future', again, { json: { ...again.json } }));
    const { modelId } = await client.createModel({
      baseModel: 'm',
      lora: { ...LORA, seed: 5 },
      userMetadata: { a: 'b' },
    });
    expect(modelId).toBe('s1:train:0');
    expect(client.stats().polls).toBe(3);
    expect(clock.slept).toEqual([10]);
    expect(service.asked.find(({ path }) => path === 'create_model')?.json).toEqual({
      session_id: 's1',
      model_seq_id: 0,
      base_model: 'm',
      user_metadata: { a: 'b' },
      lora_config: { rank: 8, seed: 5, train_unembed: false, train_mlp: true, train_attn: true },
      type: 'create_model',
    });
  });

  it('survive lost polls, 5xx, 429 and single statuses 400', async () => {
    const { client } = await setUp(
      on(
        'retrieve_future',
        'cut',
        { status: 500 },
        { status: 429 },
        { status: 400, json: { detail: 'proxy' } },
      ),
    );
    await client.createModel({ baseModel: 'm', lora: LORA });
    expect(client.stats().polls).toBe(5);
    const stuck = await setUp(({ path }) =>
      path === 'retrieve_future' ? { status: 400, json: { detail: 'op failed' } } : undefined,
    );
    const error = await errorOf(stuck.client.createModel({ baseModel: 'm', lora: LORA }));
    expect(error.code).toBe('failed');
    expect(error.message).toContain('got a failure of the operation (op failed)');
    expect(stuck.client.stats().polls).toBe(4);
  });

  it('a poll that a service holds for too long is asked again, as often as patience lasts', async () => {
    const { client, clock, service } = await setUp(
      ({ path }) => (path === 'retrieve_future' ? 'hang' : undefined),
      {
        limits: { operationMs: 100_000 },
      },
    );
    const error = errorOf(client.createModel({ baseModel: 'm', lora: LORA }));
    for (let polls = 1; polls <= 3; polls++) {
      await until(() => service.paths().filter((path) => path === 'retrieve_future').length === polls);
      clock.pass(45_000);
    }
    expect((await error).code).toBe('no-network');
  });

  it('a failed operation is one error, after its category', async () => {
    const failed = (category: string) => ({ json: { error: 'rank too large', category } });
    const { client } = await setUp(
      on('retrieve_future', failed('user'), failed('server'), failed('unknown')),
    );
    const errors = [];
    for (let i = 0; i < 3; i++)
      errors.push(await errorOf(client.createModel({ baseModel: 'm', lora: LORA })));
    expect(errors.map(({ code }) => code)).toEqual(['bad-option', 'failed', 'failed']);
    expect(errors[0]?.message).toBe(
      'create_model: expected a result, got a failure of the operation (rank too large)',
    );
  });

  it('room is made for a large result that is announced first', async () => {
    const size = { json: { status: 'complete_metadata', response_payload_size: 5_000_000 } };
    const { client, service } = await setUp(on('retrieve_future', size, undefined, size, size));
    await client.createModel({ baseModel: 'm', lora: LORA });
    const polls = service.asked.filter(({ path }) => path === 'retrieve_future');
    expect(polls.map(({ json }) => json.allow_metadata_only)).toEqual([true, false]);
    const twice = await errorOf(client.createModel({ baseModel: 'm', lora: LORA }));
    expect(twice.message).toContain('its size for the second time');
  });

  it('a pause of the service is told, with its reason', async () => {
    const json = { type: 'try_again', queue_state: 'paused_capacity', queue_state_reason: 'no GPUs' };
    const { client, notices } = await setUp(on('retrieve_future', { status: 408, json }, { json }));
    await client.createModel({ baseModel: 'm', lora: LORA });
    expect(notices).toEqual(['the service has paused this run: it has no capacity now (no GPUs)']);
  });

  it('a result that is gone is an error `expired` for training, and a new request for samples', async () => {
    const gone: Script = ({ path, index }) =>
      path === 'retrieve_future' && index < 2 ? { status: 410, json: { detail: 'gone' } } : undefined;
    const { client } = await setUp(gone);
    expect((await errorOf(client.createModel({ baseModel: 'm', lora: LORA }))).code).toBe('expired');
    const sampling = await setUp(gone);
    const sampler = await sampling.client.createSampler({ baseModel: 'm' });
    await sampler.sample(SAMPLE);
    const asked = sampling.service.asked.filter(({ path }) => path === 'asample');
    expect(asked.map(({ json }) => json.seq_id)).toEqual([0, 1, 2]);
    const never = await setUp(({ path }) =>
      path === 'retrieve_future' ? { status: 410, json: {} } : undefined,
    );
    const lost = await never.client.createSampler({ baseModel: 'm' });
    expect((await errorOf(lost.sample(SAMPLE))).code).toBe('expired');
    expect(never.service.asked.filter(({ path }) => path === 'asample')).toHaveLength(4);
  });
});

describe('sampling', () => {
  it('asks for a group in one request and reads results in protobuf and JSON', async () => {
    const sequences = [
      { tokens: [7, 2], logprobs: [-0.5, -1], stopReason: 'stop' as const },
      { tokens: [9], logprobs: null, stopReason: 'length' as const },
    ];
    const bytes = encodeSampleResponse({ sequences, promptLogprobs: [null, -1, -2], cachedPromptTokens: 0 });
    const { client, service } = await setUp(on('retrieve_future', { bytes }));
    const sampler = await client.createSampler({ modelPath: 'tinker://r/sampler_weights/n' });
    const request = {
      ...SAMPLE,
      count: 2,
      topK: 5,
      topP: 0.5,
      seed: 2n ** 60n + 1n,
      stopIds: [2],
      promptLogprobs: true,
    };
    expect(await sampler.sample(request)).toEqual({ sequences, promptLogprobs: [null, -1, -2] });
    expect(String(service.asked.find(({ path }) => path === 'asample')?.body)).toBe(
      '{"num_samples":2,"prompt":{"chunks":[{"type":"encoded_text","tokens":[1,2,3]}]},"sampling_params":{"max_tokens":4,' +
        '"seed":1152921504606846977,"stop":[2],"temperature":1,"top_k":5,"top_p":0.5},"sampling_session_id":"sampler1",' +
        '"seq_id":0,"prompt_logprobs":true,"type":"sample"}',
    );
    expect(await sampler.sample(SAMPLE)).toEqual({
      sequences: [{ tokens: [7, 8], logprobs: [-0.5, -0.25], stopReason: 'stop' }],
      promptLogprobs: null,
    });
  });

  it('takes prompt log-probabilities without the first as well, and no others', async () => {
    const withScores = (scores: (number | null)[] | null): Answer => ({
      json: { sequences: [{ tokens: [1], logprobs: [0], stop_reason: 'stop' }], prompt_logprobs: scores },
    });
    const { client } = await setUp(
      on(
        'retrieve_future',
        withScores([null, -1, -2]),
        withScores([-1, -2]),
        withScores([-1]),
        withScores(null),
      ),
    );
    const sampler = await client.createSampler({ baseModel: 'm' });
    const ask = () => sampler.sample({ ...SAMPLE, promptLogprobs: true });
    expect((await ask()).promptLogprobs).toEqual([null, -1, -2]);
    expect((await ask()).promptLogprobs).toEqual([null, -1, -2]);
    expect((await errorOf(ask())).message).toContain('expected 3 log-probabilities of the prompt, got 1');
    expect((await errorOf(ask())).message).toContain('got none');
  });

  it('refuses an answer that is none to its request', async () => {
    const answer = (sequences: unknown): Answer => ({ json: { sequences } });
    const one = { tokens: [1], logprobs: [0], stop_reason: 'stop' };
    const wrong = [
      [],
      [one, one],
      [{ ...one, logprobs: [] }],
      [{ ...one, tokens: [1, 1, 1, 1, 1] }],
      [{ ...one, stop_reason: 'eos' }],
      5,
    ];
    const { client } = await setUp(on('retrieve_future', ...wrong.map(answer)));
    const sampler = await client.createSampler({ baseModel: 'm' });
    for (const each of wrong) {
      expect((await errorOf(sampler.sample(SAMPLE))).code, JSON.stringify(each)).toBe('bad-answer');
    }
    expect((await errorOf(sampler.sample({ ...SAMPLE, prompt: [1.5] }))).code).toBe('bad-option');
  });

  it('waits when the service says 429, then sends the same request, and few at a time for ten seconds', async () => {
    let running = 0;
    let most = 0;
    const busy: Script = async ({ path, index }) => {
      if (path !== 'asample') return undefined;
      if (index === 0) return { status: 429, json: { detail: 'busy' } };
      running += 1;
      most = Math.max(most, running);
      await new Promise(setImmediate);
      running -= 1;
      return undefined;
    };
    const { client, clock, service, notices } = await setUp(busy);
    const sampler = await client.createSampler({ baseModel: 'm' });
    await sampler.sample(SAMPLE);
    const asked = service.asked.filter(({ path }) => path === 'asample');
    expect(asked.map(({ json }) => json.seq_id)).toEqual([0, 0]);
    expect(asked[0]?.headers['x-tinker-sampling-backpressure']).toBe('1');
    expect(clock.slept).toEqual([1000]);
    expect(notices).toHaveLength(1);
    await Promise.all(Array.from({ length: 60 }, () => sampler.sample(SAMPLE)));
    expect(most).toBeLessThanOrEqual(10);
    expect(
      new Set(service.asked.filter(({ path }) => path === 'asample').map(({ json }) => json.seq_id)).size,
    ).toBe(61);
  });

  it('has at most so many samples under way as the service allows, and frees the place of one that is cancelled', async () => {
    let isHeld = true;
    const { client, service } = await setUp(
      either(on('client/config', { json: { sample_max_concurrent_requests: 3 } }), ({ path }) =>
        path === 'retrieve_future' && isHeld ? 'hang' : undefined,
      ),
    );
    const sampler = await client.createSampler({ baseModel: 'm' });
    const stop = new AbortController();
    const polls = (): number => service.paths().filter((path) => path === 'retrieve_future').length;
    const held = Array.from({ length: 3 }, () => errorOf(sampler.sample({ ...SAMPLE, signal: stop.signal })));
    const waiting = errorOf(sampler.sample({ ...SAMPLE, signal: stop.signal }));
    const rest = Array.from({ length: 5 }, () => sampler.sample(SAMPLE));
    await until(() => polls() === 3);
    isHeld = false;
    stop.abort();
    for (const each of [...held, waiting]) expect((await each).code).toBe('cancelled');
    expect(await Promise.all(rest)).toHaveLength(5);
    expect(service.paths().filter((path) => path === 'asample')).toHaveLength(8);
  });
});

describe('training', () => {
  it('sends calls in program order without awaiting, numbered from 1, in chunks of the service', async () => {
    const { script, requests } = trainer();
    const { client, service } = await setUp(
      either(on('client/config', { json: { fwdbwd_max_chunk_len: 2 } }), script),
    );
    const model = await client.createModel({ baseModel: 'm', lora: LORA });
    const backward = model.forwardBackward([10, 11, 12, 13, 14].map(datum), 'ppo', {
      clip_low_threshold: 0.8,
    });
    const step = model.optimStep(ADAM);
    const forward = model.forward([datum(20)], 'cross_entropy');
    expect((await backward).outputs.map(({ logprobs }) => logprobs?.[0])).toEqual([-10, -11, -12, -13, -14]);
    expect((await backward).metrics).toEqual({ 'loss:sum': 5 });
    expect((await step).metrics).toEqual({ grad_norm: 2 });
    expect((await forward).outputs[0]?.logprobs).toEqual(Float32Array.of(-20));
    const sent = service.paths().filter((path) => path === 'forward_backward' || path === 'optim_step');
    expect(sent).toEqual([
      'forward_backward',
      'forward_backward',
      'forward_backward',
      'optim_step',
      'forward_backward',
    ]);
    expect(requests.map(({ seqId, data, forwardOnly }) => [seqId, data.length, forwardOnly])).toEqual([
      [1, 2, false],
      [2, 2, false],
      [3, 1, false],
      [5, 1, true],
    ]);
    expect(requests[0]).toMatchObject({
      modelId: 's1:train:0',
      lossName: 'ppo',
      lossConfig: { clip_low_threshold: 0.8 },
    });
    expect(service.asked.find(({ path }) => path === 'optim_step')?.json).toEqual({
      model_id: 's1:train:0',
      seq_id: 4,
      adam_params: {
        learning_rate: 1e-3,
        beta1: 0.9,
        beta2: 0.99,
        eps: 1e-8,
        weight_decay: 0,
        grad_clip_norm: 1,
      },
      type: 'optim_step',
    });
  });

  it('an ambiguous failure is answered with the same bytes under the same sequence id', async () => {
    const { script, requests } = trainer();
    const { client, service } = await setUp(
      either(on('forward_backward', 'cut'), on('optim_step', 'cut', 'cut'), script),
    );
    const model = await client.createModel({ baseModel: 'm', lora: LORA });
    await model.forwardBackward([datum(1)], 'cross_entropy');
    await model.optimStep(ADAM);
    for (const [path, times] of [
      ['forward_backward', 2],
      ['optim_step', 3],
    ] as const) {
      const bodies = service.asked
        .filter((each) => each.path === path)
        .map(({ body }) => body.toString('hex'));
      expect(bodies).toHaveLength(times);
      expect(new Set(bodies).size).toBe(1);
    }
    expect(requests[0]?.seqId).toBe(1);
  });

  it('what waits behind a refused call is not sent, and later calls are', async () => {
    const { script } = trainer();
    const refuse: Script = ({ path, index }) =>
      path === 'forward_backward' && index === 0
        ? { status: 422, json: { detail: 'no such loss' } }
        : undefined;
    const { client, service } = await setUp(either(refuse, script), { dialect: 'protobuf' });
    const model = await client.createModel({ baseModel: 'm', lora: LORA });
    const backward = errorOf(model.forwardBackward([datum(1)], 'odd'));
    const step = errorOf(model.optimStep(ADAM));
    expect((await backward).message).toContain('no such loss');
    expect((await step).message).toBe(
      'optim_step: expected the forward_backward before it to be accepted, got an error; not sent',
    );
    expect(service.paths()).not.toContain('optim_step');
    await model.optimStep(ADAM);
    expect(service.asked.find(({ path }) => path === 'optim_step')?.json.seq_id).toBe(2);
  });

  it('falls back to JSON under a fresh id where the first protobuf request is refused, and says so', async () => {
    const seen: Asked[] = [];
    const old: Script = (asked) => {
      const { path, headers, json } = asked;
      if (path === 'forward_backward' || path === 'forward') {
        seen.push(asked);
        if (headers['content-type'] !== 'application/json')
          return { status: 422, json: { detail: 'no JSON' } };
        return { json: { request_id: path } };
      }
      if (path !== 'retrieve_future' || !String(json.request_id).startsWith('forward')) return undefined;
      const logprobs = { dtype: 'float32', data: [-0.5, null], shape: [2] };
      return {
        json: { loss_fn_output_type: 'x', loss_fn_outputs: [{ logprobs }], metrics: { 'loss:sum': 2 } },
      };
    };
    const { client, notices } = await setUp(old);
    const model = await client.createModel({ baseModel: 'm', lora: LORA });
    const backward = model.forwardBackward([datum(4)], 'cross_entropy');
    const step = model.optimStep(ADAM);
    expect(await backward).toEqual({
      outputs: [{ logprobs: Float32Array.of(-0.5, Number.NaN) }],
      metrics: { 'loss:sum': 2 },
    });
    await step;
    await model.forward([datum(4)], 'cross_entropy');
    expect(client.dialect).toBe('json');
    expect(notices).toHaveLength(1);
    expect(notices[0]).toContain('JSON from now on');
    const input = {
      data: [
        {
          model_input: { chunks: [{ type: 'encoded_text', tokens: [4, 2] }] },
          loss_fn_inputs: {
            target_tokens: { dtype: 'int64', data: [2, 3] },
            weights: { dtype: 'float32', data: [0, 1] },
          },
        },
      ],
      loss_fn: 'cross_entropy',
    };
    expect(seen.slice(1).map(({ path, json }) => [path, json])).toEqual([
      ['forward_backward', { forward_backward_input: input, model_id: 's1:train:0', seq_id: 2 }],
      ['forward', { forward_input: input, model_id: 's1:train:0', seq_id: 4 }],
    ]);
  });

  it('reports the first refusal, and keeps its dialect, where JSON is refused too', async () => {
    const { client } = await setUp(({ path, headers }) =>
      path === 'forward_backward'
        ? { status: 400, json: { detail: String(headers['content-type']) } }
        : undefined,
    );
    const model = await client.createModel({ baseModel: 'm', lora: LORA });
    const error = await errorOf(model.forwardBackward([datum(1)], 'odd'));
    expect(error.message).toContain('x-protobuf');
    expect(client.dialect).toBe('protobuf');
  });

  it('an output of other datums than were sent is refused', async () => {
    const { client } = await setUp(
      either(on('forward_backward', { json: { request_id: 'f' } }), ({ path, json }) =>
        path === 'retrieve_future' && json.request_id === 'f'
          ? { bytes: encodeForwardBackwardOutput({ outputType: '', outputs: [], metrics: {} }) }
          : undefined,
      ),
    );
    const model = await client.createModel({ baseModel: 'm', lora: LORA });
    expect((await errorOf(model.forwardBackward([datum(1)], 'ppo'))).message).toContain(
      'outputs of 1 datums, got 0',
    );
  });

  it('saves, loads and describes; an unnamed save for sampling is a sampler', async () => {
    const results: Record<string, unknown> = {
      save_weights: { path: 'tinker://r/weights/a' },
      load_weights: { path: 'tinker://r/weights/a' },
      save_weights_for_sampler: { path: 'tinker://r/b' },
    };
    const { client, service } = await setUp(({ path, json }) => {
      if (path === 'get_info') {
        return { json: { model_id: 'x', model_data: { model_name: 'm', tokenizer_id: 't' }, lora_rank: 8 } };
      }
      if (path === 'save_weights_for_sampler' && json.path === undefined)
        return { json: { request_id: 'unnamed' } };
      if (path in results) return { json: { request_id: path } };
      if (json.request_id === 'unnamed') return { json: { sampling_session_id: 'fresh' } };
      return path === 'retrieve_future' && String(json.request_id) in results
        ? { json: results[String(json.request_id)] }
        : undefined;
    });
    const model = await client.createModel({ baseModel: 'm', lora: LORA });
    expect(await model.info()).toEqual({ name: 'm', tokenizerId: 't', rank: 8 });
    expect(await model.saveWeights('a')).toBe('tinker://r/weights/a');
    expect(await model.saveForSamplerAs('b')).toBe('tinker://r/b');
    expect((await model.saveForSampler()).samplerId).toBe('fresh');
    await model.loadWeights('tinker://r/weights/a', true);
    await client.createSampler({ baseModel: 'm' });
    const bodies = service.asked
      .filter(({ path }) => /weights|sampling_session/.test(path))
      .map(({ json }) => json);
    const common = { model_id: 's1:train:0' };
    expect(bodies).toEqual([
      { ...common, seq_id: 1, path: 'a', type: 'save_weights' },
      { ...common, seq_id: 2, path: 'b', type: 'save_weights_for_sampler' },
      { ...common, seq_id: 3, sampling_session_seq_id: 0, type: 'save_weights_for_sampler' },
      { ...common, seq_id: 4, path: 'tinker://r/weights/a', optimizer: true, type: 'load_weights' },
      { session_id: 's1', sampling_session_seq_id: 1, base_model: 'm', type: 'create_sampling_session' },
    ]);
  });
});

describe('checkpoints', () => {
  it('whose deletion loses its answer are deleted, and so is a model that is unloaded', async () => {
    const { client, service } = await setUp(
      either(
        on('unload_model', 'cut', { status: 404, json: { detail: 'no such model' } }),
        ({ method, index }) =>
          method !== 'DELETE'
            ? undefined
            : index === 0
              ? 'cut'
              : { status: 404, json: { detail: 'no such checkpoint' } },
      ),
    );
    await client.deleteCheckpoint('tinker://run/weights/name');
    const model = await client.createModel({ baseModel: 'm', lora: LORA });
    await model.unload();
    expect(service.paths().filter((path) => path === 'unload_model')).toHaveLength(2);
  });

  it('are deleted by their path, of three parts or two', async () => {
    const { client, service } = await setUp(({ method }) =>
      method === 'DELETE' ? { status: 204 } : undefined,
    );
    await client.deleteCheckpoint('tinker://run:train:0/sampler_weights/a b');
    await client.deleteCheckpoint('tinker://run/name');
    expect(service.paths().slice(2)).toEqual([
      'training_runs/run%3Atrain%3A0/checkpoints/sampler_weights/a%20b',
      'training_runs/run/checkpoints/name',
    ]);
    expect((await errorOf(client.deleteCheckpoint('/etc/passwd'))).code).toBe('bad-option');
    expect((await errorOf(client.deleteCheckpoint('tinker://r/weights/a/b'))).code).toBe('bad-option');
  });

  it('are downloaded from the address that the service gives, in either form, without the key', async () => {
    const files = await startTestService(() => ({
      bytes: Buffer.from('tar bytes'),
      type: 'application/x-tar',
    }));
    open.push(files);
    const url = `${files.url}/api/v1/file?signature=x`;
    const at = 'training_runs/r/checkpoints/weights/n/archive';
    const { client } = await setUp(
      on(
        at,
        { json: { url, expires: 'later' } },
        { status: 302, headers: { location: url } },
        { bytes: Buffer.from('tar bytes'), type: 'application/x-tar' },
      ),
    );
    for (let i = 0; i < 3; i++) {
      expect(String(await client.archive('tinker://r/weights/n'))).toBe('tar bytes');
    }
    expect(files.asked).toHaveLength(2);
    for (const { headers } of files.asked) expect(JSON.stringify(headers)).not.toContain(KEY);
    expect((await errorOf(client.archive('tinker://r/weights/n'))).code).toBe('not-found');
  });

  it('a download that breaks off is begun anew, and one that keeps failing is one error', async () => {
    const bytes: Answer = { bytes: Buffer.from('tar bytes'), type: 'application/x-tar' };
    const half: Answer = { ...bytes, headers: { 'content-length': '18', connection: 'close' } };
    const halves: Answer[] = ['cut', { status: 503, json: {} }, half];
    const files = await startTestService(({ index }) => halves[index] ?? bytes);
    open.push(files);
    const link: Script = ({ method, headers }) =>
      method === 'GET' && headers.host !== undefined
        ? { json: { url: `${files.url}/api/v1/file` } }
        : undefined;
    const { client, service } = await setUp(link);
    expect(String(await client.archive('tinker://r/weights/n'))).toBe('tar bytes');
    expect(service.asked.filter(({ method }) => method === 'GET')).toHaveLength(4);
    await files.close();
    const gone = await setUp(link, { limits: { maxResends: 2 } });
    const error = await errorOf(gone.client.archive('tinker://r/weights/n'));
    expect(error.code).toBe('no-network');
    expect(error.message).toContain('archive of a checkpoint: expected the whole of it from 127.0.0.1');
  });
});

async function connectTo(url: string, options: Partial<TinkerClientOptions> = {}): Promise<TestSetup> {
  return setUp(undefined, { url, ...options });
}

/** Waits for what loopback brings. */
async function until(isDone: () => boolean): Promise<void> {
  while (!isDone()) await new Promise(setImmediate);
}

it('where nobody has ever answered nothing is asked again', async () => {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  const sleeps: number[] = [];
  const clock = { ...systemClock, sleep: async (ms: number) => void sleeps.push(ms) };
  await expect(openTinkerClient({ url: `http://127.0.0.1:${port}`, clock })).rejects.toMatchObject({
    code: 'no-network',
    message: expect.stringContaining('is the service running?'),
  });
  expect(sleeps).toEqual([]);
});
