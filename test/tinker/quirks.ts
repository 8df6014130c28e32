/**
 * What known servers do otherwise than the protocol says, as switches, so that a client can be tested against each.
 * Facts: the sources of SkyRL at commit a956457 (JAX backend) and the documentation of Tencent's TCRL.
 */
import type { LossName } from './losses.ts';

export interface Quirks {
  /** `without-first`: prompt_logprobs has one entry fewer than the prompt, and no leading null. */
  promptLogprobs: 'whole' | 'without-first';
  /** `mean`: a datum's loss is divided by the sum of its weights, the sum of datums by their number since the last step. */
  lossReduction: 'sum' | 'mean';
  /** Whether forward_backward reports `loss:sum` and `tokens:sum`. */
  lossMetrics: boolean;
  /** Fields of adam_params that are taken and have no effect. */
  ignoredAdam: readonly ('beta1' | 'beta2' | 'eps' | 'weight_decay' | 'grad_clip_norm')[];
  losses: readonly LossName[];
  /** How a failed operation is told: in the body of its future, or as HTTP 400 on retrieve_future. */
  failures: 'body' | 'status-400';
  /** `two-part`: a named save for sampling answers `tinker://RUN/NAME`. */
  samplerPaths: 'three-part' | 'two-part';
  /** Whether a checkpoint is sampled only while the model that it was saved from is loaded. */
  samplesLoadedOnly: boolean;
  /** Whether `stop` may be one text. */
  bareStringStop: boolean;
  requiresMaxTokens: boolean;
  /** Whether `sample_sequence_ids` is in the reply of asample. */
  sequenceIds: boolean;
  /** `opaque`: ids of models and sessions say nothing. */
  ids: 'canonical' | 'opaque';
  clientConfig: boolean;
  dynamicConfig: boolean;
  /** Dialects of forward_backward and of results. */
  dialects: readonly ('protobuf' | 'json')[];
  /** What becomes of train_unembed where the backend cannot train the output head. */
  unembed: 'refused' | 'ignored';
}

const ALL_LOSSES: readonly LossName[] = ['cross_entropy', 'importance_sampling', 'ppo', 'cispo', 'dro'];

export const STRICT: Quirks = {
  promptLogprobs: 'whole',
  lossReduction: 'sum',
  lossMetrics: true,
  ignoredAdam: [],
  losses: ALL_LOSSES,
  failures: 'body',
  samplerPaths: 'three-part',
  samplesLoadedOnly: false,
  bareStringStop: true,
  requiresMaxTokens: false,
  sequenceIds: true,
  ids: 'canonical',
  clientConfig: true,
  dynamicConfig: true,
  dialects: ['protobuf', 'json'],
  unembed: 'refused',
};

export const SKYRL_JAX: Quirks = {
  ...STRICT,
  promptLogprobs: 'without-first',
  lossReduction: 'mean',
  lossMetrics: false,
  ignoredAdam: ['grad_clip_norm'],
  losses: ALL_LOSSES.filter((name) => name !== 'dro'),
  failures: 'status-400',
  samplerPaths: 'two-part',
  samplesLoadedOnly: true,
  bareStringStop: false,
  requiresMaxTokens: true,
  ids: 'opaque',
  dynamicConfig: false,
  unembed: 'ignored',
};

export const TCRL: Quirks = {
  ...STRICT,
  sequenceIds: false,
  clientConfig: false,
  dynamicConfig: false,
  dialects: ['json'],
  unembed: 'ignored',
};
