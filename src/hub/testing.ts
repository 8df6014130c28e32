/**
 * A hub on loopback, for tests: two servers, one that answers as the hub does (API, redirects, error codes) and one
 * for large files. It remembers what it was asked, and makes the trouble that a test asks for.
 */
import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export const TOKEN = 'hf_testtokenthatnobodymaysee';
const SIGNATURE = 'signaturethatnobodymaysee';

export interface TestFile {
  content: Buffer;
  /** Large files are at the other host, and known by their sha256. */
  isLarge: boolean;
  /** What the listing says, where it is not so. */
  listedSize?: number;
}

export interface TestRepository {
  commit: string;
  /** Branches and tags, all of this one commit. */
  revisions: string[];
  access: 'open' | 'gated' | 'private';
  files: Record<string, TestFile>;
}

export interface Seen {
  host: 'hub' | 'files';
  method: string;
  /** Without the query. */
  path: string;
  range: string | undefined;
  authorization: string | undefined;
}

/** What goes wrong with one answer. */
export interface Trouble {
  /** This status instead. */
  status?: number;
  headers?: Record<string, string>;
  /** The connection ends after so many bytes of the body. */
  cutAfter?: number;
  /** Instead of the end of the connection, after which nothing comes any more. */
  onStall?: () => void;
  /** All of the file, whatever was asked for. */
  ignoresRange?: boolean;
  /** The part from this byte on, whatever part was asked for. */
  partFrom?: number;
  /** Other bytes. */
  body?: Buffer;
}

export interface TestHub {
  endpoint: string;
  repositories: Map<string, TestRepository>;
  seen: Seen[];
  /** Whether the listing has sizes and hashes. */
  listsBlobs: boolean;
  trouble: (seen: Seen) => Trouble | undefined;
  close(): Promise<void>;
}

/** `config.json` and the like are small; what ends in .safetensors is large. */
export function makeRepository(files: Record<string, Buffer | string>): TestRepository {
  return {
    commit: createHash('sha1')
      .update(JSON.stringify(Object.keys(files)))
      .digest('hex'),
    revisions: ['main', 'v1'],
    access: 'open',
    files: Object.fromEntries(
      Object.entries(files).map(([path, content]) => [
        path,
        { content: Buffer.from(content), isLarge: path.endsWith('.safetensors') },
      ]),
    ),
  };
}

export async function startHub(): Promise<TestHub> {
  const hub: TestHub = {
    endpoint: '',
    repositories: new Map(),
    seen: [],
    listsBlobs: true,
    trouble: () => undefined,
    close: async () => {
      for (const server of [front, store]) {
        server.closeAllConnections();
        await new Promise((resolve) => {
          server.close(resolve);
        });
      }
    },
  };
  const front = createServer((request, response) => {
    const [seen, trouble] = note(hub, 'hub', request);
    if (trouble?.status === undefined) answerHub(hub, seen, trouble, response, addressOf(store));
    else response.writeHead(trouble.status, trouble.headers).end();
  });
  const store = createServer((request, response) => {
    const [seen, trouble] = note(hub, 'files', request);
    if (trouble?.status !== undefined) {
      response.writeHead(trouble.status, trouble.headers).end();
      return;
    }
    // A signed address is all that it wants, and it refuses what was meant for the hub.
    const hash = seen.path.slice(1);
    const file = [...hub.repositories.values()]
      .flatMap(({ files }) => Object.values(files))
      .find(({ content }) => sha256(content) === hash);
    if (file === undefined || request.url?.includes(SIGNATURE) !== true || seen.authorization !== undefined) {
      response.writeHead(400).end();
    } else sendFile(response, seen, file.content, trouble, { etag: '"of-the-store"' });
  });
  await Promise.all([front, store].map(listen));
  hub.endpoint = addressOf(front);
  return hub;
}

function note(hub: TestHub, host: Seen['host'], request: IncomingMessage): [Seen, Trouble | undefined] {
  const { method = '', url = '', headers } = request;
  const { range, authorization } = headers;
  const seen: Seen = { host, method, path: url.replace(/\?.*/, ''), range, authorization };
  hub.seen.push(seen);
  return [seen, hub.trouble(seen)];
}

