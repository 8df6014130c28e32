/**
 * The prefix cache: a radix tree over token ids whose nodes own pages of keys and values.
 *
 * A node is a run of tokens that continues its parent after `offset` of the parent's tokens, so that nodes are
 * never split: a sequence that parts from a run in its middle attaches a child there. The pages of a node hold
 * its own tokens only, in slots position mod PAGE_SIZE; what a sequence reads is the list of spans along its
 * path. Nodes in use (by a sequence, or as a parent) stay; others go, least recently used first, when pages
 * run out. A prefix shorter than a page is not shared: each boundary costs attention a partly used page.
 */
import { assert } from '../../lib/errors.ts';
import { PAGE_SIZE, SPAN_INTS } from '../../kernels/ops.ts';

export interface CacheNode {
  parent: CacheNode | null;
  /** How many of the parent's tokens come before this node. */
  offset: number;
  /** Position of the first token. */
  start: number;
  /** Tokens whose keys are stored or are about to be. */
  tokens: number[];
  /** How many of `tokens` have been computed: what others may read. */
  computed: number;
  pages: number[];
  /** The spans of all that comes before this node. */
  inherited: number[];
  children: Set<CacheNode>;
  /** Sequences that read or extend this node. */
  users: number;
}

export interface PrefixCache {
  /** Finds the longest computed prefix of `tokens`, at most `limit` tokens, and attaches a new node in use after it. */
  open(tokens: readonly number[], limit: number): CacheNode;
  /** A new node in use that continues `node` after all its tokens. */
  fork(node: CacheNode): CacheNode;
  /** Appends a token and returns its slot. Callers make room first. */
  append(node: CacheNode, token: number): number;
  /** The sequence that opened or forked this node needs it no more. What it computed stays for others. */
  release(node: CacheNode): void;
  /** Evicts until `pages` pages are free; false where that cannot be. */
  makeRoom(pages: number): boolean;
  /** The spans of a sequence that ends in `node`, appended to `spans`. Returns how many. */
  collectSpans(node: CacheNode, spans: number[]): number;
  /** Forgets everything: the weights changed. No node may be in use. */
  clear(): void;
}

export function makePrefixCache(pageCount: number): PrefixCache {
  const free: number[] = [];
  let root = makeNode(null, 0, 0);
  /** Nodes that nobody uses and that have no children: candidates for eviction, oldest first. */
  let idle = new Set<CacheNode>();
  const fillFree = (): void => {
    free.length = 0;
    for (let page = pageCount - 1; page >= 0; page--) free.push(page);
  };
  fillFree();

  function makeNode(parent: CacheNode | null, offset: number, start: number): CacheNode {
    return {
      parent,
      offset,
      start,
      tokens: [],
      computed: 0,
      pages: [],
      inherited: [],
      children: new Set(),
      users: 0,
    };
  }

  /** A node is idle when no sequence is in it and no child hangs on it. */
  function settle(node: CacheNode): void {
    if (node !== root && node.users === 0 && node.children.size === 0) idle.add(node);
    else idle.delete(node);
  }

  function attach(parent: CacheNode, offset: number): CacheNode {
    const node = makeNode(parent, offset, parent.start + offset);
    node.users = 1;
    node.inherited = [...parent.inherited];
    pushSpans(parent, offset, node.inherited);
    parent.children.add(node);
    settle(parent);
    return node;
  }

  function remove(node: CacheNode): void {
    assert(node.users === 0 && node.children.size === 0 && node.parent !== null, 'removing a node in use');
    idle.delete(node);
    for (const page of node.pages) free.push(page);
    node.parent.children.delete(node);
    settle(node.parent);
  }

  function makeRoom(pages: number): boolean {
    while (free.length < pages) {
      const oldest = idle.values().next();
      if (oldest.done === true) return false;
      remove(oldest.value);
    }
    return true;
  }

  /** How many of `tokens` from `at` on the node holds, computed. */
  function agreement(node: CacheNode, tokens: readonly number[], at: number, limit: number): number {
    let n = 0;
    while (n < node.computed && at + n < limit && node.tokens[n] === tokens[at + n]) n++;
    return n;
  }

  return {
    open(tokens, limit) {
      let node = root;
      let length = 0;
      let at = 0;
      for (;;) {
        let best: CacheNode | undefined;
        let bestLength = 0;
        for (const child of node.children) {
          if (child.offset !== length) continue;
          const n = agreement(child, tokens, at, limit);
          if (n > bestLength) [best, bestLength] = [child, n];
        }
        if (best === undefined) break;
        node = best;
        length = bestLength;
        at += bestLength;
      }
      if (at < PAGE_SIZE) return attach(root, 0);
      return attach(node, length);
    },
    fork: (node) => attach(node, node.tokens.length),
    append(node, token) {
      const position = node.start + node.tokens.length;
      if (node.tokens.length === 0 || position % PAGE_SIZE === 0) {
        assert(makeRoom(1), 'the prefix cache has no page left');
        node.pages.push(free.pop() as number);
      }
      node.tokens.push(token);
      return (node.pages.at(-1) as number) * PAGE_SIZE + (position % PAGE_SIZE);
    },
    release(node) {
      assert(node.users > 0, 'release of a node that is not in use');
      node.users--;
      node.tokens.length = node.computed;
      if (node.users === 0 && node.computed === 0 && node.children.size === 0) remove(node);
      else settle(node);
    },
    makeRoom,
    collectSpans(node, spans) {
      const before = spans.length;
      for (const value of node.inherited) spans.push(value);
      pushSpans(node, node.tokens.length, spans);
      return (spans.length - before) / SPAN_INTS;
    },
    clear() {
      root = makeNode(null, 0, 0);
      idle = new Set();
      fillFree();
    },
  };
}

/** The spans of the first `length` tokens of a node. */
function pushSpans(node: CacheNode, length: number, spans: number[]): void {
  if (length === 0) return;
  const end = node.start + length;
  for (let i = 0, base = node.start - (node.start % PAGE_SIZE); base < end; i++, base += PAGE_SIZE) {
    spans.push(
      node.pages[i] as number,
      base,
      Math.max(node.start - base, 0),
      Math.min(end - base, PAGE_SIZE),
    );
  }
}

/** The most pages that `tokens` more tokens of one sequence can take. */
export function pagesFor(tokens: number): number {
  return Math.ceil(tokens / PAGE_SIZE) + 1;
}
