/**
 * A backend whose model is linear, for faults under the whole engine: cheap, and with a true gradient.
 *
 *   lp(t) = base(t) + θ · φ(t)      φ: a few features, hashes of the tokens up to t; θ: what is trained
 *
 * So losses double, steps descend and clipping holds them back, as the engine wants to see before it trains on a
 * service. lp is no distribution over the vocabulary; nobody asks. One gradient or step too many or too few changes
 * all that follows. Counts what it did.
 */
import { hash32 } from '../../src/lib/rng.ts';
import type { AdamFields, Backend, SampleOrder, TrainDatum } from './backend.ts';
import type { DatumLoss } from './losses.ts';
import type { Quirks } from './quirks.ts';
import { OperationFailure } from './refusal.ts';

const FEATURES = 3;
const VOCABULARY = 100;

interface State {
  weights: number[];
  moments: number[];
  squares: number[];
  steps: number;
}

export interface LinearBackend extends Backend {
  readonly counts: { datums: number; steps: number };
  /** Of the models that were made and not closed. */
  states(): State[];
}

const zeros = (): number[] => new Array<number>(FEATURES).fill(0);
const freshState = (): State => ({ weights: zeros(), moments: zeros(), squares: zeros(), steps: 0 });

/** `lossReduction`: as in Quirks; with `mean` a step's gradient is divided by the number of its datums. */
export function makeLinearBackend(lossReduction: Quirks['lossReduction']): LinearBackend {
  const counts = { datums: 0, steps: 0 };
  const open = new Set<State>();
  const kept = new Map<string, State>();
  let saves = 0;
  const keep = (state: State): string => {
    const key = `kept-${saves++}`;
    kept.set(key, structuredClone(state));
    return key;
  };
  const found = (key: string): State => {
    const state = kept.get(key);
    if (state === undefined) throw new OperationFailure('server', `${key}: expected kept weights, got none`);
    return state;
  };

  return {
    baseModel: 'models/tiny',
    contextLength: 64,
    vocabularySize: VOCABULARY,
    trainsUnembed: true,
    counts,
    states: () => [...open],
    createModel: async () => {
      const state = freshState();
      let gradient = zeros();
      let datums = 0;
      open.add(state);
      const pass = (data: readonly TrainDatum[], loss: DatumLoss, into?: number[]) => {
        let total = 0;
        const logprobs = data.map((datum) => {
          const targets = datum.inputs['target_tokens']?.data ?? [];
          const chain = hashes(datum.tokens);
          const scores = Float32Array.from(targets, (target, i) =>
            scoreOf(chain[i] ?? 0, target, state.weights),
          );
          const result = loss(datum, scores);
          total += result.loss;
          result.gradient.forEach((slope, i) => {
            const features = featuresOf(chain[i] ?? 0, targets[i] ?? 0);
            features.forEach((x, f) => {
              if (into !== undefined) into[f] = (into[f] ?? 0) + slope * x;
            });
          });
          return scores;
        });
        return { loss: total, logprobs };
      };
      return {
        forward: async (data, loss) => pass(data, loss),
        forwardBackward: async (data, loss) => {
          counts.datums += data.length;
          datums += data.length;
          return pass(data, loss, gradient);
        },
        step: async (adam) => {
          counts.steps++;
          if (lossReduction === 'mean') gradient = gradient.map((sum) => sum / Math.max(datums, 1));
          const norm = Math.hypot(...gradient);
          move(state, gradient, norm, adam);
          gradient = zeros();
          datums = 0;
          return { gradient_norm: norm };
        },
        saveState: async () => keep(state),
        saveSnapshot: async () => keep(state),
        load: async (key, withOptimizer) => {
          const { weights, ...optimizer } = structuredClone(found(key));
          const { weights: _, ...fresh } = freshState();
          Object.assign(state, { weights, ...(withOptimizer ? optimizer : fresh) });
        },
        close: async () => void open.delete(state),
      };
    },
    sampler: (key) => {
      const { weights } = key === undefined ? freshState() : found(key);
      return {
        sample: async (order) => Array.from({ length: order.count }, (_, i) => complete(order, i, weights)),
        promptLogprobs: async (prompt) => {
          const chain = hashes(prompt);
          return Float32Array.from(prompt.slice(1), (token, i) => scoreOf(chain[i] ?? 0, token, weights));
        },
      };
    },
    files: () => [],
    remove: (key) => void kept.delete(key),
    close: async () => undefined,
  };
}

/** AdamW. */
function move(state: State, gradient: readonly number[], norm: number, adam: AdamFields): void {
  const { learning_rate: rate, beta1, beta2, eps, weight_decay: decay, grad_clip_norm: clip } = adam;
  const scale = clip > 0 && norm > clip ? clip / norm : 1;
  state.steps++;
  for (let f = 0; f < FEATURES; f++) {
    const slope = scale * (gradient[f] ?? 0);
    const moment = beta1 * (state.moments[f] ?? 0) + (1 - beta1) * slope;
    const square = beta2 * (state.squares[f] ?? 0) + (1 - beta2) * slope * slope;
    state.moments[f] = moment;
    state.squares[f] = square;
    const divisor = Math.sqrt(square / (1 - beta2 ** state.steps)) + eps;
    const weight = (state.weights[f] ?? 0) * (1 - rate * decay);
    state.weights[f] = weight - (rate * moment) / (1 - beta1 ** state.steps) / divisor;
  }
}

/** A hash of the tokens up to each place. */
function hashes(tokens: readonly number[]): number[] {
  let hash = 1;
  return tokens.map((token) => (hash = hash32(hash, token, 1)));
}

/** Each from -1 to 1. */
function featuresOf(prefix: number, token: number): number[] {
  return Array.from({ length: FEATURES }, (_, f) => hash32(prefix, token, 10 + f) / 0x80000000 - 1);
}

function scoreOf(prefix: number, token: number, weights: readonly number[]): number {
  const base = (-4 * (hash32(prefix, token, 2) + 1)) / 0x100000000;
  return featuresOf(prefix, token).reduce((sum, x, f) => sum + x * (weights[f] ?? 0), base);
}

/** Tokens that depend on the seed alone, except the last, which depends on the weights. */
function complete(
  { prompt, maxTokens, seed, topK, topP }: SampleOrder,
  index: number,
  weights: readonly number[],
) {
  const isGreedy = topK === 1 || (topP !== undefined && topP < 0.01);
  const draw = isGreedy ? 0 : hash32(seed, index, prompt.length);
  const tokens = Array.from({ length: maxTokens }, (_, i) => hash32(draw, i, 0) % VOCABULARY);
  const mark = weights.reduce((hash, weight) => hash32(hash, Math.round(weight * 1e6) >>> 0, 3), 1);
  if (!isGreedy) tokens[maxTokens - 1] = mark % VOCABULARY;
  const chain = hashes([...prompt, ...tokens]);
  const logprobs = Float32Array.from(tokens, (token, i) =>
    scoreOf(chain[prompt.length + i - 1] ?? 0, token, weights),
  );
  return { tokens, logprobs, stopReason: 'length' as const };
}
