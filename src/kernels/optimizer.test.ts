/** The optimizer's ops, adamW and sumSquares, against the reference. Over every compiled build (ops-suite.ts). */
import * as fc from 'fast-check';
import { it } from 'vitest';
import type { Ops } from './ops.ts';
import { describeCompiled, reference, ROUNDING, RUNS, seed, size } from './ops-suite.ts';
import { expectClose, randomFloats, withBuffers } from './ops-testing.ts';

describeCompiled('adamW', (build) => {
  const scalars = {
    learningRate: 0.01,
    beta1: 0.9,
    beta2: 0.999,
    epsilon: 1e-8,
    weightDecay: 0.1,
    correction1: 1 - 0.9 ** 3,
    correction2: 1 - 0.999 ** 3,
    gradientScale: 0.5,
  };
  const run = (each: Ops, n: number, start: number): Float32Array[] =>
    withBuffers(each, ({ floats }) => {
      const [w, g, m] = [1, 2, 3].map((i) => floats(randomFloats(n, start + i)));
      const v = floats(randomFloats(n, start + 4).map(Math.abs));
      each.adamW(n, w!, g!, m!, v, scalars);
      return [w!.slice(), m!.slice(), v.slice()];
    });

  it('equals the reference', () => {
    fc.assert(
      fc.property(size(200), seed, (n, start) => {
        const expected = run(reference, n, start);
        run(build.ops, n, start).forEach((values, i) => {
          expectClose(`adamW ${['w', 'm', 'v'][i]} n=${n}`, values, expected[i]!, ROUNDING);
        });
      }),
      RUNS,
    );
  });

  it('gives the same bits for every thread count', () => {
    build.expectSameForThreads('adamW', (each) => run(each, 70_001, 1));
  });

  it('takes views that begin anywhere', () => {
    build.expectSameForViews('adamW', (each) => run(each, 50, 1));
  });
});

describeCompiled('sumSquares', (build) => {
  it('equals the reference, over several blocks too', () => {
    for (const n of [0, 1, 7, 16, 1000, 65536, 65537, 200_003]) {
      const x = randomFloats(n, n + 1);
      const run = (each: Ops): number => withBuffers(each, ({ floats }) => each.sumSquares(n, floats(x)));
      expectClose(`sumSquares n=${n}`, [run(build.ops)], [run(reference)], { absolute: 0, relative: 1e-12 });
      build.expectSameForThreads(`sumSquares n=${n}`, (each) => [[run(each)]]);
    }
  });

  it('takes views that begin anywhere', () => {
    const x = randomFloats(185, 3, 4);
    build.expectSameForViews('sumSquares', (each) =>
      withBuffers(each, ({ floats }) => [[each.sumSquares(185, floats(x))]]),
    );
  });
});
