/**
 * The boundary of the kernels: the same ops, with every size, length and index checked before they run.
 *
 * A compiled build trusts its arguments: a wrong length there is a silent overwrite. Here it is an R3Error
 * `bad-shape` that names the op, the argument, what was expected and what came. The checks look at lengths,
 * scalars and integer arrays; never at the floats of a matrix, so their cost does not grow with the work.
 *
 * It does not check that buffers were allocated by the build, that two arguments do not overlap, or that
 * floats are finite.
 */
import { R3Error } from '../lib/errors.ts';
import { PACK_COLUMNS, PAGE_SIZE, RUN_INTS, SPAN_INTS, TREE_INTS } from './ops.ts';
import type { AttentionShape, Ops } from './ops.ts';

/** The largest f32 below 1. */
const LARGEST_BELOW_ONE = 1 - 2 ** -24;

function fail(what: string, expected: string, got: string | number): never {
  throw new R3Error('kernels', 'bad-shape', `${what}: expected ${expected}, got ${got}`);
}

function checkSize(op: string, name: string, value: number, least = 0): void {
  if (!Number.isSafeInteger(value) || value < least)
    fail(`${op} ${name}`, `an integer of at least ${least}`, value);
}

function checkFloats(op: string, name: string, view: Float32Array, least: number): void {
  if (view.length < least) fail(`${op} ${name}`, `at least ${least} floats`, view.length);
}

function checkInts(op: string, name: string, view: Int32Array, least: number): void {
  if (view.length < least) fail(`${op} ${name}`, `at least ${least} ints`, view.length);
}

/** The first `count` ids lie in [0, limit). */
function checkIds(op: string, name: string, ids: Int32Array, count: number, limit: number): void {
  checkInts(op, name, ids, count);
  for (let i = 0; i < count; i++) {
    const id = ids[i]!;
    if (id < 0 || id >= limit) fail(`${op} ${name}[${i}]`, `an index below ${limit}`, id);
  }
}

/** The first `count` values lie in [least, most]. */
function checkRange(
  op: string,
  name: string,
  values: Float32Array | Int32Array,
  count: number,
  least: number,
  most: number,
): void {
  if (values.length < count) fail(`${op} ${name}`, `at least ${count} values`, values.length);
  for (let i = 0; i < count; i++) {
    const value = values[i]!;
    if (!(value >= least && value <= most)) {
      fail(`${op} ${name}[${i}]`, most === Infinity ? `at least ${least}` : `${least} to ${most}`, value);
    }
  }
}

function checkPositive(op: string, name: string, value: number): void {
  if (!(value > 0 && value < Infinity)) fail(`${op} ${name}`, 'a positive number', value);
}

/** 0: off. */
function checkSoftcap(op: string, softcap: number): void {
  if (softcap !== 0) checkPositive(op, 'softcap', softcap);
}

/** Elements that a strided matrix reaches into. */
function reach(rows: number, strideRow: number, columns: number, strideColumn: number): number {
  return rows === 0 || columns === 0 ? 0 : (rows - 1) * strideRow + (columns - 1) * strideColumn + 1;
}

/** A strip of the N columns of a packed matrix: whole strips, or what is left at the end. */
function checkStrip(N: number, first: number, count: number): void {
  checkSize('pack', 'first', first);
  checkSize('pack', 'count', count);
  if (first % PACK_COLUMNS !== 0) fail('pack first', `a multiple of ${PACK_COLUMNS}`, first);
  if (first + count > N) fail('pack count', `at most ${N - first} columns`, count);
  if (first + count < N && count % PACK_COLUMNS !== 0) {
    fail('pack count', `a multiple of ${PACK_COLUMNS}, or the ${N - first} columns that are left`, count);
  }
}

function checkHeads(op: string, heads: number, kvHeads: number, headSize: number): void {
  checkSize(op, 'heads', heads, 1);
  checkSize(op, 'kvHeads', kvHeads, 1);
  if (kvHeads > heads) fail(`${op} kvHeads`, `at most ${heads}, the number of query heads`, kvHeads);
  checkSize(op, 'headSize', headSize, 1);
  if (headSize % 16 !== 0) fail(`${op} headSize`, 'a multiple of 16', headSize);
}

