/**
 * What is read from logits: log-probabilities, their gradient, the cap, and sampling. Equal to the reference; sampling draws
 * what the filters keep, and reports the log-probability that logprobs computes, to the bit. Over every build
 * (ops-suite.ts).
 */
import * as fc from 'fast-check';
import { expect, it } from 'vitest';
import type { Ops, SampleRows } from './ops.ts';
import { describeBuilds, reference, RUNS, seed, size, SUMS } from './ops-suite.ts';
import { expectBits, expectClose, randomFloats, randomInts, withBuffers } from './ops-testing.ts';

function runLogprobs(
  ops: Ops,
  V: number,
  logits: Float32Array,
  targets: Int32Array,
  temperature: number,
): Float32Array[] {
  const R = targets.length;
  return withBuffers(ops, ({ floats, ints }) => {
    const logsumexp = floats(R);
    const logprob = floats(R);
    ops.logprobs(R, V, floats(logits), ints(targets), temperature, logsumexp, logprob);
    return [logsumexp.slice(), logprob.slice()];
  });
}

interface Filters {
  temperature: number;
  topK: number;
  topP: number;
  minP: number;
}

const NO_FILTER: Filters = { temperature: 1, topK: 0, topP: 1, minP: 0 };

/** Draws one token per uniform, each from the same V logits (or from a row of its own where there are more). */
function runSample(
  ops: Ops,
  V: number,
  logits: Float32Array,
  uniforms: readonly number[],
  filters: Filters,
): { tokens: Int32Array; logprob: Float32Array } {
  const R = uniforms.length;
  return withBuffers(ops, ({ floats, ints }) => {
    const all = floats(R * V);
    for (let r = 0; r < R; r++)
      all.set(logits.length === V ? logits : logits.subarray(r * V, (r + 1) * V), r * V);
    const rows: SampleRows = {
      temperature: floats(R).fill(filters.temperature),
      topK: ints(R).fill(filters.topK),
      topP: floats(R).fill(filters.topP),
      minP: floats(R).fill(filters.minP),
      uniform: floats(uniforms),
    };
    const tokens = ints(R);
    const logprob = floats(R);
    ops.sample(R, V, all, rows, tokens, logprob);
    return { tokens: tokens.slice(), logprob: logprob.slice() };
  });
}

/** n uniforms in the middle of n equal parts of [0, 1). */
const grid = (n: number): number[] => Array.from({ length: n }, (_, i) => (i + 0.5) / n);

function softmax(logits: Float32Array, temperature: number): number[] {
  const largest = Math.max(...logits);
  const weights = Array.from(logits, (l) => Math.exp((l - largest) / temperature));
  const total = weights.reduce((sum, w) => sum + w, 0);
  return weights.map((w) => w / total);
}

/** The tokens that the filters keep, by falling probability, with their probabilities made to sum to 1. */
function keptTokens(logits: Float32Array, filters: Filters): { token: number; p: number }[] {
  const sorted = softmax(logits, filters.temperature)
    .map((p, token) => ({ token, p }))
    .toSorted((a, b) => b.p - a.p || a.token - b.token);
  let before = 0;
  const kept = sorted.filter(({ p }, rank) => {
    const inTopK = filters.topK === 0 || rank < filters.topK;
    const inTopP = filters.topP === 1 || rank === 0 || before < filters.topP;
    const inMinP = p >= filters.minP * sorted[0]!.p;
    before += p;
    return inTopK && inTopP && inMinP;
  });
  const total = kept.reduce((sum, { p }) => sum + p, 0);
  return kept.map(({ token, p }) => ({ token, p: p / total }));
}

