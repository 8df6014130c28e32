import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { PAGE_SIZE, RUN_INTS, SPAN_INTS } from '../../kernels/ops.ts';
import { foldSequences } from './tree.ts';

/** Sequences that often share prefixes. */
const sequences = fc.array(
  fc
    .array(fc.integer({ min: 0, max: 1 }), { minLength: 1, maxLength: 50 })
    .map((tail) => [...new Array<number>(20).fill(7), ...tail]),
  { minLength: 1, maxLength: 12 },
);

test('every token of every sequence has a row with its id and position', () => {
  fc.assert(
    fc.property(sequences, fc.boolean(), (list, share) => {
      const forest = foldSequences(list, share);
      list.forEach((sequence, n) =>
        sequence.forEach((id, index) => {
          const row = forest.rowOf(n, index);
          expect([forest.ids_R[row], forest.positions_R[row]]).toEqual([id, index]);
        }),
      );
    }),
  );
});

test('the spans of a run hold each earlier position once, in order, and the keys there are those of the same prefix', () => {
  fc.assert(
    fc.property(sequences, (list) => {
      const f = foldSequences(list);
      /** slot -> row that wrote it */
      const writer = new Map([...f.slots_R].map((slot, row) => [slot, row]));
      expect(writer.size).toBe(f.rowCount);
      list.forEach((sequence, n) => {
        const last = sequence.length - 1;
        const row = f.rowOf(n, last);
        const run = [...Array(f.runCount).keys()].find(
          (r) => row >= f.runs[r * RUN_INTS]! && row < f.runs[r * RUN_INTS]! + f.runs[r * RUN_INTS + 1]!,
        )!;
        const [, , , firstSpan, spanCount] = f.runs.subarray(run * RUN_INTS, (run + 1) * RUN_INTS);
        const seen: number[] = [];
        for (let s = firstSpan!; s < firstSpan! + spanCount!; s++) {
          const [page, base, from, to] = f.spans.subarray(s * SPAN_INTS, (s + 1) * SPAN_INTS);
          for (let slot = from!; slot < to!; slot++)
            if (base! + slot <= last) seen.push(f.ids_R[writer.get(page! * PAGE_SIZE + slot)!]!);
        }
        expect(seen).toEqual(sequence);
      });
    }),
  );
});

test('a shared prefix of at least a page is computed once, and a shorter one is not shared', () => {
  const long = new Array<number>(40).fill(1);
  expect(
    foldSequences([
      [...long, 2],
      [...long, 3],
      [...long, 2, 4],
    ]).rowCount,
  ).toBe(43);
  expect(
    foldSequences(
      [
        [...long, 2],
        [...long, 3],
      ],
      false,
    ).rowCount,
  ).toBe(82);
  const short = foldSequences([
    [1, 2, 3],
    [1, 2, 4],
  ]);
  expect([short.rowCount, short.treeCount]).toEqual([6, 2]);
});
