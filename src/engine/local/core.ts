/**
 * The embedded engine without its thread: weights, sampler and trainer over one set of kernels.
 *
 * Everything here is synchronous but for reading and writing files. `host.ts` runs it; `local-engine.ts` is
 * what the rest of the program sees.
 */
import { join } from 'node:path';
import { assert, R3Error } from '../../lib/errors.ts';
import { writeDirectoryAtomic } from '../../lib/files.ts';
import type { Ops, PackedType } from '../../kernels/ops.ts';
import type { AdamParams, Capabilities, Datum, EngineStats, StepResult, WeightsName } from '../engine.ts';
import type { Decoder } from './decoder.ts';
import { saveAdapter, saveModel, type LoadedModel } from './directory.ts';
import {
  initialiseLora,
  makeAdapters,
  makeLoraLayout,
  widestAdapter,
  type Adapters,
  type LoraLayout,
  type LoraOptions,
} from './lora.ts';
import { makeRopeTables } from './rope.ts';
import { openSafetensors, writeSafetensors, type FloatType } from './safetensors.ts';
import { makeSampler, type Sampler } from './sampler.ts';
import { makeTrainer, type Trained, type Trainer } from './trainer.ts';
import { makeWeights, withoutAdapters, type Weights } from './weights.ts';
import { makeWorkspace } from './workspace.ts';

export interface LocalEngineOptions {
  /** A model directory, or that of a LoRA adapter. */
  model: string;
  /**
   * Weights in products: f32, bf16 (with f32 master weights where they are trained), or int8 (weights that are not
   * trained). Sums are f32. Default f32.
   */
  dtype?: PackedType;
  /** Default true. A sampling-only engine takes a third of the memory. */
  trainable?: boolean;
  /** Train adapters on frozen weights. Left out: an adapter's directory trains that adapter, a model's all weights. */
  lora?: LoraOptions;
  /** Chooses an adapter's first values and what dropout drops. Default 0. */
  seed?: number;
  /** Longest sequence, in tokens. Default: the model's, at most DEFAULT_CONTEXT. */
  contextLength?: number;
  /** Default: `native`, else `wasm`. */
  kernels?: 'native' | 'wasm' | 'reference';
  threads?: number;
  /** Default 256 MiB. */
  cacheBytes?: number;
  /** What a pass of training may take with each layer computed again: a larger batch is cut. Default 2 GiB. */
  activationBytes?: number;
  /**
   * What activations may take where nothing is computed again. Changes no result. Default: what `host.ts` finds free,
   * at least activationBytes.
   */
  keepBytes?: number;
  /** Most tokens of a training pass; a larger batch is cut, and gradients add up. Default: what activationBytes holds. */
  passTokens?: number;
  /** Compute shared prefixes once, in sampling and in training. Default true. */
  share?: boolean;
  /** The folder of an adapter's base model, where its config names another place. */
  base?: string;
  /** What an adapter that is saved names its base model. Default: as it was named, else the model's path. */
  baseName?: string;
  /** Initialise a directory without weights from this seed. */
  initSeed?: number;
  /** How `save` stores weights. Default F32, which is exact. */
  saveAs?: FloatType;
}

/** Defaults. */
export const CACHE_BYTES = 256 * 2 ** 20;
export const ACTIVATION_BYTES = 2 ** 31;
const STATE_FILE = 'state.safetensors';

export interface LocalCore {
  capabilities(): Capabilities;
  sampler: Sampler;
  forward(datums: readonly Datum[], temperature: number, weights: WeightsName, keep: boolean): Float32Array[];
  backward(gradients: readonly Float32Array[]): void;
  step(adam: AdamParams): StepResult;
  gradientNorms(): Record<string, number>;
  zeroGradients(): void;
  /** The accumulated gradient of one parameter. Throws for a name that it does not have. */
  gradientOf(name: string): Float32Array;
  /** The values of one parameter. */
  valuesOf(name: string): Float32Array;
  save(directory: string): Promise<void>;
  saveState(directory: string): Promise<void>;
  loadState(directory: string): void;
  stats(): Omit<EngineStats, 'sampleSeconds' | 'trainSeconds'>;
  close(): void;
}

