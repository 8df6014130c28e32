/**
 * Intervals for pass rates and their differences, a test, the spread over seeds, and unbiased pass@k. Pure: resampling
 * draws from a seed.
 *
 * `wilson` for one rate, `pairedBootstrap` and `mcnemar` for the difference of two rates measured on the same problems.
 * They are about problems; `spreadOf` is about problems and sampling seeds. None says anything of the spread between
 * training runs: for that, several runs must be trained.
 */
import { assert } from '../lib/errors.ts';
import { hash32 } from '../lib/rng.ts';

/** A pass rate with its 95% interval. Without data (n = 0) the rate is NaN, null in JSON, and the interval [0, 1]. */
export interface Rate {
  rate: number;
  low: number;
  high: number;
  n: number;
}

/** A difference of two rates with its 95% interval. Without data the difference is NaN and the interval [-1, 1]. */
export interface Difference {
  diff: number;
  low: number;
  high: number;
  n: number;
}

/** A difference of passes on the same problems, with the test that it is none. */
export interface PairedDifference extends Difference {
  mcnemar: McNemar;
}

/** b: passes of the first alone, c: of the second alone, and the two-sided p-value. */
export interface McNemar {
  b: number;
  c: number;
  p: number;
}

/**
 * One rate or difference for each seed: their mean, least and most, and the standard error of that mean over the seeds
 * (NaN for fewer than two). `low` and `high`: 95% interval of the mean over problems and seeds.
 */
export interface Spread {
  mean: number;
  min: number;
  max: number;
  standardError: number;
  low: number;
  high: number;
  seeds: number;
}

/** The 97.5% quantile of the normal distribution. */
const Z = 1.959963984540054;

/**
 * Wilson score interval:
 *   (p + z²/2n ± z sqrt(p(1-p)/n + z²/4n²)) / (1 + z²/n)
 * Wilson (1927), https://doi.org/10.1080/01621459.1927.10502953.
 */
export function wilson(passes: number, n: number): Rate {
  assert(passes >= 0 && passes <= n, `wilson: ${passes} passes of ${n}`);
  if (n === 0) return { rate: Number.NaN, low: 0, high: 1, n };
  const rate = passes / n;
  const z2n = (Z * Z) / n;
  const centre = (rate + z2n / 2) / (1 + z2n);
  const half = (Z * Math.sqrt((rate * (1 - rate)) / n + z2n / (4 * n))) / (1 + z2n);
  // At 0 and n passes one end is the rate itself; rounding must not move it inside.
  return { rate, low: passes === 0 ? 0 : centre - half, high: passes === n ? 1 : centre + half, n };
}

export interface BootstrapOptions {
  /** How many resamples. */
  draws: number;
  seed: number;
}

/**
 * mean(a) - mean(b) over the same problems, in the same order, with the percentile interval of `draws`
 * resamples of problems. Values are passes, or pass rates in [0, 1].
 * Efron and Tibshirani (1993), chapter 13; quantiles are interpolated linearly.
 */
export function pairedBootstrap(
  a: readonly (boolean | number)[],
  b: readonly (boolean | number)[],
  options: BootstrapOptions,
): Difference {
  assert(a.length === b.length, `pairedBootstrap: ${a.length} and ${b.length} values`);
  const n = a.length;
  if (n === 0) return { diff: Number.NaN, low: -1, high: 1, n };
  const differences = Float64Array.from(a, (value, i) => Number(value) - Number(b[i]));
  const means = new Float64Array(options.draws);
  const resamples = resamplesOf(n, options);
  for (let draw = 0; draw < options.draws; draw++) {
    let sum = 0;
    const places = resamples(draw);
    for (let i = 0; i < n; i++) sum += differences[places[i]!]!;
    means[draw] = sum / n;
  }
  means.sort();
  const diff = differences.reduce((sum, value) => sum + value, 0) / n;
  return { diff, low: quantile(means, 0.025), high: quantile(means, 0.975), n };
}

/** The places of `n` values that each draw takes, with replacement. */
type Resamples = (draw: number) => Uint32Array;

/** What the last call drew: a table has dozens of intervals over the same problems. */
let lastResamples: { n: number; options: BootstrapOptions; drawn: Uint32Array } | undefined;
/** More are drawn anew for each interval: 256 MB. */
const MAX_HELD = 1 << 26;

function resamplesOf(n: number, options: BootstrapOptions): Resamples {
  const { draws, seed } = options;
  const fill = (places: Uint32Array, draw: number): Uint32Array => {
    for (let i = 0; i < n; i++) places[i] = Math.floor((hash32(seed, draw, i) / 0x100000000) * n);
    return places;
  };
  if (n * draws > MAX_HELD) {
    const places = new Uint32Array(n);
    return (draw) => fill(places, draw);
  }
  const held = lastResamples;
  const same = held?.n === n && held.options.draws === draws && held.options.seed === seed;
  const drawn = same ? held.drawn : new Uint32Array(n * draws);
  const at = (draw: number): Uint32Array => drawn.subarray(draw * n, (draw + 1) * n);
  if (!same) {
    for (let draw = 0; draw < draws; draw++) fill(at(draw), draw);
    lastResamples = { n, options, drawn };
  }
  return at;
}

