/**
 * Attention over token trees, forward and backward: equal to the reference, and the same bits over a shared prefix
 * as over the flat sequence, for every cut into runs, in every page layout, beside any other tree. Over every
 * build (ops-suite.ts).
 */
import * as fc from 'fast-check';
import { expect, it } from 'vitest';
import type { Ops } from './ops.ts';
import { describeBuilds, heads, headSize, reference, RUNS, seed, size, SUMS } from './ops-suite.ts';
import {
  expectBits,
  expectClose,
  layOut,
  makeNodes,
  randomFloats,
  randomTokenRows,
  runAttention,
  runAttentionBackward,
  withBuffers,
} from './ops-testing.ts';
import type { AttentionCase, TreeNode } from './ops-testing.ts';

/** Random token trees: [length, parent] per node, in the order that layOut wants. */
const forest: fc.Arbitrary<TreeNode[]> = fc
  .array(fc.record({ length: size(23), up: fc.integer({ min: 0, max: 3 }), root: fc.boolean() }), {
    minLength: 1,
    maxLength: 5,
  })
  .map((nodes) => {
    let root = 0;
    return makeNodes(
      nodes.map(({ length, up, root: fresh }, i) => {
        if (i > 0 && !fresh) return [length, Math.max(root, i - 1 - up)] as const;
        root = i;
        return [length, -1] as const;
      }),
    );
  });

const attentionCase: fc.Arbitrary<AttentionCase> = fc
  .record({
    nodes: forest,
    heads,
    headSize,
    rowsPerRun: fc.constantFrom(1, 5, 16, Infinity),
    window: fc.constantFrom(0, 0, 1, 7, 16, 40),
    softcap: fc.constantFrom(0, 0, 2, 30),
    seed,
  })
  .map((c) => {
    const tokens = c.nodes.reduce((sum, node) => sum + node.tokens.length, 0);
    const rows = randomTokenRows(tokens, c.heads[0], c.heads[1], c.headSize, c.seed);
    return withLimits(layOut(c.nodes, rows, c.rowsPerRun), c.window, c.softcap);
  });

/** The same case with a window and a cap on scores. */
function withLimits(c: AttentionCase, window: number, softcap: number): AttentionCase {
  return { ...c, shape: { ...c.shape, window, softcap } };
}

/** Every output of attention and of its gradient. */
function runBoth(ops: Ops, c: AttentionCase): Float32Array[] {
  const { out, stats } = runAttention(ops, c);
  const dOut = randomFloats(c.q.length, 4);
  const { dq, dKeyPages, dValuePages } = runAttentionBackward(ops, c, { out, stats }, dOut);
  return [out, stats, dq, dKeyPages, dValuePages];
}

