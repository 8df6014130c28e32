/**
 * A verifier that is a service: POST {problem, answer} as JSON, and {ok, class?, why?} comes back.
 *
 * Only such a reply with a status from 200 to 299 is a verdict. Another status, a reply of another shape, no
 * connection and no reply in time mean that the answer was not judged, and throw; what may pass (no connection, no
 * reply in time, status 429 and 5xx) is sent again a few times. Redirects are not followed. Secrets stand in headers as
 * ${NAME} and come from the environment; no error and no verdict holds their value.
 */
import { setTimeout as wait } from 'node:timers/promises';
import { makeLimit } from '../../lib/concurrent.ts';
import { messageOf } from '../../lib/errors.ts';
import { parseJsonObject, showValue } from '../../lib/json.ts';
import type { Verdict } from '../../method/episode.ts';

export interface HttpOptions {
  url: string;
  /** Values may hold ${NAME}: the environment variable NAME. */
  headers: Readonly<Record<string, string>>;
  /** Of one request, its reply included. */
  timeoutMs: number;
  /** Requests under way at a time. */
  concurrency: number;
  env: Readonly<Record<string, string | undefined>>;
  /** Before the first resend; twice as long before each further one. */
  resendDelayMs?: number;
}

const MAX_RESENDS = 2;
const RESEND_DELAY_MS = 250;
/** A verdict is a line or two. */
const MAX_REPLY_BYTES = 65_536;
const TEXT_LENGTH = 500;
const VARIABLE = /\$\{([A-Za-z_][A-Za-z0-9_]*)\}/g;

export type HttpVerifier = (problem: Readonly<Record<string, unknown>>, answer: string) => Promise<Verdict>;

/** A service that answered, but not with a verdict. */
class NoVerdict extends Error {
  readonly mayPass: boolean;
  constructor(message: string, mayPass: boolean) {
    super(message);
    this.mayPass = mayPass;
  }
}

/** Throws an Error for an address that is none, and for a header whose variable is not set or cannot be sent. */
export function makeHttpVerifier(options: HttpOptions): HttpVerifier {
  const { timeoutMs, concurrency, env, resendDelayMs = RESEND_DELAY_MS } = options;
  const url = parseAddress(options.url);
  const shown = `${url.origin}${url.pathname}`;
  const secrets: { name: string; value: string }[] = [];
  const headers = new Headers();
  for (const [name, template] of Object.entries(options.headers)) {
    const value = template.replaceAll(VARIABLE, (_, variable: string) => {
      const secret = env[variable];
      if (secret === undefined || secret === '') {
        throw new Error(
          `http.headers.${name}: expected the environment variable ${variable}, got none; set it`,
        );
      }
      secrets.push({ name: variable, value: secret });
      return secret;
    });
    try {
      headers.set(name, value);
    } catch {
      // The error of the platform shows the value.
      throw new Error(
        `http.headers.${name}: expected a header's name and value, got characters that none may have`,
      );
    }
  }
  headers.set('content-type', 'application/json');
  const redact = (text: string): string =>
    secrets.reduce((kept, { name, value }) => kept.replaceAll(value, `\${${name}}`), text);

  const limit = makeLimit(concurrency);
  const send = async (body: string): Promise<Verdict> => {
    const signal = AbortSignal.timeout(timeoutMs);
    try {
      const response = await fetch(url, { method: 'POST', headers, body, signal, redirect: 'error' });
      const text = await readLimited(response);
      return readVerdict(response.status, redact(text));
    } catch (error) {
      if (error instanceof NoVerdict) throw error;
      const why = signal.aborted ? `none within ${timeoutMs} ms` : reasonOf(error);
      throw new NoVerdict(redact(`expected a reply, got ${why}`), true);
    }
  };
  return (problem, answer) =>
    limit(async () => {
      const body = JSON.stringify({ problem, answer });
      for (let resends = 0; ; resends++) {
        try {
          return await send(body);
        } catch (error) {
          if (error instanceof NoVerdict && error.mayPass && resends < MAX_RESENDS) {
            await wait(resendDelayMs * 2 ** resends);
            continue;
          }
          const times = resends === 0 ? '' : ` (sent ${resends + 1} times)`;
          throw new Error(`http ${shown}: ${messageOf(error)}${times}`, { cause: error });
        }
      }
    });
}

function parseAddress(text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || !['http:', 'https:'].includes(url.protocol)) {
    throw new Error('http.url: expected an address that begins with http:// or https://');
  }
  if (url.username !== '' || url.password !== '') {
    throw new Error('http.url: expected an address without a password; send it in a header as ${NAME}');
  }
  return url;
}

/** The reason that fetch gives: `fetch failed` says nothing, its cause does. */
function reasonOf(error: unknown): string {
  const cause = error instanceof Error ? error.cause : undefined;
  return cause === undefined ? messageOf(error) : messageOf(cause);
}

async function readLimited(response: Response): Promise<string> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of response.body ?? []) {
    size += chunk.length;
    if (size > MAX_REPLY_BYTES) {
      throw new NoVerdict(`expected a reply of at most ${MAX_REPLY_BYTES} bytes, got more`, false);
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

function readVerdict(status: number, text: string): Verdict {
  if (status < 200 || status > 299) {
    throw new NoVerdict(`expected status 200, got ${status}`, status === 429 || status >= 500);
  }
  let reply: Record<string, unknown>;
  try {
    reply = parseJsonObject(text);
  } catch (error) {
    throw new NoVerdict(`the reply: ${messageOf(error)}`, false);
  }
  const { ok, class: errorClass = 'wrong answer', why = 'the service gives no reason' } = reply;
  if (ok === true) return { ok };
  if (ok !== false || typeof errorClass !== 'string' || typeof why !== 'string') {
    throw new NoVerdict(`expected {ok, class, why} in the reply, got ${showValue(reply)}`, false);
  }
  return { ok, class: errorClass.slice(0, TEXT_LENGTH), why: why.slice(0, TEXT_LENGTH) };
}
