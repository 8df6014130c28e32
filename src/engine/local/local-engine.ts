/**
 * The embedded engine as the rest of the program sees it: `Engine` over a message port.
 *
 * By default the other end is a worker thread, so that verifiers, progress and pages run beside it.
 * `thread: false` serves the port on this thread instead: same code, for tests and short scripts.
 */
import { MessageChannel, Worker } from 'node:worker_threads';
import { R3Error } from '../../lib/errors.ts';
import { makeCallOrder } from '../call-order.ts';
import type { Completion, Engine } from '../engine.ts';
import type { LocalEngineOptions } from './core.ts';
import { serveEngine } from './host.ts';
import type { CallName, Calls, FromEngine, ToEngine } from './protocol.ts';

export type { LocalEngineOptions } from './core.ts';

interface Pending {
  resolve(output: unknown): void;
  reject(error: Error): void;
  onToken: ((index: number, token: number, logprob: number) => void) | undefined;
}

/** Opens a model directory. Throws what is wrong with it, with the kernels or with the options. */
export async function openLocalEngine(options: LocalEngineOptions & { thread?: boolean }): Promise<Engine> {
  const { thread = true, ...engineOptions } = options;
  const { port1: port, port2: far } = new MessageChannel();
  const pending = new Map<number, Pending>();
  let nextId = 0;
  let worker: Worker | undefined;

  let ended = false;
  const failAll = (error: Error): void => {
    for (const { reject } of pending.values()) reject(error);
    pending.clear();
  };
  const end = (): void => {
    ended = true;
    failAll(new R3Error('engine', 'cancelled', 'the engine was closed'));
  };
  port.on('close', end);
  if (thread) {
    worker = new Worker(workerUrl(), {
      workerData: { port: far, options: engineOptions },
      transferList: [far],
    });
    worker.on('error', (error) => failAll(error));
    worker.on('exit', end);
  } else {
    serveEngine(far, engineOptions);
  }

  port.on('message', (message: FromEngine) => {
    const call = pending.get(message.id);
    if (call === undefined) return;
    if (message.kind === 'token') {
      call.onToken?.(message.index, message.token, message.logprob);
      return;
    }
    pending.delete(message.id);
    if (pending.size === 0) port.unref();
    if (message.kind === 'done') call.resolve(message.output);
    else
      call.reject(
        message.code === undefined || message.boundary === undefined
          ? new Error(message.message)
          : new R3Error(message.boundary, message.code, message.message),
      );
  });
  port.unref();

  function send<Name extends CallName>(
    name: Name,
    input: Calls[Name]['input'],
    signal?: AbortSignal,
    onToken?: Pending['onToken'],
  ): Promise<Calls[Name]['output']> {
    if (ended) return Promise.reject(new R3Error('engine', 'cancelled', 'the engine was closed'));
    const id = nextId++;
    return new Promise((resolve, reject) => {
      const onAbort = (): void => port.postMessage({ kind: 'cancel', id } satisfies ToEngine);
      const settle =
        <T>(then: (value: T) => void) =>
        (value: T): void => {
          signal?.removeEventListener('abort', onAbort);
          then(value);
        };
      pending.set(id, {
        resolve: settle(resolve as (output: unknown) => void),
        reject: settle(reject),
        onToken,
      });
      port.ref();
      port.postMessage({ kind: 'call', id, name, input });
      if (signal?.aborted === true) onAbort();
      else signal?.addEventListener('abort', onAbort);
    });
  }

  /** Training calls have several messages: one call at a time. */
  const { inOrder, adding, stepping, clearing } = makeCallOrder();

  const capabilities = await send('capabilities', undefined).catch(async (error: unknown) => {
    await close();
    throw error;
  });

  async function close(): Promise<void> {
    if (ended) return;
    port.postMessage({ kind: 'close' } satisfies ToEngine);
    await new Promise<void>((resolve) => {
      port.once('close', resolve);
      port.ref();
    });
    await worker?.terminate();
  }

  return {
    capabilities: () => capabilities,
    sample: async ({ prompt, count, params, seed, signal, onToken }) => {
      if (signal?.aborted === true) return Array.from({ length: count }, cancelledCompletion);
      const input = { prompt: [...prompt], count, params, seed, stream: onToken !== undefined };
      return send('sample', input, signal, onToken);
    },
    logprobs: (datums, { temperature = 1, weights = 'current' } = {}) =>
      inOrder(() => send('forward', { datums, temperature, weights, keep: false })),
    forwardBackward: (datums, loss, { temperature = 1 } = {}) =>
      adding(async () => {
        const logprobs = await send('forward', { datums, temperature, weights: 'current', keep: true });
        const result = loss(logprobs);
        await send('backward', result.gradients);
        return { ...result, logprobs };
      }),
    step: (adam) => stepping(() => send('step', adam)),
    gradientNorms: () => inOrder(() => send('gradientNorms', undefined)),
    zeroGradients: () => clearing(() => send('zeroGradients', undefined)),
    save: (directory) => inOrder(() => send('save', directory)),
    saveState: (directory) => inOrder(() => send('saveState', directory)),
    loadState: (directory) => clearing(() => send('loadState', directory)),
    stats: () => send('stats', undefined),
    close,
  };
}

function cancelledCompletion(): Completion {
  return { tokens: [], logprobs: [], stopReason: 'cancelled' };
}

/** Node 20 runs no TypeScript: from source, the thread runs the built file. */
function workerUrl(): URL {
  const built = import.meta.url.endsWith('.ts') ? '../../../dist/engine/local/worker.js' : './worker.js';
  return new URL(built, import.meta.url);
}
