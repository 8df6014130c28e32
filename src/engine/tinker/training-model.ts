/**
 * A model that a service trains: gradients, optimizer steps, checkpoints.
 *
 * Wire facts: training calls carry model_id and a sequence id, from 1, which is the program order; gaps are legal.
 * Requests are sent one at a time. forward_backward takes protobuf in the newer dialect (forward_only for a pass without gradient) and JSON
 * in the older (POST forward for that). Gradients accumulate until optim_step. A service with client/config may still
 * be one that reads only JSON: where the first protobuf request is refused, it is sent as JSON under a fresh id.
 * save_weights {path: NAME} gives {path}; save_weights_for_sampler gives {path} for a name and a sampler without one.
 * A body is compressed with zstd where the service asks for that and this Node can.
 */
import { promisify } from 'node:util';
import zlib from 'node:zlib';
import { R3Error } from '../../lib/errors.ts';
import { chunksOf, joinOutputs, type WireDatum } from './chunks.ts';
import { textIn, type Wire } from './client.ts';
import { call, GONE } from './context.ts';
import { badAnswer } from './errors.ts';
import { requestIdOf, retrieve, submit, type Decode } from './futures.ts';
import { PROTOBUF_TYPE } from './requests.ts';
import { writeJson } from './json.ts';
import { forwardBackwardJson, outputOfJson, type ForwardBackwardCall } from './json-messages.ts';
import {
  decodeForwardBackwardOutput,
  encodeForwardBackwardRequest,
  type ForwardBackwardOutput,
} from './messages.ts';
import type { Sampler } from './sampler.ts';

export interface WireAdam {
  learningRate: number;
  beta1: number;
  beta2: number;
  epsilon: number;
  weightDecay: number;
  /** 0: no clipping. */
  gradClipNorm: number;
}

export interface TrainingOutput {
  /** One per datum, in order; by name, such as `logprobs`. */
  outputs: Record<string, Float32Array>[];
  metrics: Record<string, number>;
}

export interface TrainingModel {
  readonly modelId: string;
  info(): Promise<{ name: string; tokenizerId?: string; rank?: number }>;
  /** Log-probabilities and loss without a gradient. */
  forward(data: readonly WireDatum[], lossName: string): Promise<TrainingOutput>;
  forwardBackward(
    data: readonly WireDatum[],
    lossName: string,
    config?: Readonly<Record<string, number>>,
  ): Promise<TrainingOutput>;
  optimStep(adam: WireAdam): Promise<{ metrics: Record<string, number> }>;
  /** Weights and optimizer state, under a name; their path. */
  saveWeights(name: string): Promise<string>;
  /** A sampler of the weights as they are now. */
  saveForSampler(): Promise<Sampler>;
  /** The weights as they are now, for samplers, under a name; their path. */
  saveForSamplerAs(name: string): Promise<string>;
  /** Some services take it only as a model's first call. */
  loadWeights(path: string, optimizer: boolean): Promise<void>;
  /** Gives the model's place on the service back; one that is gone has given it back. */
  unload(): Promise<void>;
}

const { zstdCompress } = zlib as { zstdCompress?: typeof zlib.gzip };

