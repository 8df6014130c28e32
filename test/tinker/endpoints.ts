/**
 * What each endpoint of the protocol does, from a request to a reply, without HTTP's own matters (server.ts).
 *
 * A request is checked whole before it gets a future: what is wrong with it is an HTTP status with a `detail`. What goes
 * wrong afterwards is the future's `{error, category}`. An operation is known by its sequence number: the same body
 * again gets the same reply and does nothing, another body under that number is refused.
 */
import { createHash } from 'node:crypto';
import {
  encodeForwardBackwardOutput,
  encodeSampleResponse,
  type ForwardBackwardOutput,
  type SampleResponse,
} from '../../src/engine/tinker/messages.ts';
import { messageOf } from '../../src/lib/errors.ts';
import { hash32 } from '../../src/lib/rng.ts';
import type { AdamFields, Backend, BackendModel, LoraFields } from './backend.ts';
import { isReady, type Future, type FutureKind, type Futures, type Outcome } from './futures.ts';
import { makeLoss, perWeight } from './losses.ts';
import type { Quirks } from './quirks.ts';
import { OperationFailure, Refusal } from './refusal.ts';
import {
  checkTokens,
  checkTrainRequest,
  readBody,
  readJsonTrainRequest,
  readProtobufTrainRequest,
  tokensOf,
  type BodyOf,
} from './requests.ts';
import { makeSequence } from './sequence.ts';
import { tarOf } from './tar.ts';
import type { Timers } from './timers.ts';
import type { Answered, Checkpoint, Model, Reply, Run, SamplingSession, World } from './world.ts';

export interface Call {
  method: string;
  /** Below `/api/v1/`, without the query. */
  path: string;
  query: URLSearchParams;
  body: Uint8Array;
  isProtobuf: boolean;
  acceptsProtobuf: boolean;
  /** Scheme, host, port and prefix, for links. */
  origin: string;
  /** The fault `full` meets this request. */
  isFull: boolean;
}

export interface EndpointOptions {
  backend: Backend;
  quirks: Quirks;
  world: World;
  futures: Futures;
  now: () => number;
  timers: Timers;
  graceMs: number;
  /** What `client/config` announces beside the defaults. */
  clientConfig: Record<string, unknown>;
  maxModels: number;
  maxRank: number;
  /** More samples at once than this are answered 429. */
  maxSamplesInFlight: number;
  /** A result of more bytes is announced by its size first, to those who allow it. */
  metadataAboveBytes: number;
  tryAgainStatus: 408 | 200;
  /** `none`: as of services without them. */
  archives: 'link' | 'redirect' | 'none';
  /** Refuses a session by its sdk_version, with this text. */
  refuseVersion: ((version: string) => string | undefined) | undefined;
  detokenize: ((tokens: readonly number[]) => string) | undefined;
}

type Handler = (call: Call) => Reply | Promise<Reply>;

export interface Endpoints {
  handle(call: Call): Reply | Promise<Reply>;
  /** The highest number of operations that were under way at once. */
  peakInFlight(): number;
}

const CHECKPOINT_PATH = /^tinker:\/\/([^/]+)\/(?:(weights|sampler_weights)\/)?([^/]+)$/;
const CHECKPOINT_ROUTE =
  /^training_runs\/([^/]+)\/checkpoints\/(weights|sampler_weights)\/([A-Za-z0-9_-][A-Za-z0-9._-]*)(\/archive)?$/;

export function json(status: number, body: unknown): Reply {
  return { status, body: JSON.stringify(body), headers: { 'content-type': 'application/json' } };
}

