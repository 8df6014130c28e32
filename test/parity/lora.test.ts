/**
 * LoRA against PEFT: the adapters of test/fixtures/families, loaded from PEFT's own layout. Forward, every gradient
 * of A and B, greedy tokens, the weights below (the reference model), the adapter saved again, and merged.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { makeCore, type LocalCore } from '../../src/engine/local/core.ts';
import { openModel, saveModel } from '../../src/engine/local/directory.ts';
import { mergedWith } from '../../src/engine/local/lora.ts';
import { openWeights } from '../../src/engine/local/weights-files.ts';
import { explainKernels, loadKernels } from '../../src/kernels/load.ts';
import {
  accumulate,
  distributionDeviation,
  gradientDeviation,
  greedyTokens,
  LIMITS,
  loadFixture,
  openFixture,
  scoreDeviation,
} from './families-testing.ts';

const ADAPTERS = [
  ['gemma2', 'lora'],
  ['gemma3', 'lora'],
  ['llama', 'lora'],
  ['llama-bias', 'lora'],
  ['llama3', 'lora'],
  ['llama3', 'rslora'],
  ['mistral', 'lora'],
  ['olmo2', 'lora'],
  ['phi3', 'lora'],
  ['qwen2', 'lora'],
  ['qwen3', 'lora'],
  ['smollm3', 'lora'],
] as const;

const FIXTURES = fileURLToPath(new URL('../fixtures/families', import.meta.url));
const builds = explainKernels().filter((report) => report.available);

describe.each(builds.map((b) => b.build))('%s kernels', async (build) => {
  const ops = await loadKernels({ build, threads: 2 });

  describe.each(ADAPTERS)('%s/%s', (name, adapter) => {
    const fixture = loadFixture(join(FIXTURES, name));
    const expected = fixture.expected.adapters[adapter]!;
    const model = openFixture(fixture, join(fixture.directory, adapter));
    const open = (): LocalCore => makeCore(ops, model, { cacheBytes: 1 << 20 });

    test('log-probabilities with the adapter', () => {
      expect(scoreDeviation(open(), fixture, { of: `${adapter}.` })).toBeLessThan(LIMITS.logits);
    });

    test('the reference model is the weights without the adapter', () => {
      expect(scoreDeviation(open(), fixture, { weights: 'reference' })).toBeLessThan(LIMITS.logits);
    });

    test('64 greedy tokens with the cache', () => {
      expect(greedyTokens(open(), expected.greedy)).toEqual(expected.greedy.tokens);
    });

    test('the gradient of every A and B', () => {
      const core = open();
      expect(accumulate(core, fixture)).toBeCloseTo(expected.loss, 5);
      const worst = gradientDeviation(core, fixture, `${adapter}.`);
      expect(worst.deviation, worst.name).toBeLessThan(LIMITS.gradients);
    });

    test('saved, it is the adapter that was read', async () => {
      await inFolder(async (folder) => {
        await open().save(join(folder, 'saved'));
        const [read, saved] = [join(fixture.directory, adapter), join(folder, 'saved')].map((directory) => ({
          tensors: tensorsOf(directory),
          settings: adapterSettings(directory),
        }));
        expect(saved).toEqual(read);
      });
    });

    test('merged, the weights give the same', async () => {
      await inFolder(async (folder) => {
        const { layout, values } = model.adapter!;
        await saveModel(model, mergedWith(model.read, layout, values), join(folder, 'merged'));
        const { contextLength } = model.config;
        const saved = openModel(join(folder, 'merged'), { contextLength });
        const merged = makeCore(ops, saved, { cacheBytes: 1 << 20 });
        expect(distributionDeviation(merged, fixture, `${adapter}.mergedLogits`)).toBeLessThan(LIMITS.logits);
        expect(scoreDeviation(merged, fixture, { of: `${adapter}.` })).toBeLessThan(LIMITS.logits);
      });
    });
  });
});

async function inFolder(use: (folder: string) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'r3-lora-'));
  try {
    await use(folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Names, shapes and values of an adapter's tensors. */
function tensorsOf(directory: string): unknown[] {
  const files = openWeights(directory, 'adapter_model');
  const names = [...files.tensors.keys()].sort();
  const tensors = names.map((name) => [name, files.tensors.get(name)?.shape, [...files.readF32(name)]]);
  files.close();
  return tensors;
}

/** What an adapter_config.json says of the computation. */
function adapterSettings(directory: string): unknown {
  const json = JSON.parse(readFileSync(join(directory, 'adapter_config.json'), 'utf8')) as Record<
    string,
    unknown
  >;
  const { peft_type, task_type, r, lora_alpha, lora_dropout, use_rslora, bias, layers_to_transform } = json;
  return {
    peft_type,
    task_type,
    r,
    lora_alpha,
    lora_dropout,
    use_rslora,
    bias,
    layers_to_transform,
    // PEFT may write the full names of modules.
    target_modules: [
      ...new Set((json['target_modules'] as string[]).map((name) => name.slice(name.lastIndexOf('.') + 1))),
    ].sort(),
  };
}
