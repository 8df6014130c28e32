/** One precision of `model.ts`, in a process of its own: node scripts/run-ts.mjs bench/model-case.ts DIR DTYPE */
import { freemem } from 'node:os';
import { loadKernels } from '../src/kernels/load.ts';
import type { PackedType } from '../src/kernels/ops.ts';
import type { Datum } from '../src/engine/engine.ts';
import type { ModelConfig } from '../src/engine/local/config.ts';
import { makeCore, type LocalCore } from '../src/engine/local/core.ts';
import { openModel } from '../src/engine/local/directory.ts';
import { keepBytesOf } from '../src/engine/local/memory.ts';
import { makeLayout, MATRICES } from '../src/engine/local/weights.ts';
import { median, THREADS, type BenchLine } from './harness.ts';
import { ADAM, LORA } from './models.ts';

const [, , directory, dtype] = process.argv as [string, string, string, PackedType];
const PROMPT = 512;
const DECODE = { prompt: 16, steps: 12 };
const BATCHES = [1, 8, 64];
/** Sequences that have nothing in common, every token scored. */
const PLAIN = { count: 4, length: 256 };
/** Reflections on one failed attempt: what training is for here. */
const GROUP = { size: 8, prompt: 300, reflection: 96 };
const ROUNDS = 2;
const BYTES = { f32: 4, bf16: 2, int8: 1 + 4 / 256 } as const;

const ops = await loadKernels({ threads: THREADS });
const started = performance.now();
const model = openModel(directory);
const sampling = makeCore(ops, model, { dtype, trainable: false });
const { config } = model;
emit('load', (performance.now() - started) / 1000, 's');
emit('resident memory, to sample', process.memoryUsage().rss / 2 ** 30, 'GiB');

const weights = countWeights(config);
/** Floats that no cache holds. */
const cold = ops.f32(40_000_000).fill(1);
const bandwidth = (): number => ops.measureBandwidth(cold, 0.1);
const peak = (): number => ops.measurePeak(dtype, 0.1);

{
  const flops = 2 * PROMPT * weights.inLayers + 2 * weights.inHead + attentionFlops(PROMPT);
  const measured = rounds(ROUNDS, (round) => {
    const limit = peak();
    const seconds = sample(sampling, [draw(PROMPT, round)], 1);
    return { speed: PROMPT / seconds, ratio: flops / seconds / 1e9 / limit };
  });
  give('prefill', measured, 'of the multiply-add roofline');
}

for (const batch of BATCHES) {
  const measured = rounds(ROUNDS, (round) => {
    const [gigabytes, gflops] = [bandwidth(), peak()];
    const seconds = decode(sampling, batch, round);
    const count = weights.inLayers + weights.inHead;
    const roofline = Math.max((count * BYTES[dtype]) / gigabytes, (2 * batch * count) / gflops) / 1e9;
    return { speed: batch / seconds, ratio: roofline / seconds };
  });
  give(`decode ${batch}`, measured, 'of the roofline');
}

const needs = { dtype, training: LORA, reference: true } as const;
const keepBytes = keepBytesOf(config, needs, freemem());
const training = makeCore(ops, openModel(directory), { dtype, lora: LORA, keepBytes });
emit('resident memory, two engines', process.memoryUsage().rss / 2 ** 30, 'GiB');
{
  const plain: Datum[] = Array.from({ length: PLAIN.count }, (_, n) => {
    const tokens = draw(PLAIN.length, 50 + n);
    return { tokens, positions: tokens.slice(1).map((__, i) => i + 1) };
  });
  const tokens = PLAIN.count * PLAIN.length;
  const flops =
    tokens * 4 * (weights.inLayers + weights.inHead) + 3 * PLAIN.count * attentionFlops(PLAIN.length);
  trainOn('lora', plain, tokens, flops, `${PLAIN.count} sequences of ${PLAIN.length}`);

  const prompt = draw(GROUP.prompt, 90);
  const grouped: Datum[] = Array.from({ length: GROUP.size }, (_, n) => ({
    tokens: [...prompt, ...draw(GROUP.reflection, 91 + n)],
    positions: Array.from({ length: GROUP.reflection }, (__, i) => GROUP.prompt + i),
  }));
  const unshared = GROUP.size * (GROUP.prompt + GROUP.reflection);
  const computed = GROUP.prompt + GROUP.size * GROUP.reflection;
  const scored = GROUP.size * GROUP.reflection;
  trainOn(
    'lora group',
    grouped,
    unshared,
    4 * (computed * weights.inLayers + scored * weights.inHead),
    `${GROUP.size} reflections of ${GROUP.reflection} on a prompt of ${GROUP.prompt}, all tokens counted`,
  );
}
emit('peak memory of the kernels', ops.memory().peakBytes / 2 ** 30, 'GiB');
process.exit(0);

