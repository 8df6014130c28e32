/**
 * Model directories in the Hugging Face layout: opened, initialised from a config alone, and written again.
 *
 * A directory holds a model, or a LoRA adapter that names its base model. Weights are read when they are asked for,
 * strip by strip. A written directory carries the tokenizer, chat template and generation config of the one it came
 * from, so that it behaves everywhere as it does here. It is filled aside and renamed into place.
 */
import { createHash } from 'node:crypto';
import { cpSync, existsSync } from 'node:fs';
import { isAbsolute, join, resolve } from 'node:path';
import { R3Error } from '../../lib/errors.ts';
import { writeDirectoryAtomic, writeFileAtomic } from '../../lib/files.ts';
import { hash32 } from '../../lib/rng.ts';
import type { WeightsKind } from '../../lib/weights-index.ts';
import {
  ADAPTER_CONFIG,
  adapterConfigJson,
  adapterTensors,
  isAdapterFolder,
  loadAdapterConfig,
} from './adapter-files.ts';
import { loadModelConfig, withContext, type ModelConfig } from './config.ts';
import { makeLoraLayout, type LoraLayout } from './lora.ts';
import type { FloatType, WritableTensor } from './safetensors.ts';
import { findWeights, openWeights, saveWeights, type WeightsFiles } from './weights-files.ts';
import { makeLayout, type Layout, type Parameter, type ReadParameter } from './weights.ts';

/** Files that travel with the weights as they are. */
const COMPANIONS = [
  'tokenizer.json',
  'tokenizer_config.json',
  'tokenizer.model',
  'vocab.json',
  'merges.txt',
  'added_tokens.json',
  'special_tokens_map.json',
  'generation_config.json',
  'chat_template.jinja',
  'chat_template.json',
  'additional_chat_templates',
];

export interface LoadedModel {
  /** Where the weights of the model itself are; of an adapter, those of its base. */
  directory: string;
  /** The text of config.json. It is written back as it is: some readers tell 30.0 from 30. */
  configText: string;
  /** With the context that the engine computes. */
  config: ModelConfig;
  layout: Layout;
  /** sha256 of the weights; of an initialised model, `init-<seed>`. */
  modelHash: string;
  read: ReadParameter;
  /** The directory's adapter, where it is one. */
  adapter: { layout: LoraLayout; values: Float32Array; base: string | undefined } | null;
  /** Closes the files; nothing can be read afterwards. */
  close(): void;
}

export interface OpenOptions {
  /** Initialise a directory without weights from this seed. */
  initSeed?: number | undefined;
  /** The longest sequence, in tokens. Default: the model's, at most DEFAULT_CONTEXT. */
  contextLength?: number | undefined;
  /** The folder of an adapter's base model, where its config names another place. */
  base?: string | undefined;
}

/** Reads config and the table of weights. With `initSeed`, a directory without weights is initialised from that seed. */
export function openModel(directory: string, options: OpenOptions = {}): LoadedModel {
  return isAdapterFolder(directory) ? openAdapted(directory, options) : openBase(directory, options);
}

/** The folder with the config.json of a model, or of an adapter's base model. */
export function configFolder(directory: string, base?: string): string {
  if (!isAdapterFolder(directory)) return directory;
  return base ?? baseFolder(directory, loadAdapterConfig(directory).base);
}

/** The config that `openModel` would compute, without opening the weights. */
export function openedConfig(directory: string, { base, contextLength }: OpenOptions): ModelConfig {
  return withContext(loadModelConfig(configFolder(directory, base)).config, contextLength);
}

/**
 * Throws what `openModel` throws for a directory that is not whole. Reads configs, indexes and the headers of the
 * weights, and no values.
 */
export function checkModelDirectory(directory: string, { base }: Pick<OpenOptions, 'base'> = {}): void {
  const folder = configFolder(directory, base);
  const { config } = loadModelConfig(folder);
  const layout = makeLayout(config);
  if (isAdapterFolder(directory)) {
    const { parameters } = makeLoraLayout(layout, loadAdapterConfig(directory).options);
    openTensors(directory, 'adapter_model', parameters, config).close();
  }
  openTensors(folder, 'model', layout.parameters, config).close();
}

