/**
 * One Reflect-Retry-Reward step: 8 groups of 8 reflections; prompt 160, reflection 48, bridge 24, retry 32 tokens.
 *
 * Reflections and retries are sampled, the start model scores the reflections, and one GRPO update is made. With
 * sharing off every sequence is computed alone. TRL doing the same is beside it where Python has it.
 * With a published shape: one longer step in bf16 that trains an adapter, seconds by phase and memory; TRL is
 * beside it where it is asked for.
 */
import { freemem } from 'node:os';
import { makeCore, type LocalCore } from '../src/engine/local/core.ts';
import { keepBytesOf } from '../src/engine/local/memory.ts';
import type { Completion, Datum } from '../src/engine/engine.ts';
import { loadKernels } from '../src/kernels/load.ts';
import type { Ops, PackedType } from '../src/kernels/ops.ts';
import { makeRng } from '../src/lib/rng.ts';
import { advantages } from '../src/method/advantage.ts';
import { reflectionDatum } from '../src/method/datum.ts';
import { policyLoss } from '../src/method/loss.ts';
import { defaultLossOptions } from '../src/method/loss-options.ts';
import { median, openBuilds, THREADS, type BenchOptions, type Emit } from './harness.ts';
import { ADAM, benchModel, LORA, randomModel } from './models.ts';
import { runPeer } from './peer.ts';
import { shapeOf, type Shape } from './shapes.ts';

/** Groups of `size` reflections, and lengths in tokens. */
interface Sizes {
  groups: number;
  size: number;
  prompt: number;
  reflection: number;
  bridge: number;
  retry: number;
}

const SIZES: Sizes = { groups: 8, size: 8, prompt: 160, reflection: 48, bridge: 24, retry: 32 };
const SHAPE_SIZES: Sizes = { groups: 4, size: 8, prompt: 300, reflection: 96, bridge: 40, retry: 64 };
const WARM_UP: Sizes = { groups: 1, size: 2, prompt: 8, reflection: 4, bridge: 2, retry: 4 };
/** Steps timed. A step without sharing takes a minute and more with WASM. */
const ROUNDS = { native: { shared: 5, alone: 3 }, wasm: { shared: 3, alone: 1 } };
const PHASES = ['reflect', 'retry', 'reference', 'forward and backward', 'update'] as const;

export async function benchR3Step(emit: Emit, { shape, groups, peers }: BenchOptions): Promise<void> {
  if (shape !== undefined) {
    const sizes = { ...SHAPE_SIZES, groups: groups ?? SHAPE_SIZES.groups };
    return benchShape(emit, shapeOf(shape), sizes, peers ?? false);
  }
  for (const ops of await openBuilds()) {
    for (const dtype of ['f32', 'bf16'] as const) {
      const name = describe(ops, dtype);
      const line = (what: string, value: number, unit: string): void =>
        emit({ bench: 'r3-step', case: `${name}${what}`, value, unit });
      const rounds = ROUNDS[ops.build === 'native' ? 'native' : 'wasm'];
      const shared = makeCore(ops, benchModel(), { dtype, share: true });
      const alone = makeCore(ops, benchModel(), { dtype, share: false });
      const sharedTimes: number[][] = [];
      const aloneTimes: number[][] = [];
      r3Step(shared, true, 0, SIZES);
      for (let round = 0; round < rounds.shared; round++) {
        sharedTimes.push(r3Step(shared, true, round, SIZES));
        if (round < rounds.alone) aloneTimes.push(r3Step(alone, false, round, SIZES));
      }
      const withSharing = median(sharedTimes.map(total));
      const without = median(aloneTimes.map(total));
      line(', sharing on', withSharing, 's');
      line(', sharing off', without, 's');
      line(', sharing off over on', without / withSharing, 'ratio');
      PHASES.forEach((phase, i) => {
        const share = median(sharedTimes.map((t) => (t[i] as number) / total(t)));
        line(`, sharing on: ${phase}`, share, 'share of time');
      });
      if (ops.build === 'native') {
        // Without bf16 instructions a whole step of TRL's takes many minutes.
        const sizes = { ...SIZES, groups: isEmulated(ops, dtype) ? 1 : SIZES.groups };
        const peer = { sizes, steps: sizes.groups === 1 ? 1 : 4, dtypes: [dtype] };
        besidePeer(emit, name, peer, 3, (round) => total(r3Step(shared, true, round, sizes)));
      }
    }
    ops.close();
  }
}

/** One step of a published shape, random weights, and an adapter on every linear layer. */
async function benchShape(emit: Emit, shape: Shape, sizes: Sizes, peers: boolean): Promise<void> {
  const ops = await loadKernels({ threads: THREADS });
  const name = `${shape.name} ${describe(ops, 'bf16')}, LoRA ${LORA.rank}`;
  const line = (what: string, value: number, unit: string): void =>
    emit({ bench: 'r3-step', case: `${name}, ${counted(sizes.groups)}${what}`, value, unit });
  // As `host.ts` opens an engine.
  const needs = { dtype: 'bf16', training: LORA, reference: true } as const;
  const keepBytes = keepBytesOf(shape.config, needs, freemem());
  const core = makeCore(ops, randomModel(shape.config), { dtype: 'bf16', lora: LORA, keepBytes });
  r3Step(core, true, 0, WARM_UP);
  const seconds = r3Step(core, true, 1, sizes);
  line('', total(seconds), 's');
  PHASES.forEach((phase, i) => line(`: ${phase}`, seconds[i] as number, 's'));
  line(': peak memory of the kernels', ops.memory().peakBytes / 2 ** 30, 'GiB');
  line(': peak resident memory', process.resourceUsage().maxRSS / 2 ** 20, 'GiB');
  if (peers) {
    // Where bf16 is emulated PyTorch is faster in f32.
    const dtypes: PackedType[] = isEmulated(ops, 'bf16') ? ['f32'] : ['f32', 'bf16'];
    const peer = { sizes, steps: 1, dtypes, shape: shape.name };
    besidePeer(emit, name, peer, 1, (round) => total(r3Step(core, true, 2 + round, sizes)));
  }
  ops.close();
}

