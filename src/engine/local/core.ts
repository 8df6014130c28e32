/**
 * The embedded engine without its thread: weights, sampler and trainer over one set of kernels.
 *
 * Everything here is synchronous but for reading and writing files. `host.ts` runs it; `local-engine.ts` is
 * what the rest of the program sees.
 */
import { join } from 'node:path';
import { R3Error } from '../../lib/errors.ts';
import { writeDirectoryAtomic } from '../../lib/files.ts';
import type { Ops, PackedType } from '../../kernels/ops.ts';
import type { AdamParams, Capabilities, Datum, EngineStats, StepResult, WeightsName } from '../engine.ts';
import { makeRopeTable } from './decoder.ts';
import { saveModel, type LoadedModel } from './directory.ts';
import { readSafetensors, readSafetensorsMetadata, toF32, writeSafetensors } from './safetensors.ts';
import { makeSampler, type Sampler } from './sampler.ts';
import { makeTrainer, type Trainer } from './trainer.ts';
import { makeWeights, type Weights } from './weights.ts';

export interface LocalEngineOptions {
  /** A model directory. */
  model: string;
  /** Weights in products: f32, or bf16 with f32 master weights. Default f32. */
  dtype?: PackedType;
  /** Default true. A sampling-only engine takes a third of the memory. */
  trainable?: boolean;
  /** Default: `native`, else `wasm`. */
  kernels?: 'native' | 'wasm' | 'reference';
  threads?: number;
  /** Default 256 MiB. */
  cacheBytes?: number;
  /** Default 2 GiB. */
  activationBytes?: number;
  /** Compute shared prefixes once, in sampling and in training. Default true. */
  share?: boolean;
  /** Initialise a directory without weights from this seed. */
  initSeed?: number;
  /** How `save` stores weights. Default F32, which is exact. */
  saveAs?: 'F32' | 'BF16';
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
  options: Omit<LocalEngineOptions, 'model' | 'kernels' | 'threads'> = {},
): LocalCore {
  const { config, layout } = model;
  const { dtype = 'f32', trainable = true } = options;
  const values = ops.f32(layout.length);
  model.fill(values);
  const weights = makeWeights(ops, layout, values, dtype, trainable);
  const rope = makeRopeTable(ops, config);
  const { share = true, cacheBytes = CACHE_BYTES, activationBytes = ACTIVATION_BYTES } = options;
  const sampler = makeSampler(ops, config, weights, rope, { cacheBytes, share });
  const trainer = makeTrainer(ops, config, layout, weights, rope, { activationBytes, share });
  let reference: Weights | undefined;

  function training(): Trainer {
    if (!trainable)
      throw new R3Error(
        'engine',
        'bad-option',
        'training: expected an engine opened as trainable, got one opened for sampling only',
      );
    return trainer;
  }

  /** The start weights. Made when first asked for, which must be before they change. */
  function referenceWeights(): Weights {
    if (reference === undefined) {
      const copy = ops.f32(layout.length);
      model.fill(copy);
      reference = makeWeights(ops, layout, copy, dtype, false);
    }
    return reference;
  }

  function partOf(whole: Float32Array, name: string): Float32Array {
    const parameter = layout.parameters.find((p) => p.name === name);
    if (parameter === undefined)
      throw new R3Error(
        'engine',
        'bad-option',
        `parameter: expected one of ${layout.parameters.length} names such as ${layout.parameters[0]?.name}, got ${name}`,
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
      return (keep ? training() : trainer).forward(
        which === 'reference' ? referenceWeights() : weights,
        datums,
        temperature,
        keep,
      );
    },
    backward: (gradients) => training().backward(gradients),
    step(adam) {
      const result = training().step(adam);
      sampler.clear();
      return result;
    },
    gradientNorms: () => training().gradientNorms(),
    zeroGradients: () => void training().optimizer().gradient.fill(0),
    gradientOf: (name) => partOf(training().optimizer().gradient, name),
    valuesOf: (name) => partOf(values, name),
    save: (directory) => saveModel(model, values, directory, options.saveAs),
    async saveState(directory) {
      const { moment1, moment2, steps } = training().optimizer();
      await writeDirectoryAtomic(directory, (temporary) => {
        const shape = [layout.length];
        const tensor = (name: string, data: Float32Array) => ({ name, shape, data, dtype: 'F32' as const });
        writeSafetensors(
          join(temporary, STATE_FILE),
          [tensor('values', values), tensor('moment1', moment1), tensor('moment2', moment2)],
          { steps: String(steps), model: model.modelHash },
        );
      });
    },
    loadState(directory) {
      const path = join(directory, STATE_FILE);
      const state = training().optimizer();
      const metadata = readSafetensorsMetadata(path);
      if (metadata.model !== model.modelHash)
        throw new R3Error(
          'engine',
          'mismatch',
          `${path}: expected a checkpoint of the model ${model.modelHash}, got one of ${String(metadata.model)}. Resume with the model that the run began with.`,
        );
      const tensors = readSafetensors(path);
      for (const [name, target] of [
        ['values', values],
        ['moment1', state.moment1],
        ['moment2', state.moment2],
      ] as const) {
        const tensor = tensors.get(name);
        if (tensor === undefined || tensor.shape.join() !== String(layout.length))
          throw new R3Error(
            'engine',
            'mismatch',
            `${path}: expected a tensor ${name} of ${layout.length} numbers, got ${tensor === undefined ? 'none' : `[${tensor.shape.join(', ')}]`}`,
          );
        target.set(toF32(tensor));
      }
      state.steps = Number(metadata.steps);
      state.gradient.fill(0);
      weights.repack();
      sampler.clear();
    },
    stats: () => ({ ...sampler.counts, ...trainer.counts, peakBytes: ops.memory().peakBytes }),
    close: () => ops.close(),
  };
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