export function makeTrainingModel(
  wire: Wire,
  modelId: string,
  openSampler: (id: string) => Sampler,
): TrainingModel {
  const { context, session, room } = wire;
  const cancel = [context.ended];
  const inOrder = makeOrder();

  /** Sends an operation in its turn and waits for its result. */
  const operate = async <T>(
    what: string,
    body: Record<string, unknown>,
    json: Decode<T>['json'],
  ): Promise<T> => {
    const requestId = await inOrder(what, (takeSeq) => {
      const full = writeJson({ model_id: modelId, seq_id: takeSeq(), ...body, type: what });
      return submit(context, { what, missing: 'expired', method: 'POST', path: what, body: full, cancel });
    });
    return retrieve(context, { what, requestId, decode: { json }, room, cancel });
  };

  const sendProtobuf = async (what: string, asked: ForwardBackwardCall): Promise<string> => {
    const message = encodeForwardBackwardRequest({
      ...asked,
      data: asked.data.map(({ tokens, inputs }) => ({
        modelInput: [{ type: 'text', tokens }],
        lossInputs: inputs,
      })),
    });
    const packed = session.config.compressesRequests ? await compress(message) : undefined;
    return submit(context, {
      what,
      missing: 'expired',
      method: 'POST',
      path: 'forward_backward',
      body: packed ?? message,
      contentType: PROTOBUF_TYPE,
      headers: packed === undefined ? [] : ['content-encoding', 'zstd'],
      cancel,
    });
  };
  const sendJson = (what: string, asked: ForwardBackwardCall): Promise<string> => {
    const path = asked.forwardOnly ? 'forward' : 'forward_backward';
    return submit(context, {
      what,
      missing: 'expired',
      method: 'POST',
      path,
      body: forwardBackwardJson(asked),
      cancel,
    });
  };
  const send = async (
    what: string,
    asked: Omit<ForwardBackwardCall, 'seqId'>,
    takeSeq: () => number,
  ): Promise<string> => {
    if (session.dialect === 'json') return sendJson(what, { ...asked, seqId: takeSeq() });
    try {
      const requestId = await sendProtobuf(what, { ...asked, seqId: takeSeq() });
      session.isGuess = false;
      return requestId;
    } catch (error) {
      if (!session.isGuess || !isRefusal(error)) throw error;
      const requestId = await sendJson(what, { ...asked, seqId: takeSeq() }).catch(() => {
        // Refused in both forms: then the form is not the reason, and the first refusal says more.
        throw error;
      });
      session.dialect = 'json';
      session.isGuess = false;
      context.notice(
        'dialect',
        `the service refuses requests in protobuf (${error.message}): JSON from now on`,
      );
      return requestId;
    }
  };

  const train = async (
    data: readonly WireDatum[],
    lossName: string,
    lossConfig: Readonly<Record<string, number>>,
    forwardOnly: boolean,
  ): Promise<TrainingOutput> => {
    const what = forwardOnly ? 'forward' : 'forward_backward';
    const { chunkDatums, chunkBytes } = session.config;
    const parts = chunksOf(data, chunkDatums, chunkBytes).map(async (chunk) => {
      const asked = { modelId, data: chunk, lossName, lossConfig, forwardOnly };
      const requestId = await inOrder(what, (takeSeq) => send(what, asked, takeSeq));
      const isProtobuf = session.dialect === 'protobuf';
      const decode = { json: outputOfJson, ...(isProtobuf ? { protobuf: decodeForwardBackwardOutput } : {}) };
      const output = await retrieve(context, { what, requestId, decode, room, cancel });
      if (output.outputs.length === chunk.length) return output;
      throw badAnswer(
        `result of ${what}`,
        `outputs of ${chunk.length} datums`,
        String(output.outputs.length),
      );
    });
    return plainOutput(joinOutputs(await allOf(parts)));
  };

  return {
    modelId,
    info: async () => {
      const {
        model_data: data,
        lora_rank: rank,
        model_name: outer,
      } = await wire.ask('get_info', 'expired', {
        model_id: modelId,
        type: 'get_info',
      });
      const { model_name: inner, tokenizer_id: tokenizerId } = (data ?? {}) as Record<string, unknown>;
      return {
        name: textIn('get_info', 'model_name', inner ?? outer),
        ...(typeof tokenizerId === 'string' ? { tokenizerId } : {}),
        ...(typeof rank === 'number' ? { rank } : {}),
      };
    },
    forward: (data, lossName) => train(data, lossName, {}, true),
    forwardBackward: (data, lossName, config = {}) => train(data, lossName, config, false),
    optimStep: (adam) => {
      const params = {
        learning_rate: adam.learningRate,
        beta1: adam.beta1,
        beta2: adam.beta2,
        eps: adam.epsilon,
        weight_decay: adam.weightDecay,
        grad_clip_norm: adam.gradClipNorm,
      };
      return operate('optim_step', { adam_params: params }, (_, { metrics }) => ({
        metrics: numbersOf(metrics),
      }));
    },
    saveWeights: (name) =>
      operate('save_weights', { path: name }, (what, { path }) => textIn(what, 'path', path)),
    saveForSampler: async () => {
      const body = { sampling_session_seq_id: session.nextSampler() };
      const id = await operate('save_weights_for_sampler', body, (what, { sampling_session_id: sampler }) =>
        textIn(what, 'sampling_session_id', sampler),
      );
      return openSampler(id);
    },
    saveForSamplerAs: (name) =>
      operate('save_weights_for_sampler', { path: name }, (what, { path }) => textIn(what, 'path', path)),
    loadWeights: (path, optimizer) => operate('load_weights', { path, optimizer }, () => undefined),
    unload: async () => {
      const what = 'unload_model';
      const body = writeJson({ model_id: modelId, type: what });
      const asked = {
        what,
        missing: 'expired',
        method: 'POST',
        path: what,
        body,
        accepted: GONE,
        cancel,
      } as const;
      const reply = await inOrder(what, () => call(context, asked));
      if (reply.status >= 400) return;
      const requestId = requestIdOf(what, reply);
      await retrieve(context, { what, requestId, decode: { json: () => undefined }, room, cancel });
    },
  };
}

