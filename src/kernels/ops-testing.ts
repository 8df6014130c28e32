/**
 * What the tests of the kernels share: random inputs, buffers with guards, comparisons that name the element
 * that differs, and the layout of token trees in pages.
 *
 * Inputs are plain arrays; `withBuffers` copies them into a build's own memory, runs an op and gives the
 * memory back. Each buffer is followed by guard values, so a write past its end fails the test.
 */
import { makeRng } from '../lib/rng.ts';
import { PAGE_SIZE } from './ops.ts';
import type { AttentionShape, Ops } from './ops.ts';

const GUARD_LENGTH = 16;
const GUARD_VALUE = 12345;

/** n values, uniform in [-scale, scale). */
export function randomFloats(n: number, seed: number, scale = 1): Float32Array {
  const rng = makeRng(seed);
  return Float32Array.from({ length: n }, () => (rng.next() * 2 - 1) * scale);
}

/** n integers, uniform in [0, limit). */
export function randomInts(n: number, seed: number, limit: number): Int32Array {
  const rng = makeRng(seed);
  return Int32Array.from({ length: n }, () => rng.below(limit));
}

/** Buffers of a build: zeroed with that length, or a copy of those values. */
export interface Buffers {
  floats: (content: number | ArrayLike<number>) => Float32Array;
  ints: (content: number | ArrayLike<number>) => Int32Array;
}

function lengthOf(content: number | ArrayLike<number>): number {
  return typeof content === 'number' ? content : content.length;
}

/** Runs `body` with buffers of `ops`, which are checked for writes past the end and freed. */
export function withBuffers<T>(ops: Ops, body: (buffers: Buffers) => T): T {
  const whole: (Float32Array | Int32Array)[] = [];
  function fill(view: Float32Array | Int32Array, content: number | ArrayLike<number>): void {
    whole.push(view);
    if (typeof content !== 'number') view.set(content);
    view.fill(GUARD_VALUE, lengthOf(content));
  }
  function floats(content: number | ArrayLike<number>): Float32Array {
    const view = ops.f32(lengthOf(content) + GUARD_LENGTH);
    fill(view, content);
    return view.subarray(0, lengthOf(content));
  }
  function ints(content: number | ArrayLike<number>): Int32Array {
    const view = ops.i32(lengthOf(content) + GUARD_LENGTH);
    fill(view, content);
    return view.subarray(0, lengthOf(content));
  }
  try {
    const result = body({ floats, ints });
    whole.forEach((view, nth) => {
      const length = view.length - GUARD_LENGTH;
      for (let i = length; i < view.length; i++) {
        if (view[i] !== GUARD_VALUE) {
          throw new Error(
            `buffer ${nth} (in order of allocation): written at ${i}, past its length ${length}`,
          );
        }
      }
    });
    return result;
  } finally {
    for (const view of whole) ops.free(view);
  }
}

/** The same ops, with float buffers that begin one float after the allocation: a view into a larger buffer. */
export function shifted(ops: Ops): Ops {
  const wholeOf = new Map<ArrayBufferView, Float32Array>();
  return {
    ...ops,
    f32(length) {
      const whole = ops.f32(length + 1);
      const view = whole.subarray(1);
      wholeOf.set(view, whole);
      return view;
    },
    free: (view) => ops.free(wholeOf.get(view) ?? view),
  };
}

export interface Tolerance {
  absolute: number;
  relative: number;
}

/** Throws where |got - expected| > absolute + relative |expected|, or where one of them is NaN. */
export function expectClose(
  label: string,
  got: ArrayLike<number>,
  expected: ArrayLike<number>,
  { absolute, relative }: Tolerance,
): void {
  expectSame(
    label,
    got,
    expected,
    (a, b) => Math.abs(a - b) <= absolute + relative * Math.abs(b),
    `within ${absolute} + ${relative} |expected|`,
  );
}

/** Throws where the bits differ (so 0 and -0 differ). */
export function expectBits(label: string, got: ArrayLike<number>, expected: ArrayLike<number>): void {
  expectSame(label, got, expected, Object.is, 'to the bit');
}

