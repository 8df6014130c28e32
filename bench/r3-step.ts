/**
 * One Reflect-Retry-Reward step: 8 groups of 8 reflections; prompt 160, reflection 48, bridge 24, retry 32 tokens.
 *
 * Reflections and retries are sampled, the start model scores the reflections, and one GRPO update is made. With
 * sharing off every sequence is computed alone. TRL doing the same is beside it where Python has it.
 */
import { makeCore, type LocalCore } from '../src/engine/local/core.ts';
import type { Completion, Datum } from '../src/engine/engine.ts';
import { makeRng } from '../src/lib/rng.ts';
import { groupAdvantages } from '../src/method/advantage.ts';
import { reflectionDatum } from '../src/method/datum.ts';
import { grpoLoss } from '../src/method/loss.ts';
import { median, openBuilds, THREADS, type Emit } from './harness.ts';
import { ADAM, BENCH_CONFIG, benchModel } from './models.ts';
import { runPeer } from './peer.ts';

const [GROUPS, SIZE, PROMPT, REFLECTION, BRIDGE, RETRY] = [8, 8, 160, 48, 24, 32];
const ROUNDS = 5;
const PHASES = ['reflect', 'retry', 'reference', 'forward and backward', 'update'] as const;

export async function benchR3Step(emit: Emit): Promise<void> {
  const fastest = new Map<string, number>();
  for (const ops of await openBuilds()) {
    for (const dtype of ['f32', 'bf16'] as const) {
      const shared = makeCore(ops, benchModel(), { dtype, share: true });
      const alone = makeCore(ops, benchModel(), { dtype, share: false });
      const name = `${ops.build} ${ops.variant} ${dtype} ${THREADS} threads`;
      const times = { shared: [] as number[][], alone: [] as number[][] };
      r3Step(shared, true, 0);
      for (let round = 0; round < ROUNDS; round++) {
        times.shared.push(r3Step(shared, true, round));
        if (round < 3) times.alone.push(r3Step(alone, false, round));
      }
      const total = (phases: readonly number[]): number => phases.reduce((a, b) => a + b, 0);
      const withSharing = median(times.shared.map(total));
      const without = median(times.alone.map(total));
      if (ops.build === 'native') fastest.set(dtype, withSharing);
      emit({ bench: 'r3-step', case: `${name}, sharing on`, value: withSharing, unit: 's' });
      emit({ bench: 'r3-step', case: `${name}, sharing off`, value: without, unit: 's' });
      emit({
        bench: 'r3-step',
        case: `${name}, sharing off over on`,
        value: without / withSharing,
        unit: 'ratio',
      });
      PHASES.forEach((phase, i) =>
        emit({
          bench: 'r3-step',
          case: `${name}, sharing on: ${phase}`,
          value: median(times.shared.map((t) => (t[i] as number) / total(t))),
          unit: 'share of time',
        }),
      );
    }
    ops.close();
  }
  for (const dtype of ['f32', 'bf16'] as const) {
    const peer = runPeer('r3_step_trl.py', ['--threads', String(THREADS), '--dtype', dtype]);
    for (const line of peer) emit(line);
    const steps = peer.filter((line) => line.unit === 's').map((line) => line.value);
    const own = fastest.get(dtype);
    if (steps.length > 0 && own !== undefined)
      emit({
        bench: 'r3-step',
        case: `TRL at its fastest over native ${dtype}`,
        value: Math.min(...steps) / own,
        unit: 'ratio',
      });
  }
}

/** Seconds of each phase. */
function r3Step(core: LocalCore, share: boolean, seed: number): number[] {
  const rng = makeRng(seed, 5);
  const draw = (length: number): number[] =>
    Array.from({ length }, () => rng.below(BENCH_CONFIG.vocabularySize));
  const prompts = Array.from({ length: GROUPS }, () => draw(PROMPT));
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
