/**
 * A client of a Tinker-compatible service: models that are trained, samplers, checkpoints.
 *
 * Typed calls over session.ts, futures.ts and the codecs; no wire name leaves this folder. Calls of one model are
 * sent one after the other in the order in which they were made, each with the next sequence id, and their results awaited side by side, so
 * forwardBackward and optimStep may be called without awaiting in between. When one is refused, those already waiting behind it are not sent.
 * Whatever is resent is the same bytes under the same id, which a service carries out once. Nothing of the method is
 * known here, and nothing of which options a service ignores.
 */
import { R3Error } from '../../lib/errors.ts';
import { packageVersion } from '../../lib/version.ts';
import { makeBudget } from './budget.ts';
import { systemClock, type Clock } from '../clock.ts';
import { call, GONE, LIMITS, makeNotice, objectOf, type Call, type Context, type Limits } from './context.ts';
import { badAnswer, makeRedact } from './errors.ts';
import { submit, retrieve, type Decode } from './futures.ts';
import { openRequests, type Requests } from './requests.ts';
import { writeJson } from './json.ts';
import { download } from './download.ts';
import { makeSamplers, type Sampler } from './sampler.ts';
import { openSession, type Dialect } from './session.ts';
import { makeTrainingModel, type TrainingModel } from './training-model.ts';

export type { Sampler } from './sampler.ts';
export type { TrainingModel, WireAdam } from './training-model.ts';

export interface TinkerClientOptions {
  /** Without `/api/v1`. */
  url: string;
  apiKey?: string | undefined;
  /** Default: as the service shows it. */
  dialect?: Dialect | undefined;
  /** Ends every call at once. */
  signal?: AbortSignal | undefined;
  /** Told what a person should know: pauses, resends that go on, what the service says. One line each, without the key. */
  onNotice?: ((text: string) => void) | undefined;
  limits?: Partial<Limits> | undefined;
  clock?: Clock | undefined;
  /** What carries requests. Default: the network. */
  http?: Requests | undefined;
}

export interface LoraOptions {
  rank: number;
  seed?: number | undefined;
  trainUnembed: boolean;
  trainMlp: boolean;
  trainAttn: boolean;
}

export interface ClientStats {
  /** Requests without polls and heartbeats, and how many of them were sent again. */
  calls: number;
  resent: number;
  polls: number;
  /** Of bodies. */
  bytesOut: number;
  bytesIn: number;
}

export interface TinkerClient {
  readonly dialect: Dialect;
  readonly sessionId: string;
  supportedModels(): Promise<{ name: string; maxContextLength?: number }[]>;
  createModel(options: {
    baseModel: string;
    lora: LoraOptions;
    userMetadata?: Readonly<Record<string, string>> | undefined;
  }): Promise<TrainingModel>;
  createSampler(weights: { baseModel: string } | { modelPath: string }): Promise<Sampler>;
  weightsInfo(path: string): Promise<{ baseModel: string; isLora: boolean; rank?: number }>;
  /** The tar archive of a checkpoint: an adapter in PEFT layout. */
  archive(path: string): Promise<Buffer>;
  /** One that is not there counts as deleted: an earlier send of the request may have done it. */
  deleteCheckpoint(path: string): Promise<void>;
  stats(): ClientStats;
  /** Ends what is under way, with an error `cancelled`, and all connections. */
  close(): Promise<void>;
}

/** What models and samplers share. */
export interface Wire {
  context: Context;
  session: Awaited<ReturnType<typeof openSession>>;
  /** POST with a JSON body, answered at once with JSON. */
  ask(
    what: string,
    missing: Call['missing'],
    body: Record<string, unknown>,
  ): Promise<Record<string, unknown>>;
  /** POST with a JSON body that begins an operation; its result. */
  operate<T>(what: string, body: Record<string, unknown>, read: Decode<T>['json']): Promise<T>;
  room: ReturnType<typeof makeBudget>;
}

