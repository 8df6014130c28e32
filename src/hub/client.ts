/**
 * Requests to the hub: redirects, resends, and errors that say what to do.
 *
 * The token goes to the hub's own origin and nowhere else: redirects are followed here, one by one. What fails for a
 * reason that may pass (a cut connection, 408, 429, 5xx) is sent again, a limited number of times with growing waits;
 * only a download that goes on starts the count again. Messages name places without their queries, which may hold
 * signatures, and never hold the token. Error codes: huggingface_hub 1.33, utils/_http.py.
 */
import { R3Error, messageOf } from '../lib/errors.ts';
import { oneLine } from '../lib/printable.ts';
import type { HubSettings } from './settings.ts';

/** Sends after the first. */
const MAX_RESENDS = 5;
const FIRST_WAIT_MS = 1000;
/** The hub counts requests over five minutes. */
const MAX_WAIT_MS = 5 * 60 * 1000;
/** A connection without a byte for so long is dead. */
const STALL_MS = 30_000;
const MAX_REDIRECTS = 5;
const MAX_MESSAGE_LENGTH = 300;

export interface Hub {
  settings: HubSettings;
  /** For the messages. */
  repository: string;
  revision: string;
  /** Ends every request, and every wait between them. */
  signal: AbortSignal;
  /** Waits, or throws when the signal is raised. */
  wait(milliseconds: number, signal: AbortSignal): Promise<void>;
  /** Told before a wait, for the person who watches. */
  onWait?: ((why: string, milliseconds: number) => void) | undefined;
}

export interface Asked {
  method: 'GET' | 'HEAD';
  /** After the endpoint; percent-encoded. */
  path: string;
  /** Asked for anew with each send: a download goes on where the last one ended. */
  headers?: () => Record<string, string>;
  /** A host that cannot be reached is tried again: so it is in the middle of a download, not at its beginning. */
  persistent?: boolean;
}

/** A transfer that ended early or cannot be used, though the connection did not say so: it is sent again. */
export class CutShort extends Error {}

/** What the reader of an answer tells of it. */
export interface Watch {
  /** Bytes came: the connection is not dead. */
  alive(): void;
  /** More is kept than ever before: resends are counted from 0 again. */
  goesOn(): void;
}

interface Problem {
  error: R3Error;
  /** Whether it may pass. */
  transient: boolean;
  /** What the server asks for. */
  waitMs?: number | undefined;
}

/**
 * Sends a request and hands the answer to `use`, which tells `watch` of what arrives. A HEAD request is answered by
 * the hub itself: its redirect to another host is the answer. Answers with 416 are handed on too. Throws R3Error
 * `not-found`, `no-access`, `no-network`, `cancelled`, or what `use` throws.
 */
export async function request<T>(
  hub: Hub,
  asked: Asked,
  use: (response: Response, watch: Watch) => Promise<T>,
): Promise<T> {
  for (let failures = 0; ;) {
    const stall = new AbortController();
    const timer = setTimeout(() => stall.abort(), STALL_MS);
    const watch: Watch = {
      alive: () => timer.refresh(),
      goesOn: () => {
        failures = 0;
      },
    };
    let problem: Problem;
    try {
      const response = await follow(hub, asked, AbortSignal.any([hub.signal, stall.signal]));
      if (response.status < 400 || response.status === 416) return await use(response, watch);
      await response.body?.cancel();
      problem = refusal(hub, asked, response);
    } catch (error) {
      if (hub.signal.aborted) throw hub.signal.reason;
      const isNetwork = error instanceof TypeError && error.cause !== undefined;
      if (!isNetwork && !stall.signal.aborted && !(error instanceof CutShort)) throw error;
      problem = lost(hub, asked, error);
    } finally {
      clearTimeout(timer);
    }
    failures += 1;
    const waitMs = problem.waitMs ?? FIRST_WAIT_MS * 2 ** (failures - 1);
    if (!problem.transient || failures > MAX_RESENDS || waitMs > MAX_WAIT_MS) throw problem.error;
    hub.onWait?.(problem.error.message, waitMs);
    await hub.wait(waitMs, hub.signal);
  }
}

