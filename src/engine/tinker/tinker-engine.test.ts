/** The engine on the strict server: the conformance suite, the scale of losses, what is refused, what is resumed. */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, expect, test } from 'vitest';
import { openEngineBackend } from '../../../test/tinker/engine-backend.ts';
import { SKYRL_JAX, STRICT, TCRL, type Quirks } from '../../../test/tinker/quirks.ts';
import { startTinkerServer, type TinkerServer } from '../../../test/tinker/server.ts';
import { describeEngine } from '../engine-suite.ts';
import type { AdamParams, Datum, Loss } from '../engine.ts';
import { openLocalEngine } from '../local/local-engine.ts';
import {
  openTinkerEngine,
  ORIGIN_FILE,
  type TinkerEngine,
  type TinkerEngineOptions,
} from './tinker-engine.ts';

const MODEL = fileURLToPath(new URL('../../../test/fixtures/llama/tiny-gqa', import.meta.url));
const { vocab_size: vocabularySize } = JSON.parse(readFileSync(join(MODEL, 'config.json'), 'utf8')) as {
  vocab_size: number;
};
const LORA = { rank: 4, seed: 7 };
const KEY = 'tml-nobodymayseethis';
const ADAM: AdamParams = { learningRate: 0.01, beta1: 0.9, beta2: 0.95, epsilon: 1e-3, weightDecay: 0 };
const DATUMS: readonly Datum[] = [
  { tokens: [3, 1, 4, 1, 5, 9, 2, 6], positions: [4, 5, 7] },
  { tokens: [2, 7, 1, 8, 2], positions: [2, 3] },
];
/** Neither linear nor of one sign: p, summed, minus a multiple of the log. */
const curved: Loss = (logprobs) => ({
  loss: logprobs.flatMap((row) => [...row]).reduce((sum, x) => sum + Math.exp(x) - 0.3 * x, 0),
  gradients: logprobs.map((row) => row.map((x, i) => Math.exp(x) - (i % 2 === 0 ? 0.3 : -0.2))),
  metrics: {},
});

const closing: (() => Promise<unknown>)[] = [];
const scratch = mkdtempSync(join(tmpdir(), 'tinker-engine-'));
afterAll(async () => {
  for (const close of closing.toReversed()) await close();
  rmSync(scratch, { recursive: true, force: true });
});

async function serve(quirks: Quirks = STRICT, options: { archives?: 'none' } = {}): Promise<TinkerServer> {
  const { lossReduction } = quirks;
  const backend = await openEngineBackend({ model: MODEL, lossReduction });
  const server = await startTinkerServer({ backend, quirks, apiKey: KEY, pollWindowMs: 20, ...options });
  closing.push(() => server.close());
  return server;
}

async function open(
  { url }: TinkerServer,
  options: Partial<TinkerEngineOptions> = {},
): Promise<TinkerEngine> {
  const engine = await openTinkerEngine({
    url,
    apiKey: KEY,
    baseModel: 'models/tiny',
    vocabularySize,
    contextLength: 64,
    lora: LORA,
    localModel: MODEL,
    ...options,
  });
  closing.push(() => engine.close());
  return engine;
}

const shared = serve();
describeEngine({
  name: 'Tinker',
  open: async () => open(await shared),
  openSampler: async () => open(await shared, { lora: undefined }),
  openSaved: (model) => openLocalEngine({ model, base: MODEL, thread: false, threads: 1 }),
  promises: {
    samplerTolerance: 1e-5,
    trainerTolerance: 1e-5,
    seeds: true,
    streams: false,
    learns: true,
    temperatures: [1],
    lacks: ['gradientNorms'],
  },
});