function expectSame(
  label: string,
  got: ArrayLike<number>,
  expected: ArrayLike<number>,
  same: (a: number, b: number) => boolean,
  how: string,
): void {
  if (got.length !== expected.length) {
    throw new Error(`${label}: expected ${expected.length} values, got ${got.length}`);
  }
  let differing = 0;
  let first = -1;
  for (let i = 0; i < got.length; i++) {
    if (same(got[i]!, expected[i]!)) continue;
    differing++;
    if (first === -1) first = i;
  }
  if (first === -1) return;
  throw new Error(
    `${label}: at [${first}] expected ${expected[first]} (${how}), got ${got[first]}; ` +
      `${differing} of ${got.length} values differ`,
  );
}

/** sum a b, in f64. */
export function dot(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i]! * b[i]!;
  return sum;
}

/** A run of tokens that continues its parent's last token, or starts a sequence where parent is -1. */
export interface TreeNode {
  tokens: readonly number[];
  parent: number;
}

/** Queries, keys and values of numbered tokens: queries [tokens, H, D]; keys and values [tokens, J, D]. */
export interface TokenRows {
  heads: number;
  kvHeads: number;
  headSize: number;
  queries: Float32Array;
  keys: Float32Array;
  values: Float32Array;
}

export function randomTokenRows(
  count: number,
  heads: number,
  kvHeads: number,
  headSize: number,
  seed: number,
): TokenRows {
  return {
    heads,
    kvHeads,
    headSize,
    queries: randomFloats(count * heads * headSize, seed, 2),
    keys: randomFloats(count * kvHeads * headSize, seed + 1, 2),
    values: randomFloats(count * kvHeads * headSize, seed + 2),
  };
}

/** The arguments of attention over token trees. */
export interface AttentionCase {
  shape: AttentionShape;
  R: number;
  /** The token of each row. */
  tokenOfRow: number[];
  /** Where each token's key and value are, by token: page*16 + slot. */
  slotOfToken: number[];
  trees: Int32Array;
  treeCount: number;
  q: Float32Array;
  keyPages: Float32Array;
  valuePages: Float32Array;
}

/**
 * Lays token trees out in rows and pages. A node begins a page of its own at the slot of its first position.
 * Nodes of one tree stand together, parents first. A node's rows are cut into runs of at most `rowsPerRun`.
 */
export function layOut(nodes: readonly TreeNode[], rows: TokenRows, rowsPerRun = Infinity): AttentionCase {
  const { heads, kvHeads, headSize } = rows;
  const pageFloats = kvHeads * headSize * PAGE_SIZE;
  const starts: number[] = [];
  const spansOfNode: number[][] = [];
  const runs: number[] = [];
  const spans: number[] = [];
  const trees: number[] = [];
  const tokenOfRow: number[] = [];
  const slotOfToken: number[] = [];
  let pageCount = 0;
  for (const node of nodes) {
    const parent = nodes[node.parent];
    const start = parent ? starts[node.parent]! + parent.tokens.length : 0;
    const end = start + node.tokens.length;
    starts.push(start);
    const firstPage = pageCount;
    const own: number[] = parent ? [...spansOfNode[node.parent]!] : [];
    for (let base = start - (start % PAGE_SIZE); base < end; base += PAGE_SIZE) {
      own.push(pageCount, base, Math.max(start - base, 0), Math.min(end - base, PAGE_SIZE));
      pageCount++;
    }
    spansOfNode.push(own);
    const firstSpan = spans.length / 4;
    spans.push(...own);
    if (node.parent === -1) trees.push(runs.length / 5, 0);
    for (let i = 0; i < node.tokens.length; i += rowsPerRun) {
      const count = Math.min(rowsPerRun, node.tokens.length - i);
      runs.push(tokenOfRow.length + i, count, start + i, firstSpan, own.length / 4);
      trees[trees.length - 1]!++;
    }
    node.tokens.forEach((token, i) => {
      const position = start + i;
      const page = firstPage + Math.floor(position / PAGE_SIZE) - Math.floor(start / PAGE_SIZE);
      slotOfToken[token] = page * PAGE_SIZE + (position % PAGE_SIZE);
    });
    tokenOfRow.push(...node.tokens);
  }

  const keyPages = new Float32Array(pageCount * pageFloats);
  const valuePages = new Float32Array(pageCount * pageFloats);
  const q = new Float32Array(tokenOfRow.length * heads * headSize);
  tokenOfRow.forEach((token, row) => {
    const slot = slotOfToken[token]! % PAGE_SIZE;
    const page = Math.floor(slotOfToken[token]! / PAGE_SIZE);
    for (let j = 0; j < kvHeads; j++) {
      const head = page * pageFloats + j * headSize * PAGE_SIZE;
      for (let d = 0; d < headSize; d++) {
        keyPages[head + d * PAGE_SIZE + slot] = rows.keys[(token * kvHeads + j) * headSize + d]!;
        valuePages[head + slot * headSize + d] = rows.values[(token * kvHeads + j) * headSize + d]!;
      }
    }
    const width = heads * headSize;
    q.set(rows.queries.subarray(token * width, (token + 1) * width), row * width);
  });
  return {
    shape: {
      heads,
      kvHeads,
      headSize,
      scale: headSize ** -0.5,
      window: 0,
      softcap: 0,
      runs: Int32Array.from(runs),
      runCount: runs.length / 5,
      spans: Int32Array.from(spans),
    },
    R: tokenOfRow.length,
    tokenOfRow,
    slotOfToken,
    trees: Int32Array.from(trees),
    treeCount: trees.length / 2,
    q,
    keyPages,
    valuePages,
  };
}

