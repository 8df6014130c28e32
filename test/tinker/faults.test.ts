/** Faults: what a client sees of each, and that none of them makes the server do a thing twice. */
import { expect, test } from 'vitest';
import { makeFaultQueue, PASSING_FAULTS, randomFaults, type Fault } from './faults.ts';
import { datumJson, modelBody, passBody, SESSION, start, stepBody, text, textInput } from './testing.ts';

const reset = (when: 'before' | 'after' | 'during'): Fault => ({ kind: 'reset', when });

test.each([
  ['before', 0],
  ['after', 1],
  ['during', 1],
] as const)('a reset %s leaves %i steps, and the same request again makes it one', async (when, steps) => {
  const { server, post, result, modelId, backend } = await start();
  server.faults.add('optim_step', reset(when));
  await expect(post('optim_step', stepBody(modelId, 1))).rejects.toThrow();
  expect(server.log.at(-1)).toEqual({ endpoint: 'optim_step', status: 0, fault: 'reset' });
  await new Promise((resolve) => setImmediate(resolve));
  expect(backend.counts.steps).toBe(steps);
  const again = await post('optim_step', stepBody(modelId, 1));
  expect((await result(text(again.json['request_id']))).json.metrics).toBeDefined();
  expect(backend.counts.steps).toBe(1);
});

test('a status comes instead of the work, or after it', async () => {
  const { server, post, run, modelId, backend } = await start();
  server.faults.add('optim_step', { kind: 'status', status: 503, when: 'before' });
  server.faults.add('optim_step', { kind: 'status', status: 502, when: 'after', retryAfterMs: 7 });
  expect((await post('optim_step', stepBody(modelId, 1))).status).toBe(503);
  expect(backend.counts.steps).toBe(0);
  const after = await post('optim_step', stepBody(modelId, 1));
  expect([after.status, after.headers['retry-after-ms']]).toEqual([502, '7']);
  await run('optim_step', stepBody(modelId, 1));
  expect(backend.counts.steps).toBe(1);
  expect(server.faults.left()).toBe(0);
});

test('a request that arrives twice is done once', async () => {
  const { server, run, modelId, backend } = await start();
  server.faults.add('forward_backward', { kind: 'duplicate' });
  server.faults.add('optim_step', { kind: 'duplicate' });
  await run('forward_backward', passBody(modelId, 1, [datumJson([1, 2])]));
  await run('optim_step', stepBody(modelId, 2));
  expect(backend.counts).toMatchObject({ forwardBackward: 1, steps: 1 });
});

test('a request that is held is overtaken, and still runs in its turn', async () => {
  const weights = async (fault: Fault | undefined) => {
    const { server, run, modelId, backend } = await start({ graceMs: 10_000 });
    if (fault !== undefined) server.faults.add('forward_backward', fault);
    await Promise.all([
      run('forward_backward', passBody(modelId, 1, [datumJson([1, 2])])),
      run('optim_step', stepBody(modelId, 2)),
    ]);
    return [
      backend.weights(),
      server.log.filter(({ endpoint }) => endpoint !== 'retrieve_future').at(-1)?.endpoint,
    ];
  };
  const [plain] = await weights(undefined);
  const [held, last] = await weights({ kind: 'hold', ms: 30 });
  expect(held).toEqual(plain);
  expect(last).toBe('forward_backward');
});

test('a slow future comes, a lost one is 404 or 410', async () => {
  const { server, post, run, result, sessionId } = await start({ pollWindowMs: 5 });
  const made = await post('create_sampling_session', {
    session_id: sessionId,
    sampling_session_seq_id: 0,
    base_model: 'models/tiny',
  });
  const body = (seqId: number) => ({
    num_samples: 1,
    prompt: textInput([1]),
    sampling_params: { max_tokens: 2 },
    sampling_session_id: made.json.sampling_session_id,
    seq_id: seqId,
  });
  server.faults.add('asample', { kind: 'slow', ms: 20 });
  expect((await run('asample', body(0))).json.sequences).toHaveLength(1);
  server.faults.add('asample', { kind: 'lost', status: 410, of: 'samples' });
  expect((await run('asample', body(1))).status).toBe(410);
  const submitted = await post('asample', body(2));
  server.faults.add('retrieve_future', { kind: 'lost', status: 404, of: 'samples' });
  expect((await result(text(submitted.json['request_id']))).status).toBe(404);
});

test('a lost future of samples spares training', async () => {
  const { server, run, modelId } = await start();
  server.faults.add('optim_step', { kind: 'lost', status: 410, of: 'samples' });
  expect((await run('optim_step', stepBody(modelId, 1))).status).toBe(200);
  server.faults.add('optim_step', { kind: 'lost', status: 410, of: 'any' });
  expect((await run('optim_step', stepBody(modelId, 2))).status).toBe(410);
});

