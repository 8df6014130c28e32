import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { PAGE_SIZE, SPAN_INTS } from '../../kernels/ops.ts';
import { makePrefixCache, pagesFor, type CacheNode, type PrefixCache } from './prefix-cache.ts';

/** Computes a prompt as the sampler does; `stored` is what a real engine's pages would hold. */
function compute(cache: PrefixCache, stored: Map<number, number>, prompt: readonly number[]): CacheNode {
  const node = cache.open(prompt, prompt.length - 1);
  for (const token of prompt.slice(node.start)) stored.set(cache.append(node, token), token);
  node.computed = node.tokens.length;
  return node;
}

/** The tokens that a sequence ending in `node` would read, through its spans. */
function readBack(cache: PrefixCache, stored: Map<number, number>, node: CacheNode): number[] {
  const spans: number[] = [];
  const count = cache.collectSpans(node, spans);
  expect(spans.length).toBe(count * SPAN_INTS);
  const tokens: number[] = [];
  for (let s = 0; s < spans.length; s += SPAN_INTS) {
    const [page, base, from, to] = spans.slice(s, s + SPAN_INTS) as [number, number, number, number];
    expect(base + from).toBe(tokens.length);
    for (let slot = from; slot < to; slot++) tokens.push(stored.get(page * PAGE_SIZE + slot)!);
  }
  return tokens;
}

const prompts = fc.array(
  fc
    .array(fc.integer({ min: 0, max: 1 }), { minLength: 1, maxLength: 40 })
    .map((tail) => [...new Array<number>(18).fill(7), ...tail]),
  { minLength: 1, maxLength: 30 },
);

test('a sequence reads back its own tokens, whatever was computed, shared or evicted before', () => {
  fc.assert(
    fc.property(prompts, fc.array(fc.boolean()), (list, keep) => {
      const pages = 24;
      const cache = makePrefixCache(pages);
      const stored = new Map<number, number>();
      const inUse: { node: CacheNode; prompt: number[] }[] = [];
      list.forEach((prompt, i) => {
        // As the sampler: what is in use is released when there is no room for the next.
        while (!cache.makeRoom(pagesFor(prompt.length))) cache.release(inUse.shift()!.node);
        inUse.push({ node: compute(cache, stored, prompt), prompt });
        for (const other of inUse) expect(readBack(cache, stored, other.node)).toEqual(other.prompt);
        if (keep[i % Math.max(1, keep.length)] === false) cache.release(inUse.pop()!.node);
      });
      for (const { node } of inUse) cache.release(node);
      expect(cache.makeRoom(pages)).toBe(true);
    }),
  );
});

test('the longest computed prefix is found, and one shorter than a page is not shared', () => {
  const cache = makePrefixCache(32);
  const stored = new Map<number, number>();
  const long = Array.from({ length: 40 }, (_, i) => i);
  cache.release(compute(cache, stored, long));
  expect(cache.open([...long.slice(0, 30), 99], 30).start).toBe(30);
  expect(cache.open([...long, 1, 2], 41).start).toBe(40);
  expect(cache.open([...long.slice(0, PAGE_SIZE - 1), 99], PAGE_SIZE - 1).start).toBe(0);
});
