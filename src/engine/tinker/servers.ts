/**
 * Known Tinker-compatible services and what they do otherwise than the protocol says, as capability flags.
 *
 * A service is recognised by its address, by the form of its ids and by the names of its metrics: there is no call that
 * asks for its name. What can be measured is measured (probe.ts) and stands above this table. docs/tinker.md lists
 * the differences with their sources.
 */

/** Fields of the engine's interface that a service may take without acting on them. */
export type Ignorable =
  | 'maxGradNorm'
  | 'beta1'
  | 'beta2'
  | 'epsilon'
  | 'weightDecay'
  | 'topK'
  | 'topP'
  | 'seed';

export interface ServerTraits {
  /** For people: configurations, errors, logs. */
  name: string;
  /** A sampler keeps the weights that it was made from, whatever is trained later. Else all of its samples must be there before the next step. */
  snapshots: boolean;
  /** A new adapter may begin with gradients that another one left behind. */
  leaksGradients: boolean;
  /** Known to be ignored, beside what the probe finds. */
  ignores: readonly Ignorable[];
  /** Known to be honoured, so that the probe need not sample to find out. */
  honours: readonly Ignorable[];
}

export interface ServerSigns {
  url: string;
  modelId?: string | undefined;
  /** Names of metrics that a step gave. */
  metrics?: readonly string[] | undefined;
}

const OTHER: ServerTraits = {
  name: 'a Tinker-compatible service',
  snapshots: true,
  leaksGradients: false,
  ignores: [],
  honours: [],
};

const HOSTED: ServerTraits = { ...OTHER, name: 'hosted Tinker' };

/** Its JAX backend samples from the slot of the adapter that trains. */
const SKYRL: ServerTraits = {
  name: 'SkyRL',
  snapshots: false,
  leaksGradients: true,
  ignores: ['maxGradNorm', 'weightDecay'],
  honours: ['seed', 'topK', 'topP'],
};

export function recogniseServer({ url, modelId = '', metrics = [] }: ServerSigns): ServerTraits {
  const host = new URL(url).hostname;
  if (host === 'thinkingmachines.dev' || host.endsWith('.thinkingmachines.dev')) return HOSTED;
  const isSkyrl = /^model_[0-9a-f]{8}$/.test(modelId) || metrics.some((name) => name.startsWith('skyrl.ai/'));
  return isSkyrl ? SKYRL : OTHER;
}

/** The norm of the gradient among the metrics of a step; null where the service does not give it. */
export function gradientNormIn(metrics: Readonly<Record<string, number>>): number | null {
  const found = Object.entries(metrics).find(([name]) => /(^|[/.:_])grad(ient)?_norm(:[a-z]+)?$/.test(name));
  return found?.[1] ?? null;
}
