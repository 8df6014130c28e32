/**
 * The beginning of a connection to a Tinker-compatible service: its configuration, the dialect, a session, and the heartbeat.
 *
 * Two dialects exist. `protobuf` (SDK 0.25 on): requests and results of forward-backward in protobuf. `json` (0.12 to
 * 0.24): all in JSON. A service without client/config speaks json. One with it may speak either: the client begins
 * with protobuf and falls back when its first request is refused (client.ts). A session that the service no longer
 * knows ends every call with one error.
 *
 * Wire facts: POST client/config {sdk_version} answers flags, or 404 before 0.18; POST create_session {tags,
 * user_metadata, sdk_version, type} answers {session_id} and messages for the person; POST session_heartbeat
 * {session_id, type} every 10 s with 10 s to answer and no resends; silence is told after 120 s. Models and samplers are numbered per session, each from 0.
 */
import type { R3Error } from '../../lib/errors.ts';
import { call, objectOf, type Context } from './context.ts';
import { badAnswer, errorOfReply } from './errors.ts';
import { writeJson } from './json.ts';

export type Dialect = 'protobuf' | 'json';

/** What the service's configuration says, with the official client's values where it does not. */
export interface ServerConfig {
  chunkDatums: number;
  chunkBytes: number;
  compressesRequests: boolean;
  maxInFlight: number;
  dispatchBytes: number;
  replyBytes: number;
  billingPauseMs: number;
}

export interface Session {
  id: string;
  dialect: Dialect;
  /** The dialect is a guess that the first request puts to the test. */
  isGuess: boolean;
  config: ServerConfig;
  nextModel(): number;
  nextSampler(): number;
  /** Ends the heartbeat. */
  end(): void;
}

const SDK_VERSIONS = { protobuf: '0.25.0', json: '0.24.1', oldJson: '0.12.0' } as const;
const HEARTBEAT_MS = 10_000;
const SILENCE_MS = 120_000;

/** `lose` is called when the service no longer knows the session. Throws R3Error. */
export async function openSession(
  context: Context,
  chosen: Dialect | undefined,
  lose: (error: R3Error) => void,
): Promise<Session> {
  const cancel = [context.ended];
  const asked = await call(context, {
    what: 'client/config',
    missing: 'not-found',
    method: 'POST',
    path: 'client/config',
    body: writeJson({ sdk_version: SDK_VERSIONS[chosen ?? 'protobuf'] }),
    accepted: [404, 405],
    cancel,
  });
  const isOld = asked.status >= 400;
  const flags = isOld ? {} : objectOf('client/config', asked);
  const dialect = chosen ?? (isOld ? 'json' : 'protobuf');
  if (flags.pjwt_auth_enabled === true) {
    context.notice('token', 'the service offers short-lived tokens; this client goes on with the key itself');
  }

  const created = await call(context, {
    what: 'create_session',
    missing: 'not-found',
    method: 'POST',
    path: 'create_session',
    body: writeJson({
      tags: [],
      user_metadata: {},
      sdk_version:
        dialect === 'protobuf' ? SDK_VERSIONS.protobuf : isOld ? SDK_VERSIONS.oldJson : SDK_VERSIONS.json,
      type: 'create_session',
    }),
    cancel,
  });
  const body = objectOf('create_session', created);
  const { session_id: id } = body;
  if (typeof id !== 'string' || id === '') throw badAnswer('create_session', 'a session_id', 'none');
  for (const kind of ['info_message', 'warning_message', 'error_message']) {
    const message = body[kind];
    if (typeof message === 'string' && message !== '') context.notice(kind, `the service says: ${message}`);
  }
  let models = 0;
  let samplers = 0;
  return {
    id,
    dialect,
    isGuess: chosen === undefined && dialect === 'protobuf',
    config: readConfig(flags),
    nextModel: () => models++,
    nextSampler: () => samplers++,
    end: startHeartbeat(context, id, lose),
  };
}

function readConfig(flags: Record<string, unknown>): ServerConfig {
  const positive = (name: string, otherwise: number): number => {
    const value = flags[name];
    return typeof value === 'number' && value > 0 ? value : otherwise;
  };
  return {
    chunkDatums: Math.max(1, Math.floor(positive('fwdbwd_max_chunk_len', 1024))),
    chunkBytes: positive('fwdbwd_max_chunk_bytes_count', 5_000_000),
    compressesRequests: flags.proto_compress_fwdbwd === true,
    maxInFlight: Math.max(1, Math.floor(positive('sample_max_concurrent_requests', 2000))),
    dispatchBytes: positive('sample_dispatch_bytes_semaphore_size', 10 * 2 ** 20),
    replyBytes: positive('inflight_response_bytes_semaphore_size', 50 * 2 ** 20),
    billingPauseMs:
      flags.billing_exception_max_pause_duration_sec === 0
        ? 0
        : 1000 * positive('billing_exception_max_pause_duration_sec', 3600),
  };
}

function startHeartbeat(context: Context, id: string, lose: (error: R3Error) => void): () => void {
  const { clock } = context;
  const body = writeJson({ session_id: id, type: 'session_heartbeat' });
  let heard = clock.now();
  let isWaiting = false;
  const beat = async (): Promise<void> => {
    const asked = { method: 'POST', path: 'session_heartbeat', body, cancel: [context.ended] } as const;
    const reply = await context.http.send(asked, HEARTBEAT_MS);
    if (reply.status === 404 || reply.status === 410) {
      lose(errorOfReply({ what: 'session', missing: 'expired' }, reply, context.redact));
    }
    if (reply.status < 400) heard = clock.now();
  };
  const stop = clock.every(HEARTBEAT_MS, () => {
    if (isWaiting) return;
    isWaiting = true;
    const silenceMs = clock.now() - heard;
    if (silenceMs >= SILENCE_MS) {
      context.notice(
        'heartbeat',
        `the service has not answered a heartbeat for ${Math.round(silenceMs / 1000)} s`,
      );
    }
    // A beat that is lost is no error: the next one follows.
    void beat()
      .catch(() => undefined)
      .finally(() => {
        isWaiting = false;
      });
  });
  return stop;
}
