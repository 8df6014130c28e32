/** The server itself, call by call: what it answers, and what it refuses. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  decodeForwardBackwardOutput,
  decodeSampleResponse,
  encodeForwardBackwardRequest,
} from '../../src/engine/tinker/messages.ts';
import type { SampleOrder } from './backend.ts';
import { SKYRL_JAX, STRICT, TCRL } from './quirks.ts';
import { makeScriptedBackend } from './scripted-backend.ts';
import { startTinkerServer } from './server.ts';
import {
  PROTOBUF,
  SESSION,
  closedAfter,
  datumJson,
  modelBody,
  passBody,
  rawClient,
  start,
  startReady,
  stepBody,
  text,
  textInput,
  type Ready,
} from './testing.ts';

const sampleBody = (samplerId: string, seqId: number | string = 0, more: Record<string, unknown> = {}) => ({
  num_samples: 1,
  prompt: textInput([1, 2, 3]),
  sampling_params: { max_tokens: 8, seed: 5, temperature: 1, top_k: -1, top_p: 1 },
  sampling_session_id: samplerId,
  seq_id: seqId,
  prompt_logprobs: null,
  topk_prompt_logprobs: 0,
  type: 'sample',
  ...more,
});
async function baseSampler({ post, sessionId }: Ready, number = 0): Promise<string> {
  const made = await post('create_sampling_session', {
    session_id: sessionId,
    sampling_session_seq_id: number,
    base_model: 'models/tiny',
    type: 'create_sampling_session',
  });
  return text(made.json['sampling_session_id']);
}

describe('start', () => {
  test('client/config wants plain HTTP/1.1 and adds what it is told to announce', async () => {
    const { post } = await start({ clientConfig: { fwdbwd_max_chunk_len: 2 } });
    const { json } = await post('client/config', { sdk_version: '0.25.0' });
    expect(json).toMatchObject({ use_pyqwest_transport: false, fwdbwd_max_chunk_len: 2 });
    expect((await post('client/dynamic_config', { sdk_version: '0.25.0' })).json.refresh_interval_sec).toBe(
      300,
    );
  });

  test('healthz, capabilities, telemetry and heartbeat answer', async () => {
    const { get, post, sessionId } = await start();
    expect((await get('healthz')).json).toEqual({ status: 'ok' });
    expect((await get('get_server_capabilities')).json.supported_models?.[0]?.model_name).toBe('models/tiny');
    expect((await post('telemetry', { events: [], platform: 'x' })).json).toEqual({ status: 'accepted' });
    expect((await post('session_heartbeat', { session_id: sessionId })).json.type).toBe('session_heartbeat');
  });

  test('a version can be refused, with the reason as detail', async () => {
    const server = await startTinkerServer({
      backend: makeScriptedBackend(),
      refuseVersion: (version) => `${version} is old`,
    });
    closedAfter(server);
    const { status, json } = await rawClient(server.url).post('create_session', SESSION);
    expect([status, json.detail]).toEqual([400, '0.25.0 is old']);
  });

  test('a key that is wanted is compared', async () => {
    const server = await startTinkerServer({ backend: makeScriptedBackend(), apiKey: 'tml-right' });
    closedAfter(server);
    const { post } = rawClient(server.url);
    expect((await post('create_session', SESSION)).status).toBe(401);
    expect((await post('create_session', SESSION, { 'x-api-key': 'tml-right' })).status).toBe(200);
  });
});

describe('what HTTP refuses', () => {
  test.each([
    ['a body that is too large', 413, {}, 'x'.repeat(3000)],
    ['a type that is neither JSON nor protobuf', 415, { 'content-type': 'text/plain' }, '{}'],
    ['protobuf where there is none', 415, { 'content-type': PROTOBUF }, '{}'],
    ['an answer that is neither', 406, { accept: 'text/html' }, '{}'],
    ['an encoding that was not announced', 415, { 'content-encoding': 'zstd' }, '{}'],
    ['gzip that is none', 400, { 'content-encoding': 'gzip' }, '{}'],
    ['text that is no JSON', 400, {}, '{'],
  ])('%s', async (_, status, headers, body) => {
    const { post } = await start({ maxBodyBytes: 2000 });
    const answer = await post('create_session', body, headers);
    expect(answer.status).toBe(status);
    expect(answer.json.detail).not.toBe('');
  });

  test('a path that the protocol lacks', async () => {
    const { get, post } = await start();
    expect((await get('nothing')).status).toBe(404);
    expect((await post('cancel_future', {})).status).toBe(404);
    expect((await get('create_session')).status).toBe(404);
  });
});

/** Refused requests change nothing, so they share a server. */
describe('fields', () => {
  let ready: Ready;
  let sampler: string;
  let nextSeqId = 3;
  beforeAll(async () => {
    ready = await startReady({ backend: makeScriptedBackend() });
    sampler = await baseSampler(ready);
  });
  afterAll(() => ready.server.close());
  test.each([
    ['create_session', { ...SESSION, colour: 1 }, 'colour'],
    ['create_session', { tags: [], user_metadata: {} }, 'sdk_version'],
    ['create_model', { ...modelBody('session-0', 1), optimizer_config: {} }, 'optimizer_config'],
    ['create_model', { ...modelBody('session-0', 1), lora_config: { rank: 3 } }, 'rank'],
    ['create_model', { ...modelBody('session-0', 1), base_model: 'other' }, 'base_model'],
    ['optim_step', { ...stepBody('session-0:train:0', 1), adam_params: { momentum: 1 } }, 'momentum'],
    ['optim_step', { ...stepBody('session-0:train:0', 1), adam_params: { beta1: 1 } }, 'beta1'],
    ['optim_step', stepBody('session-0:train:0', 0), 'seq_id'],
    ['save_weights', { model_id: 'session-0:train:0', path: '../up', seq_id: 1 }, 'path'],
    ['save_weights_for_sampler', { model_id: 'session-0:train:0', seq_id: 1 }, 'path'],
    [
      'load_weights',
      { model_id: 'session-0:train:0', path: 'tinker://a', seq_id: 2, optimizer: true },
      'path',
    ],
    ['create_sampling_session', { session_id: 'session-0', sampling_session_seq_id: 9 }, 'base_model'],
  ])('%s refuses %j by name', async (path, body, name) => {
    const answer = await ready.post(path, body);
    expect(answer.status).toBe(400);
    expect(answer.json.detail).toContain(name);
  });

  test.each([
    [{ topk_prompt_logprobs: 3 }, 'topk_prompt_logprobs'],
    [{ prompt_logprobs_last_n: 3 }, 'prompt_logprobs_last_n'],
    [{ prompt: textInput([]) }, 'prompt'],
    [{ prompt: textInput([1000]) }, 'prompt'],
    [{ prompt: { chunks: [{ type: 'image', data: '', format: 'png' }] } }, 'image'],
    [{ num_samples: 0 }, 'num_samples'],
    [{ sampling_params: { max_tokens: 8, min_p: 0.1 } }, 'min_p'],
    [{ sampling_params: { max_tokens: 0 } }, 'max_tokens'],
    [{ sampling_params: { max_tokens: 40_000 } }, 'max_tokens'],
    [{ sampling_params: { top_k: 0 } }, 'top_k'],
    [{ sampling_params: { top_p: 1.5 } }, 'top_p'],
    [{ sampling_params: { temperature: -1 } }, 'temperature'],
    [{ sampling_params: { stop: 'text' } }, 'stop'],
    [{ sampling_params: { stop: ['text', 3] } }, 'stop'],
  ])('asample refuses %j by name', async (more, name) => {
    const answer = await ready.post('asample', sampleBody(sampler, 0, more));
    expect(answer.status).toBe(400);
    expect(answer.json.detail).toContain(name);
  });

  test('forward_backward refuses a message with a field that the schema lacks', async () => {
    const whole = encodeForwardBackwardRequest({
      modelId: ready.modelId,
      seqId: nextSeqId++,
      lossName: 'cross_entropy',
      lossConfig: {},
      forwardOnly: false,
      data: [],
    });
    const answer = await ready.post('forward_backward', Buffer.concat([whole, Buffer.from([0x48, 0x01])]));
    expect([answer.status, answer.json.detail]).toEqual([400, expect.stringContaining('field 9')]);
  });

  const broken = (inputs: Record<string, unknown>, tokens = [1, 2, 3]) => ({
    model_input: textInput(tokens),
    loss_fn_inputs: { ...(datumJson([1, 2, 3, 4])['loss_fn_inputs'] as object), ...inputs },
  });
  test.each([
    ['no datum', [], 'cross_entropy', 'data'],
    ['a loss that is unknown', [datumJson([1, 2])], 'mse', 'loss_fn'],
    ['inputs of another loss', [datumJson([1, 2])], 'ppo', 'logprobs'],
    ['an input too many', [broken({ mask: { data: [1, 1, 1], dtype: 'float32' } })], 'cross_entropy', 'mask'],
    [
      'a length that differs',
      [broken({ weights: { data: [1], dtype: 'float32' } })],
      'cross_entropy',
      'weights',
    ],
    [
      'targets of floats',
      [broken({ target_tokens: { data: [1, 2, 3], dtype: 'float32' } })],
      'cross_entropy',
      'target_tokens',
    ],
    [
      'a shape that lies',
      [broken({ weights: { data: [1, 1, 1], dtype: 'float32', shape: [4] } })],
      'cross_entropy',
      'weights',
    ],
    ['a token outside', [broken({}, [1, 2, 1000])], 'cross_entropy', 'model_input'],
  ])('forward_backward refuses %s by name', async (_, data, loss, name) => {
    const answer = await ready.post('forward_backward', passBody(ready.modelId, nextSeqId++, data, loss));
    expect(answer.status).toBe(400);
    expect(answer.json.detail).toContain(name);
  });

  test('a loss has its own options and no others', async () => {
    const { post, modelId } = ready;
    const body = (loss: string, config: Record<string, number>) => ({
      forward_backward_input: { data: [datumJson([1, 2])], loss_fn: loss, loss_fn_config: config },
      model_id: modelId,
      seq_id: nextSeqId++,
    });
    expect((await post('forward_backward', body('cross_entropy', { beta: 1 }))).json.detail).toContain(
      'beta',
    );
    expect((await post('forward_backward', body('dro', {}))).status).toBe(400);
  });
});

