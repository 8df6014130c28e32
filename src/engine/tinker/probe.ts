/**
 * What a Tinker-compatible service does with losses and options, measured on a throw-away adapter before a run begins.
 *
 * Reduction: the surrogates of losses.ts are right only where the service reduces as they assume. Each is tried: its
 * gradient must double with the derivative, with a second copy of the datum in the same request and in another one, and
 * must not change with untrained tokens behind. The first for which all of it holds is taken; where none does, the
 * service is refused. Sizes are the gradient norms that the service reports, at learning rate 0; where it reports
 * none, how far a step moves the log-probabilities.
 *
 * Optimizer: with an epsilon far above the gradient and without moments, AdamW is gradient descent, so that the
 * change of the log-probabilities can be foretold from the norm. Clipping to nearly nothing must move nothing; a move
 * that is far too large says that epsilon and the moments' decay are ignored.
 *
 * Sampling: a seed repeats what was sampled; one token to choose from gives the same completion each time.
 */
import { R3Error } from '../../lib/errors.ts';
import type { Sampler, TrainingModel, WireAdam } from './client.ts';
import { scoringDatum, surrogateOf, type Derivative, type Reduction } from './losses.ts';
import { gradientNormIn, type Ignorable } from './servers.ts';

export interface TrainingFindings {
  reduction: Reduction;
  ignores: Ignorable[];
  /** Names of the metrics of a step. */
  metrics: string[];
}

/** Far above any gradient, as the divisor of a step. */
const LARGE_EPSILON = 1e6;
/** How far a step is to move the loss, in nats: above the noise of bfloat16, and where a gradient still foretells it. */
const MOVE = 0.2;
/** Of sizes that should be whole multiples: reported norms, and moves, which are curved. */
const NORM_TOLERANCE = 0.1;
const MOVE_TOLERANCE = 0.35;
const ALPHA_TRIES = 10;
const LENGTH = 8;
const FOLLOWING = 4;

const REDUCTIONS: readonly Reduction[] = ['sum', 'sequence-mean'];

/** Moves `model`. Throws R3Error `not-available` where no surrogate of a loss is right. */
export async function probeTraining(model: TrainingModel, vocabularySize: number): Promise<TrainingFindings> {
  const tokens = Array.from({ length: LENGTH + FOLLOWING }, (_, i) => (3 + 7919 * i) % vocabularySize);
  const datum: Derivative = { tokens: tokens.slice(0, LENGTH), positions: [3, 5], gradient: [-1, -0.5] };
  const bench = await makeBench(model, datum);
  const seen: string[] = [];
  for (const reduction of REDUCTIONS) {
    const sizeOf = (calls: readonly Derivative[][]): Promise<number> =>
      bench.sizeOf(calls, reduction, calls.flat());
    const one = await sizeOf([[datum]]);
    const cases: [what: string, factor: number, calls: Derivative[][]][] = [
      ['twice the derivative', 2, [[{ ...datum, gradient: [-2, -1] }]]],
      ['a datum twice in one request', 2, [[datum, datum]]],
      ['a datum in each of two requests', 2, [[datum], [datum]]],
      ['tokens behind that are not trained', 1, [[{ ...datum, tokens }]]],
    ];
    let fits = true;
    for (const [what, factor, calls] of cases) {
      const ratio = (await sizeOf(calls)) / one;
      if (Math.abs(ratio - factor) <= bench.tolerance * factor) continue;
      seen.push(`${reduction}: ${what} gives ${ratio.toPrecision(3)} times the gradient, not ${factor}`);
      fits = false;
      break;
    }
    if (!fits) continue;
    const ignores = await probeOptimizer(bench, reduction, datum, one);
    return { reduction, ignores, metrics: bench.metrics() };
  }
  throw new R3Error(
    'engine',
    'not-available',
    `losses of the service: expected sums over tokens and datums, or means as of SkyRL's JAX backend, got neither (${seen.join('; ')}); this service cannot be trained with`,
  );
}

/** Measures how large the gradient of a loss is. */
interface Bench {
  /** Of `calls`, each a request, before one step. `all`: what the step learns from. */
  sizeOf(calls: readonly Derivative[][], reduction: Reduction, all: readonly Derivative[]): Promise<number>;
  tolerance: number;
  metrics(): string[];
  /** The move in nats, against the derivative of the datum, of a step of gradient descent. */
  descend(reduction: Reduction, alpha: number, gradClipNorm: number): Promise<number>;
  /** Whether sizes are norms. Else they are moves at this rate. */
  alpha: number | null;
}

