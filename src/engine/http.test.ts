import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { afterEach, expect, test } from 'vitest';
import { R3Error } from '../lib/errors.ts';
import { systemClock } from './clock.ts';
import { Lost, openHttp, type Exchange, type Http } from './http.ts';

const open: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of open.splice(0)) await close();
});

interface Served extends Http {
  requests: IncomingMessage[];
  sockets: Socket[];
  get(path: string, more?: Partial<Exchange>): ReturnType<Http['send']>;
}

/** A server that answers as `answer` does, and a client of it. */
async function serve(
  answer: (request: IncomingMessage, reply: ServerResponse, index: number) => void,
): Promise<Served> {
  const requests: IncomingMessage[] = [];
  const sockets: Socket[] = [];
  const server = createServer((request, reply) => answer(request, reply, requests.push(request) - 1));
  server.on('connection', (socket) => sockets.push(socket));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const http = openHttp({ origin, headers: ['x-of-all', 'yes'], clock: systemClock });
  open.push(http.close, async () => {
    server.closeAllConnections();
    server.close();
  });
  const get: Served['get'] = (path, more) =>
    http.send({ method: 'GET', path, headers: [], timeoutMs: 10_000, cancel: [], ...more });
  return { ...http, requests, sockets, get };
}

async function lossOf(work: Promise<unknown>): Promise<Lost> {
  const error = await work.then(
    () => undefined,
    (each: unknown) => each,
  );
  if (error instanceof Lost) return error;
  throw new Error(`expected a lost request, got ${String(error)}`);
}

test('a secret that is sent back is masked, as long as it was', async () => {
  const { requests, get } = await serve((request, reply) =>
    reply.end(`<html>ü you sent ${String(request.headers['x-key'])}; bye`),
  );
  await get('/');
  const port = requests[0]?.socket.localPort;
  const headers = ['x-key', 'tml-nobody'];
  const http = openHttp({
    origin: `http://127.0.0.1:${port}`,
    headers,
    secret: 'tml-nobody',
    clock: systemClock,
  });
  open.push(http.close);
  const { body } = await http.send({ method: 'GET', path: '/', headers: [], timeoutMs: 10_000, cancel: [] });
  expect(body.toString('utf8')).toBe('<html>ü you sent **********; bye');
});

test('a request carries the headers of all and its own, and its body', async () => {
  const { send, requests, traffic } = await serve((request, reply) => request.pipe(reply));
  const headers = ['x-own', 'too'];
  const post = { method: 'POST', path: '/a/b', headers, timeoutMs: 10_000, cancel: [] } as const;
  expect((await send({ ...post, body: 'text ü' })).body.toString()).toBe('text ü');
  expect((await send({ ...post, body: Uint8Array.of(1, 2) })).body).toEqual(Buffer.of(1, 2));
  expect(requests[0]).toMatchObject({ method: 'POST', url: '/a/b' });
  expect(requests[0]?.headers).toMatchObject({ 'x-of-all': 'yes', 'x-own': 'too', 'content-length': '7' });
  expect(traffic()).toEqual({ requests: 2, bytesOut: 9, bytesIn: 9 });
});

test('any status is a reply, and a redirect is not followed', async () => {
  const { get, requests } = await serve((_, reply) => reply.writeHead(302, { location: '/other' }).end());
  expect(await get('/')).toMatchObject({ status: 302, headers: { location: '/other' } });
  expect(requests).toHaveLength(1);
});

test('requests side by side have a connection each, and later ones use them again', async () => {
  const { get, sockets } = await serve((_, reply) => void setImmediate(() => reply.end('x')));
  for (let round = 0; round < 3; round++) await Promise.all(Array.from({ length: 5 }, () => get('/')));
  expect(sockets).toHaveLength(5);
});

test('a connection that is cut under a request is told apart by its having been idle, and nothing is sent twice', async () => {
  const { get, requests } = await serve((request, reply, i) => {
    if (i === 1) reply.end('x');
    else request.socket.destroy();
  });
  expect((await lossOf(get('/'))).why).toBe('cut');
  await get('/');
  expect((await lossOf(get('/'))).why).toBe('stale');
  expect((await lossOf(get('/'))).why).toBe('cut');
  expect(requests).toHaveLength(4);
});

test('a connection that the server closed while it was idle is not used again', async () => {
  const { get, sockets } = await serve((_, reply) => reply.end('x'));
  await get('/');
  const [first] = sockets as [Socket];
  first.end();
  await once(first, 'close');
  expect((await get('/')).status).toBe(200);
  expect(sockets).toHaveLength(2);
});

test('half a reply is no reply', async () => {
  const { get } = await serve((request, reply) => {
    reply.writeHead(200, { 'content-length': '100' });
    reply.write('half', () => request.socket.destroy());
  });
  expect((await lossOf(get('/'))).why).toBe('cut');
});

test('a reply that does not come in time, or not whole, is given up', async () => {
  const { get, sockets } = await serve((_, reply, i) => {
    if (i === 1) reply.writeHead(200).write('half');
  });
  const first = await lossOf(get('/', { timeoutMs: 10 }));
  expect([first.why, first.message]).toEqual(['timeout', 'nothing within 0.01 s']);
  expect((await lossOf(get('/', { timeoutMs: 10 }))).why).toBe('timeout');
  expect(sockets).toHaveLength(2);
});

test('a raised signal ends a request, also before its connection is there', async () => {
  const { get, requests } = await serve(() => undefined);
  const stop = new AbortController();
  const reason = new R3Error('engine', 'cancelled', 'enough');
  const early = get('/', { cancel: [stop.signal] });
  stop.abort(reason);
  await expect(early).rejects.toBe(reason);
  await expect(get('/', { cancel: [stop.signal] })).rejects.toBe(reason);
  const other = new AbortController();
  const late = get('/', { cancel: [other.signal] });
  await expect.poll(() => requests.length).toBeGreaterThan(0);
  other.abort(reason);
  await expect(late).rejects.toBe(reason);
});

test('where nobody listens, the service is unreachable', async () => {
  const http = openHttp({ origin: 'http://127.0.0.1:1', headers: [], clock: systemClock });
  open.push(http.close);
  const lost = await lossOf(
    http.send({ method: 'GET', path: '/', headers: [], timeoutMs: 10_000, cancel: [] }),
  );
  expect([lost.why, lost.message]).toEqual(['unreachable', 'ECONNREFUSED']);
});

test('close ends what is under way', async () => {
  const { get, close, requests } = await serve(() => undefined);
  const lost = lossOf(get('/'));
  await expect.poll(() => requests.length).toBe(1);
  close();
  expect((await lost).why).toBe('cut');
});
