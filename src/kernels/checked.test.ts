/**
 * That wrong arguments are refused before anything is written, with a message that says what is wrong.
 */
import { describe, expect, it } from 'vitest';
import { messageOf } from '../lib/errors.ts';
import { checkedOps } from './checked.ts';
import { layOut, makeNodes, makeRopeTable, randomTokenRows } from './ops-testing.ts';
import type { AttentionCase } from './ops-testing.ts';
import { makeReferenceOps } from './reference.ts';

const ops = checkedOps(makeReferenceOps());
const floats = (length: number): Float32Array => new Float32Array(length);

function messageOfRefused(call: () => void): string {
  try {
    call();
  } catch (error) {
    expect(error).toMatchObject({ name: 'R3Error', boundary: 'kernels', code: 'bad-shape' });
    return messageOf(error);
  }
  throw new Error('expected an error, got none');
}

/** Two trees: [16 tokens, then 5], and [3 tokens]. Pages 0, 1 and 2. */
function makeCase(): AttentionCase {
  const nodes = makeNodes([
    [16, -1],
    [5, 0],
    [3, -1],
  ]);
  return layOut(nodes, randomTokenRows(24, 2, 1, 16, 1));
}

function attend(c: AttentionCase): void {
  ops.attention(c.R, c.shape, c.q, c.keyPages, c.valuePages, floats(c.q.length), floats(c.R * 4));
}

function attendBackward(c: AttentionCase, treeCount = c.treeCount): void {
  const width = c.q.length;
  const pages = c.keyPages.length;
  ops.attentionBackward(
    c.R,
    c.shape,
    c.trees,
    treeCount,
    c.q,
    c.keyPages,
    c.valuePages,
    floats(width),
    floats(c.R * 4).fill(1),
    floats(width),
    floats(width),
    floats(pages),
    floats(pages),
  );
}

/** Stores one token at a position below 20 in one of two pages. */
function store(D: number, position: number, slot: number): void {
  const [positions, slots] = [Int32Array.from([position]), Int32Array.from([slot])];
  const table = makeRopeTable(20, D);
  const pageFloats = 2 * D * 16;
  ops.ropeStore(
    1,
    1,
    1,
    D,
    floats(3 * D),
    positions,
    slots,
    table,
    floats(D),
    floats(pageFloats),
    floats(pageFloats),
  );
}

const ADAM = {
  learningRate: 1,
  beta1: 0,
  beta2: 0,
  epsilon: 1,
  weightDecay: 0,
  correction1: 1,
  correction2: 1,
  gradientScale: 1,
};