/** `ops` come checked. */
export function makeCore(
  ops: Ops,
  model: LoadedModel,
  options: Omit<LocalEngineOptions, 'model' | 'kernels' | 'threads' | 'contextLength'> = {},
): LocalCore {
  const { config, layout } = model;
  const { dtype = 'f32', trainable = true, seed = 0 } = options;
  const adapters = openAdapters(ops, model, options);
  const training = !trainable ? 'none' : adapters === undefined ? 'full' : 'adapters';
  if (dtype === 'int8' && training === 'full') {
    throw new R3Error(
      'engine',
      'bad-option',
      'dtype int8: expected weights that stay as they are, got training of all of them; train an adapter (lora), or in bf16',
    );
  }
  const weights = makeWeights(ops, config, layout, model.read, { type: dtype, training, adapters });
  const trained = trainedOf(model, weights, training, adapters);
  const ropes = makeRopeTables(ops, config);
  const { share = true, cacheBytes = CACHE_BYTES, activationBytes = ACTIVATION_BYTES } = options;
  const decoder = (): Decoder => ({ ops, config, ropes, work: makeWorkspace(ops) });
  const dropout = { rate: adapters?.layout.options.dropout ?? 0, seed };
  const sampler = makeSampler(decoder(), weights, { cacheBytes, share });
  const trainer = makeTrainer(decoder(), layout, weights, trained, {
    activationBytes,
    keepBytes: Math.max(activationBytes, options.keepBytes ?? 0),
    passTokens: options.passTokens ?? Infinity,
    share,
    dropout,
    adapterWidth: widestAdapter(adapters?.layout),
  });
  let reference: Weights | undefined;

  function requireTraining(): { trainer: Trainer; trained: Trained } {
    if (trained === null)
      throw new R3Error(
        'engine',
        'bad-option',
        'training: expected an engine opened as trainable, got one opened for sampling only',
      );
    return { trainer, trained };
  }

  /** The start weights: with adapters the same ones without them, else read a second time. */
  function referenceWeights(): Weights {
    reference ??=
      training === 'full'
        ? makeWeights(ops, config, layout, model.read, { type: dtype, training: 'none' })
        : withoutAdapters(weights);
    return reference;
  }

  function partOf(whole: Float32Array, name: string): Float32Array {
    const { parameters } = requireTraining().trained;
    const parameter = parameters.find((p) => p.name === name);
    if (parameter === undefined)
      throw new R3Error(
        'engine',
        'bad-option',
        `parameter: expected one of ${parameters.length} names such as ${parameters[0]?.name}, got ${name}`,
      );
    return whole.subarray(parameter.offset, parameter.offset + parameter.length);
  }

  function checkDatums(datums: readonly Datum[]): void {
    datums.forEach(({ tokens, positions }, n) => {
      if (tokens.length > config.contextLength)
        throw new R3Error(
          'engine',
          'too-long',
          `datum ${n}: expected at most ${config.contextLength} tokens (the model's context), got ${tokens.length}`,
        );
      checkIds(tokens, config.vocabularySize, `datum ${n}`);
      positions.forEach((position, i) => {
        const least = i === 0 ? 1 : (positions[i - 1] as number) + 1;
        if (!(Number.isInteger(position) && position >= least && position < tokens.length)) {
          throw new R3Error(
            'engine',
            'bad-shape',
            `datum ${n}: position ${i}: expected an integer from ${least} to ${tokens.length - 1}, got ${position}`,
          );
        }
      });
    });
  }

  return {
    capabilities: () => ({
      name: 'local',
      trainable,
      contextLength: config.contextLength,
      vocabularySize: config.vocabularySize,
      description: `${ops.build} kernels (${ops.variant}), ${ops.threads} thread${ops.threads === 1 ? '' : 's'}, ${dtype}`,
      modelHash: model.modelHash,
      ...(dropout.rate > 0 ? { dropout: dropout.rate } : {}),
    }),
    sampler: {
      ...sampler,
      get busy() {
        return sampler.busy;
      },
      add(request) {
        checkIds(request.prompt, config.vocabularySize, 'prompt');
        sampler.add(request);
      },
    },
    forward(datums, temperature, which, keep) {
      checkDatums(datums);
      return (keep ? requireTraining().trainer : trainer).forward(
        which === 'reference' ? referenceWeights() : weights,
        datums,
        temperature,
        keep,
      );
    },
    backward: (gradients) => requireTraining().trainer.backward(gradients),
    step(adam) {
      const result = requireTraining().trainer.step(adam);
      sampler.clear();
      return result;
    },
    gradientNorms: () => requireTraining().trainer.gradientNorms(),
    zeroGradients: () => void requireTraining().trainer.optimizer().gradient.fill(0),
    gradientOf: (name) => partOf(trainer.optimizer().gradient, name),
    valuesOf: (name) => partOf(requireTraining().trained.values, name),
    async save(directory) {
      if (adapters !== undefined)
        return saveAdapter(model, adapters.layout, adapters.values, directory, options.baseName);
      const { values } = weights;
      if (values === null) return saveModel(model, model.read, directory, options.saveAs);
      const read: LoadedModel['read'] = ({ offset }, from, count, into) =>
        into.set(values.subarray(offset + from, offset + from + count));
      return saveModel(model, read, directory, options.saveAs);
    },
    async saveState(directory) {
      const { trained: what } = requireTraining();
      const { moment1, moment2, steps } = trainer.optimizer();
      await writeDirectoryAtomic(directory, (temporary) => {
        const shape = [what.length];
        const tensor = (name: string, data: Float32Array) => ({ name, shape, data, dtype: 'F32' as const });
        writeSafetensors(
          join(temporary, STATE_FILE),
          [tensor('values', what.values), tensor('moment1', moment1), tensor('moment2', moment2)],
          { steps: String(steps), model: model.modelHash },
        );
      });
    },
    loadState(directory) {
      const path = join(directory, STATE_FILE);
      const { values, length } = requireTraining().trained;
      const state = trainer.optimizer();
      const file = openSafetensors(path);
      try {
        const { metadata } = file;
        if (metadata['model'] !== model.modelHash)
          throw new R3Error(
            'engine',
            'mismatch',
            `${path}: expected a checkpoint of the model ${model.modelHash}, got one of ${String(metadata['model'])}. Resume with the model that the run began with.`,
          );
        for (const [name, target] of [
          ['values', values],
          ['moment1', state.moment1],
          ['moment2', state.moment2],
        ] as const) {
          const tensor = file.tensors.get(name);
          if (tensor === undefined || tensor.shape.join() !== String(length))
            throw new R3Error(
              'engine',
              'mismatch',
              `${path}: expected a tensor ${name} of ${length} numbers, got ${tensor === undefined ? 'none' : `[${tensor.shape.join(', ')}]`}`,
            );
          file.readF32(name, 0, length, target);
        }
        state.steps = Number(metadata['steps']);
      } finally {
        file.close();
      }
      state.gradient.fill(0);
      weights.repack();
      sampler.clear();
    },
    stats: () => ({ ...sampler.counts, ...trainer.counts, peakBytes: ops.memory().peakBytes }),
    close: () => {
      model.close();
      ops.close();
    },
  };
}

