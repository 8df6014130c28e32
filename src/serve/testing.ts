/** A handler over scripted engines and the byte-level fixture, for tests. */
import { fileURLToPath } from 'node:url';
import type { Engine } from '../engine/engine.ts';
import { makeFakeEngine } from '../engine/fake.ts';
import { loadTokenizer } from '../text/tokenizer.ts';
import { makeHandler, type Handler, type HandlerOptions, type RequestLog } from './handler.ts';
import type { PromptRequest } from './render-prompt.ts';

export const tokenizer = loadTokenizer(
  fileURLToPath(new URL('../../test/fixtures/tokenizers/byte-level', import.meta.url)),
);
const eosId = tokenizer.eosIds[0] ?? 0;
export const CONTEXT = 512;
export const LIMITS = { maxBodyBytes: 20_000, maxTokens: 400, maxRequests: 8 };

/** Completion i of every prompt is the i-th text (the last, where there are fewer) and the end of turn. */
export function engineOf(...texts: string[]): ReturnType<typeof makeFakeEngine> {
  return makeFakeEngine((_, index) => [...tokenizer.encode(texts[index] ?? texts.at(-1) ?? ''), eosId], {
    contextLength: CONTEXT,
  });
}

/** Samples the same token until it is told to stop. */
export function endlessEngine(): Engine {
  const [token = 0] = tokenizer.encode('a');
  return {
    ...engineOf(''),
    sample: async ({ signal, onToken }) => {
      const tokens: number[] = [];
      while (signal?.aborted !== true) {
        await new Promise((resolve) => setImmediate(resolve));
        tokens.push(token);
        onToken?.(0, token, -1);
      }
      return [{ tokens, logprobs: tokens.map(() => -1), stopReason: 'cancelled' }];
    },
  };
}

/** One line a message, then the tools' names and the variables, so that tests see what the template was given. */
function render({ messages, tools, addGenerationPrompt, variables }: PromptRequest): string {
  const lines = messages.map((message) => JSON.stringify(message));
  if (tools !== undefined) lines.push(`tools ${JSON.stringify(tools)}`);
  if (Object.keys(variables).length > 0) lines.push(JSON.stringify(variables));
  return `${lines.join('\n')}\n${addGenerationPrompt ? 'assistant: ' : ''}`;
}

export interface TestServer extends Handler {
  logs: RequestLog[];
  /** Sends JSON, or a text as it is. */
  post(path: string, body: unknown, init?: RequestInit): Promise<Response>;
}

export function serverOf(engine: Engine, options: Partial<HandlerOptions> = {}): TestServer {
  const logs: RequestLog[] = [];
  let clock = 1_700_000_000_000;
  let id = 0;
  const handler = makeHandler({
    model: { name: 'tiny', engine, tokenizer, render, chatStopIds: tokenizer.eosIds },
    limits: LIMITS,
    isLoopbackOnly: true,
    now: () => (clock += 500),
    randomSeed: () => 77,
    newId: () => `id${++id}`,
    log: (entry) => logs.push(entry),
    ...options,
  });
  return {
    ...handler,
    logs,
    post: (path, body, init = {}) =>
      handler.handle(
        new Request(`http://localhost:8000${path}`, {
          method: 'POST',
          headers: { 'content-type': 'application/json' },
          body: typeof body === 'string' ? body : JSON.stringify(body),
          ...init,
        }),
      ),
  };
}
