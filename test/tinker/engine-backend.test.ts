/** What comes over the wire is what the embedded engine computes, and the losses are what their formulas say. */
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Engine } from '../../src/engine/engine.ts';
import { openLocalEngine } from '../../src/engine/local/local-engine.ts';
import { makeRng } from '../../src/lib/rng.ts';
import type { TrainDatum } from './backend.ts';
import { loraOptions, openEngineBackend } from './engine-backend.ts';
import { makeLoss, perWeight, type LossName } from './losses.ts';
import {
  ADAM,
  datumJson,
  modelBody,
  passBody,
  startReady,
  stepBody,
  text,
  textInput,
  type Json,
  type Ready,
} from './testing.ts';

const model = fileURLToPath(new URL('../fixtures/llama/tiny-gqa', import.meta.url));
const lora = { rank: 4, seed: 7, train_unembed: false, train_mlp: true, train_attn: true };
const sequences = [
  [5, 9, 14, 3, 60],
  [5, 9, 71, 8],
];
const numbers = (value: Json | undefined): number[] => Object.values(value ?? {}).map(Number);
const adam = { learningRate: 0.01, beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: 0 };
const allPositions = sequences.map((tokens) => ({ tokens, positions: tokens.slice(1).map((_, i) => i + 1) }));

let ready: Ready;
let engine: Engine;
beforeAll(async () => {
  const backend = await openEngineBackend({ model });
  ready = await startReady({ backend });
  engine = await openLocalEngine({ model, thread: false, threads: 1, ...loraOptions(lora) });
});
afterAll(async () => {
  await ready.server.close();
  await engine.close();
});

async function logprobsOf(
  { run }: Ready,
  modelId: string,
  seqId: number,
  kind: 'forward' | 'forward_backward',
) {
  const data = sequences.map((tokens) => datumJson(tokens, 0.5));
  const body = passBody(modelId, seqId, data);
  const answer = await run(
    kind,
    kind === 'forward'
      ? { ...body, forward_backward_input: undefined, forward_input: body['forward_backward_input'] }
      : body,
  );
  return Object.values(answer.json['loss_fn_outputs'] ?? {}).map((each) =>
    numbers(each['logprobs']?.['data']),
  );
}

test('train, save, load and sample over the wire as the engine does at hand', async () => {
  const { run, sessionId, modelId } = ready;
  const own = (values: readonly Float32Array[]) => values.map((each) => Array.from(each));

  // Two steps of cross entropy with weights 0.5.
  let ours: number[][] = [];
  for (let step = 0; step < 2; step++) {
    const theirs = await logprobsOf(ready, modelId, 2 * step + 1, 'forward_backward');
    const result = await engine.forwardBackward(allPositions, (logprobs) => ({
      loss: 0,
      gradients: logprobs.map((each) => each.map(() => -0.5)),
      metrics: {},
    }));
    ours = own(result.logprobs);
    expect(theirs).toEqual(ours);
    const stepped = await run('optim_step', stepBody(modelId, 2 * step + 2));
    const { gradientNorm } = await engine.step(adam);
    expect(Number(stepped.json['metrics']?.['gradient_norm'])).toBe(gradientNorm);
  }
  const after = own(await engine.logprobs(allPositions));
  expect(after).not.toEqual(ours);
  expect(await logprobsOf(ready, modelId, 5, 'forward')).toEqual(after);

  // A snapshot samples as the engine does now; the base model as it was.
  const saved = await run('save_weights_for_sampler', {
    model_id: modelId,
    sampling_session_seq_id: 0,
    seq_id: 6,
  });
  const { path } = (await run('save_weights', { model_id: modelId, path: 'two', seq_id: 7 })).json;
  const sample = { prompt: sequences[0] ?? [], count: 2, seed: 11 };
  const ask = (params: Record<string, unknown>, seqId: number) =>
    run('asample', {
      num_samples: 2,
      prompt: textInput(sample.prompt),
      sampling_params: { max_tokens: 6, seed: 11, ...params },
      sampling_session_id: saved.json['sampling_session_id'],
      seq_id: seqId,
      prompt_logprobs: true,
    });
  const [plain, warm] = [await ask({}, 0), await ask({ temperature: 2 }, 1)];
  const expected = await engine.sample({ ...sample, params: { temperature: 1, maxTokens: 6, stopIds: [] } });
  const told = Object.values(plain.json['sequences'] ?? {});
  expect(told.map((each) => numbers(each['tokens']))).toEqual(expected.map(({ tokens }) => tokens));
  expect(told.map((each) => numbers(each['logprobs']))).toEqual(expected.map(({ logprobs }) => logprobs));
  expect(numbers(plain.json['prompt_logprobs']).slice(1)).toEqual(after[0]);

  // Whatever the temperature, log-probabilities are those at 1.
  const [hot] = Object.values(warm.json['sequences'] ?? {});
  const tokens = numbers(hot?.['tokens']);
  const positions = tokens.map((_, i) => sample.prompt.length + i);
  const scored = await engine.logprobs([{ tokens: [...sample.prompt, ...tokens], positions }]);
  expect(numbers(hot?.['logprobs'])).toEqual(own(scored)[0]);

  // A new model goes on from the save: with the optimizer as the engine goes on, without it as one with none.
  const next: number[][][] = [];
  for (const optimizer of [true, false]) {
    const number = optimizer ? 1 : 2;
    const id = text((await run('create_model', modelBody(sessionId, number))).json['model_id']);
    await run('load_weights', { model_id: id, path, seq_id: 1, optimizer });
    expect(await logprobsOf(ready, id, 2, 'forward_backward')).toEqual(after);
    await run('optim_step', stepBody(id, 3));
    next.push(await logprobsOf(ready, id, 4, 'forward'));
  }
  await engine.forwardBackward(allPositions, (logprobs) => ({
    loss: 0,
    gradients: logprobs.map((each) => each.map(() => -0.5)),
    metrics: {},
  }));
  await engine.step(adam);
  expect(next[0]).toEqual(own(await engine.logprobs(allPositions)));
  expect(next[1]).not.toEqual(next[0]);
});

