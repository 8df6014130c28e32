/**
 * The engine's side of the protocol: owns the core and decides what it computes next.
 *
 * Sampling requests join the running batch as they arrive. Everything else waits until no completion is under
 * way, so that weights never change under a completion, and then runs in the order of arrival.
 */
import { freemem, totalmem } from 'node:os';
import type { MessagePort } from 'node:worker_threads';
import { messageOf, R3Error } from '../../lib/errors.ts';
import { loadKernels } from '../../kernels/load.ts';
import { makeCore, type LocalCore, type LocalEngineOptions } from './core.ts';
import { isAdapterFolder, loadAdapterConfig } from './adapter-files.ts';
import { openedConfig, openModel } from './directory.ts';
import { keepBytesOf, requireMemory, type MemoryOptions } from './memory.ts';
import type { SamplerRequest } from './sampler.ts';
import type { FromEngine, ToEngine } from './protocol.ts';

type Call = Extract<ToEngine, { kind: 'call' }>;

async function openCore(options: LocalEngineOptions): Promise<LocalCore> {
  const { kernels, threads } = options;
  const ops = await loadKernels({
    ...(kernels === undefined ? {} : { build: kernels }),
    ...(threads === undefined ? {} : { threads }),
  });
  const { dtype = 'f32', trainable = true } = options;
  const config = openedConfig(options.model, options);
  const lora = isAdapterFolder(options.model) ? loadAdapterConfig(options.model).options : options.lora;
  const training: MemoryOptions['training'] = trainable ? (lora ?? 'full') : 'none';
  const needs = { dtype, training, reference: false };
  const limit = memoryLimit(ops.build);
  // Before any weight is read.
  requireMemory(config, needs, limit);
  const keepBytes = keepBytesOf(config, needs, Math.min(limit, freemem()));
  return makeCore(ops, openModel(options.model, options), { keepBytes, ...options });
}

/** Bytes that this process may have: the machine's, those of its container, or what WASM can address. */
function memoryLimit(build: string): number {
  const constrained = process.constrainedMemory();
  const limits = [
    totalmem(),
    ...(constrained > 0 ? [constrained] : []),
    ...(build === 'wasm' ? [2 ** 32] : []),
  ];
  return Math.min(...limits);
}

export function serveEngine(port: MessagePort, options: LocalEngineOptions): void {
  const opening = openCore(options);
  opening.catch(() => undefined); // Each call reports it.
  const queue: Call[] = [];
  const sampling = new Map<number, SamplerRequest>();
  /** Cancelled before they began. */
  const cancelledEarly = new Set<number>();
  const seconds = { sampleSeconds: 0, trainSeconds: 0 };
  let pumping = false;

  const post = (message: FromEngine): void => port.postMessage(message);
  const fail = (id: number, error: unknown): void =>
    post({
      kind: 'failed',
      id,
      message: messageOf(error),
      ...(error instanceof R3Error ? { code: error.code, boundary: error.boundary } : {}),
    });

  function startSampling(core: LocalCore, { id, input }: Extract<Call, { name: 'sample' }>): void {
    const request: SamplerRequest = {
      ...input,
      cancelled: cancelledEarly.delete(id),
      onToken: input.stream
        ? (index, token, logprob) => post({ kind: 'token', id, index, token, logprob })
        : undefined,
      onDone: (completions) => {
        sampling.delete(id);
        post({ kind: 'done', id, output: completions });
      },
    };
    core.sampler.add(request);
    sampling.set(id, request);
  }

  async function run(core: LocalCore, call: Exclude<Call, { name: 'sample' }>): Promise<unknown> {
    switch (call.name) {
      case 'capabilities':
        return core.capabilities();
      case 'forward':
        return core.forward(call.input.datums, call.input.temperature, call.input.weights, call.input.keep);
      case 'backward':
        return core.backward(call.input);
      case 'step':
        return core.step(call.input);
      case 'gradientNorms':
        return core.gradientNorms();
      case 'zeroGradients':
        return core.zeroGradients();
      case 'save':
        return core.save(call.input);
      case 'saveState':
        return core.saveState(call.input);
      case 'loadState':
        return core.loadState(call.input);
      case 'stats':
        return { ...core.stats(), ...seconds };
      default:
        return call satisfies never;
    }
  }

  async function answer(core: LocalCore, call: Exclude<Call, { name: 'sample' }>): Promise<void> {
    const start = performance.now();
    try {
      post({ kind: 'done', id: call.id, output: await run(core, call) });
    } catch (error) {
      fail(call.id, error);
    }
    seconds.trainSeconds += (performance.now() - start) / 1000;
  }

  /** Takes the calls that have come, then computes; lets messages in between steps. */
  async function pump(): Promise<void> {
    if (pumping) return;
    pumping = true;
    const core = await opening;
    for (;;) {
      for (let i = 0; i < queue.length;) {
        const call = queue[i] as Call;
        if (call.name !== 'sample') {
          i++;
          continue;
        }
        queue.splice(i, 1);
        try {
          startSampling(core, call);
        } catch (error) {
          fail(call.id, error);
        }
      }
      if (core.sampler.busy) {
        const start = performance.now();
        core.sampler.step();
        seconds.sampleSeconds += (performance.now() - start) / 1000;
      } else {
        const call = queue.shift();
        if (call === undefined) break;
        await answer(core, call as Exclude<Call, { name: 'sample' }>);
      }
      await new Promise((resolve) => setImmediate(resolve));
    }
    pumping = false;
  }

  /** A fault inside a step leaves the engine in an unknown state: everything under way ends with it. */
  function abandon(error: unknown): void {
    for (const id of [...sampling.keys(), ...queue.map((call) => call.id)]) fail(id, error);
    sampling.clear();
    queue.length = 0;
    pumping = false;
    opening.then(
      (core) => core.sampler.reset(),
      () => undefined,
    );
  }

  port.on('message', (message: ToEngine) => {
    switch (message.kind) {
      case 'call':
        queue.push(message);
        pump().catch(abandon);
        return;
      case 'cancel': {
        const request = sampling.get(message.id);
        if (request !== undefined) request.cancelled = true;
        else if (queue.some((call) => call.id === message.id)) cancelledEarly.add(message.id);
        return;
      }
      case 'close':
        opening
          .then(
            (core) => core.close(),
            () => undefined,
          )
          .finally(() => port.close());
        return;
      default:
        message satisfies never;
    }
  });
}
