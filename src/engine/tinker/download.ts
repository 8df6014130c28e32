/**
 * The archive of a checkpoint, as a stream.
 *
 * Wire facts: GET training_runs/{run}/checkpoints/{checkpoint}/archive answers {url}, or a redirect to it, or the bytes
 * themselves; 503 while the archive is being made. The address is signed and often of another host, so the key is not sent there.
 */
import { onCancel, throwIfCancelled } from './clock.ts';
import { call, objectOf, type Context } from './context.ts';
import { badAnswer, errorOfReply } from './errors.ts';
import { JSON_TYPE } from './http.ts';

const REDIRECTS = [301, 302, 303, 307, 308];

/** `path`: of the checkpoint, after api/v1. Throws R3Error. */
export async function download(context: Context, path: string): Promise<AsyncIterable<Uint8Array>> {
  const what = 'archive of a checkpoint';
  const asked = { what, missing: 'not-found' as const, method: 'GET' as const, path: `${path}/archive` };
  const reply = await call(context, { ...asked, accepted: REDIRECTS, cancel: [context.ended] });
  const isRedirect = REDIRECTS.includes(reply.status);
  if (!isRedirect && reply.headers['content-type']?.startsWith(JSON_TYPE) !== true)
    return toStream(reply.body);
  const address = isRedirect ? reply.headers.location : objectOf(what, reply).url;
  if (typeof address !== 'string' || !/^https?:/.test(address) || !URL.canParse(address)) {
    throw badAnswer(what, 'an address', 'none');
  }
  const stop = new AbortController();
  throwIfCancelled([context.ended]);
  const leave = onCancel([context.ended], (error) => stop.abort(error));
  const answer = await fetch(address, { signal: stop.signal }).catch((cause: unknown) => {
    leave();
    throwIfCancelled([context.ended]);
    throw badAnswer(what, 'an address that answers', `none from ${new URL(address).host} (${String(cause)})`);
  });
  if (!answer.ok || answer.body === null) {
    leave();
    const body = Buffer.from(await answer.text());
    throw errorOfReply(
      { what, missing: 'not-found' },
      { status: answer.status, headers: {}, body },
      context.redact,
    );
  }
  return release(answer.body, leave);
}

async function* toStream(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}

async function* release(body: AsyncIterable<Uint8Array>, leave: () => void): AsyncGenerator<Uint8Array> {
  try {
    yield* body;
  } finally {
    leave();
  }
}