interface Peer {
  sizes: Sizes;
  steps: number;
  /** Where there are several, the faster counts. */
  dtypes: readonly PackedType[];
  shape?: string;
}

/** TRL with a few of our steps before and after it, so that a change of the machine's speed does not fall to one side. */
function besidePeer(
  emit: Emit,
  name: string,
  { sizes, steps, dtypes, shape }: Peer,
  rounds: number,
  ownStep: (round: number) => number,
): void {
  const own: number[] = [];
  const measure = (): void => {
    for (let round = 0; round < rounds; round++) own.push(ownStep(round));
  };
  measure();
  const options = {
    ...(shape === undefined ? {} : { '--shape': shape }),
    '--threads': THREADS,
    '--steps': steps,
    '--groups': sizes.groups,
    '--generations': sizes.size,
    '--prompt': sizes.prompt,
    '--reflection': sizes.reflection,
    '--bridge': sizes.bridge,
    '--retry': sizes.retry,
  };
  const args = Object.entries(options).flat().map(String);
  const peer = dtypes.flatMap((dtype) => runPeer('r3_step_trl.py', ['--dtype', dtype, ...args]));
  if (peer.length === 0) return;
  measure();
  for (const line of peer) emit(line);
  const fastest = Math.min(...peer.filter(({ unit }) => unit === 'seconds/step').map(({ value }) => value));
  const what = `${name}, ${counted(sizes.groups)}, beside TRL`;
  emit({ bench: 'r3-step', case: what, value: median(own), unit: 's' });
  emit({
    bench: 'r3-step',
    case: `${what}: TRL at its fastest over this`,
    value: fastest / median(own),
    unit: 'ratio',
  });
}

function describe(ops: Ops, dtype: PackedType): string {
  return `${ops.build} ${ops.variant} ${dtype} ${THREADS} threads`;
}

function counted(groups: number): string {
  return groups === 1 ? '1 group' : `${groups} groups`;
}

/** Whether the CPU has no instructions for products in this type. */
function isEmulated(ops: Ops, dtype: PackedType): boolean {
  return dtype === 'bf16' && ops.variant !== 'avx512bf16';
}

function total(phases: readonly number[]): number {
  return phases.reduce((sum, seconds) => sum + seconds, 0);
}

/** Seconds of each phase. */
function r3Step(
  core: LocalCore,
  share: boolean,
  seed: number,
  { groups, size, prompt: promptLength, reflection, bridge, retry }: Sizes,
): number[] {
  const rng = makeRng(seed, 5);
  const { vocabularySize } = core.capabilities();
  const draw = (length: number): number[] => Array.from({ length }, () => rng.below(vocabularySize));
  const prompts = Array.from({ length: groups }, () => draw(promptLength));
  const marks = [performance.now()];
  const mark = (): void => void marks.push(performance.now());

  // Without sharing each reflection is a request of its own.
  const asked = share
    ? prompts.map((prompt) => ({ prompt, count: size }))
    : prompts.flatMap((prompt) => Array.from({ length: size }, () => ({ prompt, count: 1 })));
  const reflections = sampleAll(core, asked, reflection, seed).flat();
  mark();
  const before = reflections.map((_, i) => prompts[Math.floor(i / size)] as number[]);
  sampleAll(
    core,
    reflections.map((r, i) => ({
      prompt: [...(before[i] as number[]), ...r.tokens, ...draw(bridge)],
      count: 1,
    })),
    retry,
    seed + 1,
  );
  mark();
  const datums: Datum[] = reflections.map((r, i) => reflectionDatum(before[i] as number[], r.tokens));
  const referenceLogprobs = core.forward(datums, 1, 'reference', false);
  mark();
  const rewards = prompts.map(() => Array.from({ length: size }, () => rng.below(2)));
  const advantages_B = advantages(rewards).flatMap((advantages_G) => advantages_G.map((a) => a ?? 0));
  const logprobs = core.forward(datums, 1, 'current', true);
  core.backward(
    policyLoss(
      { advantages: advantages_B, referenceLogprobs },
      { ...defaultLossOptions(), beta: 0.05 },
    )(logprobs).gradients,
  );
  mark();
  core.step(ADAM);
  mark();
  return marks.slice(1).map((end, i) => (end - (marks[i] as number)) / 1000);
}

function sampleAll(
  core: LocalCore,
  requests: readonly { prompt: number[]; count: number }[],
  maxTokens: number,
  seed: number,
): Completion[][] {
  const results: Completion[][] = [];
  requests.forEach(({ prompt, count }, i) =>
    core.sampler.add({
      prompt,
      count,
      seed: seed + i,
      params: { temperature: 1, maxTokens, stopIds: [] },
      cancelled: false,
      onDone: (completions) => (results[i] = completions),
    }),
  );
  while (core.sampler.busy) core.sampler.step();
  return results;
}