/** The JSON at a path of the hub, of at most `maxBytes`. */
export async function requestJson(hub: Hub, path: string, maxBytes: number): Promise<unknown> {
  return request(hub, { method: 'GET', path }, async (response, { alive }) => {
    const chunks: Uint8Array[] = [];
    let size = 0;
    for await (const chunk of bodyOf(response)) {
      alive();
      chunks.push(chunk);
      size += chunk.length;
      if (size > maxBytes) throw strange(hub, path, `more than ${maxBytes} bytes`);
    }
    const text = Buffer.concat(chunks).toString('utf8');
    try {
      return JSON.parse(text) as unknown;
    } catch {
      throw strange(hub, path, 'something else');
    }
  });
}

/** The chunks of an answer's body. */
export function bodyOf(response: Response): AsyncIterable<Uint8Array> | readonly Uint8Array[] {
  return response.body ?? [];
}

/** An answer that the hub would not give. */
function strange(hub: Hub, path: string, got: string): R3Error {
  const place = placeOf(hub.settings.endpoint + path);
  return new R3Error(
    'hub',
    'bad-file',
    `${place}: expected the hub's answer in JSON, got ${got}; is HF_ENDPOINT right?`,
  );
}

async function follow(hub: Hub, asked: Asked, signal: AbortSignal): Promise<Response> {
  const { endpoint, token } = hub.settings;
  const home = new URL(endpoint).origin;
  let url = new URL(endpoint + asked.path);
  for (let redirects = 0; ; redirects++) {
    const isHome = url.origin === home;
    const response = await fetch(url, {
      method: asked.method,
      redirect: 'manual',
      signal,
      headers: {
        'user-agent': 'r3',
        // Sizes and ranges are those of the file itself.
        'accept-encoding': 'identity',
        ...asked.headers?.(),
        ...(isHome && token !== undefined ? { authorization: `Bearer ${token}` } : {}),
      },
    });
    const location = response.headers.get('location');
    if (response.status < 300 || response.status >= 400 || location === null) return response;
    const next = URL.canParse(location, url.href) ? new URL(location, url) : undefined;
    if (asked.method === 'HEAD' && next?.origin !== home) return response;
    await response.body?.cancel();
    const isDowngrade = url.protocol === 'https:' && next?.protocol !== 'https:';
    if (next === undefined || isDowngrade || redirects === MAX_REDIRECTS) {
      const why = redirects === MAX_REDIRECTS ? 'too many redirects' : 'a redirect that cannot be followed';
      throw unreachable(hub, url.href, why);
    }
    url = next;
  }
}

/** What an answer of 4xx or 5xx means. */
function refusal(hub: Hub, { path }: Asked, response: Response): Problem {
  const { status, headers } = response;
  const place = placeOf(hub.settings.endpoint + path);
  if (status === 429) {
    const waitMs = waitOf(headers);
    const after = waitMs === undefined ? 'later' : `in ${Math.ceil(waitMs / 1000)} seconds`;
    const more = hub.settings.token === undefined ? '; with HF_TOKEN set the hub allows more' : '';
    const error = unreachable(hub, place, `too many requests (429), try again ${after}${more}`);
    return { error, transient: true, waitMs };
  }
  if (status === 408 || status >= 500) {
    return { error: unreachable(hub, place, `status ${status}`), transient: true, waitMs: waitOf(headers) };
  }
  return { error: denied(hub, path, response), transient: false };
}

