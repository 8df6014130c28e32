/**
 * A backend without a model, for throughput and for faults.
 *
 * A log-probability is a hash of the weights and of the tokens up to its own, so that sampling and training agree to
 * the bit. The weights are one 32-bit number. forward_backward adds a hash of each datum's inputs and gradient to the
 * accumulated gradient, in any order of datums; a step mixes that sum and its own options into the weights. So one operation
 * that is lost or done twice, or two steps exchanged, changes every log-probability that follows. Counts what it did.
 */
import { hash32 } from '../../src/lib/rng.ts';
import type { AdamFields, Backend, LoraFields, SampleOrder, TrainDatum } from './backend.ts';
import type { DatumLoss } from './losses.ts';
import { OperationFailure } from './refusal.ts';

export interface ScriptedOptions {
  /** Default `models/tiny`. */
  baseModel?: string;
  /** Default 32768. */
  contextLength?: number;
  /** Default 1000. */
  vocabularySize?: number;
  /** The ids of completion `index`, cut after the first stop id or at the token limit. Default: hashes. */
  script?: (prompt: readonly number[], index: number, seed: number) => readonly number[];
}

export interface ScriptedBackend extends Backend {
  /** How often each operation was done since the start, and what it touched. */
  readonly counts: {
    models: number;
    forward: number;
    forwardBackward: number;
    datums: number;
    steps: number;
    saves: number;
    loads: number;
    samples: number;
    completions: number;
  };
  /** The weights of each model that was made, in the order in which they were made. */
  weights(): number[];
}

interface Kept {
  weights: number;
  steps: number;
  lora: LoraFields;
}

const MASK = 0xffffffff;