test('a restart that keeps its memory answers as if nothing had been', async () => {
  const { server, post, run, modelId, backend } = await start();
  server.faults.add('optim_step', { kind: 'restart', keeps: 'memory', downMs: 1 });
  await expect(post('optim_step', stepBody(modelId, 1))).rejects.toThrow();
  // Down for a moment.
  let answer: Awaited<ReturnType<typeof run>> | undefined;
  while (answer === undefined) answer = await run('optim_step', stepBody(modelId, 1)).catch(() => undefined);
  expect(answer.json.metrics).toBeDefined();
  expect(backend.counts.steps).toBe(1);
});

test('a restart after an operation finds it done, and the same request again makes it no second', async () => {
  const { server, post, run, modelId, backend } = await start();
  server.faults.add('optim_step', { kind: 'restart', when: 'after', keeps: 'memory', downMs: 0 });
  await expect(post('optim_step', stepBody(modelId, 1))).rejects.toThrow();
  expect(backend.counts.steps).toBe(1);
  expect((await run('optim_step', stepBody(modelId, 1))).json.metrics).toBeDefined();
  expect(backend.counts.steps).toBe(1);
});

test('a restart that keeps checkpoints has those, and no model or session', async () => {
  const { server, post, run, modelId, sessionId } = await start();
  const { path } = (await run('save_weights', { model_id: modelId, path: 'a', seq_id: 1 })).json;
  await server.restart('checkpoints');
  expect((await post('optim_step', stepBody(modelId, 2))).status).toBe(404);
  expect((await post('session_heartbeat', { session_id: sessionId })).status).toBe(404);
  expect((await post('weights_info', { tinker_path: path })).status).toBe(200);
  const next = text((await post('create_session', SESSION)).json['session_id']);
  expect(next).not.toBe(sessionId);
  const model = (await run('create_model', modelBody(next))).json.model_id;
  expect((await run('load_weights', { model_id: model, path, seq_id: 1, optimizer: true })).json.path).toBe(
    path,
  );
  await server.restart('nothing');
  expect((await post('weights_info', { tinker_path: path })).status).toBe(404);
});

test('sessions end on request, and adapter slots fill up', async () => {
  const { server, post, run, sessionId, modelId } = await start();
  server.faults.add('create_model', { kind: 'full' });
  expect((await run('create_model', modelBody(sessionId, 1))).json.error).toContain('adapters');
  server.faults.add('optim_step', { kind: 'expire' });
  expect((await post('optim_step', stepBody(modelId, 1))).status).toBe(404);
});

test('a seed draws the same faults for an endpoint, and not too many in a row', () => {
  const draw = (seed: number) => {
    const script = randomFaults({ seed, rate: 0.9, mostInRow: 2, spared: ['archive'] });
    return Array.from({ length: 200 }, () => script('optim_step')?.kind ?? '-');
  };
  expect(draw(1)).toEqual(draw(1));
  expect(draw(1)).not.toEqual(draw(2));
  const rows = draw(1).join(' ').split('-');
  expect(Math.max(...rows.map((row) => row.trim().split(' ').length))).toBe(2);
  expect(new Set(draw(3)).size).toBeGreaterThan(PASSING_FAULTS.length / 2);
  expect(randomFaults({ seed: 1, rate: 1, spared: ['archive'] })('archive')).toBeUndefined();
});

test('a queue of faults can aim at a later request', () => {
  const queue = makeFaultQueue();
  queue.add('asample', { kind: 'expire' }, 2, 1);
  expect([1, 2, 3, 4].map(() => queue.next('asample')?.kind)).toEqual([
    undefined,
    'expire',
    'expire',
    undefined,
  ]);
});

test('whatever faults they meet, patient requests lead to the same weights', async () => {
  const train = async (seed: number | undefined) => {
    const faultScript =
      seed === undefined
        ? undefined
        : randomFaults({ seed, rate: 0.4, spared: ['create_session', 'create_model'] });
    const { server, post, modelId, backend } = await start({
      pollWindowMs: 20,
      graceMs: 10_000,
      ...(faultScript && { faultScript }),
    });
    /** As a client does: the same body again until it is answered. */
    const until = async (path: string, body: unknown): Promise<Awaited<ReturnType<typeof post>>> => {
      for (;;) {
        const answer = await post(path, body).catch(() => undefined);
        if (answer?.status === 200) return answer;
      }
    };
    for (let seqId = 1; seqId <= 12; seqId += 2) {
      const pass = await until('forward_backward', passBody(modelId, seqId, [datumJson([1, 2, seqId])]));
      const step = await until('optim_step', stepBody(modelId, seqId + 1));
      for (const { json } of [pass, step]) await until('retrieve_future', { request_id: json.request_id });
    }
    const hits = server.log.filter(({ fault }) => fault !== undefined).length;
    return { weights: backend.weights(), steps: backend.counts.steps, hits };
  };
  const plain = await train(undefined);
  for (let seed = 1; seed <= 4; seed++) {
    const faulty = await train(seed);
    expect(faulty).toMatchObject({ weights: plain.weights, steps: 6 });
    expect(faulty.hits).toBeGreaterThan(3);
  }
});
