/**
 * What computes behind the server: models that train, immutable snapshots that sample, and what was saved.
 *
 * `engine-backend.ts` is the embedded engine, `scripted-backend.ts` a cheap imitation. The server has checked every
 * value that it hands over: ids are in the vocabulary, tensors fit their datum, sequences fit the context.
 */
import type { DatumLoss } from './losses.ts';

/** A dense tensor, row-major. */
export interface Tensor {
  dtype: 'int64' | 'float32';
  data: ArrayLike<number>;
  shape: readonly number[];
}

/** A training example. `inputs.target_tokens` is [N] or [N, K]; N is the number of tokens. */
export interface TrainDatum {
  tokens: readonly number[];
  inputs: Readonly<Record<string, Tensor>>;
}

export interface AdamFields {
  learning_rate: number;
  beta1: number;
  beta2: number;
  eps: number;
  weight_decay: number;
  grad_clip_norm: number;
}

export interface LoraFields {
  rank: number;
  seed?: number;
  train_unembed: boolean;
  train_mlp: boolean;
  train_attn: boolean;
}

export interface LossOutput {
  /** The sum over tokens and datums. */
  loss: number;
  /** Per datum, the shape of its target_tokens. */
  logprobs: Float32Array[];
}

export interface SampleOrder {
  prompt: readonly number[];
  count: number;
  maxTokens: number;
  temperature: number;
  topK?: number;
  topP?: number;
  /** An unsigned 32-bit integer. */
  seed: number;
  stopIds: readonly number[];
}

export interface Sampled {
  tokens: number[];
  /** Log-softmax of the logits, whatever the temperature. */
  logprobs: ArrayLike<number>;
  stopReason: 'stop' | 'length';
}

export interface BackendModel {
  forward(data: readonly TrainDatum[], loss: DatumLoss): Promise<LossOutput>;
  /** Adds to the accumulated gradient. */
  forwardBackward(data: readonly TrainDatum[], loss: DatumLoss): Promise<LossOutput>;
  /** AdamW from the accumulated gradient, which is then zero. Returns metrics. */
  step(adam: AdamFields): Promise<Record<string, number>>;
  /** Keeps weights and optimizer state; returns the key of what is kept. */
  saveState(): Promise<string>;
  /** Keeps the weights for sampling; returns the key of what is kept. */
  saveSnapshot(): Promise<string>;
  load(key: string, withOptimizer: boolean): Promise<void>;
  close(): Promise<void>;
}

export interface BackendSampler {
  sample(order: SampleOrder): Promise<Sampled[]>;
  /** Log-probability of each token of a prompt but the first. */
  promptLogprobs(prompt: readonly number[]): Promise<Float32Array>;
}

export interface KeptFile {
  name: string;
  data: Uint8Array;
}

export interface Backend {
  readonly baseModel: string;
  readonly contextLength: number;
  readonly vocabularySize: number;
  /** Whether the output head can be trained. */
  readonly trainsUnembed: boolean;
  createModel(lora: LoraFields): Promise<BackendModel>;
  /** A snapshot, or the base model. */
  sampler(key: string | undefined): BackendSampler;
  /** The PEFT folder of what was kept. */
  files(key: string): KeptFile[];
  remove(key: string): void;
  close(): Promise<void>;
}