/** Consecutive tokens for nodes given as [length, parent]. */
export function makeNodes(lengths: readonly (readonly [number, number])[]): TreeNode[] {
  let next = 0;
  return lengths.map(([length, parent]) => {
    const tokens = Array.from({ length }, (_, i) => next + i);
    next += length;
    return { tokens, parent };
  });
}

/** Runs attention on a copy of the case in the build's memory. */
export function runAttention(ops: Ops, c: AttentionCase): { out: Float32Array; stats: Float32Array } {
  return withBuffers(ops, ({ floats, ints }) => {
    const out = floats(c.q.length);
    const stats = floats(c.R * c.shape.heads * 2);
    const shape = { ...c.shape, runs: ints(c.shape.runs), spans: ints(c.shape.spans) };
    ops.attention(c.R, shape, floats(c.q), floats(c.keyPages), floats(c.valuePages), out, stats);
    return { out: out.slice(), stats: stats.slice() };
  });
}

export interface AttentionGradients {
  dq: Float32Array;
  dKeyPages: Float32Array;
  dValuePages: Float32Array;
}

/** Runs attentionBackward; the gradient pages begin at zero. */
export function runAttentionBackward(
  ops: Ops,
  c: AttentionCase,
  forward: { out: Float32Array; stats: Float32Array },
  dOut: Float32Array,
): AttentionGradients {
  return withBuffers(ops, ({ floats, ints }) => {
    const dq = floats(c.q.length);
    dq.fill(7); // It is overwritten.
    const dKeyPages = floats(c.keyPages.length);
    const dValuePages = floats(c.valuePages.length);
    ops.attentionBackward(
      c.R,
      { ...c.shape, runs: ints(c.shape.runs), spans: ints(c.shape.spans) },
      ints(c.trees),
      c.treeCount,
      floats(c.q),
      floats(c.keyPages),
      floats(c.valuePages),
      floats(forward.out),
      floats(forward.stats),
      floats(dOut),
      dq,
      dKeyPages,
      dValuePages,
    );
    return { dq: dq.slice(), dKeyPages: dKeyPages.slice(), dValuePages: dValuePages.slice() };
  });
}

/** A rope table [positions, D]: D/2 cosines, then D/2 sines, of position * 10000^(-2i/D). */
export function makeRopeTable(positions: number, D: number): Float32Array {
  const table = new Float32Array(positions * D);
  for (let p = 0; p < positions; p++) {
    for (let i = 0; i < D / 2; i++) {
      const angle = p * 10000 ** ((-2 * i) / D);
      table[p * D + i] = Math.cos(angle);
      table[p * D + D / 2 + i] = Math.sin(angle);
    }
  }
  return table;
}