function denied(hub: Hub, path: string, { status, headers, url }: Response): R3Error {
  const { repository, revision, settings } = hub;
  const { endpoint, token } = settings;
  if (new URL(url).origin !== new URL(endpoint).origin) {
    return new R3Error(
      'hub',
      'no-access',
      `${placeOf(url)}: expected the file, got status ${status}; try again`,
    );
  }
  const page = `${endpoint}/${repository}`;
  const said = headers.get('x-error-message') ?? '';
  switch (headers.get('x-error-code')) {
    case 'RevisionNotFound':
      return new R3Error(
        'hub',
        'not-found',
        `${repository}: expected a revision that exists, got ${JSON.stringify(revision)}; ${page}/tree/main lists branches and tags`,
      );
    case 'EntryNotFound':
      return new R3Error('hub', 'not-found', `${placeOf(endpoint + path)}: expected a file, got none there`);
    case 'GatedRepo':
      return new R3Error(
        'hub',
        'no-access',
        `${repository}: expected access, got a gated repository; accept its licence at ${page}, then ${
          token === undefined
            ? 'set HF_TOKEN to a token of your account'
            : 'check that HF_TOKEN is a token of the account that accepted it'
        }`,
      );
    case null:
    default:
  }
  if (status === 401 && said.startsWith('Invalid credentials')) {
    return new R3Error(
      'hub',
      'no-access',
      `${repository}: expected a token that the hub knows, got one that it refuses; set HF_TOKEN to a valid one, or to none for a public model`,
    );
  }
  if (status === 401 || status === 404) {
    return new R3Error(
      'hub',
      'not-found',
      `${repository}: expected a repository that exists, got none at ${page}; check the name, or for a private one ${
        token === undefined ? 'set HF_TOKEN' : 'whether the token may read it'
      }`,
    );
  }
  return new R3Error(
    'hub',
    'no-access',
    `${repository}: expected access, got status ${status}${said === '' ? '' : ` (${quoted(said, token)})`}`,
  );
}

/** What a server says, for a person: on one line, not too long, without the token. */
function quoted(text: string, token: string | undefined): string {
  const safe = token === undefined ? text : text.replaceAll(token, '***');
  return oneLine(safe).slice(0, MAX_MESSAGE_LENGTH);
}

/** What a connection that failed means. */
function lost(hub: Hub, { path, persistent }: Asked, error: unknown): Problem {
  const place = placeOf(hub.settings.endpoint + path);
  const passing = (why: string): Problem => ({ error: unreachable(hub, place, why), transient: true });
  if (error instanceof CutShort) return passing(error.message);
  if (!(error instanceof TypeError)) return passing('no bytes for half a minute');
  const code = codeOf(error);
  if (code === 'UND_ERR_SOCKET') return passing('a connection that was cut');
  if (code === undefined) {
    // fetch refuses some addresses itself, such as those with the port of another service.
    return { error: unreachable(hub, place, oneLine(messageOf(error.cause))), transient: false };
  }
  if (/CERT|SELF_SIGNED|UNABLE_TO_VERIFY|ERR_TLS/.test(code)) {
    const why = `${code}; a proxy that opens TLS needs its certificate in NODE_EXTRA_CA_CERTS`;
    return { error: unreachable(hub, place, why), transient: false };
  }
  const isAbsent = ['ENOTFOUND', 'EAI_AGAIN', 'ECONNREFUSED', 'ENETUNREACH', 'EHOSTUNREACH'].includes(code);
  const host = new URL(hub.settings.endpoint).host;
  const why = isAbsent ? `${code}; is there a network, and does it reach ${host}?` : code;
  return { error: unreachable(hub, place, why), transient: !isAbsent || persistent === true };
}

function unreachable(hub: Hub, place: string, got: string): R3Error {
  const proxy = hub.settings.hasProxy
    ? '; Node 20 does not use HTTPS_PROXY: set NODE_USE_ENV_PROXY=1 on Node 24, or download with the Hugging Face tools, whose cache r3 reads'
    : '';
  return new R3Error('hub', 'no-network', `${placeOf(place)}: expected an answer, got ${got}${proxy}`);
}

/** The code of a failed connection: undici puts it into the cause, or into one of several causes. */
function codeOf(error: unknown): string | undefined {
  for (let at = error; at instanceof Error; at = at.cause) {
    const { code } = at as NodeJS.ErrnoException;
    if (typeof code === 'string' && /^[A-Z]/.test(code)) return code;
    if (at instanceof AggregateError && at.errors.length > 0) return codeOf(at.errors[0]);
  }
  return undefined;
}

/** Seconds in Retry-After (a date is not understood), else in the hub's RateLimit: `"api";r=0;t=55`. */
function waitOf(headers: Headers): number | undefined {
  const text = headers.get('retry-after') ?? /;\s*t=(\d+)/.exec(headers.get('ratelimit') ?? '')?.[1];
  return text != null && /^\d{1,9}$/.test(text) ? Number(text) * 1000 : undefined;
}

/** An address without query, fragment and credentials. */
function placeOf(address: string): string {
  const url = new URL(address);
  return oneLine(`${url.origin}${url.pathname}`);
}