/**
 * Sends calls one after the other, in the order in which they are made, and numbers them from 1. When one is refused,
 * those that already wait behind it are refused too: an optimizer step must not follow a gradient that was not sent.
 */
function makeOrder(): <T>(what: string, send: (takeSeq: () => number) => Promise<T>) => Promise<T> {
  let nextSeq = 1;
  let last: Promise<unknown> = Promise.resolve();
  let refused: { what: string; cause: unknown } | undefined;
  let refusals = 0;
  const takeSeq = (): number => nextSeq++;
  return (what, send) => {
    const seen = refusals;
    const sent = last.then(async () => {
      if (refusals !== seen) {
        const message = `${what}: expected the ${refused?.what} before it to be accepted, got an error; not sent`;
        throw new R3Error('engine', 'failed', message, { cause: refused?.cause });
      }
      try {
        return await send(takeSeq);
      } catch (cause) {
        refusals += 1;
        refused = { what, cause };
        throw cause;
      }
    });
    last = sent.catch(() => undefined);
    return sent;
  };
}

/** All values, or the first error in order, when the last one has settled. */
async function allOf<T>(promises: readonly Promise<T>[]): Promise<T[]> {
  const settled = await Promise.allSettled(promises);
  return settled.map((each) => {
    if (each.status === 'rejected') throw each.reason;
    return each.value;
  });
}

/** Whether a service refused a request for what is in it. */
function isRefusal(error: unknown): error is R3Error {
  return error instanceof R3Error && ['bad-option', 'not-found', 'expired'].includes(error.code);
}

function plainOutput({ outputs, metrics }: ForwardBackwardOutput): TrainingOutput {
  const floats = outputs.map((each) =>
    Object.fromEntries(
      Object.entries(each).map(([name, { data }]) => [
        name,
        data instanceof Float32Array ? data : Float32Array.from(data),
      ]),
    ),
  );
  return { outputs: floats, metrics };
}

function numbersOf(value: unknown): Record<string, number> {
  const entries = Object.entries((value ?? {}) as Record<string, unknown>);
  return Object.fromEntries(
    entries.filter((entry): entry is [string, number] => typeof entry[1] === 'number'),
  );
}

async function compress(body: Uint8Array): Promise<Uint8Array | undefined> {
  return zstdCompress === undefined ? undefined : promisify<Uint8Array, Buffer>(zstdCompress)(body);
}
