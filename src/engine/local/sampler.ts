/**
 * Continuous batching over the prefix cache.
 *
 * Each step computes one row for every completion under way and, in the room that is left, prompts in chunks.
 * A request's prompt is computed once; its completions branch from the prompt's node in the cache, and a later
 * request that continues a completion finds its keys there. What a request draws depends on its own tokens,
 * seed and index only: rows do not see each other, and draw n of completion i is a function of (seed, i, n).
 */
import { assert, R3Error } from '../../lib/errors.ts';
import { uniform24 } from '../../lib/rng.ts';
import { PAGE_SIZE, RUN_INTS } from '../../kernels/ops.ts';
import type { Completion, SamplingParams, StopReason, TokenIds } from '../engine.ts';
import type { ModelConfig } from './config.ts';
import {
  computeLogits,
  embed,
  forwardLayer,
  layerBufferWidths,
  LOGITS_CHUNK,
  scratchBufferWidths,
  type Decoder,
  type LayerBuffers,
  type Pages,
  type ScratchBuffers,
} from './decoder.ts';
import { makePrefixCache, pagesFor, type CacheNode } from './prefix-cache.ts';
import type { Weights } from './weights.ts';

/** Rows per step: enough for the products to run at full speed, few enough that buffers stay small. */
export const ROWS_PER_STEP = 1024;

export interface SamplerRequest {
  prompt: TokenIds;
  count: number;
  params: SamplingParams;
  seed: number;
  onToken?: ((index: number, token: number, logprob: number) => void) | undefined;
  onDone(completions: Completion[]): void;
  /** Set to end the request's completions at the next step, as they are. */
  cancelled: boolean;
}

export interface Sampler {
  /** Throws R3Error `too-long` or `no-memory` for a request that can never run. */
  add(request: SamplerRequest): void;
  readonly busy: boolean;
  /** Computes one step. */
  step(): void;
  /** Forgets cached keys, after the weights changed. */
  clear(): void;
  /** Drops everything under way, after a step failed. */
  reset(): void;
  counts: { sampledTokens: number; prefilledTokens: number; cachedTokens: number };
}

/** A prompt that is being computed. */
interface Prefill {
  request: SamplerRequest;
  node: CacheNode;
  maxPages: number;
}

/** A completion under way. `tokens` ends with the token that the next row computes. */
interface Branch {
  request: SamplerRequest;
  group: Group;
  index: number;
  node: CacheNode;
  maxPages: number;
}

/** The completions of one request. */
interface Group {
  completions: Completion[];
  open: number;
}

export interface SamplerOptions {
  cacheBytes: number;
  /** Reuse the keys of prefixes that were computed before. */
  share: boolean;
}