describe('training', () => {
  const request = (modelId: string, seqId: number, forwardOnly = false) =>
    encodeForwardBackwardRequest({
      modelId,
      seqId,
      lossName: 'cross_entropy',
      lossConfig: {},
      forwardOnly,
      data: [
        [3, 4, 5],
        [6, 7],
      ].map((tokens) => ({
        modelInput: [{ type: 'text', tokens: tokens.slice(0, -1) }],
        lossInputs: {
          target_tokens: { dtype: 'int64', data: tokens.slice(1) },
          weights: { dtype: 'float32', data: tokens.slice(1).map(() => 1) },
        },
      })),
    });

  test('protobuf and JSON give the same numbers, and a sum of the loss', async () => {
    const { run, modelId } = await start();
    const binary = await run('forward_backward', request(modelId, 1, true), PROTOBUF);
    expect(binary.headers['content-type']).toBe(PROTOBUF);
    const output = decodeForwardBackwardOutput(binary.bytes);
    const legacy = await run('forward', {
      forward_input: { data: [datumJson([3, 4, 5]), datumJson([6, 7])], loss_fn: 'cross_entropy' },
      model_id: modelId,
      seq_id: 2,
    });
    const outputs = Object.values(legacy.json['loss_fn_outputs'] ?? {});
    const logprobs = outputs.map((each) => Object.values(each['logprobs']?.['data'] ?? {}).map(Number));
    expect(output.outputs.map(({ logprobs: each }) => Array.from(each?.data ?? []))).toEqual(logprobs);
    expect(legacy.json.metrics?.['loss:sum']).toBeCloseTo(-logprobs.flat().reduce((a, b) => a + b, 0), 12);
    expect(output.metrics['tokens:sum']).toBe(3);
  });

  test('the same request again does nothing and answers the same', async () => {
    const backend = makeScriptedBackend();
    const { post, run, modelId } = await start({ backend });
    await run('forward_backward', request(modelId, 1));
    const first = await post('optim_step', stepBody(modelId, 2));
    const again = await post('optim_step', stepBody(modelId, 2));
    await post('forward_backward', request(modelId, 1));
    expect(again.json).toEqual(first.json);
    await run('optim_step', stepBody(modelId, 3));
    expect(backend.counts).toMatchObject({ forwardBackward: 1, steps: 2 });
    const other = await post('optim_step', { ...stepBody(modelId, 2), adam_params: { learning_rate: 1 } });
    expect([other.status, other.json.detail]).toEqual([400, expect.stringContaining('seq_id')]);
  });

  test('operations run in the order of their numbers, not of their arrival', async () => {
    const weights = async (order: number[]) => {
      const backend = makeScriptedBackend();
      const { post, result, modelId } = await start({ backend, graceMs: 5000 });
      const futures: string[] = [];
      for (const seqId of order) {
        const submitted =
          seqId % 2 === 1
            ? await post('forward_backward', request(modelId, seqId))
            : await post('optim_step', {
                ...stepBody(modelId, seqId),
                adam_params: { learning_rate: seqId },
              });
        futures.push(text(submitted.json['request_id']));
      }
      for (const id of futures) await result(id);
      return backend.weights();
    };
    expect(await weights([4, 2, 3, 1])).toEqual(await weights([1, 2, 3, 4]));
  });

  test('a number that a refused request used up is not waited for, and cannot come again', async () => {
    const { post, run, modelId } = await start({ graceMs: 60_000 });
    expect((await post('forward_backward', passBody(modelId, 1, []))).status).toBe(400);
    expect((await run('optim_step', stepBody(modelId, 2))).json.metrics).toBeDefined();
    const reused = await post('forward_backward', request(modelId, 1));
    expect(reused.json.detail).toContain('used up');
  });

  test('a number that never comes is passed over after the grace time', async () => {
    const { run, modelId, server } = await start({ graceMs: 5 });
    expect((await run('optim_step', stepBody(modelId, 3))).json.metrics).toBeDefined();
    expect((await run('optim_step', stepBody(modelId, 1))).json.metrics).toBeDefined();
    expect(server.stats().lateOperations).toBe(1);
  });

  test('get_info tells the model', async () => {
    const { post, modelId, sessionId } = await start();
    const { json } = await post('get_info', { model_id: modelId });
    expect(modelId).toBe(`${sessionId}:train:0`);
    expect(json).toMatchObject({
      model_id: modelId,
      is_lora: true,
      lora_rank: 4,
      model_data: { model_name: 'models/tiny' },
    });
  });
});