/** Positions within the rope table, slots within the pages, and slot mod 16 = position mod 16. */
function checkPlaces(
  op: string,
  R: number,
  D: number,
  positions: Int32Array,
  slots: Int32Array,
  table: Float32Array,
  pageCount: number,
): void {
  checkIds(op, 'positions', positions, R, Math.floor(table.length / D));
  checkIds(op, 'slots', slots, R, pageCount * PAGE_SIZE);
  for (let r = 0; r < R; r++) {
    if (slots[r]! % PAGE_SIZE !== positions[r]! % PAGE_SIZE) {
      fail(
        `${op} slots[${r}]`,
        `a slot with remainder ${positions[r]! % PAGE_SIZE} (position mod 16)`,
        slots[r]!,
      );
    }
  }
}

/** Whole pages that both buffers hold. */
function countPages(keys: Float32Array, values: Float32Array, kvHeads: number, headSize: number): number {
  return Math.floor(Math.min(keys.length, values.length) / (kvHeads * headSize * PAGE_SIZE));
}

/**
 * Runs cover rows below R, each row once; their spans name existing pages, hold used slots, ascend in
 * position without overlap, and let every row see at least one slot.
 */
function checkRuns(op: string, R: number, shape: AttentionShape, pageCount: number): void {
  const { runs, spans, runCount } = shape;
  checkSize(op, 'runCount', runCount);
  checkSize(op, 'window', shape.window);
  checkSoftcap(op, shape.softcap);
  // A slot at position t is seen from t to before t + seenFor.
  const seenFor = shape.window === 0 ? Infinity : shape.window;
  checkInts(op, 'runs', runs, runCount * RUN_INTS);
  const spanLimit = Math.floor(spans.length / SPAN_INTS);
  const covered = new Uint8Array(R);
  for (let run = 0; run < runCount; run++) {
    const at = run * RUN_INTS;
    const firstRow = runs[at]!;
    const rowCount = runs[at + 1]!;
    const position = runs[at + 2]!;
    const firstSpan = runs[at + 3]!;
    const spanCount = runs[at + 4]!;
    if (firstRow < 0 || rowCount < 0 || firstRow + rowCount > R) {
      fail(`${op} runs[${run}]`, `rows within 0..${R}`, `${firstRow}..${firstRow + rowCount}`);
    }
    for (let row = firstRow; row < firstRow + rowCount; row++) {
      if (covered[row] === 1) fail(`${op} runs[${run}]`, 'rows that no other run covers', `row ${row} again`);
      covered[row] = 1;
    }
    if (position < 0) fail(`${op} runs[${run}] position`, 'at least 0', position);
    if (firstSpan < 0 || spanCount < 0 || firstSpan + spanCount > spanLimit) {
      fail(`${op} runs[${run}]`, `spans within 0..${spanLimit}`, `${firstSpan}..${firstSpan + spanCount}`);
    }
    const endPosition = position + rowCount;
    let unseen = position; // The first row that sees nothing of the spans so far.
    let seen = 0;
    for (let span = firstSpan; span < firstSpan + spanCount; span++) {
      const page = spans[span * SPAN_INTS]!;
      const start = spans[span * SPAN_INTS + 1]!;
      const first = spans[span * SPAN_INTS + 2]!;
      const end = spans[span * SPAN_INTS + 3]!;
      if (page < 0 || page >= pageCount)
        fail(`${op} spans[${span}] page`, `an index below ${pageCount}`, page);
      if (start < 0 || start % PAGE_SIZE !== 0)
        fail(`${op} spans[${span}] position`, 'a multiple of 16', start);
      if (first < 0 || first >= end || end > PAGE_SIZE) {
        fail(`${op} spans[${span}] slots`, 'a range within 0..16 that is not empty', `${first}..${end}`);
      }
      if (start + first < seen) fail(`${op} spans[${span}]`, `positions from ${seen} on`, start + first);
      if (unseen < endPosition && start + first > unseen) {
        fail(`${op} runs[${run}]`, `a slot that position ${unseen} sees`, `position ${start + first} next`);
      }
      seen = start + end;
      unseen = Math.max(unseen, seen - 1 + seenFor);
    }
    if (rowCount > 0 && spanCount === 0) fail(`${op} runs[${run}]`, 'at least one span', 0);
    if (unseen < endPosition) fail(`${op} runs[${run}]`, `a slot that position ${unseen} sees`, 'none');
  }
}