test('a saved snapshot opens as an adapter of the model', async () => {
  const { run, get, modelId } = ready;
  const saved = await run('save_weights_for_sampler', { model_id: modelId, path: 'peft', seq_id: 8 });
  expect(saved.json['path']).toContain('sampler_weights/peft');
  const link = await get(`training_runs/${modelId}/checkpoints/sampler_weights/peft/archive`);
  const tar = Buffer.from((await get(text(link.json['url']))).bytes);
  expect(
    JSON.parse(tar.subarray(512, 512 + parseInt(tar.subarray(124, 135).toString(), 8)).toString()),
  ).toMatchObject({ r: 4, lora_alpha: 32 });
  expect(tar.includes('adapter_model.safetensors')).toBe(true);
});

test('targets may be any tokens, several for a position', async () => {
  const { run, sessionId } = ready;
  const modelId = text((await run('create_model', modelBody(sessionId, 3))).json['model_id']);
  const targets = [9, 50, 50, 14, 3, 71, 60, 2];
  const answer = await run(
    'forward_backward',
    passBody(modelId, 1, [
      {
        model_input: textInput([5, 9, 14, 3]),
        loss_fn_inputs: {
          target_tokens: { data: targets, dtype: 'int64', shape: [4, 2] },
          weights: { data: targets.map(() => 0.25), dtype: 'float32', shape: [4, 2] },
        },
      },
    ]),
  );
  const got = numbers(answer.json['loss_fn_outputs']?.[0]?.['logprobs']?.['data']);
  // A fresh adapter changes nothing yet: these are the start model's.
  const direct = await engine.logprobs(
    targets.map((target, at) => ({
      tokens: [...[5, 9, 14, 3].slice(0, (at >> 1) + 1), target],
      positions: [(at >> 1) + 1],
    })),
    { weights: 'reference' },
  );
  expect(got).toEqual(direct.map(([value]) => value));
});

