/** A run on a service that ends its session, is restarted or loses a result: it stops with one error, and is resumed to the same end. */
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { openEngineBackend } from '../../test/tinker/engine-backend.ts';
import type { Fault } from '../../test/tinker/faults.ts';
import { startTinkerServer, type TinkerServer } from '../../test/tinker/server.ts';
import { runInPlace, type Outcome } from './testing.ts';

const START = fileURLToPath(new URL('../../models/start', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'r3-tinker-resume-'));
const PROBLEMS = join(folder, 'problems.jsonl');
const STEPS = 3;
const SERVICE = ['--engine', 'tinker', '--model', 'models/tiny', '--tokenizer', START, '--lora', '4'];
const TASK = ['--task', 'countdown', '--prompts', 'short', '--problems', PROBLEMS, '--samples', '2'];
const TURNS = ['--max-attempt-tokens', '16', '--max-reflection-tokens', '24', '--context', '256'];
const GROUPS = ['--failures-per-step', '2', '--num-generations', '2'];
const STEPS_OF_RUN = ['--steps', String(STEPS), '--checkpoint-every', '2'];
const TRAIN = ['train', ...SERVICE, ...TASK, ...TURNS, ...GROUPS, ...STEPS_OF_RUN];
const path = (...names: string[]): string => join(folder, ...names);

let server: TinkerServer;
/** Requests of the run that nothing disturbs. */
let stepRequests: number;
beforeAll(async () => {
  const rows = Array.from({ length: 6 }, (_, i) => ({ nums: [3 + i, 7, 1 + i], target: 11 + 2 * i }));
  writeFileSync(PROBLEMS, rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
  server = await startTinkerServer({ backend: await openEngineBackend({ model: START }), pollWindowMs: 20 });
  const whole = await r3([...TRAIN, '--run', path('whole')]);
  if (whole.code !== 0) throw new Error(whole.stderr);
  stepRequests = server.counts.get('optim_step') ?? 0;
}, 120_000);
afterAll(async () => {
  await server.close();
  rmSync(folder, { recursive: true, force: true });
});

function r3(args: readonly string[], env = { TINKER_BASE_URL: server.url }): Promise<Outcome> {
  return runInPlace(args, env);
}
const resume = (run: string, ...more: string[]): Promise<Outcome> =>
  r3(['train', '--resume', path(run), ...more]);
const textOf = (...names: string[]): string => readFileSync(path(...names), 'latin1');

/** Each episode and step once, and the same weights. */
function expectWhole(run: string): void {
  for (const log of ['metrics.jsonl', 'episodes.jsonl', 'failures.jsonl'])
    expect(textOf(run, log) === textOf('whole', log), log).toBe(true);
  const weights = 'model/adapter_model.safetensors';
  expect(textOf(run, weights) === textOf('whole', weights)).toBe(true);
}

/** One line at the end says what was wrong and how to go on. */
function expectWayOn({ code, stderr }: Outcome, run: string, kept: string): string {
  expect(code).toBe(1);
  const lines = stderr
    .trimEnd()
    .split('\n')
    .filter((line) => line.startsWith('r3: '));
  expect(lines, stderr).toHaveLength(1);
  expect(lines[0]).toContain(`${kept}; when that is mended, go on with: r3 train --resume ${path(run)}`);
  return lines[0] ?? '';
}

const restart = (when: 'before' | 'after', keeps: 'memory' | 'checkpoints'): Fault => ({
  kind: 'restart',
  when,
  keeps,
  downMs: 0,
});

test.each<[what: string, endpoint: string, fault: Fault, step: number, kept: string]>([
  ['restarted before the optimizer step', 'optim_step', restart('before', 'checkpoints'), 2, 'step 0'],
  ['restarted after the optimizer step', 'optim_step', restart('after', 'checkpoints'), 3, 'step 2'],
  ['whose session expires', 'optim_step', { kind: 'expire' }, 2, 'step 0'],
  ['that loses a result', 'optim_step', { kind: 'lost', status: 410, of: 'any' }, 1, 'step 0'],
])(
  'a run on a service %s stops, and is resumed to the same end',
  async (what, endpoint, fault, step, kept) => {
    const run = what.replaceAll(' ', '-');
    // The steps of the run are the last ones; those before are measurements.
    server.faults.add(endpoint, fault, 1, stepRequests - STEPS + step - 1);
    const stopped = await r3([...TRAIN, '--run', path(run)]);
    expect(server.faults.left()).toBe(0);
    expect(expectWayOn(stopped, run, `The run is kept up to ${kept}`)).toContain(
      'the service no longer knows it',
    );
    const resumed = await resume(run);
    expect(resumed.code, resumed.stderr).toBe(0);
    expectWhole(run);
  },
  120_000,
);

test('a run goes on over a restart that the service got over itself', async () => {
  server.faults.add('optim_step', restart('after', 'memory'), 1, stepRequests - STEPS + 1);
  const trained = await r3([...TRAIN, '--run', path('over')]);
  expect(trained.code, trained.stderr).toBe(0);
  expect(server.faults.left()).toBe(0);
  expectWhole('over');
}, 120_000);

test('a service without a place for the model is named, and the run goes on when there is one, at another address', async () => {
  cpSync(path('whole'), path('full'), { recursive: true });
  for (const name of ['checkpoints/000003', 'model']) rmSync(path('full', name), { recursive: true });
  const config = JSON.parse(textOf('full', 'config.json')) as { service: object };
  const service = { ...config.service, url: 'http://127.0.0.1:1' };
  writeFileSync(path('full', 'config.json'), JSON.stringify({ ...config, service }));
  server.faults.add('create_model', { kind: 'full' }, 1, 1);
  const full = await resume('full', '--url', server.url);
  const said = expectWayOn(full, 'full', 'The run is kept up to step 2');
  expect(said).toContain(
    'create_model: expected a result, got a failure of the operation (Maximum number of LoRA',
  );
  const resumed = await resume('full', '--url', server.url);
  expect(resumed.code, resumed.stderr).toBe(0);
  expectWhole('full');
}, 120_000);