/** Trees hold each run once, in order, and share no page. */
function checkTrees(
  op: string,
  shape: AttentionShape,
  trees: Int32Array,
  treeCount: number,
  pageCount: number,
): void {
  checkSize(op, 'treeCount', treeCount);
  checkInts(op, 'trees', trees, treeCount * TREE_INTS);
  const owner = new Int32Array(pageCount).fill(-1);
  let nextRun = 0;
  for (let tree = 0; tree < treeCount; tree++) {
    const firstRun = trees[tree * TREE_INTS]!;
    const runCount = trees[tree * TREE_INTS + 1]!;
    if (firstRun !== nextRun) fail(`${op} trees[${tree}]`, `run ${nextRun} as the first run`, firstRun);
    nextRun = firstRun + runCount;
    if (runCount < 0 || nextRun > shape.runCount) {
      fail(`${op} trees[${tree}]`, `runs within 0..${shape.runCount}`, `${firstRun}..${nextRun}`);
    }
    for (let run = firstRun; run < nextRun; run++) {
      const firstSpan = shape.runs[run * RUN_INTS + 3]!;
      const endSpan = firstSpan + shape.runs[run * RUN_INTS + 4]!;
      for (let span = firstSpan; span < endSpan; span++) {
        const page = shape.spans[span * SPAN_INTS]!;
        if (owner[page] === -1) owner[page] = tree;
        if (owner[page] !== tree) {
          fail(`${op} trees[${tree}]`, 'pages of its own', `page ${page} of tree ${owner[page]}`);
        }
      }
    }
  }
  if (nextRun !== shape.runCount) fail(`${op} trees`, `trees that hold all ${shape.runCount} runs`, nextRun);
}

/**
 * The same ops with their arguments checked. Results are those of `ops`, to the bit.
 * Throws R3Error `bad-shape` before anything is written.
 */
