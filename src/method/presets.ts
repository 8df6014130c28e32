/**
 * Presets: sets of options under one name, each value with where it comes from and how sure that is.
 *
 * `paper` is "Reflect, Retry, Reward" (arXiv 2505.24726) on TRL 0.15, the trainer of its time. What the paper states is
 * `stated`; what follows from it, from its author's talk or from that version of TRL is `inferred`; what nobody outside
 * knows has the default of that trainer and is `unknown`. An option that the command line gives wins over a preset.
 */

export type Standing = 'stated' | 'inferred' | 'unknown';

export interface PresetValue {
  /** As the command line names it, without dashes. */
  option: string;
  value: string | number;
  standing: Standing;
  /** Where the value comes from, as a sentence. */
  source: string;
}

export interface Preset {
  name: string;
  summary: string;
  values: readonly PresetValue[];
  /** What the setting does that options cannot imitate. */
  differences: readonly string[];
}

const TALK = "the first author's talk";
const TRL = "TRL 0.15's default, not mentioned in the paper";

const paper: Preset = {
  name: 'paper',
  summary: 'Reflect, Retry, Reward as in arXiv 2505.24726, on the trainer of its time (TRL 0.15)',
  values: [
    {
      option: 'method',
      value: 'reflect',
      standing: 'stated',
      source: 'The method: reflect on a failure, retry, reward the reflection.',
    },
    {
      option: 'train-tokens',
      value: 'reflection',
      standing: 'stated',
      source: 'The method: only the tokens of the reflection are rewarded.',
    },
    {
      option: 'told',
      value: 'failed',
      standing: 'stated',
      source: 'The method, and the prompts of appendix A: the model learns that it failed, not why.',
    },
    {
      option: 'first-attempts',
      value: 'frozen',
      standing: 'stated',
      source: 'Section 4.3: a set of failures of the untrained model, built once.',
    },
    {
      option: 'samples',
      value: 64,
      standing: 'stated',
      source: 'The paper: up to 64 attempts per query; fewer for models that fail often.',
    },
    {
      option: 'keep-failures',
      value: 'any',
      standing: 'inferred',
      source: 'Failed attempts are collected; a rule for queries that also passed is not given.',
    },
    {
      option: 'max-per-problem',
      value: 1,
      standing: 'unknown',
      source: `How many failed attempts of a query are kept is not given; ${TALK} reads as one record per failed output.`,
    },
    {
      option: 'learning-rate',
      value: 5e-7,
      standing: 'stated',
      source: 'The paper, training settings.',
    },
    {
      option: 'schedule',
      value: 'cosine',
      standing: 'stated',
      source: 'The paper, training settings.',
    },
    {
      option: 'warmup-steps',
      value: 0.03,
      standing: 'stated',
      source: 'The paper: a warm-up ratio of 0.03.',
    },
    {
      option: 'beta',
      value: 0.001,
      standing: 'stated',
      source: 'The paper: the KL coefficient.',
    },
    {
      option: 'failures-per-step',
      value: 32,
      standing: 'inferred',
      source: `An effective batch of 256 is stated; ${TALK} gives 8 to 14 reflections per failure; 32 x 8 = 256 reflections.`,
    },
    {
      option: 'num-generations',
      value: 8,
      standing: 'inferred',
      source: `${TALK}: 8 to 14; of these only 8 divides 256, as TRL 0.15 asks.`,
    },
    {
      option: 'steps',
      value: 1000,
      standing: 'inferred',
      source: `Up to 1,750 steps are stated, most runs far fewer; ${TALK}: they level off near 1,000.`,
    },
    {
      option: 'retries-per-reflection',
      value: 1,
      standing: 'inferred',
      source: 'The reward is binary.',
    },
    {
      option: 'rounds',
      value: 1,
      standing: 'stated',
      source: 'The method: two attempts in all.',
    },
    {
      option: 'zero-variance',
      value: 'keep',
      standing: 'inferred',
      source: 'TRL 0.15 keeps groups without variance.',
    },
    {
      option: 'temperature',
      value: 0.9,
      standing: 'inferred',
      source: `${TALK}: about 0.9, which is TRL 0.15's default.`,
    },
    {
      option: 'loss-type',
      value: 'grpo',
      standing: 'inferred',
      source: 'The one loss of TRL 0.15: a mean over tokens, then over reflections, without clipping.',
    },
    {
      option: 'epsilon',
      value: 'none',
      standing: 'inferred',
      source: 'TRL 0.15 does not clip the ratio, which is 1 with one update per batch.',
    },
    {
      option: 'kl-estimator',
      value: 'k3',
      standing: 'inferred',
      source: 'The estimator of TRL 0.15.',
    },
    {
      option: 'num-iterations',
      value: 1,
      standing: 'inferred',
      source: 'TRL 0.15 makes one update per batch.',
    },
    {
      option: 'max-staleness',
      value: 0,
      standing: 'inferred',
      source: 'TRL 0.15 samples each batch from the weights that it then updates.',
    },
    {
      option: 'scale-rewards',
      value: 'group',
      standing: 'inferred',
      source: 'TRL 0.15 divides by the standard deviation of the group.',
    },
    { option: 'max-grad-norm', value: 1, standing: 'unknown', source: TRL },
    { option: 'adam-beta1', value: 0.9, standing: 'unknown', source: TRL },
    { option: 'adam-beta2', value: 0.999, standing: 'unknown', source: TRL },
    { option: 'adam-epsilon', value: 1e-8, standing: 'unknown', source: TRL },
    { option: 'weight-decay', value: 0, standing: 'unknown', source: TRL },
    {
      option: 'max-attempt-tokens',
      value: 256,
      standing: 'unknown',
      source: "Not given; TRL 0.15's default for a completion, and it has none for attempts.",
    },
    { option: 'max-reflection-tokens', value: 256, standing: 'unknown', source: TRL },
    { option: 'seed', value: 42, standing: 'unknown', source: TRL },
  ],
  differences: [
    'TRL 0.15 scores tokens under softmax(logits), also where it sampled at temperature 0.9; here the sampler and the trainer agree.',
    'All weights are trained, as the paper is read; --lora, which it does not mention, is left to you.',
    'TRL 0.15 knows one end-of-sequence token; here every stop token of the model ends a turn.',
    'Whether sampling kept the 50 likeliest tokens is unknown (the default through transformers, not through vLLM); here none is cut, and --top-k is refused in training.',
    'TRL 0.15 cuts prompts to 512 tokens from the left unless told otherwise; here a conversation that does not fit is refused.',
  ],
};

export const PRESETS: readonly Preset[] = [paper];
