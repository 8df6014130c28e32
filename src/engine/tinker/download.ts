/**
 * The archive of a checkpoint, whole. A download that breaks off begins anew, as calls are resent.
 *
 * Wire facts: GET training_runs/{run}/checkpoints/{checkpoint}/archive answers {url}, or a redirect to it, or the bytes
 * themselves; 503 while the archive is being made. The address is signed and often of another host, so the key is not sent there.
 * It may be good for a short time only, so that each download asks for another.
 */
import { R3Error } from '../../lib/errors.ts';
import { onCancel, throwIfCancelled } from '../clock.ts';
import type { Reply } from '../http.ts';
import { call, objectOf, startRetries, type Context } from './context.ts';
import { badAnswer, errorOfReply, type Named } from './errors.ts';
import { JSON_TYPE } from './requests.ts';
import type { Failure } from './retry.ts';
import { readAll } from './tar.ts';

const REDIRECTS = [301, 302, 303, 307, 308];

const NAMED: Named = { what: 'archive of a checkpoint', missing: 'not-found' };

/** `path`: of the checkpoint, after api/v1. Throws R3Error. */
export async function download(context: Context, path: string): Promise<Buffer> {
  const cancel = [context.ended];
  const asked = { ...NAMED, method: 'GET', path: `${path}/archive`, accepted: REDIRECTS, cancel } as const;
  const retries = startRetries(context, NAMED.what, cancel);
  for (;;) {
    const reply = await call(context, asked);
    const isRedirect = REDIRECTS.includes(reply.status);
    if (!isRedirect && reply.headers['content-type']?.startsWith(JSON_TYPE) !== true) return reply.body;
    const address = isRedirect ? reply.headers.location : objectOf(NAMED.what, reply).url;
    if (typeof address !== 'string' || !/^https?:/.test(address) || !URL.canParse(address)) {
      throw badAnswer(NAMED.what, 'an address', 'none');
    }
    throwIfCancelled(cancel);
    const answer = await bytesAt(context, address);
    if (answer.body !== undefined) return answer.body;
    throwIfCancelled(cancel);
    await retries.wait(answer.failure, answer.error);
  }
}

type Answer = { body: Buffer } | { body?: never; failure: Failure; error: R3Error };

async function bytesAt(context: Context, address: string): Promise<Answer> {
  const stop = new AbortController();
  const leave = onCancel([context.ended], (error) => stop.abort(error));
  try {
    const answer = await fetch(address, { signal: stop.signal });
    const body = answer.body === null ? Buffer.alloc(0) : await readAll(answer.body);
    if (answer.ok) return { body };
    const reply: Reply = { status: answer.status, headers: Object.fromEntries(answer.headers), body };
    return { failure: { reply }, error: errorOfReply(NAMED, reply, context.redact) };
  } catch (cause) {
    if (cause instanceof R3Error) throw cause;
    const { host } = new URL(address);
    const message = `${NAMED.what}: expected the whole of it from ${host}, got none or a part (${String(cause)})`;
    return { failure: {}, error: new R3Error('engine', 'no-network', message, { cause }) };
  } finally {
    leave();
  }
}
