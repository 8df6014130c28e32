/** A run on a service whose client is killed and whose server is restarted: resumed to the same end as one that nothing disturbs. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { openEngineBackend } from '../tinker/engine-backend.ts';
import { startTinkerServer, type TinkerServer } from '../tinker/server.ts';
import { makeWorkplace } from './r3.ts';

const START = fileURLToPath(new URL('../../models/start', import.meta.url));
const { r3, folder, write, remove } = makeWorkplace();
const SERVICE = ['--engine', 'tinker', '--model', 'models/tiny', '--tokenizer', START, '--lora', '4'];
const TASK = ['--task', 'countdown', '--prompts', 'short', '--problems', 'problems.jsonl', '--samples', '2'];
const TURNS = ['--max-attempt-tokens', '16', '--max-reflection-tokens', '24', '--context', '256'];
const GROUPS = ['--failures-per-step', '2', '--num-generations', '2'];
const STEPS_OF_RUN = ['--steps', '4', '--checkpoint-every', '2'];
const TRAIN = ['train', ...SERVICE, ...TASK, ...TURNS, ...GROUPS, ...STEPS_OF_RUN];

let server: TinkerServer;
let env: Record<string, string>;
/** Told of each optimizer step that is asked for. */
let onStep: (() => void) | undefined;
beforeAll(async () => {
  const rows = Array.from({ length: 6 }, (_, i) => ({ nums: [3 + i, 7, 1 + i], target: 11 + 2 * i }));
  write('problems.jsonl', rows);
  const backend = await openEngineBackend({ model: START });
  const faultScript = (endpoint: string): undefined => {
    if (endpoint === 'optim_step') onStep?.();
  };
  server = await startTinkerServer({ backend, pollWindowMs: 20, faultScript });
  env = { TINKER_BASE_URL: server.url };
});
afterAll(async () => {
  await server.close();
  remove();
});

test('a client that is killed and a service that is restarted leave a run that ends as if neither had been', async () => {
  const whole = await r3([...TRAIN, '--run', 'whole'], { env });
  expect(whole.code, whole.stderr).toBe(0);
  // When the service has been asked for the third of the four steps; those before the first are measurements.
  let left = (server.counts.get('optim_step') ?? 0) - 1;
  const killed = await r3([...TRAIN, '--run', 'killed'], {
    env,
    during: (child) => {
      onStep = () => {
        if (--left === 0) child.kill('SIGKILL');
      };
    },
  });
  onStep = undefined;
  expect(killed.code).toBe(null);
  await server.restart('checkpoints');
  // The service has moved, as far as the run can know.
  const config = join(folder, 'killed', 'config.json');
  writeFileSync(config, readFileSync(config, 'utf8').replaceAll(server.url, 'http://127.0.0.1:1'));
  const resumed = await r3(['train', '--resume', 'killed', '--url', server.url]);
  expect(resumed.code, resumed.stderr).toBe(0);
  for (const name of [
    'metrics.jsonl',
    'episodes.jsonl',
    'failures.jsonl',
    'model/adapter_model.safetensors',
  ]) {
    const [one, other] = ['killed', 'whole'].map((run) => readFileSync(join(folder, run, name), 'latin1'));
    expect(one === other, name).toBe(true);
  }
}, 120_000);
