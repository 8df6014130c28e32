/** A run that trains an adapter: the weights below stay, it resumes to the same bytes, and it is exported both ways. */
import { existsSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { hasStepped, interruptWhen, makeModel, makeWorkplace } from './r3.ts';

const TRAIN = [
  'train',
  '--task',
  'countdown',
  '--prompts',
  'short',
  '--model',
  'model',
  '--problems',
  'problems.jsonl',
  '--samples',
  '4',
  '--max-attempt-tokens',
  '8',
  '--max-reflection-tokens',
  '12',
  '--failures-per-step',
  '4',
  '--num-generations',
  '4',
  '--learning-rate',
  '1e-2',
  '--checkpoint-every',
  '4',
  '--lora',
  '4',
  '--lora-alpha',
  '8',
  '--dtype',
  'int8',
];
const ADAPTER = 'model/adapter_model.safetensors';

const workplace = makeWorkplace();
const { r3, folder } = workplace;
const read = (path: string): Buffer => readFileSync(join(folder, path));
async function done(args: string[]): Promise<string> {
  const { code, stdout, stderr } = await r3(args);
  expect(code, stderr).toBe(0);
  return stdout;
}
const greedy = (model: string): Promise<string> =>
  done(['generate', model, '--tokens', 'prompts.jsonl', '--max-tokens', '12', '--json']);

beforeAll(async () => {
  await makeModel(workplace);
  writeFileSync(join(folder, 'prompts.jsonl'), '{"tokens": [3, 4, 5, 6]}\n{"tokens": [9, 8, 7]}\n');
  await done([...TRAIN, '--steps', '12', '--run', 'whole']);
});
afterAll(() => workplace.remove());

test('the run leaves an adapter that commands take where they take a model', async () => {
  expect(readdirSync(join(folder, 'whole/model'))).not.toContain('model.safetensors');
  expect(read(ADAPTER.replace('model/', 'whole/model/')).length).toBeGreaterThan(0);
  expect(await greedy('whole/model')).not.toBe(await greedy('model'));
});

test('a run that is stopped and resumed has the same adapter, to the byte', async () => {
  const stopped = await r3([...TRAIN, '--steps', '12', '--run', 'stopped'], {
    env: { CI: '1' },
    during: (child) => interruptWhen(child, () => hasStepped(join(folder, 'stopped'))),
  });
  expect(stopped.code, stopped.stderr).toBe(130);
  await done(['train', '--resume', 'stopped']);
  expect(read(`stopped/${ADAPTER}`).equals(read(`whole/${ADAPTER}`))).toBe(true);
});

test('merged or as an adapter, an export gives the same greedy tokens, and says so', async () => {
  const out = await done(['export', 'whole', '--merge', '--save-as', 'F32', '--out', 'merged', '--json']);
  expect(JSON.parse(out)).toMatchObject({ kind: 'merged', dtype: 'F32' });
  const { tokens, sameTokens } = JSON.parse(out) as { tokens: number; sameTokens: number };
  expect(sameTokens).toBe(tokens);
  expect(await tokensOf('merged')).toEqual(await tokensOf('whole/model'));
  await done(['export', 'whole', '--adapter']);
  expect(await greedy('whole-adapter')).toBe(await greedy('whole/model'));
});

async function tokensOf(model: string): Promise<unknown[]> {
  const lines = (await greedy(model)).trimEnd().split('\n');
  return lines.map((line) => (JSON.parse(line) as { tokens: unknown }).tokens);
}

test('an export that cannot be is refused, and leaves nothing', async () => {
  for (const [args, message] of [
    [['export', 'whole', '--out', 'x'], 'expected either --merge or --adapter'],
    [['export', 'model', '--merge', '--out', 'x'], '--merge: expected an adapter, got a model'],
    [['export', 'whole', '--merge', '--out', 'model'], '--out: expected a path that does not exist'],
    [['export', 'nowhere', '--out', 'x'], 'nowhere: expected a model folder'],
  ] as const) {
    const { code, stderr } = await r3([...args]);
    expect(code).not.toBe(0);
    expect(stderr).toContain(message);
    expect(existsSync(join(folder, 'x'))).toBe(false);
  }
});

test("PEFT's own folder, without a config of the model, is taken where token ids are enough", async () => {
  const { target_modules: targets } = JSON.parse(read('whole/model/adapter_config.json').toString()) as {
    target_modules: string[];
  };
  expect(targets).toContain('q_proj');
  await done(['export', 'whole', '--adapter', '--out', 'bare']);
  for (const name of readdirSync(join(folder, 'bare'))) {
    if (!name.startsWith('adapter_')) rmSync(join(folder, 'bare', name));
  }
  expect(await tokensOf('bare')).toEqual(await tokensOf('whole/model'));
});