describeBuilds('attention', (build) => {
  build.itCompiled('equals the reference over token trees, forward and backward', () => {
    fc.assert(
      fc.property(attentionCase, seed, (c, start) => {
        const { heads: H, kvHeads: J, headSize: D, runCount, window, softcap } = c.shape;
        const label = `R=${c.R} H=${H} J=${J} D=${D} runs=${runCount} trees=${c.treeCount} window=${window} softcap=${softcap}`;
        const expected = runAttention(reference, c);
        const got = runAttention(build.ops, c);
        expectClose(`attention out ${label}`, got.out, expected.out, SUMS);
        expectClose(`attention stats ${label}`, got.stats, expected.stats, SUMS);

        const dOut = randomFloats(c.q.length, start);
        const expectedGradients = runAttentionBackward(reference, c, expected, dOut);
        const gradients = runAttentionBackward(build.ops, c, expected, dOut);
        // Sums over up to a hundred rows and the heads of a group.
        const tolerance = { absolute: 5e-5, relative: 1e-5 };
        for (const name of ['dq', 'dKeyPages', 'dValuePages'] as const) {
          expectClose(
            `attentionBackward ${name} ${label}`,
            gradients[name],
            expectedGradients[name],
            tolerance,
          );
        }
      }),
      RUNS,
    );
  });

  it('leaves rows that no run covers as they are', () => {
    const rows = randomTokenRows(6, 2, 1, 16, 1);
    const c = layOut(makeNodes([[6, -1]]), rows);
    c.shape.runs.set([2, 3, 2, 0, 1]); // Rows 2, 3 and 4, at positions 2 to 4.
    const forward = withBuffers(build.ops, ({ floats, ints }) => {
      const out = floats(c.q.length).fill(5);
      const stats = floats(c.R * 4).fill(5);
      const shape = { ...c.shape, runs: ints(c.shape.runs), spans: ints(c.shape.spans) };
      build.ops.attention(c.R, shape, floats(c.q), floats(c.keyPages), floats(c.valuePages), out, stats);
      return { out: out.slice(), stats: stats.slice() };
    });
    const { dq } = runAttentionBackward(build.ops, c, forward, randomFloats(c.q.length, 1));
    expect(new Set(outsideRows2To4(forward.out, 32))).toEqual(new Set([5]));
    expect(new Set(outsideRows2To4(forward.stats, 4))).toEqual(new Set([5]));
    expect(new Set(outsideRows2To4(dq, 32))).toEqual(new Set([7]));
    expect(forward.out.slice(64, 160)).not.toContain(5);
    expect(dq.slice(64, 160)).not.toContain(7);
  });

  it('over a shared prefix equals attention over the flat sequence, to the bit', () => {
    fc.assert(
      fc.property(
        forest,
        heads,
        headSize,
        fc.constantFrom(0, 10),
        seed,
        (nodes, [H, J], D, window, start) => {
          const tokens = nodes.reduce((sum, node) => sum + node.tokens.length, 0);
          const rows = randomTokenRows(tokens, H, J, D, start);
          const tree = withLimits(layOut(nodes, rows), window, 0);
          const shared = runAttention(build.ops, tree);
          const width = H * D;
          nodes.forEach((leaf, index) => {
            const path = [...leaf.tokens];
            for (let at = leaf.parent; at !== -1; at = nodes[at]!.parent) path.unshift(...nodes[at]!.tokens);
            const flat = runAttention(
              build.ops,
              withLimits(layOut([{ tokens: path, parent: -1 }], rows), window, 0),
            );
            path.forEach((token, row) => {
              const treeRow = tree.tokenOfRow.indexOf(token);
              const label = `attention node ${index} of ${JSON.stringify(nodes.map((n) => [n.tokens.length, n.parent]))} token ${token}`;
              expectBits(
                `${label} out`,
                shared.out.slice(treeRow * width, (treeRow + 1) * width),
                flat.out.slice(row * width, (row + 1) * width),
              );
              expectBits(
                `${label} stats`,
                shared.stats.slice(treeRow * H * 2, (treeRow + 1) * H * 2),
                flat.stats.slice(row * H * 2, (row + 1) * H * 2),
              );
            });
          });
        },
      ),
      { ...RUNS, numRuns: 20 },
    );
  });

  it('gives the same bits for every cut into runs, forward and backward', () => {
    const nodes = makeNodes([
      [37, -1],
      [5, 0],
      [20, 0],
      [11, 2],
      [40, -1],
    ]);
    const rows = randomTokenRows(113, 6, 2, 32, 3);
    for (const [window, softcap] of [
      [0, 0],
      [3, 0],
      [33, 20],
    ] as const) {
      const whole = withLimits(layOut(nodes, rows), window, softcap);
      const expected = runAttention(build.ops, whole);
      const dOut = randomFloats(whole.q.length, 4);
      const expectedGradients = runAttentionBackward(build.ops, whole, expected, dOut);
      for (const rowsPerRun of [1, 2, 3, 7, 16, 17]) {
        const cut = withLimits(layOut(nodes, rows, rowsPerRun), window, softcap);
        const label = `window ${window}, ${rowsPerRun} rows per run`;
        const got = runAttention(build.ops, cut);
        expectBits(`attention out, ${label}`, got.out, expected.out);
        expectBits(`attention stats, ${label}`, got.stats, expected.stats);
        const gradients = runAttentionBackward(build.ops, cut, got, dOut);
        for (const name of ['dq', 'dKeyPages', 'dValuePages'] as const) {
          expectBits(`attentionBackward ${name}, ${label}`, gradients[name], expectedGradients[name]);
        }
      }
    }
  });

  it('with a window that holds every position gives the bits of none', () => {
    const nodes = makeNodes([
      [37, -1],
      [20, 0],
    ]);
    const c = layOut(nodes, randomTokenRows(57, 4, 2, 32, 3));
    const expected = runBoth(build.ops, c);
    for (const window of [57, 2 ** 40]) {
      runBoth(build.ops, withLimits(c, window, 0)).forEach((values, i) =>
        expectBits(`attention output ${i}, window ${window}`, values, expected[i]!),
      );
    }
  });

  it('with a window does not depend on what the slots before it hold', () => {
    const c = withLimits(layOut(makeNodes([[50, -1]]), randomTokenRows(50, 4, 2, 32, 3)), 9, 0);
    // Row 49 alone: it sees positions 41 to 49.
    c.shape.runs.set([49, 1, 49, 0, 4]);
    const expected = runAttention(build.ops, c);
    const other = { ...c, keyPages: c.keyPages.slice(), valuePages: c.valuePages.slice() };
    for (let i = 0; i < c.keyPages.length; i++) {
      const page = Math.floor(i / 1024) * 16;
      if (page + (i % 16) < 41) other.keyPages[i] = 50;
      if (page + (Math.floor(i / 32) % 16) < 41) other.valuePages[i] = 50;
    }
    const got = runAttention(build.ops, other);
    expectBits('attention out', got.out, expected.out);
    expectBits('attention stats', got.stats, expected.stats);
  });

  it('does not depend on what slots that a row does not see hold', () => {
    const nodes = makeNodes([
      [19, -1],
      [6, 0],
      [9, 0],
    ]);
    const c = layOut(nodes, randomTokenRows(34, 4, 2, 32, 1));
    const dirty = {
      ...c,
      keyPages: randomFloats(c.keyPages.length, 2, 50),
      valuePages: c.valuePages.slice(),
    };
    dirty.valuePages.set(randomFloats(c.valuePages.length, 3, 50));
    const used = new Set(c.slotOfToken);
    for (let i = 0; i < c.keyPages.length; i++) {
      const [page, key, value] = [Math.floor(i / 1024), i % 16, Math.floor(i / 32) % 16];
      if (used.has(page * 16 + key)) dirty.keyPages[i] = c.keyPages[i]!;
      if (used.has(page * 16 + value)) dirty.valuePages[i] = c.valuePages[i]!;
    }
    const dOut = randomFloats(c.q.length, 4);
    const [expected, got] = [runAttention(build.ops, c), runAttention(build.ops, dirty)];
    expectBits('attention out', got.out, expected.out);
    expectBits('attention stats', got.stats, expected.stats);
    const expectedGradients = runAttentionBackward(build.ops, c, expected, dOut);
    const gradients = runAttentionBackward(build.ops, dirty, expected, dOut);
    for (const name of ['dq', 'dKeyPages', 'dValuePages'] as const) {
      expectBits(`attentionBackward ${name}`, gradients[name], expectedGradients[name]);
    }
  });

  it('gives a tree the same gradients alone and beside another', () => {
    const first = makeNodes([
      [20, -1],
      [7, 0],
    ]);
    const both = makeNodes([
      [20, -1],
      [7, 0],
      [33, -1],
    ]);
    const rows = randomTokenRows(60, 4, 2, 32, 1);
    const [alone, beside] = [layOut(first, rows), layOut(both, rows)];
    const dOut = randomFloats(beside.q.length, 4);
    const run = (c: AttentionCase) =>
      runAttentionBackward(build.ops, c, runAttention(build.ops, c), dOut.slice(0, c.q.length));
    const [expected, got] = [run(alone), run(beside)];
    for (const name of ['dq', 'dKeyPages', 'dValuePages'] as const) {
      expectBits(`attentionBackward ${name}`, got[name].slice(0, expected[name].length), expected[name]);
    }
  });

  it('adds to the gradient pages', () => {
    const c = layOut(makeNodes([[20, -1]]), randomTokenRows(20, 2, 2, 16, 3));
    const forward = runAttention(reference, c);
    const dOut = randomFloats(c.q.length, 4);
    const once = runAttentionBackward(reference, c, forward, dOut);
    const twice = withBuffers(build.ops, ({ floats, ints }) => {
      const shape = { ...c.shape, runs: ints(c.shape.runs), spans: ints(c.shape.spans) };
      const dKeyPages = floats(c.keyPages.length);
      const dValuePages = floats(c.valuePages.length);
      const buffers = [c.q, c.keyPages, c.valuePages, forward.out, forward.stats, dOut, c.q].map(floats);
      const [q, keys, values, out, stats, g, dq] = buffers;
      const trees = ints(c.trees);
      for (let i = 0; i < 2; i++) {
        build.ops.attentionBackward(
          c.R,
          shape,
          trees,
          1,
          q!,
          keys!,
          values!,
          out!,
          stats!,
          g!,
          dq!,
          dKeyPages,
          dValuePages,
        );
      }
      return { dKeyPages: dKeyPages.slice(), dValuePages: dValuePages.slice() };
    });
    expectClose('attentionBackward dKeyPages, twice', twice.dKeyPages, double(once.dKeyPages), SUMS);
    expectClose('attentionBackward dValuePages, twice', twice.dValuePages, double(once.dValuePages), SUMS);
  });

  build.itCompiled('gives the same bits for every thread count', () => {
    const nodes = makeNodes([
      [50, -1],
      [30, 0],
      [21, 0],
      [70, -1],
      [33, -1],
    ]);
    const c = layOut(nodes, randomTokenRows(204, 6, 2, 32, 3));
    for (const [window, softcap] of [
      [0, 0],
      [20, 10],
    ] as const) {
      const limited = withLimits(c, window, softcap);
      build.expectSameForThreads(`attention, window ${window}`, (each) => runBoth(each, limited));
    }
  });

  it('takes views that begin anywhere', () => {
    const nodes = makeNodes([
      [20, -1],
      [7, 0],
    ]);
    const c = layOut(nodes, randomTokenRows(27, 4, 2, 32, 1));
    build.expectSameForViews('attention', (each) => runBoth(each, c));
  });
});

/** The values of a matrix outside rows 2, 3 and 4. */
function outsideRows2To4(matrix: Float32Array, columns: number): number[] {
  return [...matrix.slice(0, 2 * columns), ...matrix.slice(5 * columns)];
}

function double(values: Float32Array): Float32Array {
  return values.map((value) => 2 * value);
}