function openBase(directory: string, { initSeed, contextLength }: OpenOptions): LoadedModel {
  const { text, config: full } = loadModelConfig(directory);
  const config = withContext(full, contextLength);
  const layout = makeLayout(config);
  const common = { directory, configText: text, config, layout, adapter: null };
  if (initSeed !== undefined && findWeights(directory) === undefined) {
    return {
      ...common,
      modelHash: `init-${initSeed}`,
      read: (parameter, from, count, into) =>
        initialise(
          layout.parameters.indexOf(parameter),
          parameter,
          config,
          initSeed,
          from,
          into.subarray(0, count),
        ),
      close: () => undefined,
    };
  }
  const files = openTensors(directory, 'model', layout.parameters, config);
  return { ...common, modelHash: files.hash(), read: readChecked(files), close: () => files.close() };
}

function openAdapted(directory: string, options: OpenOptions): LoadedModel {
  const { options: lora, base } = loadAdapterConfig(directory);
  const model = openBase(configFolder(directory, options.base), options);
  const files = openWeights(directory, 'adapter_model');
  try {
    const layout = makeLoraLayout(model.layout, lora);
    checkTensors(files, layout.parameters, model.config);
    const values = new Float32Array(layout.length);
    const read = readChecked(files);
    for (const p of layout.parameters) read(p, 0, p.length, values.subarray(p.offset, p.offset + p.length));
    const modelHash = createHash('sha256').update(model.modelHash).update(files.hash()).digest('hex');
    return { ...model, modelHash, adapter: { layout, values, base } };
  } catch (error) {
    model.close();
    throw error;
  } finally {
    files.close();
  }
}

/** The folder of an adapter's base model: as named, from here or from the adapter's own folder. */
function baseFolder(directory: string, base: string | undefined): string {
  const places =
    base === undefined ? [] : isAbsolute(base) ? [base] : [resolve(directory, base), resolve(base)];
  const found = places.find((place) => existsSync(join(place, 'config.json')));
  if (found !== undefined) return found;
  throw new R3Error(
    'engine',
    'bad-file',
    `${join(directory, ADAPTER_CONFIG)}: base_model_name_or_path: expected the folder of the adapter's base model, got ${JSON.stringify(base ?? null)}. Download it (r3 pull), or write the path of its folder there.`,
  );
}

/** The weights of a folder, which hold these parameters and nothing else. */
function openTensors(
  directory: string,
  kind: WeightsKind,
  parameters: readonly Parameter[],
  config: ModelConfig,
): WeightsFiles {
  const files = openWeights(directory, kind);
  try {
    checkTensors(files, parameters, config);
    return files;
  } catch (error) {
    files.close();
    throw error;
  }
}

/** The files hold these parameters, in these shapes, and nothing else. */
function checkTensors(files: WeightsFiles, parameters: readonly Parameter[], config: ModelConfig): void {
  const left = new Map(files.tensors);
  for (const { name, shape } of parameters) {
    const tensor = left.get(name);
    const says = `shape [${shape.join(', ')}] as the config says`;
    if (tensor === undefined) throw mismatch(`${files.path}: expected a tensor ${name} of ${says}, got none`);
    if (tensor.shape.join() !== shape.join())
      throw mismatch(`${tensor.file}: ${name}: expected ${says}, got [${tensor.shape.join(', ')}]`);
    left.delete(name);
  }
  // A tied head may be stored twice; rotary frequencies are derived.
  const extra = [...left.keys()].filter(
    (name) => !(config.tiedHead && name === 'lm_head.weight') && !name.endsWith('rotary_emb.inv_freq'),
  );
  if (extra.length > 0)
    throw mismatch(
      `${files.path}: expected only the tensors that the config (${config.family}) asks for, got also ${extra.slice(0, 3).join(', ')}${extra.length > 3 ? `, and ${extra.length - 3} more` : ''}`,
    );
}

function mismatch(why: string): R3Error {
  return new R3Error('engine', 'mismatch', `${why}. Are all files of the same model?`);
}

