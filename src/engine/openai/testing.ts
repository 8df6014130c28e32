/** A server on loopback that answers as a script says, for tests of what calls it. */
import { once } from 'node:events';
import { createServer, type IncomingHttpHeaders } from 'node:http';
import type { AddressInfo } from 'node:net';
import { isObject } from '../../lib/json.ts';
import { openChatClient, type ChatClient, type ChatClientOptions } from './client.ts';

export interface Received {
  method: string;
  path: string;
  headers: IncomingHttpHeaders;
  body: Record<string, unknown>;
}

/** `reset`: the connection is cut; `truncate`: half of a body, then cut; `hang`: nothing at all. */
export type Scripted =
  | 'reset'
  | 'truncate'
  | 'hang'
  | { status?: number; headers?: Record<string, string>; body: unknown };

export interface ScriptedServer {
  url: string;
  received: Received[];
  /** Connections that were opened, and the most requests that were under way at a time. */
  seen: { connections: number; mostAtOnce: number };
  close(): Promise<void>;
}

/** `script` is asked for each request, `index` its place among those received; a body that is a text goes as it is. */
export async function startScriptedServer(
  script: (request: Received, index: number) => Scripted | Promise<Scripted>,
): Promise<ScriptedServer> {
  const received: Received[] = [];
  const seen = { connections: 0, mostAtOnce: 0 };
  let underWay = 0;
  const server = createServer((incoming, outgoing) => {
    void (async () => {
      const chunks: Buffer[] = [];
      for await (const chunk of incoming) chunks.push(chunk as Buffer);
      const text = Buffer.concat(chunks).toString();
      const parsed: unknown = text === '' ? {} : JSON.parse(text);
      const { method = '', url: path = '', headers } = incoming;
      const request = { method, path, headers, body: isObject(parsed) ? parsed : {} };
      seen.mostAtOnce = Math.max(seen.mostAtOnce, ++underWay);
      outgoing.on('close', () => underWay--);
      const answer = await script(request, received.push(request) - 1);
      if (answer === 'hang') return;
      if (answer === 'reset') {
        incoming.socket.destroy();
        return;
      }
      if (answer === 'truncate') {
        outgoing.writeHead(200, { 'content-type': 'application/json', 'content-length': '1000' });
        outgoing.write('{"choices":[', () => incoming.socket.destroy());
        return;
      }
      const body = typeof answer.body === 'string' ? answer.body : JSON.stringify(answer.body);
      outgoing.writeHead(answer.status ?? 200, { 'content-type': 'application/json', ...answer.headers });
      outgoing.end(body);
    })();
  });
  server.on('connection', () => seen.connections++);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}/v1`,
    received,
    seen,
    close: async () => {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}

/** A chat completion as OpenAI writes it, of these texts. */
export function completionOf(
  texts: readonly (string | null)[],
  { tokens = 5, finish = 'stop' }: { tokens?: number; finish?: string | null } = {},
): Record<string, unknown> {
  return {
    id: 'chatcmpl-1',
    object: 'chat.completion',
    choices: texts.map((content, index) => ({
      index,
      message: { role: 'assistant', content, refusal: null },
      finish_reason: finish,
    })),
    usage: { prompt_tokens: 7, completion_tokens: tokens, total_tokens: 7 + tokens },
  };
}

/** A client that notes its waits and does not wait. */
export function testClient(
  url: string,
  options: Partial<ChatClientOptions> = {},
): ChatClient & { waits: number[] } {
  const waits: number[] = [];
  const client = openChatClient({
    url,
    model: 'tiny',
    concurrency: 4,
    timeoutMs: 10_000,
    signal: new AbortController().signal,
    wait: async (milliseconds) => {
      waits.push(milliseconds);
    },
    now: () => Date.parse('2026-01-01T00:00:00Z'),
    ...options,
  });
  return { ...client, waits };
}
