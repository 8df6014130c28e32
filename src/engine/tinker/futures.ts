/**
 * The result of an operation: polled for until it is there.
 *
 * A service answers an operation with a request id at once; the result is asked for with long polls. An answer of "not yet" is polled again
 * at once, a failure after the waits of retry.ts, and the whole may take as long as the limits say. Results may be fetched again, so a
 * poll that is lost loses nothing.
 *
 * Wire facts: POST retrieve_future {request_id, allow_metadata_only} answers 200 with the result (protobuf by
 * its Content-Type, else JSON); 408 or {type: try_again, queue_state, queue_state_reason} for not yet; {error, category} for an
 * operation that failed; {status: complete_metadata, response_payload_size} once, where allowed, so that the client
 * makes room first; 410 or 404 for a result that is gone; 402 for a pause; a 400 may come from a proxy, and is how some
 * services tell of an operation that failed.
 */
import { R3Error } from '../../lib/errors.ts';
import type { Budget } from './budget.ts';
import { throwIfCancelled, type Cancel } from '../clock.ts';
import { Lost, type Reply } from '../http.ts';
import { call, errorOfLoss, objectOf, startRetries, type Call, type Context } from './context.ts';
import { badAnswer, detailOf, errorOfFailure, errorOfReply, type Named } from './errors.ts';
import { JSON_TYPE, PROTOBUF_TYPE } from './requests.ts';

/** How a result is read. */
export interface Decode<T> {
  json(what: string, body: Record<string, unknown>): T;
  /** Left out: the result has no protobuf form. */
  protobuf?: ((bytes: Uint8Array) => T) | undefined;
}

/** Statuses 400 on polling that are asked again. */
const BAD_REQUESTS = 3;
/** "Not yet" in less time was no long poll: the next one waits a little. */
const QUICK_MS = 100;
const FIRST_QUICK_WAIT_MS = 10;
const MAX_QUICK_WAIT_MS = 1000;
/** An empty payload still takes a place. */
const MIN_PAYLOAD_BYTES = 1024;

/** Sends an operation; its request id. */
export async function submit(context: Context, asked: Call): Promise<string> {
  return requestIdOf(asked.what, await call(context, asked));
}

export function requestIdOf(what: string, reply: Reply): string {
  const { request_id: id } = objectOf(what, reply);
  if (typeof id !== 'string' || id === '') throw badAnswer(what, 'a request_id', 'none');
  return id;
}

/** Waits for the result of an operation. Throws R3Error, `expired` when the service no longer has the result. */
export async function retrieve<T>(
  context: Context,
  asked: { what: string; requestId: string; decode: Decode<T>; room: Budget; cancel: Cancel },
): Promise<T> {
  const { what, requestId, decode, room, cancel } = asked;
  const { clock, limits } = context;
  const named: Named = { what: `result of ${what}`, missing: 'expired' };
  const retries = startRetries(context, named.what, cancel, BAD_REQUESTS);
  const accept = decode.protobuf === undefined ? JSON_TYPE : `${PROTOBUF_TYPE}, ${JSON_TYPE}`;
  const id = JSON.stringify(requestId);
  const deadline = clock.now() + limits.operationMs;
  let quick = 0;
  let release: (() => void) | undefined;
  try {
    for (;;) {
      if (clock.now() > deadline) {
        const message = `${named.what}: expected it within ${limits.operationMs / 60_000} minutes, got nothing`;
        throw new R3Error('engine', 'no-network', message);
      }
      const asking = clock.now();
      context.counts.polls += 1;
      let reply: Reply;
      try {
        const body = `{"request_id":${id},"allow_metadata_only":${release === undefined}}`;
        const poll = { method: 'POST', path: 'retrieve_future', body, accept, cancel } as const;
        reply = await context.http.send(poll, limits.pollTimeoutMs);
      } catch (error) {
        if (!(error instanceof Lost)) throw error;
        throwIfCancelled(cancel);
        // Some servers hold a poll for longer than a client should wait.
        if (error.why !== 'timeout') {
          await retries.wait({ isStale: error.why === 'stale' }, errorOfLoss(named.what, error));
        }
        continue;
      }
      if (reply.status !== 200 && reply.status !== 408) {
        // What a proxy does not say, some services say so: an operation that failed.
        const failure = { error: detailOf(reply, context.redact) };
        const error =
          reply.status === 400
            ? errorOfFailure(what, failure, context.redact)
            : errorOfReply(named, reply, context.redact);
        await retries.wait({ reply }, error);
        continue;
      }
      retries.reset();
      const isProtobuf = reply.headers['content-type']?.startsWith(PROTOBUF_TYPE) === true;
      if (isProtobuf && decode.protobuf !== undefined) return decode.protobuf(reply.body);
      const body = reply.status === 408 && reply.body.length === 0 ? {} : objectOf(named.what, reply);
      if (reply.status === 408 || body.type === 'try_again') {
        tellPause(context, body);
        quick = clock.now() - asking < QUICK_MS ? quick + 1 : 0;
        if (quick > 1)
          await clock.sleep(Math.min(FIRST_QUICK_WAIT_MS * 2 ** (quick - 2), MAX_QUICK_WAIT_MS), cancel);
      } else if ('error' in body) {
        throw errorOfFailure(what, body, context.redact);
      } else if (body.status === 'complete_metadata') {
        if (release !== undefined) throw badAnswer(named.what, 'the result', 'its size for the second time');
        const size = Number(body.response_payload_size);
        release = await room.take(size > MIN_PAYLOAD_BYTES ? size : MIN_PAYLOAD_BYTES, cancel);
      } else return decode.json(named.what, body);
    }
  } finally {
    release?.();
  }
}

/** Says why an operation waits, where it does so for another reason than work under way. */
function tellPause(context: Context, body: Record<string, unknown>): void {
  const { queue_state: state, queue_state_reason: reason } = body;
  if (state !== 'paused_capacity' && state !== 'paused_rate_limit') return;
  const why = state === 'paused_capacity' ? 'it has no capacity now' : 'its rate limit is reached';
  const more = typeof reason === 'string' && reason !== '' ? ` (${reason})` : '';
  context.notice(state, `the service has paused this run: ${why}${more}`);
}