export function checkedOps(ops: Ops): Ops {
  return {
    build: ops.build,
    variant: ops.variant,
    threads: ops.threads,

    f32(length) {
      checkSize('f32', 'length', length);
      return ops.f32(length);
    },
    i32(length) {
      checkSize('i32', 'length', length);
      return ops.i32(length);
    },
    free: (view) => ops.free(view),
    memory: () => ops.memory(),

    packedLength(K, N, type) {
      checkSize('packedLength', 'K', K);
      checkSize('packedLength', 'N', N);
      return ops.packedLength(K, N, type);
    },
    pack(packed, source, K, N, first, count, strideK, strideN, type) {
      checkSize('pack', 'K', K);
      checkSize('pack', 'N', N);
      checkStrip(N, first, count);
      checkSize('pack', 'strideK', strideK);
      checkSize('pack', 'strideN', strideN);
      checkFloats('pack', 'source', source, reach(K, strideK, count, strideN));
      checkFloats('pack', 'packed', packed, ops.packedLength(K, N, type));
      ops.pack(packed, source, K, N, first, count, strideK, strideN, type);
    },
    gatherPacked(R, K, N, packed, ids, out, type) {
      checkSize('gatherPacked', 'R', R);
      checkSize('gatherPacked', 'K', K);
      checkSize('gatherPacked', 'N', N);
      checkFloats('gatherPacked', 'packed', packed, ops.packedLength(K, N, type));
      checkIds('gatherPacked', 'ids', ids, R, N);
      checkFloats('gatherPacked', 'out', out, R * K);
      ops.gatherPacked(R, K, N, packed, ids, out, type);
    },
    transposePacked(to, from, K, N, fromType, toType) {
      checkSize('transposePacked', 'K', K);
      checkSize('transposePacked', 'N', N);
      checkFloats('transposePacked', 'from', from, ops.packedLength(K, N, fromType));
      checkFloats('transposePacked', 'to', to, ops.packedLength(N, K, toType));
      ops.transposePacked(to, from, K, N, fromType, toType);
    },
    gemm(M, N, K, a, strideM, strideK, packed, c, accumulate, type) {
      checkSize('gemm', 'M', M);
      checkSize('gemm', 'N', N);
      checkSize('gemm', 'K', K);
      checkSize('gemm', 'strideM', strideM);
      checkSize('gemm', 'strideK', strideK);
      checkFloats('gemm', 'a', a, reach(M, strideM, K, strideK));
      checkFloats('gemm', 'packed', packed, ops.packedLength(K, N, type));
      checkFloats('gemm', 'c', c, M * N);
      ops.gemm(M, N, K, a, strideM, strideK, packed, c, accumulate, type);
    },

    gather(R, C, table, ids, out) {
      checkSize('gather', 'R', R);
      checkSize('gather', 'C', C, 1);
      checkIds('gather', 'ids', ids, R, Math.floor(table.length / C));
      checkFloats('gather', 'out', out, R * C);
      ops.gather(R, C, table, ids, out);
    },
    scatterAdd(R, C, source, ids, table) {
      checkSize('scatterAdd', 'R', R);
      checkSize('scatterAdd', 'C', C, 1);
      checkFloats('scatterAdd', 'source', source, R * C);
      checkIds('scatterAdd', 'ids', ids, R, Math.floor(table.length / C));
      ops.scatterAdd(R, C, source, ids, table);
    },

    rmsNorm(R, C, x, weight, epsilon, out, inverse) {
      checkSize('rmsNorm', 'R', R);
      checkSize('rmsNorm', 'C', C, 1);
      checkFloats('rmsNorm', 'x', x, R * C);
      checkFloats('rmsNorm', 'weight', weight, C);
      checkFloats('rmsNorm', 'out', out, R * C);
      checkFloats('rmsNorm', 'inverse', inverse, R);
      ops.rmsNorm(R, C, x, weight, epsilon, out, inverse);
    },
    rmsNormBackward(R, C, x, weight, inverse, dy, dx, dWeight) {
      checkSize('rmsNormBackward', 'R', R);
      checkSize('rmsNormBackward', 'C', C, 1);
      checkFloats('rmsNormBackward', 'x', x, R * C);
      checkFloats('rmsNormBackward', 'weight', weight, C);
      checkFloats('rmsNormBackward', 'inverse', inverse, R);
      checkFloats('rmsNormBackward', 'dy', dy, R * C);
      checkFloats('rmsNormBackward', 'dx', dx, R * C);
      checkFloats('rmsNormBackward', 'dWeight', dWeight, C);
      ops.rmsNormBackward(R, C, x, weight, inverse, dy, dx, dWeight);
    },

    qkNorm(R, H, J, D, whole, qkv, weightQ, weightK, epsilon, out, inverse) {
      checkSize('qkNorm', 'R', R);
      checkHeads('qkNorm', H, J, D);
      checkFloats('qkNorm', 'qkv', qkv, R * (H + 2 * J) * D);
      checkFloats('qkNorm', 'weightQ', weightQ, whole ? H * D : D);
      checkFloats('qkNorm', 'weightK', weightK, whole ? J * D : D);
      checkFloats('qkNorm', 'out', out, R * (H + 2 * J) * D);
      checkFloats('qkNorm', 'inverse', inverse, R * (whole ? 2 : H + J));
      ops.qkNorm(R, H, J, D, whole, qkv, weightQ, weightK, epsilon, out, inverse);
    },
    qkNormBackward(R, H, J, D, whole, qkv, weightQ, weightK, inverse, dOut, dWeightQ, dWeightK) {
      checkSize('qkNormBackward', 'R', R);
      checkHeads('qkNormBackward', H, J, D);
      checkFloats('qkNormBackward', 'qkv', qkv, R * (H + 2 * J) * D);
      checkFloats('qkNormBackward', 'weightQ', weightQ, whole ? H * D : D);
      checkFloats('qkNormBackward', 'weightK', weightK, whole ? J * D : D);
      checkFloats('qkNormBackward', 'inverse', inverse, R * (whole ? 2 : H + J));
      checkFloats('qkNormBackward', 'dOut', dOut, R * (H + 2 * J) * D);
      checkFloats('qkNormBackward', 'dWeightQ', dWeightQ, whole ? H * D : D);
      checkFloats('qkNormBackward', 'dWeightK', dWeightK, whole ? J * D : D);
      ops.qkNormBackward(R, H, J, D, whole, qkv, weightQ, weightK, inverse, dOut, dWeightQ, dWeightK);
    },

    ropeStore(R, H, J, D, qkv, positions, slots, table, q, keyPages, valuePages) {
      checkSize('ropeStore', 'R', R);
      checkHeads('ropeStore', H, J, D);
      checkFloats('ropeStore', 'qkv', qkv, R * (H + 2 * J) * D);
      checkFloats('ropeStore', 'q', q, R * H * D);
      checkPlaces('ropeStore', R, D, positions, slots, table, countPages(keyPages, valuePages, J, D));
      ops.ropeStore(R, H, J, D, qkv, positions, slots, table, q, keyPages, valuePages);
    },
    ropeStoreBackward(R, H, J, D, dq, dKeyPages, dValuePages, positions, slots, table, dqkv) {
      checkSize('ropeStoreBackward', 'R', R);
      checkHeads('ropeStoreBackward', H, J, D);
      checkFloats('ropeStoreBackward', 'dq', dq, R * H * D);
      checkFloats('ropeStoreBackward', 'dqkv', dqkv, R * (H + 2 * J) * D);
      checkPlaces(
        'ropeStoreBackward',
        R,
        D,
        positions,
        slots,
        table,
        countPages(dKeyPages, dValuePages, J, D),
      );
      ops.ropeStoreBackward(R, H, J, D, dq, dKeyPages, dValuePages, positions, slots, table, dqkv);
    },

    attention(R, shape, q, keyPages, valuePages, out, stats) {
      const { heads, kvHeads, headSize } = shape;
      checkSize('attention', 'R', R);
      checkHeads('attention', heads, kvHeads, headSize);
      checkFloats('attention', 'q', q, R * heads * headSize);
      checkFloats('attention', 'out', out, R * heads * headSize);
      checkFloats('attention', 'stats', stats, R * heads * 2);
      checkRuns('attention', R, shape, countPages(keyPages, valuePages, kvHeads, headSize));
      ops.attention(R, shape, q, keyPages, valuePages, out, stats);
    },
    attentionBackward(
      R,
      shape,
      trees,
      treeCount,
      q,
      keyPages,
      valuePages,
      out,
      stats,
      dOut,
      dq,
      dKeyPages,
      dValuePages,
    ) {
      const { heads, kvHeads, headSize } = shape;
      checkSize('attentionBackward', 'R', R);
      checkHeads('attentionBackward', heads, kvHeads, headSize);
      checkFloats('attentionBackward', 'q', q, R * heads * headSize);
      checkFloats('attentionBackward', 'out', out, R * heads * headSize);
      checkFloats('attentionBackward', 'stats', stats, R * heads * 2);
      checkFloats('attentionBackward', 'dOut', dOut, R * heads * headSize);
      checkFloats('attentionBackward', 'dq', dq, R * heads * headSize);
      const pageCount = Math.min(
        countPages(keyPages, valuePages, kvHeads, headSize),
        countPages(dKeyPages, dValuePages, kvHeads, headSize),
      );
      checkRuns('attentionBackward', R, shape, pageCount);
      checkTrees('attentionBackward', shape, trees, treeCount, pageCount);
      ops.attentionBackward(
        R,
        shape,
        trees,
        treeCount,
        q,
        keyPages,
        valuePages,
        out,
        stats,
        dOut,
        dq,
        dKeyPages,
        dValuePages,
      );
    },

    gatedUnit(R, F, activation, gateUp, out) {
      checkSize('gatedUnit', 'R', R);
      checkSize('gatedUnit', 'F', F);
      checkFloats('gatedUnit', 'gateUp', gateUp, R * 2 * F);
      checkFloats('gatedUnit', 'out', out, R * F);
      ops.gatedUnit(R, F, activation, gateUp, out);
    },
    gatedUnitBackward(R, F, activation, gateUp, dOut, dGateUp, out) {
      checkSize('gatedUnitBackward', 'R', R);
      checkSize('gatedUnitBackward', 'F', F);
      checkFloats('gatedUnitBackward', 'gateUp', gateUp, R * 2 * F);
      checkFloats('gatedUnitBackward', 'dOut', dOut, R * F);
      checkFloats('gatedUnitBackward', 'dGateUp', dGateUp, R * 2 * F);
      checkFloats('gatedUnitBackward', 'out', out, R * F);
      ops.gatedUnitBackward(R, F, activation, gateUp, dOut, dGateUp, out);
    },

    dropout(R, C, x, rate, seed, firstRow, out) {
      checkSize('dropout', 'R', R);
      checkSize('dropout', 'C', C);
      checkSize('dropout', 'seed', seed);
      checkSize('dropout', 'firstRow', firstRow);
      if (!(rate >= 0 && rate <= LARGEST_BELOW_ONE)) fail('dropout rate', 'a number from 0 to below 1', rate);
      checkFloats('dropout', 'x', x, R * C);
      checkFloats('dropout', 'out', out, R * C);
      ops.dropout(R, C, x, rate, seed, firstRow, out);
    },
    softcap(n, cap, x) {
      checkSize('softcap', 'n', n);
      checkPositive('softcap', 'cap', cap);
      checkFloats('softcap', 'x', x, n);
      ops.softcap(n, cap, x);
    },
    scale(n, factor, x) {
      checkSize('scale', 'n', n);
      checkFloats('scale', 'x', x, n);
      ops.scale(n, factor, x);
    },

    logprobs(R, V, logits, targets, temperature, logsumexp, logprob) {
      checkSize('logprobs', 'R', R);
      checkSize('logprobs', 'V', V, 1);
      checkFloats('logprobs', 'logits', logits, R * V);
      checkIds('logprobs', 'targets', targets, R, V);
      checkPositive('logprobs', 'temperature', temperature);
      checkFloats('logprobs', 'logsumexp', logsumexp, R);
      checkFloats('logprobs', 'logprob', logprob, R);
      ops.logprobs(R, V, logits, targets, Math.fround(temperature), logsumexp, logprob);
    },
    logprobsBackward(R, V, logits, targets, temperature, softcap, logsumexp, coefficient) {
      checkSize('logprobsBackward', 'R', R);
      checkSize('logprobsBackward', 'V', V, 1);
      checkFloats('logprobsBackward', 'logits', logits, R * V);
      checkIds('logprobsBackward', 'targets', targets, R, V);
      checkPositive('logprobsBackward', 'temperature', temperature);
      checkSoftcap('logprobsBackward', softcap);
      checkFloats('logprobsBackward', 'logsumexp', logsumexp, R);
      checkFloats('logprobsBackward', 'coefficient', coefficient, R);
      ops.logprobsBackward(R, V, logits, targets, Math.fround(temperature), softcap, logsumexp, coefficient);
    },
    sample(R, V, logits, rows, tokens, logprob) {
      checkSize('sample', 'R', R);
      checkSize('sample', 'V', V, 1);
      checkFloats('sample', 'logits', logits, R * V);
      checkRange('sample', 'temperature', rows.temperature, R, 0, Infinity);
      checkRange('sample', 'topK', rows.topK, R, 0, Infinity);
      checkRange('sample', 'topP', rows.topP, R, 0, 1);
      checkRange('sample', 'minP', rows.minP, R, 0, 1);
      checkRange('sample', 'uniform', rows.uniform, R, 0, LARGEST_BELOW_ONE);
      checkInts('sample', 'tokens', tokens, R);
      checkFloats('sample', 'logprob', logprob, R);
      ops.sample(R, V, logits, rows, tokens, logprob);
    },

    adamW(n, w, g, m, v, scalars) {
      checkSize('adamW', 'n', n);
      checkFloats('adamW', 'w', w, n);
      checkFloats('adamW', 'g', g, n);
      checkFloats('adamW', 'm', m, n);
      checkFloats('adamW', 'v', v, n);
      ops.adamW(n, w, g, m, v, scalars);
    },
    sumSquares(n, x) {
      checkSize('sumSquares', 'n', n);
      checkFloats('sumSquares', 'x', x, n);
      return ops.sumSquares(n, x);
    },

    measurePeak: (type, seconds) => ops.measurePeak(type, seconds),
    measureBandwidth: (x, seconds) => ops.measureBandwidth(x, seconds),
    close: () => ops.close(),
  };
}
