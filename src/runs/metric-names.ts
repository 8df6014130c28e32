/**
 * Every number of metrics.jsonl: its name, its unit and what it means.
 *
 * One list for docs/run-folder.md, for the captions of the report and for the test that no run writes a name that
 * stands in neither. Names are TRL's (1.13) where TRL has one. It computes nothing: `method/metrics.ts` and the losses do.
 */

export interface MetricName {
  name: string;
  /** `share`: of 0 to 1. `nats`: natural logarithm. */
  unit: 'count' | 'share' | 'tokens' | 'nats' | 'number';
  meaning: string;
}

/** A name that ends in `<...>` stands for one entry for each name that a task gives. */
export const METRIC_NAMES: readonly MetricName[] = [
  { name: 'step', unit: 'count', meaning: 'the step, from 0' },
  { name: 'episodes', unit: 'count', meaning: 'episodes of the step' },
  { name: 'groups', unit: 'count', meaning: 'groups of the step: failures that were drawn' },
  { name: 'reward', unit: 'number', meaning: 'mean reward of the scored episodes' },
  {
    name: 'reward_std',
    unit: 'number',
    meaning: 'standard deviation of the rewards over the whole step, n - 1',
  },
  {
    name: 'frac_reward_zero_std',
    unit: 'share',
    meaning: 'scored episodes whose group has rewards that are all equal',
  },
  { name: 'unscored', unit: 'share', meaning: 'episodes without a reward' },
  {
    name: 'firstTry',
    unit: 'share',
    meaning: 'attempts of the current weights that passed; absent unless a step samples attempts',
  },
  {
    name: 'groups/mixed',
    unit: 'share',
    meaning: 'groups with both outcomes: they alone carry a signal',
  },
  { name: 'groups/allPass', unit: 'share', meaning: 'groups in which every retry passed' },
  { name: 'groups/allFail', unit: 'share', meaning: 'groups in which no retry passed' },
  { name: 'groups/unscored', unit: 'share', meaning: 'groups without a scored episode' },
  {
    name: 'groups/leftOut',
    unit: 'count',
    meaning:
      'groups that are not among them: the engine failed on one of their requests; absent where there is none',
  },
  {
    name: 'staleness',
    unit: 'count',
    meaning: 'updates of the weights since the episodes were sampled; only with `--max-staleness`',
  },
  {
    name: 'trainedTokens',
    unit: 'tokens',
    meaning: 'trained positions of the sequences, those that a mask leaves out included',
  },
  {
    name: 'completions/mean_length',
    unit: 'tokens',
    meaning:
      'mean length of what was sampled to be trained (reflections; attempts or retries in the baselines), stop token included',
  },
  { name: 'completions/min_length', unit: 'tokens', meaning: 'the shortest' },
  { name: 'completions/max_length', unit: 'tokens', meaning: 'the longest' },
  { name: 'completions/mean_terminated_length', unit: 'tokens', meaning: 'mean length of those that ended' },
  { name: 'completions/min_terminated_length', unit: 'tokens', meaning: 'the shortest of them' },
  { name: 'completions/max_terminated_length', unit: 'tokens', meaning: 'the longest of them' },
  {
    name: 'completions/clipped_ratio',
    unit: 'share',
    meaning: 'those that reached the limit of their length; a reflection that did has no retry',
  },
  {
    name: 'reflection/duplicate',
    unit: 'share',
    meaning: 'reflections whose tokens equal those of an earlier sibling in the group',
  },
  { name: 'retry/cutOff', unit: 'share', meaning: 'retries that reached the limit of their length' },
  { name: 'hint/true', unit: 'share', meaning: 'reflections with a hint that is true' },
  { name: 'hint/trueOfHints', unit: 'share', meaning: 'true ones among the hints' },
  {
    name: 'kind/<kind>',
    unit: 'share',
    meaning: 'reflections of this kind; a kind that a step has not is absent',
  },
  { name: 'loss', unit: 'number', meaning: 'the loss, KL term included' },
  { name: 'tokens', unit: 'tokens', meaning: 'tokens that the loss was computed over' },
  {
    name: 'ratioMean',
    unit: 'number',
    meaning: 'mean ratio of the current probability to the sampled one; 1 with one update per batch',
  },
  {
    name: 'kl',
    unit: 'nats',
    meaning:
      'mean KL to the start model for each trained token, by the chosen estimator; only with beta above 0',
  },
  {
    name: 'clip_ratio/low_mean',
    unit: 'share',
    meaning:
      'ratios below their bound, of negative advantages; of tokens, or of sequences where each has one ratio',
  },
  {
    name: 'clip_ratio/high_mean',
    unit: 'share',
    meaning: 'ratios above their bound, of positive advantages',
  },
  { name: 'clip_ratio/region_mean', unit: 'share', meaning: 'either of the two' },
  { name: 'clip_ratio/low_min', unit: 'share', meaning: 'the least share below the bound in a sequence' },
  { name: 'clip_ratio/high_max', unit: 'share', meaning: 'the largest share above the bound in a sequence' },
  {
    name: 'cispo_clip_ratio',
    unit: 'share',
    meaning: 'ratios above the cap, of positive advantages; loss type cispo',
  },
  {
    name: 'vespo/phi_seq_mean',
    unit: 'number',
    meaning: 'mean weight of the sequences; loss type vespo',
  },
  {
    name: 'sampling/sampling_logp_difference/<mean, max>',
    unit: 'nats',
    meaning: 'difference of the log-probabilities of trainer and sampler, without its sign',
  },
  {
    name: 'sampling/importance_sampling_ratio/<min, mean, max>',
    unit: 'number',
    meaning: 'ratio of trainer to sampler, after the bounds of the correction',
  },
  {
    name: 'sampling/importance_sampling_ratio_raw/<min, mean, max>',
    unit: 'number',
    meaning: 'the same before the bounds',
  },
  {
    name: 'sampling/importance_sampling_affected',
    unit: 'share',
    meaning: 'ratios that the bounds changed',
  },
  { name: 'nll', unit: 'nats', meaning: 'mean negative log-probability of a token, in supervised training' },
  {
    name: 'distillation/examples',
    unit: 'count',
    meaning: 'retries that passed and were trained on as answers to the bare problem',
  },
  {
    name: 'distillation/nll',
    unit: 'nats',
    meaning: 'mean negative log-probability of their tokens, given the bare problem',
  },
  { name: 'grad_norm', unit: 'number', meaning: 'norm of the gradient before it is clipped' },
  { name: 'learning_rate', unit: 'number', meaning: 'learning rate that the step was made with' },
];

/** The entry of a name as a run writes it; undefined for one that is not listed. */
export function findMetricName(name: string): MetricName | undefined {
  return METRIC_NAMES.find((known) => {
    const open = known.name.indexOf('<');
    return open < 0 ? known.name === name : name.startsWith(known.name.slice(0, open));
  });
}

/** The list as rows of a Markdown table, for docs/run-folder.md. */
export function metricNameRows(): string[] {
  return METRIC_NAMES.map(({ name, unit, meaning }) => `| \`${name}\` | ${unit} | ${meaning} |`);
}
