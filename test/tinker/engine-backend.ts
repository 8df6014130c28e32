/**
 * The embedded engine as the server's backend: LoRA on one model folder, so that what a client computes over the wire can
 * be compared with what the same engine computes at hand.
 *
 * A model of the server is a trainable engine with an adapter (alpha 32, as services have it). What is saved are
 * folders in a temporary directory: the adapter in PEFT's layout, the engine's state, and the same state with a fresh
 * optimizer. A snapshot for sampling is an engine opened from a saved adapter, so that later training cannot change it;
 * few of them are open at a time.
 *
 * A target may be any token, not only the one that follows in the input, and a position may have several: such a target
 * becomes a sequence of its own, its prefix shared with the others in the engine.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Datum, Engine } from '../../src/engine/engine.ts';
import { openLocalEngine, type LocalEngineOptions } from '../../src/engine/local/local-engine.ts';
import { openSafetensors, writeSafetensors } from '../../src/engine/local/safetensors.ts';
import { makeDirectory } from '../../src/lib/files.ts';
import type { Backend, BackendModel, LoraFields, Sampled, SampleOrder, TrainDatum } from './backend.ts';
import { scaled, type DatumLoss } from './losses.ts';
import type { Quirks } from './quirks.ts';

export interface EngineBackendOptions {
  /** The model's folder. */
  model: string;
  /** The name under which clients ask for it. Default `models/tiny`. */
  baseModel?: string;
  kernels?: NonNullable<LocalEngineOptions['kernels']>;
  /** As in Quirks. Default `sum`. */
  lossReduction?: Quirks['lossReduction'];
}

/** Services fix alpha, whatever the rank. */
export const LORA_ALPHA = 32;
const MAX_OPEN_SAMPLERS = 4;
const STATE_FILE = 'state.safetensors';

export async function openEngineBackend(options: EngineBackendOptions): Promise<Backend> {
  const { model, baseModel = 'models/tiny', kernels, lossReduction = 'sum' } = options;
  const root = mkdtempSync(join(tmpdir(), 'tinker-server-'));
  const common = { model, thread: false, threads: 1, ...(kernels === undefined ? {} : { kernels }) };
  const openModels = new Set<Engine>();
  const samplers = new Map<string, { engine: Promise<Engine>; users: number }>();
  let saves = 0;
  const base = await openLocalEngine({ ...common, trainable: false });
  const { contextLength, vocabularySize } = base.capabilities();

  async function withSampler<T>(key: string | undefined, use: (engine: Engine) => Promise<T>): Promise<T> {
    if (key === undefined) return use(base);
    const folder = join(root, key, 'adapter');
    const entry = samplers.get(key) ?? {
      engine: openLocalEngine({ ...common, model: folder, base: model, trainable: false }),
      users: 0,
    };
    // The last in the map is the one that was used last.
    samplers.delete(key);
    samplers.set(key, entry);
    entry.users++;
    try {
      return await use(await entry.engine);
    } finally {
      entry.users--;
      for (const [name, { engine, users }] of samplers) {
        if (samplers.size <= MAX_OPEN_SAMPLERS) break;
        if (users > 0) continue;
        samplers.delete(name);
        await (await engine).close();
      }
    }
  }

  async function save(engine: Engine, withState: boolean): Promise<string> {
    const key = `kept-${saves++}`;
    makeDirectory(join(root, key));
    await engine.save(join(root, key, 'adapter'));
    if (withState) {
      await engine.saveState(join(root, key, 'state'));
      writeFreshState(join(root, key));
    }
    return key;
  }

  return {
    baseModel,
    contextLength,
    vocabularySize,
    trainsUnembed: false,
    createModel: async (lora) => {
      const engine = await openLocalEngine({ ...common, ...loraOptions(lora), baseName: model });
      openModels.add(engine);
      return {
        ...trainingOf(engine, lossReduction),
        saveState: () => save(engine, true),
        saveSnapshot: () => save(engine, false),
        load: (key, withOptimizer) => engine.loadState(join(root, key, withOptimizer ? 'state' : 'fresh')),
        close: async () => {
          openModels.delete(engine);
          await engine.close();
        },
      };
    },
    sampler: (key) => ({
      sample: (order) => withSampler(key, (engine) => sample(engine, order)),
      promptLogprobs: (prompt) =>
        withSampler(key, async (engine) => {
          const positions = prompt.slice(1).map((_, i) => i + 1);
          const [logprobs] = await engine.logprobs([{ tokens: prompt, positions }]);
          return logprobs ?? new Float32Array();
        }),
    }),
    files: (key) =>
      ['adapter_config.json', 'adapter_model.safetensors'].map((name) => ({
        name,
        data: readFileSync(join(root, key, 'adapter', name)),
      })),
    remove: (key) => rmSync(join(root, key), { recursive: true, force: true }),
    close: async () => {
      for (const { engine } of samplers.values()) await (await engine).close();
      for (const engine of [base, ...openModels]) await engine.close();
      rmSync(root, { recursive: true, force: true });
    },
  };
}

/** The engine's options for the protocol's LoRA config. Which modules: attention and the MLP, each as a whole. */
export function loraOptions({ rank, seed, train_attn, train_mlp }: LoraFields) {
  const attention = ['q_proj', 'k_proj', 'v_proj', 'o_proj'];
  const mlp = ['gate_proj', 'up_proj', 'down_proj'];
  const targets =
    train_attn && train_mlp
      ? ('all-linear' as const)
      : [...(train_attn ? attention : []), ...(train_mlp ? mlp : [])];
  return {
    lora: { rank, alpha: LORA_ALPHA, dropout: 0, rsLora: false, targets, layers: null },
    seed: (seed ?? 0) >>> 0,
  };
}