/** Connects and opens a session. Throws R3Error. */
export async function openTinkerClient(options: TinkerClientOptions): Promise<TinkerClient> {
  const { url, apiKey, signal, clock = systemClock } = options;
  const redact = makeRedact(apiKey);
  const ended = new AbortController();
  const end = (): void => ended.abort(signal?.reason);
  if (signal?.aborted === true) end();
  signal?.addEventListener('abort', end, { once: true });
  const http = options.http ?? openRequests({ url, apiKey, clock, userAgent: `r3/${packageVersion()}` });
  const context: Context = {
    http,
    clock,
    redact,
    limits: { ...LIMITS, ...options.limits },
    ended: ended.signal,
    notice: makeNotice(clock, redact, options.onNotice ?? (() => undefined)),
    counts: { calls: 0, resent: 0, polls: 0 },
    wasReached: false,
  };
  const cancel = [ended.signal];
  const shut = (): void => {
    signal?.removeEventListener('abort', end);
    http.close();
  };

  const session = await openSession(context, options.dialect, (error) => ended.abort(error)).catch(
    (error: unknown) => {
      shut();
      throw error;
    },
  );
  context.limits.billingPauseMs = Math.min(context.limits.billingPauseMs, session.config.billingPauseMs);
  context.limits.maxInFlight = Math.min(context.limits.maxInFlight, session.config.maxInFlight);
  const room = makeBudget(() => session.config.replyBytes);
  const post = (what: string, missing: Call['missing'], body: Record<string, unknown>): Call => ({
    what,
    missing,
    method: 'POST',
    path: what,
    body: writeJson(body),
    cancel,
  });
  const wire: Wire = {
    context,
    session,
    room,
    ask: async (what, missing, body) => objectOf(what, await call(context, post(what, missing, body))),
    operate: async (what, body, json) => {
      const requestId = await submit(context, post(what, 'expired', body));
      return retrieve(context, { what, requestId, decode: { json }, room, cancel });
    },
  };
  const openSampler = makeSamplers(wire);

  return {
    get dialect() {
      return session.dialect;
    },
    sessionId: session.id,
    supportedModels: async () => {
      const what = 'get_server_capabilities';
      const reply = await call(context, { what, missing: 'not-found', method: 'GET', path: what, cancel });
      const { supported_models: models } = objectOf(what, reply);
      if (!Array.isArray(models)) throw badAnswer(what, 'a list of supported_models', 'none');
      return (models as { model_name?: unknown; max_context_length?: unknown }[]).flatMap((each) => {
        const { model_name: name, max_context_length: length } = each;
        if (typeof name !== 'string') return [];
        return [typeof length === 'number' ? { name, maxContextLength: length } : { name }];
      });
    },
    createModel: async ({ baseModel, lora, userMetadata }) => {
      const body = {
        session_id: session.id,
        model_seq_id: session.nextModel(),
        base_model: baseModel,
        user_metadata: userMetadata,
        lora_config: {
          rank: lora.rank,
          seed: lora.seed,
          train_unembed: lora.trainUnembed,
          train_mlp: lora.trainMlp,
          train_attn: lora.trainAttn,
        },
        type: 'create_model',
      };
      const modelId = await wire.operate('create_model', body, (what, { model_id: id }) =>
        textIn(what, 'model_id', id),
      );
      return makeTrainingModel(wire, modelId, openSampler);
    },
    createSampler: async (weights) => {
      const what = 'create_sampling_session';
      const { sampling_session_id: id } = await wire.ask(what, 'not-found', {
        session_id: session.id,
        sampling_session_seq_id: session.nextSampler(),
        ...('baseModel' in weights ? { base_model: weights.baseModel } : { model_path: weights.modelPath }),
        type: what,
      });
      return openSampler(textIn(what, 'sampling_session_id', id));
    },
    weightsInfo: async (path) => {
      const body = await wire.ask('weights_info', 'not-found', { tinker_path: path });
      const { base_model: baseModel, is_lora: isLora, lora_rank: rank } = body;
      const info = { baseModel: textIn('weights_info', 'base_model', baseModel), isLora: isLora === true };
      return typeof rank === 'number' ? { ...info, rank } : info;
    },
    archive: (path) => download(context, checkpointPath(path)),
    deleteCheckpoint: async (path) => {
      const what = 'deletion of a checkpoint';
      await call(context, {
        what,
        missing: 'not-found',
        method: 'DELETE',
        path: checkpointPath(path),
        accepted: GONE,
        cancel,
      });
    },
    stats: () => {
      const { bytesOut, bytesIn } = http.traffic();
      return { ...context.counts, bytesOut, bytesIn };
    },
    close: async () => {
      session.end();
      ended.abort(new R3Error('engine', 'cancelled', 'the connection to the service was closed'));
      shut();
    },
  };
}

/** A required text of an answer. */
export function textIn(what: string, name: string, value: unknown): string {
  if (typeof value === 'string' && value !== '') return value;
  throw badAnswer(what, `a text ${name}`, 'none');
}

/** Where a checkpoint is managed. Paths have three parts, with some services two for a sampler's: tinker://RUN/[KIND/]NAME. */
function checkpointPath(path: string): string {
  const parts = /^tinker:\/\/([^/]+)\/(?:(weights|sampler_weights)\/)?([^/]+)$/.exec(path);
  if (parts === null) {
    throw new R3Error('engine', 'bad-option', `checkpoint: expected tinker://RUN/weights/NAME, got ${path}`);
  }
  const [, run = '', kind, name = ''] = parts;
  const checkpoint = [...(kind === undefined ? [] : [kind]), name].map(encodeURIComponent).join('/');
  return `training_runs/${encodeURIComponent(run)}/checkpoints/${checkpoint}`;
}
