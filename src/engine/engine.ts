/**
 * The engine interface: a sampler and a trainer over token ids.
 *
 * Shaped like the Tinker API so that the embedded engine and a remote service are the same thing to the
 * loops. Tokens in, tokens out: an engine knows nothing of text, tasks or RL. Ids that were sampled are
 * the ids that are trained.
 *
 * Log-probabilities are natural logarithms of softmax(logits / temperature).
 *
 * Calls may be made without awaiting those before them. `logprobs` and everything that trains, saves or loads run in the
 * order in which they were made, each to its end. A `sample` takes the current weights: those of every step that has
 * ended when it is made, and perhaps of one under way. A step that is made later waits for it, or leaves it its weights.
 */

export type TokenIds = readonly number[];

/** How to sample. A field that is left out is off. */
export interface SamplingParams {
  /** 0 is greedy: the likeliest token, the lowest id where two are equal. */
  temperature: number;
  /** Completion length limit, in tokens, the stop token included. */
  maxTokens: number;
  /** Ids that end a completion. The stop id is the completion's last token. */
  stopIds: readonly number[];
  topK?: number;
  topP?: number;
  minP?: number;
}

export interface SampleRequest {
  prompt: TokenIds;
  /** How many completions of this prompt. */
  count: number;
  params: SamplingParams;
  /**
   * Completion i of a request draws from stream (seed, i), whatever else runs beside it: the same request
   * gives the same completions in any batch, order or thread count. An unsigned 32-bit integer.
   */
  seed: number;
  /** Once it is raised, the request is answered with what there is, as 'cancelled' where a completion had not ended. */
  signal?: AbortSignal;
  /** Called for each token as it is sampled, with its log-probability; `index` is the completion's place in the request. */
  onToken?: (index: number, token: number, logprob: number) => void;
}

export type StopReason = 'stop' | 'length' | 'cancelled';

export interface Completion {
  tokens: number[];
  /** One per token, under softmax(logits / temperature); at temperature 0, under softmax(logits). */
  logprobs: number[];
  stopReason: StopReason;
}

/** A sequence and the positions whose tokens are trained (or scored), ascending, each at least 1. */
export interface Datum {
  tokens: TokenIds;
  positions: readonly number[];
}

/**
 * A loss is a pure function of the log-probabilities of the trained positions, one array per datum in the
 * order of its positions. It returns the loss and its derivative by each of those log-probabilities.
 */
export type Loss = (logprobs: readonly Float32Array[]) => LossResult;

export interface LossResult {
  loss: number;
  /** dLoss/dLogprob, the same shape as the log-probabilities. */
  gradients: Float32Array[];
  metrics: Record<string, number>;
}

export interface AdamParams {
  learningRate: number;
  beta1: number;
  beta2: number;
  epsilon: number;
  /** Decoupled (AdamW). Not applied to normalisation weights. */
  weightDecay: number;
  /** The global L2 norm to which gradients are clipped. Left out: no clipping. */
  maxGradNorm?: number | undefined;
}

export interface ForwardBackwardResult extends LossResult {
  logprobs: Float32Array[];
}

export interface StepResult {
  /** Global L2 norm of the accumulated gradient, before clipping; NaN where a service does not say. */
  gradientNorm: number;
  learningRate: number;
}

/** `current`: the weights as trained so far. `reference`: the frozen start model. */
export type WeightsName = 'current' | 'reference';

export interface ScoreOptions {
  /** Default 1. */
  temperature?: number;
  /** Default `current`. */
  weights?: WeightsName;
}

export interface Capabilities {
  name: string;
  trainable: boolean;
  /** Longest sequence, in tokens. */
  contextLength: number;
  vocabularySize: number;
  /** One line for logs and reports: build, variant, threads. */
  description: string;
  /** Identifies the start weights: sha256 of the model file, hexadecimal. */
  modelHash: string;
  /** Fields of this interface (such as `topK`, `seed`, `weightDecay`) that it takes and does not act on. Left out: none. */
  ignores?: readonly string[];
  /** The only temperature of `logprobs` and `forwardBackward`. Left out: any. */
  scoresAt?: number;
  /** The share of an adapter's inputs that training drops, so that it does not compute what sampling does. Left out: 0. */
  dropout?: number;
}

/** Counters since the engine was opened. All are additive. */
export interface EngineStats {
  sampledTokens: number;
  prefilledTokens: number;
  /** Prompt tokens that the prefix cache already held. */
  cachedTokens: number;
  trainedTokens: number;
  /** Tokens that training would have computed without sharing prefixes. */
  unsharedTokens: number;
  sampleSeconds: number;
  trainSeconds: number;
  /** Most memory that was asked for, whether it was all used or not. */
  peakBytes: number;
}

export interface Engine {
  capabilities(): Capabilities;
  /** Throws R3Error `too-long` when prompt and maxTokens exceed the context, `bad-option` for an id outside the vocabulary. */
  sample(request: SampleRequest): Promise<Completion[]>;
  /** Log-probability of each position's token given the tokens before it. */
  logprobs(datums: readonly Datum[], options?: ScoreOptions): Promise<Float32Array[]>;
  /**
   * Adds the gradient of the loss to the accumulated gradient. After one that failed, what is accumulated is of no use:
   * steps are refused until `zeroGradients` or `loadState`.
   */
  forwardBackward(
    datums: readonly Datum[],
    loss: Loss,
    options?: { temperature?: number },
  ): Promise<ForwardBackwardResult>;
  /**
   * One AdamW update from the accumulated gradient, which is then zero. Throws R3Error `incomplete` when a
   * `forwardBackward` before it failed, also one that had not ended when this call was made.
   */
  step(adam: AdamParams): Promise<StepResult>;
  /**
   * L2 norm of the accumulated gradient of each parameter, by its Hugging Face name. Throws R3Error `not-available`
   * where a service keeps them to itself.
   */
  gradientNorms(): Promise<Record<string, number>>;
  /** Forgets the accumulated gradient. */
  zeroGradients(): Promise<void>;
  /** Writes a model directory that `open` and transformers load. The directory must not exist. */
  save(directory: string): Promise<void>;
  /** Writes weights and optimizer state so that `loadState` goes on to the bit. The directory must not exist. */
  saveState(directory: string): Promise<void>;
  loadState(directory: string): Promise<void>;
  stats(): Promise<EngineStats>;
  /** Every call after it throws R3Error `cancelled`; so do those that had no answer yet. */
  close(): Promise<void>;
}