export function makeSampler(decoder: Decoder, weights: Weights, options: SamplerOptions): Sampler {
  const { ops, config, work } = decoder;
  const { hiddenSize: C, vocabularySize: V, kvHeads: J, headSize: D, layers: L } = config;
  const pageFloats = J * D * PAGE_SIZE;
  const pageCount = cachePages(config, options.cacheBytes).count;
  const pages: Pages[] = Array.from({ length: L }, () => ({
    keys: ops.f32(pageCount * pageFloats),
    values: ops.f32(pageCount * pageFloats),
  }));
  const cache = makePrefixCache(pageCount);
  const counts = { sampledTokens: 0, prefilledTokens: 0, cachedTokens: 0 };

  const waiting: SamplerRequest[] = [];
  let prefills: Prefill[] = [];
  let branches: Branch[] = [];

  /** The most pages that a request takes when its first `cached` tokens are there. */
  const pagesOf = (request: SamplerRequest, cached: number): number =>
    pagesFor(request.prompt.length - cached) + request.count * pagesFor(request.params.maxTokens);

  /** Starts waiting requests, in order, while rows and pages suffice for all that runs to its limit. */
  function admit(): void {
    let reserved = [...prefills, ...branches].reduce((sum, s) => sum + s.maxPages - s.node.pages.length, 0);
    let rows = branches.length + prefills.reduce((sum, p) => sum + p.request.count, 0);
    while (waiting.length > 0) {
      const request = waiting[0] as SamplerRequest;
      const idle = prefills.length === 0 && branches.length === 0;
      if (!idle && rows + request.count > ROWS_PER_STEP) return;
      // The last prompt token is always computed: its logits are where the completions start.
      let node = cache.open(request.prompt, options.share ? request.prompt.length - 1 : 0);
      let maxPages = pagesOf(request, node.start);
      if (!cache.makeRoom(reserved + maxPages)) {
        cache.release(node);
        if (!idle) return;
        // A shared prefix keeps all pages of its run: alone, and without it, the request fits.
        node = cache.open(request.prompt, 0);
        maxPages = pagesOf(request, 0);
        assert(cache.makeRoom(maxPages), 'an admitted request does not fit an idle cache');
      }
      waiting.shift();
      prefills.push({ request, node, maxPages });
      counts.cachedTokens += node.start;
      reserved += maxPages;
      rows += request.count;
    }
  }

  /** The rows of one step, gathered as plain lists. A token is drawn after each row of `drawnFrom`. */
  function collectRows(): {
    ids: number[];
    positions: number[];
    slots: number[];
    runs: number[];
    spans: number[];
    drawnFrom: number[];
    drawnRuns: number[];
    ready: Prefill[];
  } {
    const ids: number[] = [];
    const positions: number[] = [];
    const slots: number[] = [];
    const runs: number[] = [];
    const spans: number[] = [];
    const drawnFrom: number[] = [];
    const drawnRuns: number[] = [];
    const ready: Prefill[] = [];
    let spanCount = 0;
    const addRun = (node: CacheNode, tokens: TokenIds, isDrawnFrom: boolean): void => {
      const position = node.start + node.tokens.length;
      const firstRow = ids.length;
      tokens.forEach((token, i) => {
        ids.push(token);
        positions.push(position + i);
        slots.push(cache.append(node, token));
      });
      const own = cache.collectSpans(node, spans);
      runs.push(firstRow, tokens.length, position, spanCount, own);
      if (isDrawnFrom) {
        const last = tokens.length - 1;
        drawnFrom.push(firstRow + last);
        drawnRuns.push(firstRow + last, 1, position + last, spanCount, own);
      }
      spanCount += own;
    };
    for (const branch of branches) addRun(branch.node, [lastToken(branch)], true);
    for (const prefill of prefills) {
      const room = ROWS_PER_STEP - ids.length;
      if (room <= 0) break;
      const { prompt } = prefill.request;
      const from = prefill.node.start + prefill.node.tokens.length;
      const chunk = prompt.slice(from, from + room);
      const isReady = from + chunk.length === prompt.length;
      addRun(prefill.node, chunk, isReady);
      counts.prefilledTokens += chunk.length;
      if (isReady) ready.push(prefill);
    }
    return { ids, positions, slots, runs, spans, drawnFrom, drawnRuns, ready };
  }

  /** Runs the rows through the layers; returns the residual stream of the rows that are drawn from, [W, C]. */
  function forward(batch: ReturnType<typeof collectRows>): Float32Array {
    const R = batch.ids.length;
    const sized = <Name extends string>(widths: Record<Name, number>): Record<Name, Float32Array> =>
      Object.fromEntries(
        Object.entries<number>(widths).map(([name, width]) => [
          name,
          work.floats(name, width * ROWS_PER_STEP),
        ]),
      ) as Record<Name, Float32Array>;
    const buffers: LayerBuffers = sized(layerBufferWidths(config));
    const scratch: ScratchBuffers = sized(scratchBufferWidths(config));
    const rows = {
      count: R,
      ids_R: work.ints('ids', batch.ids),
      positions_R: work.ints('positions', batch.positions),
      slots_R: work.ints('slots', batch.slots),
      runs: {
        runs: work.ints('runs', batch.runs),
        runCount: batch.runs.length / RUN_INTS,
        spans: work.ints('spans', batch.spans),
      },
    };
    const W = batch.drawnFrom.length;
    const read = {
      count: W,
      rows_W: work.ints('drawnFrom', batch.drawnFrom),
      runs: { ...rows.runs, runs: work.ints('drawnRuns', batch.drawnRuns), runCount: W },
    };
    const x = work.floats('x', ROWS_PER_STEP * C);
    embed(decoder, weights, rows, x);
    weights.layers.forEach((layer, l) =>
      forwardLayer(decoder, l, layer, rows, x, pages[l] as Pages, buffers, scratch, x, {
        read: l === L - 1 && W < R ? read : undefined,
      }),
    );
    return x;
  }

  /** Draws one token for each draw from the logits of its row. */
  function draw(
    x: Float32Array,
    draws: readonly { row: number; request: SamplerRequest; index: number; count: number }[],
  ): { token: number; logprob: number }[] {
    const results: { token: number; logprob: number }[] = [];
    const step = Math.max(1, Math.floor(LOGITS_CHUNK / V));
    for (let from = 0; from < draws.length; from += step) {
      const part = draws.slice(from, from + step);
      const S = part.length;
      const gathered = work.floats('head/x', S * C);
      const normed = work.floats('head/normed', S * C);
      const logits = work.floats('head/logits', S * V);
      ops.gather(
        S,
        C,
        x,
        work.ints(
          'head/rows',
          part.map((d) => d.row),
        ),
        gathered,
      );
      ops.rmsNorm(
        S,
        C,
        gathered,
        weights.finalNorm,
        config.rmsEpsilon,
        normed,
        work.floats('head/inverse', S),
      );
      computeLogits(decoder, weights, S, normed, logits);
      const floats = (name: string, value: (d: (typeof part)[number]) => number): Float32Array => {
        const buffer = work.floats(`draw/${name}`, S);
        part.forEach((d, i) => (buffer[i] = value(d)));
        return buffer;
      };
      const tokens = work.ints('draw/tokens', new Int32Array(S));
      const logprobs = work.floats('draw/logprobs', S);
      ops.sample(
        S,
        V,
        logits,
        {
          temperature: floats('temperature', (d) => d.request.params.temperature),
          topK: work.ints(
            'draw/topK',
            part.map((d) => d.request.params.topK ?? 0),
          ),
          topP: floats('topP', (d) => d.request.params.topP ?? 1),
          minP: floats('minP', (d) => d.request.params.minP ?? 0),
          uniform: floats('uniform', (d) => uniform24(d.request.seed, d.index, d.count)),
        },
        tokens,
        logprobs,
      );
      for (let i = 0; i < S; i++)
        results.push({ token: tokens[i] as number, logprob: logprobs[i] as number });
    }
    counts.sampledTokens += results.length;
    return results;
  }

  /** Records a token; returns the reason where the completion is at its end. */
  function record(
    completion: Completion,
    request: SamplerRequest,
    index: number,
    drawn: { token: number; logprob: number },
  ): StopReason | undefined {
    completion.tokens.push(drawn.token);
    completion.logprobs.push(drawn.logprob);
    request.onToken?.(index, drawn.token, drawn.logprob);
    if (request.params.stopIds.includes(drawn.token)) return 'stop';
    if (completion.tokens.length >= request.params.maxTokens) return 'length';
    return undefined;
  }

  function finish(request: SamplerRequest, group: Group, completion: Completion, reason: StopReason): void {
    completion.stopReason = reason;
    group.open--;
    if (group.open === 0) request.onDone(group.completions);
  }

  function dropCancelled(): void {
    const isCancelled = (s: { request: SamplerRequest }): boolean => s.request.cancelled;
    for (let i = waiting.length - 1; i >= 0; i--) {
      const request = waiting[i] as SamplerRequest;
      if (!request.cancelled) continue;
      waiting.splice(i, 1);
      request.onDone(emptyGroup(request).completions);
    }
    for (const { request, node } of prefills.filter(isCancelled)) {
      cache.release(node);
      request.onDone(emptyGroup(request).completions);
    }
    for (const b of branches.filter(isCancelled)) {
      cache.release(b.node);
      finish(b.request, b.group, b.group.completions[b.index] as Completion, 'cancelled');
    }
    prefills = prefills.filter((p) => !isCancelled(p));
    branches = branches.filter((b) => !isCancelled(b));
  }

  /** A computed prompt becomes its completions, each with its first token. */
  function branchOut(
    { request, node }: Prefill,
    first: readonly { token: number; logprob: number }[],
  ): Branch[] {
    const group = emptyGroup(request);
    const started: Branch[] = [];
    first.forEach((drawn, index) => {
      const completion = group.completions[index] as Completion;
      const reason = record(completion, request, index, drawn);
      if (reason !== undefined) return finish(request, group, completion, reason);
      // A lone completion goes on in the prompt's own node.
      const own = request.count === 1 ? node : cache.fork(node);
      started.push({
        request,
        group,
        index,
        node: own,
        maxPages:
          pagesFor(request.params.maxTokens) +
          (own === node ? pagesFor(request.prompt.length - node.start) : 0),
      });
    });
    if (started[0]?.node !== node) cache.release(node);
    return started;
  }

  return {
    counts,
    get busy() {
      return waiting.length > 0 || prefills.length > 0 || branches.length > 0;
    },
    add(request) {
      checkRequest(request);
      const needed = request.prompt.length + request.params.maxTokens;
      if (needed > config.contextLength) {
        throw new R3Error(
          'engine',
          'too-long',
          `prompt of ${request.prompt.length} tokens and up to ${request.params.maxTokens} sampled ones: expected at most ${config.contextLength} in all (the model's context), got ${needed}`,
        );
      }
      if (pagesOf(request, 0) > pageCount) {
        throw new R3Error(
          'engine',
          'no-memory',
          `a request for ${request.count} completions: expected at most ${pageCount} pages of keys, got ${pagesOf(request, 0)}; ask for fewer at a time or give the cache more memory`,
        );
      }
      waiting.push(request);
    },
    step() {
      dropCancelled();
      admit();
      if (prefills.length === 0 && branches.length === 0) return;
      const batch = collectRows();
      const x = forward(batch);
      for (const { node } of [...prefills, ...branches]) node.computed = node.tokens.length;

      const draws = [
        ...branches.map((b, row) => ({
          row,
          request: b.request,
          index: b.index,
          count: completionOf(b).tokens.length,
        })),
        ...batch.ready.flatMap(({ request }, i) =>
          Array.from({ length: request.count }, (_, index) => ({
            row: branches.length + i,
            request,
            index,
            count: 0,
          })),
        ),
      ];
      const drawn = draw(x, draws);

      const going: Branch[] = [];
      branches.forEach((branch, i) => {
        const reason = record(
          completionOf(branch),
          branch.request,
          branch.index,
          drawn[i] as (typeof drawn)[number],
        );
        if (reason === undefined) return going.push(branch);
        cache.release(branch.node);
        return finish(branch.request, branch.group, completionOf(branch), reason);
      });
      let from = branches.length;
      for (const prefill of batch.ready) {
        going.push(...branchOut(prefill, drawn.slice(from, from + prefill.request.count)));
        from += prefill.request.count;
      }
      prefills = prefills.filter((p) => !batch.ready.includes(p));
      branches = going;
    },
    reset() {
      waiting.length = 0;
      prefills = [];
      branches = [];
      cache.clear();
    },
    clear() {
      assert(
        prefills.length === 0 && branches.length === 0,
        'the weights changed while completions are under way',
      );
      cache.clear();
    },
  };
}