/**
 * McNemar's exact test of two pass rates on the same problems: under no difference each of the b + c problems that only
 * one of them passes is either's with chance 1/2, so
 *   p = min(1, 2 Σ_{i=0..min(b,c)} C(b+c, i) / 2^(b+c))
 * McNemar (1947), https://doi.org/10.1007/BF02295996, with the binomial in place of its approximation, two-sided.
 */
export function mcnemar(a: readonly boolean[], b: readonly boolean[]): McNemar {
  assert(a.length === b.length, `mcnemar: ${a.length} and ${b.length} outcomes`);
  const onlyA = a.filter((pass, i) => pass && !b[i]).length;
  const onlyB = b.filter((pass, i) => pass && !a[i]).length;
  return { b: onlyA, c: onlyB, p: exactSignTest(onlyA, onlyB) };
}

/** In logarithms: 2^-n is 0 in a double from n = 1075 on. */
function exactSignTest(b: number, c: number): number {
  const n = b + c;
  let logTerm = -n * Math.LN2;
  let sum = Math.exp(logTerm);
  for (let i = 1; i <= Math.min(b, c); i++) {
    logTerm += Math.log((n - i + 1) / i);
    sum += Math.exp(logTerm);
  }
  return Math.min(1, 2 * sum);
}

/** The difference of two pass rates on the same problems, with interval and test. */
export function pairedDifference(
  a: readonly boolean[],
  b: readonly boolean[],
  options: BootstrapOptions,
): PairedDifference {
  return { ...pairedBootstrap(a, b, options), mcnemar: mcnemar(a, b) };
}

/**
 * The spread of a rate or a difference over sampling seeds. values_S_P: a value for each seed and problem, NaN where it
 * is not known. The interval resamples seeds and problems independently of each other, both with replacement (they are
 * crossed: every seed has every problem); Owen (2007), https://doi.org/10.1214/07-AOAS122. Of few seeds it
 * is a rough guide.
 */
export function spreadOf(values_S_P: readonly (readonly number[])[], options: BootstrapOptions): Spread {
  const means = values_S_P.map((values_P) => mean(values_P.filter((value) => !Number.isNaN(value))));
  const known = means.filter((value) => !Number.isNaN(value));
  const seeds = known.length;
  const center = mean(known);
  if (seeds === 0)
    return {
      mean: center,
      min: center,
      max: center,
      standardError: center,
      low: Number.NaN,
      high: Number.NaN,
      seeds,
    };
  const variance = known.reduce((sum, value) => sum + (value - center) ** 2, 0) / (seeds - 1);
  const drawn = crossedMeans(values_S_P, options);
  const ascending = drawn.filter((value) => !Number.isNaN(value)).sort();
  return {
    mean: center,
    min: Math.min(...known),
    max: Math.max(...known),
    standardError: Math.sqrt(variance / seeds),
    low: quantile(ascending, 0.025),
    high: quantile(ascending, 0.975),
    seeds,
  };
}

/** The mean of each resample of seeds and of problems. */
function crossedMeans(values_S_P: readonly (readonly number[])[], options: BootstrapOptions): Float64Array {
  const S = values_S_P.length;
  const P = values_S_P[0]?.length ?? 0;
  const known_S_P = values_S_P.map((values_P) =>
    Float64Array.from(values_P, (v) => Number(!Number.isNaN(v))),
  );
  const sums_S_P = values_S_P.map((values_P) =>
    Float64Array.from(values_P, (v) => (Number.isNaN(v) ? 0 : v)),
  );
  const resamples = resamplesOf(P, options);
  return Float64Array.from({ length: options.draws }, (_, draw) => {
    const places = resamples(draw);
    let sum = 0;
    let count = 0;
    for (let s = 0; s < S; s++) {
      // After the counters of the problems.
      const seed = Math.floor((hash32(options.seed, draw, P + s) / 0x100000000) * S);
      const [sums_P, known_P] = [sums_S_P[seed]!, known_S_P[seed]!];
      for (let p = 0; p < P; p++) {
        sum += sums_P[places[p]!]!;
        count += known_P[places[p]!]!;
      }
    }
    return sum / count;
  });
}

/** NaN without values. */
export function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** Of ascending values, linear between neighbours. */
function quantile(ascending: Float64Array, q: number): number {
  const place = q * (ascending.length - 1);
  const below = Math.floor(place);
  const low = ascending[below]!;
  const high = ascending[Math.min(below + 1, ascending.length - 1)]!;
  return low + (place - below) * (high - low);
}

/**
 * Unbiased estimate, from n attempts of which c passed, of the chance that at least one of k passes:
 *   1 - C(n-c, k) / C(n, k) = 1 - Π_{i=n-c+1..n} (1 - k/i)
 * Chen et al. (arXiv 2107.03374), equation 1, in the product form of its figure 3. Needs k <= n.
 */
export function passAtK(n: number, c: number, k: number): number {
  assert(c >= 0 && c <= n && k >= 1 && k <= n, `passAtK: n ${n}, c ${c}, k ${k}`);
  if (n - c < k) return 1;
  let allFail = 1;
  for (let i = n - c + 1; i <= n; i++) allFail *= 1 - k / i;
  return 1 - allFail;
}
