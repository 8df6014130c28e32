/**
 * One Reflect-Retry-Reward step: 8 groups of 8 reflections; prompt 160, reflection 48, bridge 24, retry 32 tokens.
 *
 * Reflections and retries are sampled, the start model scores the reflections, and one GRPO update is made. With
 * sharing off every sequence is computed alone. TRL doing the same is beside it where Python has it.
 */
import { makeCore, type LocalCore } from '../src/engine/local/core.ts';
import type { Completion, Datum } from '../src/engine/engine.ts';
import { makeRng } from '../src/lib/rng.ts';
import type { PackedType } from '../src/kernels/ops.ts';
import { groupAdvantages } from '../src/method/advantage.ts';
import { reflectionDatum } from '../src/method/datum.ts';
import { grpoLoss } from '../src/method/loss.ts';
import { median, openBuilds, THREADS, type Emit } from './harness.ts';
import { ADAM, BENCH_CONFIG, benchModel } from './models.ts';
import { runPeer } from './peer.ts';

const [GROUPS, SIZE, PROMPT, REFLECTION, BRIDGE, RETRY] = [8, 8, 160, 48, 24, 32];
/** Steps timed. A step without sharing takes a minute and more with WASM. */
const ROUNDS = { native: { shared: 5, alone: 3 }, wasm: { shared: 3, alone: 1 } };
const PHASES = ['reflect', 'retry', 'reference', 'forward and backward', 'update'] as const;

export async function benchR3Step(emit: Emit): Promise<void> {
  for (const ops of await openBuilds()) {
    for (const dtype of ['f32', 'bf16'] as const) {
      const name = `${ops.build} ${ops.variant} ${dtype} ${THREADS} threads`;
      const line = (what: string, value: number, unit: string): void =>
        emit({ bench: 'r3-step', case: `${name}${what}`, value, unit });
      const rounds = ROUNDS[ops.build === 'native' ? 'native' : 'wasm'];
      const shared = makeCore(ops, benchModel(), { dtype, share: true });
      const alone = makeCore(ops, benchModel(), { dtype, share: false });
      const sharedTimes: number[][] = [];
      const aloneTimes: number[][] = [];
      r3Step(shared, true, 0);
      for (let round = 0; round < rounds.shared; round++) {
        sharedTimes.push(r3Step(shared, true, round));
        if (round < rounds.alone) aloneTimes.push(r3Step(alone, false, round));
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
      if (ops.build === 'native') besidePeer(emit, shared, name, dtype, ops.variant);
    }
    ops.close();
  }
}

/** TRL with a few of our steps before and after it, so that a change of the machine's speed does not fall to one side. */
function besidePeer(emit: Emit, core: LocalCore, name: string, dtype: PackedType, variant: string): void {
  // Without bf16 instructions a whole step of TRL's takes many minutes.
  const groups = dtype === 'bf16' && variant !== 'avx512bf16' ? 1 : GROUPS;
  const own: number[] = [];
  const measure = (): void => {
    for (let round = 0; round < 3; round++) own.push(total(r3Step(core, true, round, groups)));
  };
  measure();
  const options = {
    '--threads': THREADS,
    '--dtype': dtype,
    '--groups': groups,
    '--steps': groups === 1 ? 1 : 4,
  };
  const peer = runPeer('r3_step_trl.py', Object.entries(options).flat().map(String));
  if (peer.length === 0) return;
  measure();
  for (const line of peer) emit(line);
  const fastest = Math.min(...peer.filter(({ unit }) => unit === 'seconds/step').map(({ value }) => value));
  const what = `${name}, ${groups === 1 ? '1 group' : `${groups} groups`}, beside TRL`;
  emit({ bench: 'r3-step', case: what, value: median(own), unit: 's' });
  emit({
    bench: 'r3-step',
    case: `${what}: TRL at its fastest over this`,
    value: fastest / median(own),
    unit: 'ratio',
  });
}

function total(phases: readonly number[]): number {
  return phases.reduce((sum, seconds) => sum + seconds, 0);
}

/** Seconds of each phase. */
function r3Step(core: LocalCore, share: boolean, seed: number, groups = GROUPS): number[] {
  const rng = makeRng(seed, 5);
  const draw = (length: number): number[] =>
    Array.from({ length }, () => rng.below(BENCH_CONFIG.vocabularySize));
  const prompts = Array.from({ length: groups }, () => draw(PROMPT));
  const marks = [performance.now()];
  const mark = (): void => void marks.push(performance.now());

  // Without sharing each reflection is a request of its own.
  const asked = share
    ? prompts.map((prompt) => ({ prompt, count: SIZE }))
    : prompts.flatMap((prompt) => Array.from({ length: SIZE }, () => ({ prompt, count: 1 })));
  const reflections = sampleAll(core, asked, REFLECTION, seed).flat();
  mark();
  const before = reflections.map((_, i) => prompts[Math.floor(i / SIZE)] as number[]);
  sampleAll(
    core,
    reflections.map((r, i) => ({
      prompt: [...(before[i] as number[]), ...r.tokens, ...draw(BRIDGE)],
      count: 1,
    })),
    RETRY,
    seed + 1,
  );
  mark();
  const datums: Datum[] = reflections.map((r, i) => reflectionDatum(before[i] as number[], r.tokens));
  const referenceLogprobs = core.forward(datums, 1, 'reference', false);
  mark();
  const advantages = prompts.flatMap(() =>
    groupAdvantages(Array.from({ length: SIZE }, () => rng.below(2))).map((a) => a ?? 0),
  );
  const logprobs = core.forward(datums, 1, 'current', true);
  core.backward(
    grpoLoss({ advantages, referenceLogprobs }, { beta: 0.05, lossType: 'grpo' })(logprobs).gradients,
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