export function makeEndpoints(options: EndpointOptions): Endpoints {
  const { backend, quirks, world, futures, now } = options;
  const { baseModel, contextLength, vocabularySize } = backend;
  const archives = new Map<string, string>();
  let sessionCount = 0;
  let modelCount = 0;
  let peak = 0;

  /** Opens a future and does the work when `start` calls what it is given; no error gets past it. */
  function promise(
    kind: FutureKind,
    sessionId: string,
    work: () => Promise<Outcome>,
    start: (run: () => Promise<void>) => void,
  ): Future {
    const future = futures.open(kind, sessionId);
    peak = Math.max(peak, futures.pendingCount());
    start(async () => {
      try {
        futures.settle(future, await work());
      } catch (error) {
        const category = error instanceof OperationFailure ? error.category : 'server';
        futures.settle(future, { kind: 'failed', error: messageOf(error), category });
      }
    });
    return future;
  }
  const accepted = (future: Future, extra: Record<string, unknown> = {}): Reply => ({
    ...json(200, { request_id: future.id, ...extra }),
    requestId: future.id,
  });

  /** The reply to the same request before, or a refusal where the body differs. */
  function before<K>(
    answered: ReadonlyMap<K, Answered>,
    key: K,
    digest: string,
    what: string,
  ): Reply | undefined {
    const earlier = answered.get(key);
    if (earlier === undefined || earlier.digest === digest) return earlier?.reply;
    throw new Refusal(
      400,
      `${what}: expected the same request again under ${String(key)}, got another; use a fresh number`,
    );
  }

  /**
   * A training operation: once per (model_id, seq_id), in the order of the numbers. A number that a refused request
   * has used up cannot come again.
   */
  function operate(
    call: Call,
    model: Model,
    seqId: number,
    kind: FutureKind,
    check: () => (trained: BackendModel) => Promise<Outcome>,
  ): Reply {
    const digest = digestOf(call);
    const earlier = before(model.answered, seqId, digest, 'seq_id');
    if (earlier !== undefined) return earlier;
    if (model.refused.has(seqId))
      throw new Refusal(
        400,
        `seq_id: expected a fresh number, got ${seqId}, which a refused request has used up`,
      );
    let work: (trained: BackendModel) => Promise<Outcome>;
    try {
      work = check();
    } catch (error) {
      // A gap is legal: a refused request has used its number up.
      model.refused.add(seqId);
      model.sequence.giveUp(seqId);
      throw error;
    }
    const run = async (): Promise<Outcome> => {
      if (model.backend === undefined)
        throw new OperationFailure('server', model.failure ?? 'the model was not made');
      return work(model.backend);
    };
    const future = promise(kind, model.session.id, run, (begin) => model.sequence.add(seqId, begin));
    const reply = accepted(future, { model_id: model.id });
    model.answered.set(seqId, { digest, reply });
    return reply;
  }

  function train(call: Call, name: 'forward' | 'forward_backward'): Reply {
    const request =
      call.isProtobuf && name === 'forward_backward'
        ? readProtobufTrainRequest(call.body)
        : readJsonTrainRequest(name, call.body);
    const model = world.model(request.modelId);
    return operate(call, model, request.seqId, 'train', () => {
      const isMean = quirks.lossReduction === 'mean';
      const data = request.data();
      const limits = { contextLength, vocabularySize, losses: quirks.losses, takesWeights: isMean };
      const lossName = checkTrainRequest(request, data, limits);
      const plain = makeLoss(lossName, request.lossConfig);
      const loss = isMean ? perWeight(plain) : plain;
      return async (trained) => {
        const result = request.forwardOnly
          ? await trained.forward(data, loss)
          : await trained.forwardBackward(data, loss);
        const tokens = data.reduce((sum, datum) => sum + datum.tokens.length, 0);
        const output: ForwardBackwardOutput = {
          outputType: 'scalar',
          outputs: result.logprobs.map((logprobs, n) => ({
            logprobs: {
              dtype: 'float32',
              data: logprobs,
              shape: [...(data[n]?.inputs['target_tokens']?.shape ?? [])],
            },
          })),
          // Names are `name:reduction`; the client merges chunks by the reduction.
          metrics: quirks.lossMetrics ? { 'loss:sum': result.loss, 'tokens:sum': tokens } : {},
        };
        return { kind: 'train', output };
      };
    });
  }

  /** Keeps what a save has made under its path. A name that is taken is the future's error, never HTTP 409. */
  async function keep(
    model: Model,
    kind: Checkpoint['kind'],
    body: { path?: string | undefined; ttl_seconds?: number | undefined; overwrite?: boolean | undefined },
    save: () => Promise<string>,
  ): Promise<string> {
    const name = body.path ?? '';
    const run = runOf(model);
    const path = `tinker://${run.id}/${kind}/${name}`;
    const earlier = world.checkpoint(path);
    if (earlier !== undefined && body.overwrite !== true) {
      throw new OperationFailure('user', `path: expected a name that is free, got ${path}, which exists`);
    }
    const key = await save();
    if (earlier !== undefined) backend.remove(earlier.key);
    const expiresMs = body.ttl_seconds === undefined ? undefined : now() + body.ttl_seconds * 1000;
    world.checkpoints.set(path, {
      run: run.id,
      kind,
      name,
      path,
      key,
      lora: model.lora,
      timeMs: now(),
      expiresMs,
    });
    return path;
  }
  function runOf(model: Model): Run {
    const run = world.runs.get(model.id) ?? {
      id: model.id,
      lora: model.lora,
      metadata: model.metadata,
      lastRequestMs: model.lastRequestMs,
    };
    world.runs.set(run.id, run);
    return run;
  }
  /** By a path of three parts, or of two where the server gave out such. */
  function checkpointAt(path: string, kinds: readonly Checkpoint['kind'][]): Checkpoint {
    const [, run, kind = 'sampler_weights', name] = CHECKPOINT_PATH.exec(path) ?? [];
    if (run === undefined) {
      throw new Refusal(
        400,
        `path: expected tinker://RUN/weights/NAME or tinker://RUN/sampler_weights/NAME, got ${path}`,
      );
    }
    const checkpoint = world.checkpoint(`tinker://${run}/${kind}/${name}`);
    if (checkpoint === undefined)
      throw new Refusal(404, `path: expected a checkpoint that exists, got ${path}`);
    if (!kinds.includes(checkpoint.kind))
      throw new Refusal(400, `path: expected ${kinds.join(' or ')}, got ${path}`);
    return checkpoint;
  }
  function addSampler(
    session: SamplingSession['session'],
    seq: number,
    key: string | undefined,
    modelPath?: string,
  ) {
    const name = `${session.id}:sample:${seq}`;
    const id = quirks.ids === 'canonical' ? name : `sampling_${digestText(name)}`;
    const sampler = { id, session, modelPath, backend: backend.sampler(key), answered: new Map() };
    world.samplers.set(id, sampler);
    return sampler;
  }
  function checkBaseModel(name: string): void {
    if (name !== baseModel) throw new Refusal(400, `base_model: expected ${baseModel}, got ${name}`);
  }

  const posts: Record<string, Handler> = {
    'client/config': ({ body }) => {
      readBody('client/config', body);
      // Plain HTTP/1.1, and every optional feature off.
      return json(200, { use_pyqwest_transport: false, pjwt_auth_enabled: false, ...options.clientConfig });
    },
    'client/dynamic_config': ({ body }) => {
      readBody('client/dynamic_config', body);
      return json(200, { refresh_interval_sec: 300 });
    },
    create_session: ({ body }) => {
      const { sdk_version } = readBody('create_session', body);
      const refusal = options.refuseVersion?.(sdk_version);
      if (refusal !== undefined) throw new Refusal(400, refusal);
      const number = sessionCount++;
      const id = quirks.ids === 'canonical' ? `session-${number}` : `session_${digestText(String(number))}`;
      world.sessions.set(id, { id, lastHeartbeatMs: now(), isExpired: false, answered: new Map() });
      return json(200, { type: 'create_session', session_id: id });
    },
    session_heartbeat: ({ body }) => {
      world.session(readBody('session_heartbeat', body).session_id).lastHeartbeatMs = now();
      return json(200, { type: 'session_heartbeat' });
    },
    telemetry: ({ body }) => {
      readBody('telemetry', body);
      return json(200, { status: 'accepted' });
    },

    create_model: (call) => {
      const body = readBody('create_model', call.body);
      const session = world.session(body.session_id);
      const key = `model ${body.model_seq_id}`;
      const digest = digestOf(call);
      const earlier = before(session.answered, key, digest, 'model_seq_id');
      if (earlier !== undefined) return earlier;
      checkBaseModel(body.base_model);
      const lora = loraOf(body.lora_config);
      world.sweep();
      const name = `${session.id}:train:${body.model_seq_id}`;
      const model: Model = {
        id: quirks.ids === 'canonical' ? name : `model_${digestText(`${name} ${modelCount++}`)}`,
        session,
        lora,
        metadata: body.user_metadata ?? {},
        sequence: makeSequence(0, options.graceMs, options.timers),
        answered: new Map(),
        refused: new Set(),
        backend: undefined,
        failure: undefined,
        lastRequestMs: now(),
      };
      const isFull = call.isFull || world.models.size >= options.maxModels;
      if (!isFull) world.models.set(model.id, model);
      const work = async (): Promise<Outcome> => {
        if (isFull) {
          throw new OperationFailure(
            'server',
            `Maximum number of LoRA adapters reached (${options.maxModels})`,
          );
        }
        model.backend = await backend.createModel(lora).catch((error: unknown) => {
          model.failure = messageOf(error);
          throw error;
        });
        // Its session may have ended meanwhile.
        if (!world.models.has(model.id)) await model.backend.close();
        runOf(model);
        return { kind: 'json', body: { model_id: model.id, type: 'create_model' } };
      };
      const future = promise('other', session.id, work, (run) => model.sequence.add(0, run));
      const reply = accepted(future, { model_id: model.id });
      session.answered.set(key, { digest, reply });
      return reply;
    },
    get_info: ({ body }) => {
      const { id, lora } = world.model(readBody('get_info', body).model_id);
      return json(200, {
        type: 'get_info',
        model_id: id,
        model_name: baseModel,
        model_data: { model_name: baseModel, tokenizer_id: baseModel },
        is_lora: true,
        lora_rank: lora.rank,
      });
    },
    unload_model: ({ body }) => {
      const model = world.model(readBody('unload_model', body).model_id);
      if (!model.sequence.isIdle()) {
        throw new Refusal(400, `model_id: expected a model without operations under way, got ${model.id}`);
      }
      const work = async (): Promise<Outcome> => {
        await world.release(model);
        return { kind: 'json', body: { model_id: model.id, type: 'unload_model' } };
      };
      return accepted(promise('other', model.session.id, work, (run) => void run()));
    },

    forward_backward: (call) => train(call, 'forward_backward'),
    forward: (call) => train(call, 'forward'),
    optim_step: (call) => {
      const { model_id, seq_id, adam_params } = readBody('optim_step', call.body);
      return operate(call, world.model(model_id), seq_id, 'other', () => {
        const adam: AdamFields = { ...adam_params };
        for (const name of quirks.ignoredAdam) adam[name] = ADAM_DEFAULTS[name];
        return async (trained) => ({ kind: 'json', body: { metrics: await trained.step(adam) } });
      });
    },
    save_weights: (call) => {
      const body = readBody('save_weights', call.body);
      const model = world.model(body.model_id);
      return operate(call, model, body.seq_id, 'other', () => async (trained) => {
        const path = await keep(model, 'weights', body, trained.saveState);
        return { kind: 'json', body: { path, type: 'save_weights' } };
      });
    },
    save_weights_for_sampler: (call) => {
      const body = readBody('save_weights_for_sampler', call.body);
      const { path, sampling_session_seq_id: seq } = body;
      const model = world.model(body.model_id);
      return operate(call, model, body.seq_id, 'other', () => {
        if ((path === undefined) === (seq === undefined)) {
          throw new Refusal(400, 'path: expected either path or sampling_session_seq_id, got both or none');
        }
        const type = 'save_weights_for_sampler';
        if (seq === undefined) {
          return async (trained) => {
            const whole = await keep(model, 'sampler_weights', body, trained.saveSnapshot);
            const told = quirks.samplerPaths === 'two-part' ? whole.replace('/sampler_weights/', '/') : whole;
            return { kind: 'json', body: { path: told, type } };
          };
        }
        // The number is the session's: create_sampling_session counts with it.
        const { session } = model;
        const digest = digestOf(call);
        before(session.answered, `sampling ${seq}`, digest, 'sampling_session_seq_id');
        session.answered.set(`sampling ${seq}`, { digest, reply: json(200, {}) });
        return async (trained) => {
          const key = await trained.saveSnapshot();
          const { id } = addSampler(session, seq, key);
          return { kind: 'json', body: { sampling_session_id: id, type } };
        };
      });
    },
    load_weights: (call) => {
      const body = readBody('load_weights', call.body);
      const model = world.model(body.model_id);
      return operate(call, model, body.seq_id, 'other', () => {
        if (model.answered.size > 0) {
          throw new Refusal(
            400,
            "load_weights: expected to be the model's first request, got a later one; create a model for it",
          );
        }
        const checkpoint = checkpointAt(body.path, ['weights']);
        return async (trained) => {
          if (checkpoint.lora.rank !== model.lora.rank) {
            throw new OperationFailure(
              'user',
              `rank: expected ${checkpoint.lora.rank} as ${body.path} has, got ${model.lora.rank}`,
            );
          }
          await trained.load(checkpoint.key, body.optimizer);
          return { kind: 'json', body: { path: body.path, model_id: model.id, type: 'load_weights' } };
        };
      });
    },
    weights_info: ({ body }) => {
      const { lora } = checkpointAt(readBody('weights_info', body).tinker_path, [
        'weights',
        'sampler_weights',
      ]);
      const { rank, train_unembed, train_mlp, train_attn } = lora;
      return json(200, {
        base_model: baseModel,
        is_lora: true,
        lora_rank: rank,
        train_unembed,
        train_mlp,
        train_attn,
      });
    },

    create_sampling_session: (call) => {
      const body = readBody('create_sampling_session', call.body);
      const session = world.session(body.session_id);
      const seq = body.sampling_session_seq_id;
      const key = `sampling ${seq}`;
      const digest = digestOf(call);
      const earlier = before(session.answered, key, digest, 'sampling_session_seq_id');
      if (earlier !== undefined) return earlier;
      if ((body.base_model === undefined) === (body.model_path === undefined)) {
        throw new Refusal(400, 'base_model: expected either base_model or model_path, got both or none');
      }
      if (body.base_model !== undefined) checkBaseModel(body.base_model);
      const checkpoint =
        body.model_path === undefined ? undefined : checkpointAt(body.model_path, ['sampler_weights']);
      const { id } = addSampler(session, seq, checkpoint?.key, body.model_path);
      const reply = json(200, { type: 'create_sampling_session', sampling_session_id: id });
      session.answered.set(key, { digest, reply });
      return reply;
    },
    asample: (call) => {
      const body = readBody('asample', call.body);
      const sampler = world.sampler(body.sampling_session_id);
      const key = String(body.seq_id);
      const digest = digestOf(call);
      const earlier = before(sampler.answered, key, digest, 'seq_id');
      if (earlier !== undefined) return earlier;
      const work = sampling(body, sampler);
      // Back-pressure: the client slows down and asks again.
      if (samplesInFlight >= options.maxSamplesInFlight) {
        throw new Refusal(
          429,
          `asample: expected at most ${options.maxSamplesInFlight} samples at once, got more`,
        );
      }
      samplesInFlight++;
      const done = async (): Promise<Outcome> => work().finally(() => samplesInFlight--);
      const future = promise('sample', sampler.session.id, done, (run) => void run());
      const ids = Array.from({ length: body.num_samples }, (_, i) => `${future.id}-${i}`);
      const reply = accepted(future, quirks.sequenceIds ? { sample_sequence_ids: ids } : {});
      sampler.answered.set(key, { digest, reply });
      return reply;
    },

    retrieve_future: async ({ body, acceptsProtobuf }) => {
      const { request_id: id, allow_metadata_only: allowsMetadata = false } = readBody(
        'retrieve_future',
        body,
      );
      const future = await futures.poll(id);
      if (future === 404) throw new Refusal(404, `request_id: expected one that exists, got ${id}`);
      if (future === 410) throw new Refusal(410, `request_id: expected one whose result is kept, got ${id}`);
      if (!isReady(future) || future.outcome === undefined) {
        return json(options.tryAgainStatus, { type: 'try_again', request_id: id, queue_state: 'active' });
      }
      const reply = replyOf(future.outcome, acceptsProtobuf);
      // The size first, once, so that the client can make room.
      const size = Buffer.byteLength(reply.body);
      if (allowsMetadata && !future.metadataGiven && size > options.metadataAboveBytes) {
        future.metadataGiven = true;
        return json(200, { status: 'complete_metadata', response_payload_size: size });
      }
      return reply;
    },
  };
  let samplesInFlight = 0;
  let seeds = 0;

  /** The result in the form that the poll accepts. Only results of passes and of samples have one in protobuf. */
  function replyOf(outcome: Outcome, acceptsProtobuf: boolean): Reply {
    const isProtobuf = acceptsProtobuf && quirks.dialects.includes('protobuf');
    const bytes = (body: Uint8Array): Reply => ({
      status: 200,
      headers: { 'content-type': 'application/x-protobuf' },
      body,
    });
    switch (outcome.kind) {
      case 'json':
        return json(200, outcome.body);
      case 'train':
        return isProtobuf
          ? bytes(encodeForwardBackwardOutput(outcome.output))
          : json(200, jsonOfOutput(outcome.output));
      case 'sample':
        return isProtobuf
          ? bytes(encodeSampleResponse(outcome.response))
          : json(200, jsonOfResponse(outcome.response));
      case 'failed':
        if (quirks.failures === 'status-400') return json(400, { detail: outcome.error });
        return json(200, { error: outcome.error, category: outcome.category });
      default:
        return outcome satisfies never;
    }
  }

  function loraOf(config: BodyOf<'create_model'>['lora_config']): LoraFields {
    const { rank, seed, train_unembed, train_mlp, train_attn } = config;
    if (rank > options.maxRank || !Number.isInteger(Math.log2(rank))) {
      throw new Refusal(
        400,
        `lora_config.rank: expected a power of two of at most ${options.maxRank}, got ${rank}`,
      );
    }
    if (!train_mlp && !train_attn)
      throw new Refusal(400, 'lora_config: expected train_mlp or train_attn, got neither');
    if (train_unembed && !backend.trainsUnembed && quirks.unembed === 'refused') {
      throw new Refusal(
        400,
        'lora_config.train_unembed: expected false (this model does not train its output head), got true',
      );
    }
    return {
      rank,
      train_unembed: train_unembed && backend.trainsUnembed,
      train_mlp,
      train_attn,
      ...(seed === undefined ? {} : { seed }),
    };
  }

  /** Checks a sample request; returns its work. */
  function sampling(body: BodyOf<'asample'>, sampler: SamplingSession): () => Promise<Outcome> {
    const prompt = tokensOf(body.prompt);
    checkTokens(prompt, 'prompt', vocabularySize);
    const { max_tokens, seed, stop, temperature, top_k, top_p } = body.sampling_params;
    if (max_tokens === undefined && quirks.requiresMaxTokens) {
      throw new Refusal(422, 'sampling_params.max_tokens: expected a number, got none');
    }
    const room = contextLength - prompt.length;
    const maxTokens = max_tokens ?? room;
    if (room < 1 || maxTokens > room) {
      throw new Refusal(
        400,
        `max_tokens: expected prompt and max_tokens within ${contextLength} tokens, got ${prompt.length} and ${maxTokens}`,
      );
    }
    if (typeof stop === 'string' && !quirks.bareStringStop) {
      throw new Refusal(422, 'sampling_params.stop: expected a list, got a text');
    }
    const stops = typeof stop === 'string' ? [stop] : (stop ?? []);
    const stopTexts = stops.filter((each) => typeof each === 'string');
    const { detokenize } = options;
    if (stopTexts.length > 0 && detokenize === undefined) {
      throw new Refusal(
        400,
        'sampling_params.stop: expected token ids (this model has no tokenizer), got texts',
      );
    }
    const order = {
      prompt,
      count: body.num_samples,
      maxTokens,
      temperature,
      seed: seed === undefined ? hash32(seeds++, 0, 0) : foldSeed(BigInt(seed)),
      stopIds: stops.filter((each) => typeof each === 'number'),
      ...(top_k === -1 ? {} : { topK: top_k }),
      ...(top_p === 1 ? {} : { topP: top_p }),
    };
    const savedFrom = sampler.modelPath?.split('/')[2];
    return async () => {
      if (quirks.samplesLoadedOnly && savedFrom !== undefined && !world.models.has(savedFrom)) {
        throw new OperationFailure('user', `Model ${savedFrom} not loaded`);
      }
      const sampled = await sampler.backend.sample(order);
      const scored = body.prompt_logprobs === true ? await sampler.backend.promptLogprobs(prompt) : undefined;
      // As long as the prompt: the first token has none.
      const first = quirks.promptLogprobs === 'whole' ? [null] : [];
      const response: SampleResponse = {
        sequences: sampled.map(({ tokens, logprobs, stopReason }) => {
          const end = detokenize === undefined ? undefined : endOfText(tokens, stopTexts, detokenize);
          return {
            tokens: tokens.slice(0, end),
            logprobs: Array.from(logprobs).slice(0, end),
            stopReason: end === undefined ? stopReason : 'stop',
          };
        }),
        promptLogprobs: scored === undefined ? null : [...first, ...scored],
        cachedPromptTokens: 0,
      };
      return { kind: 'sample', response };
    };
  }

  function describeCheckpoint({ kind, name, path, timeMs, expiresMs }: Checkpoint) {
    return {
      checkpoint_id: `${kind}/${name}`,
      checkpoint_type: kind === 'weights' ? 'training' : 'sampler',
      time: new Date(timeMs).toISOString(),
      tinker_path: path,
      public: false,
      ...(expiresMs === undefined ? {} : { expires_at: new Date(expiresMs).toISOString() }),
    };
  }
  const checkpointsOf = (run?: string): Checkpoint[] =>
    [...world.checkpoints.keys()].flatMap((path) => {
      const checkpoint = world.checkpoint(path);
      return checkpoint === undefined || (run !== undefined && checkpoint.run !== run) ? [] : [checkpoint];
    });
  function describeRun({ id, lora, metadata, lastRequestMs }: Run) {
    const last = (kind: Checkpoint['kind']) => {
      const checkpoint = checkpointsOf(id).findLast((each) => each.kind === kind);
      return checkpoint === undefined ? null : describeCheckpoint(checkpoint);
    };
    return {
      training_run_id: id,
      base_model: baseModel,
      model_owner: 'owner',
      is_lora: true,
      corrupted: false,
      lora_rank: lora.rank,
      last_request_time: new Date(world.models.get(id)?.lastRequestMs ?? lastRequestMs).toISOString(),
      last_checkpoint: last('weights'),
      last_sampler_checkpoint: last('sampler_weights'),
      user_metadata: metadata,
    };
  }
  function foundRun(id: string): Run {
    const run = world.runs.get(decodeURIComponent(id));
    if (run === undefined) throw new Refusal(404, `training_run_id: expected one that exists, got ${id}`);
    return run;
  }
  function page<T>(query: URLSearchParams, items: T[]) {
    const [limit, offset] = [Number(query.get('limit') ?? 100), Number(query.get('offset') ?? 0)];
    if (!(Number.isInteger(limit) && Number.isInteger(offset) && limit > 0 && offset >= 0)) {
      throw new Refusal(400, `limit: expected whole numbers, got ${query.toString()}`);
    }
    return {
      items: items.slice(offset, offset + limit),
      cursor: { offset, limit, total_count: items.length },
    };
  }

  /** Reading and deleting by path. */
  function manage({ method, path, query, origin }: Call): Reply {
    const get = method === 'GET';
    if (get && path === 'healthz') return json(200, { status: 'ok' });
    if (get && path === 'get_server_capabilities') {
      return json(200, { supported_models: [{ model_name: baseModel, max_context_length: contextLength }] });
    }
    const [, samplerId] = /^samplers\/([^/]+)$/.exec(path) ?? [];
    if (get && samplerId !== undefined) {
      const { id, modelPath } = world.sampler(decodeURIComponent(samplerId));
      return json(200, {
        sampler_id: id,
        base_model: baseModel,
        ...(modelPath === undefined ? {} : { model_path: modelPath }),
      });
    }
    if (get && path === 'training_runs') {
      const { items, cursor } = page(query, [...world.runs.values()]);
      return json(200, { training_runs: items.map(describeRun), cursor });
    }
    if (get && path === 'checkpoints') {
      const { items, cursor } = page(query, checkpointsOf());
      return json(200, { checkpoints: items.map(describeCheckpoint), cursor });
    }
    const [, runId, list] = /^training_runs\/([^/]+)(\/checkpoints)?$/.exec(path) ?? [];
    if (get && runId !== undefined) {
      const run = foundRun(runId);
      return list === undefined
        ? json(200, describeRun(run))
        : json(200, { checkpoints: checkpointsOf(run.id).map(describeCheckpoint) });
    }
    const [, sessionId] = /^sessions\/([^/]+)$/.exec(path) ?? [];
    if (get && sessionId !== undefined) {
      const session = world.session(decodeURIComponent(sessionId));
      return json(200, {
        training_run_ids: [...world.models.values()]
          .filter((each) => each.session === session)
          .map(({ id }) => id),
        sampler_ids: [...world.samplers.values()]
          .filter((each) => each.session === session)
          .map(({ id }) => id),
      });
    }
    const [, ownerId, kind, name, isArchive] = CHECKPOINT_ROUTE.exec(path) ?? [];
    if (ownerId !== undefined) {
      const checkpoint = checkpointAt(`tinker://${foundRun(ownerId).id}/${kind}/${name}`, [
        'weights',
        'sampler_weights',
      ]);
      if (method === 'DELETE' && isArchive === undefined) {
        world.checkpoints.delete(checkpoint.path);
        // A sampling session of this checkpoint stays what it is: the backend's files go when nobody samples from them.
        if (![...world.samplers.values()].some(({ modelPath }) => modelPath === checkpoint.path)) {
          backend.remove(checkpoint.key);
        }
        return { status: 204, body: '' };
      }
      if (get && isArchive !== undefined) {
        if (options.archives === 'none') throw new Refusal(405, 'Method Not Allowed');
        archives.set(checkpoint.key, checkpoint.path);
        const url = `${origin}/archives/${checkpoint.key}`;
        const expires = new Date(now() + 3_600_000).toISOString();
        return options.archives === 'redirect'
          ? { status: 302, headers: { location: url, expires }, body: '' }
          : json(200, { url, expires });
      }
    }
    const [, archive = ''] = /^archives\/([^/]+)$/.exec(path) ?? [];
    if (get && archives.has(archive)) {
      checkpointAt(archives.get(archive) ?? '', ['weights', 'sampler_weights']);
      return {
        status: 200,
        headers: { 'content-type': 'application/x-tar' },
        body: tarOf(backend.files(archive)),
      };
    }
    throw new Refusal(404, `path: expected an endpoint of the protocol, got ${method} ${path}`);
  }

  return {
    handle(call) {
      const { method, path, isProtobuf } = call;
      const post = method === 'POST' ? posts[path] : undefined;
      const isMissing =
        (path === 'client/config' && !quirks.clientConfig) ||
        (path === 'client/dynamic_config' && !quirks.dynamicConfig);
      if (isMissing) throw new Refusal(404, `path: expected an endpoint of this server, got ${path}`);
      if (isProtobuf && path !== 'forward_backward') {
        throw new Refusal(415, `content-type: expected application/json for ${path}, got protobuf`);
      }
      const isTraining = path === 'forward_backward' || path === 'forward';
      const dialect = isProtobuf ? 'protobuf' : 'json';
      if (isTraining && !quirks.dialects.includes(dialect)) {
        throw new Refusal(
          415,
          `content-type: expected ${quirks.dialects.join(' or ')} for ${path}, got ${dialect}`,
        );
      }
      return post === undefined ? manage(call) : post(call);
    },
    peakInFlight: () => peak,
  };
}

