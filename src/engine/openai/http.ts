/**
 * One HTTP exchange over kept-alive connections: a request, and the whole of its answer.
 *
 * On node:http, because an answer that is not streamed may take longer to begin than fetch waits for its headers.
 * Follows no redirect (a key would go with it), sends nothing twice, and knows nothing of what is exchanged.
 */
import http from 'node:http';
import https from 'node:https';

/** No answer that is asked for here comes near it. */
const MAX_REPLY_BYTES = 64 * 2 ** 20;

export interface Exchange {
  method: 'GET' | 'POST';
  url: URL;
  headers: Readonly<Record<string, string>>;
  body?: string;
}

export interface Reply {
  status: number;
  headers: http.IncomingHttpHeaders;
  text: string;
}

export type LossCause = 'timeout' | 'cut' | 'too-large' | 'unreachable';

/** An exchange without an answer. `message`: what happened, for a person. */
export class Lost extends Error {
  readonly why: LossCause;

  constructor(why: LossCause, message: string, cause?: unknown) {
    super(message, { cause });
    this.name = 'Lost';
    this.why = why;
  }
}

export interface Wire {
  /** Throws `Lost`; where `signal` was raised, whatever it likes. */
  send(exchange: Exchange, limits: { timeoutMs: number; signal: AbortSignal }): Promise<Reply>;
  close(): void;
}

/** `connections`: at most so many to a host. */
export function openWire(protocol: string, connections: number): Wire {
  const isSecure = protocol === 'https:';
  const agent = new (isSecure ? https : http).Agent({ keepAlive: true, maxSockets: connections });
  const request = isSecure ? https.request : http.request;

  return {
    send: async ({ method, url, headers, body }, { timeoutMs, signal }) => {
      const timeout = AbortSignal.timeout(timeoutMs);
      try {
        const incoming = await new Promise<http.IncomingMessage>((resolve, reject) => {
          const outgoing = request(url, {
            agent,
            method,
            headers:
              body === undefined
                ? headers
                : { ...headers, 'content-length': String(Buffer.byteLength(body)) },
            signal: AbortSignal.any([signal, timeout]),
          });
          outgoing.on('response', resolve).on('error', reject).end(body);
        });
        const chunks: Buffer[] = [];
        let size = 0;
        for await (const chunk of incoming as AsyncIterable<Buffer>) {
          chunks.push(chunk);
          size += chunk.length;
          if (size > MAX_REPLY_BYTES)
            throw new Lost('too-large', `an answer of more than ${MAX_REPLY_BYTES} bytes`);
        }
        const { statusCode: status = 0 } = incoming;
        return { status, headers: incoming.headers, text: Buffer.concat(chunks).toString('utf8') };
      } catch (error) {
        if (error instanceof Lost || signal.aborted) throw error;
        if (timeout.aborted) throw new Lost('timeout', `none within ${timeoutMs / 1000} s`, error);
        throw lostBy(error);
      }
    },
    close: () => agent.destroy(),
  };
}

/** Codes of connections that were there and ended. */
const CUT = ['ECONNRESET', 'EPIPE', 'ETIMEDOUT', 'ERR_STREAM_PREMATURE_CLOSE'];

function lostBy(error: unknown): Lost {
  const code = codeOf(error);
  if (CUT.includes(code) || code.startsWith('HPE_'))
    return new Lost('cut', `a connection that was cut (${code})`, error);
  return new Lost('unreachable', code, error);
}

/** Of several addresses of a host that all refuse, the first one's code. */
function codeOf(error: unknown): string {
  const first = error instanceof AggregateError ? error.errors[0] : error;
  const code = (first as NodeJS.ErrnoException | undefined)?.code;
  return typeof code === 'string' ? code : first instanceof Error ? first.name : 'an unknown error';
}