test.each([
  ['the protocol', STRICT, 'sum', []],
  ["SkyRL's JAX backend", SKYRL_JAX, 'sequence-mean', ['maxGradNorm', 'weightDecay']],
  ['TCRL', TCRL, 'sum', []],
] as const)(
  'on a service like %s, steps of a loss are those of the embedded engine',
  async (_, quirks, reduction, ignores) => {
    const engine = await open(await serve(quirks));
    expect(engine.service()).toMatchObject({ reduction, ignores });
    const lora = {
      rank: 4,
      alpha: 32,
      dropout: 0,
      rsLora: false,
      targets: 'all-linear' as const,
      layers: null,
    };
    const local = await openLocalEngine({ model: MODEL, thread: false, threads: 1, lora, seed: LORA.seed });
    closing.push(() => local.close());
    for (let step = 0; step < 2; step++) {
      // Two calls, so that the number of a step's datums is known only at its end.
      for (const datum of DATUMS) {
        const here = await local.forwardBackward([datum], curved);
        const there = await engine.forwardBackward([datum], curved);
        expect(there.loss).toBeCloseTo(here.loss, 4);
      }
      const [here, there] = [await local.step(ADAM), await engine.step(ADAM)];
      expect(there.gradientNorm / here.gradientNorm).toBeCloseTo(1, 4);
    }
    const [here, there] = [await local.logprobs(DATUMS), await engine.logprobs(DATUMS)];
    there.forEach((row, n) => row.forEach((x, i) => expect(x).toBeCloseTo(here[n]?.[i] ?? NaN, 4)));
  },
);

test.each([
  ['the protocol', STRICT],
  ["SkyRL's JAX backend", SKYRL_JAX],
] as const)(
  'after a restart of a service like %s, a saved state goes on in a new engine',
  async (_, quirks) => {
    const server = await serve(quirks);
    const engine = await open(server);
    const update = async (on: TinkerEngine): Promise<void> => {
      await on.forwardBackward(DATUMS, curved);
      await on.step(ADAM);
    };
    await update(engine);
    const state = join(scratch, `restart-${quirks.ids}`);
    await engine.saveState(state);
    await update(engine);
    const expected = await engine.logprobs(DATUMS);
    await server.restart('checkpoints');
    await expect(engine.logprobs(DATUMS)).rejects.toMatchObject({ name: 'R3Error' });
    const resumed = await open(server);
    await resumed.loadState(state);
    await update(resumed);
    expect(await resumed.logprobs(DATUMS)).toEqual(expected);
  },
);

test.each([
  ['the protocol', STRICT],
  ["SkyRL's JAX backend", SKYRL_JAX],
] as const)('what a run saved on a service like %s is sampled after the run', async (_, quirks) => {
  const server = await serve(quirks);
  const engine = await open(server);
  await engine.forwardBackward(DATUMS, curved);
  await engine.step(ADAM);
  const saved = join(scratch, `saved-${quirks.ids}`);
  await engine.save(saved);
  const expected = await engine.logprobs(DATUMS);
  await engine.close();
  const { path: modelPath, statePath } = JSON.parse(readFileSync(join(saved, ORIGIN_FILE), 'utf8')) as {
    path: string;
    statePath: string;
  };
  const sampler = await open(server, { lora: undefined, modelPath, statePath });
  const found = await sampler.logprobs(DATUMS);
  found.forEach((row, n) => row.forEach((x, i) => expect(x).toBeCloseTo(expected[n]?.[i] ?? NaN, 4)));
  const withoutState = await open(server, { lora: undefined, modelPath });
  if (quirks.samplesLoadedOnly) await expect(withoutState.logprobs(DATUMS)).rejects.toThrow('not loaded');
  else expect(await withoutState.logprobs(DATUMS)).toEqual(found);
});

test('a step that fails on its way is followed by no other until a state is loaded', async () => {
  const server = await serve();
  const engine = await open(server);
  const state = join(scratch, 'unsettled');
  await engine.saveState(state);
  await engine.forwardBackward(DATUMS, curved);
  server.expireSessions();
  await expect(engine.step(ADAM)).rejects.toMatchObject({ name: 'R3Error' });
  await expect(engine.forwardBackward(DATUMS, curved)).rejects.toMatchObject({ name: 'R3Error' });
  expect(JSON.stringify(engine.service())).not.toContain(KEY);
});

test('of a service without archives a saved model has the paths of its weights, and a note', async () => {
  const server = await serve(STRICT, { archives: 'none' });
  const notes: string[] = [];
  const engine = await open(server, { onNotice: (text) => notes.push(text) });
  const saved = join(scratch, 'without-archive');
  await engine.save(saved);
  expect(readdirSync(saved)).toEqual([ORIGIN_FILE]);
  expect(notes.join()).toContain('got 405');
  const { path: modelPath } = JSON.parse(readFileSync(join(saved, ORIGIN_FILE), 'utf8')) as { path: string };
  const sampler = await open(server, { lora: undefined, modelPath });
  expect(await sampler.logprobs(DATUMS)).toHaveLength(DATUMS.length);
});