/** The adapter of the model's directory, or a fresh one where it is asked for. */
function openAdapters(
  ops: Ops,
  model: LoadedModel,
  { lora, seed = 0 }: Pick<LocalEngineOptions, 'lora' | 'seed'>,
): Adapters | undefined {
  if (model.adapter !== null) {
    const { layout, values } = model.adapter;
    if (lora !== undefined) requireSameLora(layout, makeLoraLayout(model.layout, lora));
    return makeAdapters(ops, layout, copyInto(ops, values));
  }
  if (lora === undefined) return undefined;
  const layout = makeLoraLayout(model.layout, lora);
  return makeAdapters(ops, layout, copyInto(ops, initialiseLora(layout, seed)));
}

/** An adapter that is trained on keeps what it is. */
function requireSameLora(has: LoraLayout, asked: LoraLayout): void {
  const told = ({ options, scale, parameters }: LoraLayout): Record<string, unknown> => ({
    rank: options.rank,
    scale,
    dropout: options.dropout,
    modules: parameters.map(({ name }) => name).join(),
  });
  const [expected, got] = [told(has), told(asked)];
  for (const name of Object.keys(expected)) {
    if (expected[name] === got[name]) continue;
    const values = name === 'modules' ? '' : ` (${String(expected[name])}, got ${String(got[name])})`;
    throw new R3Error(
      'engine',
      'bad-option',
      `LoRA: expected the ${name} that the adapter has${values}; leave LoRA options out to train it on`,
    );
  }
}

function copyInto(ops: Ops, values: Float32Array): Float32Array {
  const copy = ops.f32(values.length);
  copy.set(values);
  return copy;
}

function trainedOf(
  { layout }: LoadedModel,
  { values }: Weights,
  training: 'full' | 'adapters' | 'none',
  adapters: Adapters | undefined,
): Trained | null {
  if (training === 'none') return null;
  if (values !== null) return { ...layout, kind: 'full', values };
  assert(adapters !== undefined, 'neither weights nor adapters to train');
  const { parameters, length } = adapters.layout;
  return { kind: 'adapters', parameters, length, decayedLength: length, values: adapters.values };
}

function checkIds(ids: readonly number[], vocabularySize: number, what: string): void {
  for (const id of ids) {
    if (!(Number.isInteger(id) && id >= 0 && id < vocabularySize))
      throw new R3Error(
        'engine',
        'bad-option',
        `${what}: expected token ids from 0 to ${vocabularySize - 1}, got ${id}`,
      );
  }
}