/** Logits divided by less may leave the range of f32. */
const MIN_TEMPERATURE = 1e-4;

/** Throws R3Error `bad-option` for what the kernels would refuse in the middle of a batch. */
function checkRequest({ prompt, count, params, seed }: SamplerRequest): void {
  const { temperature, maxTokens, topK = 0, topP = 1, minP = 0 } = params;
  const checks: [string, number, boolean, string][] = [
    ['prompt', prompt.length, prompt.length > 0, 'at least one token'],
    ['count', count, Number.isInteger(count) && count > 0, 'a whole number above 0'],
    ['maxTokens', maxTokens, Number.isInteger(maxTokens) && maxTokens > 0, 'a whole number above 0'],
    [
      'temperature',
      temperature,
      temperature === 0 || (temperature >= MIN_TEMPERATURE && temperature < Infinity),
      `0, or a number of at least ${MIN_TEMPERATURE}`,
    ],
    ['topK', topK, Number.isInteger(topK) && topK >= 0 && topK < 2 ** 31, 'a whole number of at least 0'],
    ['topP', topP, topP >= 0 && topP <= 1, 'a number from 0 to 1'],
    ['minP', minP, minP >= 0 && minP <= 1, 'a number from 0 to 1'],
    ['seed', seed, Number.isInteger(seed) && seed >= 0 && seed < 2 ** 32, 'an unsigned 32-bit integer'],
  ];
  for (const [name, got, ok, expected] of checks) {
    if (!ok) throw new R3Error('engine', 'bad-option', `${name}: expected ${expected}, got ${got}`);
  }
}

/** Pages of the cache: what `cacheBytes` holds, and at least what a prompt and one completion of the longest context take. */
export function cachePages(config: ModelConfig, cacheBytes: number): { count: number; bytes: number } {
  const pageBytes = config.layers * 2 * config.kvHeads * config.headSize * PAGE_SIZE * 4;
  const count = Math.max(pagesFor(config.contextLength) + 2, Math.floor(cacheBytes / pageBytes));
  return { count, bytes: count * pageBytes };
}

function completionOf(branch: Branch): Completion {
  return branch.group.completions[branch.index] as Completion;
}

function lastToken(branch: Branch): number {
  return completionOf(branch).tokens.at(-1) as number;
}

function emptyGroup(request: SamplerRequest): Group {
  return {
    completions: Array.from({ length: request.count }, () => ({
      tokens: [],
      logprobs: [],
      stopReason: 'cancelled',
    })),
    open: request.count,
  };
}