describe('futures', () => {
  test('a poll without a result answers 408 try_again, or 200 where that is wanted', async () => {
    for (const tryAgainStatus of [408, 200] as const) {
      let release = (): void => undefined;
      const held = new Promise<void>((resolve) => (release = resolve));
      const backend = makeScriptedBackend();
      const sampler = backend.sampler(undefined);
      const slow = { ...sampler, sample: (order: SampleOrder) => held.then(() => sampler.sample(order)) };
      const ready = await start({
        tryAgainStatus,
        pollWindowMs: 1,
        backend: { ...backend, sampler: () => slow },
      });
      const { json } = await ready.post('asample', sampleBody(await baseSampler(ready)));
      const poll = await ready.post('retrieve_future', { request_id: json.request_id });
      expect([poll.status, poll.json]).toEqual([
        tryAgainStatus,
        { type: 'try_again', request_id: json.request_id, queue_state: 'active' },
      ]);
      release();
      expect((await ready.result(text(json['request_id']))).json.sequences).toHaveLength(1);
    }
  });

  test('a large result is announced by its size once, where that is allowed', async () => {
    const ready = await start({ metadataAboveBytes: 1 });
    const { json } = await ready.post('asample', sampleBody(await baseSampler(ready)));
    const poll = (allow: boolean) =>
      ready.post(
        'retrieve_future',
        { request_id: json.request_id, allow_metadata_only: allow },
        { accept: PROTOBUF },
      );
    const size = (await poll(true)).json;
    expect(size.status).toBe('complete_metadata');
    const whole = await poll(true);
    expect(whole.bytes).toHaveLength(Number(size['response_payload_size']));
    // A result stays readable.
    expect((await poll(false)).bytes).toEqual(whole.bytes);
  });

  test('an unknown future is 404, one whose result is no longer kept 410', async () => {
    const ready = await start({ keptResults: 1 });
    const sampler = await baseSampler(ready);
    expect((await ready.post('retrieve_future', { request_id: 'none' })).status).toBe(404);
    const first = await ready.post('asample', sampleBody(sampler, 0));
    await ready.result(text(first.json['request_id']));
    await ready.run('asample', sampleBody(sampler, 1));
    expect((await ready.post('retrieve_future', { request_id: first.json.request_id })).status).toBe(410);
  });

  test('many polls wait for one result', async () => {
    const ready = await start({ latencyMs: 30 });
    const { json } = await ready.post('asample', sampleBody(await baseSampler(ready)));
    const polls = await Promise.all(Array.from({ length: 20 }, () => ready.result(text(json['request_id']))));
    expect(new Set(polls.map(({ bytes }) => Buffer.from(bytes).toString())).size).toBe(1);
  });
});