describe('checked ops refuse', () => {
  it('short buffers, and name op, argument and lengths', () => {
    const packed = floats(ops.packedLength(16, 4, 'f32'));
    expect(
      messageOfRefused(() => ops.gemm(4, 4, 16, floats(60), 16, 1, packed, floats(16), false, 'f32')),
    ).toBe('gemm a: expected at least 64 floats, got 60');
    expect(
      messageOfRefused(() => ops.gemm(4, 4, 16, floats(64), 16, 1, packed, floats(15), false, 'f32')),
    ).toBe('gemm c: expected at least 16 floats, got 15');
    expect(
      messageOfRefused(() => ops.gemm(4, 5, 16, floats(64), 16, 1, packed, floats(20), false, 'f32')),
    ).toMatch(/^gemm packed: /);
    expect(messageOfRefused(() => ops.rmsNorm(2, 8, floats(16), floats(8), 0, floats(16), floats(1)))).toBe(
      'rmsNorm inverse: expected at least 2 floats, got 1',
    );
    expect(messageOfRefused(() => ops.adamW(5, floats(5), floats(5), floats(5), floats(4), ADAM))).toBe(
      'adamW v: expected at least 5 floats, got 4',
    );
    expect(messageOfRefused(() => ops.sumSquares(5, floats(4)))).toMatch(/^sumSquares x: /);
    expect(messageOfRefused(() => ops.gatedUnit(2, 8, 'silu', floats(31), floats(16)))).toMatch(
      /^gatedUnit gateUp: /,
    );
  });

  it('a strided matrix that reaches past its end', () => {
    const packed = floats(ops.packedLength(3, 1, 'f32'));
    ops.gemm(2, 1, 3, floats(6), 1, 2, packed, floats(2), false, 'f32');
    expect(messageOfRefused(() => ops.gemm(2, 1, 3, floats(6), 2, 2, packed, floats(2), false, 'f32'))).toBe(
      'gemm a: expected at least 7 floats, got 6',
    );
    expect(messageOfRefused(() => ops.pack(packed, floats(2), 3, 1, 0, 1, 1, 1, 'f32'))).toMatch(
      /^pack source: /,
    );
  });

  it('strips of columns that are not whole', () => {
    const [K, N] = [2, 200];
    const packed = floats(ops.packedLength(K, N, 'f32'));
    const pack = (first: number, count: number): void =>
      ops.pack(packed, floats(K * N), K, N, first, count, N, 1, 'f32');
    pack(0, 96);
    pack(96, 104);
    expect(messageOfRefused(() => pack(50, 96))).toBe('pack first: expected a multiple of 96, got 50');
    expect(messageOfRefused(() => pack(96, 105))).toBe('pack count: expected at most 104 columns, got 105');
    expect(messageOfRefused(() => pack(0, 100))).toBe(
      'pack count: expected a multiple of 96, or the 200 columns that are left, got 100',
    );
  });

  it('sizes that are not whole or are negative', () => {
    expect(messageOfRefused(() => ops.f32(-1))).toBe('f32 length: expected an integer of at least 0, got -1');
    expect(messageOfRefused(() => ops.i32(1.5))).toBe(
      'i32 length: expected an integer of at least 0, got 1.5',
    );
    expect(messageOfRefused(() => ops.gatedUnit(NaN, 1, 'silu', floats(2), floats(1)))).toMatch(
      /^gatedUnit R: .* got NaN$/,
    );
    expect(messageOfRefused(() => ops.sumSquares(-3, floats(4)))).toMatch(/^sumSquares n: /);
  });

  it('ids and targets out of range', () => {
    const ids = Int32Array.from([0, 3]);
    expect(messageOfRefused(() => ops.gather(2, 4, floats(12), ids, floats(8)))).toBe(
      'gather ids[1]: expected an index below 3, got 3',
    );
    expect(
      messageOfRefused(() => ops.scatterAdd(2, 4, floats(8), Int32Array.from([-1, 0]), floats(12))),
    ).toBe('scatterAdd ids[0]: expected an index below 3, got -1');
    expect(messageOfRefused(() => ops.gatherPacked(2, 4, 3, floats(12), ids, floats(8), 'f32'))).toBe(
      'gatherPacked ids[1]: expected an index below 3, got 3',
    );
    expect(messageOfRefused(() => ops.logprobs(2, 3, floats(6), ids, 1, floats(2), floats(2)))).toBe(
      'logprobs targets[1]: expected an index below 3, got 3',
    );
    expect(messageOfRefused(() => ops.logprobs(1, 3, floats(3), ids, 0, floats(1), floats(1)))).toBe(
      'logprobs temperature: expected a positive number, got 0',
    );
  });

  it('rates that drop everything', () => {
    const drop = (rate: number): void => ops.dropout(1, 4, floats(4), rate, 1, 0, floats(4));
    drop(0);
    expect(messageOfRefused(() => drop(1))).toBe('dropout rate: expected a number from 0 to below 1, got 1');
    expect(messageOfRefused(() => drop(NaN))).toMatch(/^dropout rate: /);
  });

  it('sampling parameters out of range', () => {
    const rows = {
      temperature: floats(1),
      topK: new Int32Array(1),
      topP: floats(1).fill(1),
      minP: floats(1),
      uniform: floats(1),
    };
    const draw = (changed: Partial<typeof rows>): void =>
      ops.sample(1, 3, floats(3), { ...rows, ...changed }, new Int32Array(1), floats(1));
    draw({});
    expect(messageOfRefused(() => draw({ temperature: floats(1).fill(-1) }))).toBe(
      'sample temperature[0]: expected at least 0, got -1',
    );
    expect(messageOfRefused(() => draw({ topP: floats(1).fill(1.5) }))).toBe(
      'sample topP[0]: expected 0 to 1, got 1.5',
    );
    expect(messageOfRefused(() => draw({ uniform: floats(1).fill(1) }))).toMatch(/^sample uniform\[0\]: /);
    expect(messageOfRefused(() => draw({ minP: floats(0) }))).toBe(
      'sample minP: expected at least 1 values, got 0',
    );
  });

  it('head sizes, positions and slots that do not fit', () => {
    store(16, 19, 16 + 3);
    expect(messageOfRefused(() => store(24, 0, 0))).toBe(
      'ropeStore headSize: expected a multiple of 16, got 24',
    );
    expect(messageOfRefused(() => store(16, 20, 4))).toBe(
      'ropeStore positions[0]: expected an index below 20, got 20',
    );
    expect(messageOfRefused(() => store(16, 0, 32))).toBe(
      'ropeStore slots[0]: expected an index below 32, got 32',
    );
    expect(messageOfRefused(() => store(16, 3, 4))).toMatch(
      /^ropeStore slots\[0\]: .*position mod 16.* got 4$/,
    );
  });

  it('runs and spans that are not well-formed', () => {
    attend(makeCase());
    // Index into runs (5 per run) or spans (4 per span), a bad value, and the message.
    // Spans: run 0 has span 0; run 1 has spans 1 and 2; run 2 has span 3.
    const bad: ['runs' | 'spans', number, number, RegExp][] = [
      ['runs', 1, 30, /runs\[0\]: expected rows within 0\.\.24, got 0\.\.30/],
      ['runs', 5, 15, /runs\[1\]: expected rows that no other run covers, got row 15 again/],
      ['runs', 2, -1, /runs\[0\] position/],
      ['runs', 13, 4, /runs\[2\]: expected spans within 0\.\.4, got 4\.\.5/],
      ['runs', 4, 0, /runs\[0\]: expected at least one span/],
      ['spans', 0, 3, /spans\[0\] page: expected an index below 3, got 3/],
      ['spans', 1, 8, /spans\[0\] position: expected a multiple of 16, got 8/],
      ['spans', 2, 16, /spans\[0\] slots: /],
      ['spans', 3, 17, /spans\[0\] slots: /],
      ['spans', 9, 0, /spans\[2\]: expected positions from 16 on, got 0/],
      ['spans', 2, 1, /runs\[0\]: expected a slot that position 0 sees/],
    ];
    for (const [name, index, value, message] of bad) {
      const c = makeCase();
      c.shape[name][index] = value;
      expect(messageOfRefused(() => attend(c))).toMatch(message);
    }
    const c = makeCase();
    expect(messageOfRefused(() => attend({ ...c, q: c.q.subarray(1) }))).toMatch(/^attention q: /);
    const capped = { ...c, shape: { ...c.shape, softcap: -1 } };
    expect(messageOfRefused(() => attend(capped))).toBe(
      'attention softcap: expected a positive number, got -1',
    );
  });

  it('a window that hides every slot from a row', () => {
    const windowed = (window: number): AttentionCase => {
      const c = makeCase();
      c.shape.runs.set([16, 5, 16, 1, 1], 5); // Run 1 sees its parent only: positions 0 to 15.
      return { ...c, shape: { ...c.shape, window } };
    };
    attend(windowed(0));
    attend(windowed(6));
    expect(messageOfRefused(() => attend(windowed(5)))).toBe(
      'attention runs[1]: expected a slot that position 20 sees, got none',
    );
    expect(messageOfRefused(() => attend(windowed(1)))).toBe(
      'attention runs[1]: expected a slot that position 16 sees, got none',
    );
    const late = windowed(4);
    late.shape.runs.set([16, 5, 12, 2, 1], 5); // Run 1 at positions 12 to 16 over a span of positions 16 to 20.
    expect(messageOfRefused(() => attend(late))).toBe(
      'attention runs[1]: expected a slot that position 12 sees, got position 16 next',
    );
    expect(messageOfRefused(() => attend(windowed(-1)))).toMatch(/^attention window: /);
  });

  it('trees that leave out a run or share a page', () => {
    attendBackward(makeCase());
    expect(messageOfRefused(() => attendBackward(makeCase(), 1))).toBe(
      'attentionBackward trees: expected trees that hold all 3 runs, got 2',
    );
    const gap = makeCase();
    gap.trees[0] = 1;
    expect(messageOfRefused(() => attendBackward(gap))).toBe(
      'attentionBackward trees[0]: expected run 0 as the first run, got 1',
    );
    const shared = makeCase();
    shared.shape.spans[12] = 0;
    expect(messageOfRefused(() => attendBackward(shared))).toBe(
      'attentionBackward trees[1]: expected pages of its own, got page 0 of tree 0',
    );
  });
});
