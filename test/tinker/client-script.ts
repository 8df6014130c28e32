/**
 * Random use of the client, the same for the same seed: what it was told is a list of lines, to be compared with those
 * of the same script under faults.
 *
 * A script is a few rounds. In a round calls are made without awaiting, of several models and samplers, also
 * ones that the service refuses; at its end all have settled. Ids that differ from one session to the next are masked.
 */
import type { Sampler, TinkerClient, TrainingModel } from '../../src/engine/tinker/client.ts';
import type { WireDatum } from '../../src/engine/tinker/chunks.ts';
import { messageOf, R3Error } from '../../src/lib/errors.ts';
import { makeRng, type Rng } from '../../src/lib/rng.ts';
import { SKYRL_JAX, STRICT, TCRL, type Quirks } from './quirks.ts';
import type { TinkerServerOptions } from './server.ts';

/** Datums in one request: calls have up to twice as many and more. */
const CHUNK_DATUMS = 3;

interface DrawnService extends Omit<TinkerServerOptions, 'backend'> {
  quirks: Quirks;
  /** Of the client. */
  dialect?: 'protobuf' | 'json';
}

/** A service to play on: strict or like a known one, in a hurry or not. */
export function drawService(seed: number): DrawnService {
  const rng = makeRng(seed, 1);
  return {
    quirks: rng.pick([STRICT, STRICT, SKYRL_JAX, TCRL]),
    clientConfig: {
      fwdbwd_max_chunk_len: CHUNK_DATUMS,
      ...(rng.below(3) === 0 ? { sample_max_concurrent_requests: 2 } : {}),
    },
    latencyMs: rng.pick([0, 0, 30]),
    tryAgainStatus: rng.pick([408, 200]),
    metadataAboveBytes: rng.pick([Infinity, 100]),
    maxSamplesInFlight: rng.pick([Infinity, Infinity, 2]),
    ...(rng.below(2) === 0 ? {} : { dialect: 'json' }),
  };
}

export async function playClient(client: TinkerClient, seed: number): Promise<string[]> {
  const rng = makeRng(seed, 2);
  const told: Promise<string>[] = [];
  const tell = <T>(what: string, work: Promise<T>): Promise<T> => {
    told.push(
      work.then(
        (value) => `${what} ${mask(value)}`,
        (error: unknown) => `${what} ${failureOf(error)}`,
      ),
    );
    return work;
  };
  const models: TrainingModel[] = [];
  // Some may be under way still.
  const samplers: Promise<Sampler>[] = [client.createSampler({ baseModel: BASE_MODEL })];
  const checkpoints: Promise<string | undefined>[] = [];
  let names = 0;
  const freshName = (kind: string): string => `${kind}-${names++}`;

  const addModel = async (): Promise<void> => {
    const lora = { rank: 4, seed: models.length, trainUnembed: false, trainMlp: true, trainAttn: true };
    const model = await tell('createModel', client.createModel({ baseModel: BASE_MODEL, lora }));
    // Services load weights into new models only.
    const path = rng.below(2) === 0 ? await checkpoints.at(-1) : undefined;
    if (path !== undefined) await tell('loadWeights', model.loadWeights(path, rng.below(2) === 0));
    models.push(model);
  };
  const sample = (): Promise<unknown> => {
    const request = drawSample(rng);
    return tell(
      'sample',
      rng.pick(samplers).then((sampler) => sampler.sample(request)),
    );
  };
  const sampleFrom = (made: Promise<Sampler>): Promise<unknown>[] => {
    samplers.push(made);
    return [drawSample(rng), drawSample(rng)].map((request) =>
      tell(
        'sample',
        made.then((sampler) => sampler.sample(request)),
      ),
    );
  };

  /** One call, or a few that belong together; nothing is awaited. */
  const calls: (() => Promise<unknown>[])[] = [
    () => [sample()],
    () => [sample(), sample(), sample()],
    () => [tell('forward', rng.pick(models).forward(drawDatums(rng), 'cross_entropy'))],
    () => [tell('forwardBackward', rng.pick(models).forwardBackward(drawDatums(rng), 'cross_entropy'))],
    () => {
      const model = rng.pick(models);
      return [
        tell('forwardBackward', model.forwardBackward(drawDatums(rng), 'cross_entropy')),
        tell('optimStep', model.optimStep(drawAdam(rng))),
      ];
    },
    () => [tell('optimStep', rng.pick(models).optimStep(drawAdam(rng)))],
    () => {
      const path = tell('saveWeights', rng.pick(models).saveWeights(freshName('state')));
      checkpoints.push(path.catch(() => undefined));
      return [path];
    },
    () => sampleFrom(rng.pick(models).saveForSampler()),
    () => {
      const path = rng.pick(models).saveForSamplerAs(freshName('adapter'));
      return sampleFrom(
        tell('saveForSamplerAs', path).then((modelPath) => client.createSampler({ modelPath })),
      );
    },
    () => [
      tell(
        'info',
        rng
          .pick(models)
          .info()
          .then(({ name, rank }) => ({ name, rank })),
      ),
    ],
    // Refused: a loss that there is not, and what follows it.
    () => {
      const model = rng.pick(models);
      return [
        tell('forwardBackward', model.forwardBackward(drawDatums(rng), 'odd')),
        tell('optimStep', model.optimStep(drawAdam(rng))),
      ];
    },
    // Fails when it is done: a name that is taken.
    () => {
      const model = rng.pick(models);
      const name = freshName('taken');
      return [tell('saveWeights', model.saveWeights(name)), tell('saveWeights', model.saveWeights(name))];
    },
  ];

  await addModel();
  for (let round = 1 + rng.below(2); round > 0; round--) {
    if (rng.below(3) === 0) await addModel();
    const work: Promise<unknown>[] = [];
    for (let count = 1 + rng.below(3); count > 0; count--) work.push(...rng.pick(calls)());
    await Promise.allSettled([...work, ...samplers]);
  }
  const last = await checkpoints.pop();
  if (last !== undefined) {
    await tell('weightsInfo', client.weightsInfo(last)).catch(() => undefined);
    await tell('deleteCheckpoint', client.deleteCheckpoint(last)).catch(() => undefined);
  }
  if (rng.below(2) === 0)
    await tell('unload', models[0]?.unload() ?? Promise.resolve()).catch(() => undefined);
  return Promise.all(told);
}