export function makeScriptedBackend(options: ScriptedOptions = {}): ScriptedBackend {
  const { baseModel = 'models/tiny', contextLength = 32_768, vocabularySize = 1000 } = options;
  const counts: ScriptedBackend['counts'] = {
    models: 0,
    forward: 0,
    forwardBackward: 0,
    datums: 0,
    steps: 0,
    saves: 0,
    loads: 0,
    samples: 0,
    completions: 0,
  };
  const script =
    options.script ??
    ((prompt, index, seed) => {
      const start = hash32(seed, index, prompt.length);
      return Array.from({ length: 1 + (start % 16) }, (_, i) => hash32(start, i, 0) % vocabularySize);
    });
  const kept = new Map<string, Kept>();
  const models: { weights: number }[] = [];

  function score(data: readonly TrainDatum[], weights: number): Float32Array[] {
    return data.map(({ tokens, inputs }) => {
      const targets = inputs['target_tokens'];
      const width = (targets?.data.length ?? 0) / tokens.length;
      const chain = prefixHashes(tokens, weights);
      return Float32Array.from(targets?.data ?? [], (target, i) =>
        logprobOf(chain[Math.floor(i / width)] ?? 0, target),
      );
    });
  }
  const total = (data: readonly TrainDatum[], logprobs: Float32Array[], loss: DatumLoss): number =>
    data.reduce((sum, datum, d) => sum + loss(datum, logprobs[d] as Float32Array).loss, 0);

  function keep(value: Kept): string {
    const key = `kept-${counts.saves++}`;
    kept.set(key, value);
    return key;
  }
  function kept1(key: string): Kept {
    const value = kept.get(key);
    if (value === undefined) throw new OperationFailure('server', `${key}: expected kept weights, got none`);
    return value;
  }

  return {
    baseModel,
    contextLength,
    vocabularySize,
    trainsUnembed: true,
    counts,
    weights: () => models.map(({ weights }) => weights),

    createModel: async (lora) => {
      counts.models++;
      const model = { weights: 0, steps: 0, gradient: 0 };
      models.push(model);
      return {
        forward: async (data, loss) => {
          counts.forward++;
          const logprobs = score(data, model.weights);
          return { loss: total(data, logprobs, loss), logprobs };
        },
        forwardBackward: async (data, loss) => {
          counts.forwardBackward++;
          counts.datums += data.length;
          const logprobs = score(data, model.weights);
          let sum = 0;
          data.forEach((datum, d) => {
            const result = loss(datum, logprobs[d] as Float32Array);
            sum += result.loss;
            model.gradient = (model.gradient + digest(datum, result.gradient)) & MASK;
          });
          return { loss: sum, logprobs };
        },
        step: async (adam) => {
          counts.steps++;
          model.steps++;
          model.weights = hash32(model.weights, model.gradient >>> 0, digestAdam(adam, model.steps));
          const gradient = model.gradient >>> 0;
          model.gradient = 0;
          return { gradient_norm: gradient };
        },
        saveState: async () => keep({ weights: model.weights, steps: model.steps, lora }),
        saveSnapshot: async () => keep({ weights: model.weights, steps: 0, lora }),
        load: async (key, withOptimizer) => {
          counts.loads++;
          const state = kept1(key);
          if (state.lora.rank !== lora.rank) {
            throw new OperationFailure('user', `rank: expected ${lora.rank}, got ${state.lora.rank}`);
          }
          Object.assign(model, {
            weights: state.weights,
            steps: withOptimizer ? state.steps : 0,
            gradient: 0,
          });
        },
        close: async () => undefined,
      };
    },

    sampler(key) {
      const weights = key === undefined ? 0 : kept1(key).weights;
      return {
        sample: async (order) => {
          counts.samples++;
          counts.completions += order.count;
          return Array.from({ length: order.count }, (_, index) => completion(order, index));
        },
        promptLogprobs: async (prompt) => {
          const chain = prefixHashes(prompt, weights);
          return Float32Array.from(prompt.slice(1), (token, i) => logprobOf(chain[i] ?? 0, token));
        },
      };
      function completion({ prompt, maxTokens, seed, stopIds }: SampleOrder, index: number) {
        let tokens = script(prompt, index, seed).slice(0, maxTokens);
        const stop = tokens.findIndex((id) => stopIds.includes(id));
        if (stop >= 0) tokens = tokens.slice(0, stop + 1);
        const chain = prefixHashes([...prompt, ...tokens], weights);
        const logprobs = Float32Array.from(tokens, (token, i) =>
          logprobOf(chain[prompt.length + i - 1] ?? 0, token),
        );
        return {
          tokens: [...tokens],
          logprobs,
          stopReason: stop >= 0 ? ('stop' as const) : ('length' as const),
        };
      }
    },

    files: (key) => {
      const { lora, weights } = kept1(key);
      const config = { peft_type: 'LORA', r: lora.rank, lora_alpha: 32, base_model_name_or_path: baseModel };
      return [
        { name: 'adapter_config.json', data: Buffer.from(JSON.stringify(config)) },
        { name: 'adapter_model.safetensors', data: Buffer.from(`scripted weights ${weights}`) },
      ];
    },
    remove: (key) => void kept.delete(key),
    close: async () => undefined,
  };
}

/** A hash of the weights and the tokens up to each place. */
function prefixHashes(tokens: readonly number[], weights: number): Uint32Array {
  const chain = new Uint32Array(tokens.length);
  let hash = hash32(weights, 0, 0);
  for (let i = 0; i < chain.length; i++) chain[i] = hash = hash32(hash, tokens[i] as number, 1);
  return chain;
}

/** Between -4 and 0. */
function logprobOf(prefixHash: number, token: number): number {
  return Math.fround((-4 * (hash32(prefixHash, token, 2) + 1)) / 0x100000000);
}

function digest({ tokens, inputs }: TrainDatum, gradient: Float32Array): number {
  let hash = tokens.reduce((h, token) => hash32(h, token, 3), tokens.length);
  const targets = inputs['target_tokens']?.data ?? [];
  for (let i = 0; i < targets.length; i++) hash = hash32(hash, targets[i] ?? 0, 4);
  const bits = new Uint32Array(gradient.buffer, gradient.byteOffset, gradient.length);
  return bits.reduce((h, bit) => hash32(h, bit, 5), hash);
}

function digestAdam(adam: AdamFields, steps: number): number {
  const { learning_rate, beta1, beta2, eps, weight_decay, grad_clip_norm } = adam;
  const values = new Float64Array([learning_rate, beta1, beta2, eps, weight_decay, grad_clip_norm]);
  return new Uint32Array(values.buffer).reduce((h, bit) => hash32(h, bit, 6), steps);
}
