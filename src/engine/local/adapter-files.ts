/**
 * LoRA adapters as PEFT stores them: adapter_config.json and adapter_model.safetensors in a folder.
 *
 * A config that asks for more than this engine computes (DoRA, ranks by pattern, trained biases, ...) is refused by
 * name. A written folder carries the base model's config, tokenizer and chat template too, so that commands take it
 * where they take a model. Facts: PEFT 0.21, tuners/lora/config.py.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { messageOf, R3Error } from '../../lib/errors.ts';
import { readTextFile } from '../../lib/files.ts';
import { parseJsonObject } from '../../lib/json.ts';
import { MAX_CONFIG_BYTES } from './config.ts';
import { fieldsOf, type Fields } from './fields.ts';
import { MAX_RANK, type LoraLayout, type LoraOptions } from './lora.ts';
import type { WritableTensor } from './safetensors.ts';

export const ADAPTER_CONFIG = 'adapter_config.json';

export interface AdapterConfig {
  options: LoraOptions;
  /** The base model, as the file names it: a folder, or a name on the hub. */
  base: string | undefined;
}

export function isAdapterFolder(directory: string): boolean {
  return existsSync(join(directory, ADAPTER_CONFIG));
}

/** Throws R3Error `bad-file` for a config that is not understood whole. */
export function loadAdapterConfig(directory: string): AdapterConfig {
  const path = join(directory, ADAPTER_CONFIG);
  try {
    return parseAdapterConfig(parseJsonObject(readTextFile(path, MAX_CONFIG_BYTES)), path);
  } catch (cause) {
    if (cause instanceof R3Error) throw cause;
    throw new R3Error(
      'engine',
      'bad-file',
      `${path}: ${messageOf(cause)}. It comes with the adapter: copy it again.`,
      {
        cause,
      },
    );
  }
}

export function parseAdapterConfig(json: Readonly<Record<string, unknown>>, path: string): AdapterConfig {
  const fields = fieldsOf(json, path, 'This engine computes plain LoRA adapters of linear layers.');
  fields.choice('peft_type', ['LORA']);
  const rank = fields.count('r', MAX_RANK, 8);
  const options: LoraOptions = {
    rank,
    alpha: fields.positive('lora_alpha') ?? 8,
    dropout: fields.share('lora_dropout'),
    rsLora: fields.flag('use_rslora', false),
    targets: readTargets(fields),
    layers: readLayers(fields),
  };
  const base = fields.text('base_model_name_or_path');
  fields.fixed('bias', 'none');
  // Other ways to begin (PiSSA, OLoRA) change the base model's weights too.
  if (fields.text('init_lora_weights', true) !== undefined) fields.fixed('init_lora_weights', 'gaussian');
  for (const name of ['fan_in_fan_out', 'use_dora', 'lora_bias', 'use_qalora', 'use_bdlora'])
    fields.fixed(name, false);
  for (const name of ['rank_pattern', 'alpha_pattern']) fields.object(name);
  fields.finish((name) => CHANGES_NOTHING.has(name) || name.startsWith('_'));
  return { options, base };
}

/** What only says how the adapter was made, or how it is to be trained further. */
const CHANGES_NOTHING = new Set(
  `task_type inference_mode revision auto_mapping layers_pattern runtime_config peft_version loftq_config eva_config
  corda_config qalora_group_size ensure_weight_tying arrow_config megatron_core`.split(/\s+/),
);

function readTargets(fields: Fields): LoraOptions['targets'] {
  if (fields.text('target_modules', true) === 'all-linear') return 'all-linear';
  const targets = fields.strings('target_modules');
  if (targets === undefined || targets.length === 0) {
    throw fields.refuse('target_modules', '"all-linear" or a list of module names');
  }
  return targets;
}

function readLayers(fields: Fields): number[] | null {
  if (!fields.has('layers_to_transform')) return null;
  if (fields.isNumber('layers_to_transform')) return [fields.countFrom0('layers_to_transform', 0)];
  return fields.numbers('layers_to_transform') ?? null;
}

/** What PEFT's `LoraConfig.from_pretrained` reads. */
export function adapterConfigJson(layout: LoraLayout, base: string): Record<string, unknown> {
  const { rank, alpha, dropout, rsLora, layers } = layout.options;
  return {
    peft_type: 'LORA',
    task_type: 'CAUSAL_LM',
    base_model_name_or_path: base,
    inference_mode: true,
    r: rank,
    lora_alpha: alpha,
    lora_dropout: dropout,
    use_rslora: rsLora,
    target_modules: layout.targets,
    layers_to_transform: layers,
    bias: 'none',
    fan_in_fan_out: false,
    init_lora_weights: true,
    modules_to_save: null,
  };
}

export function adapterTensors(layout: LoraLayout, values: Float32Array): WritableTensor[] {
  return layout.parameters.map(({ name, shape, offset, length }) => ({
    name,
    shape,
    dtype: 'F32',
    data: values.subarray(offset, offset + length),
  }));
}