function answerHub(
  hub: TestHub,
  seen: Seen,
  trouble: Trouble | undefined,
  response: ServerResponse,
  store: string,
): void {
  const fail = (status: number, code: string, message = ''): void => {
    response.writeHead(status, { 'x-error-code': code, 'x-error-message': message }).end();
  };
  const isKnown = seen.authorization === `Bearer ${TOKEN}`;
  if (seen.authorization !== undefined && !isKnown) {
    response.writeHead(401, { 'x-error-message': 'Invalid credentials in Authorization header' }).end();
    return;
  }
  const asked =
    /^\/api\/models\/(.+)\/revision\/([^/]+)$/.exec(seen.path) ??
    /^\/(.+?)\/resolve\/([^/]+)\/(.+)$/.exec(seen.path);
  const [, name = '', revision = '', path] = (asked ?? []).map(decodeURIComponent);
  const repository = hub.repositories.get(name);
  if (repository === undefined || (repository.access === 'private' && !isKnown)) {
    if (isKnown) fail(404, 'RepoNotFound', 'Repository not found');
    else response.writeHead(401, { 'x-error-message': 'Invalid username or password.' }).end();
    return;
  }
  if (revision !== repository.commit && !repository.revisions.includes(revision)) {
    fail(404, 'RevisionNotFound', `Invalid rev id: ${revision}`);
    return;
  }
  if (path === undefined) {
    const body = Buffer.from(JSON.stringify(listingOf(repository, name, hub.listsBlobs)));
    sendFile(response, seen, body, trouble, { 'content-type': 'application/json' });
    return;
  }
  if (repository.access === 'gated') {
    fail(isKnown ? 403 : 401, 'GatedRepo', `Access to model ${name} is restricted.`);
    return;
  }
  const file = repository.files[path];
  if (file === undefined) {
    fail(404, 'EntryNotFound', 'Entry not found');
    return;
  }
  const common = { 'x-repo-commit': repository.commit };
  if (!file.isLarge) {
    sendFile(response, seen, file.content, trouble, { ...common, etag: `"${gitHash(file.content)}"` });
    return;
  }
  response
    .writeHead(302, {
      ...common,
      location: `${store}/${sha256(file.content)}?X-Amz-Signature=${SIGNATURE}`,
      'x-linked-etag': `"${sha256(file.content)}"`,
      'x-linked-size': file.content.length,
    })
    .end();
}

function listingOf(repository: TestRepository, id: string, blobs: boolean): object {
  const siblings = Object.entries(repository.files).map(([rfilename, file]) => {
    const { content, isLarge, listedSize: size = content.length } = file;
    if (!blobs) return { rfilename };
    const lfs = { sha256: sha256(content), size, pointerSize: 130 };
    return { rfilename, size, blobId: gitHash(content), ...(isLarge ? { lfs } : {}) };
  });
  return { id, modelId: id, sha: repository.commit, private: repository.access === 'private', siblings };
}

function sendFile(
  response: ServerResponse,
  { method, range }: Seen,
  content: Buffer,
  { ignoresRange, cutAfter, onStall, partFrom, body }: Trouble = {},
  headers: Record<string, string>,
): void {
  const whole = body ?? content;
  const from = ignoresRange === true ? 0 : (partFrom ?? Number(/^bytes=(\d+)-$/.exec(range ?? '')?.[1] ?? 0));
  if (from > 0 && from >= whole.length) {
    response.writeHead(416, { 'content-range': `bytes */${whole.length}` }).end();
    return;
  }
  const part = whole.subarray(from);
  const status = from === 0 ? 200 : 206;
  response.writeHead(status, {
    ...headers,
    'content-length': part.length,
    ...(status === 206
      ? { 'content-range': `bytes ${from}-${whole.length - 1}/${whole.length}` }
      : { 'accept-ranges': 'bytes' }),
  });
  if (method === 'HEAD') response.end();
  else if (cutAfter === undefined || cutAfter >= part.length) response.end(part);
  else response.write(part.subarray(0, cutAfter), () => (onStall ?? (() => response.destroy()))());
}

export function sha256(content: Uint8Array): string {
  return createHash('sha256').update(content).digest('hex');
}

/** The name that git gives to a file's content. */
export function gitHash(content: Uint8Array): string {
  return createHash('sha1').update(`blob ${content.length}\0`).update(content).digest('hex');
}

function listen(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.listen(0, '127.0.0.1', resolve);
  });
}

function addressOf(server: Server): string {
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

/** Whether a text shows what must stay secret. */
export function showsSecret(text: string): boolean {
  return text.includes(TOKEN) || text.includes(SIGNATURE);
}