test('with the mean, the gradient of a step is that of the mean over its datums', async () => {
  const data: TrainDatum[] = sequences.map((tokens, n) => ({
    tokens: tokens.slice(0, -1),
    inputs: {
      target_tokens: { dtype: 'int64', data: tokens.slice(1), shape: [tokens.length - 1] },
      weights: { dtype: 'float32', data: tokens.slice(1).map(() => n + 1), shape: [tokens.length - 1] },
    },
  }));
  const loss = perWeight(makeLoss('cross_entropy', {}));
  const norm = async (batches: TrainDatum[][]) => {
    const backend = await openEngineBackend({ model, lossReduction: 'mean' });
    const trained = await backend.createModel(lora);
    for (const batch of batches) await trained.forwardBackward(batch, loss);
    const metrics = await trained.step(ADAM);
    await backend.close();
    return metrics['gradient_norm'] ?? NaN;
  };
  const fresh = await openLocalEngine({ model, thread: false, threads: 1, ...loraOptions(lora) });
  await fresh.forwardBackward(allPositions, (logprobs) => ({
    loss: 0,
    // Each datum's weights are equal, so their size cancels.
    gradients: logprobs.map((each) => each.map(() => -1 / each.length / 2)),
    metrics: {},
  }));
  const { gradientNorm } = await fresh.step(adam);
  await fresh.close();
  expect(await norm([data])).toBeCloseTo(gradientNorm, 6);
  expect(await norm(data.map((each) => [each]))).toBeCloseTo(gradientNorm, 6);
});

const CONFIGS: [LossName, Record<string, number>][] = [
  ['cross_entropy', {}],
  ['importance_sampling', {}],
  ['ppo', { clip_low_threshold: 0.8, clip_high_threshold: 1.2 }],
  ['cispo', { clip_low_threshold: 0.8, clip_high_threshold: 1.2 }],
  ['dro', { beta: 0.05 }],
];
test.each(CONFIGS)('the gradient of %s is that of its loss', (name, config) => {
  const rng = makeRng(3);
  const count = 40;
  const draw = (): number[] => Array.from({ length: count }, () => rng.next() * 2 - 1);
  const tensor = (data: number[]) => ({ dtype: 'float32' as const, data, shape: [count] });
  const q = draw();
  const datum: TrainDatum = {
    tokens: q.map(() => 1),
    inputs: { weights: tensor(draw()), logprobs: tensor(q), advantages: tensor(draw()) },
  };
  // Only the ratio is held fixed in cispo, so its derivative is taken of the part that moves.
  const inputs = name === 'cispo' ? ['logprobs', 'advantages'] : Object.keys(datum.inputs);
  const own = {
    ...datum,
    inputs: Object.fromEntries(inputs.map((key) => [key, datum.inputs[key] ?? tensor(q)])),
  };
  const used =
    name === 'cross_entropy' ? own : { ...own, inputs: { ...own.inputs, weights: tensor(q.map(() => 1)) } };
  const loss = makeLoss(name, config);
  const lp = Float32Array.from(draw());
  const { gradient } = loss(used, lp);
  for (let i = 0; i < count; i++) {
    const h = 1 / 128;
    const moved = (by: number): number =>
      loss(
        used,
        lp.map((value, j) => (j === i ? value + by : value)),
      ).loss;
    const ratio = Math.exp((lp[i] ?? 0) - (q[i] ?? 0));
    const nearEdge = [0.8, 1.2].some((edge) => Math.abs(ratio - edge) < 0.03);
    const isMoving = name === 'cispo' && ratio > 0.8 && ratio < 1.2;
    if (nearEdge || isMoving) continue;
    expect(Math.abs((moved(h) - moved(-h)) / (2 * h) - (gradient[i] ?? 0))).toBeLessThan(2e-3);
  }
});

test('losses are sums: known values of one token', () => {
  const one = (value: number) => ({ dtype: 'float32' as const, data: [value], shape: [1] });
  const at = (name: LossName, lp: number, q: number, a: number, config = {}) =>
    makeLoss(name, config)(
      { tokens: [1], inputs: { logprobs: one(q), advantages: one(a), weights: one(1) } },
      Float32Array.of(lp),
    );
  const clip = { clip_low_threshold: 0.8, clip_high_threshold: 1.2 };
  // r = e^0.5 = 1.6487: clipped for a good token, not for a bad one.
  expect(at('importance_sampling', -0.5, -1, 2).loss).toBeCloseTo(-2 * Math.exp(0.5), 6);
  expect(at('ppo', -0.5, -1, 2, clip)).toEqual({ loss: -2.4, gradient: Float32Array.of(0) });
  expect(at('ppo', -0.5, -1, -2, clip).loss).toBeCloseTo(2 * Math.exp(0.5), 6);
  expect(at('cispo', -0.5, -1, 2, clip)).toEqual({ loss: 1.2, gradient: Float32Array.of(-2.4) });
  expect(at('dro', -0.5, -1, 2, { beta: 0.4 }).loss).toBeCloseTo(1 + 0.5 * 0.4 * 0.25, 6);
});
