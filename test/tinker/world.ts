/**
 * What the server knows between requests: sessions, models, sampling sessions, checkpoints.
 *
 * A session lives as long as its heartbeats come; its end takes its models, samplers and futures with it, and frees
 * their adapter slots. Nothing watches the clock: each request that names a session, and each that wants a slot,
 * looks.
 */
import type { Backend, BackendModel, BackendSampler, LoraFields } from './backend.ts';
import type { Futures } from './futures.ts';
import { Refusal } from './refusal.ts';
import type { Sequence } from './sequence.ts';

/** The reply to a request, kept for when the same request comes again. */
export interface Answered {
  /** A hash of the endpoint and the body. */
  digest: string;
  reply: Reply;
}

export interface Reply {
  status: number;
  headers?: Record<string, string>;
  body: string | Uint8Array;
  /** The future that the request opened. */
  requestId?: string;
}

export interface Session {
  readonly id: string;
  lastHeartbeatMs: number;
  isExpired: boolean;
  /** By `model N` and `sampling N`: the numbers that clients give within a session. */
  readonly answered: Map<string, Answered>;
}

export interface Model {
  readonly id: string;
  readonly session: Session;
  readonly lora: LoraFields;
  readonly metadata: Record<string, string>;
  readonly sequence: Sequence;
  readonly answered: Map<number, Answered>;
  /** Numbers that refused requests have used up. */
  readonly refused: Set<number>;
  /** Set when create_model has been done; its failure is that of all that follows. */
  backend: BackendModel | undefined;
  failure: string | undefined;
  lastRequestMs: number;
}

export interface SamplingSession {
  readonly id: string;
  readonly session: Session;
  readonly modelPath: string | undefined;
  readonly backend: BackendSampler;
  readonly answered: Map<string, Answered>;
}

export interface Checkpoint {
  readonly run: string;
  readonly kind: 'weights' | 'sampler_weights';
  readonly name: string;
  readonly path: string;
  /** The backend's key. */
  readonly key: string;
  readonly lora: LoraFields;
  readonly timeMs: number;
  readonly expiresMs: number | undefined;
}

/** What a training run still tells when its model is gone. */
export interface Run {
  readonly id: string;
  readonly lora: LoraFields;
  readonly metadata: Record<string, string>;
  lastRequestMs: number;
}

export interface World {
  session(id: string): Session;
  model(id: string): Model;
  sampler(id: string): SamplingSession;
  /** Undefined for a path that never was, was deleted or has expired. */
  checkpoint(path: string): Checkpoint | undefined;
  readonly sessions: Map<string, Session>;
  readonly models: Map<string, Model>;
  readonly samplers: Map<string, SamplingSession>;
  readonly checkpoints: Map<string, Checkpoint>;
  readonly runs: Map<string, Run>;
  expire(session: Session): void;
  /** Ends sessions whose heartbeats have stayed away, so that their slots are free. */
  sweep(): void;
  release(model: Model): Promise<void>;
  /** What a restart does: models and samplers are gone, and checkpoints too unless they are kept. */
  clear(keepsCheckpoints: boolean): Promise<void>;
}

export interface WorldOptions {
  backend: Backend;
  futures: Futures;
  now: () => number;
  sessionTimeoutMs: number;
}

export function makeWorld({ backend, futures, now, sessionTimeoutMs }: WorldOptions): World {
  const sessions = new Map<string, Session>();
  const models = new Map<string, Model>();
  const samplers = new Map<string, SamplingSession>();
  const checkpoints = new Map<string, Checkpoint>();
  const runs = new Map<string, Run>();

  async function release(model: Model): Promise<void> {
    models.delete(model.id);
    model.sequence.close();
    await model.backend?.close();
  }
  function expire(session: Session): void {
    session.isExpired = true;
    session.answered.clear();
    for (const model of models.values()) if (model.session === session) void release(model);
    for (const sampler of samplers.values()) if (sampler.session === session) samplers.delete(sampler.id);
    futures.forgetSession(session.id);
  }
  function checkAlive(session: Session): void {
    if (!session.isExpired && now() - session.lastHeartbeatMs > sessionTimeoutMs) expire(session);
    if (session.isExpired)
      throw new Refusal(
        404,
        `session_id: expected a session that lives, got ${session.id}, which has expired`,
      );
  }
  function found<T>(map: ReadonlyMap<string, T>, id: string, what: string): T {
    const value = map.get(id);
    if (value === undefined) throw new Refusal(404, `${what}: expected one that exists, got ${id}`);
    return value;
  }

  return {
    sessions,
    models,
    samplers,
    checkpoints,
    runs,
    session(id) {
      const session = found(sessions, id, 'session_id');
      checkAlive(session);
      return session;
    },
    model(id) {
      const model = found(models, id, 'model_id');
      checkAlive(model.session);
      model.lastRequestMs = now();
      return model;
    },
    sampler(id) {
      const sampler = found(samplers, id, 'sampling_session_id');
      checkAlive(sampler.session);
      return sampler;
    },
    checkpoint(path) {
      const checkpoint = checkpoints.get(path);
      if (checkpoint?.expiresMs === undefined || checkpoint.expiresMs > now()) return checkpoint;
      checkpoints.delete(path);
      backend.remove(checkpoint.key);
      return undefined;
    },
    expire,
    sweep() {
      for (const session of sessions.values()) {
        if (!session.isExpired && now() - session.lastHeartbeatMs > sessionTimeoutMs) expire(session);
      }
    },
    release,
    async clear(keepsCheckpoints) {
      const held = [...models.values()];
      sessions.clear();
      models.clear();
      samplers.clear();
      futures.clear();
      if (!keepsCheckpoints) {
        for (const { key } of checkpoints.values()) backend.remove(key);
        checkpoints.clear();
        runs.clear();
      }
      for (const model of held) await release(model);
    },
  };
}