const ADAM_DEFAULTS = { beta1: 0.9, beta2: 0.95, eps: 1e-12, weight_decay: 0, grad_clip_norm: 0 } as const;

/** Of the endpoint and the body: two requests with the same digest are the same request. */
function digestOf({ path, body }: Call): string {
  return createHash('sha1').update(path).update('\n').update(body).digest('base64');
}

function digestText(text: string): string {
  return createHash('sha1').update(text).digest('hex').slice(0, 8);
}

/** 32 bits of a 64-bit seed; a small seed is itself. */
function foldSeed(seed: bigint): number {
  const low = Number(seed & 0xffffffffn);
  const high = Number((seed >> 32n) & 0xffffffffn);
  return high === 0 ? low : hash32(low, high, 0);
}

/** How many tokens there are up to the first that completes one of the texts. */
function endOfText(
  tokens: readonly number[],
  texts: readonly string[],
  detokenize: (tokens: readonly number[]) => string,
): number | undefined {
  if (texts.length === 0) return undefined;
  const end = tokens.findIndex((_, i) => {
    const text = detokenize(tokens.slice(0, i + 1));
    return texts.some((each) => text.includes(each));
  });
  return end < 0 ? undefined : end + 1;
}

function jsonOfOutput({ outputType, outputs, metrics }: ForwardBackwardOutput) {
  return {
    loss_fn_output_type: outputType,
    loss_fn_outputs: outputs.map((output) =>
      Object.fromEntries(
        Object.entries(output).map(([name, { data, dtype, shape }]) => [
          name,
          { data: Array.from(data), dtype, shape },
        ]),
      ),
    ),
    metrics,
  };
}

function jsonOfResponse({ sequences, promptLogprobs }: SampleResponse) {
  return {
    type: 'sample',
    sequences: sequences.map(({ tokens, logprobs, stopReason }) => ({
      stop_reason: stopReason,
      tokens,
      logprobs,
    })),
    prompt_logprobs: promptLogprobs,
    topk_prompt_logprobs: null,
  };
}
