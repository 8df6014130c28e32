/** The conformance suite over the engines that run here. */
import { fileURLToPath } from 'node:url';
import { hash32 } from '../lib/rng.ts';
import { describeEngine, type EnginePromises } from './engine-suite.ts';
import { makeFakeEngine, type FakeScript } from './fake.ts';
import { openLocalEngine, type LocalEngineOptions } from './local/local-engine.ts';

const MODEL = fileURLToPath(new URL('../../test/fixtures/llama/tiny-gqa', import.meta.url));
const BITS: EnginePromises = {
  samplerTolerance: 0,
  trainerTolerance: 0,
  seeds: true,
  streams: true,
  learns: true,
  temperatures: [1, 0.7],
  lacks: [],
};

const LOCAL: Record<string, Partial<LocalEngineOptions> & { thread?: boolean }> = {
  embedded: {},
  'embedded bf16 LoRA': {
    thread: false,
    dtype: 'bf16',
    lora: { rank: 4, alpha: 8, dropout: 0, rsLora: false, targets: 'all-linear', layers: null },
  },
};
for (const [name, options] of Object.entries(LOCAL)) {
  describeEngine({
    name,
    open: () => openLocalEngine({ model: MODEL, threads: 1, ...options }),
    openSampler: () => openLocalEngine({ model: MODEL, threads: 1, ...options, trainable: false }),
    openSaved: (model) => openLocalEngine({ threads: 1, ...options, model }),
    promises: BITS,
  });
}

/** Tokens that depend on everything that they may depend on. */
const script: FakeScript = (prompt, index, seed) =>
  Array.from({ length: 64 }, (_, i) => hash32(seed + prompt.length, index, i) % 40);
describeEngine({
  name: 'scripted',
  open: async () => makeFakeEngine(script, { vocabularySize: 40, contextLength: 64 }),
  openSampler: async () =>
    makeFakeEngine(script, { vocabularySize: 40, contextLength: 64, trainable: false }),
  promises: { ...BITS, learns: false },
});