function trainOn(name: string, datums: Datum[], tokens: number, flops: number, detail: string): void {
  const measured = rounds(2, () => {
    const limit = peak();
    const start = performance.now();
    const logprobs = training.forward(datums, 1, 'current', true);
    training.backward(logprobs.map((row) => new Float32Array(row.length).fill(1 / tokens)));
    training.step(ADAM);
    const seconds = (performance.now() - start) / 1000;
    return { speed: tokens / seconds, ratio: flops / seconds / 1e9 / limit };
  });
  give(name, measured, `of the multiply-add roofline, ${detail}`);
}

interface Measured {
  speed: number;
  ratio: number;
}

function rounds(count: number, measure: (round: number) => Measured): Measured {
  measure(-1);
  const all = Array.from({ length: count }, (_, round) => measure(round));
  return { speed: median(all.map(({ speed }) => speed)), ratio: median(all.map(({ ratio }) => ratio)) };
}

function give(name: string, { speed, ratio }: Measured, detail: string): void {
  emit(name, speed, 'tokens/s');
  emit(`${name}, ${detail}`, ratio, 'ratio');
}

function emit(what: string, value: number, unit: string): void {
  const name = `${ops.build} ${ops.variant} ${dtype} ${THREADS} threads, ${what},`;
  const line: BenchLine = { bench: 'model', case: name, value, unit };
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

/** Seconds to compute prompts and draw `maxTokens` after each. */
function sample(core: LocalCore, prompts: readonly number[][], maxTokens: number): number {
  add(core, prompts, maxTokens);
  const start = performance.now();
  while (core.sampler.busy) core.sampler.step();
  return (performance.now() - start) / 1000;
}

/** Seconds of a step that computes one token of each completion. */
function decode(core: LocalCore, batch: number, round: number): number {
  const prompts = Array.from({ length: batch }, (_, n) => draw(DECODE.prompt, 1000 * (round + 2) + n));
  add(core, prompts, DECODE.steps);
  // Prompts are computed in the first steps, each with its first token.
  let before = core.sampler.counts.prefilledTokens;
  do {
    before = core.sampler.counts.prefilledTokens;
    core.sampler.step();
  } while (core.sampler.counts.prefilledTokens > before);
  const from = core.sampler.counts.sampledTokens;
  const start = performance.now();
  while (core.sampler.busy) core.sampler.step();
  const steps = (core.sampler.counts.sampledTokens - from) / batch;
  return (performance.now() - start) / 1000 / steps;
}

function add(core: LocalCore, prompts: readonly number[][], maxTokens: number): void {
  prompts.forEach((prompt, n) =>
    core.sampler.add({
      prompt,
      count: 1,
      params: { temperature: 1, maxTokens, stopIds: [] },
      seed: n,
      cancelled: false,
      onDone: () => undefined,
    }),
  );
}

/** Tokens that differ for each salt from the first on, so that no prompt is in the cache. */
function draw(length: number, salt: number): number[] {
  const { vocabularySize } = config;
  const start = salt < 0 ? vocabularySize + salt : salt;
  return Array.from({ length }, (_, i) => (start * 104_729 + i * 7919) % vocabularySize);
}

function countWeights(c: ModelConfig): { inLayers: number; inHead: number } {
  const { layers, head } = makeLayout(c);
  const sizes = layers.flatMap((layer) => MATRICES.map((name) => layer[name].in * layer[name].out));
  return { inLayers: sizes.reduce((sum, size) => sum + size, 0), inHead: head.in * head.out };
}

/** Scores and weighted values of one causal sequence. */
function attentionFlops(length: number): number {
  return config.layers * 2 * config.heads * config.headSize * length * length;
}