describe('sampling', () => {
  test('prompt_logprobs has the length of the prompt, and none for the first token', async () => {
    const ready = await start();
    const answer = await ready.run(
      'asample',
      sampleBody(await baseSampler(ready), 0, { prompt_logprobs: true, num_samples: 3 }),
      PROTOBUF,
    );
    const { sequences, promptLogprobs } = decodeSampleResponse(answer.bytes);
    expect(promptLogprobs).toEqual([null, expect.any(Number), expect.any(Number)]);
    for (const { tokens, logprobs } of sequences) expect(logprobs).toHaveLength(tokens.length);
  });

  test('the reply names one sequence id for each sample', async () => {
    const ready = await start();
    const { json } = await ready.post('asample', sampleBody(await baseSampler(ready), 0, { num_samples: 3 }));
    expect(new Set(Object.values(json['sample_sequence_ids'] ?? {})).size).toBe(3);
  });

  test('numbers beyond 2^53 are told apart', async () => {
    const backend = makeScriptedBackend();
    const ready = await start({ backend });
    const sampler = await baseSampler(ready);
    const body = (seqId: string) => JSON.stringify(sampleBody(sampler, 'N')).replace('"N"', seqId);
    const ids = [];
    for (const seqId of ['900000000000000001', '900000000000000002', '900000000000000001']) {
      ids.push(text((await ready.post('asample', body(seqId))).json['request_id']));
    }
    expect(ids[2]).toBe(ids[0]);
    expect(ids[1]).not.toBe(ids[0]);
    expect(backend.counts.samples).toBe(2);
  });

  test('a stop is ids or texts, and what completes it is the last token', async () => {
    const script = () => [65, 66, 67, 68];
    const ready = await start({
      backend: makeScriptedBackend({ script }),
      detokenize: (tokens) => String.fromCharCode(...tokens),
    });
    const sampler = await baseSampler(ready);
    const stops = [[67], 'BC', ['ZZ', 'C'], null, ['ZZ']];
    const got = [];
    for (const [i, stop] of stops.entries()) {
      const params = { max_tokens: 4, temperature: 1, stop };
      const { json } = await ready.run('asample', sampleBody(sampler, i, { sampling_params: params }));
      got.push([json.sequences?.[0]?.tokens?.length, json.sequences?.[0]?.stop_reason]);
    }
    expect(got).toEqual([
      [3, 'stop'],
      [3, 'stop'],
      [3, 'stop'],
      [4, 'length'],
      [4, 'length'],
    ]);
  });

  test('more samples at once than there is room for are answered 429', async () => {
    const ready = await start({ maxSamplesInFlight: 0 });
    expect((await ready.post('asample', sampleBody(await baseSampler(ready)))).status).toBe(429);
  });

  test('an unnamed save is a sampler at once, and later training does not change it', async () => {
    const ready = await start();
    const { run, modelId, sessionId } = ready;
    const saved = await run('save_weights_for_sampler', {
      model_id: modelId,
      sampling_session_seq_id: 0,
      seq_id: 1,
    });
    const sampler = text(saved.json['sampling_session_id']);
    const before = await run('asample', sampleBody(sampler, 0));
    await run('forward_backward', passBody(modelId, 2, [datumJson([1, 2, 3])]));
    await run('optim_step', stepBody(modelId, 3));
    const after = await run('asample', sampleBody(sampler, 1));
    expect(after.json.sequences).toEqual(before.json.sequences);
    const later = await run('save_weights_for_sampler', {
      model_id: modelId,
      sampling_session_seq_id: 1,
      seq_id: 4,
    });
    const changed = await run('asample', sampleBody(text(later.json['sampling_session_id']), 0));
    expect(changed.json.sequences?.[0]?.logprobs).not.toEqual(before.json.sequences?.[0]?.logprobs);
    const taken = await ready.post('create_sampling_session', {
      session_id: sessionId,
      sampling_session_seq_id: 0,
      base_model: 'models/tiny',
    });
    expect(taken.status).toBe(400);
    expect((await ready.get(`samplers/${sampler}`)).json.base_model).toBe('models/tiny');
  });
});

