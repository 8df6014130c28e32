/**
 * The handler behind node:http: a socket's request becomes a Request, whose signal is raised when the client goes
 * away, and the Response goes back.
 */
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { AddressInfo } from 'node:net';
import { ApiError, errorBody } from './api-error.ts';

export interface ListenOptions {
  host: string;
  /** 0: any that is free. */
  port: number;
  /** A client that takes longer to send its headers is cut off. */
  headersTimeoutMs: number;
  /** The same for a whole request, with its body. */
  requestTimeoutMs: number;
}

export interface Listening {
  /** The one that was found for port 0. */
  port: number;
  /** Takes no more connections; resolves when the answers under way have been sent. */
  close(): Promise<void>;
}

/** Throws what listening throws, such as EADDRINUSE. */
export async function listen(
  handle: (request: Request) => Promise<Response>,
  { host, port, headersTimeoutMs, requestTimeoutMs }: ListenOptions,
): Promise<Listening> {
  const timeouts = { headersTimeout: headersTimeoutMs, requestTimeout: requestTimeoutMs };
  let isClosing = false;
  const server = createServer(timeouts, (incoming, outgoing) => {
    outgoing.on('close', () => {
      if (isClosing) setImmediate(() => server.closeIdleConnections());
    });
    // A connection that breaks has nobody left to tell.
    serve(handle, incoming, outgoing).catch(() => outgoing.destroy());
  });
  server.listen(port, host);
  await once(server, 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    close: async () => {
      isClosing = true;
      const closed = once(server, 'close');
      server.close();
      server.closeIdleConnections();
      await closed;
    },
  };
}

async function serve(
  handle: (request: Request) => Promise<Response>,
  incoming: IncomingMessage,
  outgoing: ServerResponse,
): Promise<void> {
  const gone = new AbortController();
  outgoing.on('close', () => {
    if (!outgoing.writableFinished) gone.abort();
  });
  const request = tryRequest(incoming, gone.signal);
  const response = request === undefined ? refusal() : await handle(request);
  if (gone.signal.aborted) {
    await response.body?.cancel();
    return;
  }
  outgoing.writeHead(response.status, Object.fromEntries(response.headers));
  if (response.body === null) outgoing.end();
  else await pipeline(Readable.fromWeb(response.body), outgoing);
  // What is left of a body that was refused is read and dropped, so that the client gets to the answer.
  if (!incoming.complete) incoming.resume();
}

function refusal(): Response {
  const error = new ApiError(400, 'request: expected a host, a path and a method of HTTP, got another');
  return Response.json(errorBody(error), { status: error.status });
}

/** Undefined for a host, path or method that no Request can have. */
function tryRequest(incoming: IncomingMessage, signal: AbortSignal): Request | undefined {
  const { method = 'GET', headers, url = '/' } = incoming;
  const hasBody = method !== 'GET' && method !== 'HEAD';
  try {
    return new Request(`http://${headers.host}${url}`, {
      method,
      headers: Object.entries(headers).flatMap(([name, value]) =>
        value === undefined ? [] : [[name, String(value)] as [string, string]],
      ),
      signal,
      // A handler that stops reading still has an answer to give: the connection stays.
      ...(hasBody
        ? { body: ReadableStream.from(incoming.iterator({ destroyOnReturn: false })), duplex: 'half' }
        : {}),
    });
  } catch {
    return undefined;
  }
}