export const BASE_MODEL = 'models/tiny';
const VOCABULARY = 1000;

function drawTokens(rng: Rng, most: number): number[] {
  return Array.from({ length: 1 + rng.below(most) }, () => rng.below(VOCABULARY));
}

function drawSample(rng: Rng) {
  return {
    prompt: drawTokens(rng, 12),
    count: 1 + rng.below(4),
    maxTokens: 1 + rng.below(8),
    temperature: 1,
    // The server gives out seeds of its own where there is none, and counts them.
    seed: rng.seed(),
    promptLogprobs: rng.below(4) === 0,
  };
}

function drawDatums(rng: Rng): WireDatum[] {
  return Array.from({ length: 1 + rng.below(rng.below(3) === 0 ? 2 * CHUNK_DATUMS + 2 : 2) }, () => {
    const tokens = drawTokens(rng, 6);
    return {
      tokens,
      inputs: {
        target_tokens: { dtype: 'int64', data: tokens.map(() => rng.below(VOCABULARY)) },
        weights: { dtype: 'float32', data: tokens.map(() => rng.below(5) - 1) },
      },
    };
  });
}

function drawAdam(rng: Rng) {
  return {
    learningRate: 0.01 * (1 + rng.below(9)),
    beta1: 0.9,
    beta2: 0.95,
    epsilon: 1e-8,
    weightDecay: 0,
    gradClipNorm: 0,
  };
}

/** A value as text, without the ids that depend on how many sessions there were. */
function mask(value: unknown): string {
  const text = JSON.stringify(value, (name, each: unknown) => {
    if (name === 'modelId' || name === 'samplerId') return undefined;
    return each instanceof Float32Array ? [...each] : each;
  });
  return (text ?? '').replaceAll(/session-\d+|model_[0-9a-f]+/g, 'SESSION');
}

function failureOf(error: unknown): string {
  return error instanceof R3Error
    ? `failed: ${error.code}`
    : `failed with a fault of ours: ${messageOf(error)}`;
}
