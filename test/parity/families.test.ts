/**
 * The embedded engine against transformers, family by family: the fixtures are described in
 * test/fixtures/families/README.md, the reason for the tolerances stands beside LIMITS. Adding a family is one more
 * name here, once scripts/fixtures/families.py has it. Runs over every build of the kernels that this machine has.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { parseModelConfig } from '../../src/engine/local/config.ts';
import { makeCore, type LocalCore } from '../../src/engine/local/core.ts';
import { openModel } from '../../src/engine/local/directory.ts';
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

/** Forward, every gradient, greedy tokens, and back to a directory. */
const FAMILIES = [
  'gemma2',
  'gemma3',
  'llama',
  'llama-bias',
  'llama3',
  'mistral',
  'olmo2',
  'phi3',
  'phi3-long',
  'phi3-short',
  'qwen2',
  'qwen2-window',
  'qwen3',
  'smollm3',
];
/** Ways to store weights: the same without gradients. */
const STORED = ['stored-bf16', 'stored-f16', 'stored-shards', 'stored-tied-head'];

const FIXTURES = fileURLToPath(new URL('../fixtures/families', import.meta.url));
const builds = explainKernels().filter((report) => report.available);

test.each([...FAMILIES, ...STORED])(
  '%s: config.json of transformers 4 says the same as that of 5',
  (name) => {
    const [v5, v4] = ['config.json', 'config.v4.json'].map((file) => {
      const json = JSON.parse(readFileSync(join(FIXTURES, name, file), 'utf8')) as Record<string, unknown>;
      return parseModelConfig(json, file);
    });
    expect(v4).toEqual(v5);
  },
);

test.each([...FAMILIES, ...STORED])('%s: what is saved are the tensors that were read', async (name) => {
  const directory = join(FIXTURES, name);
  const model = openModel(directory);
  const parent = mkdtempSync(join(tmpdir(), 'r3-families-'));
  try {
    const core = makeCore(await loadKernels(), model, { cacheBytes: 1 << 20, trainable: false });
    await core.save(join(parent, 'saved'));
    const again = openModel(join(parent, 'saved'));
    expect(again.config).toEqual(model.config);
    const read = storedTensors(directory);
    if (model.config.tiedHead) read.delete('lm_head.weight');
    const saved = storedTensors(join(parent, 'saved'));
    expect([...saved.keys()].sort()).toEqual([...read.keys()].sort());
    for (const [tensor, values] of saved) expect(values.equals(read.get(tensor)!), tensor).toBe(true);
  } finally {
    rmSync(parent, { recursive: true });
  }
});

describe.each(builds.map((b) => b.build))('%s kernels', async (build) => {
  const ops = await loadKernels({ build, threads: 2 });

  describe.each([...FAMILIES, ...STORED])('%s', (name) => {
    const fixture = loadFixture(join(FIXTURES, name));
    const model = openFixture(fixture);
    const open = (): LocalCore => makeCore(ops, model, { cacheBytes: 1 << 20 });

    test('log-probabilities of the sequences', () => {
      expect(scoreDeviation(open(), fixture)).toBeLessThan(LIMITS.logits);
    });

    test('the distribution at every position, over the whole vocabulary', () => {
      expect(distributionDeviation(open(), fixture)).toBeLessThan(LIMITS.logits);
    });

    test('64 greedy tokens with the cache', () => {
      expect(greedyTokens(open(), fixture.expected.greedy)).toEqual(fixture.expected.greedy.tokens);
    });
  });

  test.each(FAMILIES)('%s: the gradient of every parameter', (name) => {
    const fixture = loadFixture(join(FIXTURES, name));
    const core = makeCore(ops, openFixture(fixture), { cacheBytes: 1 << 20 });
    expect(accumulate(core, fixture)).toBeCloseTo(fixture.expected.loss, 5);
    const worst = gradientDeviation(core, fixture);
    expect(worst.deviation, worst.name).toBeLessThan(LIMITS.gradients);
  });
});

/** The bytes of every tensor of a model directory, as F32. */
function storedTensors(directory: string): Map<string, Buffer> {
  const files = openWeights(directory);
  const read = [...files.tensors.keys()].map((name): [string, Buffer] => {
    const { buffer, byteOffset, byteLength } = files.readF32(name);
    return [name, Buffer.from(buffer, byteOffset, byteLength)];
  });
  files.close();
  return new Map(read);
}
