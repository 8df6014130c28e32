/**
 * The messages of messages.ts in JSON, as the older dialect writes requests, and as either may write results.
 *
 * Wire facts: forward_backward has {forward_backward_input: {data, loss_fn, loss_fn_config?}, model_id, seq_id}, and
 * forward the same under forward_input; a datum is {model_input: {chunks}, loss_fn_inputs}; a tensor is {data, dtype, shape?};
 * an output is {loss_fn_output_type, loss_fn_outputs: [{name: tensor}], metrics}; a sample is {sequences:
 * [{tokens, logprobs, stop_reason}], prompt_logprobs}. null stands for a log-probability that is none.
 */
import type { WireDatum } from './chunks.ts';
import { badAnswer } from './errors.ts';
import { writeJson } from './json.ts';
import type { ForwardBackwardOutput, SampledSequence, SampleResponse, Tensor } from './messages.ts';

export interface ForwardBackwardCall {
  modelId: string;
  seqId: number;
  data: readonly WireDatum[];
  lossName: string;
  lossConfig: Readonly<Record<string, number>>;
  forwardOnly: boolean;
}

/** The body of forward_backward, or for `forwardOnly` of forward. */
export function forwardBackwardJson(asked: ForwardBackwardCall): string {
  const { lossConfig } = asked;
  const input = {
    data: asked.data.map(({ tokens, inputs }) => ({
      model_input: { chunks: [{ type: 'encoded_text', tokens }] },
      loss_fn_inputs: inputs,
    })),
    loss_fn: asked.lossName,
    loss_fn_config: Object.keys(lossConfig).length === 0 ? undefined : lossConfig,
  };
  const rest = { model_id: asked.modelId, seq_id: asked.seqId };
  return writeJson(
    asked.forwardOnly ? { forward_input: input, ...rest } : { forward_backward_input: input, ...rest },
  );
}

/** Throws R3Error `bad-answer` for another object. */
export function outputOfJson(what: string, body: Record<string, unknown>): ForwardBackwardOutput {
  const { loss_fn_output_type: type, loss_fn_outputs: list, metrics } = body;
  if (!Array.isArray(list)) throw badAnswer(what, 'a list loss_fn_outputs', 'none');
  const outputs = list.map((each: unknown) =>
    Object.fromEntries(
      Object.entries(objectIn(what, each)).map(([name, tensor]) => [name, tensorOf(what, tensor)]),
    ),
  );
  const numbers: Record<string, number> = {};
  for (const [name, value] of Object.entries(objectIn(what, metrics ?? {}))) {
    if (typeof value === 'number') numbers[name] = value;
  }
  return { outputType: typeof type === 'string' ? type : '', outputs, metrics: numbers };
}

/** Throws R3Error `bad-answer` for another object. */
export function sampleOfJson(what: string, body: Record<string, unknown>): SampleResponse {
  const { sequences, prompt_logprobs: prompt, prompt_cache_hit_tokens: cached } = body;
  if (!Array.isArray(sequences)) throw badAnswer(what, 'a list of sequences', 'none');
  return {
    sequences: sequences.map((each: unknown) => sequenceOf(what, objectIn(what, each))),
    promptLogprobs: prompt === undefined || prompt === null ? null : numbersOrNull(what, prompt),
    cachedPromptTokens: typeof cached === 'number' ? cached : 0,
  };
}

function sequenceOf(what: string, body: Record<string, unknown>): SampledSequence {
  const { tokens, logprobs, stop_reason: stopReason } = body;
  if (stopReason !== 'stop' && stopReason !== 'length') {
    throw badAnswer(what, 'stop_reason stop or length', JSON.stringify(stopReason) ?? 'none');
  }
  return {
    tokens: numbersIn(what, tokens),
    logprobs: logprobs === undefined || logprobs === null ? null : numbersIn(what, logprobs),
    stopReason,
  };
}

function tensorOf(what: string, value: unknown): Tensor {
  const { data, dtype, shape } = objectIn(what, value);
  const numbers = numbersOrNull(what, data).map((each) => each ?? Number.NaN);
  if (dtype !== 'float32' && dtype !== 'int64') throw badAnswer(what, 'dtype float32 or int64', 'another');
  const isShaped = shape !== undefined && shape !== null;
  return {
    dtype,
    data: dtype === 'float32' ? Float32Array.from(numbers) : Float64Array.from(numbers),
    shape: isShaped ? numbersIn(what, shape) : [numbers.length],
  };
}

function numbersIn(what: string, value: unknown): number[] {
  if (Array.isArray(value) && value.every((each) => typeof each === 'number')) return value;
  throw badAnswer(what, 'a list of numbers', 'another value');
}

function numbersOrNull(what: string, value: unknown): (number | null)[] {
  if (Array.isArray(value) && value.every((each) => typeof each === 'number' || each === null)) return value;
  throw badAnswer(what, 'a list of numbers', 'another value');
}

function objectIn(what: string, value: unknown): Record<string, unknown> {
  if (typeof value === 'object' && value !== null && !Array.isArray(value))
    return value as Record<string, unknown>;
  throw badAnswer(what, 'an object', 'another value');
}
