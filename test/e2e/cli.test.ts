/** The command as a process: streams, exit codes, and what it says of bad input. */
import { copyFileSync, mkdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { z } from 'zod';
import { fixture, makeWorkplace } from './r3.ts';

const workplace = makeWorkplace();
const { r3, folder, write } = workplace;
afterAll(() => workplace.remove());

const MODEL = fixture('llama/tiny-tied');
const sequences = [[4, 43, 19, 40, 10, 54], [4, 43, 19, 40, 7], [9]];
const tokens = write(
  'tokens.jsonl',
  sequences.map((ids) => ({ tokens: ids })),
);

function lines<T>(schema: z.ZodType<T>, text: string): T[] {
  return text
    .trimEnd()
    .split('\n')
    .map((line) => schema.parse(JSON.parse(line)));
}

/** A copy of the fixture model that a test may break. */
function copyModel(name: string, ...files: string[]): string {
  mkdirSync(join(folder, name));
  for (const file of files) copyFileSync(join(MODEL, file), join(folder, name, file));
  return name;
}

test('help and version go to stdout, with exit code 0', async () => {
  const help = await r3(['--help']);
  expect({ code: help.code, stderr: help.stderr }).toEqual({ code: 0, stderr: '' });
  expect(help.stdout).toContain('Usage: r3');
  expect((await r3(['--version'])).stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
});

test('a mistake in the command line ends with exit code 2', async () => {
  expect(await r3(['score', MODEL, '--tokens', tokens, '--jsom'])).toEqual({
    code: 2,
    stdout: '',
    stderr: "r3: unknown option '--jsom' (Did you mean --json?)\n",
  });
});

test('answers are checked without a model', async () => {
  const answers = write('answers.jsonl', [{ nums: [1, 2], target: 3, completion: '<answer>1 + 2</answer>' }]);
  const { code, stdout } = await r3(['check', 'countdown', '--answers', answers, '--json']);
  expect({ code, stdout }).toEqual({ code: 0, stdout: '{"ok":true,"class":null,"why":null}\n' });
});

const scoreRow = z.strictObject({
  logprobs: z.array(z.number().nullable()),
  loss: z.number().nullable().optional(),
  gradientNorms: z.record(z.string(), z.number()).nullable().optional(),
});
const generated = z.strictObject({
  tokens: z.array(z.int()),
  logprobs: z.array(z.number()),
  text: z.string().nullable(),
  stopReason: z.enum(['stop', 'length']),
});

describe('score', () => {
  test('gives each line the log-probabilities of its tokens, the first of which has none', async () => {
    const { code, stdout, stderr } = await r3(['score', MODEL, '--tokens', tokens, '--json']);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    const rows = lines(scoreRow, stdout);
    expect(rows.map(({ logprobs }) => logprobs.length)).toEqual([6, 5, 1]);
    for (const { logprobs } of rows) {
      expect(logprobs[0]).toBeNull();
      for (const value of logprobs.slice(1)) expect(value).toBeLessThan(0);
    }
    expect(rows[0]?.logprobs.slice(0, 4)).toEqual(rows[1]?.logprobs.slice(0, 4));
  });

  test('gives each line its own loss and gradients, whatever stood before it', async () => {
    const alone = write('alone.jsonl', [{ tokens: sequences[1] }]);
    const [all, one] = await Promise.all(
      [tokens, alone].map((file) => r3(['score', MODEL, '--tokens', file, '--gradients', '--json'])),
    );
    const rows = lines(scoreRow, all?.stdout ?? '');
    expect(rows[1]).toEqual(lines(scoreRow, one?.stdout ?? '')[0]);
    expect(rows[2]).toEqual({ logprobs: [null], loss: null, gradientNorms: null });
    const values = (rows[0]?.logprobs ?? []).filter((value) => value !== null);
    expect(rows[0]?.loss).toBeCloseTo(-values.reduce((a, b) => a + b, 0) / values.length, 6);
    expect(Object.keys(rows[0]?.gradientNorms ?? {})).toContain('model.layers.0.self_attn.q_proj.weight');
  });

  test('agrees with itself in every kernel build', async () => {
    const [wasm, reference] = await Promise.all(
      ['wasm', 'reference'].map((build) =>
        r3(['score', MODEL, '--tokens', tokens, '--json'], { env: { R3_KERNELS: build } }),
      ),
    );
    const [a, b] = [wasm, reference].map((outcome) =>
      lines(scoreRow, outcome?.stdout ?? '').flatMap(({ logprobs }) => logprobs.map((value) => value ?? 0)),
    );
    expect(a).toHaveLength(12);
    a?.forEach((value, i) => expect(value).toBeCloseTo(b?.[i] ?? Number.NaN, 4));
  });
});

describe('generate', () => {
  test('gives one line for each prompt, the same whatever runs beside it', async () => {
    const args = ['--max-tokens', '8', '--temperature', '1', '--seed', '5', '--json'];
    const alone = write('first.jsonl', [{ tokens: sequences[0] }]);
    const all = lines(generated, (await r3(['generate', MODEL, '--tokens', tokens, ...args])).stdout);
    const one = lines(generated, (await r3(['generate', MODEL, '--tokens', alone, ...args])).stdout);
    expect(all).toHaveLength(3);
    expect(all[0]).toEqual(one[0]);
    for (const row of all) {
      expect(row.logprobs).toHaveLength(row.tokens.length);
      expect(row.stopReason === 'length' ? row.tokens.length : 8).toBe(8);
    }
  });

  test('reports the log-probabilities that score gives the same tokens', async () => {
    const args = ['--tokens', write('p.jsonl', [{ tokens: sequences[0] }]), '--max-tokens', '6', '--json'];
    const [row] = lines(generated, (await r3(['generate', MODEL, ...args])).stdout);
    const whole = write('whole.jsonl', [{ tokens: [...(sequences[0] ?? []), ...(row?.tokens ?? [])] }]);
    const [scored] = lines(scoreRow, (await r3(['score', MODEL, '--tokens', whole, '--json'])).stdout);
    expect(scored?.logprobs.slice(6)).toEqual(row?.logprobs);
  });

  test('shows token ids as text where there is a tokenizer, with or without a tokenizer.json', async () => {
    const model = copyModel('old-files', 'config.json', 'model.safetensors');
    const ids = (name: string): string[] => [
      'generate',
      name,
      '--tokens',
      tokens,
      '--max-tokens',
      '4',
      '--json',
    ];
    const before = lines(generated, (await r3(ids(model))).stdout);
    const vocabulary = Object.fromEntries(
      Array.from({ length: 61 }, (_, id) => [String.fromCharCode(33 + id), id]),
    );
    write(`${model}/vocab.json`, [vocabulary]);
    write(`${model}/merges.txt`, ['#version: 0.2']);
    write(`${model}/tokenizer_config.json`, [{ tokenizer_class: 'GPT2Tokenizer' }]);
    const after = lines(generated, (await r3(ids(model))).stdout);
    const textOf = (row: number[]): string => String.fromCharCode(...row.map((id) => 33 + id));
    expect(before.map(({ text }) => text)).toEqual([null, null, null]);
    expect(after).toEqual(before.map((row) => ({ ...row, text: textOf(row.tokens) })));
  });
});

const score = (model: string, file = tokens): string[] => ['score', model, '--tokens', file, '--json'];

async function refused(args: readonly string[], message: string | RegExp): Promise<void> {
  const { code, stdout, stderr } = await r3(args);
  expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
  expect(stderr).toMatch(message);
  expect(stderr.trimEnd().split('\n')).toHaveLength(1);
}

describe('bad input is one line on stderr and exit code 1:', () => {
  test('weights that were cut off', async () => {
    const model = copyModel('cut', 'config.json', 'model.safetensors');
    const path = join(folder, model, 'model.safetensors');
    truncateSync(path, Math.floor(readFileSync(path).length / 2));
    await refused(score(model), /^r3: .*model\.safetensors: expected \d+ bytes of data, got \d+ \(truncated/);
  });

  test('a model folder without weights', async () => {
    await refused(
      score(copyModel('bare', 'config.json')),
      /^r3: bare\/model\.safetensors: expected the weights/,
    );
  });

  test('a model of another architecture', async () => {
    mkdirSync(join(folder, 'other'));
    writeFileSync(join(folder, 'other/config.json'), '{"model_type": "gpt2"}');
    await refused(score('other'), /^r3: other\/config\.json: .*model_type.*got "gpt2"/);
  });

  test('a row that is not JSON', async () => {
    await refused(
      score(MODEL, write('torn.jsonl', [{ tokens: [1] }, '{"tokens": [1,'])),
      'r3: torn.jsonl line 2: expected a JSON object, got',
    );
  });

  test('a row without token ids', async () => {
    await refused(score(MODEL, write('text.jsonl', [{ tokens: 'hi' }])), 'r3: text.jsonl line 1: tokens: ');
  });

  test('a token id outside the vocabulary', async () => {
    await refused(
      score(MODEL, write('ids.jsonl', [{ tokens: [1, 61] }])),
      'ids.jsonl line 1: tokens: expected ids from 0 to 60, got 61',
    );
  });

  test('a prompt for a model without a tokenizer', async () => {
    await refused(['generate', MODEL, '--prompt', 'hi', '--json'], 'expected a tokenizer.json');
  });
});