/** Reads that refuse what is not a number. */
function readChecked(files: WeightsFiles): ReadParameter {
  return ({ name }, from, count, into) => {
    files.readF32(name, from, count, into);
    const broken = countNotFinite(into, 0, count);
    if (broken > 0)
      throw new R3Error(
        'engine',
        'bad-file',
        `${files.tensors.get(name)?.file ?? files.path}: ${name}: expected finite weights, got ${broken} of ${count} that are NaN or infinite. The file is damaged, or the training that wrote it diverged: copy it again, or take an earlier checkpoint.`,
      );
  };
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
 * sqrt(2 layers) (GPT-2); norms 1, biases 0. Floats [from, from + values.length) of a parameter.
 */
function initialise(
  index: number,
  { name, shape }: Parameter,
  config: ModelConfig,
  seed: number,
  from: number,
  values: Float32Array,
): void {
  if (shape.length === 1) {
    values.fill(name.endsWith('.bias') || config.normsLessOne ? 0 : 1);
    return;
  }
  const toResidual = name.endsWith('o_proj.weight') || name.endsWith('down_proj.weight');
  const deviation =
    name === 'model.embed_tokens.weight'
      ? 0.02
      : (shape[1] as number) ** -0.5 * (toResidual ? (2 * config.layers) ** -0.5 : 1);
  for (let i = 0; i < values.length; i++) values[i] = deviation * normal(seed, index, from + i);
}

/** Box-Muller, one normal deviate per counter. */
function normal(seed: number, stream: number, counter: number): number {
  const u = (hash32(seed, stream, 2 * counter) + 1) / 0x100000001;
  const v = hash32(seed, stream, 2 * counter + 1) / 0x100000000;
  return Math.sqrt(-2 * Math.log(u)) * Math.cos(2 * Math.PI * v);
}

/** Writes a model directory with these values. Throws R3Error `bad-file` when it exists, `no-space`. */
export async function saveModel(
  model: LoadedModel,
  read: ReadParameter,
  directory: string,
  dtype: FloatType = 'F32',
): Promise<void> {
  await writeDirectoryAtomic(directory, (temporary) => {
    writeFileAtomic(join(temporary, 'config.json'), withStoreType(model.configText, DTYPE_NAMES[dtype]));
    copyCompanions(model.directory, temporary);
    saveWeights(
      temporary,
      model.layout.parameters.map((parameter) => ({ ...stored(parameter, read), dtype })),
    );
  });
}

const DTYPE_NAMES = { F32: 'float32', BF16: 'bfloat16', F16: 'float16' } as const satisfies Record<
  FloatType,
  string
>;
/** `torch_dtype` is the name of transformers 4. */
const DTYPE_FIELD = /"((?:torch_)?dtype)"\s*:\s*(?:"([^"]*)"|null)/g;

/** How the model's own weights are stored, as its config says. */
export function storedAs({ configText }: LoadedModel): FloatType {
  const [, , name] = [...configText.matchAll(DTYPE_FIELD)][0] ?? [];
  const types = Object.keys(DTYPE_NAMES) as FloatType[];
  return types.find((type) => DTYPE_NAMES[type] === name) ?? 'F32';
}

function withStoreType(text: string, name: string): string {
  const changed = text.replace(DTYPE_FIELD, `"$1": "${name}"`);
  return changed.search(DTYPE_FIELD) >= 0 ? changed : text.replace('{', `{\n  "dtype": "${name}",`);
}

/** A tensor that is read while it is written. */
function stored(parameter: Parameter, read: ReadParameter): Omit<WritableTensor, 'dtype'> {
  const { name, shape } = parameter;
  const rowLength = parameter.length / (shape[0] as number);
  return {
    name,
    shape,
    data: (from, count) => {
      const values = new Float32Array(count * rowLength);
      read(parameter, from * rowLength, values.length, values);
      return values;
    },
  };
}

/**
 * Writes an adapter directory, as PEFT does. `base`: what it names its base model; by default what the adapter named
 * it that it continues, else that folder's path.
 */
export async function saveAdapter(
  model: LoadedModel,
  layout: LoraLayout,
  values: Float32Array,
  directory: string,
  base = model.adapter?.base ?? resolve(model.directory),
): Promise<void> {
  await writeDirectoryAtomic(directory, (temporary) => {
    const config = JSON.stringify(adapterConfigJson(layout, base), null, 2);
    writeFileAtomic(join(temporary, ADAPTER_CONFIG), `${config}\n`);
    writeFileAtomic(join(temporary, 'config.json'), model.configText);
    copyCompanions(model.directory, temporary);
    saveWeights(temporary, adapterTensors(layout, values), { kind: 'adapter_model' });
  });
}

function copyCompanions(from: string, to: string): void {
  for (const file of COMPANIONS) {
    // What a hub's cache holds are links: their targets are copied.
    if (existsSync(join(from, file)))
      cpSync(join(from, file), join(to, file), { recursive: true, dereference: true });
  }
}