describeBuilds('logprobs', (build) => {
  const temperatures = fc.constantFrom(0.5, 0.7, 1, 1.3);
  const softcaps = fc.constantFrom(0, 8, 30);

  build.itCompiled('equal the reference, forward and backward', () => {
    fc.assert(
      fc.property(size(10), size(300), temperatures, softcaps, seed, (R, V, temperature, softcap, start) => {
        const label = `R=${R} V=${V} temperature=${temperature} softcap=${softcap}`;
        const logits = randomFloats(R * V, start, 8);
        const targets = randomInts(R, start + 1, V);
        const [logsumexp, logprob] = runLogprobs(build.ops, V, logits, targets, temperature);
        const [expectedLogsumexp, expectedLogprob] = runLogprobs(reference, V, logits, targets, temperature);
        expectClose(`logprobs logsumexp ${label}`, logsumexp!, expectedLogsumexp!, SUMS);
        expectClose(`logprobs logprob ${label}`, logprob!, expectedLogprob!, SUMS);

        const backward = (each: Ops): Float32Array =>
          withBuffers(each, ({ floats, ints }) => {
            const inPlace = floats(logits);
            const coefficient = floats(randomFloats(R, start + 2));
            each.logprobsBackward(
              R,
              V,
              inPlace,
              ints(targets),
              temperature,
              softcap,
              floats(expectedLogsumexp!),
              coefficient,
            );
            return inPlace.slice();
          });
        expectClose(`logprobsBackward ${label}`, backward(build.ops), backward(reference), SUMS);
      }),
      RUNS,
    );
  });

  it('hold for logits far from zero', () => {
    const logits = Float32Array.from([1000, 999, -1000, -Infinity]);
    const [, logprob] = runLogprobs(
      build.ops,
      4,
      Float32Array.from([...logits, ...logits]),
      Int32Array.from([0, 1]),
      1,
    );
    expectClose('logprobs', logprob!, [-0.313262, -1.313262], { absolute: 2e-4, relative: 0 });
  });

  it('give a row the same bits alone and in the batch', () => {
    const [R, V] = [9, 333];
    const logits = randomFloats(R * V, 1, 8);
    const targets = randomInts(R, 2, V);
    const [, logprob] = runLogprobs(build.ops, V, logits, targets, 0.7);
    for (let r = 0; r < R; r++) {
      const [, alone] = runLogprobs(
        build.ops,
        V,
        logits.slice(r * V, (r + 1) * V),
        targets.slice(r, r + 1),
        0.7,
      );
      expectBits(`logprobs row ${r}`, alone!, logprob!.slice(r, r + 1));
    }
  });

  it('are the log-probabilities that sampling reports, to the bit', () => {
    fc.assert(
      fc.property(
        size(300),
        // In hundredths: most are not f32 values, which is what SampleRows stores.
        fc.integer({ min: 0, max: 150 }),
        size(3),
        seed,
        (V, percent, topK, start) => {
          const temperature = percent / 100;
          const R = 8;
          const logits = randomFloats(R * V, start, 4);
          for (const filters of [
            { ...NO_FILTER, temperature },
            { ...NO_FILTER, temperature, topK, topP: 0.9, minP: 0.01 },
          ]) {
            const { tokens, logprob } = runSample(build.ops, V, logits, grid(R), filters);
            const [, scored] = runLogprobs(build.ops, V, logits, tokens, temperature || 1);
            expectBits(`sample logprob V=${V} ${JSON.stringify(filters)}`, logprob, scored!);
          }
        },
      ),
      { ...RUNS, examples: [[300, 85, 1, 1]] },
    );
  });

  build.itCompiled('give the same bits for every thread count', () => {
    const logits = randomFloats(60 * 501, 1, 8);
    const targets = randomInts(60, 2, 501);
    build.expectSameForThreads('logprobs', (each) => runLogprobs(each, 501, logits, targets, 0.9));
    build.expectSameForThreads('sample', (each) => {
      const { tokens, logprob } = runSample(each, 501, logits, grid(60), {
        ...NO_FILTER,
        topK: 20,
        topP: 0.9,
      });
      return [tokens, logprob];
    });
    build.expectSameForThreads('logprobsBackward', (each) =>
      withBuffers(each, ({ floats, ints }) => {
        const inPlace = floats(logits);
        const logsumexp = floats(runLogprobs(reference, 501, logits, targets, 0.9)[0]!);
        each.logprobsBackward(
          60,
          501,
          inPlace,
          ints(targets),
          0.9,
          9,
          logsumexp,
          floats(randomFloats(60, 3)),
        );
        return [inPlace.slice()];
      }),
    );
  });

  it('takes views that begin anywhere', () => {
    const logits = randomFloats(5 * 37, 3, 4);
    const targets = randomInts(5, 4, 37);
    build.expectSameForViews('logprobs', (each) => runLogprobs(each, 37, logits, targets, 1));
  });
});

describeBuilds('softcap', (build) => {
  const run = (each: Ops, cap: number, x: ArrayLike<number>): Float32Array =>
    withBuffers(each, ({ floats }) => {
      const inPlace = floats(x);
      each.softcap(x.length, cap, inPlace);
      return inPlace.slice();
    });

  it('is cap tanh(x / cap) at every size, to a relative error of 1e-6', () => {
    const sizes = Array.from({ length: 400 }, (_, i) => 10 ** (i / 20 - 10));
    const x = Float32Array.from([0, ...sizes, ...sizes.map((value) => -value)]);
    for (const cap of [1, 30]) {
      const expected = Array.from(x, (value) => cap * Math.tanh(value / cap));
      expectClose(`softcap ${cap}`, run(build.ops, cap, x), expected, { absolute: 0, relative: 1e-6 });
    }
  });

  it('gives a value the same bits wherever it stands', () => {
    const x = randomFloats(77, 1, 60);
    const whole = run(build.ops, 30, x);
    x.forEach((value, i) => expectBits(`softcap ${value}`, run(build.ops, 30, [value]), [whole[i]!]));
  });

  build.itCompiled('gives the same bits for every thread count', () => {
    build.expectSameForThreads('softcap', (each) => [run(each, 30, randomFloats(50_001, 1, 60))]);
  });

  it('takes views that begin anywhere', () => {
    build.expectSameForViews('softcap', (each) => [run(each, 30, randomFloats(37, 1, 60))]);
  });
});

