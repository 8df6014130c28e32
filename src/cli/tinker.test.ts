/** `--engine tinker` on the strict server: a run and its resume, mining, evaluation, refusals, the plan in tokens. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { openEngineBackend } from '../../test/tinker/engine-backend.ts';
import { SKYRL_JAX } from '../../test/tinker/quirks.ts';
import { startTinkerServer, type TinkerServer } from '../../test/tinker/server.ts';
import { runInPlace, type Outcome } from './testing.ts';

const START = fileURLToPath(new URL('../../models/start', import.meta.url));
const KEY = 'tml-nobodymayseethis';
const folder = mkdtempSync(join(tmpdir(), 'r3-tinker-'));
const PROBLEMS = join(folder, 'problems.jsonl');
const RUN = join(folder, 'run');

let server: TinkerServer;
beforeAll(async () => {
  const rows = Array.from({ length: 6 }, (_, i) => ({ nums: [3 + i, 7, 1 + i], target: 11 + 2 * i }));
  writeFileSync(PROBLEMS, rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
  const backend = await openEngineBackend({ model: START, lossReduction: SKYRL_JAX.lossReduction });
  server = await startTinkerServer({ backend, quirks: SKYRL_JAX, apiKey: KEY, pollWindowMs: 20 });
});
afterAll(async () => {
  await server.close();
  rmSync(folder, { recursive: true, force: true });
});

const COMMON = ['--engine', 'tinker', '--model', 'models/tiny', '--tokenizer', START, '--task', 'countdown'];
const TEXTS = ['--prompts', 'short', '--problems', PROBLEMS];
const ATTEMPTS = ['--max-attempt-tokens', '16', '--context', '256'];
const TURNS = [...ATTEMPTS, '--max-reflection-tokens', '24'];
const STEPS = ['--failures-per-step', '2', '--num-generations', '2', '--samples', '2', '--lora', '4'];
const TRAIN = ['train', ...COMMON, ...TEXTS, ...TURNS, ...STEPS];

function r3(args: readonly string[]): Promise<Outcome> {
  return runInPlace(args, { TINKER_BASE_URL: server.url, TINKER_API_KEY: KEY });
}

/** All that is written in a folder, as one text. */
function textOf(directory: string): string {
  return readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => readFileSync(join(entry.parentPath, entry.name), 'latin1'))
    .join('\n');
}

test('a run on a service has its facts in its folder, and never the key', async () => {
  const refused = await r3([...TRAIN, '--run', RUN, '--steps', '1']);
  expect(refused.stderr).toContain('maxGradNorm');
  expect(refused.code).not.toBe(0);
  const trained = await r3([...TRAIN, '--no-max-grad-norm', '--run', RUN, '--steps', '2', '--json']);
  expect(trained.code, trained.stderr).toBe(0);
  expect(JSON.parse(trained.stdout)).toMatchObject({ steps: 2, metrics: { grad_norm: expect.any(Number) } });
  const config = JSON.parse(readFileSync(join(RUN, 'config.json'), 'utf8')) as Record<string, unknown>;
  expect(config).toMatchObject({
    engine: 'tinker',
    service: { url: server.url, baseModel: 'models/tiny', rank: 4, reduction: 'sequence-mean' },
  });
  expect(textOf(RUN) + trained.stdout + trained.stderr).not.toContain(KEY);
  // The saved adapter names the folder with the base model's weights.
  const adapter = JSON.parse(readFileSync(join(RUN, 'model/adapter_config.json'), 'utf8')) as object;
  expect(adapter).toMatchObject({ base_model_name_or_path: START, r: 4, lora_alpha: 32 });
  // What was saved is found again, here by its path on the service.
  const out = join(folder, 'evaluation');
  const evaluated = await r3([
    'eval',
    '--engine',
    'tinker',
    '--run',
    RUN,
    '--tokenizer',
    START,
    '--problems',
    PROBLEMS,
    '--limit',
    '2',
    '--controls',
    'none',
    '--out',
    out,
    '--json',
  ]);
  expect(evaluated.code, evaluated.stderr).toBe(0);
}, 120_000);

test('failures are mined from the base model of a service', async () => {
  const out = join(folder, 'failures.jsonl');
  const mined = await r3([
    'mine',
    ...COMMON,
    ...TEXTS,
    ...ATTEMPTS,
    '--samples',
    '1',
    '--out',
    out,
    '--json',
  ]);
  expect(mined.code, mined.stderr).toBe(0);
  expect(JSON.parse(mined.stdout)).toMatchObject({ problems: 6, attempts: 6 });
});

test('a plan says tokens and asks the service for nothing', async () => {
  // Nothing listens there.
  const plan = [...TRAIN, '--steps', '3', '--dry-run', '--url', 'http://127.0.0.1:1'];
  const { code, stdout, stderr } = await r3(plan);
  expect(code, stderr).toBe(0);
  // 2 failures with 2 reflections of 24 tokens and a retry of 16 each: 160; 6 problems with 2 attempts of 16 before.
  expect(stdout).toMatch(/sampled +160 +192 +672/);
});

test.each([
  [['--temperature', '0.7'], '--temperature: expected 1'],
  [['--url', 'http://me:pass@h', '--dry-run'], 'put the key into TINKER_API_KEY'],
  [['--url', 'http://h?token=abc', '--dry-run'], 'one with a query or a fragment'],
  [['--dtype', 'bf16'], '--dtype: expected none with --engine tinker'],
  [['--lora-alpha', '8'], '--lora-alpha: expected none with --engine tinker'],
  [['--min-p', '0.1'], '--min-p: expected none with --engine tinker'],
])('%j is refused by name', async (more, message) => {
  const { code, stderr } = await r3([...TRAIN, ...more]);
  expect(code).toBe(2);
  expect(stderr).toContain(message);
});

test('what belongs to a service is refused without it', async () => {
  const { code, stderr } = await runInPlace([
    'train',
    '--model',
    START,
    '--task',
    'countdown',
    '--url',
    'http://h',
  ]);
  expect(code).toBe(2);
  expect(stderr).toContain('--url: expected an --engine that is a service beside it, got local');
});