describe('checkpoints', () => {
  test('a saved state is loaded by a new model, as its first request and no other', async () => {
    const backend = makeScriptedBackend();
    const { run, post, modelId, sessionId } = await start({ backend });
    await run('forward_backward', passBody(modelId, 1, [datumJson([1, 2, 3])]));
    await run('optim_step', stepBody(modelId, 2));
    const { path } = (await run('save_weights', { model_id: modelId, path: 'step-1', seq_id: 3 })).json;
    expect(path).toBe(`tinker://${modelId}/weights/step-1`);
    const info = await post('weights_info', { tinker_path: path });
    expect(info.json).toMatchObject({ base_model: 'models/tiny', is_lora: true, lora_rank: 4 });
    const second = text((await run('create_model', modelBody(sessionId, 1))).json['model_id']);
    const load = { model_id: second, path, seq_id: 1, optimizer: true, type: 'load_weights' };
    expect((await run('load_weights', load)).json.path).toBe(path);
    expect(backend.weights()[1]).toBe(backend.weights()[0]);
    expect((await post('load_weights', { ...load, seq_id: 2 })).json.detail).toContain('first request');
  });

  test('a name that is taken is an error of the future; overwrite replaces it', async () => {
    const { run, modelId } = await start();
    const save = (seqId: number, overwrite: boolean) =>
      run('save_weights', { model_id: modelId, path: 'a', seq_id: seqId, overwrite });
    await save(1, false);
    const taken = await save(2, false);
    expect([taken.status, taken.json.category]).toEqual([200, 'user']);
    expect((await save(3, true)).json.path).toContain('/weights/a');
  });

  test('they are listed, downloaded as a tar of a PEFT folder, and deleted', async () => {
    const { run, get, modelId, server } = await start();
    await run('save_weights_for_sampler', { model_id: modelId, path: 'a', seq_id: 1 });
    const runs = (await get('training_runs')).json;
    expect(runs.training_runs?.[0]).toMatchObject({
      training_run_id: modelId,
      user_metadata: { renderer: 'plain' },
    });
    const { json } = await get(`training_runs/${modelId}/checkpoints`);
    expect(json.checkpoints?.[0]?.checkpoint_id).toBe('sampler_weights/a');
    const at = `training_runs/${encodeURIComponent(modelId)}/checkpoints/sampler_weights/a`;
    const link = await get(`${at}/archive`);
    const tar = Buffer.from((await get(text(link.json['url']))).bytes);
    expect(tar.subarray(0, 19).toString()).toBe('adapter_config.json');
    expect(tar.length % 512).toBe(0);
    expect((await get(at, 'DELETE')).status).toBe(204);
    expect((await get(at, 'DELETE')).status).toBe(404);
    expect((await get(text(link.json['url']))).status).toBe(404);
    expect((await get(`training_runs/${modelId}/checkpoints/sampler_weights/..`)).status).toBe(404);
    expect(server.counts.get('delete_checkpoint')).toBe(2);
  });

  test('an archive can be a redirect', async () => {
    const { run, get, modelId } = await start({ archives: 'redirect' });
    await run('save_weights_for_sampler', { model_id: modelId, path: 'a', seq_id: 1 });
    const { status, headers } = await get(`training_runs/${modelId}/checkpoints/sampler_weights/a/archive`);
    expect(status).toBe(302);
    expect(headers.location).toContain('/archives/');
  });

  test('a checkpoint with a time to live is gone after it', async () => {
    let clock = 0;
    const { run, post, modelId } = await start({ now: () => clock });
    const { path } = (await run('save_weights', { model_id: modelId, path: 'a', seq_id: 1, ttl_seconds: 10 }))
      .json;
    expect((await post('weights_info', { tinker_path: path })).status).toBe(200);
    clock = 10_001;
    expect((await post('weights_info', { tinker_path: path })).status).toBe(404);
  });
});