async function makeBench(model: TrainingModel, datum: Derivative): Promise<Bench> {
  let names: string[] = [];
  const backward = async (
    calls: readonly Derivative[][],
    reduction: Reduction,
    all: readonly Derivative[],
  ): Promise<void> => {
    // The factor depends on all datums of the step, whichever request they are in.
    const { data, lossName, config } = surrogateOf(all, reduction);
    let at = 0;
    for (const call of calls) {
      await model.forwardBackward(data.slice(at, at + call.length), lossName, config);
      at += call.length;
    }
  };
  const stepped = async (adam: WireAdam): Promise<number | null> => {
    const { metrics } = await model.optimStep(adam);
    names = Object.keys(metrics);
    return gradientNormIn(metrics);
  };
  /** The loss whose derivative the datum has. */
  const lossNow = async (): Promise<number> => {
    const { outputs } = await model.forward([scoringDatum(datum.tokens)], 'cross_entropy');
    const logprobs = outputs[0]?.['logprobs'] ?? new Float32Array();
    return datum.positions.reduce(
      (sum, position, i) => sum + (datum.gradient[i] ?? 0) * (logprobs[position - 1] ?? Number.NaN),
      0,
    );
  };
  const moveOf = async (alpha: number, gradClipNorm: number): Promise<number> => {
    const before = await lossNow();
    await stepped({ ...descent(alpha), gradClipNorm });
    return before - (await lossNow());
  };
  const descend: Bench['descend'] = async (reduction, alpha, gradClipNorm) => {
    await backward([[datum]], reduction, [datum]);
    return moveOf(alpha, gradClipNorm);
  };
  const common = { descend, metrics: () => names };

  await backward([[datum]], 'sum', [datum]);
  if ((await stepped(descent(0))) !== null) {
    return {
      ...common,
      tolerance: NORM_TOLERANCE,
      alpha: null,
      sizeOf: async (...asked) => {
        await backward(...asked);
        return (await stepped(descent(0))) ?? Number.NaN;
      },
    };
  }
  const alpha = await findAlpha((rate) => descend('sum', rate, 0));
  return {
    ...common,
    tolerance: MOVE_TOLERANCE,
    alpha,
    sizeOf: async (...asked) => {
      await backward(...asked);
      return moveOf(alpha, 0);
    },
  };
}

/** A rate at which a step moves about half of MOVE, so that twice as much is not too much. */
async function findAlpha(moveAt: (alpha: number) => Promise<number>): Promise<number> {
  let alpha = 1 / LARGE_EPSILON;
  for (let i = 0; i < ALPHA_TRIES; i++) {
    const move = await moveAt(alpha);
    if (move > MOVE / 20 && move < 10 * MOVE) return (alpha * MOVE) / 2 / move;
    if (!(move < MOVE)) break;
    alpha *= 10;
  }
  throw new R3Error(
    'engine',
    'not-available',
    'losses of the service: expected gradient norms among the metrics of a step, or steps that follow the gradient where epsilon is large, got neither; its scale of losses cannot be found',
  );
}

/** Gradient descent of rate alpha, in the words of AdamW. */
function descent(alpha: number): WireAdam {
  return {
    learningRate: alpha * LARGE_EPSILON,
    beta1: 0,
    beta2: 0,
    epsilon: LARGE_EPSILON,
    weightDecay: 0,
    gradClipNorm: 0,
  };
}

/** `size`: of the datum's gradient. */
async function probeOptimizer(
  bench: Bench,
  reduction: Reduction,
  datum: Derivative,
  size: number,
): Promise<Ignorable[]> {
  // A step along the gradient lowers the loss by alpha times the square of its norm.
  const alpha = bench.alpha ?? MOVE / size ** 2;
  const expected = bench.alpha === null ? MOVE : size;
  const clipped = await bench.descend(reduction, alpha, bench.alpha === null ? size / 1000 : 1e-6);
  const ignores: Ignorable[] = Math.abs(clipped) < expected / 4 ? [] : ['maxGradNorm'];
  const moved = ignores.length === 0 ? await bench.descend(reduction, alpha, 0) : clipped;
  const share = moved / expected;
  if (share > 1 - 2 * MOVE_TOLERANCE && share < 1 + 2 * MOVE_TOLERANCE) return ignores;
  if (!(Math.abs(share) <= 5)) return [...ignores, 'epsilon', 'beta1', 'beta2'];
  throw new R3Error(
    'engine',
    'not-available',
    `steps of the service: expected a step along the gradient to lower a loss over ${datum.positions.length} tokens by ${expected.toPrecision(3)} nats, got ${moved.toPrecision(3)}; this service cannot be trained with`,
  );
}

const SAMPLES = 4;
const SAMPLED_TOKENS = 8;

/** Which of `asked` the service does not act on. */
export async function probeSampling(
  sampler: Sampler,
  asked: readonly Ignorable[],
  vocabularySize: number,
): Promise<Ignorable[]> {
  const prompt = Array.from({ length: LENGTH }, (_, i) => (5 + 7919 * i) % vocabularySize);
  const request = { prompt, count: SAMPLES, maxTokens: SAMPLED_TOKENS, temperature: 1, seed: 12_345 };
  const textsOf = async (changed: { topK?: number; topP?: number } = {}): Promise<string[]> =>
    (await sampler.sample({ ...request, ...changed })).sequences.map(({ tokens }) => tokens.join(' '));
  const isOne = (texts: readonly string[]): boolean => new Set(texts).size === 1;
  const ignores: Ignorable[] = [];
  for (const option of asked) {
    if (option === 'seed' && (await textsOf()).join() !== (await textsOf()).join()) ignores.push(option);
    if (option === 'topK' && !isOne(await textsOf({ topK: 1 }))) ignores.push(option);
    if (option === 'topP' && !isOne(await textsOf({ topP: 1e-6 }))) ignores.push(option);
  }
  return ignores;
}