function trainingOf(
  engine: Engine,
  reduction: Quirks['lossReduction'],
): Pick<BackendModel, 'forward' | 'forwardBackward' | 'step'> {
  /** With `mean` the gradient's divisor is known only at the step, so the backward pass waits until then. */
  let waiting: { data: readonly TrainDatum[]; loss: DatumLoss }[] = [];

  async function pass(data: readonly TrainDatum[], loss: DatumLoss, withBackward: boolean) {
    const { datums, places } = layOut(data);
    let total = 0;
    let logprobs: Float32Array[] = [];
    const apply = (values: readonly Float32Array[]) => {
      const gradients = values.map((each) => new Float32Array(each.length));
      logprobs = places.map((each) => Float32Array.from(each, ([d, i]) => values[d]?.[i] ?? NaN));
      data.forEach((datum, n) => {
        const result = loss(datum, logprobs[n] as Float32Array);
        total += result.loss;
        places[n]?.forEach(([d, i], at) => {
          const gradient = gradients[d] as Float32Array;
          gradient[i] = (gradient[i] ?? 0) + (result.gradient[at] ?? 0);
        });
      });
      return { loss: total, gradients, metrics: {} };
    };
    if (withBackward) await engine.forwardBackward(datums, apply);
    else apply(await engine.logprobs(datums));
    return { loss: total, logprobs };
  }

  return {
    forward: (data, loss) => pass(data, loss, false),
    forwardBackward: (data, loss) => {
      if (reduction === 'sum') return pass(data, loss, true);
      waiting.push({ data, loss });
      return pass(data, loss, false);
    },
    step: async (adam) => {
      const count = waiting.reduce((sum, { data }) => sum + data.length, 0);
      for (const { data, loss } of waiting) await pass(data, scaled(loss, 1 / count), true);
      waiting = [];
      const { gradientNorm, learningRate } = await engine.step({
        learningRate: adam.learning_rate,
        beta1: adam.beta1,
        beta2: adam.beta2,
        epsilon: adam.eps,
        weightDecay: adam.weight_decay,
        ...(adam.grad_clip_norm > 0 ? { maxGradNorm: adam.grad_clip_norm } : {}),
      });
      return { gradient_norm: gradientNorm, learning_rate: learningRate };
    },
  };
}

/** Sequences for the engine, and for each target of each datum the sequence and the place in it. */
function layOut(data: readonly TrainDatum[]): { datums: Datum[]; places: [number, number][][] } {
  const datums: Datum[] = [];
  const places = data.map(({ tokens, inputs }) => {
    const targets = inputs['target_tokens']?.data ?? [];
    const width = targets.length / tokens.length;
    const main = { tokens: [...tokens], positions: [] as number[] };
    const mainIndex = datums.push(main) - 1;
    const known = new Map<string, [number, number]>();
    return Array.from(targets, (target, at): [number, number] => {
      const position = Math.floor(at / width) + 1;
      const name = `${position} ${target}`;
      const before = known.get(name);
      if (before !== undefined) return before;
      if (position === main.tokens.length) main.tokens.push(target);
      const place: [number, number] =
        main.tokens[position] === target
          ? [mainIndex, main.positions.push(position) - 1]
          : [datums.push({ tokens: [...tokens.slice(0, position), target], positions: [position] }) - 1, 0];
      known.set(name, place);
      return place;
    });
  });
  return { datums, places };
}

async function sample(engine: Engine, order: SampleOrder): Promise<Sampled[]> {
  const { prompt, count, maxTokens, temperature, topK, topP, seed, stopIds } = order;
  const completions = await engine.sample({
    prompt,
    count,
    params: {
      temperature,
      maxTokens,
      stopIds,
      ...(topK === undefined ? {} : { topK }),
      ...(topP === undefined ? {} : { topP }),
    },
    seed,
  });
  // The engine's log-probabilities are at the sampling temperature, the protocol's at 1.
  const isPlain = temperature === 0 || temperature === 1;
  const plain = isPlain
    ? undefined
    : await engine.logprobs(
        completions.map(({ tokens }) => ({
          tokens: [...prompt, ...tokens],
          positions: tokens.map((_, i) => prompt.length + i),
        })),
      );
  return completions.map(({ tokens, logprobs, stopReason }, i) => ({
    tokens,
    logprobs: plain?.[i] ?? logprobs,
    stopReason: stopReason === 'stop' ? 'stop' : 'length',
  }));
}

/** Beside a saved state, the same weights with the moments and the count of steps at zero. */
function writeFreshState(folder: string): void {
  const file = openSafetensors(join(folder, 'state', STATE_FILE));
  try {
    makeDirectory(join(folder, 'fresh'));
    const tensors = [...file.tensors].map(([name, { shape }]) => {
      const length = shape.reduce((a, b) => a * b, 1);
      const data = new Float32Array(length);
      if (name === 'values') file.readF32(name, 0, length, data);
      return { name, shape: [...shape], data, dtype: 'F32' as const };
    });
    writeSafetensors(join(folder, 'fresh', STATE_FILE), tensors, { ...file.metadata, steps: '0' });
  } finally {
    file.close();
  }
}