describe('sessions', () => {
  test('without heartbeats a session ends, and its adapter slots are free', async () => {
    let clock = 0;
    const { run, post, sessionId, modelId } = await start({ now: () => clock, maxModels: 1 });
    const full = await run('create_model', modelBody(sessionId, 1));
    expect(full.json).toMatchObject({ category: 'server', error: expect.stringContaining('adapters') });
    clock = 200_000;
    await post('session_heartbeat', { session_id: sessionId });
    clock = 400_000;
    expect((await post('get_info', { model_id: modelId })).status).toBe(200);
    clock = 600_000;
    expect((await post('optim_step', stepBody(modelId, 1))).json.detail).toContain('expired');
    const next = text((await post('create_session', SESSION)).json['session_id']);
    expect((await run('create_model', modelBody(next))).json.model_id).toBe(`${next}:train:0`);
  });

  test('unload_model frees a slot', async () => {
    const { run, sessionId, modelId } = await start({ maxModels: 1 });
    await run('unload_model', { model_id: modelId });
    expect((await run('create_model', modelBody(sessionId, 1))).json.model_id).toBe(`${sessionId}:train:1`);
  });
});

describe('quirks of known servers', () => {
  test('SkyRL: short prompt_logprobs, no metrics, paths of two parts, failures as 400, lists of stops', async () => {
    const ready = await start({ quirks: SKYRL_JAX });
    const { run, post, modelId } = ready;
    expect(modelId).toMatch(/^model_[0-9a-f]{8}$/);
    const pass = await run('forward_backward', passBody(modelId, 1, [datumJson([1, 2, 3], 0.5)]));
    expect(pass.json.metrics).toEqual({});
    const save = { model_id: modelId, path: 'a', seq_id: 2 };
    expect((await run('save_weights_for_sampler', save)).json.path).toBe(`tinker://${modelId}/a`);
    const taken = await run('save_weights_for_sampler', { ...save, seq_id: 3 });
    expect([taken.status, taken.json.detail]).toEqual([400, expect.stringContaining('exists')]);
    const sampler = await baseSampler(ready);
    const scored = await run('asample', sampleBody(sampler, 0, { prompt_logprobs: true }));
    expect(scored.json.prompt_logprobs).toHaveLength(2);
    const bare = sampleBody(sampler, 1, { sampling_params: { max_tokens: 1, stop: 'x' } });
    expect((await post('asample', bare)).status).toBe(422);
    expect((await post('client/dynamic_config', { sdk_version: '0.25.0' })).status).toBe(404);
  });

  test('TCRL: no client/config, JSON alone', async () => {
    const ready = await start({ quirks: TCRL });
    expect((await ready.post('client/config', { sdk_version: '0.12.0' })).status).toBe(404);
    expect((await ready.post('forward_backward', new Uint8Array([0]))).status).toBe(415);
    const answer = await ready.run('asample', sampleBody(await baseSampler(ready)), PROTOBUF);
    expect(answer.json.sequences).toHaveLength(1);
  });

  test('a server of protobuf alone refuses JSON', async () => {
    const { post, modelId } = await start({ quirks: { ...STRICT, dialects: ['protobuf'] } });
    expect((await post('forward_backward', passBody(modelId, 1, [datumJson([1, 2])]))).status).toBe(415);
  });
});
