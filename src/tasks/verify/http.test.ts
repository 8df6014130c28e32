/** HTTP verifiers with a service on loopback. */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { makeHttpVerifier, type HttpOptions } from './http.ts';

type Handle = (body: string, response: ServerResponse, request: IncomingMessage) => void;

let handle: Handle;
let requests: number;
let atOnce: number;
let mostAtOnce: number;
const server = createServer((request, response) => {
  requests += 1;
  atOnce += 1;
  mostAtOnce = Math.max(mostAtOnce, atOnce);
  response.on('close', () => (atOnce -= 1));
  let body = '';
  request.on('data', (chunk) => (body += String(chunk)));
  request.on('end', () => handle(body, response, request));
});
let url: string;
beforeAll(async () => {
  await new Promise<void>((ready) => server.listen(0, '127.0.0.1', ready));
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/judge`;
});
beforeEach(() => {
  [requests, atOnce, mostAtOnce] = [0, 0, 0];
});
afterAll(() => {
  server.closeAllConnections();
  server.close();
});

const SECRET = 'sk-12345';
const verifier = (options: Partial<HttpOptions> = {}): ReturnType<typeof makeHttpVerifier> =>
  makeHttpVerifier({
    url,
    headers: {},
    timeoutMs: 10_000,
    concurrency: 2,
    env: { KEY: SECRET },
    resendDelayMs: 1,
    ...options,
  });
const reply =
  (status: number, body: string, headers: Record<string, string> = {}): Handle =>
  (_, response) => {
    response.writeHead(status, headers);
    response.end(body);
  };

test('problem and answer are posted as JSON, the verdict comes back', async () => {
  handle = (body, response, request) => {
    expect(request.method).toBe('POST');
    expect(request.headers['content-type']).toBe('application/json');
    const { problem, answer } = JSON.parse(body) as { problem: { gold: string }; answer: string };
    const ok = problem.gold === answer;
    response.end(JSON.stringify(ok ? { ok, extra: 1 } : { ok, class: 'wrong number', why: answer }));
  };
  const verify = verifier();
  expect(await verify({ gold: 'é\0' }, 'é\0')).toEqual({ ok: true });
  expect(await verify({ gold: '4' }, '5')).toEqual({ ok: false, class: 'wrong number', why: '5' });
});

test('class and reason may be absent', async () => {
  handle = reply(200, '{"ok": false}');
  expect(await verifier()({}, 'a')).toEqual({
    ok: false,
    class: 'wrong answer',
    why: 'the service gives no reason',
  });
});

describe('not judged, never a fail:', () => {
  test.each([
    [404, '{"ok": false}', 'expected status 200, got 404', 1],
    [429, '', 'expected status 200, got 429 (sent 3 times)', 3],
    [503, '', 'expected status 200, got 503 (sent 3 times)', 3],
    [200, 'no', 'the reply: expected a JSON object', 1],
    [200, '{"ok": "yes"}', 'expected {ok, class, why} in the reply, got {"ok":"yes"}', 1],
    [200, '{"ok": false, "class": 3}', 'expected {ok, class, why} in the reply', 1],
    [200, 'x'.repeat(70_000), 'expected a reply of at most 65536 bytes', 1],
  ])('status %i, case %#', async (status, body, message, sent) => {
    handle = reply(status, body);
    await expect(verifier()({}, 'a')).rejects.toThrow(message);
    expect(requests).toBe(sent);
  });

  test('no reply in time', async () => {
    handle = () => undefined;
    await expect(verifier({ timeoutMs: 30 })({}, 'a')).rejects.toThrow(
      'got none within 30 ms (sent 3 times)',
    );
  });

  test('no connection', async () => {
    await expect(verifier({ url: 'http://127.0.0.1:1/x' })({}, 'a')).rejects.toThrow(
      /^http http:\/\/127\.0\.0\.1:1\/x: expected a reply, got /,
    );
  });

  test('a redirect, which would carry secrets elsewhere', async () => {
    handle = reply(302, '', { location: '/elsewhere' });
    await expect(verifier()({}, 'a')).rejects.toThrow('expected a reply');
  });
});

test('a service that comes back is asked again', async () => {
  handle = (_, response) => {
    response.writeHead(requests < 3 ? 500 : 200);
    response.end('{"ok": true}');
  };
  expect(await verifier()({}, 'a')).toEqual({ ok: true });
  expect(requests).toBe(3);
});

test('no more requests are under way than allowed', async () => {
  handle = (_, response) => setTimeout(() => response.end('{"ok": true}'), 5);
  const verify = verifier();
  await Promise.all(Array.from({ length: 10 }, () => verify({}, 'a')));
  expect({ requests, mostAtOnce }).toEqual({ requests: 10, mostAtOnce: 2 });
});

describe('secrets', () => {
  const headers = { authorization: 'Bearer ${KEY}' };

  test('come from the environment, into headers', async () => {
    handle = (_, response, request) =>
      response.end(JSON.stringify({ ok: request.headers.authorization === `Bearer ${SECRET}` }));
    expect(await verifier({ headers })({}, 'a')).toEqual({ ok: true });
  });

  test.each([
    [200, `{"ok": false, "class": "${SECRET}", "why": "key ${SECRET}"}`],
    [200, `{"ok": "${SECRET}"}`],
    [200, `not JSON ${SECRET}`],
  ])('are in no verdict and no error: %i %s', async (status, body) => {
    handle = reply(status, body);
    const said = await verifier({ headers })({}, 'a').then(JSON.stringify, (error: Error) =>
      [error.message, (error.cause as Error).message].join(' '),
    );
    expect(said).not.toContain(SECRET);
    expect(said).toContain('${KEY}');
  });

  test('that are not set, or cannot be sent, are said by name', () => {
    expect(() => verifier({ headers, env: {} })).toThrow(
      'http.headers.authorization: expected the environment variable KEY, got none; set it',
    );
    const broken = (): unknown => verifier({ headers, env: { KEY: `${SECRET}\n\nx` } });
    expect(broken).toThrow('http.headers.authorization: expected');
    expect(broken).not.toThrow(SECRET);
  });
});

test.each(['ftp://host/x', 'file:///etc/passwd', 'nowhere', 'http://user:pass@host/'])(
  '%s is refused',
  (address) => {
    expect(() => verifier({ url: address })).toThrow('http.url: expected an address');
  },
);
