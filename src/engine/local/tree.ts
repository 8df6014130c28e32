/**
 * Folds sequences into trees of token runs, so that a shared prefix goes through the network once.
 *
 * Sequences that begin with the same tokens form a tree: a node is a run of tokens, its children continue it.
 * Rows are numbered depth first, so that the rows below a node are one range. Each run has its own pages of
 * keys; its spans are its ancestors' pages, then its own (see `kernels/ops.ts`).
 *
 * A prefix shorter than a page is not shared: what it would save is less than what it costs to keep such
 * sequences from being independent trees, which are the units of work of the backward pass.
 */
import { PAGE_SIZE, RUN_INTS, SPAN_INTS } from '../../kernels/ops.ts';

interface Node {
  /** The sequence that brought this run, and the range of it. Position equals index. */
  sequence: readonly number[];
  from: number;
  to: number;
  children: Node[];
  /** Set when rows are numbered. */
  firstRow: number;
}

export interface Forest {
  rowCount: number;
  pageCount: number;
  ids_R: Int32Array;
  positions_R: Int32Array;
  slots_R: Int32Array;
  runs: Int32Array;
  runCount: number;
  spans: Int32Array;
  trees: Int32Array;
  treeCount: number;
  /** The row that computes token `index` of sequence `n`. */
  rowOf(n: number, index: number): number;
}

/** Folds non-empty sequences. With `share` false every sequence is a tree of its own. */
export function foldSequences(sequences: readonly (readonly number[])[], share = true): Forest {
  const roots = new Map<string, Node>();
  const rootOf = sequences.map((sequence, n) => {
    const key = share ? sequence.slice(0, PAGE_SIZE).join(' ') : String(n);
    const root = roots.get(key);
    if (root !== undefined) {
      insert(root, sequence);
      return root;
    }
    const leaf = makeLeaf(sequence, 0);
    roots.set(key, leaf);
    return leaf;
  });
  const forest = numberRows([...roots.values()]);
  return {
    ...forest,
    rowOf: (n, index) => {
      const sequence = sequences[n] as readonly number[];
      let node = rootOf[n];
      while (node !== undefined && index >= node.to) node = childAlong(node, sequence);
      if (node === undefined) throw new Error(`internal error: sequence ${n} has no row for token ${index}`);
      return node.firstRow + index - node.from;
    },
  };
}

function makeLeaf(sequence: readonly number[], from: number): Node {
  return { sequence, from, to: sequence.length, children: [], firstRow: 0 };
}

function childAlong(node: Node, sequence: readonly number[]): Node | undefined {
  return node.children.find((child) => child.sequence[node.to] === sequence[node.to]);
}

/** Walks down from `root` along the sequence; where they part, splits the run and adds a leaf. */
function insert(root: Node, sequence: readonly number[]): void {
  let node: Node | undefined = root;
  while (node !== undefined) {
    let at: number = node.from;
    while (at < node.to && at < sequence.length && node.sequence[at] === sequence[at]) at++;
    if (at === sequence.length) return;
    if (at < node.to) {
      node.children = [{ ...node, from: at }];
      node.to = at;
    }
    const next = childAlong(node, sequence);
    if (next === undefined) node.children.push(makeLeaf(sequence, at));
    node = next;
  }
}

function numberRows(roots: readonly Node[]): Omit<Forest, 'rowOf'> {
  const ids: number[] = [];
  const positions: number[] = [];
  const slots: number[] = [];
  const runs: number[] = [];
  const spans: number[] = [];
  const trees: number[] = [];
  let pageCount = 0;

  const visit = (node: Node, inherited: readonly number[]): void => {
    node.firstRow = ids.length;
    const own: number[] = [];
    const firstPage = Math.floor(node.from / PAGE_SIZE);
    for (let page = firstPage; page * PAGE_SIZE < node.to; page++) {
      const base = page * PAGE_SIZE;
      own.push(
        pageCount + page - firstPage,
        base,
        Math.max(node.from - base, 0),
        Math.min(node.to - base, PAGE_SIZE),
      );
    }
    for (let t = node.from; t < node.to; t++) {
      ids.push(node.sequence[t] as number);
      positions.push(t);
      slots.push((pageCount + Math.floor(t / PAGE_SIZE) - firstPage) * PAGE_SIZE + (t % PAGE_SIZE));
    }
    pageCount += own.length / SPAN_INTS;
    const all = [...inherited, ...own];
    runs.push(
      node.firstRow,
      node.to - node.from,
      node.from,
      spans.length / SPAN_INTS,
      all.length / SPAN_INTS,
    );
    for (const value of all) spans.push(value);
    for (const child of node.children) visit(child, all);
  };
  for (const root of roots) {
    const firstRun = runs.length / RUN_INTS;
    visit(root, []);
    trees.push(firstRun, runs.length / RUN_INTS - firstRun);
  }
  return {
    rowCount: ids.length,
    pageCount,
    ids_R: Int32Array.from(ids),
    positions_R: Int32Array.from(positions),
    slots_R: Int32Array.from(slots),
    runs: Int32Array.from(runs),
    runCount: runs.length / RUN_INTS,
    spans: Int32Array.from(spans),
    trees: Int32Array.from(trees),
    treeCount: roots.length,
  };
}