describeBuilds('sample', (build) => {
  it('draws each token as often as its probability says', () => {
    for (const [V, temperature] of [
      [13, 1],
      [13, 0.6],
      [50, 1.4],
    ] as const) {
      const logits = randomFloats(V, V, 3);
      const draws = 2000;
      const { tokens } = runSample(build.ops, V, logits, grid(draws), { ...NO_FILTER, temperature });
      softmax(logits, temperature).forEach((p, token) => {
        const count = tokens.filter((drawn) => drawn === token).length;
        // A token's part of [0, 1) holds its share of the grid, but for one point at each end.
        expect(
          Math.abs(count - p * draws),
          `token ${token}: expected ${p * draws}, got ${count}`,
        ).toBeLessThan(1.1);
      });
    }
  });

  it('goes through the tokens in ascending id where no filter is on, or top-k is the whole vocabulary', () => {
    for (const topK of [0, 40, 100]) {
      const { tokens } = runSample(build.ops, 40, randomFloats(40, 3, 2), grid(500), { ...NO_FILTER, topK });
      expect(tokens).toEqual(tokens.toSorted());
      expect(new Set(tokens).size).toBeGreaterThan(20);
    }
  });

  it('keeps the tokens that top-k, top-p and min-p keep, and draws them by falling probability', () => {
    fc.assert(
      fc.property(
        size(60),
        fc.constantFrom(0.6, 1, 1.5),
        fc.constantFrom(0, 1, 3, 10, 100),
        fc.constantFrom(0.3, 0.75, 0.95, 1),
        fc.constantFrom(0, 0.02, 0.2, 0.9),
        seed,
        (V, temperature, topK, topP, minP, start) => {
          const filters = { temperature, topK, topP, minP };
          fc.pre((topK > 0 && topK < V) || topP < 1 || minP > 0);
          const logits = randomFloats(V, start, 2);
          const kept = keptTokens(logits, filters);
          // The middle of each kept token's part of [0, 1).
          let sum = 0;
          const middles = kept.map(({ p }) => (sum += p) - p / 2);
          const { tokens } = runSample(build.ops, V, logits, middles, filters);
          const label = `sample tokens V=${V} ${JSON.stringify(filters)}`;
          expectBits(
            label,
            tokens,
            kept.map(({ token }) => token),
          );
        },
      ),
      { ...RUNS, numRuns: 80 },
    );
  });

  it('gives equal logits to the lower id first where a filter is on', () => {
    const logits = Float32Array.from([1, 2, 2, 1, 2, 0]);
    const { tokens } = runSample(build.ops, 6, logits, [0.1, 0.5, 0.9], { ...NO_FILTER, topK: 2 });
    expect([...tokens]).toEqual([1, 2, 2]);
  });

  it('keeps every token as likely as the likeliest at min-p 1', () => {
    const logits = Float32Array.from([1, 3, 2, 3, 0, 3]);
    const { tokens } = runSample(build.ops, 6, logits, [0.1, 0.5, 0.9], { ...NO_FILTER, minP: 1 });
    expect([...tokens]).toEqual([1, 3, 5]);
  });

  it('is greedy at temperature 0, with ties to the lowest id', () => {
    fc.assert(
      fc.property(size(200), size(6), seed, (V, levels, start) => {
        const logits = Float32Array.from(randomInts(V, start, levels), (level) => level - 3);
        const { tokens } = runSample(build.ops, V, logits, [0.99], { ...NO_FILTER, temperature: 0, topK: 5 });
        expect(tokens[0]).toBe(logits.indexOf(Math.max(...logits)));
      }),
      RUNS,
    );
  });

  it('never draws a token of probability 0', () => {
    const logits = Float32Array.from([-Infinity, 0, -Infinity, 0, -Infinity]);
    const { tokens } = runSample(build.ops, 5, logits, [0, 0.49, 0.51, 1 - 2 ** -24], NO_FILTER);
    expect([...tokens]).toEqual([1, 1, 3, 3]);
  });

  it('gives each row its own parameters', () => {
    const logits = Float32Array.from([0, 1, 2, 3]);
    const tokens = withBuffers(build.ops, ({ floats, ints }) => {
      const drawn = ints(3);
      const rows: SampleRows = {
        temperature: floats([0, 1, 1]),
        topK: ints([0, 0, 2]),
        topP: floats([1, 1, 1]),
        minP: floats([0, 0, 0]),
        uniform: floats([0, 0, 0.999]),
      };
      build.ops.sample(3, 4, floats([...logits, ...logits, ...logits]), rows, drawn, floats(3));
      return [...drawn];
    });
    expect(tokens).toEqual([3, 0, 2]);
  });

  it('takes views that begin anywhere', () => {
    const logits = randomFloats(5 * 37, 3, 4);
    build.expectSameForViews('sample', (each) => [runSample(each, 37, logits, grid(5), NO_FILTER).logprob]);
  });
});
