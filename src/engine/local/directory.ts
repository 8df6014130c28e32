/**
 * Model directories in the Hugging Face layout: read, initialised from a config alone, and written again.
 *
 * A written directory carries the tokenizer, chat template and generation config of the one it came from, so
 * that it behaves everywhere as it does here. It is filled aside and renamed into place.
 */
import { copyFileSync, existsSync } from 'node:fs';
import { join } from 'node:path';
import { R3Error } from '../../lib/errors.ts';
import { sha256File, writeDirectoryAtomic, writeFileAtomic } from '../../lib/files.ts';
import { hash32 } from '../../lib/rng.ts';
import { loadModelConfig, type ModelConfig } from './config.ts';
import { readSafetensors, toF32, writeSafetensors, type WritableTensor } from './safetensors.ts';
import { makeLayout, type Layout } from './weights.ts';

/** The file of a model directory that holds its weights. */
export const WEIGHTS = 'model.safetensors';
/** Files that travel with the weights as they are. */
const COMPANIONS = [
  'tokenizer.json',
  'tokenizer_config.json',
  'special_tokens_map.json',
  'generation_config.json',
  'chat_template.jinja',
];

export interface LoadedModel {
  directory: string;
  configJson: Record<string, unknown>;
  config: ModelConfig;
  layout: Layout;
  /** sha256 of the weights file; of an initialised model, `init-<seed>`. */
  modelHash: string;
  /** Fills `layout.length` floats. */
  fill(values: Float32Array): void;
}

/** Reads config and weights. With `initSeed`, a directory without weights is initialised from that seed. */
export function openModel(directory: string, initSeed?: number): LoadedModel {
  const { json, config } = loadModelConfig(directory);
  const layout = makeLayout(config);
  const path = join(directory, WEIGHTS);
  const common = { directory, configJson: json, config, layout };
  if (!existsSync(path)) {
    const index = `${path}.index.json`;
    if (existsSync(index)) {
      throw new R3Error(
        'engine',
        'bad-file',
        `${index}: expected the weights in one file, ${WEIGHTS}, got weights in several, which are not supported. Merge them, in Python with transformers: AutoModelForCausalLM.from_pretrained('FOLDER', torch_dtype='auto').save_pretrained('MERGED', max_shard_size='1TB'), copy the tokenizer files beside them, and name that folder.`,
      );
    }
    if (initSeed === undefined) {
      throw new R3Error(
        'engine',
        'bad-file',
        `${path}: expected the model's weights, got no such file. Name a folder that holds config.json and ${WEIGHTS}.`,
      );
    }
    return {
      ...common,
      modelHash: `init-${initSeed}`,
      fill: (values) => initialise(layout, config, values, initSeed),
    };
  }
  return {
    ...common,
    modelHash: sha256File(path),
    fill: (values) => fillFromFile(path, layout, config, values),
  };
}

function fillFromFile(path: string, layout: Layout, config: ModelConfig, values: Float32Array): void {
  const tensors = readSafetensors(path);
  for (const { name, shape, offset, length } of layout.parameters) {
    const tensor = tensors.get(name);
    if (tensor === undefined)
      throw new R3Error(
        'engine',
        'mismatch',
        `${path}: expected a tensor ${name} of shape [${shape.join(', ')}] as config.json says, got none. Are both files of the same model?`,
      );
    if (tensor.shape.join() !== shape.join()) {
      throw new R3Error(
        'engine',
        'mismatch',
        `${path}: ${name}: expected shape [${shape.join(', ')}] as config.json says, got [${tensor.shape.join(', ')}]. Are both files of the same model?`,
      );
    }
    values.set(toF32(tensor), offset);
    tensors.delete(name);
    const broken = countNotFinite(values, offset, offset + length);
    if (broken > 0)
      throw new R3Error(
        'engine',
        'bad-file',
        `${path}: ${name}: expected finite weights, got ${broken} of ${length} that are NaN or infinite. The file is damaged, or the training that wrote it diverged: copy it again, or take an earlier checkpoint.`,
      );
  }
  // A tied head may be stored twice; rotary frequencies are derived.
  const extra = [...tensors.keys()].filter(
    (name) => !(config.tiedHead && name === 'lm_head.weight') && !name.endsWith('rotary_emb.inv_freq'),
  );
  if (extra.length > 0)
    throw new R3Error(
      'engine',
      'mismatch',
      `${path}: expected only the tensors of a Llama model as config.json says, got also ${extra.slice(0, 3).join(', ')}${extra.length > 3 ? `, and ${extra.length - 3} more` : ''}. Are both files of the same model?`,
    );
}

/** How many of values [from, to) are NaN or infinite: what minus itself is not 0. */
function countNotFinite(values: Float32Array, from: number, to: number): number {
  let count = 0;
  for (let i = from; i < to; i++) {
    const value = values[i]!;
    if (value - value !== 0) count++;
  }
  return count;
}

/**
 * Embeddings N(0, 0.02); projections N(0, 1 / sqrt(fan-in)), those that write to the residual stream smaller by
 * sqrt(2 layers) (GPT-2); norms 1.
 */
function initialise(layout: Layout, config: ModelConfig, values: Float32Array, seed: number): void {
  layout.parameters.forEach(({ name, shape, offset, length }, index) => {
    if (shape.length === 1) {
      values.fill(1, offset, offset + length);
      return;
    }
    const toResidual = name.endsWith('o_proj.weight') || name.endsWith('down_proj.weight');
    const deviation =
      name === 'model.embed_tokens.weight'
        ? 0.02
        : (shape[1] as number) ** -0.5 * (toResidual ? (2 * config.layers) ** -0.5 : 1);
    for (let i = 0; i < length; i++) values[offset + i] = deviation * normal(seed, index, i);
  });
}

/** Box-Muller, one normal deviate per counter. */
function normal(seed: number, stream: number, counter: number): number {
  const u = (hash32(seed, stream, 2 * counter) + 1) / 0x100000001;
  const v = hash32(seed, stream, 2 * counter + 1) / 0x100000000;
  return Math.sqrt(-2 * Math.log(u)) * Math.cos(2 * Math.PI * v);
}

/** Writes a model directory. Throws R3Error `bad-file` when it exists, `no-space`. */
export async function saveModel(
  model: LoadedModel,
  values: Float32Array,
  directory: string,
  dtype: 'F32' | 'BF16' = 'F32',
): Promise<void> {
  await writeDirectoryAtomic(directory, (temporary) => {
    const name = dtype === 'F32' ? 'float32' : 'bfloat16';
    const { torch_dtype: _, ...config } = model.configJson;
    writeFileAtomic(
      join(temporary, 'config.json'),
      `${JSON.stringify({ ...config, dtype: name }, null, 2)}\n`,
    );
    for (const file of COMPANIONS) {
      if (existsSync(join(model.directory, file)))
        copyFileSync(join(model.directory, file), join(temporary, file));
    }
    const tensors: WritableTensor[] = model.layout.parameters.map((p) => ({
      name: p.name,
      shape: p.shape,
      dtype,
      data: values.subarray(p.offset, p.offset + p.length),
    }));
    writeSafetensors(join(temporary, WEIGHTS), tensors, { format: 'pt' });
  });
}
